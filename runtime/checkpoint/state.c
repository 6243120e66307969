// state.c - nested values and arrays in msgpack: what a run needs to go on, by name.
//
// The file is {"cft_state": 1, "state": VALUE}. An array is a map of its own, which no map of the
// caller's can be mistaken for: {"$array": dtype, "dims": [...], "data": [pieces...]}; in pieces,
// since msgpack counts no more than 4 GiB.
//
// Written with msgpack-c. Read by hand: its unpacker takes memory for as many items as a count
// claims before it has seen one, so that nine hostile bytes could ask for 100 GB; and a walk over
// the mapped file needs no tree.
#include <inttypes.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "cft_checkpoint.h"
#include "util/file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays lie in files as in memory");

enum { DEEP = 64, VERSION = 1, PIECE_BYTES = 64 << 20 };

static const char magic_key[] = "cft_state", state_key[] = "state", array_key[] = "$array";
static const char dims_key[] = "dims", data_key[] = "data";

// The bytes that dims and dtype make; false for what can be no array.
static bool bytes_of(const cft_array *a, uint64_t *bytes) {
  *bytes = cft_dtype_bytes(a->dtype);
  if (*bytes == 0 || a->ndim < 0 || a->ndim > CFT_ARRAY_DIMS) return false;
  for (int d = 0; d < a->ndim; ++d)
    if (a->dims[d] < 0 || __builtin_mul_overflow(*bytes, (uint64_t)a->dims[d], bytes)) return false;
  return true;
}

// ---- writing -------------------------------------------------------------------------------

struct cft_state_writer {
  cft_writer *file;  // NULL: into memory
  char *memory;
  size_t bytes, room;
  char *path;
  msgpack_packer packer;
  cft_status failed;
  struct open {      // maps and lists that are not complete, the innermost last
    bool map, key;   // key: the next value is one
    int64_t left;    // values (of a map: entries)
  } open[DEEP + 1];  // the first stands for the file, which is one value
  int deep;
  uint64_t array_left, piece_left;  // bytes of the array that is being written
  bool held;                        // what is emitted stays where it is
};

static cft_status emit_to_memory(cft_state_writer *w, const char *data, size_t bytes) {
  if (bytes > w->room - w->bytes) {
    size_t room = 2 * (w->bytes + bytes);
    char *memory = realloc(w->memory, room);
    if (!memory) return cft_fail(CFT_E_OOM, "write %s: out of memory", w->path);
    w->memory = memory;
    w->room = room;
  }
  memcpy(w->memory + w->bytes, data, bytes);
  w->bytes += bytes;
  return CFT_OK;
}

// msgpack-c hands its bytes to this; what goes wrong is kept until the call that caused it ends.
static int emit(void *context, const char *data, size_t bytes) {
  cft_state_writer *w = context;
  if (!w->file) {
    if (!w->failed) w->failed = emit_to_memory(w, data, bytes);
    return w->failed ? -1 : 0;
  }
  if (!w->failed)
    w->failed = (w->held ? cft_writer_put_held : cft_writer_put)(w->file, data, bytes);
  return w->failed ? -1 : 0;
}

static void pack_text(msgpack_packer *p, const char *text, size_t bytes) {
  msgpack_pack_str(p, bytes);
  msgpack_pack_str_body(p, text, bytes);
}

#define PACK_NAME(p, name) pack_text(p, name, sizeof(name) - 1)

static cft_status writer_new(cft_state_writer **out, cft_save *save, const char *path,
                             bool in_memory) {
  cft_status st = CFT_OK;
  cft_state_writer *w = calloc(1, sizeof *w);
  if (w) w->path = strdup(path);
  if (!w || !w->path) CFT_GO(cft_fail(CFT_E_OOM, "write %s: out of memory", path));
  if (!in_memory) CFT_GO(cft_writer_new(&w->file, save, path));
  msgpack_packer_init(&w->packer, w, emit);
  msgpack_pack_map(&w->packer, 2);
  PACK_NAME(&w->packer, magic_key);
  msgpack_pack_int(&w->packer, VERSION);
  PACK_NAME(&w->packer, state_key);
  CFT_GO(w->failed);
  w->open[w->deep++] = (struct open){.left = 1};
  *out = w;
  w = NULL;
out:
  cft_state_writer_release(w);
  return st;
}

