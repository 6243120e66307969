// attention_merge.c - attention over two sets of keys, from the results of each; a head's row at a
// time.
#include "cpu.h"

cft_status CPU(attention_merge)(cft_device *d, cft_stream *s, const cft_attention_merge_args *a) {
  (void)d, (void)s;
  PARALLEL(a->n * a->H * a->D)
  for (int64_t i = 0; i < a->n; i++) {
    for (int64_t h = 0; h < a->H; h++) {
      real *o = (real *)a->o + i * a->o_stride + h * a->D;
      const real *o2 = (const real *)a->o2 + i * a->o2_stride + h * a->D;
      acc *lse = (acc *)a->lse + i * a->H + h;
      acc lse2 = ((const acc *)a->lse2)[i * a->H + h];
      if (*lse == -(acc)INFINITY && lse2 == -(acc)INFINITY) continue;  // their ratio is no number
      acc top = *lse < lse2 ? lse2 : *lse;
      acc w = EXP(*lse - top), w2 = EXP(lse2 - top), sum = w + w2;
      *lse = top + LOG(sum);
      w /= sum, w2 /= sum;
      SIMD
      for (int64_t j = 0; j < a->D; j++) o[j] = STORE(w * LOAD(o[j]) + w2 * LOAD(o2[j]));
    }
  }
  return CFT_OK;
}
