// paper.h - between the files of the modes `paper` and `qwen`.
#ifndef CFT_GRADE_PAPER_H
#define CFT_GRADE_PAPER_H

#include "grade/grade_impl.h"

text paper_number_words(cft_grader *g, text t);

// The last standalone letter A to E, as their comparison looks for it; else the text without stops.
text paper_choice(cft_grader *g, text t);

// Where their comparison asks a computer algebra system.
verdict paper_symbolic(cft_grader *g, text answer, text reference);

#endif