cft_status cft_state_writer_new(cft_state_writer **out, cft_save *save, const char *path) {
  return writer_new(out, save, path, false);
}

cft_status cft_state_writer_memory(cft_state_writer **out, const char *label) {
  return writer_new(out, NULL, label, true);
}

void cft_state_writer_bytes(const cft_state_writer *w, const void **data, size_t *bytes) {
  *data = w->memory;
  *bytes = w->bytes;
}

void cft_state_writer_release(cft_state_writer *w) {
  if (!w) return;
  free(w->memory);
  cft_writer_release(w->file);
  free(w->path);
  free(w);
}

// May a value (or a key) come now? Counts it if so, and leaves what is complete with it.
static cft_status expect(cft_state_writer *w, bool string) {
  if (w->failed) return cft_fail(w->failed, "write %s: an earlier write failed", w->path);
  if (w->array_left)
    return cft_fail(CFT_E_STATE, "write %s: an array lacks %" PRIu64 " bytes", w->path,
                    w->array_left);
  while (w->deep && w->open[w->deep - 1].left == 0) --w->deep;
  if (w->deep == 0) return cft_fail(CFT_E_STATE, "write %s: the state is complete", w->path);
  struct open *top = &w->open[w->deep - 1];
  if (top->map && top->key && !string)
    return cft_fail(CFT_E_ARG, "write %s: a map's keys are strings", w->path);
  if (top->map && top->key) {
    top->key = false;
  } else {
    --top->left;
    top->key = top->map;
  }
  return CFT_OK;
}

static cft_status begin(cft_state_writer *w, bool map, int64_t count) {
  if (count < 0 || count > UINT32_MAX)
    return cft_fail(CFT_E_ARG, "write %s: %" PRId64 " items in one place", w->path, count);
  CFT_TRY(expect(w, false));
  if (w->deep == DEEP + 1)
    return w->failed =
               cft_fail(CFT_E_ARG, "write %s: more than %d values in each other", w->path, DEEP);
  w->open[w->deep++] = (struct open){.map = map, .key = map, .left = count};
  if (map)
    msgpack_pack_map(&w->packer, (size_t)count);
  else
    msgpack_pack_array(&w->packer, (size_t)count);
  return w->failed;
}

cft_status cft_state_put_map(cft_state_writer *w, int64_t entries) {
  return begin(w, true, entries);
}

cft_status cft_state_put_list(cft_state_writer *w, int64_t items) { return begin(w, false, items); }

// One value by one call of msgpack-c.
#define PUT(call)            \
  CFT_TRY(expect(w, false)); \
  (void)(call);              \
  return w->failed

cft_status cft_state_put_nil(cft_state_writer *w) { PUT(msgpack_pack_nil(&w->packer)); }

cft_status cft_state_put_bool(cft_state_writer *w, bool value) {
  PUT(value ? msgpack_pack_true(&w->packer) : msgpack_pack_false(&w->packer));
}

cft_status cft_state_put_int(cft_state_writer *w, int64_t value) {
  PUT(msgpack_pack_int64(&w->packer, value));
}

cft_status cft_state_put_uint(cft_state_writer *w, uint64_t value) {
  PUT(msgpack_pack_uint64(&w->packer, value));
}

cft_status cft_state_put_double(cft_state_writer *w, double value) {
  PUT(msgpack_pack_double(&w->packer, value));
}

cft_status cft_state_put_string(cft_state_writer *w, const char *text, size_t bytes) {
  if (bytes > UINT32_MAX)
    return cft_fail(CFT_E_ARG, "write %s: a string of %zu bytes", w->path, bytes);
  const struct open *top = w->deep ? &w->open[w->deep - 1] : NULL;
  if (top && top->map && top->key && bytes == sizeof array_key - 1 &&
      memcmp(text, array_key, bytes) == 0)
    return cft_fail(CFT_E_ARG, "write %s: the key '%s' is reserved", w->path, array_key);
  CFT_TRY(expect(w, true));
  pack_text(&w->packer, text, bytes);
  return w->failed;
}

