// relu2.c - max(x, 0)^2 and its gradient.
#include "harness.h"

EVERYWHERE(relu2) {
  static const int64_t sizes[] = {0, 1, 7, 67, 9001};
  cft_dtype sum = sum_dtype(dtype);
  for (int size = 0; size < 5; size++)
    for (int beta = 0; beta < 2; beta++) {
      int64_t n = sizes[size];
      void *x = numbers(n, dtype), *dy = numbers(n, dtype), *y = output(n, dtype, 0);
      if (n > 7) put(x, dtype, 5, NAN);
      void *dx = output(n, dtype, beta), *before = copied(dx, n, dtype);
      RUN(relu2_fwd, (cft_relu2_args){y, x, n, dtype});
      RUN(relu2_bwd, (cft_relu2_bwd_args){dx, dy, x, n, beta, dtype});
      note(y, (size_t)n * cft_dtype_bytes(dtype));
      note(dx, (size_t)n * cft_dtype_bytes(dtype));
      for (int64_t i = 0; i < n; i++) {
        double v = get(x, dtype, i), r = v < 0 ? 0 : v, t = 2 * r * get(dy, dtype, i);
        double old = beta ? get(before, dtype, i) : 0;
        EXPECT_NEAR(y, i, r * r, 0, sum, dtype);
        EXPECT_NEAR(dx, i, t + old, fabs(t) + fabs(old), sum, dtype);
      }
      free_arrays();
    }
}

EVERYWHERE(relu2_in_place) {
  void *x = numbers(1000, dtype), *y = copied(x, 1000, dtype);
  RUN(relu2_fwd, (cft_relu2_args){y, y, 1000, dtype});
  for (int64_t i = 0; i < 1000; i++) {
    double r = fmax(get(x, dtype, i), 0);
    EXPECT_NEAR(y, i, r * r, 0, dtype, dtype);
  }
}

TEST_MAIN()
