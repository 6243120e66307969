// paper.c - the comparison of the paper's evaluation, and of Qwen2.5-Math's,
// from which it came: rule by rule, in their order (docs/grade.md).
#include "grade/paper.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "grade/python.h"

// ---- numbers ----------------------------------------------------------------------------------

static bool number_of(cft_grader *g, text t, double *out) {
  t = text_replace(g, t, T(","), T(""));
  if (python_float(t, out)) return true;
  if (!text_ends(t, T("%"))) return false;
  t.n--;
  if (text_ends(t, T("\\"))) t.n--;
  if (!python_float(t, out)) return false;
  *out /= 100;
  return true;
}

// Rounded to one decimal; two that cannot be read here (50% and 30%) count as equal.
static bool equal_rounded(cft_grader *g, text a, text b) {
  double v[2];
  bool read[2];
  text t[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    t[i] = text_replace(g, text_replace(g, t[i], T(","), T("")), T("\\"), T(""));
    read[i] = python_float(t[i], &v[i]);
    if (!read[i] || isnan(v[i]) || isinf(v[i])) continue;
    char buffer[400];
    snprintf(buffer, sizeof buffer, "%.1f", v[i]);  // exact, ties to even, as round() does
    v[i] = strtod(buffer, NULL);
  }
  if (!read[0] && !read[1]) return true;
  return read[0] && read[1] && v[0] == v[1];
}

static verdict numbers(cft_grader *g, text answer, text reference, double a, double r) {
  if (g->mode == CFT_GRADE_PAPER && equal_rounded(g, answer, reference))
    return right("numbers equal when rounded to one decimal");
  static const char *const why[] = {"a hundredth of the reference, to 1e-4", "numbers within 1e-4",
                                    "a hundred times the reference, to 1e-4"};
  double targets[] = {r / 100, r, r * 100};
  for (int i = 0; i < 3; i++)
    if (python_is_close(targets[i], a, 1e-4)) return right(why[i]);
  return wrong("numbers differ");
}

// ---- powers of ten (paper only) ---------------------------------------------------------------

typedef struct value {  // a number, or the text itself
  bool is_number, raises;
  double number;
  text as_text;
} value;

static bool has_e(text t) { return has(t, T("e")) || has(t, T("E")); }

// digits at t.s[*at]: [+-]?\d+
static bool signed_integer(text t, size_t *at, double *out) {
  size_t i = *at;
  double sign = 1;
  if (i < t.n && (t.s[i] == '+' || t.s[i] == '-')) sign = t.s[i++] == '-' ? -1 : 1;
  size_t begin = i;
  for (*out = 0; i < t.n && is_digit(t.s[i]); i++) *out = *out * 10 + (t.s[i] - '0');
  *out *= sign;
  *at = i;
  return i > begin;
}

static double ten_to(double n) {
  char buffer[40];
  if (n < 0) return pow(10, n);
  snprintf(buffer, sizeof buffer, "1e%.0f", n > 400 ? 400 : n);
  return strtod(buffer, NULL);
}

// The first \d+\.?\d*?\times10^{n} in t. Its mantissa ends right before \times.
static bool times_ten(text t, double *base, double *exponent) {
  text mark = T("\\times10^");
  for (size_t from = 0; from < t.n;) {
    int64_t found = text_find(text_from(t, from), mark);
    if (found == NOWHERE) return false;
    size_t at = from + (size_t)found, begin = at;
    while (begin > 0 && is_digit(t.s[begin - 1])) begin--;
    if (begin > 1 && t.s[begin - 1] == '.' && is_digit(t.s[begin - 2])) {
      begin--;
      while (begin > 0 && is_digit(t.s[begin - 1])) begin--;
    }
    size_t behind = at + mark.n;
    if (behind < t.n && t.s[behind] == '{') behind++;
    bool exponent_there = signed_integer(t, &behind, exponent);
    if (begin < at && exponent_there && python_float(text_slice(t, begin, at), base)) return true;
    from = at + mark.n;
  }
  return false;
}

static value number_or_text(cft_grader *g, text t) {
  value v = {.as_text = t};
  double base, exponent;
  if (has_e(text_replace(g, t, T("times"), T("")))) {
    v.is_number = python_float(t, &v.number);
  } else if (times_ten(t, &base, &exponent)) {
    v.raises = exponent > 308;
    v.is_number = true;
    v.number = base * ten_to(exponent);
  }
  return v;
}

static text decimal(cft_grader *g, double v) {
  char *s = grade_alloc(g, 400);
  int n = snprintf(s, 400, "%f", v);
  text t = {s, (size_t)n};
  return python_strip_of(python_strip_of(t, "0", false, true), ".", false, true);
}

