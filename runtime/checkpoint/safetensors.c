// safetensors.c - tensors in Hugging Face's files: read one or all shards, write one or shards.
//
// A file is: u64 length of the header, the header (JSON, padded with spaces), the data.
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cft_checkpoint.h"
#include "util/file.h"
#include "util/names.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors lie in files as in memory");

enum {
  LENGTH_BYTES = 8,
  HEADER_LIMIT = 100000000,  // as in the reference reader
  INDEX_LIMIT = 100000000,
};

// Every type of the format, in its order: a writer puts later ones first.
static const struct type {
  const char *name;
  int bits;
  int dtype;  // cft_dtype, or -1
} types[] = {
    {"BOOL", 8, -1},      {"F4", 4, -1},          {"F6_E2M3", 6, -1},     {"F6_E3M2", 6, -1},
    {"U8", 8, CFT_U8},    {"I8", 8, -1},          {"F8_E5M2", 8, -1},     {"F8_E4M3", 8, -1},
    {"F8_E8M0", 8, -1},   {"F8_E4M3FNUZ", 8, -1}, {"F8_E5M2FNUZ", 8, -1}, {"I16", 16, -1},
    {"U16", 16, -1},      {"F16", 16, CFT_F16},   {"BF16", 16, CFT_BF16}, {"I32", 32, CFT_I32},
    {"U32", 32, -1},      {"F32", 32, CFT_F32},   {"C64", 64, -1},        {"F64", 64, CFT_F64},
    {"I64", 64, CFT_I64}, {"U64", 64, -1},
};
enum { TYPES = sizeof types / sizeof *types };

static const struct type *type_named(const char *name) {
  for (int i = 0; i < TYPES; ++i)
    if (strcmp(types[i].name, name) == 0) return &types[i];
  return NULL;
}

static const struct type *type_of(cft_dtype dtype) {
  for (int i = 0; i < TYPES; ++i)
    if (types[i].dtype == (int)dtype) return &types[i];
  return NULL;
}

// ---- reading -------------------------------------------------------------------------------

// What jansson could not do, at a place in a file. It leaves the text empty where memory ran out.
static cft_status json_failure(const char *path, const char *unit, int at,
                               const json_error_t *error) {
  if (json_error_code(error) == json_error_out_of_memory || *error->text == '\0')
    return cft_fail(CFT_E_OOM, "open %s: out of memory", path);
  return cft_fail(CFT_E_FORMAT, "%s, %s %d: %s", path, unit, at, QUOTED(error->text));
}

struct part {  // one file
  char *path;
  cft_mapping map;  // empty where the buffer is the caller's
  json_t *header;   // owns names and shapes
};

struct entry {
  const char *name;
  json_t *info;
  const uint8_t *data;
  size_t bytes;
  int part;
};

struct cft_safetensors {
  atomic_int refs;
  struct part *parts;
  int part_count;
  struct entry *entries;  // file order
  int64_t count;
  cft_name *by_name;  // of entries, sorted
};

// A tensor's two offsets into the data of its file; false where they are malformed.
static bool offsets_of(const json_t *info, uint64_t *begin, uint64_t *end) {
  const json_t *offsets = json_object_get(info, "data_offsets");
  if (!json_is_array(offsets) || json_array_size(offsets) != 2) return false;
  const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
  if (!json_is_integer(b) || !json_is_integer(e)) return false;
  if (json_integer_value(b) < 0 || json_integer_value(e) < json_integer_value(b)) return false;
  *begin = (uint64_t)json_integer_value(b);
  *end = (uint64_t)json_integer_value(e);
  return true;
}

// In the order of their data; of tensors at one place the empty ones first.
static int by_offset(const void *a, const void *b) {
  const struct entry *x = a, *y = b;
  if (x->data != y->data) return x->data < y->data ? -1 : 1;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
  return strcmp(x->name, y->name);
}

// The product of dims in `shape` times bits, in bytes; false on overflow, a part of a byte or a
// dim that is not one.
static bool bytes_of(const json_t *shape, int bits, uint64_t *bytes) {
  uint64_t count = 1;
  for (size_t i = 0; i < json_array_size(shape); ++i) {
    const json_t *dim = json_array_get(shape, i);
    if (!json_is_integer(dim) || json_integer_value(dim) < 0) return false;
    if (__builtin_mul_overflow(count, (uint64_t)json_integer_value(dim), &count)) return false;
  }
  if (__builtin_mul_overflow(count, (uint64_t)bits, &count) || count % 8 != 0) return false;
  *bytes = count / 8;
  return true;
}

