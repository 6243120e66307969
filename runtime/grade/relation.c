// relation.c - equations and inequalities against each other.
#include "grade/compare.h"

static expr *difference(cft_grader *g, const expr *e) {
  expr *minus = expr_new(g, X_NEGATE, 1, e->items[e->n - 1]);
  return expr_new(g, X_ADD, 2, e->items[0], minus);
}

static bool all_equal_signs(const expr *e) {
  for (int i = 0; i + 1 < e->n; i++)
    if (e->ops[i] != R_EQUAL && e->ops[i] != R_ABOUT) return false;
  return true;
}

// A name that a definition has at its left: y, f(x), x_1.
static bool is_name(const expr *e) {
  if (e->kind == X_VARIABLE) return true;
  return e->kind == X_MULTIPLY && e->n == 2 && e->items[0]->kind == X_VARIABLE &&
         e->items[1]->kind == X_VARIABLE;
}

static bool comparable(const expr *e) {
  if (e->kind == X_LIST || e->kind == X_SET || e->kind == X_MATRIX || e->kind == X_RELATION ||
      e->kind == X_UNION || e->kind == X_INTERSECT || e->kind == X_TEXT || e->kind == X_UNIT ||
      e->kind == X_PLUS_MINUS)
    return false;
  for (int i = 0; i < e->n; i++)
    if (!comparable(e->items[i])) return false;
  return true;
}

static verdict equations(cft_grader *g, const expr *a, const expr *r) {
  const expr *left_a = a->items[0], *left_r = r->items[0];
  const expr *right_a = a->items[a->n - 1], *right_r = r->items[r->n - 1];
  bool same_name = is_name(left_a) && is_name(left_r) &&
                   (left_a->kind != X_VARIABLE || left_r->kind != X_VARIABLE ||
                    text_is(left_a->name, left_r->name));
  if (same_name || !comparable(a->items[0]) || !comparable(r->items[0]) || !comparable(right_a) ||
      !comparable(right_r)) {
    verdict sides = compare_trees(g, right_a, right_r);
    verdict lefts = same_name ? right("") : compare_trees(g, left_a, left_r);
    if (same_name || lefts.is == CFT_GRADE_RIGHT) {
      if (sides.is == CFT_GRADE_RIGHT || !comparable(right_a) || !comparable(right_r)) return sides;
    } else if (!comparable(right_a) || !comparable(right_r)) {
      return lefts;
    }
  }
  verdict v = balls_proportional(g, difference(g, a), difference(g, r));
  if (v.is == CFT_GRADE_WRONG) v.why = "the equations differ";
  return v;
}

static int turned(int op) {
  switch (op) {
    case R_LESS: return R_MORE;
    case R_MORE: return R_LESS;
    case R_LESS_EQUAL: return R_MORE_EQUAL;
    case R_MORE_EQUAL: return R_LESS_EQUAL;
    default: return op;
  }
}

// The same sides under the same signs, from the left or from the right.
static verdict sides(cft_grader *g, const expr *a, const expr *r, bool backwards) {
  verdict doubt = right("the same relation");
  for (int i = 0; i + 1 < a->n; i++) {
    int op = backwards ? turned(r->ops[r->n - 2 - i]) : r->ops[i];
    if (a->ops[i] != op) return wrong("the relations differ");
  }
  for (int i = 0; i < a->n; i++) {
    verdict v = compare_trees(g, a->items[i], r->items[backwards ? r->n - 1 - i : i]);
    if (v.is == CFT_GRADE_WRONG) return wrong("the relations differ");
    if (v.is == CFT_GRADE_UNKNOWN) doubt = v;
  }
  return doubt;
}

verdict compare_relations(cft_grader *g, const expr *a, const expr *r) {
  interval x, y;
  if (as_interval(g, a, &x) && as_interval(g, r, &y)) return compare_intervals(g, &x, &y);
  if (all_equal_signs(a) && all_equal_signs(r)) return equations(g, a, r);
  if (a->n == 2 && r->n == 2 && a->ops[0] == R_IN && r->ops[0] == R_IN)
    return compare_trees(g, a->items[1], r->items[1]);
  if (a->n != r->n) return wrong("the relations differ");
  verdict v = sides(g, a, r, false);
  if (v.is != CFT_GRADE_RIGHT) {
    verdict w = sides(g, a, r, true);
    if (w.is != CFT_GRADE_WRONG) v = w;
  }
  if (v.is == CFT_GRADE_WRONG && a->n == 2 &&
      (a->ops[0] == r->ops[0] || a->ops[0] == turned(r->ops[0])))
    return unknown("inequalities that are not written alike");
  return v;
}
