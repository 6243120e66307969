// json.c - JSON to Lua values and back. lua/cft/base/json.lua is the face and the reference.
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "util/utf8.h"

enum {
  MAX_DEPTH = 512,  // of what is written; jansson's own limit for what is read is 2048
  EXACT_BITS = 53,  // integers up to 2^53 are exact in a double
};

static const char null_key, array_key;  // their addresses are keys in the registry

static void push_registered(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

// ---- reading -----------------------------------------------------------------------------------

// Where in the stack null and the mark of arrays are, and what of the text is kept beside values.
typedef struct reading {
  int null, array;
  bool order;   // the keys of objects, in their order
  bool floats;  // which whole numbers have a point or an exponent
} reading;

static void push_value(lua_State *L, const json_t *value, const reading *r);

static bool is_whole_float(const json_t *value, const reading *r) {
  return r->floats && json_is_real(value) && floor(json_real_value(value)) == json_real_value(value);
}

// Under the key at the top, which goes, put true into the table `floats` of the metatable at `meta`.
static void note_float(lua_State *L, int meta) {
  lua_getfield(L, meta, "floats");
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, meta, "floats");
  }
  lua_insert(L, -2);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

static void push_array(lua_State *L, const json_t *value, const reading *r) {
  size_t n = json_array_size(value);
  int meta = 0;
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; ++i) {
    const json_t *element = json_array_get(value, i);
    if (is_whole_float(element, r)) {
      if (!meta) {
        lua_newtable(L);
        meta = lua_gettop(L);
        lua_pushboolean(L, 1);
        lua_setfield(L, meta, "array");
      }
      lua_pushnumber(L, (lua_Number)(i + 1));
      note_float(L, meta);
    }
    push_value(L, element, r);
    lua_rawseti(L, meta ? -3 : -2, (int)i + 1);
  }
  if (!meta) lua_pushvalue(L, r->array);
  lua_setmetatable(L, -2);
}

static void push_object(lua_State *L, const json_t *value, const reading *r) {
  size_t n = json_object_size(value);
  lua_createtable(L, 0, (int)n);
  int object = lua_gettop(L), meta = object + 1, place = 0;
  if (r->order) {
    lua_newtable(L);
    lua_createtable(L, (int)n, 0);
    lua_setfield(L, meta, "keys");
  }
  const char *key;
  json_t *member;
  json_object_foreach((json_t *)(uintptr_t)value, key, member) {
    if (r->order) {
      lua_getfield(L, meta, "keys");
      lua_pushstring(L, key);
      lua_rawseti(L, -2, ++place);
      lua_pop(L, 1);
      if (is_whole_float(member, r)) {
        lua_pushstring(L, key);
        note_float(L, meta);
      }
    }
    lua_pushstring(L, key);
    push_value(L, member, r);
    lua_rawset(L, object);
  }
  if (r->order) lua_setmetatable(L, object);
}

static void push_value(lua_State *L, const json_t *value, const reading *r) {
  luaL_checkstack(L, 8, "json.decode: nested too deeply");
  switch (json_typeof(value)) {
    case JSON_NULL: lua_pushvalue(L, r->null); break;
    case JSON_TRUE: lua_pushboolean(L, 1); break;
    case JSON_FALSE: lua_pushboolean(L, 0); break;
    case JSON_INTEGER: lua_pushnumber(L, (lua_Number)json_integer_value(value)); break;
    case JSON_REAL: lua_pushnumber(L, json_real_value(value)); break;
    case JSON_STRING:
      lua_pushlstring(L, json_string_value(value), json_string_length(value));
      break;
    case JSON_ARRAY: push_array(L, value, r); break;
    case JSON_OBJECT: push_object(L, value, r); break;
  }
}

// Protected, because a Lua error on the way would leak the tree.
static int push_tree(lua_State *L) {
  const json_t *root = lua_touserdata(L, 1);
  reading r = {.null = 4, .array = 5, .order = lua_toboolean(L, 2), .floats = lua_toboolean(L, 3)};
  push_registered(L, &null_key);
  push_registered(L, &array_key);
  push_value(L, root, &r);
  return 1;
}

