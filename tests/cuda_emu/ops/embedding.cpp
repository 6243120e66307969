// embedding.cpp - rows of a table by id, and their gradient.
#include "cases.h"

static void embedding(int64_t n, int64_t d, int64_t rows, cft_dtype t, cft_dtype dt) {
  const auto ids = ids_of(n, rows, 5);
  if (dt == t) {
    kernel_case c(
        text("embedding_fwd %ld of (%ld, %ld) %s", (long)n, (long)rows, (long)d, name(t)));
    const int table = c.in(values(rows * d, 1), t), i = c.ints(ids), y = c.out(n * d, t, exact());
    c.check([&](device dev, const pointers &p) {
      const cft_embedding_args a = {p(y), p(table), (int32_t *)p(i), n, d, rows, t};
      return dev->kernels->embedding_fwd(dev, nullptr, &a);
    });
  }
  kernel_case c(text("embedding_bwd %ld of (%ld, %ld) %s->%s", (long)n, (long)rows, (long)d,
                     name(t), name(dt)));
  // The CPU rounds at each addition to a bf16 table, the GPU once.
  const double many = (double)n / (double)rows + 2;
  const tolerance tol = dt == CFT_BF16 ? tolerance{0x1p-7 * many, 0x1p-8 * many * many}
                                       : tolerance{1e-5, 1e-5 * many};
  const int dy = c.in(values(n * d, 2), t), i = c.ints(ids),
            table = c.inout(values(rows * d, 3), dt, tol);
  c.check([&](device dev, const pointers &p) {
    const cft_embedding_bwd_args a = {p(table), p(dy), (int32_t *)p(i), n, d, rows, t, dt};
    return dev->kernels->embedding_bwd(dev, nullptr, &a);
  });
}

CASES(embedding) {
  for (cft_dtype t : FLOATS) {
    embedding(17, 67, 40, t, t);
    embedding(5, 64, 7, t, CFT_F32);
    embedding(300, 8, 3, t, t);
    if (quick) continue;
    embedding(600, 1, 1, t, CFT_F32);  // all the same id
    embedding(3, 2056, 2, t, t);       // more columns than a block takes
    embedding(0, 8, 4, t, t);
  }
}
