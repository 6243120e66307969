// cast.c - values from dtype to dtype.
#include "cpu.h"

// ---- f16 and the exact way down from f64 ---------------------------------------------------

// A half's exponent and mantissa are those of a float after a shift, but for the bias: a
// multiplication by 2^112 corrects that and normalises denormals.
static inline float f16_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, u = (uint32_t)(h & 0x7fff) << 13;
  uint32_t finite = f32_bits(bits_f32(u) * 0x1p112f);
  return bits_f32(sign | (u >= 0x0f800000 ? u | 0x7f800000 : finite));
}

// To nearest even. Adding 1/2 makes the addition itself round a denormal result; the others round
// by an integer carry, which reaches infinity where it must.
static inline uint16_t f32_f16(float x) {
  uint32_t u = f32_bits(x), sign = u >> 16 & 0x8000, v = u & 0x7fffffff;
  uint32_t denormal = f32_bits(bits_f32(v) + 0.5f) - f32_bits(0.5f);
  uint32_t normal = (v + ((uint32_t)(15 - 127) << 23) + 0xfff + (v >> 13 & 1)) >> 13;
  uint32_t h = v < 0x38800000 ? denormal : normal;  // 2^-14
  h = v >= 0x47800000 ? 0x7c00 : h;                 // 2^16
  h = v > 0x7f800000 ? 0x7e00 | (v >> 13 & 0x1ff) : h;
  return (uint16_t)(sign | h);
}

// f64 to f32 by rounding to odd: a second rounding, to 16 bits, then gives what one would have.
static inline float f64_odd(double x) {
  float f = (float)x;
  uint32_t u = f32_bits(f);
  double back = (double)f;
  int inexact = back != x && x == x;
  uint32_t away = fabs(back) > fabs(x);
  return bits_f32(inexact ? (u - away) | 1 : u);
}

// ---- cast ----------------------------------------------------------------------------------

// Out of an integer's range: its nearest end; NaN: 0.
static inline int32_t f32_i32(float x) {
  return x >= 0x1p31f ? INT32_MAX : x < -0x1p31f ? INT32_MIN : x == x ? (int32_t)x : 0;
}
static inline int64_t f32_i64(float x) {
  return x >= 0x1p63f ? INT64_MAX : x < -0x1p63f ? INT64_MIN : x == x ? (int64_t)x : 0;
}
static inline int32_t i64_i32(int64_t x) {
  return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (int32_t)x;
}

#define PAIR(from, to) ((int)(from)*16 + (int)(to))

cft_status CPU(cast)(cft_device *d, cft_stream *s, const cft_cast_args *a) {
  (void)d, (void)s;
  int64_t n = a->n;
  if (a->x_dtype == a->y_dtype) {
    size_t size = cft_dtype_bytes(a->x_dtype);
    PARALLEL(n)
    for (int64_t from = 0; from < n; from += CPU_BLOCK)
      memcpy((char *)a->y + (size_t)from * size, (const char *)a->x + (size_t)from * size,
             (size_t)cpu_min(CPU_BLOCK, n - from) * size);
    return CFT_OK;
  }
#define CASE(from_dtype, from_type, to_dtype, to_type, ...) \
  case PAIR(from_dtype, to_dtype): {                        \
    const from_type *px = a->x;                             \
    to_type *y = a->y;                                      \
    FOR_EACH(n, from_type x = px[i]; y[i] = __VA_ARGS__)    \
    return CFT_OK;                                          \
  }
  switch (PAIR(a->x_dtype, a->y_dtype)) {
    CASE(CFT_F32, float, CFT_BF16, bf16, f32_bf16(x))
    CASE(CFT_F32, float, CFT_F16, uint16_t, f32_f16(x))
    CASE(CFT_F32, float, CFT_F64, double, (double)x)
    CASE(CFT_F32, float, CFT_I32, int32_t, f32_i32(x))
    CASE(CFT_F32, float, CFT_I64, int64_t, f32_i64(x))
    CASE(CFT_BF16, bf16, CFT_F32, float, bf16_f32(x))
    CASE(CFT_BF16, bf16, CFT_F16, uint16_t, f32_f16(bf16_f32(x)))
    CASE(CFT_BF16, bf16, CFT_F64, double, (double)bf16_f32(x))
    CASE(CFT_F16, uint16_t, CFT_F32, float, f16_f32(x))
    CASE(CFT_F16, uint16_t, CFT_BF16, bf16, f32_bf16(f16_f32(x)))
    CASE(CFT_F16, uint16_t, CFT_F64, double, (double)f16_f32(x))
    CASE(CFT_F64, double, CFT_F32, float, (float)x)
    CASE(CFT_F64, double, CFT_BF16, bf16, f32_bf16(f64_odd(x)))
    CASE(CFT_F64, double, CFT_F16, uint16_t, f32_f16(f64_odd(x)))
    CASE(CFT_I32, int32_t, CFT_F32, float, (float)x)
    CASE(CFT_I32, int32_t, CFT_I64, int64_t, (int64_t)x)
    CASE(CFT_I64, int64_t, CFT_F32, float, (float)x)
    CASE(CFT_I64, int64_t, CFT_I32, int32_t, i64_i32(x))
  }
#undef CASE
  return cft_fail(CFT_E_UNSUPPORTED, "cast: no cpu kernel from %s to %s",
                  cft_dtype_name(a->x_dtype), cft_dtype_name(a->y_dtype));
}

// ---- fill ----------------------------------------------------------------------------------

cft_status CPU(fill)(cft_device *d, cft_stream *s, const cft_fill_args *a) {
  (void)d, (void)s;
  int64_t n = a->n;
#define CASE(dtype, type, ...)                   \
  case dtype: {                                  \
    type *y = a->y, value = (type)(__VA_ARGS__); \
    FOR_EACH(n, y[i] = value)                    \
    return CFT_OK;                               \
  }
  switch (a->dtype) {
    CASE(CFT_F32, float, a->value)
    CASE(CFT_BF16, bf16, f32_bf16(f64_odd(a->value)))
    CASE(CFT_F16, uint16_t, f32_f16(f64_odd(a->value)))
    CASE(CFT_F64, double, a->value)
    CASE(CFT_I32, int32_t, a->value)
    CASE(CFT_I64, int64_t, a->value)
    CASE(CFT_U8, uint8_t, a->value)
    default: break;
  }
#undef CASE
  return cft_fail(CFT_E_UNSUPPORTED, "fill: no cpu kernel for %s", cft_dtype_name(a->dtype));
}
