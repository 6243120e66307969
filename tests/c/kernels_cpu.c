// kernels_cpu.c - the CPU's kernels with bare arrays: against the formula in double, for every
// instruction set that this machine has, every dtype, and several numbers of threads, which must
// give the same bits. The device's memory and options as well.
#include <pthread.h>

#include "cpu/cpu.h"
#include "device.h"
#include "test.h"

// ---- numbers -------------------------------------------------------------------------------

static uint64_t state;

// Uniform in [-1, 1), on a grid of 2^-6: exact in bf16, so that a reference sees what kernels see.
static double number(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (double)(int64_t)(state % 128) / 64 - 1;
}

static int64_t below(int64_t n) {
  number();
  return (int64_t)(state % (uint64_t)n);
}

static void put(void *x, cft_dtype dtype, int64_t i, double value) {
  switch (dtype) {
    case CFT_F64: ((double *)x)[i] = value; break;
    case CFT_F32: ((float *)x)[i] = (float)value; break;
    case CFT_BF16: ((bf16 *)x)[i] = f32_bf16((float)value); break;
    case CFT_I32: ((int32_t *)x)[i] = (int32_t)value; break;
    case CFT_I64: ((int64_t *)x)[i] = (int64_t)value; break;
    default: ((uint8_t *)x)[i] = (uint8_t)value;
  }
}

static double get(const void *x, cft_dtype dtype, int64_t i) {
  switch (dtype) {
    case CFT_F64: return ((const double *)x)[i];
    case CFT_F32: return (double)((const float *)x)[i];
    case CFT_BF16: return (double)bf16_f32(((const bf16 *)x)[i]);
    case CFT_I32: return ((const int32_t *)x)[i];
    case CFT_I64: return (double)((const int64_t *)x)[i];
    default: return ((const uint8_t *)x)[i];
  }
}

static cft_dtype sum_dtype(cft_dtype dtype) { return dtype == CFT_F64 ? CFT_F64 : CFT_F32; }

// Half the distance of two numbers just above 1.
static double epsilon(cft_dtype dtype) {
  return dtype == CFT_F64 ? 0x1p-53 : dtype == CFT_F32 ? 0x1p-24 : 0x1p-8;
}

// Arrays of a case, ended exactly where they end, so that the sanitizer sees a step too far.
// All are freed when the case ends.
enum { MOST_ARRAYS = 64 };
static void *arrays[MOST_ARRAYS];
static int array_count;

static void *array(int64_t n, cft_dtype dtype) {
  void *x = malloc((size_t)n * cft_dtype_bytes(dtype) + (n == 0));
  arrays[array_count++] = x;
  return x;
}

static void *numbers(int64_t n, cft_dtype dtype) {
  void *x = array(n, dtype);
  for (int64_t i = 0; i < n; i++) put(x, dtype, i, number());
  return x;
}

static void *constant(int64_t n, cft_dtype dtype, double value) {
  void *x = array(n, dtype);
  for (int64_t i = 0; i < n; i++) put(x, dtype, i, value);
  return x;
}

static void *copied(const void *x, int64_t n, cft_dtype dtype) {
  return memcpy(array(n, dtype), x, (size_t)n * cft_dtype_bytes(dtype));
}

// An output: where a kernel that forgets an element, or reads a y it should not, leaves NaN.
static void *output(int64_t n, cft_dtype dtype, int beta) {
  return beta ? numbers(n, dtype) : constant(n, dtype, dtype == CFT_I32 ? -7 : NAN);
}

static void free_arrays(void) {
  while (array_count > 0) free(arrays[--array_count]);
}

// ---- everywhere ----------------------------------------------------------------------------

static cft_device *cpu;
static const cft_kernels *kernels;
static const char *const isas[] = {"base", "avx2", "avx512", "avx512bf16"};
static const int teams[] = {1, 2, 3};
static uint64_t seen;  // a hash of all outputs of a check
static char where[64];

static void note(const void *x, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) seen = (seen ^ ((const uint8_t *)x)[i]) * 0x100000001b3u;
}

// Run a check for each dtype on each instruction set; its outputs must not depend on the threads.
static void everywhere(void (*check)(cft_dtype), const cft_dtype *dtypes, int count) {
  cpu = cft_cpu_device();
  kernels = cpu->kernels;
  cft_cpu_worth_waking = 1;
  for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
    static bool told[sizeof isas / sizeof *isas];
    if (cft_cpu_set_isa(isas[i]) != CFT_OK) {
      if (!told[i]) fprintf(stderr, "  without %s: %s\n", isas[i], cft_last_error());
      told[i] = true;
      continue;
    }
    for (int type = 0; type < count; type++) {
      if (dtypes[type] == CFT_F64 && i > 0) continue;  // built once
      uint64_t first = 0;
      for (size_t team = 0; team < sizeof teams / sizeof *teams; team++) {
        EXPECT_OK(cft_cpu_set_threads(teams[team]));
        snprintf(where, sizeof where, "%s, %s, %d threads", isas[i], cft_dtype_name(dtypes[type]),
                 teams[team]);
        state = 88172645463325252u, seen = 0;
        check(dtypes[type]);
        free_arrays();
        if (TEST_FAILED()) {
          fprintf(stderr, "  on %s\n", where);
          return;
        }
        if (team == 0) first = seen;
        if (seen != first) TEST_FAIL("on %s: other bits than with one thread", where);
      }
    }
  }
  cft_memory_use use;
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.total, 0);  // scratch is given back
  EXPECT_OK(cft_cpu_set_isa(NULL));
}

