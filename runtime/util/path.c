// path.c - names on a disk: what is at a path, folders, links.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "util/file.h"

cft_path_kind cft_path_look(const char *path, int64_t *bytes) {
  struct stat info;
  if (bytes) *bytes = 0;
  if (stat(path, &info) != 0) return CFT_PATH_NONE;
  if (S_ISDIR(info.st_mode)) return CFT_PATH_FOLDER;
  if (!S_ISREG(info.st_mode)) return CFT_PATH_OTHER;
  if (bytes) *bytes = (int64_t)info.st_size;
  return CFT_PATH_FILE;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where) {
  (void)info;
  (void)where;
  return (kind == FTW_DP ? rmdir(path) : unlink(path)) != 0 && errno != ENOENT;
}

cft_status cft_path_remove(const char *path) {
  struct stat info;
  if (lstat(path, &info) != 0) return errno == ENOENT ? CFT_OK : cft_file_fail("remove", path);
  if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0) return cft_file_fail("remove", path);
  return CFT_OK;
}

cft_status cft_link_replace(const char *target, const char *path) {
  cft_status st = CFT_OK;
  // The process id is enough: a name left by one that is gone may be taken over.
  char *temporary = cft_format("%s.cft-tmp-%ld", path, (long)getpid());
  if (!temporary) return cft_fail(CFT_E_OOM, "link %s: out of memory", path);
  (void)unlink(temporary);
  if (symlink(target, temporary) != 0) CFT_GO(cft_file_fail("link", path));
  if (cft_sys.rename(temporary, path) != 0) {
    st = cft_file_fail("link", path);
    (void)unlink(temporary);
  }
out:
  free(temporary);
  return st;
}

// ---- folders -------------------------------------------------------------------------------

char *cft_folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return cft_format(".");
  return slash == path ? cft_format("/") : cft_format("%.*s", (int)(slash - path), path);
}

cft_status cft_folder_make(const char *path) {
  if (*path == '\0') return cft_fail(CFT_E_ARG, "make folder: the path is empty");
  char *part = cft_format("%s", path);
  if (!part) return cft_fail(CFT_E_OOM, "make folder %s: out of memory", path);
  cft_status st = CFT_OK;
  for (char *p = part; st == CFT_OK && *p;) {  // /a, /a/b, /a/b/c
    p += strspn(p, "/");
    p += strcspn(p, "/");
    char end = *p;
    *p = '\0';
    if (mkdir(part, 0777) != 0) {
      int reason = errno;  // of mkdir: looking has another one
      if (cft_path_look(part, NULL) != CFT_PATH_FOLDER) {
        errno = reason;
        st = cft_file_fail("make folder", part);
      }
    }
    *p = end;
  }
  free(part);
  return st;
}

cft_status cft_folder_make_above(const char *path) {
  char *folder = cft_folder_of(path);
  if (!folder) return cft_fail(CFT_E_OOM, "make folder for %s: out of memory", path);
  cft_status st = cft_folder_make(folder);
  free(folder);
  return st;
}

cft_status cft_folder_temporary(char *path, size_t room) {
  const char *folder = getenv("TMPDIR");
  if (!folder || !*folder) folder = "/tmp";
  int n = snprintf(path, room, "%s/cft-XXXXXX", folder);
  if (n < 0 || (size_t)n >= room) return cft_fail(CFT_E_ARG, "TMPDIR is too long: %s", folder);
  return mkdtemp(path) ? CFT_OK : cft_file_fail("make a temporary folder in", folder);
}

cft_status cft_folder_sync(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return cft_file_fail("open", path);
  cft_status st = cft_file_sync(fd, path);
  // Some network file systems do not sync folders and say so; their renames are durable by design.
  if (st != CFT_OK && (errno == EINVAL || errno == ENOTSUP)) st = CFT_OK;
  close(fd);
  return st;
}

cft_status cft_folder_sync_of(const char *path) {
  char *folder = cft_folder_of(path);
  if (!folder) return cft_fail(CFT_E_OOM, "sync the folder of %s: out of memory", path);
  cft_status st = cft_folder_sync(folder);
  free(folder);
  return st;
}

cft_status cft_folder_room(int64_t *bytes, const char *folder) {
  struct statvfs info;
  if (statvfs(folder, &info) != 0) return cft_file_fail("ask for the free space of", folder);
  uint64_t room = (uint64_t)info.f_bavail * (info.f_frsize ? info.f_frsize : info.f_bsize);
  *bytes = room > INT64_MAX ? INT64_MAX : (int64_t)room;
  return CFT_OK;
}

// ---- the names in a folder -----------------------------------------------------------------

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

void cft_names_sort(cft_names *names) {
  if (names->count) qsort(names->items, (size_t)names->count, sizeof *names->items, by_name);
}

cft_status cft_names_add(cft_names *names, const char *name) {
  if (names->count == names->room) {
    int64_t room = names->room ? 2 * names->room : 16;
    char **items = realloc(names->items, (size_t)room * sizeof *items);
    if (!items) return cft_fail(CFT_E_OOM, "list of names: out of memory");
    names->items = items;
    names->room = room;
  }
  char *copy = strdup(name);
  if (!copy) return cft_fail(CFT_E_OOM, "list of names: out of memory");
  names->items[names->count++] = copy;
  return CFT_OK;
}

cft_status cft_folder_list(cft_names **out, const char *path) {
  cft_names *names = calloc(1, sizeof *names);
  if (!names) return cft_fail(CFT_E_OOM, "list %s: out of memory", path);
  cft_status st = CFT_OK;
  DIR *folder = opendir(path);
  if (!folder) CFT_GO(cft_file_fail("list", path));
  for (errno = 0;; errno = 0) {
    struct dirent *entry = readdir(folder);
    if (!entry) break;
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      CFT_GO(cft_names_add(names, entry->d_name));
  }
  if (errno) CFT_GO(cft_file_fail("list", path));
  cft_names_sort(names);
  *out = names;
  names = NULL;
out:
  if (folder) closedir(folder);
  cft_names_release(names);
  return st;
}

int64_t cft_names_count(const cft_names *names) { return names->count; }

const char *cft_names_at(const cft_names *names, int64_t i) {
  return i >= 0 && i < names->count ? names->items[i] : NULL;
}

void cft_names_release(cft_names *names) {
  if (!names) return;
  for (int64_t i = 0; i < names->count; ++i) free(names->items[i]);
  free(names->items);
  free(names);
}
