// softmax.c - a row stays in cache while it is passed over three times.
#include "cpu.h"

cft_status CPU(softmax_fwd)(cft_device *d, cft_stream *s, const cft_softmax_args *a) {
  (void)d, (void)s;
  PARALLEL(a->n * a->d * 4)
  for (int64_t i = 0; i < a->n; i++) {
    const real *x = (const real *)a->x + i * a->d;
    real *y = (real *)a->y + i * a->d;
    acc top = -(acc)INFINITY, sum = 0;
    CPU_PRAGMA(omp simd reduction(max : top))
    for (int64_t j = 0; j < a->d; j++) top = LOAD(x[j]) > top ? LOAD(x[j]) : top;
    SIMD_SUM(sum)
    for (int64_t j = 0; j < a->d; j++) sum += EXP(LOAD(x[j]) - top);
    acc scale = 1 / sum;
    SIMD for (int64_t j = 0; j < a->d; j++) y[j] = STORE(EXP(LOAD(x[j]) - top) * scale);
  }
  return CFT_OK;
}

cft_status CPU(softmax_bwd)(cft_device *d, cft_stream *s, const cft_softmax_bwd_args *a) {
  (void)d, (void)s;
  PARALLEL(a->n * a->d)
  for (int64_t i = 0; i < a->n; i++) {
    const real *dy = (const real *)a->dy + i * a->d, *y = (const real *)a->y + i * a->d;
    real *dx = (real *)a->dx + i * a->d;
    acc dot = 0;
    SIMD_SUM(dot)
    for (int64_t j = 0; j < a->d; j++) dot += LOAD(y[j]) * LOAD(dy[j]);
    if (a->dx_beta) {
      SIMD for (int64_t j = 0; j < a->d; j++) {
        dx[j] = STORE(LOAD(y[j]) * (LOAD(dy[j]) - dot) + LOAD(dx[j]));
      }
    } else {
      SIMD for (int64_t j = 0; j < a->d; j++) dx[j] = STORE(LOAD(y[j]) * (LOAD(dy[j]) - dot));
    }
  }
  return CFT_OK;
}
