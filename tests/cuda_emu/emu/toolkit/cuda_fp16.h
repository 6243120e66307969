// cuda_fp16.h - for machines without the CUDA toolkit: f16 with the toolkit's names and
// conversions.
#pragma once
#include <stdint.h>
#include <string.h>

#include "cuda_runtime.h"

struct alignas(2) __half {
  unsigned short bits;
};

inline float __half2float(__half h) {
  const uint32_t sign = (uint32_t)(h.bits & 0x8000) << 16, exponent = h.bits >> 10 & 31,
                 fraction = h.bits & 0x3ff;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000 | fraction << 13;
  } else {
    const float scale = 0x1p-24f;  // of a denormal's last place
    float v = exponent ? (float)(0x400 | fraction) : (float)fraction;
    for (uint32_t e = exponent ? exponent - 1 : 0; e > 0; e--) v *= 2;
    v *= scale;
    memcpy(&bits, &v, 4);
    bits |= sign;
  }
  float out;
  memcpy(&out, &bits, 4);
  return out;
}

inline __half __float2half(float v) {  // to nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &v, 4);
  const unsigned short sign = (unsigned short)(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return {(unsigned short)0x7fff};
  if (bits >= 0x477ff000) return {(unsigned short)(sign | 0x7c00)};  // 65520 and more
  if (bits < 0x38800000) {  // a denormal, made by an addition that rounds
    float magnitude;
    memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    memcpy(&bits, &magnitude, 4);
    return {(unsigned short)(sign | (bits - 0x3f000000))};
  }
  bits += 0xfff + (bits >> 13 & 1);
  return {(unsigned short)(sign | (bits - (112u << 23)) >> 13)};
}
