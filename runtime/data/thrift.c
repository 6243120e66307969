// thrift.c - Thrift's compact protocol, read from bytes that are not to be trusted.
//
// A field begins with a byte: how much its id is above the last one's, and its type; the value of a
// boolean is its type. Integers are varints in zigzag, but for bytes.
// Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
#include "thrift.h"

enum { DEEPEST = 32 };

void cft_thrift_fail(cft_thrift *t, const char *problem) {
  if (!t->problem) t->problem = problem;
}

static uint8_t byte_of(cft_thrift *t) {
  if (t->problem) return 0;
  if (t->at == t->end) {
    t->cut_short = true;
    cft_thrift_fail(t, "it is cut short");
    return 0;
  }
  return *t->at++;
}

static uint64_t varint(cft_thrift *t) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    uint8_t b = byte_of(t);
    value |= (uint64_t)(b & 0x7F) << shift;
    if (b < 0x80) return value;
  }
  cft_thrift_fail(t, "an integer has more than 64 bits");
  return 0;
}

static int64_t zigzag(cft_thrift *t) {
  uint64_t u = varint(t);
  return (int64_t)(u >> 1) ^ -(int64_t)(u & 1);
}

static void advance(cft_thrift *t, uint64_t n) {
  if (t->problem) return;
  if (n > (uint64_t)(t->end - t->at)) {
    t->cut_short = true;
    cft_thrift_fail(t, "it is cut short");
  } else {
    t->at += n;
  }
}

bool cft_thrift_next(cft_thrift *t, cft_thrift_field *f) {
  uint8_t head = byte_of(t);
  f->type = head & 15;
  if (t->problem || f->type == CFT_THRIFT_STOP) return false;
  int64_t id = head >> 4 ? f->id + (head >> 4) : zigzag(t);
  if (id <= 0 || id > INT16_MAX) cft_thrift_fail(t, "a field has no sensible number");
  if (f->type > CFT_THRIFT_STRUCT) cft_thrift_fail(t, "a field has a type that does not exist");
  f->id = (int)id;
  return !t->problem;
}

int64_t cft_thrift_int(cft_thrift *t, int type) {
  if (type == CFT_THRIFT_BYTE) return (int8_t)byte_of(t);
  if (type >= CFT_THRIFT_I16 && type <= CFT_THRIFT_I64) return zigzag(t);
  cft_thrift_fail(t, "something else stands where an integer was expected");
  return 0;
}

bool cft_thrift_bool(cft_thrift *t, int type) {
  if (type != CFT_THRIFT_TRUE && type != CFT_THRIFT_FALSE)
    cft_thrift_fail(t, "something else stands where a boolean was expected");
  return type == CFT_THRIFT_TRUE;
}

const uint8_t *cft_thrift_binary(cft_thrift *t, int type, size_t *n) {
  if (type != CFT_THRIFT_BINARY)
    cft_thrift_fail(t, "something else stands where a text was expected");
  uint64_t length = varint(t);
  const uint8_t *text = t->at;
  advance(t, length);
  *n = t->problem ? 0 : (size_t)length;
  return text;
}

int64_t cft_thrift_list(cft_thrift *t, int type, int *element) {
  if (type != CFT_THRIFT_LIST && type != CFT_THRIFT_SET)
    cft_thrift_fail(t, "something else stands where a list was expected");
  uint8_t head = byte_of(t);
  *element = head & 15;
  uint64_t n = head >> 4 == 15 ? varint(t) : head >> 4;
  if (!t->problem && n > (uint64_t)(t->end - t->at)) {  // an element has at least a byte
    t->cut_short = true;
    cft_thrift_fail(t, "a list is longer than what it stands in");
  }
  return t->problem ? 0 : (int64_t)n;
}

static void skip(cft_thrift *t, int type, int depth, bool in_list) {
  if (depth > DEEPEST) cft_thrift_fail(t, "it is nested too deeply");
  if (t->problem) return;
  switch (type) {
    case CFT_THRIFT_TRUE:
    case CFT_THRIFT_FALSE: advance(t, in_list); break;
    case CFT_THRIFT_BYTE: advance(t, 1); break;
    case CFT_THRIFT_I16:
    case CFT_THRIFT_I32:
    case CFT_THRIFT_I64: varint(t); break;
    case CFT_THRIFT_DOUBLE: advance(t, 8); break;
    case CFT_THRIFT_BINARY: advance(t, varint(t)); break;
    case CFT_THRIFT_LIST:
    case CFT_THRIFT_SET: {
      int element;
      int64_t n = cft_thrift_list(t, type, &element);
      for (int64_t i = 0; i < n && !t->problem; ++i) skip(t, element, depth + 1, true);
      break;
    }
    case CFT_THRIFT_MAP: {
      uint64_t n = varint(t);
      uint8_t types = n ? byte_of(t) : 0;
      for (uint64_t i = 0; i < n && !t->problem; ++i) {
        skip(t, types >> 4, depth + 1, true);
        skip(t, types & 15, depth + 1, true);
      }
      break;
    }
    case CFT_THRIFT_STRUCT: {
      cft_thrift_field f = {0};
      while (cft_thrift_next(t, &f)) skip(t, f.type, depth + 1, false);
      break;
    }
    default: cft_thrift_fail(t, "a value has a type that does not exist");
  }
}

void cft_thrift_skip(cft_thrift *t, int type) { skip(t, type, 0, false); }
