// swiglu.cpp - silu(gate) * up and its gradient.
#include "cases.h"

// gate_up (n, 2 d) as the layers have it; gap makes rows that allow no wide access.
static void swiglu(int64_t n, int64_t d, int64_t gap, cft_dtype t, bool wants_y, bool in_place) {
  const int64_t two = 2 * d + gap, one = d + gap, up = d * (int64_t)cft_dtype_bytes(t);
  const tolerance tol = rounding(t, 1e-5);
  kernel_case f(
      text("swiglu_fwd (%ld, %ld) %s%s", (long)n, (long)d, name(t), gap ? " strided" : ""));
  const int fx = f.in(values(n * two, 1, 4), t), fy = f.inout(values(n * one, 2), t, tol);
  f.check([&](device dev, const pointers &p) {
    const cft_swiglu_args a = {p(fy), p(fx), (char *)p(fx) + up, n, d, one, two, t};
    return dev->kernels->swiglu_fwd(dev, nullptr, &a);
  });
  kernel_case c(text("swiglu_bwd (%ld, %ld) %s%s%s%s", (long)n, (long)d, name(t),
                     gap ? " strided" : "", wants_y ? " and y" : "", in_place ? " in place" : ""));
  const int dy = c.in(values(n * one, 3), t), x = in_place ? -1 : c.in(values(n * two, 1, 4), t),
            dx = c.inout(values(n * two, in_place ? 1 : 5, 4), t, rounding(t, 2e-5)),
            y = wants_y ? c.inout(values(n * one, 4), t, tol) : -1;
  c.check([&](device dev, const pointers &p) {
    char *from = (char *)(in_place ? p(dx) : p(x)), *to = (char *)p(dx);
    const cft_swiglu_bwd_args a = {to, to + up, p(y), p(dy), from, from + up, n,
                                   d,  two,     one,  two,   one,  t};
    return dev->kernels->swiglu_bwd(dev, nullptr, &a);
  });
}

CASES(swiglu) {
  for (cft_dtype t : FLOATS) {
    swiglu(3, 1, 0, t, true, false);
    swiglu(7, 67, 3, t, false, false);
    swiglu(5, 512, 8, t, true, true);
    if (!quick) swiglu(2, 2600, 0, t, true, false);
  }
}
