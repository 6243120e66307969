// dequant.c - GGUF's block formats to f32.
//
// A block is a scale (and a minimum) in f16 with small integers packed behind: value = d * q, or
// d * q + m. The K formats put eight or sixteen such sub-blocks under one pair of f16, their own
// scales being 6 or 8 bits. Products and sums are in f32 in the order of gguf-py's, so that both
// give the same bits; this file is therefore compiled without fusing multiply and add.
// Source: ggml-quants.c and gguf-py/gguf/quants.py of the llama.cpp repository.
#include "checkpoint/dequant.h"

#include <string.h>

static float float_of(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static uint32_t u16_at(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

// f16 to f32, exact.
static float half_at(const uint8_t *p) {
  uint32_t h = u16_at(p), sign = (h & 0x8000) << 16, rest = h & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);  // inf, nan
  if (rest >= 0x0400) return float_of(sign | ((rest << 13) + (112u << 23)));
  float f = (float)rest * 0x1p-24f;  // subnormal
  return sign ? -f : f;
}

static void decode_f32(float *out, const uint8_t *from, int64_t n) {
  memcpy(out, from, (size_t)n * sizeof *out);
}

static void decode_f16(float *out, const uint8_t *from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = half_at(from + 2 * i);
}

static void decode_bf16(float *out, const uint8_t *from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = float_of(u16_at(from + 2 * i) << 16);
}

// d, 32 x i8
static void decode_q8_0(float *out, const uint8_t *from, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, from += 34, out += 32) {
    float d = half_at(from);
    for (int j = 0; j < 32; ++j) out[j] = (float)(int8_t)from[2 + j] * d;
  }
}

// d, 16 bytes: elements 0..15 in the low halves, 16..31 in the high ones; 8 stands for zero
static void decode_q4_0(float *out, const uint8_t *from, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, from += 18, out += 32) {
    float d = half_at(from);
    const uint8_t *q = from + 2;
    for (int j = 0; j < 16; ++j) {
      out[j] = d * (float)((q[j] & 15) - 8);
      out[j + 16] = d * (float)((q[j] >> 4) - 8);
    }
  }
}

// d, m, 16 bytes as above, unsigned
static void decode_q4_1(float *out, const uint8_t *from, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, from += 20, out += 32) {
    float d = half_at(from), m = half_at(from + 2);
    const uint8_t *q = from + 4;
    for (int j = 0; j < 16; ++j) {
      out[j] = d * (float)(q[j] & 15) + m;
      out[j + 16] = d * (float)(q[j] >> 4) + m;
    }
  }
}

// The fifth bit of elements 0..31: bit j of a little-endian u32.
static uint32_t high_bits(const uint8_t *p) { return u16_at(p) | u16_at(p + 2) << 16; }

// d, fifth bits, 16 bytes as in q4_0; 16 stands for zero
static void decode_q5_0(float *out, const uint8_t *from, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, from += 22, out += 32) {
    float d = half_at(from);
    uint32_t h = high_bits(from + 2);
    const uint8_t *q = from + 6;
    for (int j = 0; j < 16; ++j) {
      out[j] = d * (float)((int)((q[j] & 15u) | (h >> j & 1) << 4) - 16);
      out[j + 16] = d * (float)((int)(q[j] >> 4 | (h >> (j + 16) & 1) << 4) - 16);
    }
  }
}

// d, m, fifth bits, 16 bytes, unsigned
static void decode_q5_1(float *out, const uint8_t *from, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, from += 24, out += 32) {
    float d = half_at(from), m = half_at(from + 2);
    uint32_t h = high_bits(from + 4);
    const uint8_t *q = from + 8;
    for (int j = 0; j < 16; ++j) {
      out[j] = d * (float)((q[j] & 15u) | (h >> j & 1) << 4) + m;
      out[j + 16] = d * (float)(q[j] >> 4 | (h >> (j + 16) & 1) << 4) + m;
    }
  }
}

// Scale and minimum of sub-block s of 8, 6 bits each in 12 bytes: the first four of both lie in
// the low bits of bytes 0..3 and 4..7; the others have their low halves in bytes 8..11 and their
// two high bits on top of the first four.
static void scale_and_min(const uint8_t *p, int s, float *scale, float *min) {
  if (s < 4) {
    *scale = (float)(p[s] & 63);
    *min = (float)(p[s + 4] & 63);
  } else {
    *scale = (float)((p[s + 4] & 15) | p[s - 4] >> 6 << 4);
    *min = (float)(p[s + 4] >> 4 | p[s] >> 6 << 4);
  }
}

