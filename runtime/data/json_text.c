// json_text.c - JSON text as it is written.
#include "json_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t EXACT = INT64_C(1) << 53;  // integers up to here are exact in a double

void cft_text_free(cft_text *t) {
  free(t->data);
  *t = (cft_text){0};
}

static bool reserve(cft_text *t, size_t n) {
  if (t->no_memory || t->too_long) return false;
  if (n <= t->capacity - t->bytes) return true;
  if (n > t->limit - t->bytes) {
    t->too_long = true;
    return false;
  }
  size_t capacity = t->bytes + n + (t->bytes + n) / 2 + 256;
  char *bigger = realloc(t->data, capacity);
  if (!bigger) {
    t->no_memory = true;
    return false;
  }
  t->data = bigger;
  t->capacity = capacity;
  return true;
}

void cft_text_add(cft_text *t, const void *data, size_t n) {
  if (!n || !reserve(t, n)) return;
  memcpy(t->data + t->bytes, data, n);
  t->bytes += n;
}

void cft_text_print(cft_text *t, const char *format, ...) {
  char text[128];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (n > 0) cft_text_add(t, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

void cft_text_string(cft_text *t, const void *s, size_t n) {
  const uint8_t *text = s;
  cft_text_put(t, '"');
  size_t done = 0;
  for (size_t i = 0; i < n; ++i) {
    uint8_t c = text[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    cft_text_add(t, text + done, i - done);
    done = i + 1;
    switch (c) {
      case '"': cft_text_add(t, "\\\"", 2); break;
      case '\\': cft_text_add(t, "\\\\", 2); break;
      case '\n': cft_text_add(t, "\\n", 2); break;
      case '\r': cft_text_add(t, "\\r", 2); break;
      case '\t': cft_text_add(t, "\\t", 2); break;
      default: cft_text_print(t, "\\u%04x", c);
    }
  }
  cft_text_add(t, text + done, n - done);
  cft_text_put(t, '"');
}

void cft_text_int(cft_text *t, int64_t value) {
  bool exact = value >= -EXACT && value <= EXACT;
  cft_text_print(t, exact ? "%" PRId64 : "\"%" PRId64 "\"", value);
}

void cft_text_uint(cft_text *t, uint64_t value) {
  cft_text_print(t, value <= (uint64_t)EXACT ? "%" PRIu64 : "\"%" PRIu64 "\"", value);
}

void cft_text_number(cft_text *t, double value) {
  if (isfinite(value))
    cft_text_print(t, "%.17g", value);
  else
    cft_text_add(t, "null", 4);
}

cft_status cft_text_end(cft_text *t) {
  t->limit += t->limit < SIZE_MAX;  // the NUL is not part of what is limited
  cft_text_put(t, 0);
  if (t->no_memory) return cft_fail(CFT_E_OOM, "no memory for a record of %zu bytes", t->bytes);
  if (!t->too_long) --t->bytes;
  return CFT_OK;
}
