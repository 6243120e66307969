// bench.cpp - times of the CUDA device's kernels at the shapes of Qwen2.5-7B, each beside its
// floor: the bytes it must move at the copy rate that this very card shows, or its FLOPs at the
// best matmul rate that it shows.
//
//   cuda_bench MODULE [--small] [--json FILE] [SECTION ...]     sections: copy matmul ops attention
//                                                            generation
//
// --small: sizes for a dry run on the emulated device, whose times mean nothing.
#include <dlfcn.h>
#include <time.h>

#include <algorithm>
#include "bench.h"

cft_device *d;
bool small;
static FILE *json;
static double copy_rate, matmul_rate;  // bytes and FLOPs a second; the best seen so far

// ---- time ----------------------------------------------------------------------------------

static double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int rows, failures;

void try_rows(const std::function<void()> &f) {
  try {
    f();
  } catch (const failed_row &) {
    failures++;
    d->sync(d);  // answers what is still to be answered
  }
}

static double measured(const std::function<cft_status()> &f) {
  must(f());
  must(d->sync(d));
  double start = now();
  for (int i = 0; i < (small ? 1 : 3); i++) must(f());
  must(d->sync(d));
  const double once = (now() - start) / (small ? 1 : 3);
  const int calls = small ? 1 : (int)std::max(3.0, std::min(1000.0, 0.05 / once));
  double best = INFINITY;
  for (int round = 0; round < (small ? 1 : 3); round++) {
    start = now();
    for (int i = 0; i < calls; i++) must(f());
    must(d->sync(d));
    best = std::min(best, (now() - start) / calls);
  }
  return best;
}

double seconds_of(const std::function<cft_status()> &f) {
  double seconds = INFINITY;
  try_rows([&] { seconds = measured(f); });
  return seconds;
}

void row(const char *section, const std::string &name, double seconds, double bytes, double flops) {
  if (!std::isfinite(seconds)) {
    printf("%-10s %-44s failed\n", section, name.c_str());
    return;
  }
  // A matmul's own floor is the best of them all, which is known when all have run.
  const double floor = bytes > 0 && copy_rate > 0      ? bytes / copy_rate
                       : !strcmp(section, "attention") ? flops / matmul_rate
                                                       : 0;
  printf("%-10s %-44s %10.1f us", section, name.c_str(), seconds * 1e6);
  if (bytes > 0) printf("  %8.0f GB/s", bytes / seconds / 1e9);
  if (flops > 0) printf("  %8.1f TFLOP/s", flops / seconds / 1e12);
  if (floor > 0) printf("  floor %8.1f us, %3.0f%%", floor * 1e6, 100 * floor / seconds);
  printf("\n");
  fflush(stdout);
  rows++;
  if (!json) return;
  fprintf(json,
          "{\"section\": \"%s\", \"name\": \"%s\", \"seconds\": %.9g, \"bytes\": %.9g, "
          "\"flops\": %.9g, \"floor_seconds\": %.9g}\n",
          section, name.c_str(), seconds, bytes, flops, floor);
  fflush(json);  // whoever is stopped has left what was measured
}

// ---- copies, matmuls -----------------------------------------------------------------------

static void bench_copy() {
  const int64_t bytes = small ? 1 << 16 : (int64_t)1 << 30;
  const array a(bytes / 2, CFT_BF16), b(bytes / 2, CFT_BF16);
  const double s = seconds_of([&] { return d->copy(d, nullptr, b.at(), a.at(), (size_t)bytes); });
  copy_rate = 2 * (double)bytes / s;
  row("copy", small ? "64 KiB" : "1 GiB", s, 2 * (double)bytes, 0);
}