// `keeps`: where the text holds this, objects know the order of their keys, and which numbers are
// floats; NULL: they do not. `once`: no object has a key twice.
static int decode_bytes(lua_State *L, const char *text, size_t bytes, const char *keeps,
                        bool once) {
  json_error_t error;
  bool order = keeps && memmem(text, bytes, keeps, strlen(keeps));
  int flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | (once ? JSON_REJECT_DUPLICATES : 0);
  json_t *root = order ? json_loadb(text, bytes, flags, &error) : NULL;
  bool floats = root != NULL;
  // Lua has doubles only, so an integer of any length is read as one, as in JavaScript.
  if (!root) root = json_loadb(text, bytes, flags | JSON_DECODE_INT_AS_REAL, &error);
  if (!root) {
    // jansson quotes what the file has near the mistake, which may be anything
    host_push_printable(L, error.text, strlen(error.text), "");
    lua_pushnil(L);
    lua_pushfstring(L, "not JSON at byte %d (line %d): %s", error.position, error.line,
                    lua_tostring(L, -2));
    return 2;
  }
  lua_pushcfunction(L, push_tree);
  lua_pushlightuserdata(L, root);
  lua_pushboolean(L, order);
  lua_pushboolean(L, floats);
  int failed = lua_pcall(L, 3, 1, 0);
  json_decref(root);
  return failed ? lua_error(L) : 1;
}

// decode(text, keeps or nil, once) -> value, or nil and what is wrong where
static int decode(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);
  return decode_bytes(L, text, bytes, luaL_optstring(L, 2, NULL), lua_toboolean(L, 3));
}

// decode_at(pointer, bytes, keeps or nil): the same for memory that is not a Lua string. `pointer`
// is cdata that holds a pointer; json.lua sees to that.
static int decode_at(lua_State *L) {
  const char *const *cell = lua_topointer(L, 1);
  lua_Number bytes = luaL_checknumber(L, 2);
  const char *keeps = luaL_optstring(L, 3, NULL);
  if (bytes == 0) return decode_bytes(L, "", 0, keeps, false);
  return decode_bytes(L, *cell, (size_t)bytes, keeps, false);
}

// ---- writing -----------------------------------------------------------------------------------

typedef struct step {  // where in the value we are: a key, or an index if key is NULL
  const char *key;
  int index;
} step;

typedef struct writer {
  char *text;
  size_t bytes, capacity;
  int indent;  // spaces a level; 0: one line
  int order;   // stack index of the table key -> rank, or 0
  int array, null;
  int depth;
  step path[MAX_DEPTH];
} writer;

static int writer_gc(lua_State *L) {
  free(((writer *)lua_touserdata(L, 1))->text);
  return 0;
}

static void put(lua_State *L, writer *w, const char *text, size_t bytes) {
  if (w->capacity - w->bytes < bytes) {
    size_t capacity = w->capacity * 2 + bytes + 256;
    char *grown = realloc(w->text, capacity);
    if (!grown) luaL_error(L, "json.encode: no memory for %f bytes", (double)capacity);
    w->text = grown;
    w->capacity = capacity;
  }
  memcpy(w->text + w->bytes, text, bytes);
  w->bytes += bytes;
}

static void put_new_line(lua_State *L, writer *w, int level) {
  if (w->indent == 0) return;
  put(L, w, "\n", 1);
  for (int i = 0; i < level * w->indent; ++i) put(L, w, " ", 1);
}

// Raise "json.encode: what, at .losses[3].value".
static void refuse(lua_State *L, const writer *w, const char *format, ...) {
  va_list args;
  va_start(args, format);
  lua_pushliteral(L, "json.encode: ");
  lua_pushvfstring(L, format, args);
  va_end(args);
  int parts = 2;
  if (w->depth > 0) {
    lua_pushliteral(L, ", at ");
    ++parts;
  }
  int shown = w->depth < 16 ? w->depth : 16;  // of a cycle, the start says enough
  for (int i = 0; i < shown; ++i, ++parts) {
    if (w->path[i].key)
      lua_pushfstring(L, ".%s", w->path[i].key);
    else
      lua_pushfstring(L, "[%d]", w->path[i].index);
  }
  lua_concat(L, parts);
  lua_error(L);
}