// What one tensor's description says by itself.
static cft_status check_info(const char *path, const struct entry *e) {
  const json_t *dtype = json_object_get(e->info, "dtype");
  const json_t *shape = json_object_get(e->info, "shape");
  if (!json_is_string(dtype) || !json_is_array(shape))
    return cft_fail(CFT_E_FORMAT, "%s: tensor %s has no dtype or no shape", path, QUOTED(e->name));
  const struct type *type = type_named(json_string_value(dtype));
  if (!type) return CFT_OK;  // of a later version: an error for whoever asks for this tensor
  uint64_t bytes;
  if (!bytes_of(shape, type->bits, &bytes))
    return cft_fail(CFT_E_FORMAT, "%s: tensor %s has an impossible shape", path, QUOTED(e->name));
  if (bytes != e->bytes)
    return cft_fail(CFT_E_FORMAT, "%s: tensor %s has %zu bytes, expected %" PRIu64 " by its shape",
                    path, QUOTED(e->name), e->bytes, bytes);
  return CFT_OK;
}

// Append the tensors of a header. The reference reader's rule: sorted by offset they cover the data
// from its first byte to the end of the file, without hole or overlap.
static cft_status add_entries(cft_safetensors *s, int part, const uint8_t *data, uint64_t bytes) {
  const char *path = s->parts[part].path;
  json_t *header = s->parts[part].header, *info;
  size_t room = (size_t)s->count + json_object_size(header);
  struct entry *entries = realloc(s->entries, (room + 1) * sizeof *entries);
  if (!entries) return cft_fail(CFT_E_OOM, "open %s: out of memory", path);
  s->entries = entries;

  struct entry *first = entries + s->count, *end = first;
  const char *name;
  json_object_foreach(header, name, info) {
    if (strcmp(name, "__metadata__") == 0) continue;
    uint64_t b, e;
    if (!offsets_of(info, &b, &e))
      return cft_fail(CFT_E_FORMAT, "%s: tensor %s has no valid data_offsets", path, QUOTED(name));
    if (e > bytes)
      return cft_fail(CFT_E_FORMAT,
                      "%s: is cut short: tensor %s ends at byte %" PRIu64
                      " of the data, but the file has %" PRIu64,
                      path, QUOTED(name), e, bytes);
    *end++ =
        (struct entry){.name = name, .info = info, .data = data + b, .bytes = e - b, .part = part};
  }
  int64_t added = end - first;
  if (added) qsort(first, (size_t)added, sizeof *first, by_offset);

  const uint8_t *at = data;
  for (const struct entry *e = first; e < end; at = e->data + e->bytes, ++e) {
    if (e->data != at)
      return cft_fail(
          CFT_E_FORMAT, "%s: tensor %s begins at byte %td of the data, expected %td (%s)", path,
          QUOTED(e->name), e->data - data, at - data, e->data < at ? "overlap" : "hole");
    CFT_TRY(check_info(path, e));
  }
  if (at != data + bytes)
    return cft_fail(CFT_E_FORMAT, "%s: the data is %" PRIu64 " bytes, its tensors %td", path, bytes,
                    at - data);
  s->count += added;
  return CFT_OK;
}

// `__metadata__` is a map from strings to strings.
static cft_status check_metadata(const struct part *part) {
  const json_t *metadata = json_object_get(part->header, "__metadata__"), *value;
  const char *key;
  if (!metadata) return CFT_OK;
  if (!json_is_object(metadata))
    return cft_fail(CFT_E_FORMAT, "%s: __metadata__ is no object", part->path);
  json_object_foreach((json_t *)metadata, key, value) {
    if (!json_is_string(value))
      return cft_fail(CFT_E_FORMAT, "%s: __metadata__ %s is no string", part->path, QUOTED(key));
  }
  return CFT_OK;
}

