// attention_paged.cpp - attention over keys in pages: by tensor cores, keys split or not, and by
// plain code.
#include <algorithm>
#include <cmath>

#include "cases.h"

struct paged_layout {
  std::string what;
  std::vector<int32_t> queries, keys;  // of each sequence
  int64_t longest_k = 0;               // 0: as it is
};

// Rows are `gap` elements longer than they need be, and begin `offset` elements behind an aligned
// address.
static void attention_paged(const paged_layout &l, int64_t H, int64_t K, int64_t D, cft_dtype t,
                            int64_t page = 32, int64_t gap = 0, int64_t offset = 0) {
  kernel_case c(text("attention_paged %s, %ld/%ld heads of %ld, %s, pages of %ld%s", l.what.c_str(),
                     (long)H, (long)K, (long)D, name(t), (long)page,
                     gap || offset ? ", askew" : ""));
  std::vector<int32_t> cu_q = {0}, cu_pages = {0}, pages;
  int64_t longest_q = 0, longest_k = l.longest_k, seen = 0;
  for (size_t b = 0; b < l.queries.size(); b++) {
    cu_q.push_back(cu_q.back() + l.queries[b]);
    cu_pages.push_back(cu_pages.back() + (int32_t)((l.keys[b] + page - 1) / page));
    longest_q = std::max<int64_t>(longest_q, l.queries[b]);
    longest_k = std::max<int64_t>(longest_k, l.keys[b]);
    seen += (int64_t)l.queries[b] * l.keys[b];
  }
  const int32_t count = cu_pages.back();
  for (int32_t i = 0; i < count; i++) pages.push_back((i * 7 + 3) % count);  // scattered
  if (count % 7 == 0)
    for (int32_t i = 0; i < count; i++) pages[(size_t)i] = count - 1 - i;
  const int64_t nq = cu_q.back(), B = (int64_t)l.queries.size();
  const int64_t stride = 2 * K * D + gap, q_stride = H * D + gap;
  // What lies behind a sequence's last key was never written.
  doubles kv((size_t)(count * page * stride), NAN);
  for (int64_t b = 0; b < B; b++)
    for (int64_t j = 0; j < l.keys[(size_t)b]; j++)
      for (int64_t e = 0; e < 2 * K * D; e++) {
        const int64_t row = pages[(size_t)(cu_pages[(size_t)b] + j / page)] * page + j % page;
        kv[(size_t)(row * stride + e)] = uniform((uint64_t)((b * 10007 + j) * 2 * K * D + e), 1);
      }
  const int q = c.in(values(nq * q_stride, 2, 2), t, offset), k = c.in(kv, t, offset),
            cq = c.ints(cu_q), cp = c.ints(cu_pages), pg = c.ints(pages), len = c.ints(l.keys),
            o = c.out(nq * H * D, t, t == CFT_BF16 ? share(0.01) : share(1e-5));
  c.check([&](device dev, const pointers &p) {
    const cft_attention_paged_args a = {p(o),
                                        p(q),
                                        p(k),
                                        (char *)p(k) + K * D * (int64_t)cft_dtype_bytes(t),
                                        (int32_t *)p(cq),
                                        (int32_t *)p(cp),
                                        (int32_t *)p(pg),
                                        (int32_t *)p(len),
                                        nq,
                                        B,
                                        page,
                                        longest_q,
                                        longest_k,
                                        seen,
                                        H,
                                        K,
                                        D,
                                        H * D,
                                        q_stride,
                                        stride,
                                        stride,
                                        1.5 / sqrt((double)D),
                                        t};
    return dev->kernels->attention_paged(dev, nullptr, &a);
  });
}

CASES(attention_paged) {
  const paged_layout one = {"one token", {1}, {1}},
                     written = {"tokens", {1, 1, 0, 1, 1}, {33, 7, 5, 513, 64}};
  const paged_layout read = {"a prompt among tokens", {1, 21, 3, 1}, {70, 90, 40, 600}};
  attention_paged(one, 2, 1, 64, CFT_BF16);
  attention_paged(written, 6, 2, 64, CFT_BF16);
  attention_paged(read, 6, 2, 64, CFT_BF16);
  attention_paged(read, 3, 1, 24, CFT_F32);
  if (quick) return;
  const paged_layout edges = {"edges of splits", {2, 3, 1, 5}, {513, 1025, 1024, 514}};
  attention_paged(written, 14, 2, 128, CFT_BF16, 96);
  attention_paged(edges, 6, 2, 128, CFT_BF16, 64);
  attention_paged(edges, 4, 2, 12, CFT_BF16, 32, 3);
  attention_paged(edges, 20, 1, 40, CFT_BF16, 32, 0, 1);
  attention_paged(read, 4, 2, 80, CFT_BF16, 32, 1);
  attention_paged(read, 2, 1, 136, CFT_BF16);
  attention_paged(written, 2, 2, 33, CFT_F32, 64, 5);
  attention_paged(
      {"parts that take turns", {1, 10, 1, 9, 1, 12}, {40, 600, 520, 30, 70, 530}, 1 << 20}, 4, 2,
      64, CFT_BF16);
}
