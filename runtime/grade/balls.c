// balls.c - expressions at points, in ball arithmetic: what is unequal there is proven to be.
//
// A ball is a number and how far the truth may be from it; each operation widens it by its own
// errors. If a - b at a point excludes 0, then a and b differ. If it holds 0 and is small at all
// points, they are taken as equal. Sizes are bounded before each call, so that none takes long.
#include <math.h>
#include <stdlib.h>

#include "grade/balls.h"

enum {
  POINTS = 4,      // at which both sides must be equal
  TRIES = 12,      // points that are tried, since some lie outside of a domain
  AGREE_BITS = 80  // to which they must be
};
static const long precisions[] = {128, 256, 512};
static const long LAST_PRECISION = 2048;  // at which two constants must agree as well

static struct balls *balls_of(cft_grader *g, const char **why) {
  if (g->balls && !flint_gave_up()) return g->balls;
  const flint *f = flint_open(why);
  if (!f) return NULL;
  struct balls *b = malloc(sizeof *b);
  if (!b) {
    *why = "no memory for ball arithmetic";
    return NULL;
  }
  b->f = f, b->g = g, b->why = NULL;
  for (int i = 0; i < SLOTS + SPARE; i++) f->init(&b->slot[i]);
  return g->balls = b;
}

void balls_release(struct balls *b) {
  if (!b) return;
  if (!flint_gave_up())
    for (int i = 0; i < SLOTS + SPARE; i++) b->f->clear(&b->slot[i]);
  free(b);
}

static bool has_variable(const expr *e) {
  if (e->kind == X_VARIABLE) return true;
  for (int i = 0; i < e->n; i++)
    if (has_variable(e->items[i])) return true;
  return false;
}

// Is something rounded that varies?
static bool rounds(const expr *e) {
  bool floor = e->kind == X_CALL && (e->op == F_FLOOR || e->op == F_CEIL);
  if (floor && has_variable(e)) return true;
  for (int i = 0; i < e->n; i++)
    if (rounds(e->items[i])) return true;
  return false;
}

// ---- comparisons ------------------------------------------------------------------------------

enum { LEFT = 0, SAME = 1, DIFFERENT = 2, UNDECIDED = 3, UNDEFINED = 4 };

// What the ball `difference` says of two of the size `scale` (log2).
static int judged(struct balls *b, const ball *difference, double scale) {
  if (!b->f->contains_zero(difference)) return DIFFERENT;
  double size = balls_log2(b, difference);
  double bits = b->bits == LAST_PRECISION ? LAST_PRECISION / 2 : AGREE_BITS;
  if (scale < -40) scale = -40;
  return size <= scale - bits ? SAME : UNDECIDED;
}

// Both sides at one point: their values in slots SLOTS + 2 and SLOTS + 3.
static bool both(struct balls *b, const expr *x, const expr *y) {
  if (!balls_evaluate(b, x)) return false;
  b->f->set(&b->slot[SLOTS + 2], &b->slot[0]);
  if (!balls_evaluate(b, y)) return false;
  b->f->set(&b->slot[SLOTS + 3], &b->slot[0]);
  return true;
}

static int at_point(struct balls *b, const expr *x, const expr *y, bool proportional, bool first) {
  const flint *f = b->f;
  ball *vx = &b->slot[SLOTS + 2], *vy = &b->slot[SLOTS + 3];
  ball *px = &b->slot[SLOTS + 4], *py = &b->slot[SLOTS + 5], *d = &b->slot[SLOTS + 6];
  if (!both(b, x, y)) return UNDEFINED;
  if (proportional && first) {  // what all other points are compared with
    if (f->contains_zero(vx) || f->contains_zero(vy)) return UNDEFINED;
    f->div(px, vx, vy, b->bits);
    return SAME;
  }
  if (proportional)
    f->mul(py, vy, px, b->bits);
  else
    f->set(py, vy);
  double scale = fmax(balls_log2(b, vx), balls_log2(b, py));
  f->sub(d, vx, py, b->bits);
  return judged(b, d, scale);
}

static verdict compare(cft_grader *g, const expr *x, const expr *y, bool proportional) {
  const char *why = NULL;
  struct balls *b = balls_of(g, &why);
  if (!b) return unknown(why);
  bool varies = has_variable(x) || has_variable(y);
  int agreed = 0, wanted = varies ? POINTS + proportional : 1;
  verdict result = unknown("not defined at the points tried");
  b->rounds = rounds(x) || rounds(y);
  flint_for(g);
  for (int p = 0; p < TRIES && agreed < wanted; p++) {
    int said = UNDECIDED;
    b->point = p, b->why = "not decided at the points tried";
    for (size_t k = 0; k < 3 && said == UNDECIDED; k++) {
      b->bits = precisions[k];
      if (proportional) b->bits = precisions[2];
      said = at_point(b, x, y, proportional, agreed == 0);
    }
    if (said == SAME && !varies) {
      b->bits = LAST_PRECISION;
      said = at_point(b, x, y, proportional, true);
    }
    if (said == DIFFERENT) {
      flint_for(NULL);
      return wrong(varies ? "proven unequal at a point" : "values are proven unequal");
    }
    if (said == SAME) agreed++;
    if (said == UNDECIDED) result = unknown("too close to tell apart");
    if (said == UNDEFINED) result = unknown(b->why);
    if (said == UNDEFINED && !varies) break;
    if (said == UNDECIDED && !varies) break;
  }
  flint_for(NULL);
  if (agreed < wanted) return result;
  return right(!varies        ? "the values agree to 300 digits"
               : proportional ? "the equations agree at 5 points"
                              : "the expressions agree at 4 points");
}

verdict balls_equal(cft_grader *g, const expr *a, const expr *b) { return compare(g, a, b, false); }
verdict balls_proportional(cft_grader *g, const expr *a, const expr *b) {
  return compare(g, a, b, true);
}

bool balls_value(cft_grader *g, const expr *e, double *re, double *im, const char **why) {
  struct balls *b = balls_of(g, why);
  if (!b) return false;
  if (has_variable(e)) {
    *why = "it has variables";
    return false;
  }
  flint_for(g);
  b->rounds = false;
  b->point = 0, b->bits = precisions[0];
  bool ok = balls_evaluate(b, e);
  flint_for(NULL);
  *why = b->why;
  if (!ok) return false;
  *re = b->f->middle(&b->slot[0].re, 4);  // ARF_RND_NEAR
  *im = b->f->middle(&b->slot[0].im, 4);
  return true;
}
