// paper.c - the extraction and the comparison of the paper's evaluation, and of Qwen2.5-Math's,
// from which it came: rule by rule, in their order (docs/grade.md).
#include "grade/paper.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "grade/python.h"

static bool has(text t, text what) { return text_find(t, what) != NOWHERE; }
static text behind_last(text t, text what) {
  return text_from(t, (size_t)text_find_last(t, what) + what.n);
}

// ---- extraction
// -----------------------------------------------------------------------------------------

static text boxed(text t) {
  t = behind_last(t, T("boxed"));
  if (!t.n || t.s[0] != '{') {
    int64_t dollar = text_find(t, T("$"));
    return python_strip((text){t.s, dollar == NOWHERE ? t.n : (size_t)dollar});
  }
  int64_t depth = 1;
  for (size_t i = 1; i < t.n; i++) {
    if (t.s[i] == '{') depth++;
    if (t.s[i] == '}' && --depth == 0) return text_slice(t, 1, i);
  }
  return text_from(t, 1);
}

// The last of -?\d*\.?\d+, commas aside.
static text last_number(cft_grader *g, text t) {
  text found = T("");
  if (has(t, T(","))) {
    enum { TAIL = 64 << 10 };  // the last number stands here if the text ends like one
    t = t.n > TAIL ? text_from(t, t.n - TAIL) : t;
    t = text_replace(g, t, T(","), T(""));
  }
  for (size_t i = 0; i < t.n;) {
    size_t at = i + (t.s[i] == '-'), end = at;
    while (end < t.n && is_digit(t.s[end])) end++;
    if (end + 1 < t.n && t.s[end] == '.' && is_digit(t.s[end + 1])) {
      end++;
      while (end < t.n && is_digit(t.s[end])) end++;
    }
    if (end > at) found = text_slice(t, i, end);
    i = end > at ? end : i + 1;
  }
  return found;
}

text paper_extract(cft_grader *g, text t) {
  text answer;
  if (has(t, T("\xd0\xba\xd0\xb8"))) {
    if (t.n > GRADE_MEMORY / 4) grade_stop(g, "the response is longer than is read");
    t = text_replace(g, t, T("\xd0\xba\xd0\xb8"), T(""));
  }
  if (has(t, T("final answer is $")) && has(t, T("$. I hope"))) {
    t = text_from(t, (size_t)text_find(t, T("final answer is $")) + 17);
    int64_t end = text_find(t, T("$. I hope"));
    answer = python_strip((text){t.s, end == NOWHERE ? t.n : (size_t)end});
  } else if (has(t, T("boxed"))) {
    answer = boxed(t);
    if (!behind_last(t, T("boxed")).n) return answer;
  } else if (has(t, T("he answer is"))) {
    answer = python_strip(behind_last(t, T("he answer is")));
  } else if (has(t, T("final answer is"))) {
    answer = python_strip(behind_last(t, T("final answer is")));
  } else if (has(t, T("答案是"))) {
    t = text_from(t, (size_t)text_find(t, T("答案是")) + 9);
    int64_t end = text_find(t, T("答案是"));
    if (end != NOWHERE) t.n = (size_t)end;
    t = python_strip(t);
    end = text_find(t, T("\n\n"));
    if (end != NOWHERE) t.n = (size_t)end;
    answer = python_strip(t);
  } else {
    answer = last_number(g, t);
  }
  if (answer.n > CFT_GRADE_ANSWER_BYTES) grade_stop(g, "the answer is longer than is read");
  writer w = writer_new(g, answer.n);
  for (size_t i = 0; i < answer.n; i++) {  // a new line and the blanks behind it
    write_byte(&w, answer.s[i]);
    if (answer.s[i] != '\n') continue;
    w.n--;
    text rest = text_from(answer, i + 1), left = rest;
    while (left.n && left.s[0] != '\n' && python_strip((text){left.s, 1}).n == 0)
      left = text_from(left, 1);
    i += rest.n - left.n;
  }
  answer = written(&w);
  if (text_begins(answer, T(":"))) answer = text_from(answer, 1);
  if (text_ends(answer, T("."))) answer.n--;
  if (text_ends(answer, T("/"))) answer.n--;
  return answer;
}

// ---- choices
// --------------------------------------------------------------------------------------------

// A standalone letter A to E, whatever its case, the first or the last; 0 where there is none.
static char standalone(text t, bool last) {
  char found = 0;
  size_t length;
  for (size_t i = 0; i < t.n; i++) {
    char c = lower(t.s[i]);
    if (c < 'a' || c > 'e') continue;
    bool left = i == 0 || !word_before(t, i, &length),
         end = i + 1 == t.n || !word_at(t, i + 1, &length);
    if (!left || !end) continue;
    found = (char)(c - 32);
    if (!last) break;
  }
  return found;
}

static text one_letter(cft_grader *g, char c) {
  char *s = grade_alloc(g, 1);
  *s = c;
  return (text){s, 1};
}

static text edges(text t) {
  t = python_strip_of(t, "\n", true, true);
  t = python_strip_of(t, ".", false, true);
  t = python_strip_of(t, "/", false, true);
  t = python_strip_of(t, " ", true, true);
  return python_strip_of(t, ":", true, false);
}

static text of_letter(cft_grader *g, text t, char letter) {
  t = letter ? one_letter(g, letter) : python_strip_of(python_strip(t), ".", true, true);
  return python_strip_of(python_strip_of(t, ".", false, true), "/", false, true);
}

text paper_choice(cft_grader *g, text t) {
  t = edges(t);
  return of_letter(g, t, standalone(t, true));
}

// Of a whole response: behind the last "answer is" or "choice is" the first letter, else the last.
static text choice_of_response(cft_grader *g, text t) {
  text phrases[] = {T("choice is"), T("answer is")};
  t = python_strip_of(t, "\n", true, true);
  if (text_count(t, phrases[0]) > 1 || text_count(t, phrases[1]) > 1) {
    int64_t end = text_find(t, T("\n\n"));
    if (end != NOWHERE) t.n = (size_t)end;
  }
  int64_t a = text_find_last(t, phrases[0]), b = text_find_last(t, phrases[1]);
  bool said = a != NOWHERE || b != NOWHERE;
  if (said) t = text_from(t, (size_t)(a > b ? a : b) + 9);
  t = edges(t);
  text letter = of_letter(g, t, standalone(t, !said));
  return letter.n > CFT_GRADE_ANSWER_BYTES ? T("") : letter;
}

static bool all_choices(text t) {
  for (size_t i = 0; i < t.n; i++)
    if (t.s[i] < 'A' || t.s[i] > 'E') return false;
  return true;
}

text paper_choices(cft_grader *g, text answer, text reference, text response) {
  if (reference.n == 1 && all_choices(reference))
    return answer.n == 1 && all_choices(answer) ? answer : choice_of_response(g, response);
  if (!all_choices(reference) || all_choices(answer)) return answer;
  writer w = writer_new(g, answer.n);
  for (size_t i = 0; i < answer.n; i++)
    if (answer.s[i] >= 'A' && answer.s[i] <= 'E') write_byte(&w, answer.s[i]);
  return written(&w);
}

// ---- numbers
// --------------------------------------------------------------------------------------------

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

// ---- powers of ten (paper only)
// -------------------------------------------------------------------------

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

// ---- the comparison
// ---------------------------------------------------------------------------------------

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
  if (reference.n == 1 && all_choices(reference) && text_is(paper_choice(g, answer), reference))
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
