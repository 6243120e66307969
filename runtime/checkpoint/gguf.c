// gguf.c - llama.cpp's file of weights, vocabulary and hyper-parameters, read.
//
// A file is: "GGUF", u32 version, u64 tensors, u64 values; the values (key, type, value); the
// tensors' descriptions (name, dims from the innermost out, type, offset); padding; the data.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cft_checkpoint.h"
#include "checkpoint/dequant.h"
#include "util/file.h"
#include "util/names.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers lie in files as in memory");

enum { DIMS = 4, LISTS_DEEP = 4, NAME_LIMIT = 65535, DEFAULT_ALIGNMENT = 32 };

enum value_type { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, LIST, U64, I64, F64, VALUE_TYPES };

// Bytes of a value of fixed size; 0 for strings and lists.
static const uint8_t value_bytes[VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

struct value {
  char *key;
  uint32_t type;
  const uint8_t *at;        // of a string or list: behind its type and length
  uint64_t count;           // of a string: bytes; of a list: items
  uint32_t item;            // of a list: the items' type
  const uint8_t **strings;  // of a list of strings: where each begins, at its length
};

struct tensor {
  char *name;
  uint64_t dims[DIMS];  // outermost first
  int ndim;
  uint32_t type_id;
  const cft_ggml_type *type;  // NULL where unknown
  const uint8_t *data;
  size_t bytes;
};

struct cft_gguf {
  char *path;
  cft_mapping map;  // empty where the buffer is the caller's
  struct value *values;
  struct tensor *tensors;
  int64_t value_count, tensor_count;
  cft_name *values_by_key, *tensors_by_name;  // sorted
};

// ---- a place in the file that moves forward --------------------------------------------------

struct cursor {
  const char *path;
  const uint8_t *begin, *at, *end;
};

static cft_status fail_at(const struct cursor *c, const char *what) {
  return cft_fail(CFT_E_FORMAT, "%s, byte %td: %s", c->path, c->at - c->begin, what);
}

static cft_status take(struct cursor *c, const uint8_t **out, uint64_t bytes) {
  if (bytes > (uint64_t)(c->end - c->at))
    return cft_fail(CFT_E_FORMAT, "%s, byte %td: is cut short: %" PRIu64 " bytes wanted, %td left",
                    c->path, c->at - c->begin, bytes, c->end - c->at);
  *out = c->at;
  c->at += bytes;
  return CFT_OK;
}

static cft_status take_u32(struct cursor *c, uint32_t *out) {
  const uint8_t *p = NULL;
  CFT_TRY(take(c, &p, sizeof *out));
  memcpy(out, p, sizeof *out);
  return CFT_OK;
}

static cft_status take_u64(struct cursor *c, uint64_t *out) {
  const uint8_t *p = NULL;
  CFT_TRY(take(c, &p, sizeof *out));
  memcpy(out, p, sizeof *out);
  return CFT_OK;
}

// A name: a string that becomes one of C.
static cft_status take_name(struct cursor *c, char **out) {
  uint64_t bytes;
  const uint8_t *text = NULL;
  CFT_TRY(take_u64(c, &bytes));
  CFT_TRY(take(c, &text, bytes));
  if (bytes > NAME_LIMIT) return fail_at(c, "a name of more than 65535 bytes");
  if (memchr(text, 0, bytes)) return fail_at(c, "a name has a NUL in it");
  *out = strndup((const char *)text, bytes);
  return *out ? CFT_OK : cft_fail(CFT_E_OOM, "open %s: out of memory", c->path);
}

// ---- values ----------------------------------------------------------------------------------

static cft_status take_value(struct cursor *c, struct value *v, uint32_t type, int deep);

// Items of no fixed size are walked once; where the strings of the outermost list begin is kept.
static cft_status take_list(struct cursor *c, struct value *v, int deep) {
  CFT_TRY(take_u32(c, &v->item));
  CFT_TRY(take_u64(c, &v->count));
  if (v->item >= VALUE_TYPES) return fail_at(c, "a list of an unknown type");
  if (deep == LISTS_DEEP) return fail_at(c, "lists too deep in each other");
  // The least that an item takes: a string has a length, a list a type and a length.
  uint64_t least = v->item == STRING ? 8 : v->item == LIST ? 12 : value_bytes[v->item];
  if (v->count > (uint64_t)(c->end - c->at) / least)
    return cft_fail(CFT_E_FORMAT, "%s, byte %td: is cut short: a list of %" PRIu64 " items",
                    c->path, c->at - c->begin, v->count);
  if (value_bytes[v->item]) return take(c, &v->at, v->count * least);
  v->at = c->at;
  if (v->item == STRING && deep == 0 && v->count) {
    v->strings = malloc(v->count * sizeof *v->strings);
    if (!v->strings) return cft_fail(CFT_E_OOM, "open %s: out of memory", c->path);
  }
  for (uint64_t i = 0; i < v->count; ++i) {
    struct value item = {0};
    if (v->strings) v->strings[i] = c->at;
    CFT_TRY(take_value(c, &item, v->item, deep + 1));
  }
  return CFT_OK;
}

static cft_status take_value(struct cursor *c, struct value *v, uint32_t type, int deep) {
  v->type = type;
  if (type >= VALUE_TYPES) return fail_at(c, "a value of an unknown type");
  if (type == LIST) return take_list(c, v, deep);
  v->count = value_bytes[type];
  if (type == STRING) CFT_TRY(take_u64(c, &v->count));
  return take(c, &v->at, v->count);
}

static cft_status take_entry(struct cursor *c, struct value *v) {
  uint32_t type;
  CFT_TRY(take_name(c, &v->key));
  CFT_TRY(take_u32(c, &type));
  return cft_context(take_value(c, v, type, 0), "value %s", QUOTED(v->key));
}

// What the caller sees of a value of fixed size or a string.
static void show(cft_gguf_value *out, uint32_t type, const uint8_t *at, uint64_t count) {
#define READ(kind_, field, T) \
  {                           \
    T x;                      \
    memcpy(&x, at, sizeof x); \
    out->kind = kind_;        \
    out->field = x;           \
    break;                    \
  }
  switch ((enum value_type)type) {
    case U8: READ(CFT_GGUF_INT, integer, uint8_t)
    case I8: READ(CFT_GGUF_INT, integer, int8_t)
    case U16: READ(CFT_GGUF_INT, integer, uint16_t)
    case I16: READ(CFT_GGUF_INT, integer, int16_t)
    case U32: READ(CFT_GGUF_INT, integer, uint32_t)
    case I32: READ(CFT_GGUF_INT, integer, int32_t)
    case I64: READ(CFT_GGUF_INT, integer, int64_t)
    case F64: READ(CFT_GGUF_FLOAT, number, double)
    case F32: out->single = true; READ(CFT_GGUF_FLOAT, number, float)
    case U64: {
      uint64_t x;
      memcpy(&x, at, sizeof x);
      out->kind = x <= INT64_MAX ? CFT_GGUF_INT : CFT_GGUF_FLOAT;
      out->integer = x <= INT64_MAX ? (int64_t)x : 0;
      out->number = (double)x;
      break;
    }
    case BOOL:
      out->kind = CFT_GGUF_BOOL;
      out->integer = *at != 0;
      break;
    case STRING:
      out->kind = CFT_GGUF_STRING;
      out->string = (const char *)at;
      out->bytes = count;
      break;
    case LIST:
    case VALUE_TYPES: break;
  }
#undef READ
}

int64_t cft_gguf_value_count(const cft_gguf *g) { return g->value_count; }

cft_status cft_gguf_value_at(const cft_gguf *g, int64_t i, cft_gguf_value *out) {
  if (i < 0 || i >= g->value_count)
    return cft_fail(CFT_E_ARG, "%s: value %" PRId64 " of %" PRId64, g->path, i, g->value_count);
  const struct value *v = &g->values[i];
  *out = (cft_gguf_value){.key = v->key};
  if (v->type == LIST) {
    out->kind = CFT_GGUF_LIST;
    out->count = (int64_t)v->count;
    out->list = v;
  } else {
    show(out, v->type, v->at, v->count);
  }
  return CFT_OK;
}

cft_status cft_gguf_item(const cft_gguf *g, const cft_gguf_value *list, int64_t i,
                         cft_gguf_value *out) {
  if (list->kind != CFT_GGUF_LIST || !list->list)
    return cft_fail(CFT_E_ARG, "%s: %s is no list", g->path, QUOTED(list->key ? list->key : "?"));
  const struct value *v = list->list;
  if (i < 0 || (uint64_t)i >= v->count)
    return cft_fail(CFT_E_ARG, "%s: %s: item %" PRId64 " of %" PRIu64, g->path, QUOTED(v->key), i,
                    v->count);
  *out = (cft_gguf_value){0};
  if (v->item == LIST)
    return cft_fail(CFT_E_UNSUPPORTED, "%s: %s is a list of lists", g->path, QUOTED(v->key));
  if (v->item == STRING) {
    uint64_t bytes;
    memcpy(&bytes, v->strings[i], sizeof bytes);
    show(out, STRING, v->strings[i] + sizeof bytes, bytes);
  } else {
    show(out, v->item, v->at + (uint64_t)i * value_bytes[v->item], 0);
  }
  return CFT_OK;
}

// ---- tensors ---------------------------------------------------------------------------------

// A description; data is set to its offset until the data's place is known.
static cft_status take_tensor(struct cursor *c, struct tensor *t, uint64_t *offset) {
  CFT_TRY(take_name(c, &t->name));
  uint32_t ndim;
  CFT_TRY(take_u32(c, &ndim));
  if (ndim > DIMS)
    return cft_fail(CFT_E_FORMAT, "%s: tensor %s has %" PRIu32 " dimensions, at most %d", c->path,
                    QUOTED(t->name), ndim, DIMS);
  t->ndim = (int)ndim;
  for (int d = t->ndim - 1; d >= 0; --d) CFT_TRY(take_u64(c, &t->dims[d]));
  CFT_TRY(take_u32(c, &t->type_id));
  t->type = cft_ggml_type_of(t->type_id);
  return take_u64(c, offset);
}

// The bytes of a tensor's data, by its dims and type.
static cft_status size_tensor(const char *path, struct tensor *t) {
  uint64_t count = 1, columns = t->ndim ? t->dims[t->ndim - 1] : 1,
           block = (uint64_t)t->type->block;
  for (int d = 0; d < t->ndim; ++d)
    if (t->dims[d] > INT64_MAX || __builtin_mul_overflow(count, t->dims[d], &count))
      return cft_fail(CFT_E_FORMAT, "%s: tensor %s has an impossible shape", path, QUOTED(t->name));
  if (columns % block != 0)
    return cft_fail(CFT_E_FORMAT,
                    "%s: tensor %s has rows of %" PRIu64 ", no multiple of %s's block of %" PRIu64,
                    path, QUOTED(t->name), columns, t->type->name, block);
  if (__builtin_mul_overflow(count / block, (uint64_t)t->type->bytes, &t->bytes))
    return cft_fail(CFT_E_FORMAT, "%s: tensor %s has an impossible shape", path, QUOTED(t->name));
  return CFT_OK;
}

// Where a tensor's data is. Of a type that is not known, only that it begins in the file.
static cft_status place_tensor(const struct cursor *c, struct tensor *t, uint64_t offset,
                               uint64_t alignment) {
  uint64_t room = (uint64_t)(c->end - c->at);
  if (t->type) CFT_TRY(size_tensor(c->path, t));
  if (offset % alignment != 0)
    return cft_fail(CFT_E_FORMAT, "%s: tensor %s lies at %" PRIu64 ", no multiple of %" PRIu64,
                    c->path, QUOTED(t->name), offset, alignment);
  if (offset > room || t->bytes > room - offset)
    return cft_fail(CFT_E_FORMAT,
                    "%s: is cut short: tensor %s is bytes %" PRIu64 " to %" PRIu64
                    " of the data, but there are %" PRIu64,
                    c->path, QUOTED(t->name), offset, offset + t->bytes, room);
  t->data = c->at + offset;
  return CFT_OK;
}

int64_t cft_gguf_count(const cft_gguf *g) { return g->tensor_count; }

cft_status cft_gguf_at(const cft_gguf *g, int64_t i, cft_gguf_tensor *out) {
  if (i < 0 || i >= g->tensor_count)
    return cft_fail(CFT_E_ARG, "%s: tensor %" PRId64 " of %" PRId64, g->path, i, g->tensor_count);
  const struct tensor *t = &g->tensors[i];
  *out = (cft_gguf_tensor){
      .name = t->name,
      .type = t->type ? t->type->name : "unknown",
      .type_id = (int)t->type_id,
      .data = t->data,
      .bytes = t->bytes,
      .ndim = t->ndim,
      .readable = t->type && t->type->decode,
  };
  for (int d = 0; d < DIMS; ++d) out->dims[d] = d < t->ndim ? (int64_t)t->dims[d] : 1;
  return CFT_OK;
}

cft_status cft_gguf_read(const cft_gguf *g, int64_t i, int64_t row, int64_t rows, int64_t heads,
                         float *out) {
  cft_gguf_tensor info;
  CFT_TRY(cft_gguf_at(g, i, &info));
  const struct tensor *t = &g->tensors[i];
  if (!info.readable)
    return cft_fail(CFT_E_DTYPE, "%s: tensor %s is of type %s (%d), which cft does not read",
                    g->path, QUOTED(t->name), info.type, info.type_id);

  bool vector = t->ndim == 1 && heads > 0;  // a bias of q or k: one element a row
  int64_t columns = vector || t->ndim == 0 ? 1 : info.dims[t->ndim - 1],
          all = vector ? info.dims[0] : 1;
  for (int d = 0; d < t->ndim - 1; ++d) all *= info.dims[d];
  if (row < 0 || rows < 0 || row > all || rows > all - row)
    return cft_fail(CFT_E_ARG, "%s: tensor %s: rows %" PRId64 " to %" PRId64 " of %" PRId64,
                    g->path, QUOTED(t->name), row, row + rows, all);
  if (columns % t->type->block != 0 || heads < 0 || (heads > 0 && all % (2 * heads) != 0))
    return cft_fail(CFT_E_SHAPE,
                    "%s: tensor %s of %" PRId64 " rows is not %" PRId64 " heads of pairs", g->path,
                    QUOTED(t->name), all, heads);

  int64_t blocks = columns / t->type->block, row_bytes = blocks * t->type->bytes;
  if (heads == 0) {
    t->type->decode(out, t->data + row * row_bytes, rows * blocks);
    return CFT_OK;
  }
  int64_t d = all / heads;
  for (int64_t r = row; r < row + rows; ++r, out += columns) {
    int64_t in_head = r % d, half = in_head / (d / 2), pair = in_head % (d / 2);
    int64_t from = r - in_head + 2 * pair + half;
    t->type->decode(out, t->data + from * row_bytes, blocks);
  }
  return CFT_OK;
}

// ---- names -----------------------------------------------------------------------------------

// Sort names for look-ups; E_FORMAT where one comes twice.
static cft_status sort_names(const cft_gguf *g, cft_name *names, int64_t count) {
  cft_name_sort(names, count);
  for (int64_t i = 1; i < count; ++i)
    if (strcmp(names[i - 1].name, names[i].name) == 0)
      return cft_fail(CFT_E_FORMAT, "%s: the name %s comes twice", g->path, QUOTED(names[i].name));
  return CFT_OK;
}

bool cft_gguf_find_value(const cft_gguf *g, const char *key, cft_gguf_value *out) {
  int64_t i = cft_name_find(g->values_by_key, g->value_count, key);
  return i >= 0 && cft_gguf_value_at(g, i, out) == CFT_OK;
}

int64_t cft_gguf_index(const cft_gguf *g, const char *name) {
  return cft_name_find(g->tensors_by_name, g->tensor_count, name);
}

// ---- the file --------------------------------------------------------------------------------

// Magic, version, and how many of each follow.
static cft_status take_counts(struct cursor *c, uint64_t *tensors, uint64_t *values) {
  const uint8_t *magic = NULL;
  uint32_t version;
  CFT_TRY(take(c, &magic, 4));
  if (memcmp(magic, "GGUF", 4) != 0)
    return cft_fail(CFT_E_FORMAT, "%s: no GGUF file: it does not begin with \"GGUF\"", c->path);
  CFT_TRY(take_u32(c, &version));
  if ((version & 0xffff) == 0)
    return cft_fail(CFT_E_UNSUPPORTED, "%s: is a big-endian GGUF file", c->path);
  if (version != 2 && version != 3)
    return cft_fail(CFT_E_UNSUPPORTED, "%s: is GGUF version %" PRIu32 "; 2 and 3 are read", c->path,
                    version);
  CFT_TRY(take_u64(c, tensors));
  CFT_TRY(take_u64(c, values));
  // No more than fit into the file: a value is 13 bytes at least, a tensor's description 24.
  uint64_t room = (uint64_t)(c->end - c->at);
  if (*values > room / 13 || *tensors > room / 24)
    return cft_fail(CFT_E_FORMAT,
                    "%s: is cut short: %" PRIu64 " values and %" PRIu64 " tensors in %" PRIu64
                    " bytes",
                    c->path, *values, *tensors, room);
  return CFT_OK;
}

// The values; one of them may set the alignment.
static cft_status take_values(struct cursor *c, cft_gguf *g, uint64_t count, uint64_t *alignment) {
  g->values = calloc(count + 1, sizeof *g->values);
  if (!g->values) return cft_fail(CFT_E_OOM, "open %s: out of memory", g->path);
  for (uint64_t i = 0; i < count; ++i) {
    const struct value *v = &g->values[i];
    ++g->value_count;  // so that release frees its key
    CFT_TRY(take_entry(c, &g->values[i]));
    if (strcmp(v->key, "general.alignment") != 0) continue;
    cft_gguf_value shown;
    CFT_TRY(cft_gguf_value_at(g, (int64_t)i, &shown));
    *alignment = shown.kind == CFT_GGUF_INT ? (uint64_t)shown.integer : 0;
    if (*alignment == 0 || *alignment > 1 << 20 || (*alignment & (*alignment - 1)) != 0)
      return cft_fail(CFT_E_FORMAT, "%s: general.alignment is no power of two", g->path);
  }
  return CFT_OK;
}

static cft_status take_tensors(struct cursor *c, cft_gguf *g, uint64_t count, uint64_t alignment) {
  cft_status st = CFT_OK;
  uint64_t *offsets = malloc((count + 1) * sizeof *offsets);
  g->tensors = calloc(count + 1, sizeof *g->tensors);
  if (!offsets || !g->tensors) CFT_GO(cft_fail(CFT_E_OOM, "open %s: out of memory", g->path));
  for (uint64_t i = 0; i < count; ++i) {
    ++g->tensor_count;  // so that release frees its name
    CFT_GO(take_tensor(c, &g->tensors[i], &offsets[i]));
  }
  const uint8_t *padding;
  uint64_t past = (uint64_t)(c->at - c->begin) % alignment;
  if (count && past) CFT_GO(take(c, &padding, alignment - past));
  for (uint64_t i = 0; i < count; ++i)
    CFT_GO(place_tensor(c, &g->tensors[i], offsets[i], alignment));
out:
  free(offsets);
  return st;
}

static cft_status parse(cft_gguf *g, const void *data, size_t bytes) {
  struct cursor c = {g->path, data, data, data ? (const uint8_t *)data + bytes : NULL};
  uint64_t tensors = 0, values = 0, alignment = DEFAULT_ALIGNMENT;
  CFT_TRY(take_counts(&c, &tensors, &values));
  CFT_TRY(take_values(&c, g, values, &alignment));
  CFT_TRY(take_tensors(&c, g, tensors, alignment));
  g->values_by_key = malloc((values + 1) * sizeof *g->values_by_key);
  g->tensors_by_name = malloc((tensors + 1) * sizeof *g->tensors_by_name);
  if (!g->values_by_key || !g->tensors_by_name)
    return cft_fail(CFT_E_OOM, "open %s: out of memory", g->path);
  for (int64_t i = 0; i < g->value_count; ++i)
    g->values_by_key[i] = (cft_name){g->values[i].key, i};
  for (int64_t i = 0; i < g->tensor_count; ++i)
    g->tensors_by_name[i] = (cft_name){g->tensors[i].name, i};
  CFT_TRY(sort_names(g, g->values_by_key, g->value_count));
  return sort_names(g, g->tensors_by_name, g->tensor_count);
}

// From a file, or from the caller's bytes where there are some.
static cft_status read_from(cft_gguf **out, const char *path, const cft_mapping *given) {
  cft_status st;
  cft_gguf *g = calloc(1, sizeof *g);
  if (g) g->path = strdup(path);
  if (!g || !g->path) CFT_GO(cft_fail(CFT_E_OOM, "open %s: out of memory", path));
  if (!given) CFT_GO(cft_file_map(&g->map, path));
  CFT_GO(given ? parse(g, given->data, given->bytes) : parse(g, g->map.data, g->map.bytes));
  *out = g;
  g = NULL;
out:
  cft_gguf_release(g);
  return st;
}

cft_status cft_gguf_open(cft_gguf **out, const char *path) { return read_from(out, path, NULL); }

cft_status cft_gguf_parse(cft_gguf **out, const void *data, size_t bytes, const char *label) {
  return read_from(out, label, &(cft_mapping){(void *)(uintptr_t)data, bytes});
}

void cft_gguf_release(cft_gguf *g) {
  if (!g) return;
  for (int64_t i = 0; i < g->value_count; ++i) {
    free(g->values[i].key);
    free(g->values[i].strings);
  }
  for (int64_t i = 0; i < g->tensor_count; ++i) free(g->tensors[i].name);
  free(g->values);
  free(g->tensors);
  free(g->values_by_key);
  free(g->tensors_by_name);
  cft_file_unmap(&g->map);
  free(g->path);
  free(g);
}
