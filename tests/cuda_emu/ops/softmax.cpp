// softmax.cpp - softmax over rows and its gradient.
#include "cases.h"

static void softmax(int64_t n, int64_t d, cft_dtype t, double scale, bool beta) {
  kernel_case f(text("softmax_fwd (%ld, %ld) %s", (long)n, (long)d, name(t)));
  const int x = f.in(values(n * d, 1, scale), t), y = f.out(n * d, t, rounding(t, 1e-7));
  f.check([&](device dev, const pointers &p) {
    const cft_softmax_args a = {p(y), p(x), n, d, t};
    return dev->kernels->softmax_fwd(dev, nullptr, &a);
  });
  kernel_case c(
      text("softmax_bwd (%ld, %ld) %s%s", (long)n, (long)d, name(t), beta ? " beta" : ""));
  const tolerance tol = rounding(t, t == CFT_BF16 ? 4e-3 : 1e-5);
  const int dy = c.in(values(n * d, 2), t), by = c.in(values(n * d, 3), t),
            dx = beta ? c.inout(values(n * d, 4), t, tol) : c.out(n * d, t, tol);
  c.check([&](device dev, const pointers &p) {
    const cft_softmax_bwd_args a = {p(dx), p(dy), p(by), n, d, beta, t};
    return dev->kernels->softmax_bwd(dev, nullptr, &a);
  });
}

CASES(softmax) {
  for (cft_dtype t : FLOATS) {
    softmax(5, 67, t, 3, false);
    softmax(3, 1, t, 1, true);
    softmax(2, 1003, t, 100, true);
  }
}