static void put_string(lua_State *L, writer *w, const char *text, size_t bytes) {
  const unsigned char *s = (const unsigned char *)text;
  size_t bad = cft_utf8_check(text, bytes);
  if (bad < bytes) refuse(L, w, "a string is not UTF-8 at its byte %d", (int)bad);
  put(L, w, "\"", 1);
  size_t plain = 0;  // start of what needs no escape and is not yet written
  for (size_t i = 0; i < bytes; ++i) {
    unsigned char c = s[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    put(L, w, text + plain, i - plain);
    static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    const char *short_form = NULL;
    for (const char *p = names; *p && !short_form; p += 2)
      if ((unsigned char)*p == c) short_form = p + 1;
    char escape[8];
    if (short_form)
      snprintf(escape, sizeof escape, "\\%c", *short_form);
    else
      snprintf(escape, sizeof escape, "\\u%04x", c);
    put(L, w, escape, strlen(escape));
    plain = i + 1;
  }
  put(L, w, text + plain, bytes - plain);
  put(L, w, "\"", 1);
}

static void put_number(lua_State *L, writer *w, double x) {
  if (!isfinite(x))
    refuse(L, w, "a number is %s, which JSON does not have", isnan(x) ? "nan" : "infinite");
  char text[32];
  if (x == floor(x) && fabs(x) <= ldexp(1, EXACT_BITS) && !(x == 0 && signbit(x))) {
    snprintf(text, sizeof text, "%.0f", x);
  } else {
    for (int digits = 15; digits <= 17; ++digits) {  // the fewest that read back equal
      snprintf(text, sizeof text, "%.*g", digits, x);
      if (strtod(text, NULL) == x) break;
    }
  }
  put(L, w, text, strlen(text));
}

typedef struct member {
  const char *key;
  size_t bytes;
  double rank;  // place in opts.order; infinity for the rest
} member;

static int by_rank_then_name(const void *a, const void *b) {
  const member *p = a, *q = b;
  if (p->rank != q->rank) return p->rank < q->rank ? -1 : 1;
  size_t common = p->bytes < q->bytes ? p->bytes : q->bytes;
  int c = memcmp(p->key, q->key, common);
  return c != 0 ? c : (p->bytes > q->bytes) - (p->bytes < q->bytes);
}

static void put_value(lua_State *L, writer *w);

static void enter(lua_State *L, writer *w) {
  if (w->depth == MAX_DEPTH) refuse(L, w, "nested deeper than %d; is it a cycle?", MAX_DEPTH);
  luaL_checkstack(L, 8, "json.encode: nested too deeply");
  ++w->depth;
}

// The table at the top, of `n` elements.
static void put_array(lua_State *L, writer *w, int n) {
  put(L, w, "[", 1);
  enter(L, w);
  step *here = &w->path[w->depth - 1];
  for (int i = 1; i <= n; ++i) {
    *here = (step){.index = i};
    if (i > 1) put(L, w, ",", 1);
    put_new_line(L, w, w->depth);
    lua_rawgeti(L, -1, i);
    put_value(L, w);
    lua_pop(L, 1);
  }
  --w->depth;
  if (n > 0) put_new_line(L, w, w->depth);
  put(L, w, "]", 1);
}

// The table at the top, whose `n` keys are strings.
static void put_object(lua_State *L, writer *w, size_t n) {
  int table = lua_gettop(L);
  put(L, w, "{", 1);
  enter(L, w);
  member *members = lua_newuserdata(L, n * sizeof *members + 1);  // the collector frees it
  size_t count = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    member *m = &members[count++];
    *m = (member){.rank = INFINITY};
    m->key = lua_tolstring(L, -2, &m->bytes);  // alive as long as the table is
    if (w->order) {
      lua_pushvalue(L, -2);
      lua_rawget(L, w->order);
      if (lua_isnumber(L, -1)) m->rank = lua_tonumber(L, -1);
      lua_pop(L, 1);
    }
  }
  qsort(members, count, sizeof *members, by_rank_then_name);
  step *here = &w->path[w->depth - 1];
  for (size_t i = 0; i < count; ++i) {
    const member *m = &members[i];
    *here = (step){.key = m->key};
    if (i > 0) put(L, w, ",", 1);
    put_new_line(L, w, w->depth);
    put_string(L, w, m->key, m->bytes);
    put(L, w, w->indent ? ": " : ":", w->indent ? 2 : 1);
    lua_pushlstring(L, m->key, m->bytes);
    lua_rawget(L, table);
    put_value(L, w);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);  // members
  --w->depth;
  if (count > 0) put_new_line(L, w, w->depth);
  put(L, w, "}", 1);
}

