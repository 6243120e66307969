// attention.cpp - attention by cuDNN (in the emulator, its stand-in) and by our own kernels.
#include <algorithm>
#include <cmath>

#include "cases.h"

struct attention_layout {
  std::string what;
  std::vector<int32_t> queries, keys;  // of each sequence
  std::vector<int32_t> k_len = {};     // empty: all of them
  std::vector<int32_t> position = {};  // empty: the last rows
  int64_t extra = 0;                   // key rows of no sequence, at the end
  bool causal = true;
  bool far = false;  // some queries look away from all keys: a log-sum-exp of about -100
};

static std::vector<int32_t> running(const std::vector<int32_t> &lengths) {
  std::vector<int32_t> at = {0};
  for (int32_t n : lengths) at.push_back(at.back() + n);
  return at;
}

static void attention(const attention_layout &l, int64_t H, int64_t K, int64_t D, cft_dtype t,
                      cft_device *gpu, const char *by, bool one_buffer = false,
                      bool deterministic = false) {
  const std::string what = text(
      "attention %s, %ld/%ld heads of %ld, %s%s%s%s", l.what.c_str(), (long)H, (long)K, (long)D,
      name(t), one_buffer ? ", one buffer" : "", deterministic ? ", deterministic" : "", by);
  if (!wanted(what)) return;
  // Each device looks at it when attention is first asked for, by whatever case is the first wanted.
  if (gpu) setenv("CFT_CUDNN", "0", 1);
  else unsetenv("CFT_CUDNN");
  const auto at_q = running(l.queries), at_k = running(l.keys);
  const int64_t nq = at_q.back(), nk = at_k.back() + l.extra, B = (int64_t)l.queries.size();
  const int64_t q_width = H * D, k_width = K * D, qkv = one_buffer ? (H + 2 * K) * D : 0;
  const int64_t q_stride = qkv ? qkv : q_width, k_stride = qkv ? qkv : k_width;
  const bool self = at_q == at_k && !l.extra && l.k_len.empty() && l.position.empty();
  int64_t longest_q = 0, longest_k = 0;
  for (int64_t b = 0; b < B; b++) {
    longest_q = std::max<int64_t>(longest_q, l.queries[(size_t)b]);
    longest_k =
        std::max<int64_t>(longest_k, l.k_len.empty() ? l.keys[(size_t)b] : l.k_len[(size_t)b]);
  }
  const double scale = 1 / sqrt((double)D);
  const int64_t rows = qkv ? std::max(nq, nk) : nq;
  doubles q = values(rows * q_stride, 1), k = values(nk * k_stride, 2);
  const doubles v = values(nk * k_stride, 3), g = values(nq * q_width, 4);
  const int64_t size = (int64_t)cft_dtype_bytes(t);
  if (l.far)
    for (int64_t row = 0; row < std::max(nq, nk); row++) {
      for (int64_t h = 0; h < K && row < nk; h++) k[(size_t)(row * k_stride + h * D)] = 8;
      for (int64_t h = 0; h < H && row < nq && row % 3 == 0; h++)
        q[(size_t)(row * q_stride + h * D)] = -144;
    }

  kernel_case f(what + ": forward");
  const int fq = f.in(q, t), fk = qkv ? -1 : f.in(k, t), fv = qkv ? -1 : f.in(v, t),
            cu_q = f.ints(at_q), cu_k = self ? -1 : f.ints(at_k),
            len = l.k_len.empty() ? -1 : f.ints(l.k_len),
            position = l.position.empty() ? -1 : f.ints(l.position);
  const int o = f.out(nq * q_width, t, t == CFT_BF16 ? share(0.01) : share(1e-5)),
            lse = f.out(nq * H, CFT_F32, {1e-4, 1e-3});
  const auto forward = [&](device dev, const pointers &p) {
    char *base = (char *)p(fq);
    const cft_attention_args a = {p(o),
                                  p(lse),
                                  base,
                                  qkv ? base + q_width * size : p(fk),
                                  qkv ? base + (q_width + k_width) * size : p(fv),
                                  (int32_t *)p(cu_q),
                                  (int32_t *)p(self ? cu_q : cu_k),
                                  (int32_t *)p(len),
                                  (int32_t *)p(position),
                                  nq,
                                  nk,
                                  B,
                                  longest_q,
                                  longest_k,
                                  0,
                                  H,
                                  K,
                                  D,
                                  q_width,
                                  q_stride,
                                  k_stride,
                                  k_stride,
                                  scale,
                                  l.causal,
                                  t};
    return dev->kernels->attention_fwd(dev, nullptr, &a);
  };
  f.check(forward, gpu);

  kernel_case c(what + ": backward");
  const doubles out = f.on_cpu(forward, o), sums = f.on_cpu(forward, lse);
  const int bq = c.in(q, t), bk = qkv ? -1 : c.in(k, t), bv = qkv ? -1 : c.in(v, t),
            bg = c.in(g, t), bo = c.in(out, t), bl = c.in(sums, CFT_F32), bcu_q = c.ints(at_q),
            bcu_k = self ? -1 : c.ints(at_k), blen = l.k_len.empty() ? -1 : c.ints(l.k_len),
            bposition = l.position.empty() ? -1 : c.ints(l.position);
  const tolerance tol = t == CFT_BF16 ? share(0.015) : share(2e-5);
  const int dq = rows == nq ? c.out(rows * q_stride, t, tol) : c.inout(q, t, tol),
            dk = qkv ? -1 : c.out(nk * k_width, t, tol),
            dv = qkv ? -1 : c.out(nk * k_width, t, tol);
  c.check(
      [&](device dev, const pointers &p) {
        char *base = (char *)p(bq), *to = (char *)p(dq);
        const cft_attention_bwd_args a = {to,
                                          qkv ? to + q_width * size : p(dk),
                                          qkv ? to + (q_width + k_width) * size : p(dv),
                                          p(bg),
                                          p(bo),
                                          p(bl),
                                          base,
                                          qkv ? base + q_width * size : p(bk),
                                          qkv ? base + (q_width + k_width) * size : p(bv),
                                          (int32_t *)p(bcu_q),
                                          (int32_t *)p(self ? bcu_q : bcu_k),
                                          (int32_t *)p(blen),
                                          (int32_t *)p(bposition),
                                          nq,
                                          nk,
                                          B,
                                          longest_q,
                                          longest_k,
                                          0,
                                          H,
                                          K,
                                          D,
                                          q_stride,
                                          k_stride,
                                          k_stride,
                                          q_width,
                                          q_width,
                                          q_stride,
                                          k_stride,
                                          k_stride,
                                          scale,
                                          l.causal,
                                          deterministic,
                                          t};
        return dev->kernels->attention_bwd(dev, nullptr, &a);
      },
      gpu);
}

