// file.c - files as bytes: map one, move an exact count, and say where it went wrong.
#include "util/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

cft_status cft_file_fail(const char *verb, const char *path) {
  int reason = errno;
  return cft_fail(reason == ENOMEM ? CFT_E_OOM : CFT_E_IO, "%s %s: %s", verb, path,
                  strerror(reason));
}

cft_status cft_file_map(cft_mapping *m, const char *path) {
  *m = (cft_mapping){0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not make us wait
  if (fd < 0) return cft_file_fail("open", path);

  cft_status st = CFT_OK;
  struct stat info;
  if (fstat(fd, &info) != 0) {
    st = cft_file_fail("stat", path);
  } else if (!S_ISREG(info.st_mode)) {
    st = cft_fail(CFT_E_IO, "open %s: is %s, not a file", path,
                  S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
  } else if (info.st_size > 0) {  // mmap takes no empty range
    size_t bytes = (size_t)info.st_size;
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

cft_status cft_file_write_all(int fd, const char *path, uint64_t at, const void *data,
                              size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    ssize_t n = write(fd, (const char *)data + done, bytes - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return cft_fail(CFT_E_IO, "write %s, byte %" PRIu64 ": %s", path, at + done, strerror(errno));
    done += (size_t)n;
  }
  return CFT_OK;
}

cft_status cft_file_read(int fd, const char *path, uint64_t at, void *data, size_t bytes,
                         size_t *got) {
  *got = 0;
  while (*got < bytes) {
    ssize_t n = read(fd, (char *)data + *got, bytes - *got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return cft_fail(CFT_E_IO, "read %s, byte %" PRIu64 ": %s", path, at + *got, strerror(errno));
    if (n == 0) break;
    *got += (size_t)n;
  }
  return CFT_OK;
}

char *cft_format(const char *format, ...) {
  char *text = NULL;
  va_list args;
  va_start(args, format);
  int n = vasprintf(&text, format, args);
  va_end(args);
  return n < 0 ? NULL : text;
}
