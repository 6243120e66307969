// safetensors_write.c - tensors in Hugging Face's files: written in one piece or several, in one
// file or in shards with an index.
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors_types.h"
#include "util/file.h"
#include "util/names.h"

struct planned {  // one array, where it goes
  char *name;
  const cft_safetensors_type *type;
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
  p->type = cft_safetensors_type_of(a->dtype);
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
  cft_name *names = malloc((size_t)w->count * sizeof *names);
  if (!names) return cft_fail(CFT_E_OOM, "write %s: out of memory", w->path);
  for (int64_t i = 0; i < w->count; ++i) names[i] = (cft_name){w->plan[i].name, i};
  cft_name_sort(names, w->count);
  cft_status st = CFT_OK;
  for (int64_t i = 1; st == CFT_OK && i < w->count; ++i)
    if (strcmp(names[i - 1].name, names[i].name) == 0)
      st = cft_fail(CFT_E_ARG, "write %s: the name %s comes twice", w->path, QUOTED(names[i].name));
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
  if (length > CFT_SAFETENSORS_HEADER_LIMIT)
    CFT_GO(cft_fail(CFT_E_ARG, "write %s: the header would be %zu bytes, at most %d", path, length,
                    CFT_SAFETENSORS_HEADER_LIMIT));
  CFT_GO(cft_writer_new(&w->file, w->save, path));
  CFT_GO(cft_writer_reserve(w->file, CFT_SAFETENSORS_LENGTH + length + data));
  CFT_GO(cft_writer_put(w->file, &(uint64_t){length}, CFT_SAFETENSORS_LENGTH));
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
