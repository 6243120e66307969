// parquet.h - Parquet files as records: any of them at once, in memory that is bounded.
//
// Read are: pages of version 1 and 2, plain or by dictionary, levels and booleans in runs, as they
// are or compressed by snappy, gzip or zstd; all types but INTERVAL. Other encodings and codecs,
// encrypted files, and columns in files of their own are errors that name them. Checksums are
// checked where the file has them.
//
// A record is a row as JSON: a struct is an object, a list an array (a map one of { key, value }),
// a null null. Dates and times are texts as in ISO 8601, decimals and UUIDs texts; integers beyond
// 2^53 are texts of their digits; nan and the infinities are null.
#ifndef CFT_DATA_PARQUET_H
#define CFT_DATA_PARQUET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base.h"

typedef struct cft_parquet cft_parquet;

// Whether these are the first bytes of a Parquet file.
bool cft_parquet_begins(const void *bytes, size_t n);

// Read a file's footer. The descriptor is taken, in failure also; or fd is -1 and n bytes are
// borrowed. E_IO, E_FORMAT, E_UNSUPPORTED, E_OOM, without the path in front.
cft_status cft_parquet_open(cft_parquet **out, const char *path, int fd, const void *bytes,
                            size_t n);
void cft_parquet_release(cft_parquet *f);  // NULL is accepted

int64_t cft_parquet_rows(const cft_parquet *f);
int64_t cft_parquet_bytes(const cft_parquet *f);

// Row i, 0 <= i < rows, as JSON that is valid until the next call. A row that has no such form
// (text that is not UTF-8, too long) is a bad one: *reason says why, and *text is "". E_FORMAT
// where the file is damaged, with column and row group.
cft_status cft_parquet_get(cft_parquet *f, int64_t i, const char **text, size_t *bytes,
                           const char **reason);

#endif
