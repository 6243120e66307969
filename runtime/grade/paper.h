// paper.h - between the files of the modes `paper` and `qwen`.
#ifndef CFT_GRADE_PAPER_H
#define CFT_GRADE_PAPER_H

#include "grade/grade_impl.h"

static inline bool has(text t, text what) { return text_find(t, what) != NOWHERE; }
static inline text behind_last(text t, text what) {
  return text_from(t, (size_t)text_find_last(t, what) + what.n);
}

bool paper_all_choices(text t);  // letters A to E alone; so is an empty text

text paper_number_words(cft_grader *g, text t);

// The last standalone letter A to E, as their comparison looks for it; else the text without stops.
text paper_choice(cft_grader *g, text t);

// Where their comparison asks a computer algebra system.
verdict paper_symbolic(cft_grader *g, text answer, text reference);

#endif
