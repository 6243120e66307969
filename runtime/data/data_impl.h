// data_impl.h - what the files of this folder share: streams of bytes, and the scanner for records.
#ifndef CFT_DATA_IMPL_H
#define CFT_DATA_IMPL_H

#include <stdbool.h>

#include <sys/stat.h>

#include "cft_data.h"
#include "util/file.h"

// ---- stream.c: a file's bytes in order, decompressed --------------------------------------------

typedef struct cft_stream cft_stream;

// Open a regular file, or bytes in memory (path is then only for messages). E_IO, E_OOM.
cft_status cft_stream_open(cft_stream **out, const char *path);
cft_status cft_stream_of_bytes(cft_stream **out, const char *name, const void *bytes, size_t n);
void cft_stream_close(cft_stream *s);

// The next bytes, at most n; *got is 0 at the end only. E_IO; E_FORMAT where a compressed stream is
// damaged or cut short, with the byte of the file.
cft_status cft_stream_read(cft_stream *s, void *data, size_t n, size_t *got);

// Whether bytes come out other than they lie in the file.
bool cft_stream_compressed(const cft_stream *s);

// The bytes at the beginning of the file, as many as were read to tell its kind; nothing must have
// been read from the stream yet.
const void *cft_stream_peek(const cft_stream *s, size_t *n);

// The file's descriptor; -1 for memory. The other takes it away, for reading at any place.
int cft_stream_fd(const cft_stream *s);
int cft_stream_take_fd(cft_stream *s);

// ---- split.c: where records start
// ----------------------------------------------------------------

enum { CFT_LINES_EVERY = 256 };  // one line number is kept for as many records

typedef struct cft_split {
  cft_records_format format;
  int64_t *starts, count, capacity;           // byte of each record
  int64_t *lines, line_count, line_capacity;  // line of each CFT_LINES_EVERY-th record
  struct cft_split_bad {
    int64_t record;
    const char *reason;
  } * bad;  // ascending; few
  int64_t bad_count, bad_capacity;
  // where the scanner stands
  int64_t at, line;
  int state;
  int64_t depth;  // brackets open, the array's own included
  bool in_string, escaped, complete, after_comma;
  bool after_cr;  // CSV: the last byte was a carriage return
} cft_split;

void cft_split_init(cft_split *s, cft_records_format format);
void cft_split_free(cft_split *s);

// Scan the next n bytes of the file. Chunks may end anywhere. Of CSV the header is a record too.
// E_FORMAT if a JSON file begins with something else than an array or has CFT_RECORDS_MALFORMED
// broken places; E_OOM.
cft_status cft_split_feed(cft_split *s, const char *text, size_t n);

// Whether a line of CSV ends at c: CR, LF and CR LF each end one, as in Python's csv. *after_cr is
// the caller's, false before the first byte.
bool cft_csv_ends_line(bool *after_cr, char c);

// The file ends here.
cft_status cft_split_end(cft_split *s);

// Why record i is a bad one, or NULL.
const char *cft_split_reason(const cft_split *s, int64_t i);

// The length of record i in the n bytes from its start to its successor's, without what stands
// between the two: white space, a comma, the closing bracket.
size_t cft_split_trim(const cft_split *s, int64_t i, const char *text, size_t n);

// ---- index.c: what split.c found, in a file ----------------------------------------------------

typedef struct cft_index {
  cft_split split;  // its arrays lie in the mapping
  uint8_t hash[16];
  cft_mapping map;  // empty: there is none
} cft_index;

// The name of the index of a file in a folder of indices. E_IO, E_OOM.
cft_status cft_index_path(char **out, const char *folder, const char *path,
                          cft_records_format format);

// Map an index. out->map stays empty where there is none, or a damaged one: then *why says so.
// E_IO.
cft_status cft_index_map(cft_index *out, const char *path, const char **why);

// The same, and only if `file`, which is open as fd, is still what was indexed; else *why says what
// changed. E_IO, E_OOM.
cft_status cft_index_load(cft_index *out, const char *path, const char *file, int fd,
                          const struct stat *now, const char **why);

// Write it; `before` is what fstat said before the file was read. E_IO, also where the file was
// written to meanwhile; E_OOM.
cft_status cft_index_save(const char *path, const char *file, int fd, const struct stat *before,
                          const cft_split *s, const uint8_t hash[16]);

#endif
