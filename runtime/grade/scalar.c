// scalar.c - one value against another: units, percent signs, exact fractions, then balls.
#include <math.h>

#include "grade/compare.h"

// ---- what surrounds a value -------------------------------------------------------------------

typedef struct measured {
  const expr *value;
  bool has_unit, percent, degree;
  text unit;
} measured;

static measured measured_of(const expr *e) {
  measured m = {.value = e};
  for (int i = 0; i < 6; i++) {
    if (m.value->kind == X_UNIT && (!m.has_unit || text_is(m.unit, T("$"))))
      m.has_unit = true, m.unit = m.value->name;
    else if (m.value->kind == X_PERCENT && !m.percent)
      m.percent = true;
    else if (m.value->kind == X_DEGREE && !m.degree)
      m.degree = true;
    else if (m.value->kind == X_NEGATE && m.value->items[0]->kind == X_UNIT && !m.has_unit) {
      // -$5: the sign stays with the value
      const expr *inside = m.value->items[0];
      m.has_unit = true, m.unit = inside->name;
      break;
    } else
      break;
    m.value = m.value->items[0];
  }
  return m;
}

// -$5 and -(5 cm) as -5 with its unit.
static const expr *unit_outside(cft_grader *g, const expr *e) {
  if (e->kind != X_NEGATE || e->items[0]->kind != X_UNIT) return e;
  expr *minus = expr_new(g, X_NEGATE, 1, e->items[0]->items[0]);
  expr *unit = expr_new(g, X_UNIT, 1, minus);
  unit->name = e->items[0]->name;
  return unit;
}

// ---- decimals ---------------------------------------------------------------------------------

typedef struct decimal {
  bool is;
  int places, digits;  // behind the point; that count
} decimal;

static decimal decimal_of(const expr *e) {
  if (e->kind == X_NEGATE) e = e->items[0];
  if (e->kind == X_ADD && e->n == 1) e = e->items[0];
  if (e->kind != X_NUMBER || e->scale >= 0 || e->scale < -30) return (decimal){0};
  return (decimal){true, (int)-e->scale, (int)e->name.n};
}

static bool real_value(cft_grader *g, const expr *e, double *out) {
  fraction f;
  double imaginary;
  const char *why;
  if (expr_fraction(g, e, &f)) {
    *out = (double)f.over / (double)f.under;
    return true;
  }
  return balls_value(g, e, out, &imaginary, &why) && imaginary == 0;
}

enum { REFERENCE_DIGITS = 3, ANSWER_DIGITS = 4 };

// Decimals that are cut where the other side is not: 3.14 for the answer 3.14159 or \pi; 0.3056 for
// the reference 11/36.
static verdict rounded(cft_grader *g, const expr *answer, const expr *reference) {
  decimal a = decimal_of(answer), r = decimal_of(reference);
  double x, y;
  bool to_reference = r.is && r.digits >= REFERENCE_DIGITS && (!a.is || a.places > r.places);
  bool to_answer = a.is && a.digits >= ANSWER_DIGITS && (!r.is || r.places > a.places);
  if (!to_reference && !to_answer) return wrong("");
  if (!real_value(g, answer, &x) || !real_value(g, reference, &y)) return wrong("");
  double half = 0.5 * pow(10, -(to_reference ? r.places : a.places)) * (1 + 1e-9);
  if (fabs(x - y) > half) return wrong("");
  return right(to_reference ? "it rounds to the reference" : "it is the reference rounded");
}

// ---- values -----------------------------------------------------------------------------------

static bool huge_number(const expr *e) {
  return e->kind == X_NUMBER && (e->name.n > 36 || e->scale > 36 || e->scale < -36);
}

static verdict values(cft_grader *g, const expr *a, const expr *r) {
  fraction x, y;
  bool same_base =
      a->kind == X_BASE && r->kind == X_BASE && text_is(a->items[0]->name, r->items[0]->name);
  if (same_base)
    return text_is(a->name, r->name) && a->scale == r->scale ? right("the same digits")
                                                             : wrong("other digits");
  if (huge_number(a) && huge_number(r))  // literals are in one form: no value is needed
    return text_is(a->name, r->name) && a->scale == r->scale ? right("the numbers are equal")
                                                             : wrong("the numbers differ");
  bool exact_a = expr_fraction(g, a, &x), exact_r = expr_fraction(g, r, &y);
  if (exact_a && exact_r)
    return fraction_equal(x, y) ? right("the numbers are equal") : wrong("the numbers differ");
  return balls_equal(g, a, r);
}

