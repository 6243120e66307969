// rope.cpp - rotary positions.
#include <cmath>

#include "cases.h"

static void rope(int64_t n, int64_t heads, int64_t D, int64_t gap, bool inverse, bool in_place,
                 cft_dtype t) {
  kernel_case c(text("rope %ld x %ld x %ld %s%s%s%s", (long)n, (long)heads, (long)D, name(t),
                     gap ? " strided" : "", inverse ? " inverse" : "",
                     in_place ? " in place" : ""));
  const int64_t positions = 50, stride = heads * D + gap;
  doubles cosine, sine;
  for (int64_t i = 0; i < positions * (D / 2); i++) {
    const double angle = (double)(i / (D / 2)) * pow(100, -(double)(i % (D / 2)) / (double)D * 2);
    cosine.push_back(cos(angle));
    sine.push_back(sin(angle));
  }
  const tolerance tol = rounding(t, t == CFT_BF16 ? 4e-3 : 1e-6);
  const int x = in_place ? -1 : c.in(values(n * stride, 1), t),
            y = c.inout(values(n * stride, in_place ? 1 : 2), t, tol), cs = c.in(cosine, CFT_F32),
            sn = c.in(sine, CFT_F32), at = c.ints(ids_of(n, positions, 3));
  c.check([&](device dev, const pointers &p) {
    const cft_rope_args a = {p(y),
                             in_place ? p(y) : p(x),
                             p(cs),
                             p(sn),
                             (int32_t *)p(at),
                             n,
                             heads,
                             D,
                             stride,
                             stride,
                             inverse,
                             t};
    return dev->kernels->rope(dev, nullptr, &a);
  });
}

CASES(rope) {
  for (cft_dtype t : FLOATS) {
    rope(3, 1, 2, 0, false, false, t);
    rope(17, 3, 6, 5, true, false, t);
    rope(9, 5, 64, 64, false, true, t);
    if (!quick) rope(5, 9, 128, 0, true, true, t);
  }
}
