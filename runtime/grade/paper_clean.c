// paper_clean.c - the clean-up of answers and references in the evaluation of Qwen2.5-Math, which
// the paper's took over: rule by rule, in its order (docs/grade.md). It is not idempotent.
#include "grade/paper.h"
#include "grade/paper_units.h"
#include "grade/python.h"

// ---- what patterns are needed -----------------------------------------------------------------

static text drop(cft_grader *g, text t, text what) { return text_replace(g, t, what, T("")); }

// `open`, anything, `close`, at its first place, is replaced by what `inside` says: kept or
// dropped.
static text between(cft_grader *g, text t, text open, text close, text with, bool keep) {
  writer w = writer_new(g, t.n + text_count(t, open) * with.n);
  for (;;) {
    int64_t at = text_find(t, open);
    int64_t end = at == NOWHERE ? NOWHERE : text_find(text_from(t, (size_t)at + open.n), close);
    if (end == NOWHERE) break;
    write_text(&w, (text){t.s, (size_t)at});
    write_text(&w, with);
    if (keep) write_text(&w, text_slice(t, (size_t)at + open.n, (size_t)at + open.n + (size_t)end));
    t = text_from(t, (size_t)at + open.n + (size_t)end + close.n);
  }
  write_text(&w, t);
  return written(&w);
}

// ---- units ------------------------------------------------------------------------------------

// The bytes of t.s[at...] that `unit` takes, where a point is any character; 0 if it does not.
static size_t unit_at(text t, size_t at, text unit) {
  size_t i = at;
  for (size_t k = 0; k < unit.n; k++) {
    if (i >= t.n) return 0;
    if (unit.s[k] == '.') {
      size_t length;
      word_at(t, i, &length);
      i += length;
    } else if (t.s[i++] != unit.s[k]) {
      return 0;
    }
  }
  return i - at;
}

// Each place of a unit between characters that are no part of a word: the unit goes, its neighbours
// stay, and a neighbour counts for one place only.
static text without_unit(cft_grader *g, text t, text unit) {
  writer w = {0};
  size_t from = 0;  // what has been passed on
  for (size_t at = 0; at < t.n; at++) {
    const char *p = memchr(t.s + at, unit.s[0], t.n - at);
    if (!p) break;
    at = (size_t)(p - t.s);
    size_t taken = unit_at(t, at, unit), length;
    if (!taken) continue;
    if (at > 0) {
      if (word_before(t, at, &length) || at - length < from) continue;
    }
    size_t end = at + taken, next = 0;
    if (end < t.n && word_at(t, end, &next)) continue;
    if (end >= t.n) next = 0;
    if (!w.s) w = writer_new(g, t.n);
    write_text(&w, text_slice(t, from, at));
    write_text(&w, text_slice(t, end, end + next));
    from = end + next;
    at = from ? from - 1 : 0;
  }
  if (!w.s) return t;
  write_text(&w, text_from(t, from));
  return written(&w);
}

static text without_units(cft_grader *g, text t) {
  enum { COUNT = sizeof paper_units / sizeof *paper_units };
  char buffer[40];
  bool has[256] = {false};
  for (size_t i = 0; i < t.n; i++) has[(uint8_t)t.s[i]] = true;
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < 2 * COUNT; i++) {
      text unit = {paper_units[i % COUNT], strlen(paper_units[i % COUNT])};
      if (!has[(uint8_t)unit.s[0]] || !has[(uint8_t)unit.s[unit.n - 1]]) {
        if (unit.s[unit.n - 1] != '.' || !has[(uint8_t)unit.s[0]]) continue;
      }
      if (i >= COUNT) {
        memcpy(buffer, unit.s, unit.n);
        buffer[unit.n] = 's';
        unit = (text){buffer, unit.n + 1};
      }
      text less = without_unit(g, t, unit);
      if (less.n) t = less;
    }
  }
  return t;
}

// ---- numbers, roots, fractions ----------------------------------------------------------------

