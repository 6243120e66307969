// parquet_footer.c - the end of a Parquet file: what its columns are and where their pages lie.
#include <stdlib.h>
#include <string.h>

#include "parquet_impl.h"
#include "thrift.h"
#include "util/file.h"
#include "util/utf8.h"

// ---- one element of the schema, as it is written -----------------------------------------------

typedef struct element {
  const uint8_t *name;
  size_t name_bytes;
  int64_t type, type_bytes, presence, children, converted, scale;
  int logical;  // the LogicalType's field, 0 if it has none
  int64_t logical_scale, bits;
  int unit;  // 1 milliseconds, 2 microseconds, 3 nanoseconds
  bool utc, is_signed;
} element;

enum {
  LOGICAL_STRING = 1,
  LOGICAL_MAP = 2,
  LOGICAL_LIST = 3,
  LOGICAL_DECIMAL = 5,
  LOGICAL_DATE = 6,
  LOGICAL_TIME = 7,
  LOGICAL_TIMESTAMP = 8,
  LOGICAL_INTEGER = 10,
  LOGICAL_UUID = 14,
  LOGICAL_FLOAT16 = 15
};

enum {
  CONVERTED_MAP = 1,
  CONVERTED_MAP_KEY_VALUE = 2,
  CONVERTED_LIST = 3,
  CONVERTED_DECIMAL = 5,
  CONVERTED_DATE = 6,
  CONVERTED_TIME_MILLIS = 7,
  CONVERTED_TIME_MICROS = 8,
  CONVERTED_TIMESTAMP_MILLIS = 9,
  CONVERTED_TIMESTAMP_MICROS = 10,
  CONVERTED_UINT_8 = 11,
  CONVERTED_UINT_64 = 14,
  CONVERTED_INTERVAL = 21
};

static void read_unit(cft_thrift *t, element *e) {
  cft_thrift_field f = {0};
  while (cft_thrift_next(t, &f)) {
    e->unit = f.id;  // a union: the field that is there says it, and is an empty struct
    cft_thrift_skip(t, f.type);
  }
}

static void read_logical(cft_thrift *t, element *e) {
  cft_thrift_field outer = {0};
  while (cft_thrift_next(t, &outer)) {
    e->logical = outer.id;
    if (outer.type != CFT_THRIFT_STRUCT) {
      cft_thrift_fail(t, "something else stands where a logical type was expected");
      return;
    }
    cft_thrift_field f = {0};
    while (cft_thrift_next(t, &f)) {
      bool time = outer.id == LOGICAL_TIME || outer.id == LOGICAL_TIMESTAMP;
      if (outer.id == LOGICAL_DECIMAL && f.id == 1)
        e->logical_scale = cft_thrift_int(t, f.type);
      else if (time && f.id == 1)
        e->utc = cft_thrift_bool(t, f.type);
      else if (time && f.id == 2 && f.type == CFT_THRIFT_STRUCT)
        read_unit(t, e);
      else if (outer.id == LOGICAL_INTEGER && f.id == 1)
        e->bits = cft_thrift_int(t, f.type);
      else if (outer.id == LOGICAL_INTEGER && f.id == 2)
        e->is_signed = cft_thrift_bool(t, f.type);
      else
        cft_thrift_skip(t, f.type);
    }
  }
}

static void read_element(cft_thrift *t, element *e) {
  *e = (element){.type = -1, .converted = -1};
  cft_thrift_field f = {0};
  while (cft_thrift_next(t, &f)) {
    switch (f.id) {
      case 1: e->type = cft_thrift_int(t, f.type); break;
      case 2: e->type_bytes = cft_thrift_int(t, f.type); break;
      case 3: e->presence = cft_thrift_int(t, f.type); break;
      case 4: e->name = cft_thrift_binary(t, f.type, &e->name_bytes); break;
      case 5: e->children = cft_thrift_int(t, f.type); break;
      case 6: e->converted = cft_thrift_int(t, f.type); break;
      case 7: e->scale = cft_thrift_int(t, f.type); break;
      case 10:
        if (f.type != CFT_THRIFT_STRUCT)
          cft_thrift_fail(t, "something else stands where a logical type was expected");
        else
          read_logical(t, e);
        break;
      default: cft_thrift_skip(t, f.type);
    }
  }
}

