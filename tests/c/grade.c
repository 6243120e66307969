// grade.c - the grader and hostile texts: towers, brackets by the megabyte, boxes without end,
// mutated answers. Whatever comes, a grading ends soon, and nothing of it is right.
//
//   test_grade                          all, with a short run of mutations
//   CFT_GRADE_FUZZ=1200 test_grade      mutations for so many seconds (with the sanitizers: cmake
//   --preset asan), other ones each time; CFT_GRADE_SEED=N says which
#include "cft_grade.h"

#include <pthread.h>

#include "test.h"

static const cft_grade_mode modes[] = {CFT_GRADE_SYMBOLIC, CFT_GRADE_STRICT, CFT_GRADE_PAPER,
                                       CFT_GRADE_QWEN};
enum { MODES = 4 };

// Of one grading, of its thread's own time; docs/grade.md has the usual. With the sanitizers it is
// for what grows with a text's square, and takes minutes.
#ifdef __SANITIZE_ADDRESS__
enum { MOST_MS = 4000 };
#else
enum { MOST_MS = 400 };
#endif

static cft_grader *grader_of(cft_grade_mode mode) {
  cft_grader *g = NULL;
  bool compatible = mode == CFT_GRADE_PAPER || mode == CFT_GRADE_QWEN;
  if (cft_grader_new(&g, mode, 0, compatible ? 2 : 0) != CFT_OK) abort();
  return g;
}

static double ms_of(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static double now_ms(void) { return ms_of(CLOCK_MONOTONIC); }

// Of this thread alone: how busy the machine is says nothing of a grading.
static double own_ms(void) { return ms_of(CLOCK_THREAD_CPUTIME_ID); }

// Many copies of a piece, then an end.
static char *repeated(const char *piece, size_t bytes, const char *end, size_t *n) {
  size_t m = strlen(piece), count = bytes / m, tail = strlen(end);
  char *s = malloc(count * m + tail + 1);
  if (!s) abort();
  for (size_t i = 0; i < count; i++) memcpy(s + i * m, piece, m);
  memcpy(s + count * m, end, tail + 1);
  *n = count * m + tail;
  return s;
}

static void never_right(const char *text, size_t n, const char *reference, const char *name) {
  for (int k = 0; k < MODES; k++) {
    cft_grader *g = grader_of(modes[k]);
    cft_grade v;
    double start = own_ms();
    EXPECT_OK(cft_grader_response(g, text, n, reference, strlen(reference), &v));
    double first = own_ms() - start;
    if (v.verdict == CFT_GRADE_RIGHT || !v.reason[0] || first > MOST_MS)
      TEST_FAIL("%s in mode %d: verdict %d (%s) after %.0f ms", name, (int)modes[k], v.verdict,
                v.reason, first);
    start = own_ms();
    EXPECT_OK(cft_grader_answer(g, text, n, reference, strlen(reference), &v));
    if (v.verdict == CFT_GRADE_RIGHT || own_ms() - start > MOST_MS)
      TEST_FAIL("%s as an answer in mode %d: verdict %d (%s)", name, (int)modes[k], v.verdict,
                v.reason);
    cft_grader_release(g);
  }
}

TEST(megabytes_of_anything_end_soon) {
  static const char *const pieces[][2] = {
      {"(", ""},
      {"{", ""},
      {"[", "]"},
      {"\\boxed{", "5"},
      {"\\boxed{}", ""},
      {"\\boxed{1}", ""},
      {"\\frac{", "1"},
      {"\\sqrt", "2"},
      {"^", "2"},
      {"-", "1"},
      {"answer is ", ""},
      {"answer: anything ", ""},
      {"$", ""},
      {"1,", "2"},
      {"\\text{", "a"},
      {"\\\\", ""},
      {"\\begin{pmatrix}", ""},
      {"|", ""},
      {"1/", "1"},
      {"9^", "9"},
      {"x=", "7"},
      {"\xd0\xba\xd0\xb8", ""},
      {"\n", ""},
      {"\\(", "\\)"},
      {"**", ""},
      {"\xff", ""},
      {"\xe7\xad\x94\xe6\xa1\x88\xe6\x98\xaf", ""},
      {" m ", "7"},
      {"point ", ""},
      {"final answer is $", "$. I hope"},
      {"7", ""},
      {"7.", "0"},
      {"A ", ""},
      {"\\pm 1", ""},
  };
  static const size_t sizes[] = {900, 4000, 60000, 10 << 20};
  for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
    for (size_t k = 0; k < 4; k++) {
      size_t n;
      char *s = repeated(pieces[i][0], sizes[k], pieces[i][1], &n);
      never_right(s, n, "42", pieces[i][0]);
      free(s);
      if (TEST_FAILED()) return;
    }
}

TEST(towers_and_their_like_are_unknown_or_wrong) {
  static const char *const answers[] = {
      "9^{9^{9^{9^9}}}",
      "9^9^9^9^9",
      "((((9^9)^9)^9)^9)^9",
      "2^{2^{2^{2^{2^{2^{2}}}}}}",
      "(9!)!",
      "((((5!)!)!)!)!",
      "1000000000!",
      "\\binom{1000000000}{500000000}",
      "1e999999999",
      "1e-999999999",
      "10^{10^{10^{10}}}",
      "e^{e^{e^{e^{e^e}}}}",
      "\\exp(\\exp(\\exp(\\exp(10))))",
      "\\sinh(10^{10^{6}})",
      "\\sin(10^{10^{8}})",
      "\\sqrt[1000000000]{2}",
      "\\sqrt[0]{2}",
      "\\frac{1}{0}",
      "0^0",
      "0^{-1}",
      "\\tan(\\pi/2)",
      "\\ln 0",
      "\\log_1 5",
      "\\log_0 5",
      "\\frac{0}{0}",
      "x^{x^{x^{x^{x^x}}}}",
      "(1+10^{-400000})^{10^{400000}}",
      "\\infty - \\infty",
      "\\lfloor 10^{100000} \\rfloor",
      "\\gcd(10^{30}, 0)",
      "\\max(1)",
      "\\begin{pmatrix}\\end{pmatrix}",
      "\\{\\}\\cup",
      "[,]",
      "(,)",
      "\\pm\\pm\\pm 1",
      "1\\pm2\\pm3\\pm4\\pm5\\pm6\\pm7\\pm8",
      "5_{5_{5}}",
      "99999999999999999999999999999999999_{36}",
      "7_1",
      "0x7",
      "\\frac",
      "\\frac1",
      "\\sqrt",
      "\\left",
      "\\",
      "^",
      "_",
      "{",
      "}",
  };
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    never_right(answers[i], strlen(answers[i]), "42", answers[i]);
    if (TEST_FAILED()) return;
    for (int k = 0; k < 2;
         k++) {  // and as a reference: nothing is proven by what cannot be evaluated
      cft_grader *g = grader_of(modes[k]);
      cft_grade v;
      EXPECT_OK(cft_grader_answer(g, "42", 2, answers[i], strlen(answers[i]), &v));
      EXPECT(v.verdict != CFT_GRADE_RIGHT);
      cft_grader_release(g);
    }
  }
}

