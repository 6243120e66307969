// file.h - files as bytes. Every message has the path, and the byte where a transfer stopped.
#ifndef CFT_UTIL_FILE_H
#define CFT_UTIL_FILE_H

#include <string.h>

#include "base.h"
#include "util/utf8.h"

// A foreign file's name for something, as an argument of a message.
#define QUOTED(name) cft_quote(name, strlen(name)).text

typedef struct cft_mapping {
  void *data;  // NULL for an empty file
  size_t bytes;
} cft_mapping;

// Map a regular file, whole. The pages are private and writable: what is written to them stays in
// this process, so a tensor may live in a file's mapping and be trained in place. Nothing is read
// before it is touched, and no memory is reserved for pages that are never written. A file that is
// shortened by someone else while it is mapped raises SIGBUS on access; files of ours are replaced
// by rename, never shortened. E_IO if the path is no readable regular file; *m is then empty.
cft_status cft_file_map(cft_mapping *m, const char *path);

// Accepts an empty mapping, and leaves one.
void cft_file_unmap(cft_mapping *m);

// Write exactly `bytes` bytes to fd, where `at` of them were written before (for the message).
cft_status cft_file_write_all(int fd, const char *path, uint64_t at, const void *data,
                              size_t bytes);

// Read up to `bytes` bytes from fd into data, fewer only at the end of the file; *got says how
// many. `at` were read before (for the message).
cft_status cft_file_read(int fd, const char *path, uint64_t at, void *data, size_t bytes,
                         size_t *got);

// E_IO with "VERB PATH: what errno says".
cft_status cft_file_fail(const char *verb, const char *path);

// printf into a new string, freed by the caller; NULL when memory ran out.
char *cft_format(const char *format, ...) CFT_PRINTF(1, 2);

#endif
