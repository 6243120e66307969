// cross_entropy.c - a row at a time. It is read once for its maximum and sum, in chunks that stay
// in the first cache, and once more where a gradient is wanted.
#include "cpu.h"

enum {
  CHUNK = 1024,
  LANES = 16,  // partial sums of a chunk, always this many: the bits depend on the row alone
};

// log sum exp(x). The maximum passes a NaN by, but its exp does not: one makes the sum NaN.
static acc log_sum_exp(const real *x, int64_t n) {
  acc top = -(acc)INFINITY, sum = 0;
  for (int64_t j0 = 0; j0 < n; j0 += CHUNK) {
    int64_t m = cpu_min(n - j0, CHUNK), whole = m - m % LANES;
    const real *c = x + j0;
    acc high[LANES], part[LANES];
    for (int l = 0; l < LANES; l++) high[l] = top, part[l] = 0;
    for (int64_t j = 0; j < whole; j += LANES) {
      SIMD for (int l = 0; l < LANES; l++) high[l] =
          LOAD(c[j + l]) > high[l] ? LOAD(c[j + l]) : high[l];
    }
    for (int64_t j = whole; j < m; j++)
      high[j - whole] = LOAD(c[j]) > high[j - whole] ? LOAD(c[j]) : high[j - whole];
    acc chunk_top = top;
    for (int l = 0; l < LANES; l++) chunk_top = high[l] > chunk_top ? high[l] : chunk_top;
    // Where all is -inf so far, or one is +inf, a difference of infinities would be NaN.
    acc shift = isinf(chunk_top) ? 0 : chunk_top;
    if (chunk_top > top) sum *= EXP(top - shift);
    top = chunk_top;
    for (int64_t j = 0; j < whole; j += LANES) {
      SIMD for (int l = 0; l < LANES; l++) part[l] += EXP(LOAD(c[j + l]) - shift);
    }
    for (int64_t j = whole; j < m; j++) part[j - whole] += EXP(LOAD(c[j]) - shift);
    for (int l = 0; l < LANES; l++) sum += part[l];
  }
  return (isinf(top) ? 0 : top) + LOG(sum);
}

cft_status CPU(cross_entropy)(cft_device *d, cft_stream *s, const cft_cross_entropy_args *a) {
  (void)d, (void)s;
  int narrow = a->grad_dtype == CFT_BF16 && a->dtype == CFT_F32;
  if (a->grad && a->grad_dtype != a->dtype && !narrow)
    return cft_fail(CFT_E_UNSUPPORTED, "no cpu kernel for cross_entropy of %s with gradient in %s",
                    cft_dtype_name(a->dtype), cft_dtype_name(a->grad_dtype));
  PARALLEL(a->n * a->V * 8)
  for (int64_t i = 0; i < a->n; i++) {
    const real *x = (const real *)a->logits + i * a->logits_stride;
    int64_t target = a->target[i];
    int inside = target >= 0 && target < a->V;
    acc lse = inside || a->weight[i] != 0 ? log_sum_exp(x, a->V) : 0;
    acc right = inside ? LOAD(x[target]) : lse;
    ((acc *)a->nll)[i] = lse - right;
    if (!a->grad) continue;
    // x may be the gradient's own row: what the target needs of it was read above.
    acc scale = (acc)(a->scale * (double)a->weight[i]);
    if (narrow) {
      bf16 *g = (bf16 *)a->grad + i * a->grad_stride;
      if (a->weight[i] == 0) {
        memset(g, 0, (size_t)a->V * sizeof *g);
        continue;
      }
      SIMD for (int64_t j = 0; j < a->V; j++) g[j] =
          f32_bf16((float)(scale * EXP(LOAD(x[j]) - lse)));
      if (inside) g[target] = f32_bf16((float)(scale * (EXP(right - lse) - 1)));
    } else {
      real *g = (real *)a->grad + i * a->grad_stride;
      if (a->weight[i] == 0) {
        memset(g, 0, (size_t)a->V * sizeof *g);
        continue;
      }
      SIMD for (int64_t j = 0; j < a->V; j++) g[j] = STORE(scale * EXP(LOAD(x[j]) - lse));
      if (inside) g[target] = STORE(scale * (EXP(right - lse) - 1));
    }
  }
  return CFT_OK;
}
