// matmul.cpp - products, the sums beside them, and what is kept of timing their algorithms.
#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "cases.h"

struct matmul_shape {
  int64_t m, n, k;
  bool trans_a, trans_b, beta, bias;
  int64_t gap = 0, offset = 0;  // elements after each row; before the first
  int64_t bias_offset = 0;
};

static void matmul(const matmul_shape &s, cft_dtype t, cft_dtype ct) {
  kernel_case c(text("matmul %ld x %ld x %ld %c%c %s->%s%s%s%s%s", (long)s.m, (long)s.n, (long)s.k,
                     s.trans_a ? 't' : 'n', s.trans_b ? 't' : 'n', name(t), name(ct),
                     s.beta ? " beta" : "", s.bias ? " bias" : "", s.gap ? " strided" : "",
                     s.offset || s.bias_offset ? " unaligned" : ""));
  const int64_t a_rows = s.trans_a ? s.k : s.m, a_cols = (s.trans_a ? s.m : s.k) + s.gap,
                b_rows = s.trans_b ? s.n : s.k, b_cols = (s.trans_b ? s.k : s.n) + s.gap,
                c_cols = s.n + s.gap;
  // c + bias, values about 1, is rounded once more where it is not the epilogue that adds the bias.
  const double small = s.beta && s.bias ? 8e-3 : 2e-3;
  const tolerance tol = ct == CFT_BF16 ? tolerance{0x1p-7, small} : tolerance{1e-4, 1e-4};
  const int a = c.in(values(a_rows * a_cols, 1), t, s.offset),
            b = c.in(values(b_rows * b_cols, 2), t, s.offset),
            bias = s.bias ? c.in(values(s.n, 3), t, s.bias_offset) : -1;
  const bool all = !s.gap && !s.beta;
  const int to = all ? c.out(s.m * c_cols, ct, tol, s.offset)
                     : c.inout(values(s.m * c_cols, 4), ct, tol, s.offset);
  c.check([&](device d, const pointers &p) {
    const cft_matmul_args args = {p(to),  p(a),   p(b),   p(bias),   s.m,       s.n,    s.k,
                                  c_cols, a_cols, b_cols, s.trans_a, s.trans_b, s.beta, t,
                                  ct,     0,      0,      nullptr,   0};
    return d->kernels->matmul(d, nullptr, &args);
  });
}

// dW [+]= dy^T x and db [+]= the sum of dy's rows, as a linear layer's backward asks for both. By
// the epilogue or apart, whatever is timed to be faster: check both ways.
static void matmul_sums(cft_device *gpu, bool autotune, int64_t out, int64_t in, int64_t n,
                        cft_dtype t, cft_dtype ct, bool beta, bool sum_beta, int64_t offset = 0) {
  kernel_case c(text("matmul sums %ld x %ld, n = %ld %s->%s%s%s%s%s", (long)out, (long)in, (long)n,
                     name(t), name(ct), beta ? " beta" : "", sum_beta ? " sum beta" : "",
                     autotune ? "" : " apart", offset ? " unaligned" : ""));
  const double wide = std::sqrt((double)n + 1);  // sums of values about 1, that many
  const tolerance tol = ct == CFT_BF16 ? tolerance{0x1p-7, 4e-3 * wide} : tolerance{1e-4, 1e-4};
  const int dy = c.in(values(n * out, 1), t, offset), x = c.in(values(n * in, 2), t);
  const int dw = beta ? c.inout(values(out * in, 3), ct, tol) : c.out(out * in, ct, tol),
            db = sum_beta ? c.inout(values(out, 4), ct, tol, offset) : c.out(out, ct, tol, offset);
  c.check(
      [&](device d, const pointers &p) {
        cft_matmul_args a = {};
        a.c = p(dw), a.a = p(dy), a.b = p(x), a.m = out, a.n = in, a.k = n, a.trans_a = 1;
        a.c_stride = in, a.a_stride = out, a.b_stride = in, a.beta = beta;
        a.dtype = t, a.c_dtype = ct, a.a_sum = p(db), a.a_sum_beta = sum_beta;
        return d->kernels->matmul(d, nullptr, &a);
      },
      gpu);
}