CASES(attention) {
  cft_device *ours = nullptr;  // a second device, for what cuDNN is asked for where it is there
  if (open_cuda(&ours, 0) != CFT_OK) return report(false, "a second device", cft_last_error());
  attention({"one token", {1}, {1}}, 1, 1, 8, CFT_BF16, ours, ", ours");
  const attention_layout packed = {"packed", {1, 7, 0, 65, 40}, {1, 7, 0, 65, 40}};
  const attention_layout last = {"last rows", {1, 3, 0, 33}, {20, 3, 6, 70}};
  const attention_layout learned = {
      "rows with loss weight", {2, 0, 35, 5}, {9, 4, 70, 5}, {}, {3,  7,  0,  1,  2,  3,  4,  5,  6,  7,  8,
                                                         9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
                                                         20, 21, 22, 23, 24, 25, 26, 27, 60, 61, 62,
                                                         63, 64, 65, 68, 0,  1,  2,  3,  4}};
  const attention_layout cached = {"keys with room", {3, 1, 10}, {12, 6, 40}, {7, 1, 33}, {}, 4};
  const attention_layout blind = {"a row that sees nothing", {2, 1}, {5, 3}, {5, 0}, {-1, 4, 0}};
  attention_layout far = {"far from all keys", {64, 5}, {64, 5}};  // 64 modulo 128 keys, too
  far.far = true;
  attention_layout whole = {"not causal", {3, 33}, {9, 70}};
  whole.causal = false;

  attention(packed, 4, 2, 16, CFT_F32, nullptr, "");
  attention(packed, 4, 2, 64, CFT_BF16, nullptr, "", true);
  attention(packed, 4, 2, 64, CFT_BF16, ours, ", ours", true);
  attention(learned, 2, 1, 12, CFT_BF16, nullptr, "");
  attention(learned, 3, 1, 5, CFT_F32, nullptr, "");
  attention(cached, 2, 2, 64, CFT_BF16, nullptr, "");
  attention(last, 2, 1, 32, CFT_BF16, nullptr, "", false, true);
  if (quick) return ours->close(ours);
  attention(packed, 6, 1, 128, CFT_BF16, nullptr, "", false, true);
  attention(packed, 6, 1, 128, CFT_BF16, ours, ", ours");
  attention(packed, 2, 2, 80, CFT_BF16, nullptr, "");
  attention(packed, 2, 2, 80, CFT_BF16, ours, ", ours");
  attention(packed, 2, 1, 1, CFT_BF16, ours, ", ours");
  attention({"three tiles", {150}, {150}}, 2, 1, 16, CFT_BF16, ours, ", ours");
  attention(far, 2, 1, 128, CFT_BF16, nullptr, "");
  attention(far, 2, 1, 128, CFT_BF16, ours, ", ours");
  attention(packed, 1, 1, 136, CFT_BF16, ours, ", ours");
  attention(packed, 2, 1, 33, CFT_F32, nullptr, "", true);
  attention(last, 4, 2, 64, CFT_BF16, nullptr, "", true);
  attention(last, 2, 1, 24, CFT_BF16, ours, ", ours");
  attention(last, 2, 1, 24, CFT_F32, nullptr, "");
  attention(learned, 4, 2, 64, CFT_BF16, nullptr, "", true);
  attention(cached, 4, 1, 24, CFT_BF16, ours, ", ours");
  attention(cached, 2, 1, 8, CFT_F32, nullptr, "");
  attention(blind, 2, 1, 16, CFT_BF16, nullptr, "");
  attention(blind, 2, 1, 16, CFT_F32, nullptr, "");
  attention(whole, 2, 1, 64, CFT_BF16, nullptr, "");
  attention(whole, 2, 1, 16, CFT_BF16, ours, ", ours");
  attention(whole, 2, 1, 16, CFT_F32, nullptr, "");
  ours->close(ours);
}