// ---- the schema --------------------------------------------------------------------------------

static cft_status damaged(const cft_thrift *t) {
  return cft_fail(CFT_E_FORMAT, "its footer is damaged: %s", t->problem);
}

static cft_status set_digits(pq_node *n, int64_t digits, int64_t most) {
  if (digits < 0 || digits > most)
    return cft_fail(CFT_E_FORMAT, "column %s has %lld digits behind the point", QUOTED(n->path),
                    (long long)digits);
  n->digits = (int)digits;
  return CFT_OK;
}

static cft_status set_meaning(pq_node *n, const element *e) {
  bool integer = n->type == PQ_INT32 || n->type == PQ_INT64;
  int64_t converted = e->converted;
  if (converted == CONVERTED_INTERVAL)
    return cft_fail(CFT_E_UNSUPPORTED, "column %s is an INTERVAL, which is not read",
                    QUOTED(n->path));
  if (e->logical == LOGICAL_DECIMAL || (!e->logical && converted == CONVERTED_DECIMAL)) {
    n->meaning = PQ_DECIMAL;
    bool bytes = n->type == PQ_BYTES || n->type == PQ_FIXED;
    if ((!integer && !bytes) || n->bytes > 16)
      return cft_fail(CFT_E_UNSUPPORTED,
                      "column %s is a decimal of more than 16 bytes or no type "
                      "that can be one",
                      QUOTED(n->path));
    return set_digits(n, e->logical ? e->logical_scale : e->scale, 38);
  }
  if (n->type == PQ_INT96) {
    n->meaning = PQ_TIMESTAMP;
    n->digits = 9;
  } else if (n->type == PQ_FIXED && e->logical == LOGICAL_UUID && n->bytes == 16) {
    n->meaning = PQ_UUID;
  } else if (n->type == PQ_FIXED && e->logical == LOGICAL_FLOAT16 && n->bytes == 2) {
    n->meaning = PQ_HALF;
  } else if (integer && e->logical == LOGICAL_INTEGER) {
    if (!e->is_signed) n->meaning = PQ_UNSIGNED;
  } else if (n->type == PQ_INT32 && (e->logical == LOGICAL_DATE || converted == CONVERTED_DATE)) {
    n->meaning = PQ_DATE;
  } else if (integer && (e->logical == LOGICAL_TIME || e->logical == LOGICAL_TIMESTAMP)) {
    n->meaning = e->logical == LOGICAL_TIME ? PQ_TIME : PQ_TIMESTAMP;
    n->utc = e->utc && n->meaning == PQ_TIMESTAMP;
    return set_digits(n, 3 * (e->unit ? e->unit : -1), 9);
  } else if (integer && converted >= CONVERTED_TIME_MILLIS &&
             converted <= CONVERTED_TIMESTAMP_MICROS) {
    n->meaning = converted >= CONVERTED_TIMESTAMP_MILLIS ? PQ_TIMESTAMP : PQ_TIME;
    n->utc = n->meaning == PQ_TIMESTAMP;
    n->digits =
        converted == CONVERTED_TIME_MILLIS || converted == CONVERTED_TIMESTAMP_MILLIS ? 3 : 6;
  } else if (integer && converted >= CONVERTED_UINT_8 && converted <= CONVERTED_UINT_64) {
    n->meaning = PQ_UNSIGNED;
  }
  return CFT_OK;
}