// 27.0 and 27. before what is no digit, and at the end: 27.
static text without_point_zeros(cft_grader *g, text t, bool at_end) {
  writer w = writer_new(g, t.n);
  for (size_t i = 0; i < t.n;) {
    size_t digits = i;
    while (digits < t.n && is_digit(t.s[digits])) digits++;
    if (digits == i || digits == t.n || t.s[digits] != '.') {
      size_t stop = digits > i ? digits : i + 1;
      write_text(&w, text_slice(t, i, stop));
      i = stop;
      continue;
    }
    size_t zeros = digits + 1, length = 0;
    while (zeros < t.n && t.s[zeros] == '0') zeros++;
    bool fits = at_end ? zeros == t.n : zeros < t.n && !is_digit(t.s[zeros]);
    if (fits && !at_end) word_at(t, zeros, &length);
    write_text(&w, text_slice(t, i, fits ? digits : digits + 1));
    if (fits) write_text(&w, text_slice(t, zeros, zeros + length));
    i = fits ? zeros + length : digits + 1;
  }
  return written(&w);
}

// \sqrt12 is \sqrt{12}.
static text with_root_braces(cft_grader *g, text t) {
  text root = T("\\sqrt");
  writer w = writer_new(g, t.n + 2 * text_count(t, root));
  for (int64_t at; (at = text_find(t, root)) != NOWHERE;) {
    size_t begin = (size_t)at + root.n, end = begin, length;
    while (end < t.n && word_at(t, end, &length)) end += length;
    write_text(&w, (text){t.s, begin});
    if (end > begin) {
      write_byte(&w, '{');
      write_text(&w, text_slice(t, begin, end));
      write_byte(&w, '}');
    }
    t = text_from(t, end);
  }
  write_text(&w, t);
  return written(&w);
}

// \frac12 is \frac{1}{2}, \frac1{72} is \frac{1}{72}; a \frac with less behind it leaves all as it
// is.
static text with_fraction_braces(cft_grader *g, text t) {
  text frac = T("\\frac"), whole = t;
  int64_t at = text_find(t, frac);
  if (at == NOWHERE) return t;
  writer w = writer_new(g, t.n + 4 * text_count(t, frac));
  write_text(&w, (text){t.s, (size_t)at});
  for (t = text_from(t, (size_t)at); t.n;) {
    t = text_from(t, frac.n);
    int64_t next = text_find(t, frac);
    text part = {t.s, next == NOWHERE ? t.n : (size_t)next};
    t = text_from(t, part.n);
    write_text(&w, frac);
    if (part.n && part.s[0] == '{') {
      write_text(&w, part);
      continue;
    }
    size_t a, b;
    if (python_length(part) < 2) return whole;
    word_at(part, 0, &a);
    word_at(part, a, &b);
    write_byte(&w, '{');
    write_text(&w, (text){part.s, a});
    write_byte(&w, '}');
    bool brace = part.s[a] == '{';
    if (!brace) write_byte(&w, '{');
    write_text(&w, text_slice(part, a, a + b));
    if (!brace) write_byte(&w, '}');
    write_text(&w, text_from(part, a + b));
  }
  return written(&w);
}

// An integer as Python prints it.
static bool is_printed_integer(text t) {
  if (t.n && t.s[0] == '-') {
    t = text_from(t, 1);
    if (t.n == 1 && t.s[0] == '0') return false;
  }
  if (!t.n || (t.n > 1 && t.s[0] == '0')) return false;
  for (size_t i = 0; i < t.n; i++)
    if (!is_digit(t.s[i])) return false;
  return true;
}

static text slash_as_fraction(cft_grader *g, text t) {
  if (text_count(t, T("/")) != 1) return t;
  int64_t at = text_find(t, T("/"));
  text a = {t.s, (size_t)at}, b = text_from(t, (size_t)at + 1);
  if (text_find(a, T("sqrt")) == NOWHERE && !is_printed_integer(a)) return t;
  if (text_find(b, T("sqrt")) == NOWHERE && !is_printed_integer(b)) return t;
  text head = text_join(g, T("\\frac{"), a, T("}{"));
  return text_join(g, head, b, T("}"));
}

