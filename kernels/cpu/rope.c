// rope.c - rotary position: each head's halves turn by the angles of the row's position.
#include "cpu.h"

cft_status CPU(rope)(cft_device *d, cft_stream *s, const cft_rope_args *a) {
  (void)d, (void)s;
  int64_t half = a->d / 2;
  acc sign = a->inverse ? -1 : 1;
  PARALLEL(a->n * a->heads * a->d)
  for (int64_t i = 0; i < a->n; i++) {
    const acc *cosine = (const acc *)a->cos + a->position[i] * half;
    const acc *sine = (const acc *)a->sin + a->position[i] * half;
    for (int64_t h = 0; h < a->heads; h++) {
      const real *x = (const real *)a->x + i * a->x_stride + h * a->d;
      real *y = (real *)a->y + i * a->y_stride + h * a->d;
      SIMD for (int64_t j = 0; j < half; j++) {
        acc u = LOAD(x[j]), v = LOAD(x[j + half]), c = cosine[j], t = sign * sine[j];
        y[j] = STORE(u * c - v * t);
        y[j + half] = STORE(v * c + u * t);
      }
    }
  }
  return CFT_OK;
}
