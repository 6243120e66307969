// structure.c - lists, sets, intervals, matrices, relations: which parts are compared with which.
#include "grade/compare.h"

enum { MOST_ITEMS = 64 };

int infinity_sign(const expr *e) {
  if (e->kind == X_CONSTANT && e->op == C_INFINITY) return 1;
  if (e->kind == X_NEGATE) return -infinity_sign(e->items[0]);
  if (e->kind == X_ADD && e->n == 1) return infinity_sign(e->items[0]);
  return 0;
}

static bool is_constant(const expr *e, expr_constant which) {
  return e->kind == X_CONSTANT && e->op == (int)which;
}

// ---- parts in order, parts in any order -------------------------------------------------------

static verdict in_order(cft_grader *g, expr *const *a, expr *const *r, int n, const char *why) {
  verdict doubt = right(why);
  for (int i = 0; i < n; i++) {
    verdict v = compare_trees(g, a[i], r[i]);
    if (v.is == CFT_GRADE_WRONG) return wrong("a part differs");
    if (v.is == CFT_GRADE_UNKNOWN) doubt = v;
  }
  return doubt;
}

// Each part of one is a part of the other. A part that occurs twice occurs once.
static verdict covers(cft_grader *g, expr *const *a, int an, expr *const *r, int rn, bool swapped) {
  verdict doubt = right("");
  for (int i = 0; i < an; i++) {
    verdict best = wrong("a part differs");
    for (int k = 0; k < rn && best.is != CFT_GRADE_RIGHT; k++) {
      verdict v = swapped ? compare_trees(g, r[k], a[i]) : compare_trees(g, a[i], r[k]);
      if (v.is == CFT_GRADE_RIGHT || best.is == CFT_GRADE_WRONG) best = v;
    }
    if (best.is == CFT_GRADE_WRONG) return wrong("a part differs");
    if (best.is == CFT_GRADE_UNKNOWN) doubt = best;
  }
  return doubt;
}

static verdict in_any_order(cft_grader *g, expr *const *a, int an, expr *const *r, int rn) {
  if (an > MOST_ITEMS || rn > MOST_ITEMS) return unknown("more parts than are compared");
  verdict v = covers(g, a, an, r, rn, false), w = right("");
  if (v.is != CFT_GRADE_WRONG) w = covers(g, r, rn, a, an, true);
  if (v.is == CFT_GRADE_WRONG || w.is == CFT_GRADE_WRONG)
    return an == rn ? wrong("a part differs") : wrong("the numbers of parts differ");
  if (v.is == CFT_GRADE_UNKNOWN) return v;
  return w.is == CFT_GRADE_UNKNOWN ? w : right("the same parts");
}

// ---- plus or minus ----------------------------------------------------------------------------

static bool has_both_signs(const expr *e) {
  if (e->kind == X_PLUS_MINUS) return true;
  if (e->kind == X_LIST || e->kind == X_SET || e->kind == X_MATRIX || e->kind == X_RELATION)
    return false;
  for (int i = 0; i < e->n; i++)
    if (has_both_signs(e->items[i])) return true;
  return false;
}

// The tree with every \pm as `sign` and every \mp as its opposite.
static expr *with_sign(cft_grader *g, const expr *e, char sign) {
  expr *copy = expr_new(g, e->kind, 0);
  *copy = *e;
  grade_step(g);
  copy->items = e->n ? grade_alloc(g, (size_t)e->n * sizeof *copy->items) : NULL;
  for (int i = 0; i < e->n; i++) copy->items[i] = with_sign(g, e->items[i], sign);
  if (e->kind != X_PLUS_MINUS) return copy;
  bool plus = e->op == sign;
  expr *last = copy->items[e->n - 1];
  if (!plus) last = expr_new(g, X_NEGATE, 1, last);
  return e->n == 1 ? last : expr_new(g, X_ADD, 2, copy->items[0], last);
}

