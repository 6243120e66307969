// adamw.c - one pass over parameters, gradients and moments.
#include "cpu.h"
#include "philox.h"

// bf16 by chance: up or down with the probabilities that keep the mean. 16 random bits are added
// under the last place that is kept.
static inline bf16 by_chance(float x, uint32_t bits16) {
  uint32_t u = f32_bits(x);
  uint32_t moved = (u + bits16) >> 16;
  return (bf16)((u & 0x7f800000) == 0x7f800000 ? f32_bf16(x) : moved);
}

typedef struct constants {
  acc shrink, beta1, beta2, rate, second, eps;
} constants;

static inline acc updated(acc p, acc g, acc *m, acc *v, const constants *k) {
  *m = k->beta1 * *m + (1 - k->beta1) * g;
  *v = k->beta2 * *v + (1 - k->beta2) * g * g;
  return p * k->shrink - k->rate * *m / (SQRT(*v * k->second) + k->eps);
}

cft_status CPU(adamw)(cft_device *d, cft_stream *s, const cft_adamw_args *a) {
  (void)d, (void)s;
  int half_state = a->state_dtype == CFT_BF16 && CFT_REAL != CFT_F64;
  int fits = CFT_REAL == CFT_F64 ? a->g_dtype == CFT_F64 && a->state_dtype == CFT_F64
                                 : (a->g_dtype == CFT_F32 || a->g_dtype == CFT_BF16) &&
                                       (a->state_dtype == CFT_F32 || half_state);
  if (!fits)
    return cft_fail(CFT_E_UNSUPPORTED, "adamw: no cpu kernel for p in %s, g in %s, moments in %s",
                    cft_dtype_name(a->p_dtype), cft_dtype_name(a->g_dtype),
                    cft_dtype_name(a->state_dtype));
  constants k = {
      .shrink = (acc)(1 - a->lr * a->decay),
      .beta1 = (acc)a->beta1,
      .beta2 = (acc)a->beta2,
      .rate = (acc)(a->lr / (1 - pow(a->beta1, (double)a->step))),
      .second = (acc)(1 / (1 - pow(a->beta2, (double)a->step))),
      .eps = (acc)a->eps,
  };
  acc scale = a->grad_scale == NULL ? 1 : (acc)a->grad_scale[0];
  real *p = a->p;
  acc *master = a->master;
  PARALLEL(a->n * 4)
  for (int64_t i = 0; i < a->n; i++) {
    acc g = scale * (a->g_dtype == CFT_BF16  ? (acc)bf16_f32(((const bf16 *)a->g)[i])
                     : a->g_dtype == CFT_F32 ? (acc)((const float *)a->g)[i]
                                             : (acc)((const double *)a->g)[i]);
    acc m = half_state ? (acc)bf16_f32(((bf16 *)a->m)[i]) : ((acc *)a->m)[i];
    acc v = half_state ? (acc)bf16_f32(((bf16 *)a->v)[i]) : ((acc *)a->v)[i];
    acc next = updated(master != NULL ? master[i] : LOAD(p[i]), g, &m, &v, &k);
    uint32_t w[4];
    if (half_state) {
      philox(w, a->seed, (uint64_t)i / 4, (uint64_t)a->step | 1ull << 63);
      ((bf16 *)a->m)[i] = by_chance((float)m, w[i % 4] & 0xffff);
      ((bf16 *)a->v)[i] = by_chance((float)v, w[i % 4] >> 16);
    } else {
      ((acc *)a->m)[i] = m;
      ((acc *)a->v)[i] = v;
    }
    if (master != NULL) {
      master[i] = next;
      p[i] = STORE(next);
    } else if (CFT_REAL == CFT_BF16) {
      philox(w, a->seed, (uint64_t)i / 4, (uint64_t)a->step);
      p[i] = (real)by_chance((float)next, w[i % 4] & 0xffff);
    } else {
      p[i] = STORE(next);
    }
  }
  return CFT_OK;
}
