// cft_data.h - files of records: one at a time, any of them at once, larger than memory.
//
// A file holds a record a line (JSONL), one array of records (JSON), or a header and a record a row
// (CSV, by RFC 4180), as it is or compressed by gzip or zstd (members and frames may follow each
// other; told by the first bytes, not the name). Opening reads it once and keeps where each record
// starts: eight bytes a record. JSON is not parsed here: a record is the bytes between its
// neighbours, found by a scanner that knows strings, escapes and nesting. Plain files are then read
// where they lie; what a compressed one decompresses to is kept in memory up to
// CFT_RECORDS_IN_MEMORY bytes and beyond that in a file without a name in TMPDIR (else /var/tmp,
// /tmp), which ends with the process at the latest.
//
// Or it is a Parquet file: then its footer says where each column's pages are, and a record is put
// together from the pages it is in. Decoded pages are kept up to 128 MiB, by all files together.
// What is read of Parquet, and how its types look in JSON, stands in docs/data.md.
#ifndef CFT_DATA_H
#define CFT_DATA_H

#include "base.h"

typedef struct cft_records cft_records;

typedef enum cft_records_format {
  CFT_RECORDS_AUTO = 0,     // told by content, CSV by name
  CFT_RECORDS_JSONL = 1,    // a record a line; blank lines are skipped
  CFT_RECORDS_JSON = 2,     // one array; its elements are the records
  CFT_RECORDS_CSV = 3,      // a row of names, then a record a row; every value is a text
  CFT_RECORDS_PARQUET = 4,  // rows of columns
} cft_records_format;

enum {
  CFT_RECORDS_IN_MEMORY = 64 << 20,
  CFT_RECORD_BYTES = 256 << 20,    // a longer record is a bad one, and not read
  CFT_RECORDS_MALFORMED = 100000,  // a file with more bad places is no array of records at all
};

// One record. `text` is borrowed until the next call with the same cft_records; a NUL follows it.
typedef struct cft_record {
  const char *text;  // the JSON value, white space around it left out
  int64_t bytes;     // length of text
  int64_t byte;      // where it starts, in the decompressed bytes; -1 in a Parquet file
  const char
      *reason;  // NULL, or why this is a bad record: no comma before it, the file ends inside
                // it, more fields than the header, ... text is then what the file has there
} cft_record;

// Open a file of records and find where each one starts. JSON arrays that are broken do not fail:
// the broken place is a record with a reason, and what follows it is found again where that is
// possible.
//   path    a regular file
//   format  AUTO decides by content: Parquet begins with PAR1, an array with '['; `.jsonl` and
//           `.ndjson` (with `.gz`, `.zst`) are lines of anything, unless the first line is '['
//           alone or begins an array of objects that goes on below it, or such an array is the only
//           line. Only `.csv` (with these) is told by its name
// E_IO (path, byte), E_FORMAT for a damaged compressed stream, UTF-16, a document that is neither
// lines nor an array, a header with a name twice or other separators than commas, a damaged Parquet
// footer; E_UNSUPPORTED for what Parquet has and is not read, by its name; E_OOM. The caller owns
// *out.
CFT_API cft_status cft_records_open(cft_records **out, const char *path, cft_records_format format);

// The same, and what opening finds is kept in a folder for the next time, if the file is plain, has
// at least `least_bytes` bytes and is JSONL or an array without a broken place. Then opening takes
// a millisecond, and the index needs no memory but pages of that file. An index is taken if the
// file still has the size, the times, the inode and (of 64 pieces) the bytes that it had.
//   folder  of indices, made if need be; NULL: none is kept
CFT_API cft_status cft_records_open_kept(cft_records **out, const char *path,
                                         cft_records_format format, const char *folder,
                                         int64_t least_bytes);

// NULL; or which index was left out and why (damaged, or its file changed), or could not be kept.
// Borrowed.
CFT_API const char *cft_records_note(const cft_records *r);

// The same for bytes in memory, which are borrowed until the release; `name` is for messages.
CFT_API cft_status cft_records_of_bytes(cft_records **out, const char *name, const void *bytes,
                                        size_t n, cft_records_format format);

// NULL is accepted.
CFT_API void cft_records_release(cft_records *r);

// How many records there are, bad ones included; how many decompressed bytes (of Parquet: bytes of
// the file); and 16 bytes that differ when these bytes do (XXH3-128).
CFT_API int64_t cft_records_count(const cft_records *r);
CFT_API int64_t cft_records_bytes(const cft_records *r);
CFT_API void cft_records_hash(const cft_records *r, uint8_t hash[16]);

// Read record i, 0 <= i < count. E_ARG; E_IO, also when the file was shortened since it was opened;
// E_FORMAT, E_UNSUPPORTED where a Parquet page is damaged or encoded in a way that is not read;
// E_OOM. One thread at a time.
CFT_API cft_status cft_records_get(cft_records *r, int64_t i, cft_record *record);

// The line, from 1, on which record i starts; 0 in a Parquet file. Reads up to 255 records to count
// them: for messages.
CFT_API cft_status cft_records_line(cft_records *r, int64_t i, int64_t *line);

#endif
