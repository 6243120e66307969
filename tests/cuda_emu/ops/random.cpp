// random.cpp - Philox and its two distributions.
#include "cases.h"

static void random_numbers(cft_distribution f, int64_t n, cft_dtype t, int64_t offset = 0) {
  kernel_case c(text("random %s %ld %s%s", f == CFT_UNIFORM ? "uniform" : "normal", (long)n,
                     name(t), offset ? " unaligned" : ""));
  const int y = c.out(n, t, rounding(t, t == CFT_BF16 ? 4e-3 : 2e-5), offset);
  c.check([&](device dev, const pointers &p) {
    const cft_random_args a = {p(y), n, 0x123456789abcdef, 1ull << 40, -2, 3, f, t};
    return dev->kernels->random(dev, nullptr, &a);
  });
}

CASES(random) {
  for (cft_dtype t : FLOATS) {
    random_numbers(CFT_UNIFORM, 1003, t);
    random_numbers(CFT_NORMAL, quick ? 67 : 4000, t, 1);
    random_numbers(CFT_NORMAL, 64, t);
  }
}