struct weight {
  const char *model, *name;
  int64_t in, out;
};
static const weight weights[] = {
    {"7B", "qkv", 3584, 4608},         {"7B", "o", 3584, 3584},
    {"7B", "gate, up", 3584, 37888},   {"7B", "down", 18944, 3584},
    {"7B", "head", 3584, 152064},      {"1.5B", "qkv", 1536, 2048},
    {"1.5B", "gate, up", 1536, 17920}, {"1.5B", "down", 8960, 1536},
    {"0.5B", "qkv", 896, 1152},        {"0.5B", "gate, up", 896, 9728},
    {"0.5B", "down", 4864, 896},
};

// Products with one weight, for n tokens.
static void bench_weight(const weight &w, int64_t n, bool head) {
  const int64_t rows = small  ? 64
                       : head ? 1024
                              : n,
                in = small ? 48 : w.in, out = small ? 80 : w.out;
  const double flops = 2.0 * (double)rows * (double)in * (double)out;
  const array x(rows * in, CFT_BF16), W(in * out, CFT_BF16, 0.02), y(rows * out, CFT_BF16),
      bias(out, CFT_BF16), dw(in * out, CFT_F32), db(out, CFT_F32);
  const struct {
    const char *what;
    cft_matmul_args a;
  } ways[] = {
      {"y (TN, bias)",
       {y.at(), x.at(), W.at(), bias.at(), rows, out, in, out, in, in, 0, 1, 0, CFT_BF16, CFT_BF16,
        0, 0, nullptr, 0}},
      {"dx (NN)",
       {x.at(), y.at(), W.at(), nullptr, rows, in, out, in, out, in, 0, 0, 0, CFT_BF16, CFT_BF16, 0,
        0, nullptr, 0}},
      {"dw (NT, bf16)",
       {W.at(), y.at(), x.at(), nullptr, out, in, rows, in, out, in, 1, 0, 0, CFT_BF16, CFT_BF16, 0,
        0, nullptr, 0}},
      {"dw (NT, added to f32)",
       {dw.at(), y.at(), x.at(), nullptr, out, in, rows, in, out, in, 1, 0, 1, CFT_BF16, CFT_F32, 0,
        0, nullptr, 0}},
      {"dw and db (added to f32)",
       {dw.at(), y.at(), x.at(), nullptr, out, in, rows, in, out, in, 1, 0, 1, CFT_BF16, CFT_F32, 0,
        0, db.at(), 1}},
  };
  for (const auto &way : ways) {
    const double s = seconds_of([&] { return d->kernels->matmul(d, nullptr, &way.a); });
    matmul_rate = std::max(matmul_rate, flops / s);
    row("matmul",
        std::string(w.model) + " " + w.name + " " + way.what + ", n " + std::to_string(rows), s, 0,
        flops);
  }
}

static void bench_matmul() {
  for (const weight &w : weights)
    for (int64_t n : {4096, 8192, 16384}) {
      const bool head = !strcmp(w.name, "head");
      if (n > 4096 && (small || head || strcmp(w.model, "7B"))) continue;
      try_rows([&] { bench_weight(w, n, head); });
    }
}

// ---- memory-bound ops ----------------------------------------------------------------------

