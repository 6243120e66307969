// elementwise.c - one pass over memory, any size, outputs may be inputs.
#include "cpu.h"

cft_status CPU(unary)(cft_device *d, cft_stream *s, const cft_unary_args *a) {
  (void)d, (void)s;
  real *y = a->y;
  const real *px = a->x;
  int64_t n = a->n;
  acc alpha = (acc)a->alpha;
#define CASE(f, ...)                                                                     \
  case f:                                                                                \
    if (a->y_beta) {                                                                     \
      FOR_EACH(n, acc x = LOAD(px[i]); y[i] = STORE(alpha * (__VA_ARGS__) + LOAD(y[i]))) \
    } else {                                                                             \
      FOR_EACH(n, acc x = LOAD(px[i]); y[i] = STORE(alpha * (__VA_ARGS__)))              \
    }                                                                                    \
    return CFT_OK;
  switch (a->f) {
    CASE(CFT_NEG, -x)
    CASE(CFT_EXP, EXP(x))
    CASE(CFT_LOG, LOG(x))
    CASE(CFT_SQRT, SQRT(x))
    CASE(CFT_RSQRT, 1 / SQRT(x))
    CASE(CFT_TANH, TANH(x))
    CASE(CFT_SIGMOID, SIGMOID(x))
    CASE(CFT_RELU, x < 0 ? 0 : x)  // NaN passes
    CASE(CFT_SILU, x * SIGMOID(x))
    CASE(CFT_ABS, ABS(x))
    CASE(CFT_SIN, SIN(x))
    CASE(CFT_COS, COS(x))
    CASE(CFT_SQUARE, x * x)
    CASE(CFT_RECIPROCAL, 1 / x)
    CASE(CFT_STEP, x > 0 ? (acc)1 : (acc)0)
  }
#undef CASE
  return cft_fail(CFT_E_ARG, "unary: no function %d", (int)a->f);
}

// y[i] = f(a[i], b[i * step]) for one run of elements; step is 0 or 1 where it is to be fast.
static void binary_run(cft_binary f, real *y, const real *pa, const real *pb, int64_t n,
                       int64_t step, int beta) {
#define RUN(index, ...)                         \
  if (beta) {                                   \
    SIMD for (int64_t i = 0; i < n; i++) {      \
      acc u = LOAD(pa[i]), v = LOAD(pb[index]); \
      y[i] = STORE((__VA_ARGS__) + LOAD(y[i])); \
    }                                           \
  } else {                                      \
    SIMD for (int64_t i = 0; i < n; i++) {      \
      acc u = LOAD(pa[i]), v = LOAD(pb[index]); \
      y[i] = STORE(__VA_ARGS__);                \
    }                                           \
  }
#define CASE(f, ...)            \
  case f:                       \
    if (step == 1) {            \
      RUN(i, __VA_ARGS__)       \
    } else if (step == 0) {     \
      RUN(0, __VA_ARGS__)       \
    } else {                    \
      RUN(i *step, __VA_ARGS__) \
    }                           \
    break;
  switch (f) {
    CASE(CFT_ADD, u + v)
    CASE(CFT_SUB, u - v)
    CASE(CFT_MUL, u * v)
    CASE(CFT_DIV, u / v)
    CASE(CFT_MAX, ((u > v) | (u != u)) ? u : v)  // NaN passes, from either side
    CASE(CFT_MIN, ((u < v) | (u != u)) ? u : v)
    CASE(CFT_POW, POW(u, v))
  }
#undef CASE
#undef RUN
}

cft_status CPU(binary)(cft_device *d, cft_stream *s, const cft_binary_args *a) {
  (void)d, (void)s;
  if (a->f < CFT_ADD || a->f > CFT_POW)
    return cft_fail(CFT_E_ARG, "binary: no function %d", (int)a->f);
  real *y = a->y;
  const real *pa = a->a, *pb = a->b;
  int64_t n = a->n, width = a->d, b_rows = a->b_rows, b_cols = a->b_cols;
  if (width == 1) b_cols = b_rows;
  if (b_rows == width * b_cols) {  // b goes on from row to row as a does: one long row
    width *= n;
    n = n > 0;
  }
  int64_t pieces = cpu_blocks(width, CPU_BLOCK);
  PARALLEL(n * width)
  for (int64_t unit = 0; unit < n * pieces; unit++) {
    int64_t i = unit / pieces, j = unit % pieces * CPU_BLOCK;
    binary_run(a->f, y + i * width + j, pa + i * width + j, pb + i * b_rows + j * b_cols,
               cpu_min(CPU_BLOCK, width - j), b_cols, a->y_beta);
  }
  return CFT_OK;
}

cft_status CPU(axpby)(cft_device *d, cft_stream *s, const cft_axpby_args *a) {
  (void)d, (void)s;
  const real *x = a->x;
  int64_t n = a->n;
  acc alpha = (acc)a->alpha, beta = (acc)a->beta;
  if (a->y_dtype == CFT_REAL) {
    real *y = a->y;
    if (a->beta == 0) {
      FOR_EACH(n, y[i] = STORE(alpha * LOAD(x[i])))
    } else {
      FOR_EACH(n, y[i] = STORE(alpha * LOAD(x[i]) + beta * LOAD(y[i])))
    }
    return CFT_OK;
  }
  if (CFT_REAL == CFT_BF16 && a->y_dtype == CFT_F32) {
    float *y = a->y;
    if (a->beta == 0) {
      FOR_EACH(n, y[i] = (float)(alpha * LOAD(x[i])))
    } else {
      FOR_EACH(n, y[i] = (float)(alpha * LOAD(x[i]) + beta * y[i]))
    }
    return CFT_OK;
  }
  return cft_fail(CFT_E_UNSUPPORTED, "axpby: no cpu kernel for x in %s and y in %s",
                  cft_dtype_name(a->dtype), cft_dtype_name(a->y_dtype));
}