TEST(arguments_are_checked) {
  cft_grader *g = NULL;
  EXPECT_FAILS(cft_grader_new(&g, 7, 0, 0), CFT_E_ARG, "7 is no mode");
  EXPECT_FAILS(cft_grader_new(&g, CFT_GRADE_PAPER, 2, 0), CFT_E_ARG, "flags 2");
  EXPECT_FAILS(cft_grader_new(&g, CFT_GRADE_STRICT, CFT_GRADE_KEEP_UNITS, 0), CFT_E_ARG, "flags 1");
  EXPECT_FAILS(cft_grader_new(&g, CFT_GRADE_PAPER, 0, 4), CFT_E_ARG, "cleaned 4 times");
  EXPECT_FAILS(cft_grader_new(&g, CFT_GRADE_SYMBOLIC, 0, 1), CFT_E_ARG, "cleaned 1 times");
  cft_grader_release(NULL);
}

// ---- several at once --------------------------------------------------------------------------

static void *grade_often(void *failed) {
  for (int round = 0; round < 20; round++) {
    cft_grader *a = grader_of(CFT_GRADE_SYMBOLIC), *b = grader_of(CFT_GRADE_PAPER);
    cft_grade v, w;
    bool balls = cft_grade_has_balls(&(const char *){NULL});
    for (int i = 0; i < 50; i++) {  // in turn: one grader's texts are not the other's
      cft_grader_response(a, "\\boxed{(x+1)^2}", 15, "x^2+2x+1", 8, &v);
      cft_grader_response(b, "The answer is 5.", 16, "5.04", 4, &w);
      if (balls && v.verdict != CFT_GRADE_RIGHT) *(bool *)failed = true;
      if (w.verdict != CFT_GRADE_RIGHT || strcmp(v.answer, "(x+1)^2") != 0) *(bool *)failed = true;
    }
    cft_grader_release(a);
    cft_grader_release(b);
  }
  return NULL;
}

TEST(threads_do_not_meet) {
  pthread_t threads[4];
  bool failed[4] = {false};
  for (int i = 0; i < 4; i++)
    EXPECT_INT(pthread_create(&threads[i], NULL, grade_often, &failed[i]), 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 4; i++) EXPECT(!failed[i]);
}

// ---- mutations --------------------------------------------------------------------------------

