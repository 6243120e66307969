// utf8.h - UTF-8: validate once on entry, then decode without checks.
#ifndef CFT_UTIL_UTF8_H
#define CFT_UTIL_UTF8_H

#include <stddef.h>
#include <stdint.h>

// The offset of the first byte that is not valid UTF-8 (Unicode 3.9, table 3-7: no overlong forms,
// no surrogates, nothing above U+10FFFF, no character cut off at the end); n if all is valid.
size_t cft_utf8_check(const void *text, size_t n);

// Write code point cp (not a surrogate, at most 0x10FFFF) to out; the number of bytes.
int cft_utf8_encode(uint8_t out[4], uint32_t cp);

// The length in bytes of the character that starts with `lead`, in valid text.
static inline int cft_utf8_length(uint8_t lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// The character at s, in valid text; *length receives its bytes.
static inline uint32_t cft_utf8_decode(const uint8_t *s, int *length) {
  uint32_t b = s[0];
  if (b < 0x80) return *length = 1, b;
  if (b < 0xE0) return *length = 2, (b & 0x1F) << 6 | (s[1] & 0x3Fu);
  if (b < 0xF0) return *length = 3, (b & 0x0F) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
  return *length = 4,
         (b & 0x07) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
}

// The bytes of the character at `text`, which has n of them; 0 if a terminal should not see it as it
// is: controls (C0, DEL, C1), those of bidirectional text, and what is no UTF-8. What is printable is
// decided here alone; Lua asks through cft.host.printable.
size_t cft_utf8_printable(const char *text, size_t n);

// A foreign string in a message: quoted, cut to a reasonable length, what is not printable as '?'.
typedef struct cft_quotation {
  char text[80];
} cft_quotation;
cft_quotation cft_quote(const char *text, size_t bytes);

#endif
