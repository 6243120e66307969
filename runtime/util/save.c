// save.c - files and folders that appear whole or not at all: a temporary name, sync, rename.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "util/save_impl.h"

enum { STALE_SECONDS = 60 };  // a folder may be younger than its maker's lock on it

static const char checksums_name[] = "checksums.xxh128";
const char cft_temporary_mark[] = ".cft-tmp-";

void cft_random_suffix(char suffix[7]) {
  static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  uint64_t bits;
  if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
    bits = (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();  // the name is tried, not trusted
  for (int i = 0; i < 6; ++i, bits /= 36) suffix[i] = digits[bits % 36];
  suffix[6] = '\0';
}

// ---- a folder on its way -------------------------------------------------------------------

// A name that cft_save_new made: anything, the mark, six characters.
static bool is_temporary(const char *name) {
  size_t n = strlen(name), tail = sizeof cft_temporary_mark - 1 + 6;
  return n > tail && strncmp(name + n - tail, cft_temporary_mark, sizeof cft_temporary_mark - 1) == 0;
}

// Remove what killed saves left beside `path`. Their lock went with them; a folder without a lock
// that is young may be one whose maker has yet to take it: by the clock of the file system, as that of
// this machine may jump, or be another. Best effort: a failure leaves litter.
static void sweep(const char *path, const struct stat *fresh) {
  char *folder = cft_folder_of(path);
  cft_names *names = NULL;
  if (!folder || cft_folder_list(&names, folder) != CFT_OK) {
    free(folder);
    return;
  }
  for (int64_t i = 0; i < names->count; ++i) {
    char *stale =
        is_temporary(names->items[i]) ? cft_format("%s/%s", folder, names->items[i]) : NULL;
    int fd = stale ? open(stale, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    struct stat info;
    if (fd >= 0 && fstat(fd, &info) == 0 && fresh->st_mtime - info.st_mtime >= STALE_SECONDS &&
        cft_sys.flock(fd, LOCK_EX | LOCK_NB) == 0)
      (void)cft_path_remove(stale);
    if (fd >= 0) close(fd);
    free(stale);
  }
  cft_names_release(names);
  free(folder);
}

cft_status cft_save_new(cft_save **out, const char *path) {
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') --length;
  if (length == 0) return cft_fail(CFT_E_ARG, "save: the path is empty");

  cft_status st = CFT_OK;
  cft_save *save = calloc(1, sizeof *save);
  if (save) save->path = cft_format("%.*s", (int)length, path);
  if (!save || !save->path) CFT_GO(cft_fail(CFT_E_OOM, "save %s: out of memory", path));
  save->lock = -1;

  cft_path_kind kind = cft_path_look(save->path, NULL);
  if (kind != CFT_PATH_NONE && kind != CFT_PATH_FOLDER)
    CFT_GO(cft_fail(CFT_E_IO, "save %s: there is a file of that name", save->path));
  CFT_GO(cft_folder_make_above(save->path));

  int made;
  do {
    char suffix[7];
    cft_random_suffix(suffix);
    free(save->temporary);
    save->temporary = cft_format("%s%s%s", save->path, cft_temporary_mark, suffix);
    if (!save->temporary) CFT_GO(cft_fail(CFT_E_OOM, "save %s: out of memory", path));
    made = mkdir(save->temporary, 0777);
  } while (made != 0 && errno == EEXIST);
  if (made != 0) {
    st = cft_file_fail("make folder", save->temporary);
    free(save->temporary);  // so that release removes nothing
    save->temporary = NULL;
    goto out;
  }
  save->lock = open(save->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (save->lock < 0) CFT_GO(cft_file_fail("open", save->temporary));
  // A file system without locks is not swept either.
  (void)cft_sys.flock(save->lock, LOCK_EX | LOCK_NB);
  struct stat fresh;
  if (fstat(save->lock, &fresh) == 0) sweep(save->path, &fresh);
  *out = save;
  save = NULL;
out:
  cft_save_release(save);
  return st;
}

const char *cft_save_path(const cft_save *save) { return save->path; }

const char *cft_save_folder(const cft_save *save) { return save->temporary; }

void cft_save_release(cft_save *save) {
  if (!save) return;
  if (save->temporary) (void)cft_path_remove(save->temporary);
  if (save->lock >= 0) close(save->lock);
  for (int64_t i = 0; i < save->count; ++i) free(save->written[i].name);
  for (int64_t i = 0; i < save->noted_count; ++i) cft_noted_free(save->noted[i]);
  free(save->noted);
  free(save->written);
  free(save->temporary);
  free(save->path);
  free(save);
}

static struct written *save_find(const cft_save *save, const char *name) {
  for (int64_t i = 0; i < save->count; ++i)
    if (strcmp(save->written[i].name, name) == 0) return &save->written[i];
  return NULL;
}

cft_status cft_save_note(cft_save *save, const char *name, XXH128_hash_t hash) {
  struct written *entry = save_find(save, name);
  if (!entry) {
    if (save->count == save->room) {
      int64_t room = save->room ? 2 * save->room : 16;
      struct written *more = realloc(save->written, (size_t)room * sizeof *more);
      if (!more) return cft_fail(CFT_E_OOM, "save %s: out of memory", save->path);
      save->written = more;
      save->room = room;
    }
    entry = &save->written[save->count];
    entry->name = cft_format("%s", name);
    if (!entry->name) return cft_fail(CFT_E_OOM, "save %s: out of memory", save->path);
    ++save->count;
  }
  cft_hash_hex(entry->hex, hash);
  return CFT_OK;
}

// Collect the names of all files below `folder`, relative to the save's, and sync each subfolder.
static cft_status collect(const cft_save *save, const char *below, cft_names *files) {
  cft_status st = CFT_OK;
  cft_names *names = NULL;
  char *name = NULL, *path = NULL;
  char *folder = cft_format("%s%s%s", save->temporary, *below ? "/" : "", below);
  if (!folder) CFT_GO(cft_fail(CFT_E_OOM, "save %s: out of memory", save->path));
  CFT_GO(cft_folder_list(&names, folder));
  for (int64_t i = 0; i < names->count; ++i) {
    free(name);
    free(path);
    name = cft_format("%s%s%s", below, *below ? "/" : "", names->items[i]);
    path = cft_format("%s/%s", folder, names->items[i]);
    if (!name || !path) CFT_GO(cft_fail(CFT_E_OOM, "save %s: out of memory", save->path));
    switch (cft_path_look(path, NULL)) {
      case CFT_PATH_FOLDER: CFT_GO(collect(save, name, files)); break;
      case CFT_PATH_FILE:
        if (strchr(name, '\n'))
          CFT_GO(cft_fail(CFT_E_ARG, "save %s: a file's name has a line break", save->path));
        if (strcmp(name, checksums_name) != 0) CFT_GO(cft_names_add(files, name));
        break;
      default: CFT_GO(cft_fail(CFT_E_IO, "save %s: is neither file nor folder", path));
    }
  }
  CFT_GO(cft_folder_sync(folder));
out:
  cft_names_release(names);
  free(folder);
  free(name);
  free(path);
  return st;
}

// The checksum of a file that some other process wrote; what was read is then also on the disk.
static cft_status hash_and_sync(char hex[33], const char *path) {
  int fd;
  XXH128_hash_t hash;
  CFT_TRY(cft_file_open(&fd, path, NULL));
  cft_status st = cft_hash_fd(&hash, fd, path);
  if (st == CFT_OK) st = cft_file_sync(fd, path);
  close(fd);
  if (st == CFT_OK) cft_hash_hex(hex, hash);
  return st;
}

// The list as xxh128sum writes it, and a last line with the list's own hash: a list that was cut
// short while somebody copied it does not pass for a whole one.
static cft_status write_checksums(cft_save *save) {
  cft_status st = CFT_OK;
  cft_names files = {0};
  char *text = NULL, *path = NULL;
  CFT_GO(collect(save, "", &files));
  cft_names_sort(&files);

  size_t room = 128, bytes = 0;  // for the last line
  for (int64_t i = 0; i < files.count; ++i) room += 32 + 2 + strlen(files.items[i]) + 1;
  text = malloc(room);
  if (!text) CFT_GO(cft_fail(CFT_E_OOM, "save %s: out of memory", save->path));
  char hex[33];
  for (int64_t i = 0; i < files.count; ++i) {
    const struct written *known = save_find(save, files.items[i]);
    if (!known) {
      free(path);
      path = cft_format("%s/%s", save->temporary, files.items[i]);
      if (!path) CFT_GO(cft_fail(CFT_E_OOM, "save %s: out of memory", save->path));
      CFT_GO(hash_and_sync(hex, path));
    }
    bytes += (size_t)snprintf(text + bytes, room - bytes, "%s  %s\n", known ? known->hex : hex,
                              files.items[i]);
  }
  cft_hash(hex, text, bytes);
  bytes +=
      (size_t)snprintf(text + bytes, room - bytes,
                       "# complete: %" PRId64 " files, and these lines: %s\n", files.count, hex);
  CFT_GO(cft_file_write(save, checksums_name, text, bytes));
out:
  for (int64_t i = 0; i < files.count; ++i) free(files.items[i]);
  free(files.items);
  free(text);
  free(path);
  return st;
}

// Exchange the names of two folders. On failure both have their own.
static cft_status exchange(const char *a, const char *b) {
  if (cft_sys.exchange(a, b) == 0) return CFT_OK;
  if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) return cft_file_fail("rename to", b);

  // No exchange on this file system: between two renames there is nothing at `b`, but both folders
  // are whole. The name aside is not one that is swept.
  cft_status st = CFT_OK;
  char *aside = cft_format("%s.replaced", b);
  if (!aside) return cft_fail(CFT_E_OOM, "rename to %s: out of memory", b);
  if (cft_sys.rename(b, aside) != 0) CFT_GO(cft_file_fail("rename aside", b));
  if (cft_sys.rename(a, b) != 0) {
    st = cft_file_fail("rename to", b);
  } else if (cft_sys.rename(aside, a) != 0) {
    st = cft_file_fail("rename", aside);
    if (cft_sys.rename(b, a) != 0) st = cft_context(st, "the new folder is %s", b);
  }
  if (st != CFT_OK && cft_sys.rename(aside, b) != 0)
    st = cft_context(st, "the old folder is now %s", aside);
out:
  free(aside);
  return st;
}

// Put the finished folder in its place; what was there is then at `temporary`. Nothing is removed
// before the names are on the disk: until then a power cut may bring back either folder.
static cft_status put_in_place(const cft_save *save) {
  if (cft_sys.rename(save->temporary, save->path) != 0) {
    // sshfs says EPERM of whatever its server refuses.
    int reason = errno;
    bool taken = reason == ENOTEMPTY || reason == EEXIST ||
                 (reason == EPERM && cft_path_look(save->path, NULL) == CFT_PATH_FOLDER);
    errno = reason;
    if (!taken) return cft_file_fail("rename to", save->path);
    CFT_TRY(exchange(save->temporary, save->path));
  }
  cft_status st = cft_folder_sync_of(save->path);
  if (st == CFT_OK) return CFT_OK;
  bool replaced = cft_path_look(save->temporary, NULL) == CFT_PATH_FOLDER;
  bool back = replaced ? exchange(save->temporary, save->path) == CFT_OK
                       : cft_sys.rename(save->path, save->temporary) == 0;
  return back ? st : cft_context(st, "save %s: the new folder stays", save->path);
}

cft_status cft_save_commit(cft_save *save) {
  if (!save->temporary) return cft_fail(CFT_E_STATE, "save %s: is done already", save->path);
  CFT_TRY(cft_save_write_noted(save));
  save->deferred = false;  // the list of checksums is written as it is made
  CFT_TRY(write_checksums(save));
  CFT_TRY(cft_folder_sync(save->temporary));
  CFT_TRY(put_in_place(save));
  (void)cft_path_remove(save->temporary);  // the old folder, where there was one
  free(save->temporary);
  save->temporary = NULL;
  return CFT_OK;
}

// ---- verifying -----------------------------------------------------------------------------

// Take a line apart, `HEX  NAME`: false if it is not one, or names what lies outside of the folder.
static bool checksum_line(char *line, const char **hex, const char **name) {
  if (strspn(line, "0123456789abcdef") != 32 || strncmp(line + 32, "  ", 2) != 0) return false;
  line[32] = '\0';
  *hex = line;
  *name = line + 34;
  return cft_stays_below(*name);
}

// Every line of `text` (NUL at its end) against the files of the folder, as `hash` has them.
static cft_status verify_lines(const char *folder, char *text, size_t bytes,
                               cft_status (*hash)(char *, const char *)) {
  char *last = text;  // the line with the list's own hash
  for (char *p = text; (p = strchr(p, '\n')) && p[1]; ++p) last = p + 1;
  char own[33], *end = NULL;
  cft_hash(own, text, (size_t)(last - text));
  long long wanted = strncmp(last, "# complete: ", 12) == 0 ? strtoll(last + 12, &end, 10) : -1;
  char tail[64];
  snprintf(tail, sizeof tail, " files, and these lines: %s\n", own);
  if (strlen(text) != bytes || wanted < 0 || strcmp(end, tail) != 0)
    return cft_fail(CFT_E_FORMAT, "%s/%s: is damaged or cut short", folder, checksums_name);

  long long count = 0;
  for (char *line = text; line < last; ++count) {
    char *stop = strchr(line, '\n');
    *stop = '\0';
    const char *hex, *name;
    if (!checksum_line(line, &hex, &name))
      return cft_fail(CFT_E_FORMAT, "%s/%s, line %lld: is no checksum and name", folder,
                      checksums_name, count + 1);
    char *path = cft_format("%s/%s", folder, name), now[33];
    if (!path) return cft_fail(CFT_E_OOM, "verify %s: out of memory", folder);
    cft_status st = hash(now, path);
    if (st == CFT_OK && strcmp(hex, now) != 0)
      st = cft_fail(CFT_E_FORMAT, "%s: is not what was written: xxh128 %s, expected %s", path, now,
                    hex);
    free(path);
    CFT_TRY(st);
    line = stop + 1;
  }
  if (count != wanted)
    return cft_fail(CFT_E_FORMAT, "%s/%s: lists %lld files, expected %lld", folder, checksums_name,
                    count, wanted);
  return CFT_OK;
}

static cft_status verify(const char *folder, cft_status (*hash)(char *, const char *)) {
  cft_status st = CFT_OK;
  cft_mapping map = {0};
  char *text = NULL, *path = cft_format("%s/%s", folder, checksums_name);
  if (!path) return cft_fail(CFT_E_OOM, "verify %s: out of memory", folder);
  if (cft_path_look(path, NULL) == CFT_PATH_NONE)
    CFT_GO(
        cft_fail(CFT_E_IO, "%s: no complete checkpoint: there is no %s", folder, checksums_name));
  CFT_GO(cft_file_map(&map, path));
  text = malloc(map.bytes + 1);
  if (!text) CFT_GO(cft_fail(CFT_E_OOM, "verify %s: out of memory", folder));
  if (map.bytes) memcpy(text, map.data, map.bytes);
  text[map.bytes] = '\0';
  CFT_GO(verify_lines(folder, text, map.bytes, hash));
out:
  free(text);
  free(path);
  cft_file_unmap(&map);
  return st;
}

cft_status cft_save_verify(const char *folder) { return verify(folder, cft_hash_file); }

cft_status cft_save_verify_on_disk(const char *folder) {
  return verify(folder, cft_hash_file_on_disk);
}