static cft_status set_leaf(pq_node *n, const element *e) {
  static const int bytes[] = {0, 4, 8, 12, 4, 8, 0, 0};
  if (e->type < PQ_BOOLEAN || e->type > PQ_FIXED)
    return cft_fail(CFT_E_FORMAT, "column %s has the type %lld, which does not exist",
                    QUOTED(n->path), (long long)e->type);
  n->leaf = true;
  n->leaves = 1;
  n->type = (pq_type)e->type;
  n->bytes = bytes[n->type];
  if (n->type == PQ_FIXED) {
    if (e->type_bytes < 1 || e->type_bytes > 1 << 20)
      return cft_fail(CFT_E_FORMAT, "column %s has values of %lld bytes", QUOTED(n->path),
                      (long long)e->type_bytes);
    n->bytes = (int)e->type_bytes;
  }
  return set_meaning(n, e);
}

static cft_status set_name(pq_node *n, const pq_node *parent, const element *e) {
  if (cft_utf8_check(e->name, e->name_bytes) != e->name_bytes || !e->name_bytes ||
      memchr(e->name, 0, e->name_bytes))
    return cft_fail(CFT_E_FORMAT, "a column's name is empty, or not UTF-8");
  if (e->name_bytes > 1 << 16) return cft_fail(CFT_E_FORMAT, "a column's name has over 64 KiB");
  const char *before = parent ? parent->path : "";
  n->path =
      cft_format("%s%s%.*s", before, *before ? "." : "", (int)e->name_bytes, (const char *)e->name);
  if (!n->path) return cft_fail(CFT_E_OOM, "no memory for its columns");
  n->name = n->path + strlen(n->path) - e->name_bytes;
  return CFT_OK;
}

// Two fields with one name would be one key twice.
static cft_status check_names(const cft_parquet *f, int parent) {
  for (int a = parent + 1; a < f->nodes[parent].end; a = f->nodes[a].end)
    for (int b = f->nodes[a].end; b < f->nodes[parent].end; b = f->nodes[b].end)
      if (strcmp(f->nodes[a].name, f->nodes[b].name) == 0)
        return cft_fail(CFT_E_FORMAT, "two columns are called %s", QUOTED(f->nodes[a].path));
  return CFT_OK;
}

// Read a field and all in it. The root (parent < 0) is the record itself and has no path.
static cft_status read_node(cft_parquet *f, cft_thrift *t, int64_t *left, int parent, int depth) {
  if (depth > PQ_DEPTH) return cft_fail(CFT_E_FORMAT, "its columns are nested too deeply");
  if (!*left) return cft_fail(CFT_E_FORMAT, "its footer is damaged: columns are missing");
  --*left;
  element e;
  read_element(t, &e);
  if (t->problem) return damaged(t);

  int self = f->node_count++;
  pq_node *n = &f->nodes[self];
  const pq_node *outer = parent < 0 ? NULL : &f->nodes[parent];
  if (outer) {
    CFT_TRY(set_name(n, outer, &e));
    if (e.presence < 0 || e.presence > PQ_REPEATED)
      return cft_fail(CFT_E_FORMAT, "column %s is neither required, optional nor repeated",
                      QUOTED(n->path));
    n->presence = (pq_presence)e.presence;
    n->def = outer->def + (n->presence != PQ_REQUIRED);
    n->rep = outer->rep + (n->presence == PQ_REPEATED);
  } else if (!(n->path = strdup(""))) {
    return cft_fail(CFT_E_OOM, "no memory for its columns");
  }
  n->first_leaf = f->leaf_count;
  n->end = self + 1;
  if (e.type >= 0 && outer && !e.children) {
    ++f->leaf_count;
    return set_leaf(n, &e);
  }
  if (e.children < 1 || e.children > *left)
    return cft_fail(CFT_E_FORMAT, "group %s has %lld fields", QUOTED(n->path),
                    (long long)e.children);
  for (int64_t i = 0; i < e.children; ++i) CFT_TRY(read_node(f, t, left, self, depth + 1));
  n->end = f->node_count;
  n->leaves = f->leaf_count - n->first_leaf;
  bool named_list = e.logical == LOGICAL_LIST || e.logical == LOGICAL_MAP ||
                    e.converted == CONVERTED_LIST || e.converted == CONVERTED_MAP ||
                    e.converted == CONVERTED_MAP_KEY_VALUE;
  n->list = named_list && n->presence != PQ_REPEATED && e.children == 1 &&
            f->nodes[self + 1].presence == PQ_REPEATED;
  return check_names(f, self);
}

