// log_sum_exp.h - what a loss and a log-probability are measured by: one function, so that they have the same bits.
#ifndef CFT_LOG_SUM_EXP_H
#define CFT_LOG_SUM_EXP_H

#include "cpu.h"

enum {
  CHUNK = 1024,
  LANES = 16,  // partial sums of a chunk, always this many: the bits depend on the row alone
};

// log sum exp(x). The maximum passes a NaN by, but its exp does not: one makes the sum NaN.
static acc log_sum_exp(const real *x, int64_t n) {
  acc top = -(acc)INFINITY, sum = 0;
  for (int64_t j0 = 0; j0 < n; j0 += CHUNK) {
    int64_t m = cpu_min(n - j0, CHUNK), whole = m - m % LANES;
    const real *c = x + j0;
    acc high[LANES], part[LANES];
    for (int l = 0; l < LANES; l++) high[l] = top, part[l] = 0;
    for (int64_t j = 0; j < whole; j += LANES) {
      SIMD for (int l = 0; l < LANES; l++) high[l] =
          LOAD(c[j + l]) > high[l] ? LOAD(c[j + l]) : high[l];
    }
    for (int64_t j = whole; j < m; j++)
      high[j - whole] = LOAD(c[j]) > high[j - whole] ? LOAD(c[j]) : high[j - whole];
    acc chunk_top = top;
    for (int l = 0; l < LANES; l++) chunk_top = high[l] > chunk_top ? high[l] : chunk_top;
    // Where all is -inf so far, or one is +inf, a difference of infinities would be NaN.
    acc shift = isinf(chunk_top) ? 0 : chunk_top;
    if (chunk_top > top) sum *= EXP(top - shift);
    top = chunk_top;
    for (int64_t j = 0; j < whole; j += LANES) {
      SIMD for (int l = 0; l < LANES; l++) part[l] += EXP(LOAD(c[j + l]) - shift);
    }
    for (int64_t j = whole; j < m; j++) part[j - whole] += EXP(LOAD(c[j]) - shift);
    for (int l = 0; l < LANES; l++) sum += part[l];
  }
  return (isinf(top) ? 0 : top) + LOG(sum);
}

#endif