// One file's bytes into part `part` of s.
static cft_status parse_part(cft_safetensors *s, int part, const uint8_t *file, size_t bytes) {
  struct part *p = &s->parts[part];
  uint64_t length;
  if (bytes < LENGTH_BYTES)
    return cft_fail(CFT_E_FORMAT, "%s: is %zu bytes, too short for a safetensors file", p->path,
                    bytes);
  memcpy(&length, file, LENGTH_BYTES);
  if (length > HEADER_LIMIT)
    return cft_fail(CFT_E_FORMAT,
                    "%s: no safetensors file: its header would be %" PRIu64 " bytes, at most %d",
                    p->path, length, HEADER_LIMIT);
  if (length > bytes - LENGTH_BYTES)
    return cft_fail(CFT_E_FORMAT,
                    "%s: is cut short: the header needs %" PRIu64 " bytes, the file has %zu",
                    p->path, length + LENGTH_BYTES, bytes);
  const char *text = (const char *)file + LENGTH_BYTES;
  if (length == 0 || *text != '{')
    return cft_fail(CFT_E_FORMAT, "%s: no safetensors file: byte 8 is not '{'", p->path);
  json_error_t error;
  p->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
  if (!p->header) return json_failure(p->path, "byte", LENGTH_BYTES + error.position, &error);
  CFT_TRY(check_metadata(p));
  return add_entries(s, part, file + LENGTH_BYTES + length, bytes - LENGTH_BYTES - length);
}

static cft_status sort_names(cft_safetensors *s) {
  s->by_name = malloc(((size_t)s->count + 1) * sizeof *s->by_name);
  if (!s->by_name) return cft_fail(CFT_E_OOM, "open %s: out of memory", s->parts[0].path);
  for (int64_t i = 0; i < s->count; ++i) s->by_name[i] = (cft_name){s->entries[i].name, i};
  cft_name_sort(s->by_name, s->count);
  return CFT_OK;
}

// A reader with room for `parts` files.
static cft_status reader_new(cft_safetensors **out, int parts, const char *path) {
  cft_safetensors *s = calloc(1, sizeof *s);
  if (s) s->parts = calloc((size_t)parts, sizeof *s->parts);
  if (!s || !s->parts) {
    free(s);
    return cft_fail(CFT_E_OOM, "open %s: out of memory", path);
  }
  atomic_init(&s->refs, 1);
  *out = s;
  return CFT_OK;
}

// Add a part: a file, which is mapped, or the caller's bytes where there are some.
static cft_status add_part(cft_safetensors *s, const char *path, const cft_mapping *given) {
  struct part *p = &s->parts[s->part_count];
  p->path = strdup(path);
  if (!p->path) return cft_fail(CFT_E_OOM, "open %s: out of memory", path);
  ++s->part_count;  // from here on, release cleans it up
  if (!given) CFT_TRY(cft_file_map(&p->map, path));
  const cft_mapping *file = given ? given : &p->map;
  return parse_part(s, s->part_count - 1, file->data, file->bytes);
}

static cft_status open_one(cft_safetensors **out, const char *path, const cft_mapping *given) {
  cft_safetensors *s = NULL;
  cft_status st;
  CFT_GO(reader_new(&s, 1, path));
  CFT_GO(add_part(s, path, given));
  CFT_GO(sort_names(s));
  *out = s;
  s = NULL;
out:
  cft_safetensors_release(s);
  return st;
}

