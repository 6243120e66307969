// vmath.h - exp, log, tanh, sigmoid, sin and cos in f32 without branches, so that loops around them
// vectorise. Within 3 units in the last place (tests/c/kernels_cpu/elementwise.c measures it); infinities, NaN
// and overflow come out as libm's do, and what would be under 1.7e-38 may be zero.
#ifndef CFT_VMATH_H
#define CFT_VMATH_H

// exp(x) = 2^n exp(r), |r| <= ln(2)/2. Adding 1.5 * 2^23 leaves n = round(x / ln 2) in the low bits
// of the sum: no conversion to an integer, which NaN would make undefined. 2^(n-1) is put together
// from those bits and the polynomial (Cephes' expf) doubled, since n reaches 128 before overflow.
static inline float exp_f32(float x) {
  const float magic = 12582912.0f;
  x = x > 89.0f ? 89.0f : x;    // n = 128: the product is infinite
  x = x < -87.5f ? -87.5f : x;  // n = -126: the factor is zero
  float shifted = x * 1.44269504f + magic;
  float n = shifted - magic;
  float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return (p + p) * bits_f32((f32_bits(shifted) << 23) + (126u << 23));
}

// log(x) = e ln 2 + log(m), m in [sqrt(1/2), sqrt(2)). The polynomial is Cephes' logf.
static inline float log_f32(float x) {
  int tiny = x < 1.17549435e-38f;  // denormals are scaled up first
  float scaled = tiny ? x * 8388608.0f : x;
  uint32_t u = f32_bits(scaled) - 0x3f3504f3u;  // sqrt(1/2)
  float e = (float)((int32_t)u >> 23) - (tiny ? 23.0f : 0.0f);
  float m = bits_f32((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float y = m * z * p + e * -2.12194440e-4f - 0.5f * z;
  y = m + y + e * 0.693359375f;
  y = x == INFINITY ? x : y;
  y = x == 0.0f ? -INFINITY : y;
  return x >= 0.0f ? y : NAN;
}

// Small arguments by an odd polynomial (Cephes), where 1 - 2 / (e^2x + 1) would cancel.
static inline float tanh_f32(float x) {
  float a = fabsf(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float small = p * z * x + x;
  float large = copysignf(1.0f - 2.0f / (exp_f32(2.0f * a) + 1.0f), x);
  return a < 0.625f ? small : large;
}

static inline float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

// sin and cos of m / 2^24 turns, m < 2^24. The quarter turn nearest to m and the rest are whole
// numbers, so nothing is lost before the polynomials (Cephes' sinf, cosf on [-pi/4, pi/4]).
static inline void sincos_turn_f32(uint32_t m, float *sine, float *cosine) {
  uint32_t quarter = (m + (1u << 21)) >> 22;
  float x = (float)((int32_t)m - (int32_t)(quarter << 22)) * (6.28318531f * 0x1p-24f);
  float z = x * x;
  float s = -1.9515295891e-4f;
  s = s * z + 8.3321608736e-3f;
  s = s * z - 1.6666654611e-1f;
  s = s * z * x + x;
  float c = 2.443315711809948e-5f;
  c = c * z - 1.388731625493765e-3f;
  c = c * z + 4.166664568298827e-2f;
  c = c * (z * z) - 0.5f * z + 1.0f;
  float a = quarter & 1 ? c : s, b = quarter & 1 ? s : c;
  *sine = quarter & 2 ? -a : a;
  *cosine = (quarter + 1) & 2 ? -b : b;
}

#endif
