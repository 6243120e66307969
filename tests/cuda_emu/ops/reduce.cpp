// reduce.cpp - sums, extremes, arg max.
#include <cmath>

#include "cases.h"

static void reduce(cft_reduction f, int64_t outer, int64_t mid, int64_t inner, cft_dtype t,
                   cft_dtype yt, bool beta, bool nan = false, int64_t offset = 0) {
  kernel_case c(text("reduce %d of (%ld, %ld, %ld) %s->%s%s%s", (int)f, (long)outer, (long)mid,
                     (long)inner, name(t), name(yt), beta ? " beta" : "", nan ? " nan" : ""));
  doubles x = values(outer * mid * inner, 1);
  if (f == CFT_ARGMAX)
    for (double &v : x) v = floor(v * 20);  // with equals
  if (nan)
    for (size_t i = 0; i < x.size(); i += 3) x[i] = NAN;
  const double many = sqrt((double)mid + 1);
  const tolerance tol = f == CFT_ARGMAX  ? exact()
                        : yt == CFT_BF16 ? tolerance{0x1p-7, 1e-3}
                                         : tolerance{1e-5, 1e-6 * many};
  const int64_t results = outer * inner;
  const int from = c.in(x, t, offset),
            y = beta ? c.inout(values(results, 2), yt, tol) : c.out(results, yt, tol);
  c.check([&](device dev, const pointers &p) {
    const cft_reduce_args a = {p(y), p(from), outer, mid, inner, f == CFT_ARGMAX ? 1 : 0.5,
                               f,    beta,    t,     yt};
    return dev->kernels->reduce(dev, nullptr, &a);
  });
}

CASES(reduce) {
  const cft_reduction all[] = {CFT_SUM, CFT_MAXIMUM, CFT_ARGMAX, CFT_SUM_SQUARES};
  for (cft_dtype t : FLOATS)
    for (cft_reduction f : all) {
      const cft_dtype yt = f == CFT_ARGMAX ? CFT_I32 : t,
                      wide = f == CFT_ARGMAX ? CFT_I32 : CFT_F32;
      reduce(f, 5, 67, 1, t, yt, false);
      reduce(f, 3, 16, 40, t, wide, f != CFT_ARGMAX);
      reduce(f, 2, 150, 9, t, yt, false, f == CFT_MAXIMUM || f == CFT_ARGMAX);
      reduce(f, 1, 20000, 1, t, wide, false);  // several blocks a row
      if (quick) continue;
      reduce(f, 2, 3000, 1, t, yt, false, false, 1);
      reduce(f, 1, 300, 24, t, yt, false);  // several stretches a column
      reduce(f, 1, 300, 67, t, wide, false);
      reduce(f, 4, 1, 5, t, yt, false);
      if (f != CFT_ARGMAX) reduce(f, 3, 0, 2, t, yt, false);
    }
}
