// python.h - what strings mean in the language of the evaluations that `paper` and `qwen` follow.
#ifndef CFT_GRADE_PYTHON_H
#define CFT_GRADE_PYTHON_H

#include "grade/grade_impl.h"

bool python_float(text t, double *out);  // float(t); false where it raises
text python_strip(text t);               // t.strip()
text python_strip_of(text t, const char *bytes, bool left, bool right);  // t.strip("..")
bool python_is_space(uint32_t cp);
// The code point that starts at t.s[at], or ends before it, and whether \w takes it.
bool word_at(text t, size_t at, size_t *length);
bool word_before(text t, size_t at, size_t *length);
bool python_is_close(double a, double b, double relative);  // math.isclose
size_t python_length(text t);                               // of characters
text python_of_float(cft_grader *g, double v);              // repr(v)

#endif
