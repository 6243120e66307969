// rows.cpp - rows picked and put back.
#include <algorithm>

#include "cases.h"

static std::vector<int32_t> distinct(int64_t n, int64_t rows) {
  std::vector<int32_t> all((size_t)rows);
  for (int64_t i = 0; i < rows; i++) all[(size_t)i] = (int32_t)i;
  for (int64_t i = rows - 1; i > 0; i--)
    std::swap(all[(size_t)i], all[(size_t)((uniform((uint64_t)i, 9) + 1) / 2 * (double)(i + 1))]);
  all.resize((size_t)n);
  return all;
}

static void move_rows(bool gather, bool add, int64_t n, int64_t d, int64_t gap, cft_dtype t,
                      bool in_order = false) {
  kernel_case c(text("%s %ld rows of %ld%s %s%s%s", gather ? "gather" : "scatter", (long)n, (long)d,
                     gap ? " strided" : "", name(t), add ? " add" : "",
                     in_order ? " in order" : ""));
  const int64_t rows = n + 5, stride = d + gap, many = gather ? rows : n, to = gather ? n : rows;
  const int x = c.in(values(many * stride, 1, 100), t),
            i = in_order ? -1 : c.ints(distinct(n, rows)),
            y = c.inout(values(to * stride, 2, 100), t, add ? rounding(t, 1e-6) : exact());
  c.check([&](device dev, const pointers &p) {
    const cft_rows_args a = {p(y), p(x), (int32_t *)p(i), n, d, stride, stride, add, t};
    return gather ? dev->kernels->gather_rows(dev, nullptr, &a)
                  : dev->kernels->scatter_rows(dev, nullptr, &a);
  });
}

CASES(rows) {
  for (cft_dtype t : FLOATS) {
    move_rows(true, false, 13, 67, 0, t);
    move_rows(true, false, 13, 64, 8, t);
    move_rows(false, false, 13, 64, 3, t);
    move_rows(false, true, 13, 64, 0, t);
    move_rows(false, true, 9, 5, 2, t);
    move_rows(false, true, 9, 5, 2, t, true);
    move_rows(false, true, 7, 64, 8, t, true);
    move_rows(true, false, 7, 64, 8, t, true);
  }
  move_rows(true, false, 6, 3, 1, CFT_I32);
  move_rows(true, false, 6, 3, 1, CFT_I64);
  move_rows(false, false, 6, 33, 0, CFT_U8);
}
