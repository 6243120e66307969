// standins.h - what the emulated module calls in place of NVIDIA's libraries.
#pragma once

#include <stdint.h>
#include <stdlib.h>

struct standin_function {
  const char *name;
  void *address;
};

// Ended by a name of NULL.
extern const standin_function standin_cublaslt[], standin_cudnn[], standin_nccl[],
    standin_nothing[];

// Whether a stand-in declines what it could do, as real libraries do for reasons of their own: at
// random, by CUDA_EMU_SEED and what it is asked. Never without a seed.
inline bool standin_declines(uint64_t what, unsigned one_in) {
  static const char *const text = getenv("CUDA_EMU_SEED");
  static const uint64_t seed = text ? strtoull(text, nullptr, 10) : 0;
  if (!text) return false;
  uint64_t x = (what + 1) * 0x9E3779B97F4A7C15u ^ (seed + 1) * 0xD1B54A32D192ED03u;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9u;
  x ^= x >> 32;
  return x % one_in == 0;
}

#define STANDIN(name) \
  { #name, (void *)&name }