static verdict close_values(cft_grader *g, const expr *a, const expr *r) {
  verdict v = values(g, a, r);
  if (v.is != CFT_GRADE_RIGHT && lenient(g)) {
    verdict cut = rounded(g, a, r);
    if (cut.is == CFT_GRADE_RIGHT) return cut;
  }
  return v;
}

// Both have a unit: 5 m against 500 cm.
static verdict with_units(cft_grader *g, measured a, measured r) {
  unit_meaning x = unit_named(g, a.unit), y = unit_named(g, r.unit);
  if (text_is_fold(a.unit, r.unit)) return close_values(g, a.value, r.value);
  if (x.dimension && y.dimension) {
    if (x.dimension != y.dimension || x.power != y.power)
      return wrong("the units measure different things");
    double va, vr;
    if (x.factor == y.factor) return close_values(g, a.value, r.value);
    if (!real_value(g, a.value, &va) || !real_value(g, r.value, &vr))
      return unknown("units of values that are no numbers");
    va *= pow(x.factor, x.power), vr *= pow(y.factor, y.power);
    return fabs(va - vr) <= 1e-9 * fmax(fabs(va), fabs(vr)) ? right("equal in other units")
                                                            : wrong("the units differ");
  }
  if (!lenient(g)) return wrong("the units differ");
  return close_values(g, a.value, r.value);
}

static const expr *percent(cft_grader *g, const expr *value) {
  return expr_new(g, X_PERCENT, 1, value);
}
static const expr *degree(cft_grader *g, const expr *value) {
  return expr_new(g, X_DEGREE, 1, value);
}

static verdict strictly(cft_grader *g, measured a, measured r) {
  const expr *x = a.percent ? percent(g, a.value) : a.degree ? degree(g, a.value) : a.value;
  const expr *y = r.percent ? percent(g, r.value) : r.degree ? degree(g, r.value) : r.value;
  if (a.has_unit != r.has_unit) return wrong("one has a unit, the other none");
  a.value = x, r.value = y;
  return a.has_unit ? with_units(g, a, r) : values(g, x, y);
}

verdict compare_scalars(cft_grader *g, const expr *answer, const expr *reference) {
  measured a = measured_of(unit_outside(g, answer)), r = measured_of(unit_outside(g, reference));
  if (!lenient(g)) return strictly(g, a, r);
  int marks_a = a.percent + a.degree + a.has_unit, marks_r = r.percent + r.degree + r.has_unit;
  bool others = a.percent != r.percent || a.degree != r.degree || a.has_unit != r.has_unit;
  if (marks_a && marks_r && others) return wrong("the units measure different things");
  if (a.percent != r.percent) {  // 50% is 50 where a percentage was asked for, and 0.5 always
    verdict v = close_values(g, a.value, r.value);
    if (v.is == CFT_GRADE_RIGHT) return right("equal but for a percent sign");
    return close_values(g, a.percent ? percent(g, a.value) : a.value,
                        r.percent ? percent(g, r.value) : r.value);
  }
  if (a.degree != r.degree) {
    verdict v = close_values(g, a.value, r.value);
    if (v.is == CFT_GRADE_RIGHT) return right("equal but for a degree sign");
    return close_values(g, a.degree ? degree(g, a.value) : a.value,
                        r.degree ? degree(g, r.value) : r.value);
  }
  if (a.has_unit && r.has_unit) return with_units(g, a, r);
  if (r.value->kind == X_BASE && a.value->kind == X_NUMBER)
    return a.value->scale == 0 && text_is(r.value->name, a.value->name)
               ? right("equal but for the base's index")
               : wrong("digits of another base");
  verdict v = close_values(g, a.value, r.value);
  if (v.is == CFT_GRADE_RIGHT && a.has_unit != r.has_unit) v.why = "equal but for a unit";
  return v;
}
