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

static verdict trees(cft_grader *g, const expr *a, const expr *r) {
  if (a->kind == X_RELATION && r->kind == X_RELATION && a->n == 2 && r->n == 2) {
    verdict left = trees(g, a->items[0], r->items[0]), other = trees(g, a->items[1], r->items[1]);
    bool same = a->ops[0] == r->ops[0];
    if (same && left.is == CFT_GRADE_RIGHT && other.is == CFT_GRADE_RIGHT)
      return right("the same relation");
    return wrong("the relations differ");
  }
  double x, y;
  if (value_of(g, a, &x) && value_of(g, r, &y))
    return python_is_close(x, y, 1e-4) ? right("values within 1e-4") : wrong("values differ");
  return balls_equal(g, a, r);
}

verdict paper_symbolic(cft_grader *g, text answer, text reference) {
  const char *why;
  if (text_is(answer, reference)) return right("the same text");
  text a = clean_latex(g, text_replace(g, answer, T("\\\\"), T("\\")));
  text r = clean_latex(g, text_replace(g, reference, T("\\\\"), T("\\")));
  expr *x = parse_answer(g, a, true, &why), *y = x ? parse_answer(g, r, true, &why) : NULL;
  if (!x || !y) return unknown(why);
  return trees(g, x, y);
}
