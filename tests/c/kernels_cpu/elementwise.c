// elementwise.c - functions of one number and of two, and axpby.
#include "harness.h"

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

// ---- functions of two numbers ---------------------------------------------------------------

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

TEST_MAIN()