cft_status cft_state_put_array(cft_state_writer *w, const cft_array *a) {
  uint64_t bytes;
  if (!bytes_of(a, &bytes) || bytes != a->bytes)
    return cft_fail(CFT_E_ARG, "write %s: an array of %zu bytes, which its shape does not give",
                    w->path, a->bytes);
  CFT_TRY(expect(w, false));
  const char *dtype = cft_dtype_name(a->dtype);
  msgpack_packer *p = &w->packer;
  msgpack_pack_map(p, 3);
  PACK_NAME(p, array_key);
  pack_text(p, dtype, strlen(dtype));
  PACK_NAME(p, dims_key);
  msgpack_pack_array(p, (size_t)a->ndim);
  for (int d = 0; d < a->ndim; ++d) msgpack_pack_int64(p, a->dims[d]);
  PACK_NAME(p, data_key);
  msgpack_pack_array(p, (size_t)((bytes + PIECE_BYTES - 1) / PIECE_BYTES));
  w->array_left = bytes;
  w->piece_left = 0;
  return w->failed;
}

static cft_status put_data(cft_state_writer *w, const void *data, size_t bytes, bool held) {
  if (bytes > w->array_left)
    return cft_fail(CFT_E_ARG, "write %s: %zu bytes for an array that has %" PRIu64 " left",
                    w->path, bytes, w->array_left);
  for (const char *at = data; bytes > 0;) {
    if (w->piece_left == 0) {
      w->piece_left = w->array_left < PIECE_BYTES ? w->array_left : PIECE_BYTES;
      msgpack_pack_bin(&w->packer, w->piece_left);
    }
    size_t n = bytes < w->piece_left ? bytes : w->piece_left;
    w->held = held;
    msgpack_pack_bin_body(&w->packer, at, n);
    w->held = false;
    if (w->failed) return w->failed;
    at += n;
    bytes -= n;
    w->piece_left -= n;
    w->array_left -= n;
  }
  return CFT_OK;
}

cft_status cft_state_put_data(cft_state_writer *w, const void *data, size_t bytes) {
  return put_data(w, data, bytes, false);
}

cft_status cft_state_put_held(cft_state_writer *w, const void *data, size_t bytes) {
  return put_data(w, data, bytes, true);
}

cft_status cft_state_writer_commit(cft_state_writer *w) {
  while (w->deep && w->open[w->deep - 1].left == 0) --w->deep;
  if (w->deep || w->array_left)
    return cft_fail(CFT_E_STATE, "write %s: the state is not complete", w->path);
  return w->file ? cft_writer_commit(w->file) : w->failed;
}

// ---- reading: one token -------------------------------------------------------------------

enum token_kind { NIL, BOOL, INT, UINT, DOUBLE, STRING, BINARY, LIST, MAP };

struct token {
  enum token_kind kind;
  uint64_t number;       // BOOL, INT (as two's complement), UINT
  double real;           // DOUBLE
  const uint8_t *bytes;  // STRING, BINARY
  uint64_t count;        // of bytes, items or entries
};

// A place in the file that moves forward.
struct walk {
  const char *path;
  const uint8_t *begin, *at, *end;
};

struct cft_state_reader {
  char *path;
  cft_mapping map;  // empty where the buffer is the caller's
  struct walk walk;
};

static cft_status fail_at(const struct walk *w, const uint8_t *at, const char *what) {
  return cft_fail(CFT_E_FORMAT, "%s, byte %td: %s", w->path, at - w->begin, what);
}

// A big-endian number of 1, 2, 4 or 8 bytes.
static uint64_t big_endian(const uint8_t *p, int bytes) {
  uint64_t x = 0;
  for (int i = 0; i < bytes; ++i) x = x << 8 | p[i];
  return x;
}

