// swiglu.c - silu(gate) * up and its gradient.
#include "harness.h"

EVERYWHERE(swiglu) {
  cft_dtype sum = sum_dtype(dtype);
  for (int shape = 0; shape < 6; shape++)
    for (int in_place = 0; in_place < 2; in_place++)
      for (int again = 0; again < 2; again++) {
        int64_t n = ROW_SHAPES[shape][0], d = ROW_SHAPES[shape][1], xs = 2 * d, ys = d + 3;
        uint8_t *x = numbers(n * xs, dtype);  // gate and up side by side, as one matmul leaves them
        for (int64_t i = 0; i < n * xs; i++) put(x, dtype, i, 8 * get(x, dtype, i));
        void *x0 = copied(x, n * xs, dtype);
        uint8_t *up = x + (size_t)d * cft_dtype_bytes(dtype);
        void *y = constant(n * ys, dtype, 9), *dy = numbers(n * ys, dtype);
        RUN(swiglu_fwd, (cft_swiglu_args){y, x, up, n, d, ys, xs, dtype});
        note(y, (size_t)(n * ys) * cft_dtype_bytes(dtype));

        uint8_t *dx = in_place ? x : output(n * xs, dtype, 0);
        void *y1 = constant(n * ys, dtype, 9);
        RUN(swiglu_bwd,
            (cft_swiglu_bwd_args){dx, dx + (size_t)d * cft_dtype_bytes(dtype), again ? y1 : NULL,
                                  dy, x, up, n, d, xs, ys, xs, ys, dtype});
        note(dx, (size_t)(n * xs) * cft_dtype_bytes(dtype));
        if (again) EXPECT(!memcmp(y, y1, (size_t)(n * ys) * cft_dtype_bytes(dtype)));
        for (int64_t i = 0; i < n; i++) {
          for (int64_t j = 0; j < d; j++) {
            double g = get(x0, dtype, i * xs + j), u = get(x0, dtype, i * xs + d + j);
            double t = get(dy, dtype, i * ys + j), h = 1 / (1 + exp(-g));
            EXPECT_NEAR(y, i * ys + j, g * h * u, 0, sum, dtype);
            EXPECT_NEAR(dx, i * xs + j, t * u * h * (1 + g * (1 - h)), fabs(t * u * h * 8), sum,
                        dtype);
            EXPECT_NEAR(dx, i * xs + d + j, t * g * h, 0, sum, dtype);
          }
          for (int64_t j = d; j < ys; j++) EXPECT_CLOSE(get(y, dtype, i * ys + j), 9, 0);
        }
        free_arrays();
      }
}

TEST_MAIN()
