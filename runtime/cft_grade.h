// cft_grade.h - is this answer right? A rule-based grader that says why, in bounded time.
//
// It takes what a model wrote (a whole response, or an answer already taken out of one) and a
// reference answer, and says right, wrong or unknown. docs/grade.md has the rules of each mode.
//
// Everything is bounded: what is read of an answer, nodes of an expression, the sizes of numbers,
// steps. Where a bound is met the verdict is `unknown`, never `right`. No signals, no threads, no
// globals but one library (FLINT with Arb: ball arithmetic), opened when it is first needed; where
// it is missing, `symbolic` and `strict` say `unknown` of what exact fractions do not decide.
#ifndef CFT_GRADE_H
#define CFT_GRADE_H

#include "base.h"

#ifndef CFT_CDEF
#include <stdbool.h>
#endif

typedef enum cft_grade_mode {
  CFT_GRADE_SYMBOLIC = 0,  // as a careful person would: units, percent signs, `x =` may be missing
  CFT_GRADE_STRICT = 1,    // mathematically equal, as written
  CFT_GRADE_PAPER = 2,     // the evaluation of Critique Fine-Tuning (arXiv 2501.17703), leniencies
                           // included
  CFT_GRADE_QWEN = 3,      // the evaluation of Qwen2.5-Math, from which that one came
} cft_grade_mode;

typedef enum cft_grade_verdict {
  CFT_GRADE_WRONG = 0,
  CFT_GRADE_RIGHT = 1,
  CFT_GRADE_UNKNOWN =
      2,  // a bound was met, the library is missing, or the texts mean nothing to us
} cft_grade_verdict;

enum {
  CFT_GRADE_ANSWER_BYTES = 4096,  // a longer answer or reference is `unknown`
  CFT_GRADE_KEEP_UNITS = 1,       // paper, qwen: as they treat Minerva-Math
};

typedef struct cft_grader cft_grader;

// One grading. Texts are borrowed from the grader until its next call; NUL-terminated.
typedef struct cft_grade {
  int32_t verdict;     // cft_grade_verdict
  const char *reason;  // names the rule that decided: "numbers are equal", "the box is empty"
  const char *answer;  // what was compared: as taken out of the response, before normalisation
                       // (paper, qwen: after it)
  size_t answer_bytes;
} cft_grade;

// A grader of one mode. A thread at a time may use it; any number of them may exist. E_ARG for an
// unknown mode or flag, E_OOM. The caller owns *out.
//   flags             CFT_GRADE_KEEP_UNITS or 0
//   reference_strips  paper, qwen: how often their clean-up goes over the reference, 0 to 3, which
//                     matters since it is not idempotent (2 for most benchmarks, docs/grade.md);
//                     other modes ignore nothing: it must be 0 there
CFT_API cft_status cft_grader_new(cft_grader **out, cft_grade_mode mode, int32_t flags,
                                  int32_t reference_strips);
CFT_API void cft_grader_release(cft_grader *g);  // NULL is accepted

// Grade a response: take the answer out of it, then compare.
//   response, reference  any bytes; what is no UTF-8 is unknown
// E_OOM; anything a text can say is a verdict, not an error.
CFT_API cft_status cft_grader_response(cft_grader *g, const char *response, size_t response_bytes,
                                       const char *reference, size_t reference_bytes,
                                       cft_grade *out);

// Grade an answer as it is. In `paper` and `qwen` this is their comparison alone, without their
// clean-up of either text.
CFT_API cft_status cft_grader_answer(cft_grader *g, const char *answer, size_t answer_bytes,
                                     const char *reference, size_t reference_bytes, cft_grade *out);

// Whether FLINT with Arb is there; opens it. *why says what is missing, borrowed, else NULL.
CFT_API bool cft_grade_has_balls(const char **why);

#endif