static void bench_ops() {
  const int64_t n = small ? 40 : 4096, H = small ? 256 : 3584, I = small ? 512 : 18944,
                V = small ? 1000 : 152064, heads = small ? 2 : 28, kv = small ? 1 : 4, D = 128,
                P = small ? 5000 : 100000000;
  const double row_bytes = 2.0 * (double)n;
  {
    const array x(n * H, CFT_BF16), r(n * H, CFT_BF16), s(n * H, CFT_BF16), y(n * H, CFT_BF16),
        w(H, CFT_BF16), rstd(n, CFT_F32), dw(H, CFT_F32);
    const cft_rmsnorm_args f = {y.at(), s.at(), rstd.at(), x.at(), r.at(),
                                w.at(), n,      H,         1e-6,   CFT_BF16};
    row("ops", "residual, RMSNorm forward",
        seconds_of([&] { return d->kernels->rmsnorm_fwd(d, nullptr, &f); }),
        4 * row_bytes * (double)H, 0);
    const cft_rmsnorm_bwd_args b = {r.at(), dw.at(), y.at(), s.at(), w.at(),   rstd.at(), x.at(),
                                    n,      H,       0,      1,      CFT_BF16, CFT_F32};
    row("ops", "RMSNorm backward, residual",
        seconds_of([&] { return d->kernels->rmsnorm_bwd(d, nullptr, &b); }),
        4 * row_bytes * (double)H, 0);
    const cft_axpby_args a = {y.at(), x.at(), n * H, 1, 1, CFT_BF16, CFT_BF16};
    row("ops", "axpby", seconds_of([&] { return d->kernels->axpby(d, nullptr, &a); }),
        3 * row_bytes * (double)H, 0);
    const array wide(n * H, CFT_F32);
    const cft_cast_args c = {wide.at(), x.at(), n * H, CFT_F32, CFT_BF16};
    row("ops", "cast bf16 to f32", seconds_of([&] { return d->kernels->cast(d, nullptr, &c); }),
        3 * row_bytes * (double)H, 0);
  }
  {
    const array x(n * 2 * I, CFT_BF16), y(n * I, CFT_BF16), dx(n * 2 * I, CFT_BF16);
    const int64_t up = I * 2;
    const cft_swiglu_args f = {y.at(), x.at(), x.at(up), n, I, I, 2 * I, CFT_BF16};
    row("ops", "SwiGLU forward", seconds_of([&] { return d->kernels->swiglu_fwd(d, nullptr, &f); }),
        3 * row_bytes * (double)I, 0);
    const cft_swiglu_bwd_args b = {dx.at(), dx.at(up), nullptr, y.at(), x.at(), x.at(up), n,
                                   I,       2 * I,     I,       2 * I,  I,      CFT_BF16};
    row("ops", "SwiGLU backward",
        seconds_of([&] { return d->kernels->swiglu_bwd(d, nullptr, &b); }),
        5 * row_bytes * (double)I, 0);
  }
  {
    const int64_t stride = (heads + 2 * kv) * D;
    const array x(n * stride, CFT_BF16), cosine(n * D / 2, CFT_F32), sine(n * D / 2, CFT_F32);
    std::vector<int32_t> position((size_t)n);
    for (int64_t i = 0; i < n; i++) position[(size_t)i] = (int32_t)i;
    const array at(position);
    const cft_rope_args a = {x.at(),           x.at(), cosine.at(), sine.at(),
                             at.as<int32_t>(), n,      heads + kv,  D,
                             stride,           stride, 0,           CFT_BF16};
    row("ops", "RoPE on q and k, in place",
        seconds_of([&] { return d->kernels->rope(d, nullptr, &a); }),
        2 * row_bytes * (double)((heads + kv) * D), 0);
  }
  {
    const int64_t rows = small ? 8 : 1024;
    const array logits(rows * V, CFT_BF16), nll(rows, CFT_F32), weight(rows, CFT_F32);
    const array target(std::vector<int32_t>((size_t)rows, 7));
    const cft_cross_entropy_args a = {
        nll.at(), logits.at(), logits.at(), target.as<int32_t>(), weight.as<float>(), rows, V, V, V,
        1,        CFT_BF16,    CFT_BF16};
    row("ops", "cross-entropy, gradient in place",
        seconds_of([&] { return d->kernels->cross_entropy(d, nullptr, &a); }),
        4.0 * (double)rows * (double)V, 0);
  }
  {
    std::vector<int32_t> ids((size_t)n);
    for (int64_t i = 0; i < n; i++) ids[(size_t)i] = (int32_t)(i % 3 ? i * 7919 % V : 11);
    const array at(ids), table(V * H, CFT_BF16), y(n * H, CFT_BF16);
    const cft_embedding_args f = {y.at(), table.at(), at.as<int32_t>(), n, H, V, CFT_BF16};
    row("ops", "embedding forward",
        seconds_of([&] { return d->kernels->embedding_fwd(d, nullptr, &f); }),
        2 * row_bytes * (double)H, 0);
    const cft_embedding_bwd_args b = {table.at(), y.at(), at.as<int32_t>(), n,
                                      H,          V,      CFT_BF16,         CFT_BF16};
    row("ops", "embedding backward, a third one id",
        seconds_of([&] { return d->kernels->embedding_bwd(d, nullptr, &b); }),
        (1 + 2.0 * 2 / 3) * row_bytes * (double)H, 0);
  }
  {
    const array p(P, CFT_BF16), g(P, CFT_BF16), m(P, CFT_BF16), v(P, CFT_BF16, 0),
        scale(2, CFT_F32);
    const array sum(8, CFT_I32);
    cft_adamw_args a = {p.at(), nullptr, m.at(),   v.at(),   g.at(),   scale.as<float>(),
                        P,      1e-5,    0.9,      0.999,    1e-8,     0,
                        1,      1,       CFT_BF16, CFT_BF16, CFT_BF16, nullptr};
    row("ops", "AdamW, all bf16", seconds_of([&] { return d->kernels->adamw(d, nullptr, &a); }),
        14.0 * (double)P, 0);
    const cft_sum_squares_args q = {sum.as<double>(), g.at(), P, 1, CFT_BF16};
    row("ops", "norm of a gradient in bf16",
        seconds_of([&] { return d->kernels->sum_squares(d, nullptr, &q); }), 2.0 * (double)P, 0);
  }
  {
    const array p(P, CFT_BF16), w(P, CFT_F32), g(P, CFT_F32), m(P, CFT_F32), v(P, CFT_F32, 0);
    cft_adamw_args a = {p.at(), w.at(), m.at(),   v.at(),  g.at(),  nullptr,
                        P,      1e-5,   0.9,      0.999,   1e-8,    0,
                        1,      1,      CFT_BF16, CFT_F32, CFT_F32, nullptr};
    row("ops", "AdamW, f32 master and moments",
        seconds_of([&] { return d->kernels->adamw(d, nullptr, &a); }), 30.0 * (double)P, 0);
  }
}

