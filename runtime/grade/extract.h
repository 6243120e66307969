// extract.h - between extract.c (boxes, "answer is") and extract_end.c (a response that has
// neither).
#ifndef CFT_GRADE_EXTRACT_H
#define CFT_GRADE_EXTRACT_H

#include "grade/grade_impl.h"

enum { EXTRACT_SHORT = 120 };  // bytes of a text that may be an answer as it is

// The formula that begins at t.s[0], without its signs; *end: the offset behind it.
bool extract_formula_at(text t, text *inside, size_t *end);

// The answer of a response that marks none.
text extract_end(text t, text reference, const char **why);

#endif
