// random.c - element i takes word i % 4 of philox(seed; i / 4, counter): no state, so any thread
// may make any part, and another device makes the same.
#include "cpu.h"
#include "philox.h"

// One group of four. A normal pair is Box-Muller's of a pair of words: the first gives the radius,
// as a number in (0, 1], the second the angle.
static inline void group(acc out[4], const cft_random_args *a, int64_t i) {
  uint32_t w[4];
  philox(w, a->seed, (uint64_t)i, a->counter);
  acc from = (acc)a->a, to = (acc)a->b;
  if (a->f == CFT_UNIFORM) {
    for (int k = 0; k < 4; k++) out[k] = from + (to - from) * ((acc)(w[k] >> 8) * (acc)0x1p-24);
  } else {
    for (int k = 0; k < 4; k += 2) {
      acc r = SQRT(-2 * LOG(((acc)w[k] + (acc)0.5) * (acc)0x1p-32));
      acc angle = (acc)6.283185307179586 * ((acc)(w[k + 1] >> 8) * (acc)0x1p-24);
      out[k] = from + to * r * COS(angle);
      out[k + 1] = from + to * r * SIN(angle);
    }
  }
}

cft_status CPU(random)(cft_device *d, cft_stream *s, const cft_random_args *a) {
  (void)d, (void)s;
  real *y = a->y;
  PARALLEL(a->n * 8)
  for (int64_t i = 0; i < cpu_blocks(a->n, 4); i++) {
    acc out[4];
    group(out, a, i);
    for (int64_t k = 0; k < cpu_min(4, a->n - 4 * i); k++) y[4 * i + k] = STORE(out[k]);
  }
  return CFT_OK;
}
