// reduce.c - sums, extremes, and the squares that clip a gradient.
#include "harness.h"

EVERYWHERE(reduce) {
  static const int64_t shapes[][3] = {{0, 3, 4},     {2, 0, 3},     {5, 0, 1},     {2, 3, 0},
                                      {1, 1, 1},     {3, 5, 1},     {3, 5, 7},     {1, 100, 300},
                                      {2, 70, 513},  {1, 50000, 3}, {1, 90001, 1}, {300, 257, 1},
                                      {2, 1000, 100}};
  for (size_t shape = 0; shape < sizeof shapes / sizeof *shapes; shape++)
    for (cft_reduction f = CFT_SUM; f <= CFT_SUM_SQUARES; f++)
      for (int wide = 0; wide <= (dtype == CFT_BF16); wide++)
        for (int beta = 0; beta < 2; beta++) {
          int64_t outer = shapes[shape][0], mid = shapes[shape][1], inner = shapes[shape][2];
          cft_dtype y_dtype = f == CFT_ARGMAX ? CFT_I32 : wide ? CFT_F32 : dtype;
          double alpha = f == CFT_ARGMAX ? 1 : 0.25;
          void *x = numbers(outer * mid * inner, dtype);
          void *y = output(outer * inner, y_dtype, beta && f != CFT_ARGMAX);
          void *before = copied(y, outer * inner, y_dtype);
          RUN(reduce, (cft_reduce_args){y, x, outer, mid, inner, alpha, f, beta, dtype, y_dtype});
          note(y, (size_t)(outer * inner) * cft_dtype_bytes(y_dtype));
          for (int64_t i = 0; i < outer * inner; i++) {
            double sum = 0, size = 0, top = -INFINITY, squares = 0;
            int64_t at = 0;
            for (int64_t j = 0; j < mid; j++) {
              double v = get(x, dtype, (i / inner * mid + j) * inner + i % inner);
              sum += v, size += fabs(v), squares += v * v;
              if (v > top) top = v, at = j;
            }
            double value = f == CFT_SUM ? sum : f == CFT_MAXIMUM ? top : squares;
            double old = beta ? get(before, y_dtype, i) : 0;
            if (f == CFT_ARGMAX)
              EXPECT_INT(((int32_t *)y)[i], at);
            else
              EXPECT_NEAR(y, i, alpha * value + old, size + squares + 1, sum_dtype(dtype), y_dtype);
          }
          free_arrays();
        }
}

EVERYWHERE(reduce_of_odd_numbers) {
  for (int64_t inner = 1; inner <= 3; inner += 2) {
    void *x = numbers(50 * inner, dtype), *y = array(inner, dtype);
    int32_t at[3];
    for (int64_t j = 0; j < inner; j++) put(x, dtype, 20 * inner + j, NAN);
    cft_reduce_args a = {y, x, 1, 50, inner, 1, CFT_MAXIMUM, 0, dtype, dtype};
    RUN(reduce, a);
    for (int64_t j = 0; j < inner; j++) EXPECT(isnan(get(y, dtype, j)));  // not passed by
    for (int64_t i = 0; i < 50 * inner; i++) put(x, dtype, i, NAN);
    a.f = CFT_ARGMAX, a.y = at, a.y_dtype = CFT_I32;
    RUN(reduce, a);
    for (int64_t j = 0; j < inner; j++) EXPECT_INT(at[j], 0);
    for (int64_t i = 0; i < 50 * inner; i++) put(x, dtype, i, -INFINITY);
    RUN(reduce, a);
    for (int64_t j = 0; j < inner; j++) EXPECT_INT(at[j], 0);
    a.f = CFT_SUM;
    EXPECT_FAILS(kernels->reduce(cpu, NULL, &a), CFT_E_UNSUPPORTED, "y in i32");
    a.f = (cft_reduction)9;
    EXPECT_FAILS(kernels->reduce(cpu, NULL, &a), CFT_E_ARG, "9");
  }
}

// The sum of a million numbers keeps all but a few bits, whatever is added first.
EVERYWHERE(long_sums_are_exact) {
  int64_t n = 1 << 20;
  void *x = numbers(n, dtype);
  double sum[2] = {0, 0}, y[2];
  for (int64_t i = 0; i < n; i++) {
    put(x, dtype, i, get(x, dtype, i) + 2);
    sum[i % 2] += get(x, dtype, i);
  }
  cft_dtype t = sum_dtype(dtype);
  RUN(reduce, (cft_reduce_args){y, x, 1, n, 1, 1, CFT_SUM, 0, dtype, t});
  EXPECT(fabs(get(y, t, 0) / (sum[0] + sum[1]) - 1) < 1e-6);
  RUN(reduce, (cft_reduce_args){y, x, 1, n / 2, 2, 1, CFT_SUM, 0, dtype, t});
  for (int j = 0; j < 2; j++) EXPECT(fabs(get(y, t, j) / sum[j] - 1) < 1e-6);
}

EVERYWHERE(sum_squares_and_clip) {
  static const int64_t sizes[] = {0, 1, 1000, 70001, 3000001};
  for (int size = 0; size < 5; size++) {
    int64_t n = sizes[size];
    void *x = numbers(n, dtype);
    double out = 3, want = 3;
    RUN(sum_squares, (cft_sum_squares_args){&out, x, n, 0.5, dtype});
    note(&out, sizeof out);
    for (int64_t i = 0; i < n; i++) want += 0.5 * get(x, dtype, i) * get(x, dtype, i);
    EXPECT_CLOSE(out, want, 1e-12);
    free_arrays();
  }
  float huge[2] = {1e30f, -1e30f};  // squares beyond f32
  double out = 0;
  RUN(sum_squares, (cft_sum_squares_args){&out, huge, 2, 1, CFT_F32});
  EXPECT_CLOSE(out, 2e60, 1e-6);
  float clip[2];
  const struct {
    double sum, scale, max, factor, norm;
  } cases[] = {
      {16, 0.5, 1, 0.5 / (2 + 1e-6), 2},
      {16, 0.5, 3, 0.5, 2},
      {16, 0.5, 0, 0.5, 2},
      {0, 1, 1, 1, 0},
      {INFINITY, 1, 1, NAN, INFINITY},
      {INFINITY, 1, 0, NAN, INFINITY},
      {NAN, 1, 1, NAN, NAN},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    RUN(clip_scale, (cft_clip_args){clip, &cases[i].sum, cases[i].scale, cases[i].max});
    EXPECT_NEAR(clip, 0, cases[i].factor, 0, CFT_F32, CFT_F32);
    EXPECT_NEAR(clip, 1, cases[i].norm, 0, CFT_F32, CFT_F32);
  }
}

TEST_MAIN()
