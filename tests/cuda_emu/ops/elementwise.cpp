// elementwise.cpp - functions of one number and of two, axpby, fills.
#include <cmath>

#include "cases.h"

static void unary(cft_unary f, int64_t n, cft_dtype t, bool beta, int64_t offset = 0) {
  kernel_case c(text("unary %d of %ld %s%s%s", (int)f, (long)n, name(t), beta ? " beta" : "",
                     offset ? " unaligned" : ""));
  doubles x = values(n, 1, 3);
  if (f == CFT_LOG || f == CFT_SQRT || f == CFT_RSQRT)
    for (double &v : x) v = fabs(v) + 0.01;
  if (n > 8 && f == CFT_SIN) x[3] = 50000;
  if (n > 8) x[5] = 0, x[6] = NAN;
  const tolerance tol = rounding(t, t == CFT_BF16 ? 4e-3 : 2e-6);
  const int from = c.in(x, t, offset),
            y = beta ? c.inout(values(n, 2), t, tol, offset) : c.out(n, t, tol, offset);
  c.check([&](device dev, const pointers &p) {
    const cft_unary_args a = {p(y), p(from), n, f, 1.5, beta, t};
    return dev->kernels->unary(dev, nullptr, &a);
  });
}

static void binary(cft_binary f, int64_t n, int64_t d, int64_t b_rows, int64_t b_cols, cft_dtype t,
                   bool beta, int64_t offset = 0) {
  kernel_case c(text("binary %d of (%ld, %ld), b by (%ld, %ld) %s%s%s", (int)f, (long)n, (long)d,
                     (long)b_rows, (long)b_cols, name(t), beta ? " beta" : "",
                     offset ? " unaligned" : ""));
  doubles a = values(n * d, 1, 2), b = values((n - 1) * b_rows + (d - 1) * b_cols + 1, 2, 2);
  for (double &v : b) v += v < 0 ? -0.25 : 0.25;
  if (f == CFT_POW)
    for (double &v : a) v = fabs(v) + 0.1;
  if (a.size() > 8 && (f == CFT_MAX || f == CFT_MIN)) a[4] = NAN;
  const tolerance tol = rounding(t, t == CFT_BF16 ? 8e-3 : 3e-6);
  const int pa = c.in(a, t, offset), pb = c.in(b, t, offset),
            y = beta ? c.inout(values(n * d, 3), t, tol) : c.out(n * d, t, tol, offset);
  c.check([&](device dev, const pointers &p) {
    const cft_binary_args args = {p(y), p(pa), p(pb), n, d, b_rows, b_cols, f, beta, t};
    return dev->kernels->binary(dev, nullptr, &args);
  });
}

static void axpby(int64_t n, cft_dtype t, cft_dtype yt, double beta, int64_t offset = 0) {
  kernel_case c(text("axpby %ld %s->%s, beta %g%s", (long)n, name(t), name(yt), beta,
                     offset ? " unaligned" : ""));
  const tolerance tol = rounding(yt, yt == CFT_BF16 ? 4e-3 : 1e-6);
  const int x = c.in(values(n, 1), t, offset),
            y = beta != 0 ? c.inout(values(n, 2), yt, tol) : c.out(n, yt, tol);
  c.check([&](device dev, const pointers &p) {
    const cft_axpby_args a = {p(y), p(x), n, -1.25, beta, t, yt};
    return dev->kernels->axpby(dev, nullptr, &a);
  });
}

static void fill(cft_dtype t, int64_t n, int64_t offset) {
  kernel_case c(text("fill %ld %s%s", (long)n, name(t), offset ? " unaligned" : ""));
  const int y = c.out(n, t, exact(), offset);
  c.check([&](device dev, const pointers &p) {
    const cft_fill_args a = {p(y), n, 3.3, t};
    return dev->kernels->fill(dev, nullptr, &a);
  });
}

CASES(elementwise) {
  for (cft_dtype t : FLOATS) {
    for (int f = CFT_NEG; f <= CFT_STEP; f++) unary((cft_unary)f, quick ? 67 : 1003, t, f % 2);
    unary(CFT_SILU, 1000, t, false, 1);
    unary(CFT_EXP, 0, t, false);
    for (int f = CFT_ADD; f <= CFT_POW; f++) binary((cft_binary)f, 7, 67, 67, 1, t, f % 2);
    binary(CFT_MUL, 5, 64, 0, 1, t, false);  // a row for all
    binary(CFT_MUL, 5, 67, 1, 0, t, true);   // a number for each row
    binary(CFT_MUL, 5, 64, 1, 0, t, false);
    binary(CFT_DIV, 5, 64, 0, 0, t, false);   // one number
    binary(CFT_SUB, 70, 1, 1, 0, t, false);   // a column
    binary(CFT_ADD, 3, 64, 72, 1, t, false);  // rows that lie apart
    binary(CFT_ADD, 3, 64, 67, 1, t, false);  // and allow no wide access
    binary(CFT_ADD, 3, 64, 64, 1, t, false, 1);
    binary(CFT_ADD, 3, 5, 1, 7, t, false);
    axpby(1003, t, t, 0);
    axpby(1003, t, CFT_F32, 0.5);
    axpby(1000, t, t, 1, 1);
  }
  for (cft_dtype t : {CFT_F32, CFT_BF16, CFT_F64, CFT_I32, CFT_I64, CFT_U8}) fill(t, 203, 0);
  fill(CFT_BF16, 203, 1);
}
