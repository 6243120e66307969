// philox.h - Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):
// 128 bits of counter and 64 of key in, four random words out, no state.
#ifndef CFT_PHILOX_H
#define CFT_PHILOX_H

#include "cpu.h"

enum { PHILOX_GROUPS = 128 };  // made at a time

// Words of groups first, first + 1, ...: words[k][i] is word k of group first + i, whose counter is
// (first + i, high), low 64 bits first. Apart by k, so that the rounds run along vectors.
static inline void philox(uint32_t words[4][PHILOX_GROUPS], uint64_t key, uint64_t first,
                          uint64_t high) {
  SIMD for (int i = 0; i < PHILOX_GROUPS; i++) {
    uint64_t low = first + (uint64_t)i;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)low, c1 = (uint32_t)(low >> 32);
    uint32_t c2 = (uint32_t)high, c3 = (uint32_t)(high >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
      uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
      c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
      c1 = (uint32_t)b;
      c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
      c3 = (uint32_t)a;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    words[0][i] = c0, words[1][i] = c1, words[2][i] = c2, words[3][i] = c3;
  }
}

#endif