// What each first byte from 0xc0 to 0xdf announces: a kind, and how many bytes of number or count
// follow. Before and after that range kind and count share the byte.
static const struct {
  signed char kind;  // -1: none of ours (unused, extensions)
  signed char bytes;
} announced[32] = {
    {NIL, 0},    {-1, 0},     {BOOL, 0},   {BOOL, 0},    // c0: nil, never used, false, true
    {BINARY, 1}, {BINARY, 2}, {BINARY, 4}, {-1, 0},      // c4: bin 8 16 32, ext 8
    {-1, 0},     {-1, 0},     {DOUBLE, 4}, {DOUBLE, 8},  // c8: ext 16 32, float 32 64
    {UINT, 1},   {UINT, 2},   {UINT, 4},   {UINT, 8},    // cc
    {INT, 1},    {INT, 2},    {INT, 4},    {INT, 8},     // d0
    {-1, 0},     {-1, 0},     {-1, 0},     {-1, 0},      // d4: fixext
    {-1, 0},     {STRING, 1}, {STRING, 2}, {STRING, 4},  // d8: fixext 16, str 8 16 32
    {LIST, 2},   {LIST, 4},   {MAP, 2},    {MAP, 4},     // dc
};

// The token at w->at; moves behind it, and behind a string's or binary's bytes.
static cft_status next_token(struct walk *w, struct token *t) {
  const uint8_t *start = w->at;
  if (start == w->end) return fail_at(w, start, "is cut short");
  uint8_t first = *w->at++;
  *t = (struct token){0};
  if (first < 0x80 || first >= 0xe0) {  // small integers
    t->kind = INT;
    t->number = (uint64_t)(int64_t)(int8_t)first;
    return CFT_OK;
  }
  if (first < 0xc0) {  // small map, list, string
    t->kind = first < 0x90 ? MAP : first < 0xa0 ? LIST : STRING;
    t->count = first & (t->kind == STRING ? 31 : 15);
  } else {
    int kind = announced[first - 0xc0].kind, bytes = announced[first - 0xc0].bytes;
    if (kind < 0) return fail_at(w, start, "a msgpack type that no state has");
    if (w->end - w->at < bytes) return fail_at(w, start, "is cut short");
    uint64_t x = big_endian(w->at, bytes);
    w->at += bytes;
    t->kind = (enum token_kind)kind;
    if (kind == BOOL) {
      t->number = first == 0xc3;
    } else if (kind == UINT) {
      t->number = x;
      if (x <= INT64_MAX) t->kind = INT;
    } else if (kind == INT) {
      uint64_t sign = bytes == 8 ? 0 : x >> (8 * bytes - 1) & 1;
      t->number = sign ? x | ~(uint64_t)0 << (8 * bytes) : x;
    } else if (kind == DOUBLE && bytes == 4) {
      uint32_t bits = (uint32_t)x;
      float f;
      memcpy(&f, &bits, sizeof f);
      t->real = f;
    } else if (kind == DOUBLE) {
      memcpy(&t->real, &x, sizeof x);
    } else {
      t->count = x;
    }
  }
  // Every byte, item and half of an entry needs a byte of the file.
  if (t->kind >= STRING && t->count > (uint64_t)(w->end - w->at) / (t->kind == MAP ? 2 : 1))
    return fail_at(w, start, "is cut short");
  t->bytes = w->at;
  if (t->kind == STRING || t->kind == BINARY) w->at += t->count;
  return CFT_OK;
}

static bool is_name(const struct token *t, const char *name) {
  return t->kind == STRING && t->count == strlen(name) && memcmp(t->bytes, name, t->count) == 0;
}

// ---- reading: arrays ------------------------------------------------------------------------

static bool dtype_named(const struct token *t, cft_dtype *dtype) {
  for (*dtype = 0; cft_dtype_bytes(*dtype) > 0; ++*dtype)
    if (is_name(t, cft_dtype_name(*dtype))) return true;
  return false;
}

// Behind the key "$array", up to the pieces; w->at is then at the first. *pieces counts them.
static cft_status array_head(struct walk *w, cft_array *a, uint64_t *pieces) {
  struct token t = {0};
  *a = (cft_array){.name = ""};
  const uint8_t *start = w->at;
  CFT_TRY(next_token(w, &t));
  if (!dtype_named(&t, &a->dtype)) return fail_at(w, start, "an array of no known dtype");
  CFT_TRY(next_token(w, &t));
  if (!is_name(&t, dims_key)) return fail_at(w, start, "an array without dims");
  CFT_TRY(next_token(w, &t));
  if (t.kind != LIST || t.count > CFT_ARRAY_DIMS)
    return fail_at(w, start, "an array whose dims are no list, or too many");
  a->ndim = (int)t.count;
  for (int d = 0; d < CFT_ARRAY_DIMS; ++d) a->dims[d] = 1;
  for (int d = 0; d < a->ndim; ++d) {
    CFT_TRY(next_token(w, &t));
    a->dims[d] = t.kind == INT ? (int64_t)t.number : -1;
  }
  uint64_t bytes;
  if (!bytes_of(a, &bytes)) return fail_at(w, start, "an array of an impossible shape");
  a->bytes = bytes;
  CFT_TRY(next_token(w, &t));
  if (!is_name(&t, data_key)) return fail_at(w, start, "an array without data");
  CFT_TRY(next_token(w, &t));
  if (t.kind != LIST) return fail_at(w, start, "an array whose data is no list");
  *pieces = t.count;
  return CFT_OK;
}

