// test.h - the C suites' harness: cases that register themselves, one closing line.
//
//   #include "test.h"
//
//   TEST(arena_survives_a_failed_allocation) {
//     EXPECT_OK(cft_arena_new(&arena, 1 << 20));
//     EXPECT_FAILS(cft_arena_take(&p, arena, SIZE_MAX), CFT_E_OOM, "arena");
//     EXPECT_INT(cft_arena_used(arena), 0);
//   }
//
//   TEST_MAIN()
//
// One file is one program. A failed EXPECT prints what came and what was wanted and leaves its
// case; the others still run. Arguments are filters: a case runs when its name contains one.
#ifndef CFT_TEST_H
#define CFT_TEST_H

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base.h"

typedef struct test_case {
  const char *name;
  void (*run)(void);
  struct test_case *next;
} test_case;

static test_case *test_first, **test_last = &test_first;
static int test_failures, test_skips;  // of the case that runs

#define TEST(case_name)                                                        \
  static void test_run_##case_name(void);                                      \
  __attribute__((constructor)) static void test_register_##case_name(void) {   \
    static test_case self = {.name = #case_name, .run = test_run_##case_name}; \
    *test_last = &self;                                                        \
    test_last = &self.next;                                                    \
  }                                                                            \
  static void test_run_##case_name(void)

// Report and leave the case (or the helper it called: check TEST_FAILED() after one).
#define TEST_FAIL(...)                                \
  do {                                                \
    fprintf(stderr, "  %s:%d: ", __FILE__, __LINE__); \
    fprintf(stderr, __VA_ARGS__);                     \
    fputc('\n', stderr);                              \
    ++test_failures;                                  \
    return;                                           \
  } while (0)

#define TEST_FAILED() (test_failures > 0)

// Leave the case because something outside of it is missing. Under CI only a missing GPU may be.
#define SKIP(reason)   \
  do {                 \
    test_skip(reason); \
    return;            \
  } while (0)

#define EXPECT(condition)                                   \
  do {                                                      \
    if (!(condition)) TEST_FAIL("expected %s", #condition); \
  } while (0)

#define EXPECT_INT(got, want)                                                                \
  do {                                                                                       \
    int64_t got_ = (int64_t)(got), want_ = (int64_t)(want);                                  \
    if (got_ != want_) TEST_FAIL("%s is %" PRId64 ", expected %" PRId64, #got, got_, want_); \
  } while (0)

// Close to within `tolerance` of the larger of 1 and |want|.
#define EXPECT_CLOSE(got, want, tolerance)                                                  \
  do {                                                                                      \
    double got_ = (got), want_ = (want);                                                    \
    if (!(fabs(got_ - want_) <= (tolerance)*fmax(1, fabs(want_))))                          \
      TEST_FAIL("%s is %.9g, expected %.9g to %g", #got, got_, want_, (double)(tolerance)); \
  } while (0)

#define EXPECT_STR(got, want)                                                          \
  do {                                                                                 \
    const char *got_ = (got), *want_ = (want);                                         \
    if (!got_ || strcmp(got_, want_) != 0)                                             \
      TEST_FAIL("%s is \"%s\", expected \"%s\"", #got, got_ ? got_ : "(null)", want_); \
  } while (0)

#define EXPECT_OK(call)                                                                  \
  do {                                                                                   \
    cft_status st_ = (call);                                                             \
    if (st_ != CFT_OK)                                                                   \
      TEST_FAIL("%s failed with %s: %s", #call, cft_status_name(st_), cft_last_error()); \
  } while (0)

// The call fails with this status, and its message contains `text`.
#define EXPECT_FAILS(call, status, text)                                                 \
  do {                                                                                   \
    cft_status st_ = (call);                                                             \
    if (st_ != (status))                                                                 \
      TEST_FAIL("%s gave %s, expected %s", #call, cft_status_name(st_), #status);        \
    if (!strstr(cft_last_error(), text))                                                 \
      TEST_FAIL("%s says \"%s\", expected \"%s\" in it", #call, cft_last_error(), text); \
  } while (0)

static inline void test_skip(const char *reason) {
  const char *ci = getenv("CI");
  if (ci && strcmp(ci, "true") == 0 && !strstr(reason, "GPU")) {
    fprintf(stderr, "  skipped under CI: %s\n", reason);
    ++test_failures;
  } else {
    fprintf(stderr, "  skipped: %s\n", reason);
    ++test_skips;
  }
}

static inline double test_now(void) {
  struct timespec t;
  timespec_get(&t, TIME_UTC);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline bool test_wanted(const char *name, int argc, char **argv) {
  for (int i = 1; i < argc; ++i)
    if (strstr(name, argv[i])) return true;
  return argc < 2;
}

static inline int test_main(int argc, char **argv) {
  int passed = 0, failed = 0, skipped = 0;
  double start = test_now();
  for (test_case *t = test_first; t; t = t->next) {
    if (!test_wanted(t->name, argc, argv)) continue;
    test_failures = test_skips = 0;
    t->run();
    if (test_failures) fprintf(stderr, "FAILED %s\n", t->name);
    if (test_failures)
      ++failed;
    else if (test_skips)
      ++skipped;
    else
      ++passed;
  }
  fflush(stderr);
  const char *slash = strrchr(argv[0], '/');
  printf("%s: %.2f s\n", slash ? slash + 1 : argv[0], test_now() - start);
  printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed > 0 || passed + skipped == 0;  // a filter that fits nothing tests nothing
}

#define TEST_MAIN() \
  int main(int argc, char **argv) { return test_main(argc, argv); }

#endif
