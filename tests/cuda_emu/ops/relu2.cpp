// relu2.cpp - max(x, 0)^2 and its gradient.
#include "cases.h"

static void relu2(int64_t n, cft_dtype t, bool beta, int64_t offset = 0) {
  doubles x0 = values(n, 1, 3);
  if (n > 8) x0[5] = 0, x0[6] = NAN;
  const tolerance tol = rounding(t, t == CFT_BF16 ? 4e-3 : 2e-6);
  const std::string what =
      text(" of %ld %s%s%s", (long)n, name(t), beta ? " beta" : "", offset ? " unaligned" : "");
  kernel_case f("relu2_fwd" + what);
  const int fx = f.in(x0, t, offset), y = f.out(n, t, tol, offset);
  f.check([&](device dev, const pointers &p) {
    const cft_relu2_args a = {p(y), p(fx), n, t};
    return dev->kernels->relu2_fwd(dev, nullptr, &a);
  });
  kernel_case c("relu2_bwd" + what);
  const int x = c.in(x0, t, offset), dy = c.in(values(n, 2), t, offset),
            dx = beta ? c.inout(values(n, 3), t, tol, offset) : c.out(n, t, tol, offset);
  c.check([&](device dev, const pointers &p) {
    const cft_relu2_bwd_args a = {p(dx), p(dy), p(x), n, beta, t};
    return dev->kernels->relu2_bwd(dev, nullptr, &a);
  });
}

CASES(relu2) {
  for (cft_dtype t : FLOATS) {
    relu2(1003, t, false);
    relu2(67, t, true);
    relu2(1000, t, false, 1);
    relu2(0, t, false);
  }
}