// The whole array behind the key "$array": its pieces must add up to its shape.
static cft_status take_array(struct walk *w, cft_array *a) {
  const uint8_t *start = w->at;
  uint64_t pieces = 0, bytes = 0;
  CFT_TRY(array_head(w, a, &pieces));
  for (uint64_t i = 0; i < pieces; ++i) {
    struct token t = {0};
    CFT_TRY(next_token(w, &t));
    if (t.kind != BINARY) return fail_at(w, start, "an array with a piece that is not binary");
    bytes += t.count;  // no overflow: the pieces lie in the file
  }
  if (bytes != a->bytes)
    return cft_fail(CFT_E_FORMAT,
                    "%s, byte %td: an array of %" PRIu64 " bytes, its shape wants %zu", w->path,
                    start - w->begin, bytes, a->bytes);
  return CFT_OK;
}

// Is the map of `entries` that begins at w->at an array? If so, move behind its first key.
static bool at_array(struct walk *w, uint64_t entries) {
  const uint8_t *start = w->at;
  struct token t = {0};
  if (entries == 3 && next_token(w, &t) == CFT_OK && is_name(&t, array_key)) return true;
  w->at = start;
  return false;
}

// ---- reading: the walk ----------------------------------------------------------------------

// One value, and all that is in it: everything that later calls rely on.
static cft_status check_value(struct walk *w, bool key, int deep) {
  const uint8_t *start = w->at;
  struct token t = {0};
  CFT_TRY(next_token(w, &t));
  if (key && t.kind != STRING) return fail_at(w, start, "a key that is no string");
  if (t.kind == BINARY) return fail_at(w, start, "binary data outside of an array");
  if (t.kind != LIST && t.kind != MAP) return CFT_OK;
  if (deep == DEEP) return fail_at(w, start, "values too deep in each other");
  if (t.kind == MAP && at_array(w, t.count)) {
    cft_array array;
    return take_array(w, &array);
  }
  for (uint64_t i = 0; i < t.count; ++i) {
    if (t.kind == MAP) CFT_TRY(check_value(w, true, deep + 1));
    CFT_TRY(check_value(w, false, deep + 1));
  }
  return CFT_OK;
}

// The envelope, the value in it, and nothing behind.
static cft_status check_file(struct walk *w) {
  struct token map = {0}, key = {0}, version = {0};
  if (w->begin == w->end) return cft_fail(CFT_E_FORMAT, "%s: is empty", w->path);
  cft_status st = next_token(w, &map);
  if (st == CFT_OK && map.kind == MAP && map.count == 2) st = next_token(w, &key);
  if (st != CFT_OK || map.kind != MAP || map.count != 2 || !is_name(&key, magic_key))
    return cft_fail(CFT_E_FORMAT, "%s: is no state file of cft", w->path);
  CFT_TRY(next_token(w, &version));
  if (version.kind != INT || version.number != VERSION)
    return cft_fail(CFT_E_UNSUPPORTED, "%s: is state of a version that is not %d", w->path,
                    VERSION);
  const uint8_t *start = w->at;
  CFT_TRY(next_token(w, &key));
  if (!is_name(&key, state_key)) return fail_at(w, start, "is not the key 'state'");
  const uint8_t *value = w->at;
  CFT_TRY(check_value(w, false, 0));
  if (w->at != w->end) return fail_at(w, w->at, "something behind the end of the state");
  w->at = value;
  return CFT_OK;
}

