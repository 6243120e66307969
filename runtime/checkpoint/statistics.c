// statistics.c - what an array's numbers are like: range, mean, and how many are no finite numbers.
#include <math.h>
#include <string.h>

#include "cft_checkpoint.h"

static float of_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

// IEEE binary16.
static double of_f16(uint16_t x) {
  int exponent = x >> 10 & 31, fraction = x & 1023;
  double sign = x >> 15 ? -1 : 1;
  if (exponent == 31) return fraction ? (double)NAN : sign * (double)INFINITY;
  return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

// Element i of data in any place: what is read of files may be unaligned.
static double at(const char *data, cft_dtype dtype, size_t i) {
  union {
    float f32;
    double f64;
    uint16_t half;
    int32_t i32;
    int64_t i64;
  } x;
  size_t bytes = cft_dtype_bytes(dtype);
  memcpy(&x, data + i * bytes, bytes);
  switch (dtype) {
    case CFT_F32: return (double)x.f32;
    case CFT_F64: return x.f64;
    case CFT_BF16: return (double)of_bf16(x.half);
    case CFT_F16: return of_f16(x.half);
    case CFT_I32: return x.i32;
    case CFT_I64: return (double)x.i64;
    case CFT_U8: return (unsigned char)data[i];
  }
  return (double)NAN;
}

void cft_statistics_add(cft_statistics *s, const void *data, size_t bytes, cft_dtype dtype) {
  size_t n = bytes / cft_dtype_bytes(dtype);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    double x = at(data, dtype, i);
    if (isnan(x)) {
      ++s->nans;
    } else if (isinf(x)) {
      ++s->infinities;
    } else {
      sum += x;
      if (s->finite == 0 || x < s->least) s->least = x;
      if (s->finite == 0 || x > s->most) s->most = x;
      ++s->finite;
    }
  }
  s->sum += sum;
}
