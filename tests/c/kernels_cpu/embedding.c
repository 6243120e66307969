// embedding.c - rows of a table by id, and their gradient.
#include "harness.h"

EVERYWHERE(embedding) {
  static const int64_t shapes[][3] = {{0, 3, 5}, {1, 1, 1}, {9, 7, 4}, {200, 300, 11}};
  for (int shape = 0; shape < 4; shape++)
    for (int wide = 0; wide <= (dtype == CFT_BF16); wide++) {
      int64_t n = shapes[shape][0], d = shapes[shape][1], rows = shapes[shape][2];
      cft_dtype t = wide ? CFT_F32 : dtype;
      size_t size = cft_dtype_bytes(dtype);
      int32_t *ids = array(n, CFT_I32);
      for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)below(rows);
      uint8_t *table = numbers(rows * d, dtype), *y = output(n * d, dtype, 0);
      RUN(embedding_fwd, (cft_embedding_args){y, table, ids, n, d, rows, dtype});
      for (int64_t i = 0; i < n; i++)
        EXPECT(!memcmp(y + (size_t)(i * d) * size, table + (size_t)(ids[i] * d) * size,
                       (size_t)d * size));

      void *dy = numbers(n * d, dtype), *dtable = numbers(rows * d, t);
      double *want = array(rows * d, CFT_F64);
      for (int64_t i = 0; i < rows * d; i++) want[i] = get(dtable, t, i);
      for (int64_t i = 0; i < n * d; i++) {  // rounded after each addition, in order
        double *w = want + ids[i / d] * d + i % d;
        *w += get(dy, dtype, i);
        if (t == CFT_BF16) *w = nearest(*w, 7, -126, 0x1.fep127);
      }
      RUN(embedding_bwd, (cft_embedding_bwd_args){dtable, dy, ids, n, d, rows, dtype, t});
      note(dtable, (size_t)(rows * d) * cft_dtype_bytes(t));
      for (int64_t i = 0; i < rows * d; i++) EXPECT_CLOSE(get(dtable, t, i), want[i], 0);
      cft_embedding_bwd_args wrong = {dtable, dy, ids, n, d, rows, dtype, CFT_U8};
      EXPECT_FAILS(kernels->embedding_bwd(cpu, NULL, &wrong), CFT_E_UNSUPPORTED, "dtable in u8");
      free_arrays();
    }
}

TEST_MAIN()