// d, dmin, 12 bytes of scales, 4 x 32 bytes: two sub-blocks of 32, low and high halves
static void decode_q4_k(float *out, const uint8_t *from, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, from += 144) {
    float d = half_at(from), dmin = half_at(from + 2);
    const uint8_t *q = from + 16;
    for (int s = 0; s < 8; ++s, out += 32) {
      float scale, min;
      scale_and_min(from + 4, s, &scale, &min);
      scale *= d;
      min *= dmin;
      int shift = s % 2 * 4;
      for (int j = 0; j < 32; ++j) out[j] = scale * (float)(q[s / 2 * 32 + j] >> shift & 15) - min;
    }
  }
}

// d, dmin, scales, 32 bytes of fifth bits (bit s of byte j is sub-block s, element j), 4 x 32 bytes
static void decode_q5_k(float *out, const uint8_t *from, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, from += 176) {
    float d = half_at(from), dmin = half_at(from + 2);
    const uint8_t *h = from + 16, *q = from + 48;
    for (int s = 0; s < 8; ++s, out += 32) {
      float scale, min;
      scale_and_min(from + 4, s, &scale, &min);
      scale *= d;
      min *= dmin;
      int shift = s % 2 * 4;
      for (int j = 0; j < 32; ++j) {
        int v = (q[s / 2 * 32 + j] >> shift & 15) | (h[j] >> s & 1) << 4;
        out[j] = scale * (float)v - min;
      }
    }
  }
}

// 128 bytes of low halves, 64 of the two high bits, 16 x i8 scales, d. Two halves of 128 elements;
// in each, four rows of 32: rows 0, 1 in the low and 2, 3 in the high halves of 64 bytes, and the
// bits of row r in bits 2r, 2r+1 of 32 bytes. 32 stands for zero; a scale serves 16 elements.
static void decode_q6_k(float *out, const uint8_t *from, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, from += 210) {
    const uint8_t *scales = from + 192;
    float d = half_at(from + 208);
    for (int row = 0; row < 8; ++row, out += 32) {
      const uint8_t *low = from + row / 4 * 64 + row % 2 * 32;
      const uint8_t *high = from + 128 + row / 4 * 32;
      int shift = row % 4 / 2 * 4;
      float scale[2] = {d * (float)(int8_t)scales[2 * row], d * (float)(int8_t)scales[2 * row + 1]};
      for (int j = 0; j < 32; ++j) {
        int v = (low[j] >> shift & 15) | (high[j] >> (row % 4 * 2) & 3) << 4;
        out[j] = scale[j / 16] * (float)(v - 32);
      }
    }
  }
}

static const cft_ggml_type types[] = {
    {0, "F32", 1, 4, decode_f32},
    {1, "F16", 1, 2, decode_f16},
    {2, "Q4_0", 32, 18, decode_q4_0},
    {3, "Q4_1", 32, 20, decode_q4_1},
    {6, "Q5_0", 32, 22, decode_q5_0},
    {7, "Q5_1", 32, 24, decode_q5_1},
    {8, "Q8_0", 32, 34, decode_q8_0},
    {9, "Q8_1", 32, 40, NULL},
    {10, "Q2_K", 256, 84, NULL},
    {11, "Q3_K", 256, 110, NULL},
    {12, "Q4_K", 256, 144, decode_q4_k},
    {13, "Q5_K", 256, 176, decode_q5_k},
    {14, "Q6_K", 256, 210, decode_q6_k},
    {15, "Q8_K", 256, 292, NULL},
    {16, "IQ2_XXS", 256, 66, NULL},
    {17, "IQ2_XS", 256, 74, NULL},
    {18, "IQ3_XXS", 256, 98, NULL},
    {19, "IQ1_S", 256, 50, NULL},
    {20, "IQ4_NL", 32, 18, NULL},
    {21, "IQ3_S", 256, 110, NULL},
    {22, "IQ2_S", 256, 82, NULL},
    {23, "IQ4_XS", 256, 136, NULL},
    {24, "I8", 1, 1, NULL},
    {25, "I16", 1, 2, NULL},
    {26, "I32", 1, 4, NULL},
    {27, "I64", 1, 8, NULL},
    {28, "F64", 1, 8, NULL},
    {29, "IQ1_M", 256, 56, NULL},
    {30, "BF16", 1, 2, decode_bf16},
    {34, "TQ1_0", 256, 54, NULL},
    {35, "TQ2_0", 256, 66, NULL},
    {39, "MXFP4", 32, 17, NULL},
    {40, "NVFP4", 64, 36, NULL},
    {41, "Q1_0", 128, 18, NULL},
};

const cft_ggml_type *cft_ggml_type_of(uint32_t id) {
  for (size_t i = 0; i < sizeof types / sizeof *types; ++i)
    if ((uint32_t)types[i].id == id) return &types[i];
  return NULL;
}