// The parts of a list or set, with each \pm made two; of anything else itself.
static int parts_of(cft_grader *g, const expr *e, expr **parts) {
  int n = 0;
  bool many = e->kind == X_SET || e->kind == X_LIST;
  for (int i = 0; i < (many ? e->n : 1); i++) {
    expr *part = many ? e->items[i] : (expr *)e;
    if (n + 2 > MOST_ITEMS) grade_stop(g, "more parts than are compared");
    if (lenient(g) && part->kind == X_RELATION && part->n == 2 && part->ops[0] == R_EQUAL &&
        has_both_signs(part->items[1]) && part->items[0]->kind == X_VARIABLE)
      part = part->items[1];  // x = 1 \pm 2
    if (has_both_signs(part)) {
      parts[n++] = with_sign(g, part, '+');
      parts[n++] = with_sign(g, part, '-');
    } else {
      parts[n++] = part;
    }
  }
  return n;
}

static verdict as_sets(cft_grader *g, const expr *a, const expr *r) {
  expr *x[MOST_ITEMS], *y[MOST_ITEMS];
  int n = parts_of(g, a, x), m = parts_of(g, r, y);
  return in_any_order(g, x, n, y, m);
}

// ---- intervals --------------------------------------------------------------------------------

static bool of_brackets(const expr *e, interval *out) {
  if (e->kind != X_LIST || e->n != 2 || !e->open || e->open == '{') return false;
  *out = (interval){e->items[0], e->items[1], e->open == '[', e->close == ']', T("")};
  return true;
}

static bool less(int op) { return op == R_LESS || op == R_LESS_EQUAL; }
static bool more(int op) { return op == R_MORE || op == R_MORE_EQUAL; }
static bool closed(int op) { return op == R_LESS_EQUAL || op == R_MORE_EQUAL; }

static bool of_inequality(cft_grader *g, const expr *e, interval *out) {
  if (e->kind != X_RELATION || e->n > 3) return false;
  int p = e->ops[0], q = e->n == 3 ? e->ops[1] : -1;
  if (!less(p) && !more(p)) return false;
  const expr *x = e->items[0], *y = e->items[1];
  if (e->n == 2 && x->kind == X_NEGATE && x->items[0]->kind == X_VARIABLE) {  // -x > -1
    x = x->items[0], y = expr_new(g, X_NEGATE, 1, y);
    p = p == R_LESS         ? R_MORE
        : p == R_MORE       ? R_LESS
        : p == R_LESS_EQUAL ? R_MORE_EQUAL
                            : R_LESS_EQUAL;
  }
  if (e->n == 2 && x->kind == X_VARIABLE) {  // x < 3
    *out = less(p) ? (interval){NULL, y, false, closed(p), x->name}
                   : (interval){y, NULL, closed(p), false, x->name};
    return true;
  }
  if (e->n == 2 && y->kind == X_VARIABLE) {  // 3 < x
    *out = less(p) ? (interval){x, NULL, closed(p), false, y->name}
                   : (interval){NULL, x, false, closed(p), y->name};
    return true;
  }
  if (e->n != 3 || y->kind != X_VARIABLE || less(p) != less(q) || more(p) != more(q)) return false;
  const expr *z = e->items[2];  // a < x < b
  *out = less(p) ? (interval){x, z, closed(p), closed(q), y->name}
                 : (interval){z, x, closed(q), closed(p), y->name};
  return true;
}

bool as_interval(cft_grader *g, const expr *e, interval *out) {
  bool is = of_brackets(e, out) || of_inequality(g, e, out);
  bool inside =
      e->kind == X_RELATION && e->n == 2 && e->ops[0] == R_IN && e->items[0]->kind == X_VARIABLE;
  if (inside && of_brackets(e->items[1], out)) out->variable = e->items[0]->name, is = true;
  if (is_constant(e, C_REALS)) *out = (interval){0}, is = true;
  if (!is) return false;
  if (out->low && infinity_sign(out->low) < 0) out->low = NULL, out->low_closed = false;
  if (out->high && infinity_sign(out->high) > 0) out->high = NULL, out->high_closed = false;
  return true;
}