static text decimal_or_text(cft_grader *g, text t, bool *raises) {
  double v;
  if (has_e(t)) return python_float(t, &v) ? decimal(g, v) : t;
  for (size_t from = 0; from < t.n;) {
    int64_t found = text_find(text_from(t, from), T("10^{"));
    if (found == NOWHERE) break;
    size_t at = from + (size_t)found + 4;
    if (signed_integer(t, &at, &v) && at < t.n && t.s[at] == '}') {
      *raises = *raises || v > 308;
      return decimal(g, ten_to(v));
    }
    from += (size_t)found + 4;
  }
  return t;
}

// Their last comparison of plain numbers, by significant digits.
static int significant(text t) {
  t = python_strip_of(python_strip_of(t, "0", false, true), ".", false, true);
  int n = 0;
  for (size_t i = 0; i < t.n; i++) n += is_digit(t.s[i]);
  return n;
}

static bool equal_digits(cft_grader *g, text a, text b) {
  double x, y;
  a = text_replace(g, a, T(","), T("")), b = text_replace(g, b, T(","), T(""));
  if (has_e(a) || has_e(b)) return false;
  if (!python_float(text_replace(g, a, T("\\"), T("")), &x)) return false;
  if (!python_float(text_replace(g, b, T("\\"), T("")), &y)) return false;
  int n = significant(a), m = significant(b);
  double scale = fmax(fabs(x), fabs(y)), relative = 0.5 * pow(10, -((n < m ? n : m) - 1));
  return scale == 0 || fabs(x - y) / scale <= relative;
}

// ---- the comparison ---------------------------------------------------------------------------

static bool is_text_bracketed(text t) {
  if (!text_begins(t, T("(")) && !text_begins(t, T("["))) return false;
  for (size_t i = 2; i < t.n; i++)
    if (t.s[i] == ')' || t.s[i] == ']') return true;
  return false;
}

// Each {a,b} of the reference as a matrix, joined; the widest match of a brace, a comma, a brace.
static text as_matrix(cft_grader *g, text t) {
  t = python_strip(t);
  int64_t open = text_find(t, T("{")), close = text_find_last(t, T("}"));
  if (open == NOWHERE || close < open || !has(text_slice(t, (size_t)open, (size_t)close), T(",")))
    return T("");
  text m = python_strip_of(python_strip(text_slice(t, (size_t)open, (size_t)close + 1)), "{}", true,
                           true);
  return text_join(g, T("\\begin{pmatrix}"), text_replace(g, m, T(","), T("\\")),
                   T("\\end{pmatrix}"));
}

static text without_brackets(cft_grader *g, text t) {
  static const char *const all[] = {"{", "}", "(", ")"};
  for (int i = 0; i < 4; i++) t = text_replace(g, t, (text){all[i], 1}, T(""));
  return t;
}

static bool equal_without_brackets(cft_grader *g, text a, text r) {
  bool square = text_begins(a, T("[")) && text_ends(a, T("]")) && !text_begins(r, T("("));
  bool round = text_begins(a, T("(")) && text_ends(a, T(")")) && !text_begins(r, T("["));
  if (square || round)
    a = python_strip_of(a, "[]()", true, true), r = python_strip_of(r, "[]()", true, true);
  return text_is_fold(without_brackets(g, a), without_brackets(g, r));
}

// The next part of *rest up to `at`, which is passed over; false behind the last.
static bool next_part(text *rest, bool *ended, text at, text *part) {
  if (*ended) return false;
  int64_t end = text_find(*rest, at);
  *ended = end == NOWHERE;
  *part = (text){rest->s, *ended ? rest->n : (size_t)end};
  *rest = text_from(*rest, part->n + (*ended ? 0 : at.n));
  return true;
}

static bool equal_parts(cft_grader *g, text a, text r, text at) {
  text x, y;
  bool a_ended = false, r_ended = false, equal = true;
  if (text_count(a, at) != text_count(r, at)) return false;
  while (equal && next_part(&a, &a_ended, at, &x) && next_part(&r, &r_ended, at, &y))
    equal = paper_equal(g, x, y).is == CFT_GRADE_RIGHT;
  return equal;
}

static bool is_matrix(text t) {
  return (text_begins(t, T("\\begin{pmatrix}")) || text_begins(t, T("\\begin{bmatrix}"))) &&
         (text_ends(t, T("\\end{pmatrix}")) || text_ends(t, T("\\end{bmatrix}"))) && t.n >= 28;
}

static bool next_row(text *rest, bool *ended, text *row) {
  while (next_part(rest, ended, T("\\\\"), row)) {
    *row = python_strip(*row);
    if (row->n) return true;
  }
  return false;
}

static bool equal_matrices(cft_grader *g, text a, text r) {
  text x, y;
  bool a_ended = false, r_ended = false;
  a = text_slice(a, 15, a.n - 13), r = text_slice(r, 15, r.n - 13);
  for (;;) {
    bool more_a = next_row(&a, &a_ended, &x), more_r = next_row(&r, &r_ended, &y);
    if (more_a != more_r) return false;
    if (!more_a) return true;
    if (!equal_parts(g, x, y, T("&"))) return false;
  }
}

