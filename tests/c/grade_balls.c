// grade_balls.c - the ball arithmetic of others when it would take all memory, or end the program:
// the grading ends as unknown, and the library is not used again. Each case is a process, for that
// is for good.
#include <dlfcn.h>
#include <setjmp.h>
#include <sys/wait.h>
#include <unistd.h>

#include "grade/flint.h"
#include "test.h"

static cft_grader *symbolic(void) {
  cft_grader *g = NULL;
  if (cft_grader_new(&g, CFT_GRADE_SYMBOLIC, 0, 0) != CFT_OK) _exit(90);
  return g;
}

static cft_grade graded(cft_grader *g, const char *answer, const char *reference) {
  cft_grade v;
  if (cft_grader_answer(g, answer, strlen(answer), reference, strlen(reference), &v) != CFT_OK)
    _exit(91);
  return v;
}

// Ends a child with the number of the line that is not as it should be.
#define MUST(condition)                                                 \
  do                                                                    \
    if (!(condition)) {                                                 \
      fprintf(stderr, "  %s:%d: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                         \
    }                                                                   \
  while (0)

static bool in_child(void (*run)(void)) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    run();
    _exit(0);  // what the library held is left to the system
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

#define NEED_BALLS()                           \
  do {                                         \
    const char *why = NULL;                    \
    if (!cft_grade_has_balls(&why)) SKIP(why); \
  } while (0)

static const char GAVE_UP[] = "the ball arithmetic gave up";

// After it has given up: unknown where it would be wanted, as before where it would not.
static void must_be_closed(cft_grader *g) {
  const char *why = NULL;
  MUST(flint_gave_up());
  MUST(!cft_grade_has_balls(&why) && strcmp(why, GAVE_UP) == 0);
  cft_grade v = graded(g, "\\sin 1", "\\cos 1");
  MUST(v.verdict == CFT_GRADE_UNKNOWN && v.reason[0]);
  v = graded(g, "\\frac{3}{6}", "0.5");
  MUST(v.verdict == CFT_GRADE_RIGHT);
  v = graded(g, "7", "8");
  MUST(v.verdict == CFT_GRADE_WRONG);
  cft_grader_release(g);
  g = symbolic();
  v = graded(g, "x\\sin x", "\\sin(x) x + 0.1");
  MUST(v.verdict != CFT_GRADE_RIGHT);
  cft_grader_release(g);
}

static void grade_within_a_limit(size_t bytes) {
  cft_grader *g = symbolic();
  flint_limit(bytes);
  cft_grade v = graded(g, "\\sqrt{2}+\\pi-e^{3}", "\\pi-e^3+\\sqrt 2");
  MUST(v.verdict == CFT_GRADE_UNKNOWN && strcmp(v.reason, GAVE_UP) == 0);
  must_be_closed(g);
}
static void within_1_byte(void) { grade_within_a_limit(1); }
static void within_half_a_kilobyte(void) { grade_within_a_limit(512); }

TEST(a_grading_that_wants_more_than_it_may_is_unknown) {
  NEED_BALLS();
  EXPECT(in_child(within_1_byte));
  EXPECT(in_child(within_half_a_kilobyte));
}

// Towers by the library's own functions, at precisions that the grader never asks for.
static void towers(void) {
  const char *why;
  const flint *f = flint_open(&why);
  cft_grader *g = symbolic();
  static ball a, b;
  f->init(&a), f->init(&b);
  if (setjmp(g->stop) == 0) {
    flint_limit((size_t)4 << 20);
    flint_for(g);
    f->set_si(&a, 9);
    for (int i = 0; i < 6; i++) f->pow(&a, &a, &a, 1L << 34);  // 9^9, (9^9)^(9^9), ...
    MUST(!"a tower that no memory holds was built");
  }
  MUST(strcmp(g->stop_reason, GAVE_UP) == 0);
  must_be_closed(g);
}

static void one_request(void) {  // all at once, and more than any limit
  const char *why;
  const flint *f = flint_open(&why);
  cft_grader *g = symbolic();
  static ball a;
  f->init(&a);
  if (setjmp(g->stop) == 0) {
    flint_for(g);
    f->const_pi(&a, 1L << 36);
    MUST(!"eight gigabytes of pi were made");
  }
  MUST(strcmp(g->stop_reason, GAVE_UP) == 0);
  must_be_closed(g);
}

TEST(towers_that_nobody_bounds_end_at_the_limit) {
  NEED_BALLS();
  EXPECT(in_child(towers));
  EXPECT(in_child(one_request));
}

// What the library does where it meets what it cannot do: it would end the program.
static void it_aborts(void) {
  const char *why;
  MUST(flint_open(&why));
  void *h = dlopen("libflint-arb.so.2", RTLD_NOW | RTLD_LOCAL);
  MUST(h);
  void (*divide)(int64_t * q, const int64_t *n, const int64_t *d);
  *(void **)&divide = dlsym(h, "fmpz_divexact");
  MUST(divide);
  cft_grader *g = symbolic();
  if (setjmp(g->stop) == 0) {
    flint_for(g);
    int64_t q = 0, n = 7, nothing = 0;
    divide(&q, &n, &nothing);
    MUST(!"7 was divided by 0");
  }
  MUST(strcmp(g->stop_reason, GAVE_UP) == 0);
  must_be_closed(g);
}

TEST(an_abort_of_the_library_ends_the_grading_alone) {
  NEED_BALLS();
  EXPECT(in_child(it_aborts));
}

// The grader's own bounds hold before: no tower reaches the limit.
static void bounded_towers(void) {
  static const char *const answers[] = {"9^{9^{9^{9^9}}}",
                                        "e^{e^{e^{e^{e^e}}}}",
                                        "x^{x^{x^{x^{x^x}}}}",
                                        "\\sinh(10^{10^{6}})",
                                        "5000!\\pi",
                                        "\\binom{100000}{5000}\\sqrt 2",
                                        "\\sqrt[1000]{2}^{1000000}",
                                        "(1+10^{-400000})^{10^{400000}}\\pi",
                                        "2^{1000000}\\pi",
                                        "\\ln(\\ln(10^{100000}))",
                                        "\\tan(\\tan(\\tan(x^{99999})))"};
  cft_grader *g = symbolic();
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    cft_grade v = graded(g, answers[i], "\\sqrt{42}+x");
    MUST(v.verdict != CFT_GRADE_RIGHT);
    MUST(!flint_gave_up());
  }
  cft_grader_release(g);
}

TEST(the_grader_bounds_towers_before_the_library_has_to) {
  NEED_BALLS();
  EXPECT(in_child(bounded_towers));
}

TEST_MAIN()
