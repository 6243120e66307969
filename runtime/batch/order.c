// order.c - a shuffle that is a function: any place of any epoch at once.
#include "cft_batch.h"

enum { ROUNDS = 8, LEAST_HALF_BITS = 4 };

static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

int64_t cft_order_at(uint64_t seed, uint64_t epoch, int64_t index, int64_t n) {
  if (index < 0 || index >= n) return -1;
  unsigned half = LEAST_HALF_BITS;  // tiny networks have few distinct permutations
  while (half < 32 && (n - 1) >> (2 * half)) ++half;
  const uint64_t mask = ((uint64_t)1 << half) - 1, key = mix(mix(seed) ^ epoch);
  uint64_t x = (uint64_t)index;
  do {  // ends: it walks along a cycle of the permutation, and index is on it
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < ROUNDS; ++round) {
      uint64_t next = left ^ (mix(mix(key ^ round) ^ right) & mask);
      left = right;
      right = next;
    }
    x = left << half | right;
  } while (x >= (uint64_t)n);
  return (int64_t)x;
}
