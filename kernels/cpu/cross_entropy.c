// cross_entropy.c - a row at a time. It is read once for its maximum and sum, in chunks that stay
// in the first cache, and once more where a gradient is wanted.
#include "log_sum_exp.h"

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
