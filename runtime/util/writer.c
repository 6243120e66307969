// writer.c - one file on its way: a temporary name, sync, rename; or, in a save that is deferred, notes of what is
// to be written.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/save_impl.h"

enum {
  SMALL_BUFFER = 256 << 10,
  LARGE_BUFFER = 4 << 20,   // of files that are known to be larger than that
  HASHED_BYTES = 256 << 10  // what is put is copied and hashed in pieces that stay in cache
};

struct cft_writer {
  char *path, *temporary;
  const char *name;  // in the save's folder: the end of `path`
  cft_save *save;
  int fd;
  cft_status failed;
  uint64_t written;  // on its way to the disk: without what is in the buffer
  bool direct;       // past the page cache: a fresh page costs more than to hash what it holds
  size_t used, room;
  char *buffer;  // `room` bytes, `used` of them hashed and not written yet
  XXH3_state_t *hash;
  cft_noted *noted;  // of a deferred save: nothing else above is used but path and name
};

bool cft_stays_below(const char *path) {
  if (*path == '/' || *path == '\0') return false;
  for (const char *p = path;;) {
    size_t n = strcspn(p, "/");
    if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
    if (p[n] == '\0') return true;
    p += n + 1;
  }
}

cft_status cft_writer_new(cft_writer **out, cft_save *save, const char *path) {
  if (save && !save->temporary) return cft_fail(CFT_E_STATE, "write %s: the save is done", path);
  if (save && !cft_stays_below(path))
    return cft_fail(CFT_E_ARG, "write %s: the path must lie in the save's folder", path);
  if (*path == '\0' || path[strlen(path) - 1] == '/')
    return cft_fail(CFT_E_ARG, "write '%s': this names no file", path);

  cft_status st = CFT_OK;
  cft_writer *w = calloc(1, sizeof *w);
  if (!w) CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
  w->fd = -1;
  w->save = save;
  w->path = save ? cft_format("%s/%s", save->temporary, path) : cft_format("%s", path);
  w->hash = XXH3_createState();
  w->room = SMALL_BUFFER;
  w->buffer = malloc(w->room);
  if (!w->path || !w->hash || !w->buffer)
    CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
  w->name = w->path + strlen(w->path) - strlen(path);
  XXH3_128bits_reset(w->hash);
  if (save && save->deferred) {
    w->noted = cft_noted_new(path);
    if (!w->noted) CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
    *out = w;
    return CFT_OK;
  }
  cft_path_kind there = cft_path_look(w->path, NULL);
  if (there == CFT_PATH_FOLDER) CFT_GO(cft_fail(CFT_E_IO, "write %s: is a folder", w->path));
  if (there == CFT_PATH_OTHER)  // the new file would take the place of a device or a pipe
    CFT_GO(cft_fail(CFT_E_IO, "write %s: is no regular file, and stays", w->path));
  CFT_GO(cft_folder_make_above(w->path));

  const char *slash = strrchr(w->path, '/'), *last = slash ? slash + 1 : w->path;
  do {
    char suffix[7];
    cft_random_suffix(suffix);
    free(w->temporary);
    w->temporary =
        cft_format("%.*s.%s%s%s", (int)(last - w->path), w->path, last, cft_temporary_mark, suffix);
    if (!w->temporary) CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
    w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (w->fd < 0 && errno == EEXIST);
  if (w->fd < 0) CFT_GO(cft_file_fail("write", w->path));
  *out = w;
  w = NULL;
out:
  cft_writer_release(w);
  return st;
}

void cft_writer_release(cft_writer *w) {
  if (!w) return;
  if (w->fd >= 0) {  // not committed
    close(w->fd);
    unlink(w->temporary);
  }
  cft_noted_free(w->noted);
  XXH3_freeState(w->hash);
  free(w->buffer);
  free(w->temporary);
  free(w->path);
  free(w);
}

// A large file goes past the page cache where the file system can do that, in blocks of a buffer
// that is aligned as all disks want it. Where memory for one is not to be had it goes the other
// way.
static void begin_direct(cft_writer *w, size_t bytes) {
  void *buffer = NULL;
  if (bytes < LARGE_BUFFER || w->written || w->used) return;
  if (posix_memalign(&buffer, CFT_DIRECT_ALIGNMENT, LARGE_BUFFER) != 0) return;
  free(w->buffer);
  w->buffer = buffer;
  w->room = LARGE_BUFFER;
  w->direct = cft_file_direct(w->fd, true);
}

cft_status cft_writer_reserve(cft_writer *w, size_t bytes) {
  if (w->noted) return CFT_OK;  // a deferred save asks for all of its files at once
  begin_direct(w, bytes);
  if (bytes == 0 || fallocate(w->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) == 0) return CFT_OK;
  if (errno != ENOSPC && errno != EFBIG && errno != EDQUOT) return CFT_OK;
  cft_file_failed(errno);
  return w->failed = cft_fail(CFT_E_IO, "write %s: no room for %zu bytes: %s", w->path, bytes,
                              strerror(errno));
}

static void end_direct(cft_writer *w) {
  if (w->direct) (void)cft_file_direct(w->fd, false);
  w->direct = false;
}

// What is in the buffer, written. A file system that took the wish to go past the page cache may
// still refuse a write that does; and who beside a running program has lent what is no longer there
// waits with it for room on the disk.
static cft_status flush(cft_writer *w) {
  for (;;) {
    w->failed = cft_file_write_all(w->fd, w->path, w->written, w->buffer, w->used);
    if (w->failed == CFT_OK) break;
    if (w->direct && cft_file_reason() == EINVAL)
      end_direct(w);
    else if (!w->save || !w->save->lender || !cft_file_is_full() ||
             !w->save->lender->wait_for_room(w->save->lender->context))
      return w->failed;
  }
  w->written += w->used;
  w->used = 0;
  return CFT_OK;
}

// A failed writer stays failed: what comes after a gap is no file.
static cft_status check_open(const cft_writer *w) {
  if (w->fd < 0 && !w->noted) return cft_fail(CFT_E_STATE, "write %s: is done already", w->path);
  if (w->failed) return cft_fail(w->failed, "write %s: an earlier write failed", w->path);
  return CFT_OK;
}

cft_status cft_writer_room(cft_writer *w, char **at, size_t *bytes) {
  CFT_TRY(check_open(w));
  if (w->used == w->room) CFT_TRY(flush(w));
  *at = w->buffer + w->used;
  *bytes = w->room - w->used < HASHED_BYTES ? w->room - w->used : HASHED_BYTES;
  return CFT_OK;
}

void cft_writer_filled(cft_writer *w, size_t bytes) {
  XXH3_128bits_update(w->hash, w->buffer + w->used, bytes);
  w->used += bytes;
}

bool cft_writer_is_direct(const cft_writer *w) { return w->direct && w->written > 0; }

cft_status cft_writer_put(cft_writer *w, const void *data, size_t bytes) {
  CFT_TRY(check_open(w));
  if (w->noted) return w->failed = cft_noted_put(w->noted, data, bytes, false);
  for (size_t done = 0, n; done < bytes; done += n) {
    char *at;
    CFT_TRY(cft_writer_room(w, &at, &n));
    if (n > bytes - done) n = bytes - done;
    memcpy(at, (const char *)data + done, n);
    cft_writer_filled(w, n);
  }
  return CFT_OK;
}

cft_status cft_writer_put_held(cft_writer *w, const void *data, size_t bytes) {
  CFT_TRY(check_open(w));
  return w->noted ? w->failed = cft_noted_put(w->noted, data, bytes, true)
                  : cft_writer_put(w, data, bytes);
}

// Sync and close a finished file, and rename it. On failure the old one stays and `from` is
// removed: after a sync that failed, what it holds may never reach the disk.
static cft_status settle(int fd, const char *from, const char *to) {
  cft_status st = cft_file_sync(fd, to);
  // EINTR is no failure: Linux has closed it all the same.
  if (cft_sys.close(fd) != 0 && errno != EINTR && st == CFT_OK) st = cft_file_fail("close", to);
  if (st == CFT_OK && cft_sys.rename(from, to) != 0) st = cft_file_fail("rename to", to);
  if (st != CFT_OK) (void)unlink(from);
  return st;
}

cft_status cft_writer_commit(cft_writer *w) {
  CFT_TRY(check_open(w));
  if (w->noted) {
    CFT_TRY(cft_noted_keep(w->save, w->noted));
    w->noted = NULL;
    return CFT_OK;
  }
  if (w->used % CFT_DIRECT_ALIGNMENT) end_direct(w);  // the end of a file fits no block
  CFT_TRY(flush(w));
  w->failed = settle(w->fd, w->temporary, w->path);
  w->fd = -1;
  CFT_TRY(w->failed);
  // A save syncs its folders once, when it is complete.
  return w->save ? cft_save_note(w->save, w->name, XXH3_128bits_digest(w->hash))
                 : cft_folder_sync_of(w->path);
}

cft_status cft_file_replace(const char *from, const char *to) {
  int fd;
  CFT_TRY(cft_file_open(&fd, from, NULL));
  CFT_TRY(settle(fd, from, to));
  return cft_folder_sync_of(to);
}

cft_status cft_file_write(cft_save *save, const char *path, const void *data, size_t bytes) {
  cft_writer *w = NULL;
  CFT_TRY(cft_writer_new(&w, save, path));
  cft_status st;
  CFT_GO(cft_writer_put(w, data, bytes));
  CFT_GO(cft_writer_commit(w));
out:
  cft_writer_release(w);
  return st;
}