// Read the index: a map from tensor to shard.
static cft_status load_index(json_t **out, json_t **map, const char *path) {
  cft_mapping file;
  CFT_TRY(cft_file_map(&file, path));
  cft_status st = CFT_OK;
  json_error_t error;
  json_t *index = NULL;
  if (file.bytes > INDEX_LIMIT)
    CFT_GO(cft_fail(CFT_E_FORMAT, "%s: is %zu bytes, too many for an index", path, file.bytes));
  index = json_loadb(file.data ? file.data : "", file.bytes, JSON_REJECT_DUPLICATES, &error);
  if (!index) CFT_GO(json_failure(path, "line", error.line, &error));
  *map = json_object_get(index, "weight_map");
  if (!json_is_object(*map) || json_object_size(*map) == 0)
    CFT_GO(cft_fail(CFT_E_FORMAT, "%s: has no weight_map", path));
  *out = index;
  index = NULL;
out:
  json_decref(index);
  cft_file_unmap(&file);
  return st;
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// The shards that an index names, each once, sorted; borrowed from the index.
static cft_status shard_names(const char ***out, int *count, json_t *map, const char *path) {
  size_t n = 0;
  const char *name, **shards = malloc(json_object_size(map) * sizeof *shards);
  if (!shards) return cft_fail(CFT_E_OOM, "open %s: out of memory", path);
  json_t *value;
  json_object_foreach(map, name, value) {
    const char *shard = json_string_value(value);
    if (!shard || strchr(shard, '/') || *shard == '\0' || *shard == '.') {
      free(shards);
      return cft_fail(CFT_E_FORMAT, "%s: tensor %s: %s is no file name", path, QUOTED(name),
                      QUOTED(shard ? shard : "?"));
    }
    shards[n++] = shard;
  }
  qsort(shards, n, sizeof *shards, by_text);
  *count = 0;
  for (size_t i = 0; i < n; ++i)
    if (*count == 0 || strcmp(shards[*count - 1], shards[i]) != 0) shards[(*count)++] = shards[i];
  *out = shards;
  return CFT_OK;
}

// The index and the shards must say the same: every tensor of the one is in the other.
static cft_status check_index(cft_safetensors *s, json_t *map, const char *path) {
  for (int64_t i = 0; i < s->count; ++i) {
    const struct entry *e = &s->entries[i];
    const char *file = strrchr(s->parts[e->part].path, '/') + 1;
    const char *shard = json_string_value(json_object_get(map, e->name));
    if (!shard || strcmp(shard, file) != 0)
      return cft_fail(CFT_E_FORMAT, "%s: shard %s has tensor %s, but the index has it in %s", path,
                      file, QUOTED(e->name), shard ? QUOTED(shard) : "none");
  }
  const char *name;
  json_t *value;
  json_object_foreach(map, name, value) {
    if (cft_safetensors_index(s, name) < 0)
      return cft_fail(CFT_E_FORMAT, "%s: tensor %s is missing from shard %s", path, QUOTED(name),
                      QUOTED(json_string_value(value)));
  }
  return CFT_OK;
}

static cft_status open_shards(cft_safetensors **out, const char *folder, const char *index_path) {
  cft_safetensors *s = NULL;
  json_t *index = NULL, *map;
  const char **shards = NULL;
  char *path = NULL;
  int count = 0;
  cft_status st;
  CFT_GO(load_index(&index, &map, index_path));
  CFT_GO(shard_names(&shards, &count, map, index_path));
  CFT_GO(reader_new(&s, count, folder));
  for (int i = 0; i < count; ++i) {
    free(path);
    path = cft_format("%s/%s", folder, shards[i]);
    if (!path) CFT_GO(cft_fail(CFT_E_OOM, "open %s: out of memory", folder));
    if (cft_path_look(path, NULL) == CFT_PATH_NONE)
      CFT_GO(cft_fail(CFT_E_IO, "%s: shard %s is missing", index_path, QUOTED(shards[i])));
    CFT_GO(add_part(s, path, NULL));
  }
  CFT_GO(sort_names(s));
  CFT_GO(check_index(s, map, index_path));
  *out = s;
  s = NULL;
out:
  cft_safetensors_release(s);
  json_decref(index);
  free(shards);
  free(path);
  return st;
}

static cft_status open_folder(cft_safetensors **out, const char *folder) {
  char *one = cft_format("%s/model.safetensors", folder);
  char *index = cft_format("%s/model.safetensors.index.json", folder);
  char *bin = cft_format("%s/pytorch_model.bin", folder);
  cft_status st;
  if (!one || !index || !bin) {
    st = cft_fail(CFT_E_OOM, "open %s: out of memory", folder);
  } else if (cft_path_look(one, NULL) != CFT_PATH_NONE) {
    st = open_one(out, one, NULL);
  } else if (cft_path_look(index, NULL) != CFT_PATH_NONE) {
    st = open_shards(out, folder, index);
  } else {
    bool pickled = cft_path_look(bin, NULL) != CFT_PATH_NONE;
    st = cft_fail(CFT_E_IO, "%s: has no model.safetensors and no model.safetensors.index.json%s",
                  folder,
                  pickled ? "; its pytorch_model.bin is not read: a pickle may run any code" : "");
  }
  free(one);
  free(index);
  free(bin);
  return st;
}

cft_status cft_safetensors_open(cft_safetensors **out, const char *path) {
  bool folder = cft_path_look(path, NULL) == CFT_PATH_FOLDER;
  return folder ? open_folder(out, path) : open_one(out, path, NULL);
}

cft_status cft_safetensors_parse(cft_safetensors **out, const void *data, size_t bytes,
                                 const char *label) {
  return open_one(out, label, &(cft_mapping){(void *)(uintptr_t)data, bytes});
}

cft_safetensors *cft_safetensors_retain(cft_safetensors *s) {
  atomic_fetch_add(&s->refs, 1);
  return s;
}

void cft_safetensors_release(cft_safetensors *s) {
  if (!s || atomic_fetch_sub(&s->refs, 1) > 1) return;
  for (int i = 0; i < s->part_count; ++i) {
    json_decref(s->parts[i].header);
    cft_file_unmap(&s->parts[i].map);
    free(s->parts[i].path);
  }
  free(s->parts);
  free(s->entries);
  free(s->by_name);
  free(s);
}

int64_t cft_safetensors_count(const cft_safetensors *s) { return s->count; }

int64_t cft_safetensors_index(const cft_safetensors *s, const char *name) {
  return cft_name_find(s->by_name, s->count, name);
}

cft_status cft_safetensors_at(const cft_safetensors *s, int64_t i, cft_array *out) {
  if (i < 0 || i >= s->count)
    return cft_fail(CFT_E_ARG, "%s: tensor %" PRId64 " of %" PRId64, s->parts[0].path, i, s->count);
  const struct entry *e = &s->entries[i];
  const char *path = s->parts[e->part].path;
  *out = (cft_array){.name = e->name};
  const char *dtype = json_string_value(json_object_get(e->info, "dtype"));
  const json_t *shape = json_object_get(e->info, "shape");
  const struct type *type = type_named(dtype);
  if (!type || type->dtype < 0)
    return cft_fail(CFT_E_DTYPE, "%s: tensor %s is %s, which cft does not read", path,
                    QUOTED(e->name), QUOTED(dtype));
  if (json_array_size(shape) > CFT_ARRAY_DIMS)
    return cft_fail(CFT_E_SHAPE, "%s: tensor %s has %zu dimensions, at most %d are possible", path,
                    QUOTED(e->name), json_array_size(shape), CFT_ARRAY_DIMS);
  out->data = e->data;
  out->bytes = e->bytes;
  out->dtype = (cft_dtype)type->dtype;
  out->ndim = (int)json_array_size(shape);
  for (int d = 0; d < CFT_ARRAY_DIMS; ++d)
    out->dims[d] = d < out->ndim ? json_integer_value(json_array_get(shape, (size_t)d)) : 1;
  out->aligned = (uintptr_t)e->data % ((size_t)type->bits / 8) == 0;
  return CFT_OK;
}

cft_status cft_safetensors_find(const cft_safetensors *s, const char *name, cft_array *out) {
  int64_t i = cft_safetensors_index(s, name);
  if (i < 0) return cft_fail(CFT_E_ARG, "%s: no tensor %s", s->parts[0].path, QUOTED(name));
  return cft_safetensors_at(s, i, out);
}

const char *cft_safetensors_metadata(const cft_safetensors *s, const char *key) {
  const json_t *metadata = json_object_get(s->parts[0].header, "__metadata__");
  return json_string_value(json_object_get(metadata, key));
}

// ---- writing -------------------------------------------------------------------------------

struct planned {  // one array, where it goes
  char *name;
  const struct type *type;
  int64_t dims[CFT_ARRAY_DIMS];
  int ndim;
  size_t bytes;
  int64_t array;  // its place in the caller's list
  int shard;
};

struct cft_safetensors_writer {
  char *path;  // as the caller gave it
  cft_save *save;
  struct planned *plan;  // in the order of writing: by shard, then as the format orders a file
  int64_t count, next;   // next: the array that is being written
  size_t done;           // bytes of it
  int shards, shard;
  cft_writer *file;  // of `shard`; NULL once it has failed or is done
};

// A shard's path: what stands before ".safetensors", and its number.
static char *shard_path(const char *path, int shard, int shards) {
  if (shards == 1) return strdup(path);
  size_t n = strlen(path), tail = strlen(".safetensors");
  bool usual = n > tail && strcmp(path + n - tail, ".safetensors") == 0;
  return cft_format("%.*s-%05d-of-%05d%s", (int)(usual ? n - tail : n), path, shard + 1, shards,
                    usual ? ".safetensors" : "");
}

// A copy of the array's description, checked.
static cft_status plan_array(struct planned *p, const cft_array *a, const char *path) {
  p->type = type_of(a->dtype);
  if (!a->name || strcmp(a->name, "__metadata__") == 0)
    return cft_fail(CFT_E_ARG, "write %s: %s can be no tensor's name", path,
                    QUOTED(a->name ? a->name : "NULL"));
  if (cft_utf8_check(a->name, strlen(a->name)) != strlen(a->name))
    return cft_fail(CFT_E_ARG, "write %s: the name of array %" PRId64 " is no UTF-8", path,
                    p->array);
  if (!p->type)
    return cft_fail(CFT_E_DTYPE, "write %s: %s is of no type of the format", path, QUOTED(a->name));
  if (a->ndim < 0 || a->ndim > CFT_ARRAY_DIMS)
    return cft_fail(CFT_E_ARG, "write %s: %s has %d dimensions, 0 to %d are possible", path,
                    QUOTED(a->name), a->ndim, CFT_ARRAY_DIMS);
  size_t bytes = cft_dtype_bytes(a->dtype);
  for (int d = 0; d < a->ndim; ++d) {
    if (a->dims[d] < 0 || __builtin_mul_overflow(bytes, (size_t)a->dims[d], &bytes))
      return cft_fail(CFT_E_ARG, "write %s: %s has an impossible dimension, %" PRId64, path,
                      QUOTED(a->name), a->dims[d]);
    p->dims[d] = a->dims[d];
  }
  if (bytes != a->bytes)
    return cft_fail(CFT_E_ARG, "write %s: %s has %zu bytes, expected %zu by its shape", path,
                    QUOTED(a->name), a->bytes, bytes);
  p->ndim = a->ndim;
  p->bytes = bytes;
  p->name = strdup(a->name);
  return p->name ? CFT_OK : cft_fail(CFT_E_OOM, "write %s: out of memory", path);
}

// Hugging Face's way to fill shards: in the arrays' order, the next when one would overflow; an
// array that is larger than a shard has one to itself, before the shard that is being filled.
// No arrays still are one file.
static int assign_shards(struct planned *plan, int64_t count, size_t limit) {
  int shards = 0;
  size_t filled = 0;
  int64_t first = 0;  // the arrays from here on that have no shard yet are the one being filled
  for (int64_t i = 0; i < count; ++i) plan[i].shard = -1;
  for (int64_t i = 0; i <= count; ++i) {
    if (i < count && plan[i].bytes > limit) {
      plan[i].shard = shards++;
      continue;
    }
    if (i < count && filled + plan[i].bytes <= limit) {
      filled += plan[i].bytes;
      continue;
    }
    bool any = false;
    for (; first < i; ++first)
      if (plan[first].shard < 0) {
        plan[first].shard = shards;
        any = true;
      }
    shards += any;
    filled = i < count ? plan[i].bytes : 0;
  }
  return shards ? shards : 1;
}

static int by_place(const void *a, const void *b) {
  const struct planned *x = a, *y = b;
  if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
  if (x->type != y->type) return x->type > y->type ? -1 : 1;
  return strcmp(x->name, y->name);
}

// E_ARG where two arrays have one name.
static cft_status check_names(const cft_safetensors_writer *w) {
  if (w->count < 2) return CFT_OK;
  const char **names = malloc((size_t)w->count * sizeof *names);
  if (!names) return cft_fail(CFT_E_OOM, "write %s: out of memory", w->path);
  for (int64_t i = 0; i < w->count; ++i) names[i] = w->plan[i].name;
  qsort(names, (size_t)w->count, sizeof *names, by_text);
  cft_status st = CFT_OK;
  for (int64_t i = 1; st == CFT_OK && i < w->count; ++i)
    if (strcmp(names[i - 1], names[i]) == 0)
      st = cft_fail(CFT_E_ARG, "write %s: the name %s comes twice", w->path, QUOTED(names[i]));
  free(names);
  return st;
}

// {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
static json_t *info_of(const struct planned *p, size_t begin) {
  json_t *shape = json_array();
  for (int d = 0; shape && d < p->ndim; ++d)
    if (json_array_append_new(shape, json_integer(p->dims[d])) != 0) {
      json_decref(shape);
      shape = NULL;
    }
  return json_pack("{s:s, s:o, s:[I,I]}", "dtype", p->type->name, "shape", shape, "data_offsets",
                   (json_int_t)begin, (json_int_t)(begin + p->bytes));
}

// The header's text for the arrays [first, end) of the plan, padded to 8 bytes; *data: their bytes.
static cft_status header_text(char **out, size_t *length, size_t *data, const struct planned *first,
                              const struct planned *end, const char *path) {
  cft_status st = CFT_OK;
  char *text = NULL;
  *data = 0;
  json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
  if (!header) CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
  for (const struct planned *p = first; p < end; *data += p->bytes, ++p) {
    if (json_object_set_new(header, p->name, info_of(p, *data)) != 0)
      CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
  }
  text = json_dumps(header, JSON_COMPACT);
  if (!text) CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
  *length = (strlen(text) + 7) / 8 * 8;
  *out = cft_format("%-*s", (int)*length, text);
  if (!*out) CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
out:
  free(text);
  json_decref(header);
  return st;
}

// Begin the file of the shard that starts with the array `next`: its header.
static cft_status begin_shard(cft_safetensors_writer *w, int shard) {
  const struct planned *first = w->plan + w->next, *end = first;
  while (end < w->plan + w->count && end->shard == shard) ++end;
  char *path = shard_path(w->path, shard, w->shards), *header = NULL;
  if (!path) return cft_fail(CFT_E_OOM, "write %s: out of memory", w->path);
  cft_status st;
  size_t length = 0, data = 0;
  CFT_GO(header_text(&header, &length, &data, first, end, path));
  if (length > HEADER_LIMIT)
    CFT_GO(cft_fail(CFT_E_ARG, "write %s: the header would be %zu bytes, at most %d", path, length,
                    HEADER_LIMIT));
  CFT_GO(cft_writer_new(&w->file, w->save, path));
  CFT_GO(cft_writer_reserve(w->file, LENGTH_BYTES + length + data));
  CFT_GO(cft_writer_put(w->file, &(uint64_t){length}, LENGTH_BYTES));
  CFT_GO(cft_writer_put(w->file, header, length));
  w->shard = shard;
out:
  free(path);
  free(header);
  return st;
}

// Move on to an array that wants bytes: past empty ones, and into the next shard. The last file
// stays open for commit.
static cft_status advance(cft_safetensors_writer *w) {
  while (w->next < w->count) {
    const struct planned *p = &w->plan[w->next];
    if (p->shard != w->shard) {
      CFT_TRY(cft_writer_commit(w->file));
      cft_writer_release(w->file);
      w->file = NULL;
      CFT_TRY(begin_shard(w, p->shard));
    }
    if (w->done < p->bytes) return CFT_OK;
    ++w->next;
    w->done = 0;
  }
  return CFT_OK;
}

cft_status cft_safetensors_writer_new(cft_safetensors_writer **out, cft_save *save,
                                      const char *path, const cft_array *arrays, int64_t count,
                                      int64_t max_shard_bytes) {
  cft_status st = CFT_OK;
  cft_safetensors_writer *w = calloc(1, sizeof *w);
  if (w) w->path = strdup(path);
  if (w) w->plan = calloc((size_t)count + 1, sizeof *w->plan);
  if (!w || !w->path || !w->plan) CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
  w->save = save;
  for (int64_t i = 0; i < count; ++i) {
    w->plan[i].array = i;
    w->count = i + 1;  // so that release frees its name
    CFT_GO(plan_array(&w->plan[i], &arrays[i], path));
  }
  CFT_GO(check_names(w));
  w->shards =
      assign_shards(w->plan, count, max_shard_bytes > 0 ? (size_t)max_shard_bytes : SIZE_MAX);
  if (count) qsort(w->plan, (size_t)count, sizeof *w->plan, by_place);
  CFT_GO(begin_shard(w, 0));
  CFT_GO(advance(w));
  *out = w;
  w = NULL;
out:
  cft_safetensors_writer_release(w);
  return st;
}

int64_t cft_safetensors_writer_next(const cft_safetensors_writer *w) {
  return w->next < w->count ? w->plan[w->next].array : -1;
}

static cft_status put(cft_safetensors_writer *w, const void *data, size_t bytes, bool held) {
  if (bytes == 0) return CFT_OK;
  if (w->next == w->count)
    return cft_fail(CFT_E_ARG, "write %s: %zu bytes more than its arrays have", w->path, bytes);
  const struct planned *p = &w->plan[w->next];
  if (bytes > p->bytes - w->done)
    return cft_fail(CFT_E_ARG, "write %s: %zu bytes for %s, which has %zu left", w->path, bytes,
                    QUOTED(p->name), p->bytes - w->done);
  if (!w->file) return cft_fail(CFT_E_STATE, "write %s: an earlier write failed", w->path);
  CFT_TRY((held ? cft_writer_put_held : cft_writer_put)(w->file, data, bytes));
  w->done += bytes;
  return advance(w);
}

cft_status cft_safetensors_writer_put(cft_safetensors_writer *w, const void *data, size_t bytes) {
  return put(w, data, bytes, false);
}

cft_status cft_safetensors_writer_put_held(cft_safetensors_writer *w, const void *data,
                                           size_t bytes) {
  return put(w, data, bytes, true);
}

// model.safetensors.index.json, as Hugging Face prints it.
static cft_status write_index(const cft_safetensors_writer *w) {
  cft_status st = CFT_OK;
  char *path = NULL, *text = NULL, *shard = NULL;
  json_t *map = json_object(), *index = NULL;
  size_t bytes = 0, parameters = 0;
  for (const struct planned *p = w->plan; p < w->plan + w->count; ++p) {
    free(shard);
    shard = shard_path(w->path, p->shard, w->shards);
    const char *slash = shard ? strrchr(shard, '/') : NULL;
    if (!shard || json_object_set_new(map, p->name, json_string(slash ? slash + 1 : shard)) != 0)
      CFT_GO(cft_fail(CFT_E_OOM, "write the index of %s: out of memory", w->path));
    bytes += p->bytes;
    parameters += p->bytes / ((size_t)p->type->bits / 8);
  }
  index = json_pack("{s:{s:I, s:I}, s:O}", "metadata", "total_parameters", (json_int_t)parameters,
                    "total_size", (json_int_t)bytes, "weight_map", map);
  char *json = index ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
  text = json ? cft_format("%s\n", json) : NULL;
  free(json);
  path = cft_format("%s.index.json", w->path);
  if (!text || !path) CFT_GO(cft_fail(CFT_E_OOM, "write the index of %s: out of memory", w->path));
  CFT_GO(cft_file_write(w->save, path, text, strlen(text)));
out:
  json_decref(map);
  json_decref(index);
  free(shard);
  free(text);
  free(path);
  return st;
}

cft_status cft_safetensors_writer_commit(cft_safetensors_writer *w) {
  if (w->next < w->count)
    return cft_fail(CFT_E_STATE, "write %s: the data of %s is missing", w->path,
                    QUOTED(w->plan[w->next].name));
  if (!w->file) return cft_fail(CFT_E_STATE, "write %s: failed or done already", w->path);
  CFT_TRY(cft_writer_commit(w->file));
  cft_writer_release(w->file);
  w->file = NULL;
  return w->shards > 1 ? write_index(w) : CFT_OK;
}

void cft_safetensors_writer_release(cft_safetensors_writer *w) {
  if (!w) return;
  cft_writer_release(w->file);
  for (int64_t i = 0; i < w->count; ++i) free(w->plan[i].name);
  free(w->plan);
  free(w->path);
  free(w);
}

cft_status cft_safetensors_write(cft_save *save, const char *path, const cft_array *arrays,
                                 int64_t count, int64_t max_shard_bytes) {
  cft_safetensors_writer *w = NULL;
  CFT_TRY(cft_safetensors_writer_new(&w, save, path, arrays, count, max_shard_bytes));
  cft_status st = CFT_OK;
  for (int64_t i; (i = cft_safetensors_writer_next(w)) >= 0;)
    CFT_GO(cft_safetensors_writer_put(w, arrays[i].data, arrays[i].bytes));
  CFT_GO(cft_safetensors_writer_commit(w));
out:
  cft_safetensors_writer_release(w);
  return st;
}