static const cft_dtype FLOATS[] = {CFT_F32, CFT_BF16, CFT_F64};
#define EVERYWHERE(name)                              \
  static void check_##name(cft_dtype dtype);          \
  TEST(name) { everywhere(check_##name, FLOATS, 3); } \
  static void check_##name(cft_dtype dtype)
#define ANYWHERE(name)                                \
  static void check_##name(cft_dtype dtype);          \
  TEST(name) { everywhere(check_##name, FLOATS, 1); } \
  static void check_##name(cft_dtype dtype)

#define RUN(op, ...) EXPECT_OK(kernels->op(cpu, NULL, &(__VA_ARGS__)))

// got is stored in `dtype`; `size` bounds the terms of its sum, which `sum` rounds.
static bool close_to(double got, double want, double size, cft_dtype sum, cft_dtype dtype) {
  if (isnan(want)) return isnan(got);
  if (isinf(want)) return got == want;
  double bound =
      8 * epsilon(sum) * (size + fabs(want)) + 1.01 * epsilon(dtype) * fabs(want) + 1e-37;
  return fabs(got - want) <= bound;
}

#define EXPECT_NEAR(y, i, want, size, sum, dtype)                                         \
  do {                                                                                    \
    double got_ = get(y, dtype, i), want_ = (want);                                       \
    if (!close_to(got_, want_, (size), (sum), (dtype)))                                   \
      TEST_FAIL("%s[%" PRId64 "] is %.9g, expected %.9g", #y, (int64_t)(i), got_, want_); \
  } while (0)

// ---- functions of one number ---------------------------------------------------------------

static double unary_of(cft_unary f, double x) {
  switch (f) {
    case CFT_NEG: return -x;
    case CFT_EXP: return exp(x);
    case CFT_LOG: return log(x);
    case CFT_SQRT: return sqrt(x);
    case CFT_RSQRT: return 1 / sqrt(x);
    case CFT_TANH: return tanh(x);
    case CFT_SIGMOID: return 1 / (1 + exp(-x));
    case CFT_RELU: return x < 0 ? 0 : x;
    case CFT_SILU: return x / (1 + exp(-x));
    case CFT_ABS: return fabs(x);
    case CFT_SIN: return sin(x);
    case CFT_COS: return cos(x);
    case CFT_SQUARE: return x * x;
    case CFT_RECIPROCAL: return 1 / x;
    case CFT_STEP: return x > 0;
  }
  return NAN;
}

EVERYWHERE(unary) {
  static const int64_t sizes[] = {0, 1, 7, 67, 9001};
  for (int size = 0; size < 5; size++)
    for (cft_unary f = CFT_NEG; f <= CFT_STEP; f++)
      for (int beta = 0; beta < 2; beta++) {
        int64_t n = sizes[size];
        void *x = numbers(n, dtype), *y = output(n, dtype, beta), *before = copied(y, n, dtype);
        RUN(unary, (cft_unary_args){y, x, n, f, 0.75, beta, dtype});
        note(y, (size_t)n * cft_dtype_bytes(dtype));
        for (int64_t i = 0; i < n; i++) {
          double old = beta ? get(before, dtype, i) : 0;
          double value = 0.75 * unary_of(f, get(x, dtype, i));
          EXPECT_NEAR(y, i, value + old, fabs(value) + fabs(old), sum_dtype(dtype), dtype);
        }
        free_arrays();
      }
}

EVERYWHERE(unary_in_place) {
  void *x = numbers(1000, dtype), *y = copied(x, 1000, dtype);
  RUN(unary, (cft_unary_args){y, y, 1000, CFT_SQUARE, 1, 0, dtype});
  for (int64_t i = 0; i < 1000; i++)
    EXPECT_NEAR(y, i, get(x, dtype, i) * get(x, dtype, i), 0, dtype, dtype);
}

// Every 4,099th float of all there are, and the odd ones.
static void check_accuracy(cft_dtype dtype) {
  enum { STRIDE = 4099, CHUNK = 65536 };
  static const cft_unary functions[] = {CFT_EXP, CFT_LOG, CFT_TANH, CFT_SIGMOID};
  static const double ulps[] = {2, 2, 3, 3};
  float *x = array(CHUNK, dtype), *y = array(CHUNK, dtype);
  for (int k = 0; k < 4; k++) {
    double worst = 0;
    float worst_x = 0;
    for (uint64_t bits = 0; bits < 1ull << 32;) {
      int64_t n = 0;
      if (bits == 0) {
        static const float odd[] = {0.0f,
                                    -0.0f,
                                    INFINITY,
                                    -INFINITY,
                                    NAN,
                                    1,
                                    -1,
                                    88.72283f,
                                    88.7229f,
                                    -87.33654f,
                                    -87.34f,
                                    -103.2789f,
                                    -103.98f,
                                    1e-45f,
                                    -1e-45f,
                                    1.17549435e-38f,
                                    1.1754942e-38f,
                                    3.4028235e38f,
                                    -3.4028235e38f};
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) x[n++] = odd[i];
      }
      for (; n < CHUNK && bits < 1ull << 32; bits += STRIDE) x[n++] = bits_f32((uint32_t)bits);
      RUN(unary, (cft_unary_args){y, x, n, functions[k], 1, 0, CFT_F32});
      for (int64_t i = 0; i < n; i++) {
        double want = unary_of(functions[k], (double)x[i]);
        float nearest = (float)want;
        if (isnan(want) || isinf(nearest) || isinf(y[i])) {
          if (!(y[i] == nearest || (isnan(y[i]) && isnan(want))))
            TEST_FAIL("function %d of %.9g is %.9g, expected %.9g", functions[k], (double)x[i],
                      (double)y[i], want);
          continue;
        }
        bool tiny = functions[k] == CFT_EXP || functions[k] == CFT_SIGMOID;
        if (tiny && y[i] == 0 && want < 1.7e-38) continue;  // as vmath.h says
        double ulp = fmax(ldexp(1, ilogb(fmax(fabs(want), 0x1p-126)) - 23), 0x1p-149);
        double error = fabs((double)y[i] - want) / ulp;
        if (error > worst) worst = error, worst_x = x[i];
      }
    }
    if (worst > ulps[k])
      TEST_FAIL("function %d is %.2f units in the last place off at %.9g, expected at most %g",
                functions[k], worst, (double)worst_x, ulps[k]);
  }
}
TEST(polynomials_are_accurate) { everywhere(check_accuracy, FLOATS, 1); }

// ---- functions of two numbers --------------------------------------------------------------

static double binary_of(cft_binary f, double a, double b) {
  switch (f) {
    case CFT_ADD: return a + b;
    case CFT_SUB: return a - b;
    case CFT_MUL: return a * b;
    case CFT_DIV: return a / b;
    case CFT_MAX: return isnan(a) || isnan(b) ? NAN : fmax(a, b);
    case CFT_MIN: return isnan(a) || isnan(b) ? NAN : fmin(a, b);
    case CFT_POW: return pow(a, b);
  }
  return NAN;
}

EVERYWHERE(binary) {
  static const int64_t shapes[][2] = {{0, 3}, {3, 0},  {1, 1},    {1, 67},  {67, 1},
                                      {5, 7}, {3, 64}, {3, 8209}, {9001, 1}};
  for (size_t shape = 0; shape < sizeof shapes / sizeof *shapes; shape++)
    for (int pattern = 0; pattern < 5; pattern++)
      for (cft_binary f = CFT_ADD; f <= CFT_POW; f++)
        for (int beta = 0; beta < 2; beta++) {
          int64_t n = shapes[shape][0], d = shapes[shape][1];
          const int64_t strides[][2] = {{d, 1}, {0, 1}, {1, 0}, {0, 0}, {1, n}};
          int64_t rows = strides[pattern][0], cols = strides[pattern][1];
          void *a = numbers(n * d, dtype), *b = numbers(n * d + n + d + 1, dtype);
          void *y = output(n * d, dtype, beta), *before = copied(y, n * d, dtype);
          if (f == CFT_DIV && n * d > 0) put(b, dtype, 0, 0);
          if (f >= CFT_MAX && n * d > 3) put(a, dtype, 1, NAN), put(b, dtype, 2, NAN);
          RUN(binary, (cft_binary_args){y, a, b, n, d, rows, cols, f, beta, dtype});
          note(y, (size_t)(n * d) * cft_dtype_bytes(dtype));
          for (int64_t i = 0; i < n * d; i++) {
            double old = beta ? get(before, dtype, i) : 0;
            double value =
                binary_of(f, get(a, dtype, i), get(b, dtype, i / d * rows + i % d * cols));
            EXPECT_NEAR(y, i, value + old, fabs(value) + fabs(old) + 1, sum_dtype(dtype), dtype);
          }
          free_arrays();
        }
}

EVERYWHERE(axpby) {
  static const int64_t sizes[] = {0, 1, 31, 9001};
  for (int size = 0; size < 4; size++)
    for (int wide = 0; wide <= (dtype == CFT_BF16); wide++)
      for (int beta = 0; beta < 3; beta++) {
        int64_t n = sizes[size];
        cft_dtype y_dtype = wide ? CFT_F32 : dtype;
        void *x = numbers(n, dtype), *y = output(n, y_dtype, beta), *before = copied(y, n, y_dtype);
        RUN(axpby, (cft_axpby_args){y, x, n, -1.5, beta * 0.5, dtype, y_dtype});
        note(y, (size_t)n * cft_dtype_bytes(y_dtype));
        for (int64_t i = 0; i < n; i++) {
          double old = beta ? beta * 0.5 * get(before, y_dtype, i) : 0;
          EXPECT_NEAR(y, i, -1.5 * get(x, dtype, i) + old, 3, sum_dtype(dtype), y_dtype);
        }
        free_arrays();
      }
  float y[1] = {0};
  EXPECT_FAILS(kernels->axpby(cpu, NULL, &(cft_axpby_args){y, y, 1, 1, 0, dtype, CFT_I32}),
               CFT_E_UNSUPPORTED, "y in i32");
}

// ---- reductions ----------------------------------------------------------------------------

EVERYWHERE(reduce) {
  static const int64_t shapes[][3] = {{0, 3, 4},     {2, 0, 3},     {5, 0, 1},     {2, 3, 0},
                                      {1, 1, 1},     {3, 5, 1},     {3, 5, 7},     {1, 100, 300},
                                      {2, 70, 513},  {1, 50000, 3}, {1, 90001, 1}, {300, 257, 1},
                                      {2, 1000, 100}};
  for (size_t shape = 0; shape < sizeof shapes / sizeof *shapes; shape++)
    for (cft_reduction f = CFT_SUM; f <= CFT_SUM_SQUARES; f++)
      for (int wide = 0; wide <= (dtype == CFT_BF16); wide++)
        for (int beta = 0; beta < 2; beta++) {
          int64_t outer = shapes[shape][0], mid = shapes[shape][1], inner = shapes[shape][2];
          cft_dtype y_dtype = f == CFT_ARGMAX ? CFT_I32 : wide ? CFT_F32 : dtype;
          double alpha = f == CFT_ARGMAX ? 1 : 0.25;
          void *x = numbers(outer * mid * inner, dtype);
          void *y = output(outer * inner, y_dtype, beta && f != CFT_ARGMAX);
          void *before = copied(y, outer * inner, y_dtype);
          RUN(reduce, (cft_reduce_args){y, x, outer, mid, inner, alpha, f, beta, dtype, y_dtype});
          note(y, (size_t)(outer * inner) * cft_dtype_bytes(y_dtype));
          for (int64_t i = 0; i < outer * inner; i++) {
            double sum = 0, size = 0, top = -INFINITY, squares = 0;
            int64_t at = 0;
            for (int64_t j = 0; j < mid; j++) {
              double v = get(x, dtype, (i / inner * mid + j) * inner + i % inner);
              sum += v, size += fabs(v), squares += v * v;
              if (v > top) top = v, at = j;
            }
            double value = f == CFT_SUM ? sum : f == CFT_MAXIMUM ? top : squares;
            double old = beta ? get(before, y_dtype, i) : 0;
            if (f == CFT_ARGMAX)
              EXPECT_INT(((int32_t *)y)[i], at);
            else
              EXPECT_NEAR(y, i, alpha * value + old, size + squares + 1, sum_dtype(dtype), y_dtype);
          }
          free_arrays();
        }
}

EVERYWHERE(reduce_of_odd_numbers) {
  for (int64_t inner = 1; inner <= 3; inner += 2) {
    void *x = numbers(50 * inner, dtype), *y = array(inner, dtype);
    int32_t at[3];
    for (int64_t j = 0; j < inner; j++) put(x, dtype, 20 * inner + j, NAN);
    cft_reduce_args a = {y, x, 1, 50, inner, 1, CFT_MAXIMUM, 0, dtype, dtype};
    RUN(reduce, a);
    for (int64_t j = 0; j < inner; j++) EXPECT(isnan(get(y, dtype, j)));  // not passed by
    for (int64_t i = 0; i < 50 * inner; i++) put(x, dtype, i, NAN);
    a.f = CFT_ARGMAX, a.y = at, a.y_dtype = CFT_I32;
    RUN(reduce, a);
    for (int64_t j = 0; j < inner; j++) EXPECT_INT(at[j], 0);
    for (int64_t i = 0; i < 50 * inner; i++) put(x, dtype, i, -INFINITY);
    RUN(reduce, a);
    for (int64_t j = 0; j < inner; j++) EXPECT_INT(at[j], 0);
    a.f = CFT_SUM;
    EXPECT_FAILS(kernels->reduce(cpu, NULL, &a), CFT_E_UNSUPPORTED, "y in i32");
    a.f = (cft_reduction)9;
    EXPECT_FAILS(kernels->reduce(cpu, NULL, &a), CFT_E_ARG, "9");
  }
}

// The sum of a million numbers keeps all but a few bits, whatever is added first.
EVERYWHERE(long_sums_are_exact) {
  int64_t n = 1 << 20;
  void *x = numbers(n, dtype);
  double sum[2] = {0, 0}, y[2];
  for (int64_t i = 0; i < n; i++) {
    put(x, dtype, i, get(x, dtype, i) + 2);
    sum[i % 2] += get(x, dtype, i);
  }
  cft_dtype t = sum_dtype(dtype);
  RUN(reduce, (cft_reduce_args){y, x, 1, n, 1, 1, CFT_SUM, 0, dtype, t});
  EXPECT(fabs(get(y, t, 0) / (sum[0] + sum[1]) - 1) < 1e-6);
  RUN(reduce, (cft_reduce_args){y, x, 1, n / 2, 2, 1, CFT_SUM, 0, dtype, t});
  for (int j = 0; j < 2; j++) EXPECT(fabs(get(y, t, j) / sum[j] - 1) < 1e-6);
}

EVERYWHERE(sum_squares_and_clip) {
  static const int64_t sizes[] = {0, 1, 1000, 70001, 3000001};
  for (int size = 0; size < 5; size++) {
    int64_t n = sizes[size];
    void *x = numbers(n, dtype);
    double out = 3, want = 3;
    RUN(sum_squares, (cft_sum_squares_args){&out, x, n, 0.5, dtype});
    note(&out, sizeof out);
    for (int64_t i = 0; i < n; i++) want += 0.5 * get(x, dtype, i) * get(x, dtype, i);
    EXPECT_CLOSE(out, want, 1e-12);
    free_arrays();
  }
  float huge[2] = {1e30f, -1e30f};  // squares beyond f32
  double out = 0;
  RUN(sum_squares, (cft_sum_squares_args){&out, huge, 2, 1, CFT_F32});
  EXPECT_CLOSE(out, 2e60, 1e-6);
  float clip[2];
  const struct {
    double sum, scale, max, factor, norm;
  } cases[] = {
      {16, 0.5, 1, 0.5 / (2 + 1e-6), 2},
      {16, 0.5, 3, 0.5, 2},
      {16, 0.5, 0, 0.5, 2},
      {0, 1, 1, 1, 0},
      {INFINITY, 1, 1, NAN, INFINITY},
      {INFINITY, 1, 0, NAN, INFINITY},
      {NAN, 1, 1, NAN, NAN},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    RUN(clip_scale, (cft_clip_args){clip, &cases[i].sum, cases[i].scale, cases[i].max});
    EXPECT_NEAR(clip, 0, cases[i].factor, 0, CFT_F32, CFT_F32);
    EXPECT_NEAR(clip, 1, cases[i].norm, 0, CFT_F32, CFT_F32);
  }
}

// ---- casts, copies, fills ------------------------------------------------------------------

// x rounded to nearest even with so many bits of mantissa and this lowest exponent: what a 16-bit
// float must be, by arithmetic in double.
static double nearest(double x, int bits, int lowest, double largest) {
  if (x == 0 || isinf(x) || isnan(x)) return x;
  int e = ilogb(x) < lowest ? lowest : ilogb(x);
  double step = ldexp(1, e - bits), y = nearbyint(x / step) * step;
  return fabs(y) > largest ? copysign(INFINITY, x) : y;
}

static double f16_value(uint16_t h) {
  int e = h >> 10 & 31, m = h & 1023;
  double v = e == 31 ? (m ? NAN : INFINITY) : e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);
  return h & 0x8000 ? -v : v;
}

static bool same(double a, double b) {
  return (a == b && signbit(a) == signbit(b)) || (isnan(a) && isnan(b));
}

ANYWHERE(cast_16_bits) {
  enum { ALL = 65536 };
  uint16_t *h = array(ALL, CFT_F16), *back = array(ALL, CFT_F16);
  float *f = array(ALL, dtype);
  double *x = array(ALL, CFT_F64);
  for (int i = 0; i < ALL; i++) h[i] = (uint16_t)i;
  for (int half = 0; half < 2; half++) {
    cft_dtype narrow = half ? CFT_F16 : CFT_BF16;
    RUN(cast, (cft_cast_args){f, h, ALL, CFT_F32, narrow});
    RUN(cast, (cft_cast_args){x, h, ALL, CFT_F64, narrow});
    for (int i = 0; i < ALL; i++) {
      double want = half ? f16_value(h[i]) : get(h, CFT_BF16, i);
      if (!same((double)f[i], want) || !same(x[i], want))
        TEST_FAIL("%s %04x is %g and %g, expected %g", cft_dtype_name(narrow), h[i], (double)f[i],
                  x[i], want);
    }
    RUN(cast, (cft_cast_args){back, f, ALL, narrow, CFT_F32});
    for (int i = 0; i < ALL; i++)
      if (back[i] != h[i] && !isnan(f[i])) TEST_FAIL("%g came back as %04x", (double)f[i], back[i]);
  }
}

ANYWHERE(cast_rounds_to_even) {
  enum { N = 1 << 20 };
  float *f = array(N, CFT_F32);
  double *x = array(N, CFT_F64);
  uint16_t *h = array(N, CFT_F16), *g = array(N, CFT_F16);
  for (int64_t i = 0; i < N; i++) {
    f[i] = bits_f32((uint32_t)(i * 4093 + 2048 * (i & 1)));
    // Doubles beside a tie of 16 bits, where rounding twice goes wrong.
    x[i] = (double)bits_f32((uint32_t)(i << 12)) * (1 + (double)(i % 3 - 1) * 0x1p-40);
  }
  f[7] = NAN, x[9] = NAN;
  for (int half = 0; half < 2; half++) {
    cft_dtype narrow = half ? CFT_F16 : CFT_BF16;
    RUN(cast, (cft_cast_args){h, f, N, narrow, CFT_F32});
    RUN(cast, (cft_cast_args){g, x, N, narrow, CFT_F64});
    note(h, sizeof *h * N);
    for (int64_t i = 0; i < N; i++) {
      for (int wide = 0; wide < 2; wide++) {
        double from = wide ? x[i] : (double)f[i];
        uint16_t to = wide ? g[i] : h[i];
        double got = half ? f16_value(to) : get(&to, CFT_BF16, 0);
        double want = half ? nearest(from, 10, -14, 65504) : nearest(from, 7, -126, 0x1.fep127);
        if (!same(got, want)) TEST_FAIL("%.17g became %.9g, expected %.9g", from, got, want);
      }
    }
  }
}

ANYWHERE(cast_integers) {
  const float f[] = {0, -1.75f, 2.5f, 1e10f, -1e10f, 1e30f, -1e30f, NAN, INFINITY};
  const int32_t i32[] = {0, -1, 2, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, 0, INT32_MAX};
  const int64_t i64[] = {0, -1, 2, 10000000000, -10000000000, INT64_MAX, INT64_MIN, 0, INT64_MAX};
  int32_t a[9];
  int64_t b[9];
  float c[9];
  RUN(cast, (cft_cast_args){a, f, 9, CFT_I32, CFT_F32});
  RUN(cast, (cft_cast_args){b, f, 9, CFT_I64, CFT_F32});
  for (int i = 0; i < 9; i++) {
    EXPECT_INT(a[i], i32[i]);
    EXPECT_INT(b[i], i64[i]);
  }
  RUN(cast, (cft_cast_args){a, i64, 9, CFT_I32, CFT_I64});
  for (int i = 0; i < 9; i++) EXPECT_INT(a[i], i32[i]);
  RUN(cast, (cft_cast_args){b, i32, 9, CFT_I64, CFT_I32});
  for (int i = 0; i < 9; i++) EXPECT_INT(b[i], i32[i]);
  RUN(cast, (cft_cast_args){c, i32, 9, CFT_F32, CFT_I32});
  for (int i = 0; i < 9; i++) EXPECT(c[i] == (float)i32[i]);
  RUN(cast, (cft_cast_args){c, i64, 9, CFT_F32, CFT_I64});
  for (int i = 0; i < 9; i++) EXPECT(c[i] == (float)i64[i]);
  EXPECT_FAILS(kernels->cast(cpu, NULL, &(cft_cast_args){c, f, 9, CFT_U8, CFT_F32}),
               CFT_E_UNSUPPORTED, "from f32 to u8");
  (void)dtype;
}

ANYWHERE(cast_floats) {
  static const cft_dtype types[] = {CFT_F32, CFT_BF16, CFT_F16, CFT_F64};
  enum { N = 9001 };
  (void)dtype;
  double *x = numbers(N, CFT_F64), *back = array(N, CFT_F64);
  for (int from = 0; from < 4; from++)
    for (int to = 0; to < 4; to++) {
      void *a = array(N, CFT_F64), *b = array(N, CFT_F64);
      RUN(cast, (cft_cast_args){a, x, N, types[from], CFT_F64});
      RUN(cast, (cft_cast_args){b, a, N, types[to], types[from]});
      RUN(cast, (cft_cast_args){back, b, N, CFT_F64, types[to]});
      for (int64_t i = 0; i < N; i++) EXPECT_CLOSE(back[i], x[i], 0);  // all are exact in all types
    }
}

static const cft_dtype ALL_TYPES[] = {CFT_F32, CFT_BF16, CFT_F64, CFT_F16,
                                      CFT_I32, CFT_I64,  CFT_U8};

ANYWHERE(rows) {
  (void)dtype;
  static const int64_t shapes[][2] = {{0, 3}, {1, 1}, {5, 7}, {130, 300}};
  for (int type = 0; type < 7; type++)
    for (int shape = 0; shape < 4; shape++) {
      cft_dtype t = ALL_TYPES[type];
      size_t size = cft_dtype_bytes(t);
      int64_t n = shapes[shape][0], d = shapes[shape][1], rows = 2 * n + 1, wide = d + 3;
      int32_t *index = array(n, CFT_I32);
      for (int64_t i = 0; i < n; i++)
        index[i] = (int32_t)((i * 2 + 5) % rows);  // distinct: rows is odd
      uint8_t *big = array(rows * wide, t), *small = array(n * d, t);
      for (size_t i = 0; i < (size_t)(rows * wide) * size; i++) big[i] = (uint8_t)below(120);
      RUN(gather_rows, (cft_rows_args){small, big, index, n, d, d, wide, 0, t});
      for (int64_t i = 0; i < n; i++)
        EXPECT(!memcmp(small + (size_t)(i * d) * size, big + (size_t)(index[i] * wide) * size,
                       (size_t)d * size));
      note(small, (size_t)(n * d) * size);
      for (size_t i = 0; i < (size_t)(n * d) * size; i++) small[i] = (uint8_t)below(120);
      uint8_t *before = copied(big, rows * wide, t);
      RUN(scatter_rows, (cft_rows_args){big, small, index, n, d, wide, d, 0, t});
      for (int64_t i = 0; i < n; i++) {
        EXPECT(!memcmp(small + (size_t)(i * d) * size, big + (size_t)(index[i] * wide) * size,
                       (size_t)d * size));
        memcpy(big + (size_t)(index[i] * wide) * size, before + (size_t)(index[i] * wide) * size,
               (size_t)d * size);
      }
      EXPECT(!memcmp(big, before, (size_t)(rows * wide) * size));  // nothing else was touched
      free_arrays();
    }
}

EVERYWHERE(scatter_adds) {
  int64_t n = 130, d = 300, rows = 261;
  int32_t *index = array(n, CFT_I32);
  for (int64_t i = 0; i < n; i++) index[i] = (int32_t)((i * 2 + 5) % rows);
  void *y = numbers(rows * d, dtype), *x = numbers(n * d, dtype),
       *before = copied(y, rows * d, dtype);
  RUN(scatter_rows, (cft_rows_args){y, x, index, n, d, d, d, 1, dtype});
  note(y, (size_t)(rows * d) * cft_dtype_bytes(dtype));
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < d; j++) {
      int64_t at = index[i] * d + j;
      EXPECT_NEAR(y, at, get(before, dtype, at) + get(x, dtype, i * d + j), 2, dtype, dtype);
      put(before, dtype, at, get(y, dtype, at));
    }
  EXPECT(!memcmp(y, before, (size_t)(rows * d) * cft_dtype_bytes(dtype)));
  EXPECT_FAILS(
      kernels->scatter_rows(cpu, NULL, &(cft_rows_args){y, x, index, 1, 1, 1, 1, 1, CFT_U8}),
      CFT_E_UNSUPPORTED, "adds u8");
}

ANYWHERE(strided_copy) {
  (void)dtype;
  // dims, and the order in which x's memory runs through them
  static const struct {
    int ndim;
    int64_t dims[6];
    int order[6];
  } cases[] = {
      {0, {0}, {0}},
      {1, {7}, {0}},
      {2, {5, 9}, {0, 1}},
      {2, {67, 45}, {1, 0}},
      {2, {300, 200}, {1, 0}},
      {3, {4, 70, 33}, {1, 0, 2}},
      {3, {3, 1, 5}, {2, 1, 0}},
      {3, {3, 0, 5}, {2, 1, 0}},
      {4, {3, 5, 7, 11}, {2, 0, 3, 1}},
      {6, {2, 3, 4, 3, 2, 5}, {5, 3, 1, 0, 2, 4}},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
    for (int type = 0; type < 7; type++)
      for (int broadcast = 0; broadcast < 2; broadcast++) {
        cft_dtype t = ALL_TYPES[type];
        size_t size = cft_dtype_bytes(t);
        cft_strided_args a = {.ndim = cases[k].ndim, .dtype = t};
        int64_t total = 1, step = 1;
        for (int i = a.ndim - 1; i >= 0; i--) {
          a.dims[i] = cases[k].dims[i];
          a.y_strides[i] = total;
          total *= a.dims[i];
        }
        for (int i = a.ndim - 1; i >= 0; i--) {
          int at = cases[k].order[i];
          a.x_strides[at] = step;
          step *= a.dims[at];
        }
        if (broadcast && a.ndim > 0) a.x_strides[a.ndim - 1] = 0;
        uint8_t *x = array(total, t), *y = array(total, t);
        for (size_t i = 0; i < (size_t)total * size; i++) x[i] = (uint8_t)below(256);
        a.x = x, a.y = y;
        RUN(strided_copy, a);
        note(y, (size_t)total * size);
        for (int64_t i = 0; i < total; i++) {
          int64_t rest = i, at = 0;
          for (int m = a.ndim - 1; m >= 0; m--) {
            at += rest % a.dims[m] * a.x_strides[m];
            rest /= a.dims[m];
          }
          EXPECT(!memcmp(y + (size_t)i * size, x + (size_t)at * size, size));
        }
        free_arrays();
      }
}

ANYWHERE(strided_copy_into_a_view) {
  (void)dtype;
  float *y = constant(6 * 100, CFT_F32, 5), *x = numbers(2 * 50, CFT_F32);
  RUN(strided_copy, (cft_strided_args){y, x, 2, {2, 50}, {300, 2}, {50, 1}, CFT_F32});
  for (int64_t i = 0; i < 600; i++) {
    int64_t row = i / 300, column = i % 300 / 2;
    float want = i % 2 == 0 && column < 50 ? x[row * 50 + column] : 5;
    EXPECT(y[i] == want);
  }
}

ANYWHERE(fill) {
  (void)dtype;
  static const int64_t sizes[] = {0, 1, 33, 9001};
  for (int type = 0; type < 7; type++)
    for (int size = 0; size < 4; size++) {
      cft_dtype t = ALL_TYPES[type];
      void *y = array(sizes[size], t);
      cft_fill_args a = {y, sizes[size], 3, t};
      RUN(fill, a);
      for (int64_t i = 0; i < a.n; i++) {
        if (t == CFT_F16)
          EXPECT_INT(((uint16_t *)y)[i], 0x4200);
        else
          EXPECT_CLOSE(get(y, t, i), 3, 0);
      }
    }
}

// ---- random --------------------------------------------------------------------------------

// The first of Random123's published vectors (kat_vectors: philox4x32, 10 rounds, all zero).
EVERYWHERE(philox_is_the_published_one) {
  static const uint32_t words[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  void *y = array(4, dtype);
  RUN(random, (cft_random_args){y, 4, 0, 0, 0, 1, CFT_UNIFORM, dtype});
  for (int i = 0; i < 4; i++) EXPECT_NEAR(y, i, (words[i] >> 8) * 0x1p-24, 0, CFT_F64, dtype);
}

EVERYWHERE(random) {
  enum { N = 100003 };
  void *y = array(N, dtype), *part = array(N, dtype);
  size_t size = cft_dtype_bytes(dtype);
  for (int f = 0; f < 2; f++) {
    cft_random_args a = {y, N, 12345678901234, 7, -1, 3, (cft_distribution)f, dtype};
    RUN(random, a);
    note(y, N * size);
    double sum = 0, squares = 0, cubes = 0, fourth = 0, pairs = 0, low = INFINITY, high = -INFINITY;
    double mean = f ? -1 : 1, deviation = f ? 3 : 4 / sqrt(12);
    for (int64_t i = 0; i < N; i++) {
      double v = (get(y, dtype, i) - mean) / deviation;
      sum += v, squares += v * v, cubes += v * v * v, fourth += v * v * v * v;
      if (i > 0) pairs += v * (get(y, dtype, i - 1) - mean) / deviation;
      low = fmin(low, v), high = fmax(high, v);
    }
    double root = sqrt(N);  // moments to within five of their standard deviations
    EXPECT(fabs(sum / root) < 5);
    EXPECT(fabs(squares / N - 1) < 5 * sqrt(2) / root + 4 * epsilon(dtype));
    EXPECT(fabs(cubes / root) < 5 * sqrt(15));
    EXPECT(fabs(fourth / N - (f ? 3 : 1.8)) < 5 * sqrt(96) / root + 0.01);
    EXPECT(fabs(pairs / root) < 5);
    if (f == CFT_UNIFORM)
      EXPECT(low > -1.7330 && high < 1.7330);
    else
      EXPECT(low < -3.5 && high > 3.5 && low > -6.8 && high < 6.8);
    // A number depends on its place alone, and on seed and counter.
    a.y = part, a.n = 4097;
    RUN(random, a);
    EXPECT(!memcmp(part, y, 4097 * size));
    a.counter++;
    RUN(random, a);
    EXPECT(memcmp(part, y, 64 * size));
    a.counter--, a.seed += 1ull << 32;
    RUN(random, a);
    EXPECT(memcmp(part, y, 64 * size));
    a.f = (cft_distribution)5;
    EXPECT_FAILS(kernels->random(cpu, NULL, &a), CFT_E_ARG, "5");
  }
}

// What f32 draws is what f64 draws, to rounding: gradchecks start from the same weights.
ANYWHERE(random_agrees_between_dtypes) {
  enum { N = 70000 };
  float *x = array(N, dtype);
  double *y = array(N, CFT_F64);
  for (int f = 0; f < 2; f++) {
    RUN(random, (cft_random_args){x, N, 99, 3, 0, 1, (cft_distribution)f, dtype});
    RUN(random, (cft_random_args){y, N, 99, 3, 0, 1, (cft_distribution)f, CFT_F64});
    // A radius near 0 comes from a word near 2^32, of which f32 keeps 24 bits.
    for (int64_t i = 0; i < N; i++) EXPECT(fabs((double)x[i] - y[i]) <= (f ? 4e-4 : 0));
  }
}

// ---- embedding -----------------------------------------------------------------------------

EVERYWHERE(embedding) {
  static const int64_t shapes[][3] = {{0, 3, 5}, {1, 1, 1}, {9, 7, 4}, {200, 300, 11}};
  for (int shape = 0; shape < 4; shape++)
    for (int wide = 0; wide <= (dtype == CFT_BF16); wide++) {
      int64_t n = shapes[shape][0], d = shapes[shape][1], rows = shapes[shape][2];
      cft_dtype t = wide ? CFT_F32 : dtype;
      size_t size = cft_dtype_bytes(dtype);
      int32_t *ids = array(n, CFT_I32);
      for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)below(rows);
      uint8_t *table = numbers(rows * d, dtype), *y = output(n * d, dtype, 0);
      RUN(embedding_fwd, (cft_embedding_args){y, table, ids, n, d, rows, dtype});
      for (int64_t i = 0; i < n; i++)
        EXPECT(!memcmp(y + (size_t)(i * d) * size, table + (size_t)(ids[i] * d) * size,
                       (size_t)d * size));

      void *dy = numbers(n * d, dtype), *dtable = numbers(rows * d, t);
      double *want = array(rows * d, CFT_F64);
      for (int64_t i = 0; i < rows * d; i++) want[i] = get(dtable, t, i);
      for (int64_t i = 0; i < n * d; i++) {  // rounded after each addition, in order
        double *w = want + ids[i / d] * d + i % d;
        *w += get(dy, dtype, i);
        if (t == CFT_BF16) *w = nearest(*w, 7, -126, 0x1.fep127);
      }
      RUN(embedding_bwd, (cft_embedding_bwd_args){dtable, dy, ids, n, d, rows, dtype, t});
      note(dtable, (size_t)(rows * d) * cft_dtype_bytes(t));
      for (int64_t i = 0; i < rows * d; i++) EXPECT_CLOSE(get(dtable, t, i), want[i], 0);
      cft_embedding_bwd_args wrong = {dtable, dy, ids, n, d, rows, dtype, CFT_U8};
      EXPECT_FAILS(kernels->embedding_bwd(cpu, NULL, &wrong), CFT_E_UNSUPPORTED, "dtable in u8");
      free_arrays();
    }
}

// ---- rmsnorm -------------------------------------------------------------------------------

static const int64_t ROW_SHAPES[][2] = {{0, 5}, {1, 1}, {3, 7}, {17, 64}, {70, 577}, {90, 200}};

EVERYWHERE(rmsnorm_fwd) {
  cft_dtype sum = sum_dtype(dtype);
  for (int shape = 0; shape < 6; shape++)
    for (int residual = 0; residual < 2; residual++) {
      int64_t n = ROW_SHAPES[shape][0], d = ROW_SHAPES[shape][1];
      double eps = shape == 2 ? 1e-1 : 1e-6;
      void *x = numbers(n * d, dtype), *r = numbers(n * d, dtype), *w = numbers(d, dtype);
      void *y = output(n * d, dtype, 0), *s = output(n * d, dtype, 0), *rstd = output(n, sum, 0);
      RUN(rmsnorm_fwd, (cft_rmsnorm_args){y, residual ? s : NULL, rstd, x, residual ? r : NULL, w,
                                          n, d, eps, dtype});
      note(y, (size_t)(n * d) * cft_dtype_bytes(dtype));
      note(rstd, (size_t)n * cft_dtype_bytes(sum));
      for (int64_t i = 0; i < n; i++) {
        double squares = 0;
        for (int64_t j = i * d; j < (i + 1) * d; j++) {
          if (residual) EXPECT_NEAR(s, j, get(x, dtype, j) + get(r, dtype, j), 0, dtype, dtype);
          double v = residual ? get(s, dtype, j) : get(x, dtype, j);
          squares += v * v;
        }
        double want = 1 / sqrt(squares / (double)d + eps);
        EXPECT_NEAR(rstd, i, want, want, sum, sum);
        for (int64_t j = 0; j < d; j++) {
          double v = residual ? get(s, dtype, i * d + j) : get(x, dtype, i * d + j);
          EXPECT_NEAR(y, i * d + j, get(w, dtype, j) * v * want, 0, sum, dtype);
        }
      }
      free_arrays();
    }
}

EVERYWHERE(rmsnorm_bwd) {
  cft_dtype sum = sum_dtype(dtype);
  for (int shape = 0; shape < 6; shape++)
    for (int flags = 0; flags < 32; flags++) {
      int ds_beta = flags & 1, dw_beta = flags >> 1 & 1, with_sum = flags >> 2 & 1;
      int with_dw = flags >> 3 & 1, wide = flags >> 4 & 1;
      if (wide && dtype != CFT_BF16) continue;
      int64_t n = ROW_SHAPES[shape][0], d = ROW_SHAPES[shape][1];
      cft_dtype dw_dtype = wide ? CFT_F32 : dtype;
      void *dy = numbers(n * d, dtype), *s = numbers(n * d, dtype), *w = numbers(d, dtype);
      void *dsum = numbers(n * d, dtype), *rstd = array(n, sum);
      void *ds = output(n * d, dtype, ds_beta), *ds0 = copied(ds, n * d, dtype);
      void *dw = output(d, dw_dtype, dw_beta), *dw0 = copied(dw, d, dw_dtype);
      for (int64_t i = 0; i < n; i++) {
        double squares = 0;
        for (int64_t j = i * d; j < (i + 1) * d; j++)
          squares += get(s, dtype, j) * get(s, dtype, j);
        put(rstd, sum, i, 1 / sqrt(squares / (double)d + 1e-5));
      }
      RUN(rmsnorm_bwd,
          (cft_rmsnorm_bwd_args){ds, with_dw ? dw : NULL, dy, s, w, rstd, with_sum ? dsum : NULL, n,
                                 d, ds_beta, dw_beta, dtype, dw_dtype});
      note(ds, (size_t)(n * d) * cft_dtype_bytes(dtype));
      note(dw, (size_t)d * cft_dtype_bytes(dw_dtype));
      double *want = array(d, CFT_F64), *size = array(d, CFT_F64);
      for (int64_t j = 0; j < d; j++) {
        want[j] = dw_beta ? get(dw0, dw_dtype, j) : 0;
        size[j] = fabs(want[j]);
      }
      for (int64_t i = 0; i < n; i++) {
        double r = get(rstd, sum, i), mean = 0, mean_size = 0;
        for (int64_t j = 0; j < d; j++) {
          double t = get(w, dtype, j) * get(dy, dtype, i * d + j) * get(s, dtype, i * d + j) * r;
          mean += t / (double)d, mean_size += fabs(t) / (double)d;
        }
        for (int64_t j = 0; j < d; j++) {
          int64_t at = i * d + j;
          double shat = get(s, dtype, at) * r, g = get(dy, dtype, at);
          double more = (with_sum ? get(dsum, dtype, at) : 0) + (ds_beta ? get(ds0, dtype, at) : 0);
          want[j] += g * shat, size[j] += fabs(g * shat);
          EXPECT_NEAR(ds, at, r * (get(w, dtype, j) * g - shat * mean) + more,
                      r * (fabs(g) + fabs(shat) * mean_size) + fabs(more), sum, dtype);
        }
      }
      for (int64_t j = 0; j < d && with_dw; j++)
        EXPECT_NEAR(dw, j, want[j], size[j], sum, dw_dtype);
      free_arrays();
    }
  float x[1] = {1};
  cft_rmsnorm_bwd_args wrong = {x, x, x, x, x, x, NULL, 1, 1, 0, 0, dtype, CFT_I32};
  EXPECT_FAILS(kernels->rmsnorm_bwd(cpu, NULL, &wrong), CFT_E_UNSUPPORTED, "dw in i32");
  wrong.dw_dtype = dtype;
  cft_cpu_fail_alloc(1);
  EXPECT_FAILS(kernels->rmsnorm_bwd(cpu, NULL, &wrong), CFT_E_OOM, "no memory for");
}

// ---- rope, swiglu, softmax -----------------------------------------------------------------

EVERYWHERE(rope) {
  static const struct {
    int64_t n, heads, d, pad;
  } cases[] = {{0, 1, 4, 0}, {1, 1, 2, 0}, {5, 3, 6, 2}, {70, 9, 64, 5}, {3, 2, 38, 1}};
  cft_dtype sum = sum_dtype(dtype);
  for (int k = 0; k < 5; k++)
    for (int inverse = 0; inverse < 2; inverse++)
      for (int in_place = 0; in_place < 2; in_place++) {
        int64_t n = cases[k].n, heads = cases[k].heads, d = cases[k].d, half = d / 2;
        int64_t stride = heads * d + cases[k].pad, positions = 40;
        void *cosine = array(positions * half, sum), *sine = array(positions * half, sum);
        for (int64_t i = 0; i < positions * half; i++) {
          put(cosine, sum, i, cos((double)i)), put(sine, sum, i, sin((double)i));
        }
        int32_t *position = array(n, CFT_I32);
        for (int64_t i = 0; i < n; i++) position[i] = (int32_t)below(positions);
        void *x = numbers(n * stride, dtype), *x0 = copied(x, n * stride, dtype);
        void *y = in_place ? x : constant(n * stride, dtype, 9);
        RUN(rope, (cft_rope_args){y, x, cosine, sine, position, n, heads, d, stride, stride,
                                  inverse, dtype});
        note(y, (size_t)(n * stride) * cft_dtype_bytes(dtype));
        for (int64_t i = 0; i < n * stride; i++) {
          int64_t row = i / stride, j = i % stride;
          if (j >= heads * d) {  // between rows nothing is written
            EXPECT_CLOSE(get(y, dtype, i), in_place ? get(x0, dtype, i) : 9, 0);
            continue;
          }
          int upper = j % d >= half;
          int64_t angle = position[row] * half + j % d % half;
          double c = get(cosine, sum, angle), t = get(sine, sum, angle) * (inverse ? -1 : 1);
          double own = get(x0, dtype, i), other = get(x0, dtype, upper ? i - half : i + half);
          EXPECT_NEAR(y, i, own * c + (upper ? other : -other) * t, 2, sum, dtype);
        }
        free_arrays();
      }
}

EVERYWHERE(swiglu) {
  cft_dtype sum = sum_dtype(dtype);
  for (int shape = 0; shape < 6; shape++)
    for (int in_place = 0; in_place < 2; in_place++)
      for (int again = 0; again < 2; again++) {
        int64_t n = ROW_SHAPES[shape][0], d = ROW_SHAPES[shape][1], xs = 2 * d, ys = d + 3;
        uint8_t *x = numbers(n * xs, dtype);  // gate and up side by side, as one matmul leaves them
        for (int64_t i = 0; i < n * xs; i++) put(x, dtype, i, 8 * get(x, dtype, i));
        void *x0 = copied(x, n * xs, dtype);
        uint8_t *up = x + (size_t)d * cft_dtype_bytes(dtype);
        void *y = constant(n * ys, dtype, 9), *dy = numbers(n * ys, dtype);
        RUN(swiglu_fwd, (cft_swiglu_args){y, x, up, n, d, ys, xs, dtype});
        note(y, (size_t)(n * ys) * cft_dtype_bytes(dtype));

        uint8_t *dx = in_place ? x : output(n * xs, dtype, 0);
        void *y1 = constant(n * ys, dtype, 9);
        RUN(swiglu_bwd,
            (cft_swiglu_bwd_args){dx, dx + (size_t)d * cft_dtype_bytes(dtype), again ? y1 : NULL,
                                  dy, x, up, n, d, xs, ys, xs, ys, dtype});
        note(dx, (size_t)(n * xs) * cft_dtype_bytes(dtype));
        if (again) EXPECT(!memcmp(y, y1, (size_t)(n * ys) * cft_dtype_bytes(dtype)));
        for (int64_t i = 0; i < n; i++) {
          for (int64_t j = 0; j < d; j++) {
            double g = get(x0, dtype, i * xs + j), u = get(x0, dtype, i * xs + d + j);
            double t = get(dy, dtype, i * ys + j), h = 1 / (1 + exp(-g));
            EXPECT_NEAR(y, i * ys + j, g * h * u, 0, sum, dtype);
            EXPECT_NEAR(dx, i * xs + j, t * u * h * (1 + g * (1 - h)), fabs(t * u * h * 8), sum,
                        dtype);
            EXPECT_NEAR(dx, i * xs + d + j, t * g * h, 0, sum, dtype);
          }
          for (int64_t j = d; j < ys; j++) EXPECT_CLOSE(get(y, dtype, i * ys + j), 9, 0);
        }
        free_arrays();
      }
}

EVERYWHERE(softmax) {
  cft_dtype sum = sum_dtype(dtype);
  for (int shape = 0; shape < 6; shape++)
    for (int beta = 0; beta < 2; beta++) {
      int64_t n = ROW_SHAPES[shape][0], d = ROW_SHAPES[shape][1];
      void *x = numbers(n * d, dtype), *y = output(n * d, dtype, 0);
      for (int64_t i = 0; i < n * d; i++) put(x, dtype, i, 64 * get(x, dtype, i));
      if (n > 2 && d > 2) put(x, dtype, d + 1, -INFINITY);  // a masked place, as models make them
      RUN(softmax_fwd, (cft_softmax_args){y, x, n, d, dtype});
      void *dy = numbers(n * d, dtype), *dx = output(n * d, dtype, beta);
      void *before = copied(dx, n * d, dtype);
      RUN(softmax_bwd, (cft_softmax_bwd_args){dx, dy, y, n, d, beta, dtype});
      note(y, (size_t)(n * d) * cft_dtype_bytes(dtype));
      note(dx, (size_t)(n * d) * cft_dtype_bytes(dtype));
      for (int64_t i = 0; i < n; i++) {
        double top = -INFINITY, total = 0, dot = 0, size = 0;
        for (int64_t j = i * d; j < (i + 1) * d; j++) top = fmax(top, get(x, dtype, j));
        for (int64_t j = i * d; j < (i + 1) * d; j++) {
          total += exp(get(x, dtype, j) - top);
          dot += get(y, dtype, j) * get(dy, dtype, j);
          size += fabs(get(y, dtype, j) * get(dy, dtype, j));
        }
        for (int64_t j = i * d; j < (i + 1) * d; j++) {
          double want = exp(get(x, dtype, j) - top) / total;
          EXPECT_NEAR(y, j, want, 4 * want, sum, dtype);  // total is a long sum
          double v = get(y, dtype, j), old = beta ? get(before, dtype, j) : 0;
          EXPECT_NEAR(dx, j, v * (get(dy, dtype, j) - dot) + old, v * (1 + size) + fabs(old), sum,
                      dtype);
        }
      }
      free_arrays();
    }
}

// ---- adamw ---------------------------------------------------------------------------------

// One case: p and g in `dtype` or g in f32, moments in f32 or bf16, with a master or not.
static void adamw_case(cft_dtype dtype, int64_t n, cft_dtype g_dtype, cft_dtype state_dtype,
                       bool with_master) {
  cft_dtype wide = sum_dtype(dtype);
  void *p = numbers(n, dtype), *g = numbers(n, g_dtype), *master = array(n, wide);
  void *m = constant(n, state_dtype, 0), *v = constant(n, state_dtype, 0);
  double *p_want = array(n, CFT_F64), *m_want = constant(n, CFT_F64, 0),
         *v_want = constant(n, CFT_F64, 0);
  for (int64_t i = 0; i < n; i++) put(master, wide, i, p_want[i] = get(p, dtype, i));
  float scale = 0.25f;
  double lr = 1e-2, b1 = 0.9, b2 = 0.95, eps = 1e-8, decay = 0.1;
  for (int64_t step = 1; step <= 5; step++) {
    for (int64_t i = 0; i < n; i++) put(g, g_dtype, i, get(g, g_dtype, i) * -0.5);
    RUN(adamw, (cft_adamw_args){p, with_master ? master : NULL, m, v, g, &scale, n, lr, b1, b2, eps,
                                decay, step, 42, dtype, g_dtype, state_dtype});
    for (int64_t i = 0; i < n; i++) {
      double x = get(g, g_dtype, i) * 0.25;
      m_want[i] = b1 * m_want[i] + (1 - b1) * x;
      v_want[i] = b2 * v_want[i] + (1 - b2) * x * x;
      p_want[i] *= 1 - lr * decay;
      p_want[i] -= lr / (1 - pow(b1, (double)step)) * m_want[i] /
                   (sqrt(v_want[i] / (1 - pow(b2, (double)step))) + eps);
    }
  }
  note(p, (size_t)n * cft_dtype_bytes(dtype));
  note(m, (size_t)n * cft_dtype_bytes(state_dtype));
  note(v, (size_t)n * cft_dtype_bytes(state_dtype));
  // Rounded five times: by f32, or by chance to bf16, a unit up or down each.
  bool coarse = state_dtype == CFT_BF16 || (dtype == CFT_BF16 && !with_master);
  double tolerance = coarse ? 10 * epsilon(CFT_BF16) : 40 * epsilon(wide);
  for (int64_t i = 0; i < n; i++) {
    if (with_master) EXPECT_CLOSE(get(master, wide, i), p_want[i], tolerance);
    if (with_master) EXPECT_NEAR(p, i, get(master, wide, i), 0, dtype, dtype);
    EXPECT_CLOSE(get(p, dtype, i), p_want[i], tolerance + epsilon(dtype));
    EXPECT_CLOSE(get(m, state_dtype, i), m_want[i], tolerance);
    EXPECT_CLOSE(get(v, state_dtype, i), v_want[i], tolerance);
  }
}

EVERYWHERE(adamw) {
  cft_dtype wide = sum_dtype(dtype);
  static const int64_t sizes[] = {0, 1, 513, 20001};
  for (int size = 0; size < 4; size++)
    for (int flags = 0; flags < 8; flags++) {
      cft_dtype g_dtype = flags & 1 ? dtype : wide, state_dtype = flags & 2 ? CFT_BF16 : wide;
      if (dtype == CFT_F64 && state_dtype == CFT_BF16) continue;
      adamw_case(dtype, sizes[size], g_dtype, state_dtype, flags & 4);
      if (TEST_FAILED()) return;
      free_arrays();
    }
  float x[1] = {0};
  cft_adamw_args wrong = {.p = x,
                          .m = x,
                          .v = x,
                          .g = x,
                          .n = 1,
                          .step = 1,
                          .dtype = dtype,
                          .g_dtype = CFT_I32,
                          .state_dtype = wide};
  EXPECT_FAILS(kernels->adamw(cpu, NULL, &wrong), CFT_E_UNSUPPORTED, "g in i32");
  wrong.g_dtype = wide, wrong.state_dtype = CFT_F16;
  EXPECT_FAILS(kernels->adamw(cpu, NULL, &wrong), CFT_E_UNSUPPORTED, "moments in f16");
}

#ifdef __SSE2__
// Moments of rows that no batch touches become denormal; there they would cost twenty times as
// much.
ANYWHERE(adamw_leaves_no_denormals) {
  enum { N = 1000 };
  float *p = constant(N, dtype, 1), *g = constant(N, dtype, 0), *m = constant(N, dtype, 1e-40),
        *v = constant(N, dtype, 1e-40);
  RUN(adamw, (cft_adamw_args){p, NULL, m, v, g, NULL, N, 1e-2, 0.9, 0.95, 1e-8, 0, 1, 0, CFT_F32,
                              CFT_F32, CFT_F32});
  for (int i = 0; i < N; i++) EXPECT(m[i] == 0 && v[i] == 0 && p[i] == 1);
  volatile float tiny = 1e-40f;
  EXPECT(tiny * 0.5f != 0);  // other arithmetic is as it was
}
#endif

// Updates far below bf16's step are lost to nearest rounding; by chance they arrive on average.
ANYWHERE(stochastic_rounding_keeps_the_mean) {
  enum { N = 65536, STEPS = 8 };
  void *p = constant(N, CFT_BF16, 1), *g = constant(N, CFT_F32, 1);
  void *m = constant(N, CFT_F32, 0), *v = constant(N, CFT_F32, 0);
  for (int step = 1; step <= STEPS; step++)
    RUN(adamw, (cft_adamw_args){p, NULL, m, v, g, NULL, N, 1e-4, 0.9, 0.999, 1e-8, 0, step, 1,
                                CFT_BF16, CFT_F32, CFT_F32});
  double sum = 0;
  int64_t moved = 0, neighbours = 0;
  for (int64_t i = 0; i < N; i++) {
    sum += get(p, CFT_BF16, i) - 1;
    moved += get(p, CFT_BF16, i) != 1;
    neighbours += i > 0 && get(p, CFT_BF16, i) != 1 && get(p, CFT_BF16, i - 1) != 1;
  }
  // Each step moves by -1e-4, and bf16's step under 1 is 2^-8: about 1 in 39 elements a step.
  EXPECT(fabs(sum / N + STEPS * 1e-4) < 5 * sqrt(STEPS * 1e-4 * 0x1p-8 / N));
  double share = (double)moved / N;
  EXPECT(fabs((double)neighbours / N - share * share) < 5 * share / sqrt(N));  // not in step
  (void)dtype;
}

// ---- the device ----------------------------------------------------------------------------

TEST(unknown_dtypes_have_no_kernel) {
  cpu = cft_cpu_device();
  float x[4] = {0};
  cft_softmax_args a = {x, x, 1, 4, CFT_I64};
  EXPECT_FAILS(cpu->kernels->softmax_fwd(cpu, NULL, &a), CFT_E_UNSUPPORTED,
               "no cpu kernel for softmax_fwd in i64");
  EXPECT_FAILS(cpu->kernels->unary(cpu, NULL, &(cft_unary_args){x, x, 4, 99, 1, 0, CFT_F32}),
               CFT_E_ARG, "99");
  EXPECT_FAILS(
      cpu->kernels->binary(cpu, NULL, &(cft_binary_args){x, x, x, 1, 4, 4, 1, 99, 0, CFT_F32}),
      CFT_E_ARG, "99");
}

TEST(instruction_sets_are_named) {
  cpu = cft_cpu_device();
  EXPECT_FAILS(cft_cpu_set_isa("sse9"), CFT_E_ARG, "sse9");
  EXPECT_OK(cft_cpu_set_isa("base"));
  EXPECT_STR(cft_cpu_isa(), "base");
  EXPECT_OK(cft_cpu_set_threads(1));
  EXPECT(strstr(cpu->description, "1 thread, ") == cpu->description);
  EXPECT_OK(cft_cpu_set_threads(3));
  EXPECT(strstr(cpu->description, "3 threads, ") == cpu->description);
  EXPECT_INT(cft_cpu_threads(), 3);
  EXPECT_FAILS(cft_cpu_set_threads(0), CFT_E_ARG, "wanted 1 to 1024");
  EXPECT_FAILS(cft_cpu_set_threads(1025), CFT_E_ARG, "wanted 1 to 1024");
  EXPECT_INT(cft_cpu_threads(), 3);
  EXPECT_OK(cft_cpu_set_isa(NULL));
  EXPECT_OK(cft_cpu_set_threads(2));
}

TEST(memory_is_counted) {
  cpu = cft_cpu_device();
  cft_memory_use use;
  cpu->memory(cpu, &use, 1);
  EXPECT_INT(use.total, 0);
  EXPECT(use.limit > 1 << 26);
  void *a, *b, *none;
  EXPECT_OK(cpu->alloc(cpu, &a, 1000, CFT_MEM_PARAM));
  EXPECT_OK(cpu->alloc(cpu, &b, 3 << 20, CFT_MEM_GRAD));
  EXPECT_OK(cpu->alloc(cpu, &none, 0, CFT_MEM_OTHER));
  EXPECT(a && b && none && (uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
  memset(a, 1, 1000), memset(b, 1, 3 << 20);
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.bytes[CFT_MEM_PARAM], 1000);
  EXPECT_INT(use.bytes[CFT_MEM_GRAD], 3 << 20);
  EXPECT_INT(use.total, 1000 + (3 << 20));
  cpu->free(cpu, b, 3 << 20, CFT_MEM_GRAD);
  cpu->free(cpu, none, 0, CFT_MEM_OTHER);
  cpu->memory(cpu, &use, 1);
  EXPECT_INT(use.total, 1000);
  EXPECT_INT(use.peak, 1000);
  EXPECT_OK(cpu->alloc(cpu, &b, 500, CFT_MEM_CACHE));
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.total, 1000);  // what is kept for reuse is not in use
  EXPECT(use.bytes[CFT_MEM_CACHE] >= 500);
  cpu->free(cpu, b, 500, CFT_MEM_CACHE);
  cpu->free(cpu, a, 1000, CFT_MEM_PARAM);
  cpu->free(cpu, NULL, 0, CFT_MEM_OTHER);
  cpu->trim(cpu);
  cpu->memory(cpu, &use, 1);
  EXPECT_INT(use.total, 0);
  EXPECT_INT(use.reserved, 0);
  EXPECT_INT(use.bytes[CFT_MEM_CACHE], 0);
}

TEST(memory_runs_out_with_a_message) {
  cpu = cft_cpu_device();
  cft_memory_use use;
  cpu->memory(cpu, &use, 0);
  void *p;
  EXPECT_FAILS(cpu->alloc(cpu, &p, (size_t)use.limit + 1, CFT_MEM_PARAM), CFT_E_OOM, "in use of");
  EXPECT(p == NULL);
  EXPECT_FAILS(cpu->alloc(cpu, &p, SIZE_MAX, CFT_MEM_PARAM), CFT_E_OOM, "in use of");
  cft_cpu_fail_alloc(2);
  void *q;
  EXPECT_OK(cpu->alloc(cpu, &p, 64, CFT_MEM_PARAM));
  EXPECT_FAILS(cpu->alloc(cpu, &q, 64, CFT_MEM_PARAM), CFT_E_OOM, "no memory for 64 bytes");
  EXPECT_OK(cpu->alloc(cpu, &q, 64, CFT_MEM_PARAM));
  cpu->free(cpu, p, 64, CFT_MEM_PARAM);
  cpu->free(cpu, q, 64, CFT_MEM_PARAM);
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.total, 0);
}

// Blocks of many sizes come and go: none overlap, and in the end all memory is one piece again.
typedef struct churn {
  uint64_t state;
  int64_t wrong;
} churn;

static void *churning(void *arg) {
  enum { SLOTS = 64, ROUNDS = 20000 };
  churn *c = arg;
  struct {
    uint8_t *p;
    size_t bytes;
    uint8_t mark;
  } slots[SLOTS] = {{0}};
  for (int round = 0; round < ROUNDS + SLOTS; round++) {
    c->state = c->state * 6364136223846793005u + 1442695040888963407u;
    uint64_t r = c->state >> 20;
    int i = round < ROUNDS ? (int)(r % SLOTS) : round - ROUNDS;
    if (slots[i].p) {
      size_t n = slots[i].bytes;
      if (n && (slots[i].p[0] != slots[i].mark || slots[i].p[n - 1] != slots[i].mark)) c->wrong++;
      cpu->free(cpu, slots[i].p, n, CFT_MEM_ACTIVATION);
      slots[i].p = NULL;
    } else if (round < ROUNDS) {
      size_t n = slots[i].bytes = (size_t)(r >> 8) % ((size_t)1 << (r >> 32) % 21);
      int zeros = r >> 40 & 1;
      if ((zeros ? cpu->alloc_zeros : cpu->alloc)(cpu, (void **)&slots[i].p, n,
                                                  CFT_MEM_ACTIVATION) != CFT_OK) {
        c->wrong++;
        continue;
      }
      for (size_t k = 0; zeros && k < n; k++) c->wrong += slots[i].p[k] != 0;
      slots[i].mark = (uint8_t)(r | 1);
      memset(slots[i].p, slots[i].mark, n);
    }
  }
  return NULL;
}

TEST(memory_survives_threads) {
  cpu = cft_cpu_device();
  pthread_t threads[3];
  churn c[3] = {{1, 0}, {2, 0}, {3, 0}};
  for (int i = 0; i < 3; i++) EXPECT_INT(pthread_create(&threads[i], NULL, churning, &c[i]), 0);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 3; i++) EXPECT_INT(c[i].wrong, 0);
  cft_memory_use use;
  cpu->trim(cpu);
  cpu->memory(cpu, &use, 1);
  EXPECT_INT(use.total, 0);
  EXPECT_INT(use.reserved, 0);  // one free block in each region, or trim had kept it
}

// A step asks for the same sizes in the same order: the second takes no more from the system.
TEST(memory_is_used_again) {
  cpu = cft_cpu_device();
  int64_t reserved = 0;
  for (int step = 0; step < 5; step++) {
    enum { N = 40 };
    void *p[N];
    size_t bytes[N];
    state = 99;
    for (int i = 0; i < N; i++) {
      bytes[i] = (size_t)below(8 << 20);
      EXPECT_OK(cpu->alloc(cpu, &p[i], bytes[i], CFT_MEM_ACTIVATION));
    }
    for (int i = 0; i < N; i++)
      cpu->free(cpu, p[(i * 7) % N], bytes[(i * 7) % N], CFT_MEM_ACTIVATION);
    cft_memory_use use;
    cpu->memory(cpu, &use, 0);
    if (step > 0) EXPECT_INT(use.reserved, reserved);
    reserved = use.reserved;
  }
  cpu->trim(cpu);
}

// Each instruction set has its burst, and none leaves the processor's state changed.
TEST(bursts) {
  cpu = cft_cpu_device();
  const char *sets[] = {"base", "avx2", "avx512", "avx512bf16", "amx"};
  for (int i = 0; i < 5; i++) {
    if (!cft_cpu_has(sets[i])) continue;
    EXPECT_OK(cft_cpu_set_isa(sets[i]));
    EXPECT(cft_cpu_burst(CFT_F32) > 1e7);
    EXPECT(cft_cpu_burst(CFT_BF16) > 1e7);
  }
  EXPECT_OK(cft_cpu_set_isa(NULL));
}

TEST(copies) {
  cpu = cft_cpu_device();
  EXPECT(cpu->stream(cpu) == NULL);
  for (int64_t bytes = 0; bytes < 2000000; bytes = bytes * 7 + 3) {
    uint8_t *host = array(bytes, CFT_U8), *back = array(bytes, CFT_U8), *a = array(bytes, CFT_U8),
            *b = array(bytes, CFT_U8);
    for (int64_t i = 0; i < bytes; i++) host[i] = (uint8_t)below(256);
    EXPECT_OK(cpu->upload(cpu, NULL, a, host, (size_t)bytes));
    EXPECT_OK(cpu->copy(cpu, NULL, b, a, (size_t)bytes));
    EXPECT_OK(cpu->download(cpu, NULL, back, b, (size_t)bytes));
    EXPECT_OK(cpu->sync(cpu));
    EXPECT(!memcmp(back, host, (size_t)bytes));
    EXPECT_OK(cpu->zero(cpu, NULL, b, (size_t)bytes));
    for (int64_t i = 0; i < bytes; i++) EXPECT(b[i] == 0);
    free_arrays();
  }
}

TEST_MAIN()
