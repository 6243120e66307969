// adamw.cpp - the update, and what clips it: the sum of squares and the factor.
#include <cmath>

#include "cases.h"

static void adamw(int64_t n, cft_dtype t, cft_dtype gt, cft_dtype st, bool master, bool scaled,
                  int64_t offset = 0) {
  kernel_case c(text("adamw %ld %s, gradient %s, moments %s%s%s%s", (long)n, name(t), name(gt),
                     name(st), master ? ", master" : "", scaled ? ", scaled" : "",
                     offset ? ", unaligned" : ""));
  doubles v0 = values(n, 4, 1e-3);
  for (double &v : v0) v = fabs(v);
  // Stochastic rounding: a sum that is off in the last place may go the other way.
  const tolerance rounded = {0x1p-7, 1e-6}, f32 = {1e-5, 1e-7};
  const int p0 = c.inout(values(n, 1), t, t == CFT_BF16 ? rounded : f32, offset),
            w = master ? c.inout(values(n, 1), CFT_F32, f32) : -1, g = c.in(values(n, 2), gt),
            m = c.inout(values(n, 3, 0.1), st, st == CFT_BF16 ? rounded : f32),
            v = c.inout(v0, st, st == CFT_BF16 ? rounded : f32),
            scale = scaled ? c.in({0.37}, CFT_F32) : -1;
  c.check([&](device dev, const pointers &p) {
    const cft_adamw_args a = {p(p0), p(w), p(m), p(v), p(g), (float *)p(scale),
                              n,     1e-2, 0.9,  0.95, 1e-8, 0.1,
                              7,     42,   t,    gt,   st, nullptr};
    return dev->kernels->adamw(dev, nullptr, &a);
  });
}

// A factor that is NaN, as clip_scale makes it of a gradient that is no number: nothing changes.
static void adamw_of_no_number(cft_dtype t) {
  constexpr int64_t n = 1003;
  kernel_case c(text("adamw of a gradient that is no number, %s", name(t)));
  doubles grad = values(n, 2);
  grad[17] = NAN;
  const int p0 = c.inout(values(n, 1), t, exact()), g = c.in(grad, CFT_F32),
            m = c.inout(values(n, 3), t, exact()), v = c.inout(values(n, 4), t, exact()),
            scale = c.in({NAN}, CFT_F32);
  const auto call = [&](device dev, const pointers &p) {
    const cft_adamw_args a = {p(p0), nullptr, p(m), p(v), p(g), (float *)p(scale),
                              n,     1e-2,    0.9,  0.95, 1e-8, 0.1,
                              7,     42,      t,    CFT_F32, t,    nullptr};
    return dev->kernels->adamw(dev, nullptr, &a);
  };
  c.check(call);
  if (wanted("adamw") && c.on_cpu(call, p0) != loaded(stored(values(n, 1), t), t))
    report(false, "adamw of a gradient that is no number: the CPU changed weights");
}

// One value that is no finite number, in weights, m or v, or none: the flag says so.
static void adamw_says_what_is_not_finite(cft_dtype t, cft_dtype st, int which, int64_t offset) {
  constexpr int64_t n = 1003;
  kernel_case c(text("adamw with %s not finite, %s, moments %s%s",
                     which < 0 ? "nothing" : which == 0 ? "a weight" : which == 1 ? "an m" : "a v", name(t),
                     name(st), offset ? ", unaligned" : ""));
  doubles weights = values(n, 1), mean = values(n, 3, 0.1), square(n, 1e-3);
  if (which == 0) weights[1002] = INFINITY;
  if (which == 1) mean[500] = -INFINITY;
  if (which == 2) square[3] = NAN;
  const tolerance loose = {0.1, 0.1};
  const int p0 = c.inout(weights, t, loose, offset), g = c.in(values(n, 2), CFT_F32),
            m = c.inout(mean, st, loose, offset), v = c.inout(square, st, loose, offset),
            flag = c.inout({0}, CFT_F32, exact());
  const auto call = [&](device dev, const pointers &p) {
    const cft_adamw_args a = {p(p0), nullptr, p(m), p(v), p(g), nullptr, n,  1e-2,         0.9,
                              0.95,  1e-8,    0.1,  7,    42,   t,       CFT_F32, st, (float *)p(flag)};
    return dev->kernels->adamw(dev, nullptr, &a);
  };
  c.check(call);
  if (wanted("adamw") && c.on_cpu(call, flag)[0] != (which >= 0))
    report(false, "adamw: the CPU's flag is wrong");
}