static const char *const seeds[] = {
    "\\boxed{\\frac{1}{2}}",
    "The answer is $x = 3 \\pm 2\\sqrt{2}$.",
    "\\left( \\frac{3}{5}, \\frac{8}{3} \\right]",
    "52_8",
    "(C) 5 meters",
    "\\begin{pmatrix} 1 & 2 \\\\ -3 & \\frac{1}{4} \\end{pmatrix}",
    "(-\\infty, 2) \\cup (3, \\infty)",
    "10,\\!080",
    "1 4/5",
    "\\$32,\\!348.50",
    "x^5 - x^4 + x^3 - 1",
    "\\sin^2 x + \\cos^{2} x",
    "30^\\circ",
    "15\\mbox{ cm}^2",
    "50\\%",
    "\\{1, 2, 3\\}",
    "5x - 7y + 11z + 4 = 0",
    "-2 \\le x < 7",
    "\\log_{2} 8",
    "\\sqrt[3]{-8}",
    "6.02\\times10^{23}",
    "1.5e-8",
    "|x-1|",
    "\\binom{5}{2}",
    "twenty one",
    "\\text{east}",
    "#### 1,234",
    "3\xc2\xbd \xe2\x88\x9a"
    "2 \xc2\xb0 \xe2\x89\xa4 \xcf\x80",
    "Final Answer: The final answer is $5$. I hope it is correct.",
    "f(x) = e^{-x} \\ln(x+1)",
    "7!",
    "\\lfloor 3.7 \\rfloor",
    "\\overline{AB}",
    "a_1 + a_{12}",
    "10^{5}",
    "3\\times10^5+x",
    "5 or 6",
    "\xe7\xad\x94\xe6\xa1\x88\xe6\x98\xaf 5",
    "$1$ and $2$",
    "1:2",
};
enum { SEEDS = sizeof seeds / sizeof *seeds };

static uint64_t state = 88172645463325252u;
static uint64_t draw(uint64_t below) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % below;
}

static size_t mutated(char *out, size_t room) {
  const char *a = seeds[draw(SEEDS)];
  size_t n = strlen(a);
  memcpy(out, a, n);
  for (uint64_t k = draw(6); k > 0; k--) {
    const char *b = seeds[draw(SEEDS)];
    size_t from = draw(strlen(b)), take = 1 + draw(strlen(b) - from), at = draw(n + 1);
    switch (draw(5)) {
      case 0:  // a piece of another one in between
        if (n + take > room) break;
        memmove(out + at + take, out + at, n - at);
        memcpy(out + at, b + from, take);
        n += take;
        break;
      case 1:  // cut
        take = draw(n - at + 1);
        memmove(out + at, out + at + take, n - at - take);
        n -= take;
        break;
      case 2:  // a sign
        if (at < n) out[at] = "\\{}()[]^_$%&|!,.-+=<>/:*0 9xe~#'\"\n"[draw(34)];
        break;
      case 3:  // a byte
        if (at < n) out[at] = (char)draw(256);
        break;
      default:  // twice
        if (2 * n > room) break;
        memcpy(out + n, out, n);
        n *= 2;
    }
  }
  return n;
}

TEST(mutations_end_soon_with_a_reason) {
  const char *asked = getenv("CFT_GRADE_FUZZ");
  double end = now_ms() + 1e3 * (asked ? atof(asked) : 1.5), slowest = 0;
  const char *chosen = getenv("CFT_GRADE_SEED");
  uint64_t seed = chosen ? strtoull(chosen, NULL, 10) : (uint64_t)time(NULL);
  if (asked) state ^= seed * 2654435761u;
  static char answer[8192], reference[8192];
  int64_t count = 0, rights = 0;
  cft_grader *graders[MODES];
  for (int k = 0; k < MODES; k++) graders[k] = grader_of(modes[k]);
  while (now_ms() < end) {
    size_t n = mutated(answer, 4000), m = mutated(reference, 400);
    for (int k = 0; k < MODES; k++) {
      cft_grade v;
      double start = own_ms();
      if (count % 2)
        cft_grader_response(graders[k], answer, n, reference, m, &v);
      else
        cft_grader_answer(graders[k], answer, n, reference, m, &v);
      double took = own_ms() - start;
      if (took > slowest) slowest = took;
      if (v.verdict < 0 || v.verdict > 2 || !v.reason[0] || took > MOST_MS)
        TEST_FAIL("seed %" PRIu64 ", mode %d: verdict %d (%s) after %.0f ms of %.*s against %.*s",
                  seed, (int)modes[k], v.verdict, v.reason, took, (int)n, answer, (int)m,
                  reference);
      rights += v.verdict == CFT_GRADE_RIGHT;
      count++;
    }
  }
  for (int k = 0; k < MODES; k++) cft_grader_release(graders[k]);
  if (asked)
    printf("%" PRId64 " gradings, %" PRId64 " right, the slowest took %.1f ms, seed %" PRIu64 "\n",
           count, rights, slowest, seed);
  EXPECT(count > 100);
}

TEST_MAIN()
