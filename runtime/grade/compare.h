// compare.h - between compare.c (the answer as a whole), structure.c (lists, sets, relations) and
// scalar.c (one value against another).
#ifndef CFT_GRADE_COMPARE_H
#define CFT_GRADE_COMPARE_H

#include "grade/expr.h"

// Any tree against any; `answer` and `reference` are not alike: what may be missing in one may not
// be invented in the other.
verdict compare_trees(cft_grader *g, const expr *answer, const expr *reference);
verdict compare_scalars(cft_grader *g, const expr *answer, const expr *reference);
verdict compare_relations(cft_grader *g, const expr *answer, const expr *reference);

// Words, as people write them: case, articles and stops do not matter.
verdict compare_words(cft_grader *g, text answer, text reference);

static inline bool lenient(const cft_grader *g) { return g->mode == CFT_GRADE_SYMBOLIC; }

// An interval of the reals, however it is written; a NULL end is infinite.
typedef struct interval {
  const expr *low, *high;
  bool low_closed, high_closed;
  text variable;  // of an inequality; empty of (a, b)
} interval;
bool as_interval(cft_grader *g, const expr *e, interval *out);
verdict compare_intervals(cft_grader *g, const interval *answer, const interval *reference);

int infinity_sign(const expr *e);  // 1, -1; 0: not infinite

#endif