static bool has_array_mark(lua_State *L, const writer *w) {
  if (!lua_getmetatable(L, -1)) return false;
  bool marked = lua_rawequal(L, -1, w->array);
  lua_pop(L, 1);
  return marked;
}

static void put_table(lua_State *L, writer *w) {
  size_t strings = 0, numbers = 0, length = lua_objlen(L, -1);
  int table = lua_gettop(L);
  luaL_checkstack(L, 4, "json.encode: nested too deeply");
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    if (lua_type(L, -2) == LUA_TSTRING)
      ++strings;
    else if (lua_type(L, -2) == LUA_TNUMBER)
      ++numbers;
    else
      refuse(L, w, "a key is a %s; keys are strings, or 1, 2, ...", luaL_typename(L, -2));
  }
  if (strings > 0 && numbers > 0) refuse(L, w, "a table has both names and positions");
  if (numbers != length) refuse(L, w, "an array has holes; put json.null there");
  if (numbers > 0 || (strings == 0 && has_array_mark(L, w)))
    put_array(L, w, (int)length);
  else
    put_object(L, w, strings);
}

static void put_value(lua_State *L, writer *w) {
  size_t bytes;
  switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
      if (lua_toboolean(L, -1))
        put(L, w, "true", 4);
      else
        put(L, w, "false", 5);
      break;
    case LUA_TNUMBER: put_number(L, w, lua_tonumber(L, -1)); break;
    case LUA_TSTRING: {
      const char *text = lua_tolstring(L, -1, &bytes);
      put_string(L, w, text, bytes);
      break;
    }
    case LUA_TTABLE: put_table(L, w); break;
    default:
      if (lua_rawequal(L, -1, w->null))
        put(L, w, "null", 4);
      else
        refuse(L, w, "a value is a %s, which JSON does not have", luaL_typename(L, -1));
  }
}

// encode(value, indent, order or nil) -> text
static int encode(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 3);
  writer *w = lua_newuserdata(L, sizeof *w);
  memset(w, 0, offsetof(writer, path));
  lua_newtable(L);
  lua_pushcfunction(L, writer_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, 4);
  push_registered(L, &null_key);
  push_registered(L, &array_key);
  w->indent = (int)luaL_checkinteger(L, 2);
  w->order = lua_istable(L, 3) ? 3 : 0;
  w->null = 5;
  w->array = 6;
  lua_pushvalue(L, 1);
  put_value(L, w);
  lua_pushlstring(L, w->text, w->bytes);
  return 1;
}

static int null_tostring(lua_State *L) {
  lua_pushliteral(L, "null");
  return 1;
}

int luaopen_cft_json_core(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"decode", decode}, {"decode_at", decode_at}, {"encode", encode}, {NULL, NULL}};
  lua_newtable(L);
  luaL_register(L, NULL, functions);

  lua_newuserdata(L, 0);  // json.null: equal to nothing but itself
  lua_newtable(L);
  lua_pushcfunction(L, null_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_setmetatable(L, -2);
  lua_pushlightuserdata(L, (void *)(uintptr_t)&null_key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_setfield(L, -2, "null");

  lua_newtable(L);  // the metatable that marks arrays, so that an empty one stays one
  lua_pushlightuserdata(L, (void *)(uintptr_t)&array_key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_setfield(L, -2, "array_mark");
  return 1;
}
