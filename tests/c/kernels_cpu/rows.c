// rows.c - rows picked and put back, and strided copies: any dtype.
#include "harness.h"

ANYWHERE(rows) {
  (void)dtype;
  static const int64_t shapes[][2] = {{0, 3}, {1, 1}, {5, 7}, {130, 300}};
  for (int type = 0; type < 7; type++)
    for (int shape = 0; shape < 4; shape++) {
      cft_dtype t = ALL_TYPES[type];
      size_t size = cft_dtype_bytes(t);
      int64_t n = shapes[shape][0], d = shapes[shape][1], rows = 2 * n + 1, wide = d + 3;
      int32_t *index = array(n, CFT_I32);
      for (int64_t i = 0; i < n; i++)
        index[i] = (int32_t)((i * 2 + 5) % rows);  // distinct: rows is odd
      uint8_t *big = array(rows * wide, t), *small = array(n * d, t);
      for (size_t i = 0; i < (size_t)(rows * wide) * size; i++) big[i] = (uint8_t)below(120);
      RUN(gather_rows, (cft_rows_args){small, big, index, n, d, d, wide, 0, t});
      for (int64_t i = 0; i < n; i++)
        EXPECT(!memcmp(small + (size_t)(i * d) * size, big + (size_t)(index[i] * wide) * size,
                       (size_t)d * size));
      note(small, (size_t)(n * d) * size);
      for (size_t i = 0; i < (size_t)(n * d) * size; i++) small[i] = (uint8_t)below(120);
      uint8_t *before = copied(big, rows * wide, t);
      RUN(scatter_rows, (cft_rows_args){big, small, index, n, d, wide, d, 0, t});
      for (int64_t i = 0; i < n; i++) {
        EXPECT(!memcmp(small + (size_t)(i * d) * size, big + (size_t)(index[i] * wide) * size,
                       (size_t)d * size));
        memcpy(big + (size_t)(index[i] * wide) * size, before + (size_t)(index[i] * wide) * size,
               (size_t)d * size);
      }
      EXPECT(!memcmp(big, before, (size_t)(rows * wide) * size));  // nothing else was touched
      free_arrays();
    }
}

EVERYWHERE(scatter_adds) {
  int64_t n = 130, d = 300, rows = 261;
  int32_t *index = array(n, CFT_I32);
  for (int64_t i = 0; i < n; i++) index[i] = (int32_t)((i * 2 + 5) % rows);
  void *y = numbers(rows * d, dtype), *x = numbers(n * d, dtype),
       *before = copied(y, rows * d, dtype);
  RUN(scatter_rows, (cft_rows_args){y, x, index, n, d, d, d, 1, dtype});
  note(y, (size_t)(rows * d) * cft_dtype_bytes(dtype));
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < d; j++) {
      int64_t at = index[i] * d + j;
      EXPECT_NEAR(y, at, get(before, dtype, at) + get(x, dtype, i * d + j), 2, dtype, dtype);
      put(before, dtype, at, get(y, dtype, at));
    }
  EXPECT(!memcmp(y, before, (size_t)(rows * d) * cft_dtype_bytes(dtype)));
  EXPECT_FAILS(
      kernels->scatter_rows(cpu, NULL, &(cft_rows_args){y, x, index, 1, 1, 1, 1, 1, CFT_U8}),
      CFT_E_UNSUPPORTED, "adds u8");
}

ANYWHERE(strided_copy) {
  (void)dtype;
  // dims, and the order in which x's memory runs through them
  static const struct {
    int ndim;
    int64_t dims[6];
    int order[6];
  } cases[] = {
      {0, {0}, {0}},
      {1, {7}, {0}},
      {2, {5, 9}, {0, 1}},
      {2, {67, 45}, {1, 0}},
      {2, {300, 200}, {1, 0}},
      {3, {4, 70, 33}, {1, 0, 2}},
      {3, {3, 1, 5}, {2, 1, 0}},
      {3, {3, 0, 5}, {2, 1, 0}},
      {4, {3, 5, 7, 11}, {2, 0, 3, 1}},
      {6, {2, 3, 4, 3, 2, 5}, {5, 3, 1, 0, 2, 4}},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
    for (int type = 0; type < 7; type++)
      for (int broadcast = 0; broadcast < 2; broadcast++) {
        cft_dtype t = ALL_TYPES[type];
        size_t size = cft_dtype_bytes(t);
        cft_strided_args a = {.ndim = cases[k].ndim, .dtype = t};
        int64_t total = 1, step = 1;
        for (int i = a.ndim - 1; i >= 0; i--) {
          a.dims[i] = cases[k].dims[i];
          a.y_strides[i] = total;
          total *= a.dims[i];
        }
        for (int i = a.ndim - 1; i >= 0; i--) {
          int at = cases[k].order[i];
          a.x_strides[at] = step;
          step *= a.dims[at];
        }
        if (broadcast && a.ndim > 0) a.x_strides[a.ndim - 1] = 0;
        uint8_t *x = array(total, t), *y = array(total, t);
        for (size_t i = 0; i < (size_t)total * size; i++) x[i] = (uint8_t)below(256);
        a.x = x, a.y = y;
        RUN(strided_copy, a);
        note(y, (size_t)total * size);
        for (int64_t i = 0; i < total; i++) {
          int64_t rest = i, at = 0;
          for (int m = a.ndim - 1; m >= 0; m--) {
            at += rest % a.dims[m] * a.x_strides[m];
            rest /= a.dims[m];
          }
          EXPECT(!memcmp(y + (size_t)i * size, x + (size_t)at * size, size));
        }
        free_arrays();
      }
}

ANYWHERE(strided_copy_into_a_view) {
  (void)dtype;
  float *y = constant(6 * 100, CFT_F32, 5), *x = numbers(2 * 50, CFT_F32);
  RUN(strided_copy, (cft_strided_args){y, x, 2, {2, 50}, {300, 2}, {50, 1}, CFT_F32});
  for (int64_t i = 0; i < 600; i++) {
    int64_t row = i / 300, column = i % 300 / 2;
    float want = i % 2 == 0 && column < 50 ? x[row * 50 + column] : 5;
    EXPECT(y[i] == want);
  }
}

TEST_MAIN()
