// random.c - element i is made of word i % 4 of the Philox block (seed; i / 4, counter): no state,
// so any thread may make any part, and another device makes the same.
#include "philox.h"

enum { BLOCK = 4 * PHILOX_GROUPS };

// sin and cos of 2 pi times a word's upper 24 bits, as a fraction of a turn.
static inline void sincos_word(uint32_t word, acc *sine, acc *cosine) {
#ifdef CFT_CPU_F64
  double angle = 6.283185307179586 * ((double)(word >> 8) * 0x1p-24);
  *sine = sin(angle), *cosine = cos(angle);
#else
  sincos_turn_f32(word >> 8, sine, cosine);
#endif
}

// Box-Muller: words a and b of a group make normals a and b. The first gives the radius by a number
// in (0, 1], of which even the smallest, 2^-33, has a logarithm; the second the angle.
static void normals(acc *u, acc *v, const uint32_t *a, const uint32_t *b) {
  SIMD for (int i = 0; i < PHILOX_GROUPS; i++) {
    acc radius = SQRT(-2 * LOG(((acc)a[i] + (acc)0.5) * (acc)0x1p-32)), sine, cosine;
    sincos_word(b[i], &sine, &cosine);
    u[i] = radius * cosine;
    v[i] = radius * sine;
  }
}

cft_status CPU(random)(cft_device *d, cft_stream *s, const cft_random_args *a) {
  (void)d, (void)s;
  if (a->f != CFT_UNIFORM && a->f != CFT_NORMAL)
    return cft_fail(CFT_E_ARG, "random: no distribution %d", (int)a->f);
  acc shift = (acc)a->a, scale = (acc)(a->f == CFT_UNIFORM ? a->b - a->a : a->b);
  PARALLEL(a->n * 8)
  for (int64_t from = 0; from < a->n; from += BLOCK) {
    uint32_t words[4][PHILOX_GROUPS];
    acc number[4][PHILOX_GROUPS];
    philox(words, a->seed, (uint64_t)from / 4, a->counter);
    if (a->f == CFT_UNIFORM) {
      for (int k = 0; k < 4; k++) {
        SIMD for (int i = 0; i < PHILOX_GROUPS; i++) {
          number[k][i] = (acc)(int32_t)(words[k][i] >> 8) * (acc)0x1p-24;
        }
      }
    } else {
      normals(number[0], number[1], words[0], words[1]);
      normals(number[2], number[3], words[2], words[3]);
    }
    real out[BLOCK];
    SIMD for (int i = 0; i < PHILOX_GROUPS; i++) {
      for (int k = 0; k < 4; k++) out[4 * i + k] = STORE(shift + scale * number[k][i]);
    }
    memcpy((real *)a->y + from, out, (size_t)cpu_min(BLOCK, a->n - from) * sizeof(real));
  }
  return CFT_OK;
}