static cft_status read_schema(cft_parquet *f, cft_thrift *t, int type) {
  int kind;
  int64_t n = cft_thrift_list(t, type, &kind);
  if (t->problem) return damaged(t);
  if (f->nodes) return cft_fail(CFT_E_FORMAT, "its footer is damaged: it has two schemas");
  if (kind != CFT_THRIFT_STRUCT || n < 2)
    return cft_fail(CFT_E_FORMAT, "its footer is damaged: it has no schema");
  if (n > PQ_NODES)
    return cft_fail(CFT_E_UNSUPPORTED, "it has %lld columns; up to %d are read", (long long)n,
                    PQ_NODES);
  f->nodes = calloc((size_t)n, sizeof *f->nodes);
  if (!f->nodes) return cft_fail(CFT_E_OOM, "no memory for its columns");
  CFT_TRY(read_node(f, t, &n, -1, 0));
  if (n) return cft_fail(CFT_E_FORMAT, "its footer is damaged: more columns than the schema has");
  f->leaves = calloc((size_t)f->leaf_count, sizeof *f->leaves);
  f->cursors = calloc((size_t)f->leaf_count, sizeof *f->cursors);
  if (!f->leaves || !f->cursors) return cft_fail(CFT_E_OOM, "no memory for its columns");
  for (int i = 0; i < f->node_count; ++i)
    if (f->nodes[i].leaf) f->leaves[f->nodes[i].first_leaf] = &f->nodes[i];
  return CFT_OK;
}

// ---- row groups --------------------------------------------------------------------------------

static const char *const encodings[] = {"PLAIN",
                                        NULL,
                                        "PLAIN_DICTIONARY",
                                        "RLE",
                                        "BIT_PACKED",
                                        "DELTA_BINARY_PACKED",
                                        "DELTA_LENGTH_BYTE_ARRAY",
                                        "DELTA_BYTE_ARRAY",
                                        "RLE_DICTIONARY",
                                        "BYTE_STREAM_SPLIT"};

const char *pq_encoding_name(int64_t encoding) {
  bool known = encoding >= 0 && encoding < (int64_t)(sizeof encodings / sizeof *encodings);
  return known && encodings[encoding] ? encodings[encoding] : "an unknown encoding";
}

typedef struct column {
  int64_t type, codec, values, bytes, data_at, dictionary_at;
  int64_t refused;  // an encoding that is not read, or -1
  bool present, elsewhere, encrypted;
} column;

static void read_encodings(cft_thrift *t, int type, column *c) {
  int kind;
  int64_t n = cft_thrift_list(t, type, &kind);
  for (int64_t i = 0; i < n && !t->problem; ++i) {
    int64_t encoding = cft_thrift_int(t, kind);
    // BIT_PACKED is listed for levels that some writers have and never write.
    if (encoding >= 5 && encoding != 8) c->refused = encoding;
  }
}

static void read_metadata(cft_thrift *t, column *c) {
  cft_thrift_field f = {0};
  while (cft_thrift_next(t, &f)) {
    switch (f.id) {
      case 1: c->type = cft_thrift_int(t, f.type); break;
      case 2: read_encodings(t, f.type, c); break;
      case 4: c->codec = cft_thrift_int(t, f.type); break;
      case 5: c->values = cft_thrift_int(t, f.type); break;
      case 7: c->bytes = cft_thrift_int(t, f.type); break;
      case 9: c->data_at = cft_thrift_int(t, f.type); break;
      case 11: c->dictionary_at = cft_thrift_int(t, f.type); break;
      default: cft_thrift_skip(t, f.type);
    }
  }
}

static void read_column(cft_thrift *t, column *c) {
  *c = (column){.refused = -1};
  cft_thrift_field f = {0};
  while (cft_thrift_next(t, &f)) {
    if (f.id == 3 && f.type == CFT_THRIFT_STRUCT) {
      c->present = true;
      read_metadata(t, c);
      continue;
    }
    if (f.id == 1) c->elsewhere = true;
    if (f.id == 8) c->encrypted = true;
    cft_thrift_skip(t, f.type);
  }
}