static verdict ends(cft_grader *g, const expr *a, const expr *r) {
  if (!a != !r) return wrong("an end differs");
  return a ? compare_trees(g, a, r) : right("");
}

verdict compare_intervals(cft_grader *g, const interval *a, const interval *r) {
  verdict low = ends(g, a->low, r->low), high = ends(g, a->high, r->high);
  if (low.is == CFT_GRADE_WRONG || high.is == CFT_GRADE_WRONG) return wrong("an end differs");
  if (a->low_closed != r->low_closed || a->high_closed != r->high_closed)
    return wrong("an end is closed in one and open in the other");
  if (a->variable.n && r->variable.n && !text_is(a->variable, r->variable))
    return wrong("other variables");
  if (low.is == CFT_GRADE_UNKNOWN) return low;
  return high.is == CFT_GRADE_UNKNOWN ? high : right("the same interval");
}

// ---- matrices ---------------------------------------------------------------------------------

static verdict matrices(cft_grader *g, const expr *a, const expr *r) {
  if (a->rows != r->rows || a->columns != r->columns) {
    bool turned = lenient(g) && a->n == r->n && (a->rows == 1 || a->columns == 1) &&
                  (r->rows == 1 || r->columns == 1);
    if (!turned) return wrong("the shapes differ");
  }
  return in_order(g, a->items, r->items, a->n, "the same matrix");
}

static bool is_vector(const expr *e) {
  return e->kind == X_MATRIX && (e->rows == 1 || e->columns == 1);
}

// ---- any against any --------------------------------------------------------------------------

static bool plain_list(const expr *e) { return e->kind == X_LIST && !e->open; }
static bool round_list(const expr *e) { return e->kind == X_LIST && e->open && e->open != '{'; }

static verdict lists(cft_grader *g, const expr *a, const expr *r) {
  if (plain_list(a) && plain_list(r)) {
    if (lenient(g)) return as_sets(g, a, r);
    if (a->n != r->n) return wrong("the numbers of parts differ");
    return in_order(g, a->items, r->items, a->n, "the same parts in order");
  }
  if (round_list(a) && round_list(r)) {
    if (a->n != r->n) return wrong("the numbers of parts differ");
    if (a->n == 2 && (a->open != r->open || a->close != r->close))
      return wrong("the brackets differ");
    if (!lenient(g) && (a->open != r->open || a->close != r->close))
      return wrong("the brackets differ");
    return in_order(g, a->items, r->items, a->n, "the same parts in order");
  }
  if (!lenient(g)) return wrong("one has brackets, the other none");
  if (a->n != r->n) return wrong("the numbers of parts differ");
  return in_order(g, a->items, r->items, a->n, "the same parts, without brackets");
}

static verdict unions(cft_grader *g, const expr *a, const expr *r) {
  if (a->kind != r->kind) return wrong("a union and no union");
  return in_any_order(g, a->items, a->n, r->items, r->n);
}

// Whether the left side of an equation is but a name for the right one: x, f(x), (x, y), |AB|, A:B,
// \text{Area}.
static bool is_label(const expr *e) {
  if (e->kind == X_VARIABLE || e->kind == X_TEXT) return true;
  bool of_labels = e->kind == X_MULTIPLY || e->kind == X_LIST || e->kind == X_DIVIDE ||
                   (e->kind == X_CALL && e->op == F_ABS);
  if (!of_labels) return false;
  for (int i = 0; i < e->n; i++)
    if (!is_label(e->items[i])) return false;
  return true;
}

// What a relation says, where the other side is no relation: its last part, or the set behind \in.
// Of a reference only where its left side is a name: x + y = 0 does not say 0.
static const expr *said(cft_grader *g, const expr *e, bool is_reference) {
  if (!lenient(g) || e->kind != X_RELATION) return e;
  bool equal = true;
  for (int i = 0; i + 1 < e->n; i++) equal = equal && e->ops[i] == R_EQUAL;
  if (equal && (!is_reference || is_label(e->items[0]))) return e->items[e->n - 1];
  if (e->n == 2 && e->ops[0] == R_IN) return e->items[1];
  return e;
}

