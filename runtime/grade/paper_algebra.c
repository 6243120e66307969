// paper_algebra.c - where the evaluations of the paper and of Qwen2.5-Math ask sympy: the same
// question put to our trees and to ball arithmetic. docs/grade.md says how often the answers agree.
#include <math.h>

#include "grade/expr.h"
#include "grade/paper.h"
#include "grade/python.h"

static bool value_of(cft_grader *g, const expr *e, double *out) {
  fraction f;
  double imaginary = 0;
  const char *why;
  if (expr_fraction(g, e, &f)) {
    *out = (double)f.over / (double)f.under;
    return true;
  }
  return balls_value(g, e, out, &imaginary, &why) && fabs(imaginary) < 1e-12;
}

// \pi, e and i are names to their parsers, without a value.
static expr *with_names(expr *e) {
  static const char *const names[] = {[C_PI] = "pi", [C_E] = "e", [C_I] = "i"};
  if (e->kind == X_CONSTANT && e->op <= C_I) {
    e->kind = X_VARIABLE;
    e->name = (text){names[e->op], strlen(names[e->op])};
  }
  for (int i = 0; i < e->n; i++) with_names(e->items[i]);
  return e;
}

static verdict trees(cft_grader *g, const expr *a, const expr *r);

static verdict parts(cft_grader *g, const expr *a, const expr *r) {
  verdict doubt = right("the same parts");
  if (a->n != r->n || a->kind != r->kind || a->kind == X_TEXT) return wrong("the parts differ");
  for (int i = 0; i < a->n; i++) {
    verdict v = trees(g, a->items[i], r->items[i]);
    if (v.is == CFT_GRADE_WRONG) return wrong("the parts differ");
    if (v.is == CFT_GRADE_UNKNOWN) doubt = v;
  }
  return doubt;
}

static bool is_many(const expr *e) {
  return e->kind == X_LIST || e->kind == X_SET || e->kind == X_MATRIX || e->kind == X_RELATION ||
         e->kind == X_TEXT;
}

static bool is_read(const expr *e) {
  if (e->kind == X_PLUS_MINUS || e->kind == X_TEXT) return false;
  for (int i = 0; i < e->n; i++)
    if (!is_read(e->items[i])) return false;
  return true;
}

// What of a tree their parsers take: of a union its first set.
static const expr *beginning(const expr *e) {
  return e->kind == X_UNION || e->kind == X_INTERSECT ? e->items[0] : e;
}

static verdict trees(cft_grader *g, const expr *a, const expr *r) {
  double x, y;
  a = beginning(a), r = beginning(r);
  if (a->kind == X_RELATION && r->kind == X_RELATION)
    return a->n == r->n && memcmp(a->ops, r->ops, (size_t)a->n - 1) == 0
               ? parts(g, a, r)
               : wrong("the relations differ");
  if (!is_read(a) || !is_read(r)) return wrong("the texts differ, and one is no formula of theirs");
  if (a->kind == X_CONSTANT || r->kind == X_CONSTANT)  // infinity, sets
    return a->kind == r->kind && a->op == r->op ? right("the same constant")
                                                : wrong("values differ");
  if (is_many(a) || is_many(r)) return parts(g, a, r);
  if (value_of(g, a, &x) && value_of(g, r, &y))
    return python_is_close(x, y, 1e-4) ? right("values within 1e-4") : wrong("values differ");
  return balls_equal(g, a, r);
}

// Their parsers read the beginning of a text that is a formula, and pass over the rest: of "1,-3"
// the 1, of "5. I hope" the 5. So do ours here.
verdict paper_symbolic(cft_grader *g, text answer, text reference) {
  const char *why;
  if (text_is(answer, reference)) return right("the same text");
  text a = clean_latex(g, text_replace(g, answer, T("\\\\"), T("\\")));
  text r = clean_latex(g, text_replace(g, reference, T("\\\\"), T("\\")));
  bool matrix = text_find(r, T("matrix}")) != NOWHERE;  // a row ends in the two backslashes
  if (matrix) a = clean_latex(g, answer), r = clean_latex(g, reference);
  expr *x = parse_beginning(g, a, &why), *y = x ? parse_beginning(g, r, &why) : NULL;
  if (!x || !y) return wrong("the texts differ, and one is no formula");
  return trees(g, with_names(x), with_names(y));
}
