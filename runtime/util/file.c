// file.c - files as bytes: map one, move an exact count, and say where it went wrong.
#include "util/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int exchange(const char *a, const char *b) {
  return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

cft_system cft_sys = {pread, pwrite, fsync, close, rename, exchange, flock};

cft_status cft_file_fail(const char *verb, const char *path) {
  int reason = errno;
  cft_status st =
      cft_fail(reason == ENOMEM ? CFT_E_OOM : CFT_E_IO, "%s %s: %s", verb, path, strerror(reason));
  errno = reason;
  return st;
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
  }
  if (st != CFT_OK) {
    close(fd);
    return st;
  }
  if (bytes) *bytes = (size_t)info.st_size;
  *out = fd;
  return CFT_OK;
}

cft_status cft_file_map(cft_mapping *m, const char *path) {
  *m = (cft_mapping){0};
  int fd;
  size_t bytes;
  CFT_TRY(cft_file_open(&fd, path, &bytes));
  cft_status st = CFT_OK;
  if (bytes > 0) {  // mmap takes no empty range
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (data == MAP_FAILED)
      st = cft_file_fail("map", path);
    else
      *m = (cft_mapping){.data = data, .bytes = bytes};
  }
  close(fd);
  return st;
}

void cft_file_unmap(cft_mapping *m) {
  if (m->data) munmap(m->data, m->bytes);
  *m = (cft_mapping){0};
}

struct cft_map {
  cft_mapping mapping;
};

cft_status cft_map_open(cft_map **out, const char *path) {
  cft_map *m = calloc(1, sizeof *m);
  if (!m) return cft_fail(CFT_E_OOM, "%s: no memory to map it", path);
  cft_status st = cft_file_map(&m->mapping, path);
  if (st == CFT_OK)
    *out = m;
  else
    free(m);
  return st;
}

const void *cft_map_data(const cft_map *m) { return m->mapping.data; }
int64_t cft_map_bytes(const cft_map *m) { return (int64_t)m->mapping.bytes; }

void cft_map_release(cft_map *m) {
  if (!m) return;
  cft_file_unmap(&m->mapping);
  free(m);
}

cft_status cft_file_write_all(int fd, const char *path, uint64_t at, const void *data,
                              size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    ssize_t n = cft_sys.pwrite(fd, (const char *)data + done, bytes - done, (off_t)(at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = EIO;  // a file system that takes nothing and gives no reason
    if (n <= 0)
      return cft_fail(CFT_E_IO, "write %s, byte %" PRIu64 ": %s", path, at + done, strerror(errno));
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
