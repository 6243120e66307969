// philox.h - Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):
// 128 bits of counter and 64 of key in, four random words out, no state.
#ifndef CFT_PHILOX_H
#define CFT_PHILOX_H

#include "cpu.h"

enum { PHILOX_GROUPS = 128 };  // made at a time

// words[k][i] is word k of group first + i, whose counter is (first + i, high), low 64 bits first.
// Apart by k, so that the rounds run along vectors.
static void philox(uint32_t words[4][PHILOX_GROUPS], uint64_t key, uint64_t first, uint64_t high);

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

#ifdef __AVX512F__
// By hand: the multiplication that takes the low halves of 64-bit lanes is a third of the whole one
// that compilers choose for the loop below, and what gathers in the high halves is never looked at.
#include <immintrin.h>

static void philox(uint32_t words[4][PHILOX_GROUPS], uint64_t key, uint64_t first, uint64_t high) {
  const __m512i m0 = _mm512_set1_epi64(PHILOX_M0), m1 = _mm512_set1_epi64(PHILOX_M1);
  const __m512i ramp = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
  for (int i = 0; i < PHILOX_GROUPS; i += 8) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    __m512i c0 = _mm512_add_epi64(_mm512_set1_epi64((int64_t)(first + (uint64_t)i)), ramp);
    __m512i c1 = _mm512_srli_epi64(c0, 32);
    __m512i c2 = _mm512_set1_epi64((int64_t)high), c3 = _mm512_srli_epi64(c2, 32);
    for (int round = 0; round < 10; round++, k0 += PHILOX_W0, k1 += PHILOX_W1) {
      __m512i a = _mm512_mul_epu32(m0, c0), b = _mm512_mul_epu32(m1, c2);
      c0 = _mm512_srli_epi64(b, 32) ^ c1 ^ _mm512_set1_epi64(k0);
      c1 = b;
      c2 = _mm512_srli_epi64(a, 32) ^ c3 ^ _mm512_set1_epi64(k1);
      c3 = a;
    }
    _mm256_storeu_si256((__m256i *)&words[0][i], _mm512_cvtepi64_epi32(c0));
    _mm256_storeu_si256((__m256i *)&words[1][i], _mm512_cvtepi64_epi32(c1));
    _mm256_storeu_si256((__m256i *)&words[2][i], _mm512_cvtepi64_epi32(c2));
    _mm256_storeu_si256((__m256i *)&words[3][i], _mm512_cvtepi64_epi32(c3));
  }
}
#else
static void philox(uint32_t words[4][PHILOX_GROUPS], uint64_t key, uint64_t first, uint64_t high) {
  SIMD for (int i = 0; i < PHILOX_GROUPS; i++) {
    uint64_t low = first + (uint64_t)i;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)low, c1 = (uint32_t)(low >> 32);
    uint32_t c2 = (uint32_t)high, c3 = (uint32_t)(high >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
      uint64_t a = (uint64_t)PHILOX_M0 * c0, b = (uint64_t)PHILOX_M1 * c2;
      c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
      c1 = (uint32_t)b;
      c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
      c3 = (uint32_t)a;
      k0 += PHILOX_W0;
      k1 += PHILOX_W1;
    }
    words[0][i] = c0, words[1][i] = c1, words[2][i] = c2, words[3][i] = c3;
  }
}
#endif

#endif