static cft_status set_chunk(const cft_parquet *f, pq_chunk *chunk, const column *c) {
  static const char *const codecs[] = {"none",   "SNAPPY", "GZIP", "LZO",
                                       "BROTLI", "LZ4",    "ZSTD", "LZ4_RAW"};
  if (c->encrypted) return cft_fail(CFT_E_UNSUPPORTED, "it is encrypted, which is not read");
  if (c->elsewhere)
    return cft_fail(CFT_E_UNSUPPORTED, "a column lies in another file, which is not read");
  if (!c->present) return pq_fail(chunk, "the footer does not say where it is");
  if (c->type != (int64_t)chunk->node->type)
    return pq_fail(chunk, "it has type %lld, the schema says %d", (long long)c->type,
                   (int)chunk->node->type);
  if (c->refused >= 0)
    return cft_fail(CFT_E_UNSUPPORTED, "column %s is encoded by %s, which is not read",
                    QUOTED(chunk->node->path), pq_encoding_name(c->refused));
  if (c->codec != PQ_PLAIN && c->codec != PQ_SNAPPY && c->codec != PQ_GZIP && c->codec != PQ_ZSTD)
    return cft_fail(CFT_E_UNSUPPORTED,
                    "column %s is compressed by %s; read are SNAPPY, GZIP and ZSTD",
                    QUOTED(chunk->node->path),
                    c->codec > 0 && c->codec < 8 ? codecs[c->codec] : "an unknown codec");
  chunk->codec = (pq_codec)c->codec;
  chunk->values = c->values;
  if (c->values == 0) return CFT_OK;  // no pages, and then no place for them
  bool dictionary_first = c->dictionary_at > 0 && c->dictionary_at < c->data_at;
  int64_t at = dictionary_first ? c->dictionary_at : c->data_at;
  if (at < 4 || c->bytes < 0 || at > f->bytes || c->bytes > f->bytes - at)
    return pq_fail(chunk, "%lld bytes from byte %lld on are not in a file of %lld bytes",
                   (long long)c->bytes, (long long)at, (long long)f->bytes);
  if (c->values < 0) return pq_fail(chunk, "it has %lld values", (long long)c->values);
  chunk->next = chunk->at = at;
  chunk->end = at + c->bytes;
  return CFT_OK;
}

static cft_status read_chunks(cft_parquet *f, cft_thrift *t, int type, int64_t number) {
  pq_group *group = &f->groups[number];
  int kind;
  int64_t n = cft_thrift_list(t, type, &kind);
  if (t->problem) return damaged(t);
  if (n != f->leaf_count || kind != CFT_THRIFT_STRUCT || group->chunks)
    return cft_fail(CFT_E_FORMAT, "row group %lld has %lld columns, the schema %d",
                    (long long)number, (long long)n, f->leaf_count);
  group->chunks = calloc((size_t)n, sizeof *group->chunks);
  if (!group->chunks) return cft_fail(CFT_E_OOM, "no memory for its row groups");
  for (int i = 0; i < f->leaf_count; ++i) {
    column c;
    read_column(t, &c);
    if (t->problem) return damaged(t);
    group->chunks[i] = (pq_chunk){.node = f->leaves[i], .group = number};
    CFT_TRY(set_chunk(f, &group->chunks[i], &c));
  }
  return CFT_OK;
}

