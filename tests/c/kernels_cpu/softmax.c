// softmax.c - softmax over rows and its gradient.
#include "harness.h"

EVERYWHERE(softmax) {
  cft_dtype sum = sum_dtype(dtype);
  for (int shape = 0; shape < 6; shape++)
    for (int beta = 0; beta < 2; beta++) {
      int64_t n = ROW_SHAPES[shape][0], d = ROW_SHAPES[shape][1];
      void *x = numbers(n * d, dtype), *y = output(n * d, dtype, 0);
      for (int64_t i = 0; i < n * d; i++) put(x, dtype, i, 64 * get(x, dtype, i));
      if (n > 2 && d > 2) put(x, dtype, d + 1, -INFINITY);  // a masked place, as models make them
      RUN(softmax_fwd, (cft_softmax_args){y, x, n, d, dtype});
      void *dy = numbers(n * d, dtype), *dx = output(n * d, dtype, beta);
      void *before = copied(dx, n * d, dtype);
      RUN(softmax_bwd, (cft_softmax_bwd_args){dx, dy, y, n, d, beta, dtype});
      note(y, (size_t)(n * d) * cft_dtype_bytes(dtype));
      note(dx, (size_t)(n * d) * cft_dtype_bytes(dtype));
      for (int64_t i = 0; i < n; i++) {
        double top = -INFINITY, total = 0, dot = 0, size = 0;
        for (int64_t j = i * d; j < (i + 1) * d; j++) top = fmax(top, get(x, dtype, j));
        for (int64_t j = i * d; j < (i + 1) * d; j++) {
          total += exp(get(x, dtype, j) - top);
          dot += get(y, dtype, j) * get(dy, dtype, j);
          size += fabs(get(y, dtype, j) * get(dy, dtype, j));
        }
        for (int64_t j = i * d; j < (i + 1) * d; j++) {
          double want = exp(get(x, dtype, j) - top) / total;
          EXPECT_NEAR(y, j, want, 4 * want, sum, dtype);  // total is a long sum
          double v = get(y, dtype, j), old = beta ? get(before, dtype, j) : 0;
          EXPECT_NEAR(dx, j, v * (get(dy, dtype, j) - dot) + old, v * (1 + size) + fabs(old), sum,
                      dtype);
        }
      }
      free_arrays();
    }
}

TEST_MAIN()