static text minus_right(cft_grader *g, text t) {
  int64_t at = text_find(t, T("="));
  text left = python_strip((text){t.s, (size_t)at}),
       right_side = python_strip(text_from(t, (size_t)at + 1));
  text head = text_join(g, left, T(" - ("), right_side);
  return text_join(g, head, T(")"), T(""));
}

static bool names_a_value(text t) {  // x=5
  int64_t at = text_find(t, T("="));
  return text_count(t, T("=")) == 1 && python_length(python_strip((text){t.s, (size_t)at})) <= 2;
}

static text behind_equals(text t) { return text_from(t, (size_t)text_find(t, T("=")) + 1); }

static verdict equations(cft_grader *g, text a, text r) {
  size_t in_a = text_count(a, T("=")), in_r = text_count(r, T("="));
  if (in_a == 1 && in_r == 1) {
    text x = minus_right(g, a), y = minus_right(g, r);
    text minus_x = text_join(g, T("-("), x, T(")"));
    verdict v = paper_symbolic(g, x, y);
    if (v.is == CFT_GRADE_RIGHT) return right("the equations agree");
    verdict w = paper_symbolic(g, minus_x, y);
    if (w.is == CFT_GRADE_RIGHT) return right("the equations agree but for their sign");
    return v.is == CFT_GRADE_UNKNOWN ? v : w;
  }
  if (in_r == 0 && names_a_value(a)) return paper_equal(g, behind_equals(a), r);
  if (in_a == 0 && names_a_value(r)) return paper_equal(g, a, behind_equals(r));
  return wrong("");
}

static text behind_last_equals(cft_grader *g, text t) {
  if (has(t, T("="))) t = behind_last(t, T("="));
  return text_replace(g, t, T("{"), T("("));
}

// What the paper adds to Qwen's comparison, before algebra is asked.
static verdict powers_and_sides(cft_grader *g, text a, text r) {
  bool raises = false;
  if (has(a, T("=")) || has(r, T("="))) {
    verdict v = paper_equal(g, behind_last_equals(g, a), behind_last_equals(g, r));
    if (v.is != CFT_GRADE_WRONG) return v;
  }
  text x = decimal_or_text(g, a, &raises), y = decimal_or_text(g, r, &raises);
  if (raises) return unknown("their program ends at such a power of ten");
  return text_is(x, y) ? right("the same power of ten, mantissas aside") : wrong("");
}

verdict paper_equal(cft_grader *g, text answer, text reference) {
  grade_step(g);
  bool paper = g->mode == CFT_GRADE_PAPER;
  double a, r;
  if (text_is_fold(python_strip(answer), python_strip(reference))) return right("the same text");
  if (reference.n == 1 && paper_all_choices(reference) &&
      text_is(paper_choice(g, answer), reference))
    return right("the same choice");
  if (number_of(g, answer, &a) && number_of(g, reference, &r))
    return numbers(g, answer, reference, a, r);
  if (!answer.n) return wrong("the answer is empty");
  reference = python_strip(reference), answer = python_strip(answer);
  if (has(answer, T("pmatrix")) && !has(reference, T("pmatrix")))
    reference = as_matrix(g, reference);
  if (equal_without_brackets(g, answer, reference)) return right("the same text, brackets aside");
  if (is_text_bracketed(answer) && is_text_bracketed(reference) &&
      equal_parts(g, text_slice(answer, 1, answer.n - 1), text_slice(reference, 1, reference.n - 1),
                  T(",")))
    return right("the same parts in order");
  if (is_matrix(answer) && is_matrix(reference) && equal_matrices(g, answer, reference))
    return right("the same matrix");
  if (paper) {
    value x = number_or_text(g, answer), y = number_or_text(g, reference);
    if (x.raises || y.raises) return unknown("their program ends at such a power of ten");
    bool same = x.is_number ? y.is_number && x.number == y.number
                            : !y.is_number && text_is(x.as_text, y.as_text);
    if (same) return right("the same number times a power of ten");
  }
  verdict doubt = equations(g, answer, reference);
  if (doubt.is == CFT_GRADE_RIGHT) return doubt;
  if (paper) {
    verdict v = powers_and_sides(g, answer, reference);
    if (v.is == CFT_GRADE_RIGHT) return v;
    if (v.is == CFT_GRADE_UNKNOWN) doubt = v;
  }
  verdict v = paper_symbolic(g, answer, reference);
  if (v.is == CFT_GRADE_RIGHT) return v;
  if (paper && equal_digits(g, answer, reference))
    return right("equal by their significant digits");
  return v.is == CFT_GRADE_WRONG ? (doubt.is == CFT_GRADE_UNKNOWN ? doubt : v) : v;
}
