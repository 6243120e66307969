// file.c - files as bytes: map one, move an exact count, and say where it went wrong.
#include "util/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int exchange(const char *a, const char *b) {
  return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

cft_system cft_sys = {pread, pwrite, fsync, close, rename, exchange, flock};

// errno of the last failure: other calls may have changed errno itself since.
static _Thread_local int last_reason;

bool cft_file_is_full(void) { return last_reason == ENOSPC || last_reason == EDQUOT; }

void cft_file_failed(int reason) { last_reason = reason; }

int cft_file_reason(void) { return last_reason; }

bool cft_file_direct(int fd, bool direct) {
  int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

cft_status cft_file_fail(const char *verb, const char *path) {
  int reason = errno;
  cft_file_failed(reason);
  cft_status st =
      cft_fail(reason == ENOMEM ? CFT_E_OOM : CFT_E_IO, "%s %s: %s", verb, path, strerror(reason));
  errno = reason;
  return st;
}

// Does a file hold what Git LFS leaves in the place of one that was not fetched?
static bool is_lfs_pointer(int fd, off_t bytes) {
  static const char begins[] = "version https://git-lfs.github.com/spec/";
  char text[sizeof begins - 1];
  return bytes >= (off_t)sizeof text && bytes < 1024 &&
         pread(fd, text, sizeof text, 0) == (ssize_t)sizeof text &&
         memcmp(text, begins, sizeof text) == 0;
}

cft_status cft_file_open(int *out, const char *path, size_t *bytes) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return cft_file_fail("open", path);
  cft_status st = CFT_OK;
  struct stat info;
  if (fstat(fd, &info) != 0) {
    st = cft_file_fail("stat", path);
  } else if (!S_ISREG(info.st_mode)) {
    st = cft_fail(CFT_E_IO, "open %s: is %s, not a file", path,
                  S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
  } else if (is_lfs_pointer(fd, info.st_size)) {
    st = cft_fail(CFT_E_IO, "open %s: is a pointer of Git LFS in the place of the file; `git lfs pull` "
                  "fetches it", path);
  }
  if (st != CFT_OK) {
    close(fd);
    return st;
  }
  if (bytes) *bytes = (size_t)info.st_size;
  *out = fd;
  return CFT_OK;
}

cft_status cft_file_write_all(int fd, const char *path, uint64_t at, const void *data,
                              size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    ssize_t n = cft_sys.pwrite(fd, (const char *)data + done, bytes - done, (off_t)(at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = EIO;  // a file system that takes nothing and gives no reason
    if (n <= 0) {
      cft_file_failed(errno);
      return cft_fail(CFT_E_IO, "write %s, byte %" PRIu64 ": %s", path, at + done, strerror(errno));
    }
    done += (size_t)n;
  }
  return CFT_OK;
}

cft_status cft_file_read(int fd, const char *path, uint64_t at, void *data, size_t bytes,
                         size_t *got) {
  size_t done = 0;
  while (done < bytes) {
    ssize_t n = cft_sys.pread(fd, (char *)data + done, bytes - done, (off_t)(at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) cft_file_failed(errno);
    if (n < 0)
      return cft_fail(CFT_E_IO, "read %s, byte %" PRIu64 ": %s", path, at + done, strerror(errno));
    if (n == 0) break;
    done += (size_t)n;
  }
  if (!got && done < bytes)
    return cft_fail(CFT_E_IO,
                    "read %s, byte %" PRIu64 ": the file is shorter than when it was opened", path,
                    at + done);
  if (got) *got = done;
  return CFT_OK;
}

cft_status cft_file_sync(int fd, const char *path) {
  int failed;
  do failed = cft_sys.fsync(fd);
  while (failed && errno == EINTR);
  return failed ? cft_file_fail("sync", path) : CFT_OK;
}

char *cft_format(const char *format, ...) {
  char *text = NULL;
  va_list args;
  va_start(args, format);
  int n = vasprintf(&text, format, args);
  va_end(args);
  return n < 0 ? NULL : text;
}
