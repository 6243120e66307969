// bench_generation.cpp - what a token costs at the shapes of Qwen2.5-7B: products of few rows by
// the library and by our own kernels (rows alone), attention over pages, tokens drawn from logits;
// each beside the bytes that it must read.
#include "bench.h"

static void products(int64_t m) {
  const struct {
    const char *name;
    int64_t in, out;
    cft_dtype to;
  } weights[] = {{"qkv", 3584, 4608, CFT_BF16},
                 {"o", 3584, 3584, CFT_BF16},
                 {"gate, up", 3584, 37888, CFT_BF16},
                 {"down", 18944, 3584, CFT_BF16},
                 {"head", 3584, 152064, CFT_F32}};
  for (const auto &w : weights) {
    const int64_t in = small ? 64 : w.in, out = small ? 80 : w.out;
    const array x(m * in, CFT_BF16), W(in * out, CFT_BF16, 0.02), y(m * out, w.to);
    cft_matmul_args a = {};
    a.c = y.at(), a.a = x.at(), a.b = W.at(), a.m = m, a.n = out, a.k = in, a.trans_b = 1;
    a.c_stride = out, a.a_stride = a.b_stride = in, a.dtype = CFT_BF16, a.c_dtype = w.to;
    const double bytes =
        2.0 * (double)(in * out + m * in) + (double)(m * out) * (double)cft_dtype_bytes(w.to);
    for (int alone : {0, 1}) {
      const int was = d->set_rows_alone(d, alone);
      const double s = seconds_of([&] { return d->kernels->matmul(d, nullptr, &a); });
      d->set_rows_alone(d, was);
      row("generation",
          std::string(w.name) + ", " + std::to_string(m) + (alone ? " rows alone" : " rows"), s,
          bytes, 2.0 * (double)m * (double)in * (double)out);
    }
  }
}

// `count` sequences of `length` keys, a token of each.
static void decoding(int64_t count, int64_t length) {
  const int64_t H = small ? 2 : 28, K = small ? 1 : 4, D = 128, width = 2 * K * D,
                each = (length + 31) / 32;
  const array q(count * H * D, CFT_BF16), kv(count * each * 32 * width, CFT_BF16),
      o(count * H * D, CFT_BF16);
  std::vector<int32_t> cu_q, cu_pages, pages, keys((size_t)count, (int32_t)length);
  for (int64_t b = 0; b <= count; b++)
    cu_q.push_back((int32_t)b), cu_pages.push_back((int32_t)(b * each));
  for (int64_t i = 0; i < count * each; i++) pages.push_back((int32_t)(i * 7919 % (count * each)));
  const array cq(cu_q), cp(cu_pages), pg(pages), kl(keys);
  cft_attention_paged_args a = {};
  a.o = o.at(), a.q = q.at(), a.k = kv.at(), a.v = kv.at(2 * K * D), a.cu_q = cq.as<int32_t>();
  a.cu_pages = cp.as<int32_t>(), a.pages = pg.as<int32_t>(), a.k_len = kl.as<int32_t>(),
  a.nq = a.B = count;
  a.page = 32, a.longest_q = 1, a.longest_k = length, a.keys = count * length, a.H = H, a.K = K,
  a.D = D;
  a.o_stride = a.q_stride = H * D, a.k_stride = a.v_stride = width, a.scale = 0.09,
  a.dtype = CFT_BF16;
  row("generation",
      "attention over pages, " + std::to_string(count) + " x " + std::to_string(length),
      seconds_of([&] { return d->kernels->attention_paged(d, nullptr, &a); }),
      2.0 * (double)(count * length * width), 0);
}

static void drawing(int64_t n, const char *what, float temperature, float top_p, int64_t top_k) {
  const int64_t V = small ? 1000 : 152064;
  const array logits(n * V, CFT_F32, 3), logprob(n, CFT_F32), numbers(n * 4, CFT_F32),
      keys(n * 4, CFT_I64), token(n, CFT_I32), none(n + 1, CFT_I32);
  std::vector<float> number;
  std::vector<int64_t> key;
  for (int64_t i = 0; i < n; i++) {
    for (float v : {temperature, top_p, 0.0f, 1.0f}) number.push_back(v);
    for (int64_t v : {(int64_t)1, i, (int64_t)100, top_k}) key.push_back(v);
  }
  must(d->upload(d, nullptr, numbers.at(), number.data(), number.size() * sizeof(float)));
  must(d->upload(d, nullptr, keys.at(), key.data(), key.size() * sizeof(int64_t)));
  cft_sample_args a = {};
  a.token = token.as<int32_t>(), a.logprob = logprob.at(), a.logits = logits.at(),
  a.numbers = numbers.as<float>();
  a.keys = keys.as<int64_t>(), a.cu_seen = a.cu_bias = none.as<int32_t>(), a.n = n, a.V = V,
  a.logits_stride = V;
  a.dtype = CFT_F32;
  row("generation", std::to_string(n) + " tokens, " + what,
      seconds_of([&] { return d->kernels->sample(d, nullptr, &a); }), 4.0 * (double)(n * V), 0);
}

void bench_generation() {
  for (int64_t rows : {1, 32, 256}) try_rows([&] { products(small ? (rows + 15) / 16 : rows); });
  for (int64_t count : {1, 32, 256})
    for (int64_t length : {1024, 8192}) {
      if (count * length > 300000) continue;
      try_rows([&] { decoding(small ? (count + 63) / 64 : count, small ? length / 32 : length); });
    }
  for (int64_t n : {1, 256}) {
    if (small && n > 1) n = 3;
    try_rows([&] { drawing(n, "the largest", 0, 1, 0); });
    try_rows([&] { drawing(n, "temperature", 1, 1, 0); });
    try_rows([&] { drawing(n, "top-k 50, top-p 0.95", 1, 0.95f, 50); });
  }
}