// What a_sum does not go with is refused by both devices, before anything is read.
static void sums_refused() {
  if (!wanted("matmul sums: what they do not go with")) return;
  float some = 0;
  for (cft_device *d : {the_world.cpu, the_world.gpu})
    for (int wrong = 0; wrong < 3; wrong++) {
      cft_matmul_args a = {};
      a.c = a.a_sum = &some, a.a = a.b = &some, a.m = a.n = a.k = a.trans_a = 1;
      a.c_stride = a.a_stride = a.b_stride = 1, a.dtype = a.c_dtype = CFT_F32;
      if (wrong == 0) a.trans_a = 0;
      if (wrong == 1) a.a_stride = 2;
      if (wrong == 2) a.bias = &some;
      const bool ok = d->kernels->matmul(d, nullptr, &a) == CFT_E_ARG &&
                      strstr(cft_last_error(), "matmul: a_sum wants trans_a");
      const char *const what[] = {"a as stored", "gaps", "a bias"};
      report(ok, text("matmul sums: what they do not go with: %s, %s", what[wrong], d->name));
    }
}

static void all_sums(bool quick) {
  sums_refused();
  for (bool autotune : {false, true}) {
    cft_device *gpu;  // of its own, since that stays set
    if (open_cuda(&gpu, 0) != CFT_OK) return report(false, "matmul sums", cft_last_error());
    gpu->set_autotune(gpu, autotune);
    const auto sums = [&](auto... call) { matmul_sums(gpu, autotune, call...); };
    for (int i = 0; i < (quick ? 1 : 4); i++) sums(35, 19, 67, CFT_BF16, CFT_F32, i & 1, !(i & 2));
    sums(24, 33, 130, CFT_BF16, CFT_BF16, true, true);
    sums(9, 5, 13, CFT_F32, CFT_F32, true, true);
    if (!quick) {
      sums(35, 19, 67, CFT_BF16, CFT_F32, true, true, 1);
      sums(7, 3, 0, CFT_BF16, CFT_F32, false, false);
      sums(7, 3, 0, CFT_BF16, CFT_F32, true, true);
      sums(7, 0, 11, CFT_BF16, CFT_F32, false, false);
      for (int64_t n : {61, 64, 61})  // shapes of one bucket; one that comes again
        sums(35, 19, n, CFT_BF16, CFT_F32, true, true);
    }
    gpu->close(gpu);
  }
}

// All that is kept in a folder of chosen algorithms; a line for each.
static std::string kept_in(const std::string &folder) {
  std::string text;
  DIR *files = opendir((folder + "/cuda").c_str());
  if (!files) return text;
  while (const dirent *file = readdir(files)) {
    if (strncmp(file->d_name, "matmul-", 7)) continue;
    FILE *f = fopen((folder + "/cuda/" + file->d_name).c_str(), "rb");
    for (int c; f && (c = fgetc(f)) != EOF;) text += (char)c;
    if (f) fclose(f);
  }
  closedir(files);
  return text;
}

static void forget_kept(const std::string &folder) {
  if (DIR *files = opendir((folder + "/cuda").c_str())) {
    while (const dirent *file = readdir(files)) unlink((folder + "/cuda/" + file->d_name).c_str());
    closedir(files);
  }
  rmdir((folder + "/cuda").c_str());
  rmdir(folder.c_str());
}

// Matmuls of two kinds on a device of its own that has that folder; E_DEVICE where timing is told
// by waits and was not as wanted.
static cft_status two_kinds(int autotune, bool times) {
  cft_device *d;
  void *p[3] = {};
  CFT_TRY(open_cuda(&d, 0));
  d->set_autotune(d, autotune);
  cft_status st = CFT_OK;
  for (void *&m : p)
    if (!st) st = d->alloc(d, &m, 64 * 64 * 2, CFT_MEM_OTHER);
  for (void *m : p)
    if (!st) st = d->zero(d, nullptr, m, 64 * 64 * 2);
  const uint64_t waits = the_world.waits ? the_world.waits() : 0;
  for (int trans_b = 0; trans_b < 2 && !st; trans_b++) {
    cft_matmul_args a = {};
    a.c = p[0], a.a = p[1], a.b = p[2], a.m = a.n = a.k = a.c_stride = a.a_stride = a.b_stride = 64;
    a.trans_b = trans_b, a.dtype = a.c_dtype = CFT_BF16;
    st = d->kernels->matmul(d, nullptr, &a);
  }
  if (!st && the_world.waits && (the_world.waits() > waits) != times)
    st = cft_fail(CFT_E_DEVICE, times ? "nothing was timed" : "candidates were timed");
  for (void *m : p) d->free(d, m, 64 * 64 * 2, CFT_MEM_OTHER);
  if (!st) st = d->sync(d);
  d->close(d);
  return st;
}

