// burst.c - how fast this processor multiplies and adds when nothing else is asked of it: the
// measure that a matmul's rate is held against (`cftrun bench`).
#include <omp.h>
#include <time.h>

#include "cpu.h"

#ifdef CFT_CPU_X86
#include <immintrin.h>
#endif

typedef double burst(int64_t n);  // n rounds; how many FLOPs they were

// A round adds to twelve sums, which hides what one addition takes. They have names, as an array of
// them would live in memory, and KEEP has the compiler make each: it may not know what it is for.
#ifdef CFT_CPU_X86
#define KEEP(x) __asm__ volatile("" : "+v"(x))
#define TARGET(set) __attribute__((target(set)))
#else
#define KEEP(x) __asm__ volatile("" : "+w"(x))
#define TARGET(set)
#endif
#define SUMS(X) X(s0) X(s1) X(s2) X(s3) X(s4) X(s5) X(s6) X(s7) X(s8) X(s9) X(s10) X(s11)
#define BURST(name, set, vector, start, add, flops) \
  TARGET(set) static double name(int64_t n) {       \
    vector a = start, b = start;                    \
    vector s0 = a, s1 = a, s2 = a, s3 = a, s4 = a;  \
    vector s5 = a, s6 = a, s7 = a, s8 = a, s9 = a;  \
    vector s10 = a, s11 = a;                        \
    KEEP(a);                                        \
    KEEP(b);                                        \
    for (int64_t r = 0; r < n; r++) {               \
      SUMS(add)                                     \
    }                                               \
    return (double)n * 12 * (flops);                \
  }                                                 \
  static double name(int64_t n)

typedef float four __attribute__((vector_size(16)));
#define ADD_4(s) \
  s = s * a + b; \
  KEEP(s);
BURST(by_base, "sse2", four, ((four){0.5f, 0.5f, 0.5f, 0.5f}), ADD_4, 2 * 4);

#ifdef CFT_CPU_X86
#define ADD_8(s)                \
  s = _mm256_fmadd_ps(s, a, b); \
  KEEP(s);
BURST(by_avx2, "avx2,fma", __m256, _mm256_set1_ps(0.5f), ADD_8, 2 * 8);

#define ADD_16(s)               \
  s = _mm512_fmadd_ps(s, a, b); \
  KEEP(s);
BURST(by_avx512, "avx512f", __m512, _mm512_set1_ps(0.5f), ADD_16, 2 * 16);

#define ADD_PAIRS(s)                                 \
  s = _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b); \
  KEEP(s);
BURST(by_avx512bf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), ADD_PAIRS, 2 * 32);

// Four sums of 16 x 16, each of 32 products a time.
TARGET("amx-tile,amx-bf16") static double by_amx(int64_t n) {
  static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shapes = {.palette = 1,
              .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
              .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&shapes);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t r = 0; r < n; r++) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return (double)n * 4 * 2 * 16 * 16 * 32;
}
#endif

static burst *burst_of(cft_dtype dtype) {
#ifdef CFT_CPU_X86
  const char *isa = cft_cpu_isa();
  if (dtype == CFT_BF16 && strcmp(isa, "amx") == 0) return by_amx;
  if (dtype == CFT_BF16 && strcmp(isa, "avx512bf16") == 0) return by_avx512bf16;
  if (strcmp(isa, "base") != 0) return strcmp(isa, "avx2") == 0 ? by_avx2 : by_avx512;
#else
  (void)dtype;
#endif
  return by_base;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double cft_cpu_burst(cft_dtype dtype) {
  enum { TRIES = 5, ROUNDS = 1 << 21 };
  cft_cpu_device();  // chooses the instruction set
  burst *run = burst_of(dtype);
  double best = 0;
  for (int i = 0; i < TRIES; i++) {
    double flops = 0, start = now();
#pragma omp parallel reduction(+ : flops) num_threads(cft_cpu_threads())
    flops += run(ROUNDS);
    double rate = flops / (now() - start);
    if (rate > best) best = rate;
  }
  return best;
}
