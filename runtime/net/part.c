// part.c - a file while it is fetched. The checksum runs along, so a whole file is read only where
// an earlier try has left a part of it.
#include "net/part.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/digest.h"
#include "util/file.h"

enum {
  READ_BYTES = 8 << 20,  // between two looks at the network
  FLUSH_BYTES =
      32 << 20  // the disk starts on these while more come, so that the last sync is short
};

struct cft_part {
  char *path, *incomplete, *lock;
  int fd, lock_fd;
  int64_t at, wanted;      // bytes that are here; that there will be
  int64_t left, flushing;  // of an earlier try, to be read; given to the disk already
  cft_digest *digest;
  char digest_wanted[CFT_DIGEST_ROOM], digest_found[CFT_DIGEST_ROOM];
  char *buffer;  // while reading
};

static char *incomplete_of(const char *path) { return cft_format("%s.incomplete", path); }

cft_status cft_part_new(cft_part **out, const cft_download *what) {
  size_t digits = strlen(what->digest);
  bool hex = strspn(what->digest, "0123456789abcdef") == digits;
  if (!hex || (digits != 40 && digits != 64))
    return cft_fail(CFT_E_ARG, "download %s: %s is no digest", what->path, QUOTED(what->digest));
  if (what->bytes < 0)
    return cft_fail(CFT_E_ARG, "download %s: a size of %" PRId64, what->path, what->bytes);

  cft_status st = CFT_OK;
  cft_part *p = calloc(1, sizeof *p);
  if (!p) return cft_fail(CFT_E_OOM, "download %s: out of memory", what->path);
  p->fd = p->lock_fd = -1;
  p->wanted = what->bytes;
  p->path = cft_format("%s", what->path);
  p->incomplete = incomplete_of(what->path);
  p->lock = cft_format("%s", what->lock);
  memcpy(p->digest_wanted, what->digest, digits + 1);
  if (!p->path || !p->incomplete || !p->lock)
    CFT_GO(cft_fail(CFT_E_OOM, "download %s: out of memory", what->path));
  cft_digest_kind kind = digits == 64 ? CFT_DIGEST_SHA256 : CFT_DIGEST_GIT_SHA1;
  CFT_GO(cft_digest_new(&p->digest, kind, what->bytes));
  *out = p;
  p = NULL;
out:
  cft_part_release(p);
  return st;
}

void cft_part_close(cft_part *p) {
  if (p->fd >= 0) close(p->fd);
  p->fd = -1;
  cft_lock_release(&p->lock_fd);
}

void cft_part_release(cft_part *p) {
  if (!p) return;
  cft_part_close(p);
  cft_digest_release(p->digest);
  free(p->buffer);
  free(p->path);
  free(p->incomplete);
  free(p->lock);
  free(p);
}

int64_t cft_part_bytes(const cft_part *p) { return p->at; }
int64_t cft_part_wanted(const cft_part *p) { return p->wanted; }
const char *cft_part_digest(const cft_part *p) { return p->digest_wanted; }

static bool stands(const cft_part *p) {
  int64_t bytes;
  return cft_path_look(p->path, &bytes) == CFT_PATH_FILE && bytes == p->wanted;
}

cft_status cft_part_lock(cft_part *p, bool *locked, bool *whole) {
  *locked = *whole = false;
  cft_status st = cft_lock_take(&p->lock_fd, p->lock, false);
  // Without locks two processes write the same bytes to the same places, and the checksum has the
  // last word.
  if (st != CFT_E_UNSUPPORTED) {
    CFT_TRY(st);
    if (p->lock_fd < 0) return CFT_OK;
  }
  *locked = true;
  *whole = stands(p);  // another process may have brought it while this one waited
  if (*whole) {
    p->at = p->wanted;
    return CFT_OK;
  }
  p->fd = open(p->incomplete, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (p->fd < 0) return cft_file_fail("open", p->incomplete);
  struct stat info;
  if (fstat(p->fd, &info) != 0) return cft_file_fail("stat", p->incomplete);
  p->left = (int64_t)info.st_size;
  return p->left > p->wanted ? cft_part_restart(p) : CFT_OK;
}

cft_status cft_part_read(cft_part *p, bool *more) {
  *more = p->at < p->left;
  if (!*more) return CFT_OK;
  if (!p->buffer) p->buffer = malloc(READ_BYTES);
  if (!p->buffer) return cft_fail(CFT_E_OOM, "read %s: out of memory", p->incomplete);
  size_t got = 0;
  CFT_TRY(cft_file_read(p->fd, p->incomplete, (uint64_t)p->at, p->buffer, READ_BYTES, &got));
  if (got == 0)
    return cft_fail(CFT_E_IO, "read %s: it is cut off at byte %" PRId64, p->incomplete, p->at);
  CFT_TRY(cft_digest_put(p->digest, p->buffer, got));
  p->at += (int64_t)got;
  *more = p->at < p->left;
  if (!*more) {
    free(p->buffer);
    p->buffer = NULL;
  }
  return CFT_OK;
}

cft_status cft_part_put(cft_part *p, const void *data, size_t bytes) {
  CFT_TRY(cft_file_write_all(p->fd, p->incomplete, (uint64_t)p->at, data, bytes));
  CFT_TRY(cft_digest_put(p->digest, data, bytes));
  p->at += (int64_t)bytes;
  if (p->at - p->flushing >= FLUSH_BYTES) {
    (void)sync_file_range(p->fd, p->flushing, p->at - p->flushing, SYNC_FILE_RANGE_WRITE);
    p->flushing = p->at;
  }
  return CFT_OK;
}

cft_status cft_part_restart(cft_part *p) {
  p->at = p->left = p->flushing = 0;
  if (ftruncate(p->fd, 0) != 0) return cft_file_fail("truncate", p->incomplete);
  return cft_digest_restart(p->digest);
}

cft_status cft_part_finish(cft_part *p, bool *right, const char **found) {
  CFT_TRY(cft_digest_end(p->digest, p->digest_found));
  *found = p->digest_found;
  *right = strcmp(p->digest_found, p->digest_wanted) == 0;
  if (!*right) return unlink(p->incomplete) == 0 ? CFT_OK : cft_file_fail("remove", p->incomplete);
  cft_status st = cft_file_sync(p->fd, p->incomplete);
  if (st != CFT_OK) {  // what is there may never reach the disk, and a next try would not know
    (void)unlink(p->incomplete);
    return st;
  }
  return cft_sys.rename(p->incomplete, p->path) == 0 ? CFT_OK : cft_file_fail("rename to", p->path);
}

int64_t cft_download_begun(const char *path) {
  int64_t bytes = 0;
  char *incomplete = incomplete_of(path);
  if (incomplete) (void)cft_path_look(incomplete, &bytes);
  free(incomplete);
  return bytes;
}
