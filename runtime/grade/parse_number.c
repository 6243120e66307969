// parse_number.c - a number: decimals, groups of three digits, exponents.
#include "grade/parse.h"

bool parse_digits_at(text t, size_t at, size_t n) {
  if (at + n > t.n) return false;
  for (size_t i = 0; i < n; i++)
    if (!is_digit(t.s[at + i])) return false;
  return true;
}

// A separator of thousands at t.s[at]: three digits behind it and no fourth. How long it is, or 0.
static size_t thousands(const parser *p, size_t at) {
  char c = at < p->t.n ? p->t.s[at] : 0;
  bool comma = c == ',' && p->commas_group && p->brackets == 0;
  if (c != GROUP_COMMA && !comma && c != ' ') return 0;
  size_t skip = 1;
  while (c == GROUP_COMMA && at + skip < p->t.n && p->t.s[at + skip] == ' ') skip++;
  bool three = parse_digits_at(p->t, at + skip, 3) && !parse_digits_at(p->t, at + skip, 4);
  return three ? skip : 0;
}

// 1.5e-8, where digits follow at once.
static bool take_exponent(parser *p, int64_t *scale) {
  size_t at = p->at;
  if (at >= p->t.n || (p->t.s[at] != 'e' && p->t.s[at] != 'E')) return true;
  size_t digit = at + 1;
  bool minus = digit < p->t.n && p->t.s[digit] == '-';
  if (digit < p->t.n && (minus || p->t.s[digit] == '+')) digit++;
  if (!parse_digits_at(p->t, digit, 1)) return true;
  int64_t n = 0;
  for (; parse_digits_at(p->t, digit, 1); digit++)
    if ((n = 10 * n + (p->t.s[digit] - '0')) > 100000) return false;
  *scale += minus ? -n : n;
  p->at = digit;
  return true;
}

expr *parse_number(parser *p) {
  size_t begin = p->at;
  writer w = writer_new(p->g, p->t.n - begin);
  int64_t scale = 0;
  for (; p->at < p->t.n;) {
    size_t skip;
    if (is_digit(p->t.s[p->at]))
      write_byte(&w, p->t.s[p->at++]);
    else if (p->at > begin && (skip = thousands(p, p->at)) != 0)
      p->at += skip;
    else
      break;
  }
  if (p->at + 1 < p->t.n + 1 && p->at < p->t.n && p->t.s[p->at] == '.' &&
      !(p->at + 1 < p->t.n && p->t.s[p->at + 1] == '.')) {
    p->at++;
    while (parse_digits_at(p->t, p->at, 1)) {
      write_byte(&w, p->t.s[p->at++]);
      scale--;
    }
  }
  if (!w.n) return parse_fail(p, "a point without digits");
  if (!take_exponent(p, &scale)) return parse_fail(p, "an exponent beyond all bounds");
  text digits = written(&w);
  while (digits.n > 1 && digits.s[0] == '0') digits = text_from(digits, 1);
  while (digits.n > 1 && scale < 0 && digits.s[digits.n - 1] == '0') digits.n--, scale++;
  if (digits.n == 1 && digits.s[0] == '0') scale = 0;
  expr *e = expr_new(p->g, X_NUMBER, 0);
  e->name = digits, e->scale = scale;
  return e;
}
