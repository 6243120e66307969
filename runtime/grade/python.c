// python.c - strings and numbers as Python has them.
#include "grade/python.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/utf8.h"

bool python_is_space(uint32_t cp) {
  return (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 || cp == 0xA0 ||
         cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
         cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static uint32_t point_at(text t, size_t at, size_t *length) {
  int n = 0;
  uint32_t cp = cft_utf8_decode((const uint8_t *)t.s + at, &n);
  *length = (size_t)n;
  return cp;
}

static uint32_t point_before(text t, size_t at, size_t *length) {
  size_t begin = at - 1;
  while (begin > 0 && ((uint8_t)t.s[begin] & 0xC0) == 0x80) begin--;
  return point_at(t, begin, length);
}

text python_strip(text t) {
  size_t n;
  while (t.n && python_is_space(point_at(t, 0, &n))) t = text_from(t, n);
  while (t.n && python_is_space(point_before(t, t.n, &n))) t.n -= n;
  return t;
}

text python_strip_of(text t, const char *bytes, bool left, bool right_side) {
  while (left && t.n && t.s[0] && strchr(bytes, t.s[0])) t = text_from(t, 1);
  while (right_side && t.n && t.s[t.n - 1] && strchr(bytes, t.s[t.n - 1])) t.n--;
  return t;
}

static bool is_word(uint32_t cp) {
  if (cp < 0x80) return is_letter((char)cp) || is_digit((char)cp) || cp == '_';
  return is_word_point(cp);
}

bool word_at(text t, size_t at, size_t *length) { return is_word(point_at(t, at, length)); }
bool word_before(text t, size_t at, size_t *length) { return is_word(point_before(t, at, length)); }

size_t python_length(text t) {
  size_t n = 0;
  for (size_t i = 0; i < t.n; i++) n += ((uint8_t)t.s[i] & 0xC0) != 0x80;
  return n;
}

bool python_is_close(double a, double b, double relative) {
  if (a == b) return true;
  if (isinf(a) || isinf(b)) return false;
  return fabs(a - b) <= relative * fmax(fabs(a), fabs(b));
}

// Digits, single underscores between them; how many bytes, 0 where there are none.
static size_t digits(text t, size_t at, char *out, size_t *n) {
  size_t i = at;
  while (i < t.n) {
    bool under =
        t.s[i] == '_' && i > at && is_digit(t.s[i - 1]) && i + 1 < t.n && is_digit(t.s[i + 1]);
    if (is_digit(t.s[i]))
      out[(*n)++] = t.s[i];
    else if (!under)
      break;
    i++;
  }
  return i - at;
}

static bool named(text t, double sign, double *out) {
  if (text_is_fold(t, T("inf")) || text_is_fold(t, T("infinity")))
    *out = sign * INFINITY;
  else if (text_is_fold(t, T("nan")))
    *out = NAN;
  else
    return false;
  return true;
}

bool python_float(text t, double *out) {
  char buffer[CFT_GRADE_ANSWER_BYTES + 8];
  size_t n = 0, at = 0;
  t = python_strip(t);
  if (t.n == 0 || t.n > CFT_GRADE_ANSWER_BYTES) return false;
  double sign = t.s[0] == '-' ? -1 : 1;
  if (t.s[0] == '-' || t.s[0] == '+') buffer[n++] = t.s[at++];
  if (named(text_from(t, at), sign, out)) return true;
  size_t whole = digits(t, at, buffer, &n), part = 0;
  at += whole;
  if (at < t.n && t.s[at] == '.') {
    buffer[n++] = '.';
    part = digits(t, ++at, buffer, &n);
    at += part;
  }
  if (!whole && !part) return false;
  if (at < t.n && (t.s[at] == 'e' || t.s[at] == 'E')) {
    buffer[n++] = 'e';
    at++;
    if (at < t.n && (t.s[at] == '-' || t.s[at] == '+')) buffer[n++] = t.s[at++];
    size_t exponent = digits(t, at, buffer, &n);
    if (!exponent) return false;
    at += exponent;
  }
  if (at != t.n) return false;
  buffer[n] = 0;
  *out = strtod(buffer, NULL);
  return true;
}

text python_of_float(cft_grader *g, double v) {
  char *s = grade_alloc(g, 40);
  for (int precision = 1; precision <= 17; precision++) {
    snprintf(s, 40, "%.*g", precision, v);
    if (strtod(s, NULL) == v) break;
  }
  text t = {s, strlen(s)};
  bool whole = !memchr(s, '.', t.n) && !memchr(s, 'e', t.n) && !memchr(s, 'n', t.n);
  return whole ? text_join(g, t, T(".0"), T("")) : t;
}
