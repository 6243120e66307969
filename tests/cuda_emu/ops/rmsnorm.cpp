// rmsnorm.cpp - rmsnorm and its gradient.
#include <cmath>

#include "cases.h"

static void rmsnorm(int64_t n, int64_t d, cft_dtype t, bool residual, int64_t offset = 0,
                    double scale = 1) {
  kernel_case c(text("rmsnorm_fwd (%ld, %ld) %s%s%s", (long)n, (long)d, name(t),
                     residual ? " residual" : "", offset ? " unaligned" : ""));
  const int x = c.in(values(n * d, 1, scale), t, offset), w = c.in(values(d, 2), t),
            r = residual ? c.in(values(n * d, 3, scale), t) : -1,
            y = c.out(n * d, t, rounding(t, 1e-5)),
            sum = residual ? c.out(n * d, t, rounding(t)) : -1, rstd = c.out(n, CFT_F32, {1e-5, 0});
  c.check([&](device dev, const pointers &p) {
    const cft_rmsnorm_args a = {p(y), p(sum), p(rstd), p(x), p(r), p(w), n, d, 1e-6, t};
    return dev->kernels->rmsnorm_fwd(dev, nullptr, &a);
  });
}

static void rmsnorm_bwd(int64_t n, int64_t d, cft_dtype t, cft_dtype wt, bool beta, bool dsum,
                        bool wants_dw, int64_t offset = 0) {
  kernel_case c(text("rmsnorm_bwd (%ld, %ld) %s, dw %s%s%s%s", (long)n, (long)d, name(t),
                     wants_dw ? name(wt) : "none", beta ? " beta" : "", dsum ? " dsum" : "",
                     offset ? " unaligned" : ""));
  const double many = sqrt((double)n + 1);
  const int dy = c.in(values(n * d, 1), t, offset), s = c.in(values(n * d, 2), t),
            w = c.in(values(d, 3), t), ds_in = dsum ? c.in(values(n * d, 4), t) : -1,
            rstd = c.in(doubles((size_t)n, 1.7), CFT_F32);
  const tolerance tol = rounding(t, t == CFT_BF16 ? 0.02 : 2e-5),
                  tol_w = rounding(wt, (wt == CFT_BF16 ? 0.01 : 2e-6) * many);
  const int ds = beta ? c.inout(values(n * d, 5), t, tol) : c.out(n * d, t, tol);
  const int dw = !wants_dw ? -1 : beta ? c.inout(values(d, 6), wt, tol_w) : c.out(d, wt, tol_w);
  c.check([&](device dev, const pointers &p) {
    const cft_rmsnorm_bwd_args a = {p(ds), p(dw), p(dy), p(s), p(w), p(rstd), p(ds_in),
                                    n,     d,     beta,  beta, t,    wt};
    return dev->kernels->rmsnorm_bwd(dev, nullptr, &a);
  });
}

CASES(rmsnorm) {
  for (cft_dtype t : FLOATS) {
    rmsnorm(3, 1, t, false);
    rmsnorm(17, 67, t, true);
    rmsnorm(5, 512, t, true);
    rmsnorm(5, 512, t, false, 1);
    rmsnorm(2, 4104, t, true);           // one pack a thread is not enough
    rmsnorm(2, 8200, t, true);           // nor are registers
    rmsnorm(4, 33, t, false, 0, 1e-20);  // eps wins over the mean square
    rmsnorm(0, 16, t, false);
    rmsnorm_bwd(17, 67, t, t, false, true, true);
    rmsnorm_bwd(5, 512, t, CFT_F32, true, true, true);
    rmsnorm_bwd(5, 512, t, t, false, false, false);
    rmsnorm_bwd(0, 9, t, t, false, false, true);
    if (quick) continue;
    rmsnorm_bwd(3, 1, t, t, false, false, true);
    rmsnorm_bwd(5, 512, t, t, false, false, true, 1);
    rmsnorm_bwd(2, 4104, t, t, false, true, true);
    rmsnorm_bwd(3, 8200, t, CFT_F32, false, true, true);
    rmsnorm_bwd(270, 520, t, t, true, false, true);  // more rows than blocks
  }
}
