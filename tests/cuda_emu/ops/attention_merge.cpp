// attention_merge.cpp - two results over two sets of keys, as one.
#include "cases.h"

// The sums are those of rows that saw no key on one side, on the other, on both, and of a side that
// weighs nothing beside the other.
static void attention_merge(int64_t n, int64_t H, int64_t D, int64_t gap, cft_dtype t) {
  kernel_case c(text("attention_merge %ld rows, %ld heads of %ld%s, %s", (long)n, (long)H, (long)D,
                     gap ? " strided" : "", name(t)));
  const int64_t stride = H * D + gap;
  doubles first = values(n * H, 3, 4), second = values(n * H, 4, 4);
  doubles mine = values(n * stride, 1);
  for (int64_t i = 0; i < n * H; i++) {
    if (i % 5 == 1) first[(size_t)i] = -INFINITY;
    if (i % 7 == 2) second[(size_t)i] = -INFINITY;
    if (i % 11 == 3) first[(size_t)i] = -300;
  }
  const int o2 = c.in(values(n * H * D, 2), t), lse2 = c.in(second, CFT_F32),
            o = c.inout(mine, t, rounding(t, 1e-5)), lse = c.inout(first, CFT_F32, {1e-5, 1e-5});
  c.check([&](device dev, const pointers &p) {
    const cft_attention_merge_args a = {p(o), p(lse), p(o2), p(lse2), n, H, D, stride, H * D, t};
    return dev->kernels->attention_merge(dev, nullptr, &a);
  });
}

CASES(attention_merge) {
  for (cft_dtype t : FLOATS) {
    attention_merge(1, 1, 1, 0, t);
    attention_merge(9, 3, 5, 0, t);
    attention_merge(13, 2, 64, 8, t);
    attention_merge(5, 4, 128, 0, t);
    attention_merge(7, 1, 264, 3, t);  // more than a warp takes at once, no wide access
    attention_merge(0, 2, 8, 0, t);
  }
}