static cft_status read_group(cft_parquet *f, cft_thrift *t, int64_t number) {
  pq_group *group = &f->groups[number];
  group->rows = -1;
  cft_thrift_field field = {0};
  while (cft_thrift_next(t, &field)) {
    if (field.id == 1)
      CFT_TRY(read_chunks(f, t, field.type, number));
    else if (field.id == 3)
      group->rows = cft_thrift_int(t, field.type);
    else
      cft_thrift_skip(t, field.type);
  }
  if (t->problem) return damaged(t);
  if (group->rows < 0 || !group->chunks || group->rows > INT64_MAX - f->rows)
    return cft_fail(CFT_E_FORMAT, "row group %lld has no columns, or no number of rows",
                    (long long)number);
  group->first = f->rows;
  f->rows += group->rows;
  for (int i = 0; i < f->leaf_count; ++i) {
    pq_chunk *c = &group->chunks[i];
    c->rows = group->rows;
    if (c->values < c->rows || (c->node->rep == 0 && c->values != c->rows))
      return pq_fail(c, "it has %lld values for %lld rows", (long long)c->values,
                     (long long)c->rows);
  }
  return CFT_OK;
}

static cft_status read_groups(cft_parquet *f, cft_thrift *t, int type) {
  int kind;
  int64_t n = cft_thrift_list(t, type, &kind);
  if (t->problem) return damaged(t);
  if (!f->nodes || f->groups || (n && kind != CFT_THRIFT_STRUCT))
    return cft_fail(CFT_E_FORMAT, "its footer is damaged: row groups are not where they belong");
  f->groups = calloc((size_t)n + 1, sizeof *f->groups);
  if (!f->groups) return cft_fail(CFT_E_OOM, "no memory for %lld row groups", (long long)n);
  f->group_count = n;
  for (int64_t i = 0; i < n; ++i) CFT_TRY(read_group(f, t, i));
  return CFT_OK;
}

// ---- the whole ---------------------------------------------------------------------------------

static cft_status read_file(cft_parquet *f, cft_thrift *t) {
  int64_t rows = -1;
  cft_thrift_field field = {0};
  while (cft_thrift_next(t, &field)) {
    switch (field.id) {
      case 2: CFT_TRY(read_schema(f, t, field.type)); break;
      case 3: rows = cft_thrift_int(t, field.type); break;
      case 4: CFT_TRY(read_groups(f, t, field.type)); break;
      case 8: return cft_fail(CFT_E_UNSUPPORTED, "it is encrypted, which is not read");
      default: cft_thrift_skip(t, field.type);
    }
  }
  if (t->problem) return damaged(t);
  if (!f->groups) return cft_fail(CFT_E_FORMAT, "its footer has no row groups");
  if (rows != f->rows)
    return cft_fail(CFT_E_FORMAT, "it has %lld rows, its row groups %lld", (long long)rows,
                    (long long)f->rows);
  return CFT_OK;
}

cft_status pq_footer_read(cft_parquet *f) {
  uint8_t tail[8];
  if (f->bytes < 12)
    return cft_fail(CFT_E_FORMAT, "%lld bytes are no whole Parquet file", (long long)f->bytes);
  CFT_TRY(pq_read(f, f->bytes - 8, tail, 8));
  if (memcmp(tail + 4, "PARE", 4) == 0)
    return cft_fail(CFT_E_UNSUPPORTED, "it is encrypted, which is not read");
  if (memcmp(tail + 4, "PAR1", 4) != 0)
    return cft_fail(CFT_E_FORMAT, "it does not end in PAR1: cut short, or no Parquet file");
  uint32_t bytes = (uint32_t)tail[0] | (uint32_t)tail[1] << 8 | (uint32_t)tail[2] << 16 |
                   (uint32_t)tail[3] << 24;
  if (bytes > f->bytes - 12 || bytes > PQ_FOOTER_BYTES)
    return cft_fail(CFT_E_FORMAT, "its footer has %lu bytes, the file %lld", (unsigned long)bytes,
                    (long long)f->bytes);
  uint8_t *footer = malloc((size_t)bytes + 1);
  if (!footer)
    return cft_fail(CFT_E_OOM, "no memory for a footer of %lu bytes", (unsigned long)bytes);
  cft_status st = pq_read(f, f->bytes - 8 - (int64_t)bytes, footer, bytes);
  cft_thrift t = {.at = footer, .end = footer + bytes};
  if (st == CFT_OK) st = read_file(f, &t);
  free(footer);
  return st;
}
