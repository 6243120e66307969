// cross_entropy.cpp - the loss and its gradient.
#include "cases.h"

static void cross_entropy(int64_t n, int64_t V, cft_dtype t, cft_dtype gt, double scale,
                          bool wants_grad, bool in_place, int64_t gap = 0) {
  kernel_case c(text("cross_entropy (%ld, %ld) %s->%s, logits to %g%s%s", (long)n, (long)V, name(t),
                     wants_grad ? name(gt) : "none", scale, in_place ? " in place" : "",
                     gap ? " strided" : ""));
  const int64_t stride = V + gap;
  std::vector<int32_t> target;
  doubles weight;
  for (int64_t i = 0; i < n; i++) {
    weight.push_back(i % 3 == 1 ? 0 : 0.5 + (double)(i % 4));
    target.push_back(i % 6 == 1 ? -100 : i % 6 == 4 ? (int32_t)V : (int32_t)(i * 7919 % V));
  }
  const tolerance tol = rounding(gt, gt == CFT_BF16 ? 1e-5 : 1e-6);
  const int x = in_place ? -1 : c.in(values(n * stride, 1, scale), t),
            g = in_place     ? c.inout(values(n * stride, 1, scale), gt, tol)
                : wants_grad ? c.inout(values(n * stride, 2), gt, tol)
                             : -1,
            nll = c.out(n, CFT_F32, {1e-5, 2e-5}), tg = c.ints(target), w = c.in(weight, CFT_F32);
  c.check([&](device dev, const pointers &p) {
    const cft_cross_entropy_args a = {p(nll),
                                      p(g),
                                      in_place ? p(g) : p(x),
                                      (int32_t *)p(tg),
                                      (float *)p(w),
                                      n,
                                      V,
                                      stride,
                                      stride,
                                      0.25,
                                      t,
                                      gt};
    return dev->kernels->cross_entropy(dev, nullptr, &a);
  });
}

CASES(cross_entropy) {
  for (cft_dtype t : FLOATS) {
    cross_entropy(3, 1, t, t, 1, true, false);
    cross_entropy(8, 1003, t, t, 4, true, true);
    cross_entropy(5, 1000, t, t, 300, true, false, 8);
    cross_entropy(7, 67, t, t, 1, false, false, 3);
  }
  cross_entropy(7, 67, CFT_F32, CFT_BF16, 2, true, false, 3);
  cross_entropy(7, 1000, CFT_F32, CFT_BF16, 2, true, false);
  if (!quick) cross_entropy(2, 120008, CFT_BF16, CFT_BF16, 8, true, true);  // beyond what is kept
}
