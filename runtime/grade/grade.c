// grade.c - the entry points: a grader, and a grading from two texts to a verdict with its reason.
#include <stdio.h>
#include <stdlib.h>

#include "grade/expr.h"
#include "util/utf8.h"

cft_status cft_grader_new(cft_grader **out, cft_grade_mode mode, int32_t flags,
                          int32_t reference_strips) {
  bool compatible = mode == CFT_GRADE_PAPER || mode == CFT_GRADE_QWEN;
  if (!compatible && mode != CFT_GRADE_SYMBOLIC && mode != CFT_GRADE_STRICT)
    return cft_fail(CFT_E_ARG, "grade: %d is no mode", (int)mode);
  if (flags & ~CFT_GRADE_KEEP_UNITS || (flags && !compatible))
    return cft_fail(CFT_E_ARG, "grade: flags %d are none of this mode", flags);
  if (reference_strips < 0 || reference_strips > 3 || (reference_strips && !compatible))
    return cft_fail(CFT_E_ARG, "grade: a reference cannot be cleaned %d times in this mode",
                    reference_strips);
  cft_grader *g = calloc(1, sizeof *g);
  if (g) g->memory = malloc(GRADE_MEMORY);
  if (!g || !g->memory) {
    free(g);
    return cft_fail(CFT_E_OOM, "grade: no memory for a grader");
  }
  g->mode = mode, g->flags = flags, g->reference_strips = reference_strips;
  *out = g;
  return CFT_OK;
}

void cft_grader_release(cft_grader *g) {
  if (!g) return;
  balls_release(g->balls);
  free(g->memory);
  free(g);
}

// A copy that ends in a NUL, for the caller; without what is no whole character at its end.
static void hand_out(cft_grader *g, cft_grade *out, text answer, verdict v) {
  size_t n = answer.n < CFT_GRADE_ANSWER_BYTES ? answer.n : CFT_GRADE_ANSWER_BYTES;
  n = cft_utf8_check(answer.s, n);
  char *copy = g->shown;
  if (!v.why) v.why = "no reason was kept";
  if (n) memcpy(copy, answer.s, n);
  copy[n] = 0;
  *out = (cft_grade){.verdict = v.is, .reason = v.why, .answer = copy, .answer_bytes = n};
}

static const char *both_reasons(cft_grader *g, const char *from, const char *why) {
  snprintf(g->reason, sizeof g->reason, "%s: %s", from, why);
  return g->reason;
}

static bool compatible(const cft_grader *g) {
  return g->mode == CFT_GRADE_PAPER || g->mode == CFT_GRADE_QWEN;
}

static verdict graded(cft_grader *g, text answer, text reference) {
  if (answer.n > CFT_GRADE_ANSWER_BYTES) return unknown("the answer is longer than is read");
  if (reference.n > CFT_GRADE_ANSWER_BYTES) return unknown("the reference is longer than is read");
  if (cft_utf8_check(answer.s, answer.n) < answer.n) return unknown("the answer is no UTF-8");
  if (cft_utf8_check(reference.s, reference.n) < reference.n)
    return unknown("the reference is no UTF-8");
  return compatible(g) ? paper_equal(g, answer, reference) : compare_answers(g, answer, reference);
}

// What their evaluation does around its comparison (docs/grade.md).
static verdict graded_response(cft_grader *g, text response, text *answer, text reference) {
  if (!compatible(g)) {
    const char *from;
    *answer = text_trim(extract_answer(g, response, reference, &from));
    if (!answer->n) return wrong(from);
    verdict v = graded(g, *answer, reference);
    v.why = both_reasons(g, from, v.why);
    return v;
  }
  bool keep = g->flags & CFT_GRADE_KEEP_UNITS;
  if (reference.n > CFT_GRADE_ANSWER_BYTES) return unknown("the reference is longer than is read");
  if (cft_utf8_check(reference.s, reference.n) < reference.n)
    return unknown("the reference is no UTF-8");
  if (cft_utf8_check(response.s, response.n) < response.n)
    return unknown("the response is no UTF-8");
  for (int i = 0; i < g->reference_strips; i++) reference = paper_clean(g, reference, keep);
  *answer = paper_extract(g, response);
  if (answer->n > CFT_GRADE_ANSWER_BYTES) return unknown("the answer is longer than is read");
  if (cft_utf8_check(answer->s, answer->n) < answer->n) return unknown("the answer is no UTF-8");
  for (int i = 0; i < 2; i++) *answer = paper_clean(g, *answer, keep);
  *answer = paper_choices(g, *answer, reference, response);
  return graded(g, *answer, reference);
}

// Begin a grading. Jumps back here with 1 where it is stopped.
#define BEGIN(g) ((g)->used = 0, (g)->steps = GRADE_STEPS, setjmp((g)->stop))

cft_status cft_grader_response(cft_grader *g, const char *response, size_t response_bytes,
                               const char *reference, size_t reference_bytes, cft_grade *out) {
  text whole = {response, response_bytes}, wanted = {reference, reference_bytes};
  static const text nothing = T("");
  if (BEGIN(g)) {
    hand_out(g, out, nothing, unknown(g->stop_reason));
    return CFT_OK;
  }
  text answer = nothing;
  verdict v = graded_response(g, whole, &answer, wanted);
  hand_out(g, out, answer, v);
  return CFT_OK;
}

cft_status cft_grader_answer(cft_grader *g, const char *answer, size_t answer_bytes,
                             const char *reference, size_t reference_bytes, cft_grade *out) {
  text given = {answer, answer_bytes}, wanted = {reference, reference_bytes};
  if (BEGIN(g)) {
    hand_out(g, out, given, unknown(g->stop_reason));
    return CFT_OK;
  }
  verdict v = graded(g, given, wanted);
  hand_out(g, out, given, v);
  return CFT_OK;
}
