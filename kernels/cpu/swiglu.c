// swiglu.c - y = silu(gate) * up, silu(g) = g * sigmoid(g).
//
// With h = sigmoid(g): dup = dy * g h, and since h' = h (1 - h),
// dgate = dy * up * (h + g h (1 - h)) = dy * up * h * (1 + g (1 - h)).
#include "cpu.h"

cft_status CPU(swiglu_fwd)(cft_device *d, cft_stream *s, const cft_swiglu_args *a) {
  (void)d, (void)s;
  PARALLEL(a->n * a->d * 4)
  for (int64_t i = 0; i < a->n; i++) {
    const real *gate = (const real *)a->gate + i * a->x_stride;
    const real *up = (const real *)a->up + i * a->x_stride;
    real *y = (real *)a->y + i * a->y_stride;
    SIMD for (int64_t j = 0; j < a->d; j++) {
      acc g = LOAD(gate[j]);
      y[j] = STORE(g * SIGMOID(g) * LOAD(up[j]));
    }
  }
  return CFT_OK;
}

cft_status CPU(swiglu_bwd)(cft_device *d, cft_stream *s, const cft_swiglu_bwd_args *a) {
  (void)d, (void)s;
  PARALLEL(a->n * a->d * 8)
  for (int64_t i = 0; i < a->n; i++) {
    const real *gate = (const real *)a->gate + i * a->x_stride;
    const real *up = (const real *)a->up + i * a->x_stride;
    const real *dy = (const real *)a->dy + i * a->dy_stride;
    real *dgate = (real *)a->dgate + i * a->dx_stride, *dup = (real *)a->dup + i * a->dx_stride;
    real *y = a->y == NULL ? NULL : (real *)a->y + i * a->y_stride;
#define EACH(and_y)                                          \
  SIMD for (int64_t j = 0; j < a->d; j++) {                  \
    acc g = LOAD(gate[j]), u = LOAD(up[j]), t = LOAD(dy[j]); \
    acc h = SIGMOID(g), silu = g * h;                        \
    dup[j] = STORE(t * silu);                                \
    dgate[j] = STORE(t * u * h * (1 + g * (1 - h)));         \
    and_y;                                                   \
  }
    if (y == NULL) {
      EACH((void)0)
    } else {
      EACH(y[j] = STORE(silu * u))
    }
#undef EACH
  }
  return CFT_OK;
}
