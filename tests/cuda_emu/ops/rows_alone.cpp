// rows_alone.cpp - cft_device_set_rows_alone: products and attention as elsewhere, and each row
// with the bits that it has by itself.
#include <cmath>

#include "cases.h"

// A device whose rows are alone; autotune and cuDNN are then nothing to it.
static cft_device *alone;

static void product(int64_t m, int64_t n, int64_t k, cft_dtype t, cft_dtype ct, bool bias,
                    int64_t gap = 0, int64_t offset = 0) {
  const std::string what =
      text("rows alone: %ld x %ld x %ld %s->%s%s%s", (long)m, (long)n, (long)k, name(t), name(ct),
           bias ? " bias" : "", gap || offset ? " askew" : "");
  if (!wanted(what)) return;
  const doubles x = values(m * (k + gap), 1), w = values(n * (k + gap), 2), b = values(n, 3);
  const tolerance tol = ct == CFT_BF16 ? tolerance{0x1p-7, 2e-3} : tolerance{1e-4, 1e-4};
  // Rows from `first` on, `count` of them.
  const auto multiply = [&](device d, const pointers &p, int to, int a, int weights, int by,
                            int64_t first, int64_t count) {
    cft_matmul_args args = {};
    args.c = (char *)p(to) + first * n * (int64_t)cft_dtype_bytes(ct);
    args.a = (char *)p(a) + first * (k + gap) * (int64_t)cft_dtype_bytes(t);
    args.b = p(weights), args.bias = p(by), args.m = count, args.n = n, args.k = k,
    args.trans_b = 1;
    args.c_stride = n, args.a_stride = args.b_stride = k + gap, args.dtype = t, args.c_dtype = ct;
    return d->kernels->matmul(d, nullptr, &args);
  };
  kernel_case c(what);
  const int cx = c.in(x, t, offset), cw = c.in(w, t, offset), cb = bias ? c.in(b, t) : -1,
            to = c.out(m * n, ct, tol);
  c.check([&](device d, const pointers &p) { return multiply(d, p, to, cx, cw, cb, 0, m); }, alone);
  // The device under test in place of the CPU: all rows at once against one, three, nine at a time.
  kernel_case parts(what + ", in parts");
  const int px = parts.in(x, t, offset), pw = parts.in(w, t, offset),
            pb = bias ? parts.in(b, t) : -1, whole = parts.out(m * n, ct, exact());
  cft_device *cpu = the_world.cpu;
  the_world.cpu = alone;
  parts.check(
      [&, turn = 0](device d, const pointers &p) mutable -> cft_status {
        if (turn++ == 0) return multiply(d, p, whole, px, pw, pb, 0, m);
        for (int64_t first = 0, size = 1; first < m; first += size, size = size % 37 * 3) {
          const cft_status st = multiply(d, p, whole, px, pw, pb, first, std::min(size, m - first));
          if (st != CFT_OK) return st;
        }
        return CFT_OK;
      },
      alone);
  the_world.cpu = cpu;
}

