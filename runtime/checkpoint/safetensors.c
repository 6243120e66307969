// safetensors.c - tensors in Hugging Face's files: read one or all shards.
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors_types.h"
#include "util/file.h"
#include "util/names.h"

enum { INDEX_LIMIT = 100000000 };

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
  const cft_safetensors_type *type = cft_safetensors_type_named(json_string_value(dtype));
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
  if (bytes < CFT_SAFETENSORS_LENGTH)
    return cft_fail(CFT_E_FORMAT, "%s: is %zu bytes, too short for a safetensors file", p->path,
                    bytes);
  memcpy(&length, file, CFT_SAFETENSORS_LENGTH);
  if (length > CFT_SAFETENSORS_HEADER_LIMIT)
    return cft_fail(CFT_E_FORMAT,
                    "%s: no safetensors file: its header would be %" PRIu64 " bytes, at most %d",
                    p->path, length, CFT_SAFETENSORS_HEADER_LIMIT);
  if (length > bytes - CFT_SAFETENSORS_LENGTH)
    return cft_fail(CFT_E_FORMAT,
                    "%s: is cut short: the header needs %" PRIu64 " bytes, the file has %zu",
                    p->path, length + CFT_SAFETENSORS_LENGTH, bytes);
  const char *text = (const char *)file + CFT_SAFETENSORS_LENGTH;
  if (length == 0 || *text != '{')
    return cft_fail(CFT_E_FORMAT, "%s: no safetensors file: byte 8 is not '{'", p->path);
  json_error_t error;
  p->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
  if (!p->header)
    return json_failure(p->path, "byte", CFT_SAFETENSORS_LENGTH + error.position, &error);
  CFT_TRY(check_metadata(p));
  return add_entries(s, part, file + CFT_SAFETENSORS_LENGTH + length,
                     bytes - CFT_SAFETENSORS_LENGTH - length);
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
  const cft_safetensors_type *type = cft_safetensors_type_named(dtype);
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