// A chain without what stands behind its first \approx: x = 1/3 \approx 0.33.
static const expr *exact_part(cft_grader *g, const expr *e) {
  if (e->kind != X_RELATION) return e;
  int n = 1;
  while (n < e->n && e->ops[n - 1] != R_ABOUT) n++;
  if (n == e->n) return e;
  if (n == 1) {
    bool name = e->items[0]->kind == X_VARIABLE || e->items[0]->kind == X_TEXT;
    return name && lenient(g) ? e->items[1] : e->items[0];
  }
  expr *cut = expr_new(g, X_RELATION, 0);
  *cut = *e;
  cut->n = n;
  return cut;
}

static verdict constants(const expr *a, const expr *r) {
  if (infinity_sign(a) || infinity_sign(r))
    return infinity_sign(a) == infinity_sign(r) ? right("infinity")
                                                : wrong("infinity and no infinity");
  for (int c = C_EMPTY; c <= C_REALS; c++)
    if (is_constant(a, c) || is_constant(r, c))
      return is_constant(a, c) && is_constant(r, c) ? right("the same set")
                                                    : wrong("the sets differ");
  return unknown("");
}

static verdict texts(cft_grader *g, const expr *a, const expr *r) {
  if (a->kind == X_TEXT && r->kind == X_TEXT) return compare_words(g, a->name, r->name);
  return wrong("words and no words");
}

static verdict single(cft_grader *g, const expr *a, const expr *r) {
  verdict v = constants(a, r);
  if (v.is != CFT_GRADE_UNKNOWN) return v;
  if (a->kind == X_TEXT || r->kind == X_TEXT) return texts(g, a, r);
  return compare_scalars(g, a, r);
}

verdict compare_trees(cft_grader *g, const expr *a, const expr *r) {
  grade_step(g);
  a = exact_part(g, a), r = exact_part(g, r);
  if (a->kind == X_RELATION && r->kind == X_RELATION) return compare_relations(g, a, r);
  interval x, y;
  bool relation = a->kind == X_RELATION || r->kind == X_RELATION;
  bool reals = is_constant(a, C_REALS) || is_constant(r, C_REALS);
  if ((relation || reals) && as_interval(g, a, &x) && as_interval(g, r, &y)) {
    if (!lenient(g))
      return relation ? wrong("an interval and an inequality") : compare_intervals(g, &x, &y);
    return compare_intervals(g, &x, &y);
  }
  a = said(g, a, false), r = said(g, r, true);
  if (a->kind == X_RELATION || r->kind == X_RELATION) return wrong("a relation and no relation");
  if (has_both_signs(a) || has_both_signs(r)) return as_sets(g, a, r);
  if (a->kind == X_SET || r->kind == X_SET) {
    bool other = a->kind == r->kind || (lenient(g) && !round_list(a) && !round_list(r));
    return other ? as_sets(g, a, r) : wrong("a set and no set");
  }
  if (a->kind == X_UNION || r->kind == X_UNION || a->kind == X_INTERSECT || r->kind == X_INTERSECT)
    return unions(g, a, r);
  if (a->kind == X_MATRIX && r->kind == X_MATRIX) return matrices(g, a, r);
  if (lenient(g) && (is_vector(a) || is_vector(r)) && (round_list(a) || round_list(r)))
    return a->n == r->n ? in_order(g, a->items, r->items, a->n, "the same vector")
                        : wrong("the numbers of parts differ");
  if (a->kind == X_MATRIX || r->kind == X_MATRIX) return wrong("a matrix and no matrix");
  if (a->kind == X_LIST && r->kind == X_LIST) return lists(g, a, r);
  if (a->kind == X_LIST || r->kind == X_LIST) {
    const expr *list = a->kind == X_LIST ? a : r;
    if (lenient(g) && plain_list(list)) return as_sets(g, a, r);  // 2, 2 for 2
    return wrong("one value and several");
  }
  return single(g, a, r);
}
