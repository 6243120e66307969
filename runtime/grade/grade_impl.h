// grade_impl.h - what the files of the grader share: a memory that cannot leak, texts, verdicts.
//
// All that a grading makes lives in one block of memory that the next grading takes over. Where it
// is used up, or the steps are, the grading ends at once: `grade_stop` jumps to the entry point
// (grade.c), and the verdict is unknown. Nothing in between owns anything, so there is nothing to
// unwind; the numbers of FLINT are slots of the grader (balls.c).
#ifndef CFT_GRADE_IMPL_H
#define CFT_GRADE_IMPL_H

#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

#include "cft_grade.h"

enum {
  GRADE_MEMORY = 4 << 20,
  GRADE_STEPS = 400000,  // of parsing and comparing; a usual answer takes some hundreds
  GRADE_DEPTH = 64,      // brackets within brackets
};

typedef struct text {
  const char *s;
  size_t n;
} text;

typedef struct verdict {
  int is;  // cft_grade_verdict
  const char *why;
} verdict;

struct balls;

struct cft_grader {
  cft_grade_mode mode;
  int32_t flags, reference_strips;
  char *memory;
  size_t used;
  int64_t steps;
  const char *stop_reason;
  jmp_buf stop;
  struct balls *balls;                                  // NULL until an expression needs them
  char shown[CFT_GRADE_ANSWER_BYTES + 1], reason[160];  // what the caller sees
};

static inline verdict right(const char *why) { return (verdict){CFT_GRADE_RIGHT, why}; }
static inline verdict wrong(const char *why) { return (verdict){CFT_GRADE_WRONG, why}; }
static inline verdict unknown(const char *why) { return (verdict){CFT_GRADE_UNKNOWN, why}; }

// End this grading: unknown, for this reason.
__attribute__((noreturn)) void grade_stop(cft_grader *g, const char *reason);

// n bytes, 16-aligned, not zeroed. Never NULL.
void *grade_alloc(cft_grader *g, size_t n);

// Count one step.
static inline void grade_step(cft_grader *g) {
  if (--g->steps < 0) grade_stop(g, "more steps than a grading may take");
}

// ---- texts: borrowed bytes, changed by making new ones ----------------------------------------

#define T(literal) ((text){(literal), sizeof(literal) - 1})

static inline bool text_is(text a, text b) { return a.n == b.n && memcmp(a.s, b.s, a.n) == 0; }
static inline bool text_begins(text a, text b) { return a.n >= b.n && memcmp(a.s, b.s, b.n) == 0; }
static inline bool text_ends(text a, text b) {
  return a.n >= b.n && memcmp(a.s + a.n - b.n, b.s, b.n) == 0;
}
static inline text text_from(text a, size_t at) { return (text){a.s + at, a.n - at}; }
static inline text text_slice(text a, size_t at, size_t end) { return (text){a.s + at, end - at}; }
static inline bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}
static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
static inline bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
static inline bool is_letter(char c) { return is_lower(c) || is_upper(c); }
static inline char lower(char c) { return is_upper(c) ? (char)(c + 32) : c; }

enum { NOWHERE = -1 };
int64_t text_find(text a, text what);                  // first offset, or NOWHERE
int64_t text_find_last(text a, text what);             // last offset, or NOWHERE
int64_t text_find_fold(text a, text what, bool last);  // `what` in lower case, ASCII case ignored
text text_trim(text a);                                // white space at both ends (ASCII)
bool text_is_fold(text a, text b);                     // equal, ASCII case ignored
size_t text_count(text a, text what);                  // occurrences that do not overlap

// A text that is written: room for `room` bytes, which the writer may not exceed.
typedef struct writer {
  cft_grader *g;
  char *s;
  size_t n, room;
} writer;
writer writer_new(cft_grader *g, size_t room);
void write_text(writer *w, text t);
void write_byte(writer *w, char c);
static inline text written(const writer *w) { return (text){w->s, w->n}; }

text text_replace(cft_grader *g, text a, text what, text with);  // every occurrence
text text_join(cft_grader *g, text a, text b, text c);

// The letters of Unicode, roughly: what Python's \w takes; `cp` above ASCII. See docs/grade.md.
bool is_word_point(uint32_t cp);

// ---- the files --------------------------------------------------------------------------------

// Our own extraction (extract.c). *why names the place it came from, or why there is nothing.
text extract_answer(cft_grader *g, text response, text reference, const char **why);

// Our own comparison (compare.c).
verdict compare_answers(cft_grader *g, text answer, text reference);

// The evaluation of the paper and of Qwen2.5-Math (paper.c, paper_clean.c).
text paper_extract(cft_grader *g, text response);
text paper_clean(cft_grader *g, text t, bool keep_units);
text paper_choices(cft_grader *g, text answer, text reference, text response);
verdict paper_equal(cft_grader *g, text answer, text reference);

#endif
