// utf8.c - UTF-8 checked and written.
#include "util/utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

size_t cft_utf8_check(const void *text, size_t n) {
  const uint8_t *s = text;
  size_t i = 0;
  while (i < n) {
    uint64_t eight;
    while (i + 8 <= n && (memcpy(&eight, s + i, 8), !(eight & 0x8080808080808080u))) i += 8;
    while (i < n && s[i] < 0x80) i++;
    if (i == n) break;

    // The lead byte fixes the length, and the range of the second byte.
    uint8_t b = s[i], low = 0x80, high = 0xBF;
    size_t tail;
    if (b >= 0xC2 && b <= 0xDF) {
      tail = 1;
    } else if (b >= 0xE0 && b <= 0xEF) {
      tail = 2;
      if (b == 0xE0) low = 0xA0;
      if (b == 0xED) high = 0x9F;
    } else if (b >= 0xF0 && b <= 0xF4) {
      tail = 3;
      if (b == 0xF0) low = 0x90;
      if (b == 0xF4) high = 0x8F;
    } else {
      return i;
    }
    if (n - i <= tail || s[i + 1] < low || s[i + 1] > high) return i;
    for (size_t k = 2; k <= tail; k++)
      if ((s[i + k] & 0xC0) != 0x80) return i;
    i += tail + 1;
  }
  return n;
}

int cft_utf8_encode(uint8_t out[4], uint32_t cp) {
  if (cp < 0x80) {
    out[0] = (uint8_t)cp;
    return 1;
  }
  if (cp < 0x800) {
    out[0] = (uint8_t)(0xC0 | cp >> 6);
    out[1] = (uint8_t)(0x80 | (cp & 0x3F));
    return 2;
  }
  if (cp < 0x10000) {
    out[0] = (uint8_t)(0xE0 | cp >> 12);
    out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3F));
    out[2] = (uint8_t)(0x80 | (cp & 0x3F));
    return 3;
  }
  out[0] = (uint8_t)(0xF0 | cp >> 18);
  out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3F));
  out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3F));
  out[3] = (uint8_t)(0x80 | (cp & 0x3F));
  return 4;
}

// Controls, and what turns the direction of a line: after U+202E a name reads otherwise than it is.
static bool steers(uint32_t cp) {
  return cp < 0x20 || (cp >= 0x7F && cp < 0xA0) ||       // C0, DEL, C1
         cp == 0x61C || cp == 0x200E || cp == 0x200F ||  // Unicode's Bidi_Control
         (cp >= 0x202A && cp <= 0x202E) || (cp >= 0x2066 && cp <= 0x2069);
}

size_t cft_utf8_printable(const char *text, size_t n) {
  const uint8_t *s = (const uint8_t *)text;
  if (n == 0) return 0;
  size_t length = (size_t)cft_utf8_length(s[0]);
  if (length > n || cft_utf8_check(s, length) < length) return 0;
  int bytes;
  return steers(cft_utf8_decode(s, &bytes)) ? 0 : length;
}

cft_quotation cft_quote(const char *text, size_t bytes) {
  cft_quotation q;
  enum { MOST = sizeof q.text - 6 };
  size_t at = 0, out = 0;
  q.text[out++] = '"';
  while (at < bytes) {
    size_t n = cft_utf8_printable(text + at, bytes - at);
    if (at + (n ? n : 1) > MOST) break;
    if (n) memcpy(q.text + out, text + at, n);
    if (!n) q.text[out] = '?', n = 1;
    at += n, out += n;
  }
  snprintf(q.text + out, 5, "%s\"", at < bytes ? "..." : "");
  return q;
}
