// relu2.c - y = max(x, 0)^2, dx = 2 max(x, 0) dy. A comparison that is false for NaN lets it pass.
#include "cpu.h"

cft_status CPU(relu2_fwd)(cft_device *d, cft_stream *s, const cft_relu2_args *a) {
  (void)d, (void)s;
  real *y = a->y;
  const real *x = a->x;
  FOR_EACH(a->n, acc r = LOAD(x[i]) < 0 ? 0 : LOAD(x[i]); y[i] = STORE(r * r))
  return CFT_OK;
}

cft_status CPU(relu2_bwd)(cft_device *d, cft_stream *s, const cft_relu2_bwd_args *a) {
  (void)d, (void)s;
  real *dx = a->dx;
  const real *dy = a->dy, *x = a->x;
#define SLOPE (2 * (LOAD(x[i]) < 0 ? 0 : LOAD(x[i])))
  if (a->dx_beta) {
    FOR_EACH(a->n, dx[i] = STORE(SLOPE * LOAD(dy[i]) + LOAD(dx[i])))
  } else {
    FOR_EACH(a->n, dx[i] = STORE(SLOPE * LOAD(dy[i])))
  }
#undef SLOPE
  return CFT_OK;
}
