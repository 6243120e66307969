// sample.cpp - tokens drawn from logits: the CPU's to the last one, whatever the filters.
#include "cases.h"
#include "cpu/philox.h"

struct sampling {
  float temperature, top_p, min_p, penalty;
  int64_t top_k;
};

static const sampling settings[] = {
    {0, 1, 0, 1, 0},        {1, 1, 0, 1, 0},          {0.7f, 1, 0, 1, 1},
    {1.3f, 1, 0, 1.2f, 7},  {1, 0.5f, 0, 1, 0},       {2, 0.9f, 0, 1, 40},
    {1, 1, 0.2f, 1.5f, 0},  {0.5f, 1e-6f, 0, 1, 0},   {1, 1, 1, 1, 0},
    {0, 1, 0, 1.4f, 0},     {1, 0.3f, 0.1f, 0.8f, 9}, {50, 0.999f, 0, 1, 0},
    {0.05f, 1, 0.5f, 1, 3}, {1, 0.95f, 0, 1, 1000},
};
constexpr int64_t SETTINGS = sizeof settings / sizeof *settings;

static void sample(int64_t rounds, int64_t V, cft_dtype t, double scale, int64_t top_n, bool lists,
                   int64_t gap = 0, const char *special = "") {
  kernel_case c(text("sample (%ld, %ld) %s, logits to %g, %ld of the largest%s%s%s",
                     (long)(rounds * SETTINGS), (long)V, name(t), scale, (long)top_n,
                     lists ? ", penalty and bias" : "", gap ? ", strided" : "", special));
  const int64_t n = rounds * SETTINGS, stride = V + gap;
  doubles x = values(n * stride, 1, scale);
  std::vector<int32_t> cu_seen = {0}, seen, cu_bias = {0}, bias_id;
  doubles numbers, keys, bias;
  for (int64_t i = 0; i < n; i++) {
    const sampling &s = settings[i % SETTINGS];
    for (double v : {(double)s.temperature, (double)s.top_p, (double)s.min_p, (double)s.penalty})
      numbers.push_back(v);
    for (int64_t v : {77 + i % 2, i / 3, 5 * i, s.top_k}) keys.push_back((double)v);
    double *row = &x[(size_t)(i * stride)];
    for (int64_t j = 3; j < V; j += 5) row[j] = row[j - 2];  // equals
    if (*special) {
      if (i % 4 == 0) row[V / 2] = NAN;
      if (i % 4 == 1) row[V - 1] = INFINITY;
      for (int64_t j = 0; j < V && i % 4 == 2; j++) row[j] = -INFINITY;
      for (int64_t j = 0; j < V && i % 4 == 3; j++) row[j] = j == V / 3 ? -2 : -INFINITY;
    }
    if (lists && i % 5 != 0)
      for (int32_t id : {(int32_t)(V / 2), 0, (int32_t)(V - 1)}) seen.push_back(id);
    if (lists && i % 3 != 0)
      for (int32_t id : {(int32_t)(V - 1), (int32_t)(i % (V - 1))}) {
        bias_id.push_back(id);
        bias.push_back(id % 2 ? 2.5 : -1);
      }
    cu_seen.push_back((int32_t)seen.size());
    cu_bias.push_back((int32_t)bias_id.size());
  }
  const tolerance close = {1e-5, 2e-5};
  const int lx = c.in(x, t), nu = c.in(numbers, CFT_F32), ke = c.in(keys, CFT_I64),
            cs = c.ints(cu_seen), se = c.ints(seen), cb = c.ints(cu_bias), bi = c.ints(bias_id),
            bs = c.in(bias, CFT_F32), token = c.out(n, CFT_I32, exact()),
            logprob = c.out(n, CFT_F32, close), top = c.out(n * top_n, CFT_I32, exact()),
            top_logprob = c.out(n * top_n, CFT_F32, close);
  c.check([&](device dev, const pointers &p) {
    const cft_sample_args a = {(int32_t *)p(token),
                               p(logprob),
                               (int32_t *)p(top),
                               p(top_logprob),
                               p(lx),
                               (float *)p(nu),
                               (int64_t *)p(ke),
                               (int32_t *)p(cs),
                               (int32_t *)p(se),
                               (int32_t *)p(cb),
                               (int32_t *)p(bi),
                               (float *)p(bs),
                               n,
                               V,
                               top_n,
                               stride,
                               (int64_t)(seen.size() + bias_id.size()),
                               t};
    return dev->kernels->sample(dev, nullptr, &a);
  });
}

// A draw from what has next to no weight: the last token has nearly all, each other 3e-7 of it, and the uniform number is so
// small that one of the others is meant. Weights in coarser units than 2^-24 would all be 0 there.
static void draw_of_the_least() {
  constexpr int64_t n = 4, V = 4096;
  kernel_case c("sample draws of the least likely");
  doubles x = values(n * V, 1, 0.01), numbers, keys, none(1, 0);
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < V - 1; j++) x[(size_t)(i * V + j)] -= 15;
    uint32_t words[4][PHILOX_GROUPS];
    int64_t at = PHILOX_GROUPS, found = -1;
    for (uint64_t first = 0; found < 0; first += PHILOX_GROUPS) {
      philox(words, (uint64_t)i, first, 5);
      for (at = 0; at < PHILOX_GROUPS && found < 0; at++)
        if (words[0][at] < 0.0012 * 0x1p32 && words[0][at] > 0.0001 * 0x1p32) found = (int64_t)first + at;
    }
    for (int64_t v : {i, (int64_t)5, found, (int64_t)0}) keys.push_back((double)v);
    for (double v : {1.0, 1.0, 0.0, 1.0}) numbers.push_back(v);
  }
  const std::vector<int32_t> cu((size_t)n + 1, 0);
  const int lx = c.in(x, CFT_F32), nu = c.in(numbers, CFT_F32), ke = c.in(keys, CFT_I64), cs = c.ints(cu),
            of = c.in(none, CFT_F32), token = c.out(n, CFT_I32, exact()), logprob = c.out(n, CFT_F32, {1e-5, 2e-5});
  c.check([&](device dev, const pointers &p) {
    cft_sample_args a = {};
    a.token = (int32_t *)p(token), a.logprob = p(logprob), a.logits = p(lx), a.numbers = (float *)p(nu);
    a.keys = (int64_t *)p(ke), a.cu_seen = a.cu_bias = (int32_t *)p(cs), a.seen = a.bias_id = (int32_t *)p(cs);
    a.bias = (float *)p(of), a.n = n, a.V = V, a.logits_stride = V, a.dtype = CFT_F32;
    return dev->kernels->sample(dev, nullptr, &a);
  });
}

CASES(sample) {
  draw_of_the_least();
  sample(1, 2, CFT_F32, 1, 2, false);
  sample(1, 1003, CFT_F32, 4, 5, true);
  sample(2, 600, CFT_F32, 8, 0, false);
  sample(1, 61, CFT_F32, 1, 0, true, 0, ", no numbers");
  if (quick) return;
  sample(3, 77, CFT_BF16, 6, 3, true, 3);
  sample(1, 8008, CFT_BF16, 10, 20, false);
  sample(1, 33, CFT_F32, 0, 33, true);  // all equal
  sample(1, 50000, CFT_F32, 0.5, 1, true, 8);
  sample(20, 96, CFT_F32, 3, 0, true);
}