// From a file, or from the caller's bytes where there are some.
static cft_status read_from(cft_state_reader **out, const char *path, const cft_mapping *given) {
  cft_status st;
  cft_state_reader *r = calloc(1, sizeof *r);
  if (r) r->path = strdup(path);
  if (!r || !r->path) CFT_GO(cft_fail(CFT_E_OOM, "open %s: out of memory", path));
  if (!given) CFT_GO(cft_file_map(&r->map, path));
  const cft_mapping *file = given ? given : &r->map;
  const uint8_t *begin = file->data ? file->data : (const uint8_t *)"";
  r->walk = (struct walk){r->path, begin, begin, begin + file->bytes};
  CFT_GO(check_file(&r->walk));
  *out = r;
  r = NULL;
out:
  cft_state_release(r);
  return st;
}

cft_status cft_state_open(cft_state_reader **out, const char *path) {
  return read_from(out, path, NULL);
}

cft_status cft_state_parse(cft_state_reader **out, const void *data, size_t bytes,
                           const char *label) {
  return read_from(out, label, &(cft_mapping){(void *)(uintptr_t)data, bytes});
}

void cft_state_release(cft_state_reader *r) {
  if (!r) return;
  cft_file_unmap(&r->map);
  free(r->path);
  free(r);
}

void cft_state_next(cft_state_reader *r, cft_state_item *out) {
  struct walk *w = &r->walk;
  struct token t = {0};
  *out = (cft_state_item){.kind = CFT_STATE_END, .at = (uint64_t)(w->at - w->begin)};
  if (w->at == w->end || next_token(w, &t) != CFT_OK) return;
  switch (t.kind) {
    case NIL: out->kind = CFT_STATE_NIL; break;
    case BOOL:
      out->kind = CFT_STATE_BOOL;
      out->boolean = t.number != 0;
      break;
    case INT:
      out->kind = CFT_STATE_INT;
      out->integer = (int64_t)t.number;
      break;
    case UINT:
      out->kind = CFT_STATE_UINT;
      out->natural = t.number;
      break;
    case DOUBLE:
      out->kind = CFT_STATE_DOUBLE;
      out->number = t.real;
      break;
    case STRING:
    case BINARY:  // check_value lets none through
      out->kind = CFT_STATE_STRING;
      out->string = (const char *)t.bytes;
      out->bytes = t.count;
      break;
    case LIST:
      out->kind = CFT_STATE_LIST;
      out->count = (int64_t)t.count;
      break;
    case MAP:
      out->kind = CFT_STATE_MAP;
      out->count = (int64_t)t.count;
      if (at_array(w, t.count)) {
        out->kind = CFT_STATE_ARRAY;
        (void)take_array(w, &out->array);
      }
      break;
  }
}

cft_status cft_state_data(const cft_state_reader *r, const cft_state_item *array, uint64_t from,
                          void *out, size_t bytes) {
  struct walk w = r->walk;  // the reader's own place stays
  struct token t = {0};
  cft_array a;
  uint64_t pieces = 0;
  if (array->kind != CFT_STATE_ARRAY || array->at >= (uint64_t)(w.end - w.begin))
    return cft_fail(CFT_E_ARG, "%s: the item is no array", r->path);
  w.at = w.begin + array->at;
  CFT_TRY(next_token(&w, &t));
  if (t.kind != MAP || !at_array(&w, t.count))
    return cft_fail(CFT_E_ARG, "%s: the item is no array of this file", r->path);
  CFT_TRY(array_head(&w, &a, &pieces));
  if (from > a.bytes || bytes > a.bytes - from)
    return cft_fail(CFT_E_ARG, "%s: bytes %" PRIu64 " to %" PRIu64 " of an array of %zu", r->path,
                    from, from + bytes, a.bytes);
  for (uint64_t i = 0, at = 0; bytes > 0 && i < pieces; ++i, at += t.count) {
    CFT_TRY(next_token(&w, &t));
    if (from >= at + t.count) continue;
    uint64_t skip = from - at, n = t.count - skip < bytes ? t.count - skip : bytes;
    memcpy(out, t.bytes + skip, n);
    out = (char *)out + n;
    from += n;
    bytes -= n;
  }
  return CFT_OK;
}