// ---- the rules, in order ----------------------------------------------------------------------

static text forms(cft_grader *g, text t) {
  t = python_strip(t);
  t = drop(g, t, T("\n"));
  t = python_strip_of(t, ".", false, true);
  t = drop(g, t, T("\\!"));
  t = between(g, t, T("\\begin{array}{"), T("}"), T("\\begin{pmatrix}"), false);
  t = text_replace(g, t, T("\\end{array}"), T("\\end{pmatrix}"));
  t = text_replace(g, t, T("bmatrix"), T("pmatrix"));
  t = text_replace(g, t, T("tfrac"), T("frac"));
  t = text_replace(g, t, T("dfrac"), T("frac"));
  t = text_replace(g, t, T("\\neq"), T("\\ne"));
  t = text_replace(g, t, T("\\leq"), T("\\le"));
  t = text_replace(g, t, T("\\geq"), T("\\ge"));
  t = drop(g, t, T("\\left"));
  t = drop(g, t, T("\\right"));
  t = text_replace(g, t, T("\\{"), T("{"));
  return text_replace(g, t, T("\\}"), T("}"));
}

// From the first \text{ on, where the last byte is a brace, if something remains.
static text without_last_text(text t) {
  int64_t at = text_find(t, T("\\text{"));
  if (at == NOWHERE || !text_ends(t, T("}"))) return t;
  text left = python_strip((text){t.s, (size_t)at});
  return left.n ? left : t;
}

static text signs(cft_grader *g, text t) {
  static const char *const dropped[] = {"^{\\circ}", "^\\circ", "\\$", "$", "\\(", "\\)"};
  static const char *const names[] = {"x=",    "y=",    "z=",    "x\\in", "y\\in",
                                      "z\\in", "x\\to", "y\\to", "z\\to"};
  for (int i = 0; i < 6; i++) t = drop(g, t, (text){dropped[i], strlen(dropped[i])});
  t = paper_number_words(g, t);
  t = between(g, t, T("\\text{"), T("}"), T(""), true);
  for (int i = 0; i < 9; i++) t = drop(g, t, (text){names[i], strlen(names[i])});
  t = text_replace(g, t, T("\\emptyset"), T("{}"));
  t = text_replace(g, t, T("(-\\infty,\\infty)"), T("\\mathbb{R}"));
  t = drop(g, t, T("\\%"));
  t = drop(g, t, T("%"));
  t = text_replace(g, t, T(" ."), T(" 0."));
  t = text_replace(g, t, T("{."), T("{0."));
  t = text_replace(g, t, T("infinity"), T("\\infty"));
  if (text_find(t, T("\\infty")) == NOWHERE) t = text_replace(g, t, T("inf"), T("\\infty"));
  t = text_replace(g, t, T("+\\inity"), T("\\infty"));
  t = drop(g, t, T("and"));
  t = drop(g, t, T("\\mathbf"));
  t = between(g, t, T("\\mbox{"), T("}"), T(""), false);
  if (text_find(t, T("j")) != NOWHERE && text_find(t, T("i")) == NOWHERE)
    t = text_replace(g, t, T("j"), T("i"));
  return t;
}

text paper_clean(cft_grader *g, text t, bool keep_units) {
  if (t.n > 2 * CFT_GRADE_ANSWER_BYTES) grade_stop(g, "the answer is longer than is read");
  t = without_last_text(forms(g, t));
  if (!keep_units) t = without_units(g, t);
  t = signs(g, t);
  t = without_point_zeros(g, t, false);
  t = without_point_zeros(g, t, true);
  if (!t.n) return t;
  if (t.s[0] == '.') t = text_join(g, T("0"), t, T(""));
  if (text_count(t, T("=")) == 1) {
    int64_t at = text_find(t, T("="));
    if (python_length((text){t.s, (size_t)at}) <= 2) t = text_from(t, (size_t)at + 1);
  }
  t = with_root_braces(g, t);
  t = drop(g, t, T(" "));
  return slash_as_fraction(g, with_fraction_braces(g, t));
}
