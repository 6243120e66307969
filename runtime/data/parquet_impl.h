// parquet_impl.h - what the files of the Parquet reader share.
//
//   parquet_footer.c  the file's last bytes: schema, row groups, where each column's pages are
//   parquet_page.c    pages: found, read, decompressed, decoded, and kept for a while
//   parquet_value.c   one value as JSON
//   parquet.c         records: nested values put together again from the columns they were cut into
//
// Words of the format: a *leaf* is a column of plain values; nested fields are flattened into
// leaves. A leaf's values in one row group are a *chunk*, which lies in the file as *pages*. With
// each value come two levels: the *definition* level says how many of the optional and repeated
// fields on the way to it are there (less than all of them: a null or an empty list), the
// *repetition* level which of the repeated fields has got another element (0: a new record).
// Source: https://parquet.apache.org/docs/file-format/, https://github.com/apache/parquet-format
#ifndef CFT_DATA_PARQUET_IMPL_H
#define CFT_DATA_PARQUET_IMPL_H

#include <stdbool.h>

#include "json_text.h"
#include "parquet.h"

enum {
  PQ_NODES = 1 << 13,         // fields of a schema
  PQ_DEPTH = 64,              // of nested fields
  PQ_FOOTER_BYTES = 1 << 28,  // larger ones are refused
  PQ_PAGE_BYTES = 1 << 30,    // the same, of a page that is decompressed
  PQ_PAGE_VALUES = 1 << 26,
  PQ_CACHE_BYTES = 128 << 20,  // pages that are kept, by all open files together
};

typedef enum pq_type {
  PQ_BOOLEAN = 0,
  PQ_INT32 = 1,
  PQ_INT64 = 2,
  PQ_INT96 = 3,
  PQ_FLOAT = 4,
  PQ_DOUBLE = 5,
  PQ_BYTES = 6,
  PQ_FIXED = 7,  // so many bytes as the schema says
} pq_type;

typedef enum pq_codec { PQ_PLAIN = 0, PQ_SNAPPY = 1, PQ_GZIP = 2, PQ_ZSTD = 6 } pq_codec;

// What a value means, where its type alone does not tell.
typedef enum pq_meaning {
  PQ_AS_STORED = 0,
  PQ_UNSIGNED,
  PQ_DECIMAL,
  PQ_DATE,
  PQ_TIME,
  PQ_TIMESTAMP,
  PQ_HALF,
  PQ_UUID,
} pq_meaning;

typedef enum pq_presence { PQ_REQUIRED = 0, PQ_OPTIONAL = 1, PQ_REPEATED = 2 } pq_presence;

// A field of the schema. Fields lie in an array in the order of the file, each followed by those
// inside it: the children of i are i + 1, then their `end`s, up to the `end` of i.
typedef struct pq_node {
  char *path;        // with the fields it is in: "a.list.element"
  const char *name;  // the end of path
  pq_presence presence;
  bool list;  // its one child is repeated: the elements
  bool leaf;
  int end;       // the field after it and all inside it
  int def, rep;  // levels from which on it is there; of which another element comes
  int first_leaf, leaves;
  // of leaves
  pq_type type;
  int bytes;  // of a value; 0 where it varies
  pq_meaning meaning;
  int digits;  // of a decimal behind the point; of a second's fraction: 3, 6, 9
  bool utc;
} pq_node;

// Plain values as they lie in a page.
typedef struct pq_values {
  const uint8_t *raw;
  size_t bytes;
  int64_t count;
  uint32_t *at;  // where each begins, if they vary; or which of the dictionary's each is; or a
                 // boolean each; NULL where that can be computed
} pq_values;

// A decoded page, or dictionary.
typedef struct pq_page {
  struct pq_page **home;          // where its pointer is, set to NULL when it is let go
  struct pq_page *newer, *older;  // all of a file's, in the order of their last use
  struct pq_page *dictionary;     // what `values.at` means, if it is not NULL; held
  int holds;                      // who looks at it now
  size_t cost;
  uint8_t *buffer;
  int64_t levels, rows;
  uint8_t *def, *rep;               // NULL where all are the leaf's full level, and 0
  uint32_t *row_level, *row_value;  // where each row begins, among levels and values; NULL: at its
                                    // own number
  pq_values values;
} pq_page;

// What a page's header says.
typedef struct pq_header {
  int kind, encoding, def_encoding, rep_encoding;
  int64_t compressed, uncompressed, values, rows, def_bytes, rep_bytes;
  bool is_compressed, has_crc, v2;
  uint32_t crc;
} pq_header;

typedef struct pq_place {
  pq_header header;
  int64_t at;         // of its bytes, behind the header
  int64_t first_row;  // the first one that begins in it, in its row group
  int64_t rows;       // how many begin in it
  pq_page *page;      // NULL: not in memory
} pq_place;

// A leaf's values in a row group, and what is known of its pages so far.
typedef struct pq_chunk {
  const pq_node *node;
  int64_t at, end, values, group, rows;
  pq_codec codec;
  pq_place *places;
  int64_t count, capacity;
  int64_t next, next_row, next_value;  // what comes behind the known pages
  pq_place dictionary;                 // its header's kind is DICTIONARY_PAGE where there is one
  bool has_dictionary;
} pq_chunk;

typedef struct pq_group {
  int64_t first, rows;
  pq_chunk *chunks;  // one a leaf
} pq_group;

// Where the reading of a row stands in one leaf.
typedef struct pq_cursor {
  pq_chunk *chunk;
  pq_page *page;  // held
  int64_t place, level, value;
} pq_cursor;

struct cft_parquet {
  char *path;
  int fd;
  const uint8_t *memory;
  int64_t bytes, rows;
  pq_node *nodes;
  int node_count, leaf_count;
  const pq_node **leaves;
  pq_group *groups;
  int64_t group_count;
  pq_page *newest, *oldest;
  struct ZSTD_DCtx_s *zstd;  // made when a page needs it
  pq_cursor *cursors;        // one a leaf
  cft_text text;             // the record read last
  char reason[256];          // why it is a bad one; "" if it is not
};

// ---- parquet_footer.c --------------------------------------------------------------------------

// Read schema and row groups. What was made before a failure is freed with the file.
cft_status pq_footer_read(cft_parquet *f);

// An encoding's name in the format.
const char *pq_encoding_name(int64_t encoding);

// ---- parquet_page.c ----------------------------------------------------------------------------

cft_status pq_read(const cft_parquet *f, int64_t at, void *data, size_t n);

// The page in which a row of the chunk begins, held.
cft_status pq_page_of_row(cft_parquet *f, pq_chunk *c, int64_t row, int64_t *place, pq_page **out);

// A page by its number, held; *out is NULL behind the last.
cft_status pq_page_at(cft_parquet *f, pq_chunk *c, int64_t place, pq_page **out);

void pq_page_drop(pq_page *page);     // no longer held; NULL is accepted
void pq_cache_empty(cft_parquet *f);  // nothing is held

// E_FORMAT that names the column and the row group.
cft_status pq_fail(const pq_chunk *c, const char *format, ...) CFT_PRINTF(2, 3);

// ---- parquet_value.c ---------------------------------------------------------------------------

// Write value i of a page; NULL, or why it cannot be.
const char *pq_value_write(cft_text *t, const pq_node *n, const pq_page *page, int64_t i);

#endif