// ---- attention -----------------------------------------------------------------------------

// `count` sequences of `length` tokens, in the heads of 7B; FLOPs by sequence length.
static void attention(int64_t count, int64_t length, const char *what, bool deterministic,
                      int64_t told_longest = 0) {
  const int64_t H = small ? 2 : 28, K = small ? 1 : 4, D = 128, n = count * length,
                stride = (H + 2 * K) * D;
  const array qkv(n * stride, CFT_BF16), o(n * H * D, CFT_BF16), lse(n * H, CFT_F32),
      g(n * H * D, CFT_BF16), dqkv(n * stride, CFT_BF16);
  std::vector<int32_t> starts;
  for (int64_t b = 0; b <= count; b++) starts.push_back((int32_t)(b * length));
  const array cu(starts);
  const int64_t k = H * D * 2, v = (H + K) * D * 2, longest = std::max(length, told_longest);
  const double flops =
      4.0 * (double)count * (double)length * (double)(length + 1) / 2 * (double)(H * D);
  const cft_attention_args f = {o.at(),
                                lse.at(),
                                qkv.at(),
                                qkv.at(k),
                                qkv.at(v),
                                cu.as<int32_t>(),
                                cu.as<int32_t>(),
                                nullptr,
                                nullptr,
                                n,
                                n,
                                count,
                                longest,
                                longest,
                                0,
                                H,
                                K,
                                D,
                                H * D,
                                stride,
                                stride,
                                stride,
                                1 / sqrt((double)D),
                                1,
                                CFT_BF16};
  const cft_attention_bwd_args b = {dqkv.at(),
                                    dqkv.at(k),
                                    dqkv.at(v),
                                    g.at(),
                                    o.at(),
                                    lse.at(),
                                    qkv.at(),
                                    qkv.at(k),
                                    qkv.at(v),
                                    cu.as<int32_t>(),
                                    cu.as<int32_t>(),
                                    nullptr,
                                    nullptr,
                                    n,
                                    n,
                                    count,
                                    longest,
                                    longest,
                                    0,
                                    H,
                                    K,
                                    D,
                                    stride,
                                    stride,
                                    stride,
                                    H * D,
                                    H * D,
                                    stride,
                                    stride,
                                    stride,
                                    1 / sqrt((double)D),
                                    1,
                                    deterministic,
                                    CFT_BF16};
  const std::string name = std::to_string(count) + " x " + std::to_string(length) + what;
  if (!deterministic)
    row("attention", name + ", forward",
        seconds_of([&] { return d->kernels->attention_fwd(d, nullptr, &f); }), 0, flops);
  else
    must(d->kernels->attention_fwd(d, nullptr, &f));
  row("attention", name + ", backward",
      seconds_of([&] { return d->kernels->attention_bwd(d, nullptr, &b); }), 0, 2.5 * flops);
}