// With autotune a file of choices is written, and taken by the next run; without, neither.
static void autotune() {
  if (!wanted("matmul autotune")) return;
  char folder[] = P_tmpdir "/cft-autotune-XXXXXX";
  const char *cache = getenv("CFT_CACHE");
  const std::string before = cache ? cache : "";
  if (!mkdtemp(folder)) return report(false, "matmul autotune", "no temporary folder");
  setenv("CFT_CACHE", folder, 1);
  const auto check = [](cft_status st, bool as_wanted, const char *what) {
    report(!st && as_wanted, what, st ? cft_last_error() : "");
  };
  cft_status st = two_kinds(0, false);
  check(st, kept_in(folder).empty(), "matmul autotune: off, nothing is timed and nothing kept");
  st = two_kinds(1, true);
  const std::string kept = kept_in(folder);
  check(st, std::count(kept.begin(), kept.end(), '\n') == 2,
        "matmul autotune: a choice for each kind is kept");
  st = two_kinds(1, false);
  check(st, kept_in(folder) == kept, "matmul autotune: the next run takes them and times nothing");
  st = two_kinds(0, false);
  check(st, kept_in(folder) == kept, "matmul autotune: off, the file stays as it is");
  setenv("CFT_CACHE", "", 1);
  setenv("XDG_CACHE_HOME", folder, 1);
  st = two_kinds(1, true);
  check(st, access((std::string(folder) + "/cft").c_str(), F_OK) != 0,
        "matmul autotune: with an empty CFT_CACHE nothing is kept");
  unsetenv("XDG_CACHE_HOME");
  cache ? setenv("CFT_CACHE", before.c_str(), 1) : unsetenv("CFT_CACHE");
  forget_kept(folder);
}

static void all_products(bool quick) {
  for (int i = 0; i < (quick ? 4 : 8); i++)
    matmul({33, 17, 65, (i & 1) != 0, (i & 2) != 0, (i & 4) != 0, (i & 1) == 0}, CFT_BF16,
           CFT_BF16);
  matmul({1, 1, 1, false, true, false, false}, CFT_F32, CFT_F32);
  matmul({5, 7, 3, false, true, true, true}, CFT_F32, CFT_F32);
  matmul({40, 24, 16, true, false, true, false}, CFT_BF16, CFT_F32);
  matmul({13, 9, 31, false, true, true, true}, CFT_BF16, CFT_F32);
  matmul({9, 21, 11, false, false, true, true, 3}, CFT_BF16, CFT_BF16);
  matmul({9, 21, 11, true, true, false, true, 3, 1}, CFT_F32, CFT_F32);
  matmul({6, 10, 0, false, true, false, true}, CFT_BF16, CFT_F32);
  matmul({20, 12, 16, false, true, false, true}, CFT_F32, CFT_F32);
  matmul({20, 12, 16, false, true, false, false}, CFT_F32, CFT_F32);  // the same without a bias
  matmul({20, 12, 16, false, true, false, true, 0, 0, 4}, CFT_F32, CFT_F32);  // less aligned
  matmul({20, 12, 16, false, true, false, true, 0, 0, 3}, CFT_F32, CFT_F32);  // below 16 bytes
  matmul({6, 10, 0, false, true, true, false}, CFT_F32, CFT_F32);
  if (quick) return;
  matmul({0, 10, 4, false, true, false, false}, CFT_F32, CFT_F32);
  matmul({128, 96, 64, false, true, false, true}, CFT_BF16, CFT_BF16);
  // Shapes that share an algorithm's bucket, and one that comes again.
  for (int64_t m : {130, 133, 139, 133})
    matmul({m, 96, 64, false, true, false, true}, CFT_BF16, CFT_BF16);
}

CASES(matmul) {
  all_products(quick);
  all_sums(quick);
  autotune();
}
