// json_text.h - JSON text as it is written: a buffer that grows, and strings with their escapes.
#ifndef CFT_DATA_JSON_TEXT_H
#define CFT_DATA_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base.h"

// Nothing is checked at each step: a text that ran out of memory, or over its limit, stays what it
// was and says so at the end.
typedef struct cft_text {
  char *data;
  size_t bytes, capacity, limit;
  bool no_memory, too_long;
} cft_text;

void cft_text_free(cft_text *t);

void cft_text_add(cft_text *t, const void *data, size_t n);
void cft_text_print(cft_text *t, const char *format, ...) CFT_PRINTF(2, 3);  // up to 127 bytes

static inline void cft_text_put(cft_text *t, char c) {
  if (t->bytes < t->capacity)
    t->data[t->bytes++] = c;
  else
    cft_text_add(t, &c, 1);
}

// A string in its quotes; `s` is valid UTF-8.
void cft_text_string(cft_text *t, const void *s, size_t n);

// An integer. Beyond 2^53 it is a string of its digits: a number would be rounded by who reads it.
void cft_text_int(cft_text *t, int64_t value);
void cft_text_uint(cft_text *t, uint64_t value);

// A number, exact; JSON has none for nan and the infinities, which become null.
void cft_text_number(cft_text *t, double value);

// Put a NUL behind it. E_OOM if any step ran out of memory.
cft_status cft_text_end(cft_text *t);

#endif