// Each parameter takes the way that chance decides, and on the whole they go where they should.
static void adamw_has_no_bias() {
  const std::string what = "adamw bf16, stochastic rounding: thirty small steps move as far as they should";
  if (!wanted(what)) return;
  constexpr int64_t n = 4099;
  const doubles start = values(n, 1), g = values(n, 2);
  cft_device *d = the_world.gpu;
  const std::vector<char> p0 = stored(start, CFT_BF16), g0 = stored(g, CFT_F32),
                          zeros((size_t)n * 4);
  void *p, *m, *v, *dg;
  cft_status st = CFT_OK;
  for (auto [at, from] : {std::pair{&p, &p0}, {&m, &zeros}, {&v, &zeros}, {&dg, &g0}})
    if (!st && !(st = d->alloc(d, at, from->size(), CFT_MEM_OTHER)))
      st = d->upload(d, nullptr, *at, from->data(), from->size());
  for (int64_t step = 1; step <= 30 && !st; step++) {
    const cft_adamw_args a = {p,     nullptr, m, v,    dg, nullptr,  n,       1e-4,   0.9,
                              0.999, 1e-8,    0, step, 99, CFT_BF16, CFT_F32, CFT_F32, nullptr};
    st = d->kernels->adamw(d, nullptr, &a);
  }
  std::vector<char> got(p0.size());
  if (!st) st = d->download(d, nullptr, got.data(), p, got.size());
  const doubles before = loaded(p0, CFT_BF16), after = loaded(got, CFT_BF16);
  double moved = 0;
  for (size_t i = 0; i < before.size(); i++) moved += (before[i] - after[i]) * (g[i] > 0 ? 1 : -1);
  moved /=
      30 * 1e-4 * (double)n;  // AdamW's step is the learning rate where the gradient is constant
  d->free(d, p, p0.size(), CFT_MEM_OTHER);
  for (void *q : {m, v, dg}) d->free(d, q, zeros.size(), CFT_MEM_OTHER);
  report(!st && fabs(moved - 1) < 0.05, what, text("%.3f of it", moved));
}

static void sum_squares(int64_t n, cft_dtype t, double scale, int64_t offset = 0) {
  kernel_case c(
      text("sum_squares %ld %s to %g%s", (long)n, name(t), scale, offset ? " unaligned" : ""));
  const int x = c.in(values(n, 1, scale), t, offset), out = c.inout({1.25}, CFT_F64, {1e-12, 0});
  c.check([&](device dev, const pointers &p) {
    const cft_sum_squares_args a = {(double *)p(out), p(x), n, 0.5, t};
    return dev->kernels->sum_squares(dev, nullptr, &a);
  });
}

static void clip(double sum, double scale, double most) {
  kernel_case c(text("clip_scale of %g by %g to %g", sum, scale, most));
  const int s = c.in({sum}, CFT_F64), out = c.out(2, CFT_F32, {1e-6, 0});
  c.check([&](device dev, const pointers &p) {
    const cft_clip_args a = {(float *)p(out), (double *)p(s), scale, most};
    return dev->kernels->clip_scale(dev, nullptr, &a);
  });
}

CASES(adamw) {
  adamw(1003, CFT_F32, CFT_F32, CFT_F32, false, true);
  adamw(1003, CFT_BF16, CFT_BF16, CFT_F32, true, true);
  adamw(1003, CFT_BF16, CFT_BF16, CFT_BF16, false, false);
  adamw(1003, CFT_BF16, CFT_F32, CFT_BF16, true, true);
  adamw(67, CFT_BF16, CFT_F32, CFT_F32, false, true, 1);
  adamw(1, CFT_F32, CFT_BF16, CFT_F32, false, false);
  adamw_of_no_number(CFT_F32);
  adamw_of_no_number(CFT_BF16);
  adamw_has_no_bias();
  for (int which = -1; which < 3; which++) {
    adamw_says_what_is_not_finite(CFT_F32, CFT_F32, which, 0);
    adamw_says_what_is_not_finite(CFT_BF16, CFT_BF16, which, which & 1);
  }
  for (cft_dtype t : FLOATS) {
    sum_squares(1003, t, 1);
    sum_squares(40000, t, 1e25);
    sum_squares(1000, t, 1, 1);
  }
  if (!quick) sum_squares(5000000, CFT_BF16, 1);  // stretches longer than the shortest
  clip(16, 0.5, 1);
  clip(16, 0.5, 100);
  clip(16, 0.5, 0);
  clip(0, 1, 1);
  clip(NAN, 1, 1);
  clip(INFINITY, 1, 1);
  clip(INFINITY, 1, 0);
}
