// rmsnorm.c - a row stays in the first cache between its two passes: memory is read once.
#include "cpu.h"

cft_status CPU(rmsnorm_fwd)(cft_device *d, cft_stream *stream, const cft_rmsnorm_args *a) {
  (void)d, (void)stream;
  const real *w = a->w;
  PARALLEL(a->n * a->d)
  for (int64_t i = 0; i < a->n; i++) {
    const real *s = (const real *)a->x + i * a->d;
    real *y = (real *)a->y + i * a->d;
    acc squares = 0;
    if (a->residual != NULL) {
      const real *x = s, *residual = (const real *)a->residual + i * a->d;
      real *sum = (real *)a->sum + i * a->d;
      SIMD_SUM(squares)
      for (int64_t j = 0; j < a->d; j++) {
        sum[j] = STORE(LOAD(x[j]) + LOAD(residual[j]));
        acc v = LOAD(sum[j]);  // as stored: backward starts from that
        squares += v * v;
      }
      s = sum;
    } else {
      SIMD_SUM(squares)
      for (int64_t j = 0; j < a->d; j++) squares += LOAD(s[j]) * LOAD(s[j]);
    }
    acc rstd = 1 / SQRT(squares / (acc)a->d + (acc)a->eps);
    ((acc *)a->rstd)[i] = rstd;
    SIMD for (int64_t j = 0; j < a->d; j++) y[j] = STORE(LOAD(w[j]) * (LOAD(s[j]) * rstd));
  }
  return CFT_OK;
}

// With shat = s * rstd and t = w * dy: the row's mean square moves with s, which takes the part of
// t along shat away: ds = rstd * (t - shat * mean(t * shat)).
static void rmsnorm_bwd_row(const cft_rmsnorm_bwd_args *a, int64_t i, acc *dw) {
  const real *w = a->w;
  const real *dy = (const real *)a->dy + i * a->d, *s = (const real *)a->s + i * a->d;
  real *ds = (real *)a->ds + i * a->d;
  acc rstd = ((const acc *)a->rstd)[i];
  acc dot = 0;
  SIMD_SUM(dot)
  for (int64_t j = 0; j < a->d; j++) dot += LOAD(w[j]) * LOAD(dy[j]) * LOAD(s[j]);
  acc mean = dot * rstd / (acc)a->d;
#define EACH(plus)                                                 \
  SIMD for (int64_t j = 0; j < a->d; j++) {                        \
    acc shat = LOAD(s[j]) * rstd;                                  \
    acc v = LOAD(dy[j]);                                           \
    if (dw != NULL) dw[j] += v * shat;                             \
    ds[j] = STORE(rstd * (LOAD(w[j]) * v - shat * mean) + (plus)); \
  }
  const real *dsum = a->dsum == NULL ? NULL : (const real *)a->dsum + i * a->d;
  if (dsum != NULL && a->ds_beta) {
    EACH(LOAD(dsum[j]) + LOAD(ds[j]))
  } else if (dsum != NULL) {
    EACH(LOAD(dsum[j]))
  } else if (a->ds_beta) {
    EACH(LOAD(ds[j]))
  } else {
    EACH(0)
  }
#undef EACH
}

enum { MOST_PARTS = 64, FEWEST_ROWS = 16 };

cft_status CPU(rmsnorm_bwd)(cft_device *d, cft_stream *stream, const cft_rmsnorm_bwd_args *a) {
  (void)stream;
  if (a->dw != NULL && a->dw_dtype != CFT_REAL && !(CFT_REAL == CFT_BF16 && a->dw_dtype == CFT_F32))
    return cft_fail(CFT_E_UNSUPPORTED, "rmsnorm_bwd: no cpu kernel for dy in %s and dw in %s",
                    cft_dtype_name(a->dtype), cft_dtype_name(a->dw_dtype));
  if (a->n == 0 && a->dw_beta) return CFT_OK;

  // dw is summed over parts of the rows, each by one thread, and the parts are added in order.
  int64_t rows = cpu_max(FEWEST_ROWS, cpu_blocks(a->n, MOST_PARTS));
  int64_t parts = cpu_blocks(a->n, rows);
  acc *partial = NULL;
  size_t bytes = (size_t)(parts * a->d) * sizeof(acc);
  if (a->dw != NULL) CFT_TRY(d->alloc(d, (void **)&partial, bytes, CFT_MEM_WORKSPACE));

  PARALLEL(a->n * a->d)
  for (int64_t part = 0; part < parts; part++) {
    acc *dw = partial == NULL ? NULL : partial + part * a->d;
    if (dw != NULL) memset(dw, 0, (size_t)a->d * sizeof(acc));
    for (int64_t i = part * rows; i < cpu_min((part + 1) * rows, a->n); i++)
      rmsnorm_bwd_row(a, i, dw);
  }
  if (a->dw == NULL) return CFT_OK;

  PARALLEL(parts * a->d)
  for (int64_t from = 0; from < a->d; from += 64) {
    int64_t to = cpu_min(from + 64, a->d);
    for (int64_t part = 1; part < parts; part++) {
      SIMD for (int64_t j = from; j < to; j++) partial[j] += partial[part * a->d + j];
    }
    for (int64_t j = from; j < to; j++) {
      acc sum = parts == 0 ? 0 : partial[j];
      if (a->dw_dtype == CFT_REAL) {
        real *dw = a->dw;
        dw[j] = STORE(a->dw_beta ? LOAD(dw[j]) + sum : sum);
      } else {
        float *dw = a->dw;
        dw[j] = (float)(a->dw_beta ? dw[j] + sum : sum);
      }
    }
  }
  d->free(d, partial, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}