// A prompt read whole, and its last queries one at a time, over pages and over rows.
static void prompt(int32_t keys, int64_t H, int64_t K, int64_t D, cft_dtype t) {
  const std::string what = text("rows alone: a prompt of %d, %ld/%ld heads of %ld, %s", keys,
                                (long)H, (long)K, (long)D, name(t));
  if (!wanted(what)) return;
  const int64_t pages = (keys + 31) / 32, width = 2 * K * D, size = (int64_t)cft_dtype_bytes(t);
  std::vector<int32_t> page, one = {0, 1};
  for (int32_t i = 0; i < pages; i++) page.push_back(i);  // so that the same memory is rows, too
  kernel_case c(what);
  const int q = c.in(values(keys * H * D, 1, 2), t), kv = c.in(values(pages * 32 * width, 2), t),
            pg = c.ints(page), whole = c.ints({0, keys}), cp = c.ints({0, (int32_t)pages}),
            len = c.ints({keys}), cu = c.ints(one), o = c.out(keys * H * D, t, exact()),
            lse = c.inout(values(keys * H, 3), CFT_F32, {1e9, 1e9});
  std::vector<int32_t> lengths;
  for (int32_t i = 1; i <= keys; i++) lengths.push_back(i);
  const int each = c.ints(lengths);
  const double scale = 1 / sqrt((double)D);
  const auto paged = [&](device d, const pointers &p, int64_t first, int64_t n) {
    cft_attention_paged_args a = {};
    const int64_t at = first * H * D * size;
    a.o = (char *)p(o) + at, a.q = (char *)p(q) + at, a.k = p(kv),
    a.v = (char *)p(kv) + K * D * size;
    a.cu_q = (int32_t *)p(n == 1 ? cu : whole), a.cu_pages = (int32_t *)p(cp),
    a.pages = (int32_t *)p(pg);
    a.k_len = n == 1 ? (int32_t *)p(each) + first : (int32_t *)p(len), a.nq = n, a.B = 1,
    a.page = 32;
    a.longest_q = n, a.longest_k = keys, a.keys = n * keys, a.H = H, a.K = K, a.D = D;
    a.o_stride = a.q_stride = H * D, a.k_stride = a.v_stride = width, a.scale = scale, a.dtype = t;
    return d->kernels->attention_paged(d, nullptr, &a);
  };
  cft_device *cpu = the_world.cpu;
  the_world.cpu = alone;
  c.check(
      [&, turn = 0](device d, const pointers &p) mutable -> cft_status {
        if (turn++ == 0) {  // as the trainer has it
          cft_attention_args a = {};
          a.o = p(o), a.lse = p(lse), a.q = p(q), a.k = p(kv), a.v = (char *)p(kv) + K * D * size;
          a.cu_q = a.cu_k = (int32_t *)p(whole), a.nq = a.nk = keys, a.B = 1,
          a.longest_q = a.longest_k = keys;
          a.H = H, a.K = K, a.D = D, a.o_stride = a.q_stride = H * D,
          a.k_stride = a.v_stride = width;
          a.scale = scale, a.causal = 1, a.dtype = t;
          return d->kernels->attention_fwd(d, nullptr, &a);
        }
        cft_status st = turn % 2 ? CFT_OK : paged(d, p, 0, keys);
        for (int64_t i = 0; i < keys && turn % 2 && st == CFT_OK; i++) st = paged(d, p, i, 1);
        return st;
      },
      alone);
  the_world.cpu = cpu;
}

CASES(rows_alone) {
  if (open_cuda(&alone, 0) != CFT_OK) return report(false, "a second device", cft_last_error());
  report(alone->set_rows_alone(alone, 1) == 0 && alone->set_rows_alone(alone, 1) == 1,
         "rows alone: answers what it was");
  product(9, 33, 96, CFT_BF16, CFT_BF16, true);
  product(5, 19, 70, CFT_F32, CFT_F32, true);
  prompt(37, 4, 2, 16, CFT_BF16);
  if (!quick) {
    product(1, 16, 8, CFT_BF16, CFT_F32, false);
    product(70, 40, 1100, CFT_BF16, CFT_F32, false);
    product(20, 50, 261, CFT_BF16, CFT_BF16, true, 3, 1);
    product(130, 24, 64, CFT_BF16, CFT_BF16, false, 8);
    product(17, 9, 129, CFT_F32, CFT_F32, false, 2);
    prompt(530, 3, 1, 64, CFT_BF16);
    prompt(40, 2, 1, 100, CFT_BF16);
    prompt(65, 2, 2, 24, CFT_F32);
    // What is not promised is refused.
    kernel_case c("rows alone: another product");
    cft_matmul_args a = {};
    a.m = a.n = a.k = 1, a.trans_a = 1, a.dtype = a.c_dtype = CFT_F32;
    report(alone->kernels->matmul(alone, nullptr, &a) == CFT_E_ARG,
           "rows alone: another product is refused");
  }
  alone->close(alone);
}
