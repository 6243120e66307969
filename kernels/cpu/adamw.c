// adamw.c - one pass over parameters, gradients and moments. A block of each is brought to `acc`
// where it is stored otherwise, updated, and stored again, all in the first cache.
#include <float.h>

#include "philox.h"

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

enum { BLOCK = 4 * PHILOX_GROUPS };

static const double BF16_MOST = 3.3895313892515355e38;  // the largest finite bf16

// Where stochastic rounding takes its bits: block (seed; i / 4, step + PURPOSE), word i % 4.
static const uint64_t FOR_PARAMETERS = 0, FOR_MOMENTS = 1ull << 63;

// To bf16, up or down with the probabilities that keep the mean: 16 random bits are added under
// the last place that is kept. Infinity and NaN are rounded as ever.
static inline bf16 stochastic_round(float x, uint32_t bits16) {
  uint32_t u = f32_bits(x);
  return (u & 0x7f800000) == 0x7f800000 ? f32_bf16(x) : (bf16)((u + bits16) >> 16);
}

// One block, with 16 bits of each element's word from `shift` on. x is whole, y may end early.
static void store_rounded(bf16 *y, const acc *x, int64_t n, uint32_t words[4][PHILOX_GROUPS],
                            int shift) {
  bf16 out[BLOCK];
  SIMD for (int i = 0; i < PHILOX_GROUPS; i++) {
    for (int k = 0; k < 4; k++)
      out[4 * i + k] = stochastic_round((float)x[4 * i + k], words[k][i] >> shift & 0xffff);
  }
  memcpy(y, out, (size_t)n * sizeof *y);
}

// An array stored as `dtype` from element `from` on, as acc: itself, or a copy in `buffer`, whole.
static acc *opened(acc *buffer, const void *p, cft_dtype dtype, int64_t from, int64_t n) {
  if (dtype == (sizeof(acc) == sizeof(double) ? CFT_F64 : CFT_F32)) return (acc *)p + from;
  const bf16 *x = (const bf16 *)p + from;
  SIMD for (int64_t i = 0; i < n; i++) buffer[i] = (acc)bf16_f32(x[i]);
  for (int64_t i = n; i < BLOCK; i++) buffer[i] = 0;
  return buffer;
}

// Rows of an embedding that no batch touches decay until their moments are denormal, and there they
// stay, at twenty times the cost of other numbers. Take such numbers for zero; returns how it was.
static unsigned flush_denormals(void) {
#ifdef __SSE2__
  enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x40 };
  unsigned before = _mm_getcsr();
  _mm_setcsr(before | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO);
  return before;
#else
  return 0;
#endif
}

static void restore_denormals(unsigned before) {
#ifdef __SSE2__
  _mm_setcsr(before);
#else
  (void)before;
#endif
}

cft_status CPU(adamw)(cft_device *d, cft_stream *s, const cft_adamw_args *a) {
  (void)d, (void)s;
  const cft_dtype wide = sizeof(acc) == sizeof(double) ? CFT_F64 : CFT_F32;
  int narrow_state = a->state_dtype == CFT_BF16;
  int fits = (a->g_dtype == wide || (wide == CFT_F32 && a->g_dtype == CFT_BF16)) &&
             (a->state_dtype == wide || (wide == CFT_F32 && narrow_state));
  if (!fits)
    return cft_fail(CFT_E_UNSUPPORTED, "adamw: no cpu kernel for p in %s, g in %s, moments in %s",
                    cft_dtype_name(a->dtype), cft_dtype_name(a->g_dtype),
                    cft_dtype_name(a->state_dtype));

  const acc shrink = (acc)(1 - a->lr * a->decay), eps = (acc)a->eps;
  const acc beta1 = (acc)a->beta1, beta2 = (acc)a->beta2;
  const acc new1 = (acc)(1 - a->beta1), new2 = (acc)(1 - a->beta2);
  const acc rate = (acc)(a->lr / (1 - pow(a->beta1, (double)a->step)));
  const acc root = (acc)(1 / sqrt(1 - pow(a->beta2, (double)a->step)));
  const acc scale = a->grad_scale == NULL ? 1 : (acc)a->grad_scale[0];
  const uint64_t step = (uint64_t)a->step;
  if (isnan(scale)) return CFT_OK;  // the gradient is no number: weights and moments stay
  const acc widest = sizeof(acc) == sizeof(double) ? (acc)DBL_MAX : (acc)FLT_MAX;
  const acc p_most = CFT_REAL == CFT_BF16 ? (acc)BF16_MOST : widest;
  const acc state_most = narrow_state ? (acc)BF16_MOST : widest;

  PARALLEL(a->n * 4)
  for (int64_t from = 0; from < a->n; from += BLOCK) {
    acc p_buffer[BLOCK], m_buffer[BLOCK], v_buffer[BLOCK], g_buffer[BLOCK];
    uint32_t words[4][PHILOX_GROUPS];
    unsigned denormals = flush_denormals();
    int64_t n = cpu_min(BLOCK, a->n - from);
    real *stored = (real *)a->p + from;
    acc *p =
        a->master != NULL ? (acc *)a->master + from : opened(p_buffer, a->p, a->dtype, from, n);
    acc *m = opened(m_buffer, a->m, a->state_dtype, from, n);
    acc *v = opened(v_buffer, a->v, a->state_dtype, from, n);
    const acc *g = opened(g_buffer, a->g, a->g_dtype, from, n);

    SIMD for (int64_t i = 0; i < n; i++) {
      acc gi = g[i] * scale;
      m[i] = beta1 * m[i] + new1 * gi;
      v[i] = beta2 * v[i] + new2 * (gi * gi);
      p[i] = p[i] * shrink - rate * m[i] / (SQRT(v[i]) * root + eps);
    }
    if (a->not_finite != NULL) {  // the block is in the first cache; NaN is not below anything
      int within = 1;
      _Pragma("omp simd reduction(&:within)") for (int64_t i = 0; i < n; i++)
        within &= (ABS(p[i]) <= p_most) & (ABS(m[i]) <= state_most) & (v[i] <= state_most);
      if (!within) {
#pragma omp atomic write
        *a->not_finite = 1;
      }
    }

    if (narrow_state) {
      philox(words, a->seed, (uint64_t)from / 4, step + FOR_MOMENTS);
      store_rounded((bf16 *)a->m + from, m, n, words, 0);
      store_rounded((bf16 *)a->v + from, v, n, words, 16);
    }
    if (a->master != NULL) {
      SIMD for (int64_t i = 0; i < n; i++) stored[i] = STORE(p[i]);
    } else if (CFT_REAL == CFT_BF16) {
      philox(words, a->seed, (uint64_t)from / 4, step + FOR_PARAMETERS);
      store_rounded((bf16 *)a->p + from, p, n, words, 0);
    }
    restore_denormals(denormals);
  }
  return CFT_OK;
}