static void bench_attention(cft_status (*open)(cft_device **, int)) {
  for (int64_t length : {512, 1024, 2048, 4096}) {
    if (small) length /= 32;
    const int64_t tokens = small ? 128 : 4096;
    try_rows([&] { attention(tokens / length, length, "", false); });
    try_rows([&] { attention(tokens / length, length, " deterministic", true); });
  }
  if (!small) try_rows([] { attention(64, 64, ", as one plan of 64 x 4096", false, 4096); });
  setenv("CFT_CUDNN", "0", 1);  // a second device, which looks when it is first asked
  cft_device *with = d;
  must(open(&d, 0));
  for (int64_t length : {1024, 4096}) {
    if (small) length /= 32;
    try_rows([&] { attention((small ? 128 : 4096) / length, length, ", our kernels", false); });
  }
  d->close(d);
  d = with;
  unsetenv("CFT_CUDNN");
}

int main(int argc, char **argv) {
  std::vector<std::string> sections;
  if (argc < 2) {
    fprintf(stderr, "usage: %s MODULE [--small] [--json FILE] [SECTION ...]\n", argv[0]);
    return 2;
  }
  for (int i = 2; i < argc; i++) {
    if (!strcmp(argv[i], "--small"))
      small = true;
    else if (!strcmp(argv[i], "--json") && i + 1 < argc)
      json = fopen(argv[++i], "w");
    else
      sections.push_back(argv[i]);
  }
  void *module = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  cft_status (*open)(cft_device **, int) = nullptr;
  if (module) *(void **)&open = dlsym(module, CFT_CUDA_OPEN_SYMBOL);
  if (!open) {
    fprintf(stderr, "cuda_bench: %s\n", dlerror());
    return 1;
  }
  if (open(&d, 0) != CFT_OK) {
    fprintf(stderr, "cuda_bench: %s\n", cft_last_error());
    return 1;
  }
  printf("%s\n", d->description);
  const auto wanted = [&](const char *name) {
    return sections.empty() || std::find(sections.begin(), sections.end(), name) != sections.end();
  };
  if (wanted("copy") || wanted("ops") || wanted("generation")) try_rows(bench_copy);
  if (wanted("matmul") || wanted("attention")) try_rows(bench_matmul);
  if (wanted("ops")) try_rows(bench_ops);
  if (wanted("attention")) try_rows([&] { bench_attention(open); });
  if (wanted("generation")) try_rows(bench_generation);
  if (json) fclose(json);
  d->close(d);
  // Each has run; what it took is for the reader.
  printf("%d passed, %d failed, 0 skipped\n", rows, failures);
  return failures != 0;
}
