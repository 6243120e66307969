// balls.h - between evaluate.c (a tree at a point) and balls.c (two trees against each other).
#ifndef CFT_GRADE_BALLS_H
#define CFT_GRADE_BALLS_H

#include "grade/expr.h"
#include "grade/flint.h"

enum {
  SLOTS = 160,  // nesting of an expression
  SPARE = 8     // slots behind them: SLOTS + 1 is evaluate.c's, the others are balls.c's
};

struct balls {
  const flint *f;
  cft_grader *g;
  long bits;
  int point;        // at which variables have their values
  bool rounds;      // values are rounded: near 1 all that is rounded would be 0 or 1
  const char *why;  // the reason of an evaluation that failed
  ball slot[SLOTS + SPARE];
};

// The value of e at the point, into slot 0, to b->bits. False and b->why where it has none.
bool balls_evaluate(struct balls *b, const expr *e);

double balls_log2(struct balls *b, const ball *v);  // an upper bound of its size; -INFINITY of 0

#endif
