// journal.c - a file that only grows, of entries that are whole or are none.
//
// An entry is the msgpack value [bin 8 of 16 bytes, bin 32]: its head has a fixed size, so that it can be read
// without a parser, and any msgpack library reads the file as a stream of values.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cft_checkpoint.h"
#include "util/file.h"
#include "util/hash.h"

enum { HASH_AT = 3, LENGTH_AT = 20, HEAD = 24 };

struct cft_journal {
  char *path;
  int fd;
  uint64_t at, end;  // what was read so far, and the file's size
  char *buffer;
  size_t room;
};

static void put_head(uint8_t head[HEAD], const void *data, size_t bytes) {
  head[0] = 0x92;  // a list of two
  head[1] = 0xc4, head[2] = 16;
  cft_bytes_hash(head + HASH_AT, data, bytes);
  head[LENGTH_AT - 1] = 0xc6;
  for (int i = 0; i < 4; ++i) head[LENGTH_AT + i] = (uint8_t)(bytes >> (24 - 8 * i));
}

static cft_status make_room(cft_journal *j, size_t bytes) {
  if (bytes <= j->room) return CFT_OK;
  char *buffer = realloc(j->buffer, bytes);
  if (!buffer) return cft_fail(CFT_E_OOM, "%s: out of memory", j->path);
  j->buffer = buffer;
  j->room = bytes;
  return CFT_OK;
}

cft_status cft_journal_open(cft_journal **out, const char *path, bool write) {
  cft_status st = CFT_OK;
  struct stat info;
  cft_journal *j = calloc(1, sizeof *j);
  if (!j) return cft_fail(CFT_E_OOM, "open %s: out of memory", path);
  j->fd = -1;
  j->path = cft_format("%s", path);
  if (!j->path) CFT_GO(cft_fail(CFT_E_OOM, "open %s: out of memory", path));
  j->fd = open(path, (write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NONBLOCK, 0666);
  if (j->fd < 0 || fstat(j->fd, &info) != 0) CFT_GO(cft_file_fail("open", path));
  if (!S_ISREG(info.st_mode)) CFT_GO(cft_fail(CFT_E_IO, "open %s: is not a file", path));
  j->end = (uint64_t)info.st_size;
  *out = j;
  j = NULL;
out:
  cft_journal_release(j);
  return st;
}

void cft_journal_release(cft_journal *j) {
  if (!j) return;
  if (j->fd >= 0) close(j->fd);
  free(j->buffer);
  free(j->path);
  free(j);
}

cft_status cft_journal_next(cft_journal *j, const void **data, size_t *bytes, int64_t *at) {
  uint8_t head[HEAD], wanted[HEAD];
  *data = NULL;
  *bytes = 0;
  if (at) *at = (int64_t)j->at;
  if (j->end - j->at < HEAD) return CFT_OK;
  CFT_TRY(cft_file_read(j->fd, j->path, j->at, head, HEAD, NULL));
  size_t n = 0;
  for (int i = 0; i < 4; ++i) n = n << 8 | head[LENGTH_AT + i];
  if (n > j->end - j->at - HEAD) return CFT_OK;  // torn
  CFT_TRY(make_room(j, n ? n : 1));
  CFT_TRY(cft_file_read(j->fd, j->path, j->at + HEAD, j->buffer, n, NULL));
  put_head(wanted, j->buffer, n);
  if (memcmp(head, wanted, HEAD) != 0) return CFT_OK;
  j->at += HEAD + n;
  *data = j->buffer;
  *bytes = n;
  return CFT_OK;
}

cft_status cft_journal_cut(cft_journal *j, int64_t at) {
  if (ftruncate(j->fd, (off_t)at) != 0) return cft_file_fail("cut", j->path);
  j->end = (uint64_t)at;
  if (j->at > j->end) j->at = j->end;
  return cft_journal_sync(j);
}

cft_status cft_journal_append(cft_journal *j, const void *data, size_t bytes) {
  if (bytes > UINT32_MAX) return cft_fail(CFT_E_ARG, "%s: an entry of %zu bytes", j->path, bytes);
  CFT_TRY(make_room(j, HEAD + bytes));
  put_head((uint8_t *)j->buffer, data, bytes);
  memcpy(j->buffer + HEAD, data, bytes);
  cft_status st = cft_file_write_all(j->fd, j->path, j->end, j->buffer, HEAD + bytes);
  if (st == CFT_OK) {
    j->end += HEAD + bytes;
    return CFT_OK;
  }
  if (ftruncate(j->fd, (off_t)j->end) != 0) return cft_context(st, "a torn entry stays");
  return st;
}

cft_status cft_journal_sync(cft_journal *j) { return cft_file_sync(j->fd, j->path); }
