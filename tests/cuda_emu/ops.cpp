// ops.cpp - every kernel of the CUDA device against the CPU's, at sizes that divide by nothing,
// with strides, unaligned addresses and empty inputs.
//
//   ops [--module libcft_cuda.so] [--repeats N] [quick] [FILTER ...]
//
// Linked with the emulated device it tests that one, in four thread orders; given a module it tests
// what it opens: a real card, with repeats in place of orders.
#include <dirent.h>
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "harness.h"

world the_world;

extern "C" {
cft_status cft_cuda_open(cft_device **d, int index) __attribute__((weak));
void cuda_emu_set_order(unsigned) __attribute__((weak));
uint64_t cuda_emu_waits(void) __attribute__((weak));
}

static cft_status (*open_cuda)(cft_device **, int) = cft_cuda_open;

using device = cft_device *;
using pointers = kernel_case::pointers;

static const char *name(cft_dtype t) { return cft_dtype_name(t); }
static const cft_dtype FLOATS[] = {CFT_F32, CFT_BF16};

// ---- matmul --------------------------------------------------------------------------------

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
  const tolerance tol = ct == CFT_BF16 ? tolerance{0x1p-7, 2e-3} : tolerance{1e-4, 1e-4};
  const int a = c.in(values(a_rows * a_cols, 1), t, s.offset),
            b = c.in(values(b_rows * b_cols, 2), t, s.offset),
            bias = s.bias ? c.in(values(s.n, 3), t, s.bias_offset) : -1;
  const bool all = !s.gap && !s.beta;
  const int to = all ? c.out(s.m * c_cols, ct, tol, s.offset)
                     : c.inout(values(s.m * c_cols, 4), ct, tol, s.offset);
  c.check([&](device d, const pointers &p) {
    const cft_matmul_args args = {p(to),  p(a),   p(b),   p(bias), s.m,       s.n,
                                  s.k,    c_cols, a_cols, b_cols,  s.trans_a, s.trans_b,
                                  s.beta, t,      ct,     0,       0,
                                  nullptr, 0};
    return d->kernels->matmul(d, nullptr, &args);
  });
}

// dW [+]= dy^T x and db [+]= the sum of dy's rows, as a linear layer's backward asks for both. By the
// epilogue or apart, whatever is timed to be faster: check both ways.
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
static void test_sums_refused() {
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

static void test_matmul_sums(bool quick) {
  test_sums_refused();
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

static void test_matmul(bool quick) {
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
  matmul({20, 12, 16, false, true, false, true, 0, 0, 3}, CFT_F32, CFT_F32);  // less aligned
  matmul({6, 10, 0, false, true, true, false}, CFT_F32, CFT_F32);
  if (quick) return;
  matmul({0, 10, 4, false, true, false, false}, CFT_F32, CFT_F32);
  matmul({128, 96, 64, false, true, false, true}, CFT_BF16, CFT_BF16);
  // Shapes that share an algorithm's bucket, and one that comes again.
  for (int64_t m : {130, 133, 139, 133})
    matmul({m, 96, 64, false, true, false, true}, CFT_BF16, CFT_BF16);
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

// Matmuls of two kinds on a device of its own that has that folder; E_DEVICE where timing is told by
// waits and was not as wanted.
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
static void test_autotune() {
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
  cache ? setenv("CFT_CACHE", before.c_str(), 1) : unsetenv("CFT_CACHE");
  forget_kept(folder);
}

// ---- rows ----------------------------------------------------------------------------------

static std::vector<int32_t> ids_of(int64_t n, int64_t rows, uint64_t stream) {
  std::vector<int32_t> ids((size_t)n);
  for (int64_t i = 0; i < n; i++)
    ids[(size_t)i] = (int32_t)((uniform((uint64_t)i, stream) + 1) / 2 * (double)rows);
  return ids;
}

static std::vector<int32_t> distinct(int64_t n, int64_t rows) {
  std::vector<int32_t> all((size_t)rows);
  for (int64_t i = 0; i < rows; i++) all[(size_t)i] = (int32_t)i;
  for (int64_t i = rows - 1; i > 0; i--)
    std::swap(all[(size_t)i], all[(size_t)((uniform((uint64_t)i, 9) + 1) / 2 * (double)(i + 1))]);
  all.resize((size_t)n);
  return all;
}

static void embedding(int64_t n, int64_t d, int64_t rows, cft_dtype t, cft_dtype dt) {
  const auto ids = ids_of(n, rows, 5);
  if (dt == t) {
    kernel_case c(
        text("embedding_fwd %ld of (%ld, %ld) %s", (long)n, (long)rows, (long)d, name(t)));
    const int table = c.in(values(rows * d, 1), t), i = c.ints(ids), y = c.out(n * d, t, exact());
    c.check([&](device dev, const pointers &p) {
      const cft_embedding_args a = {p(y), p(table), (int32_t *)p(i), n, d, rows, t};
      return dev->kernels->embedding_fwd(dev, nullptr, &a);
    });
  }
  kernel_case c(text("embedding_bwd %ld of (%ld, %ld) %s->%s", (long)n, (long)rows, (long)d,
                     name(t), name(dt)));
  // The CPU rounds at each addition to a bf16 table, the GPU once.
  const double many = (double)n / (double)rows + 2;
  const tolerance tol = dt == CFT_BF16 ? tolerance{0x1p-7 * many, 0x1p-8 * many * many}
                                       : tolerance{1e-5, 1e-5 * many};
  const int dy = c.in(values(n * d, 2), t), i = c.ints(ids),
            table = c.inout(values(rows * d, 3), dt, tol);
  c.check([&](device dev, const pointers &p) {
    const cft_embedding_bwd_args a = {p(table), p(dy), (int32_t *)p(i), n, d, rows, t, dt};
    return dev->kernels->embedding_bwd(dev, nullptr, &a);
  });
}

static void move_rows(bool gather, bool add, int64_t n, int64_t d, int64_t gap, cft_dtype t,
                      bool in_order = false) {
  kernel_case c(text("%s %ld rows of %ld%s %s%s%s", gather ? "gather" : "scatter", (long)n, (long)d,
                     gap ? " strided" : "", name(t), add ? " add" : "",
                     in_order ? " in order" : ""));
  const int64_t rows = n + 5, stride = d + gap, many = gather ? rows : n, to = gather ? n : rows;
  const int x = c.in(values(many * stride, 1, 100), t),
            i = in_order ? -1 : c.ints(distinct(n, rows)),
            y = c.inout(values(to * stride, 2, 100), t, add ? rounding(t, 1e-6) : exact());
  c.check([&](device dev, const pointers &p) {
    const cft_rows_args a = {p(y), p(x), (int32_t *)p(i), n, d, stride, stride, add, t};
    return gather ? dev->kernels->gather_rows(dev, nullptr, &a)
                  : dev->kernels->scatter_rows(dev, nullptr, &a);
  });
}

static void test_rows(bool quick) {
  for (cft_dtype t : FLOATS) {
    embedding(17, 67, 40, t, t);
    embedding(5, 64, 7, t, CFT_F32);
    embedding(300, 8, 3, t, t);
    if (!quick) {
      embedding(600, 1, 1, t, CFT_F32);  // all the same id
      embedding(3, 2056, 2, t, t);       // more columns than a block takes
      embedding(0, 8, 4, t, t);
    }
    move_rows(true, false, 13, 67, 0, t);
    move_rows(true, false, 13, 64, 8, t);
    move_rows(false, false, 13, 64, 3, t);
    move_rows(false, true, 13, 64, 0, t);
    move_rows(false, true, 9, 5, 2, t);
    move_rows(false, true, 9, 5, 2, t, true);
    move_rows(false, true, 7, 64, 8, t, true);
    move_rows(true, false, 7, 64, 8, t, true);
  }
  move_rows(true, false, 6, 3, 1, CFT_I32);
  move_rows(true, false, 6, 3, 1, CFT_I64);
  move_rows(false, false, 6, 33, 0, CFT_U8);
}

// ---- rmsnorm -------------------------------------------------------------------------------

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

static void test_rmsnorm(bool quick) {
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

// ---- rope, swiglu --------------------------------------------------------------------------

static void rope(int64_t n, int64_t heads, int64_t D, int64_t gap, bool inverse, bool in_place,
                 cft_dtype t) {
  kernel_case c(text("rope %ld x %ld x %ld %s%s%s%s", (long)n, (long)heads, (long)D, name(t),
                     gap ? " strided" : "", inverse ? " inverse" : "",
                     in_place ? " in place" : ""));
  const int64_t positions = 50, stride = heads * D + gap;
  doubles cosine, sine;
  for (int64_t i = 0; i < positions * (D / 2); i++) {
    const double angle = (double)(i / (D / 2)) * pow(100, -(double)(i % (D / 2)) / (double)D * 2);
    cosine.push_back(cos(angle));
    sine.push_back(sin(angle));
  }
  const tolerance tol = rounding(t, t == CFT_BF16 ? 4e-3 : 1e-6);
  const int x = in_place ? -1 : c.in(values(n * stride, 1), t),
            y = c.inout(values(n * stride, in_place ? 1 : 2), t, tol), cs = c.in(cosine, CFT_F32),
            sn = c.in(sine, CFT_F32), at = c.ints(ids_of(n, positions, 3));
  c.check([&](device dev, const pointers &p) {
    const cft_rope_args a = {p(y),
                             in_place ? p(y) : p(x),
                             p(cs),
                             p(sn),
                             (int32_t *)p(at),
                             n,
                             heads,
                             D,
                             stride,
                             stride,
                             inverse,
                             t};
    return dev->kernels->rope(dev, nullptr, &a);
  });
}

// gate_up (n, 2 d) as the layers have it; gap makes rows that allow no wide access.
static void swiglu(int64_t n, int64_t d, int64_t gap, cft_dtype t, bool wants_y, bool in_place) {
  const int64_t two = 2 * d + gap, one = d + gap, up = d * (int64_t)cft_dtype_bytes(t);
  const tolerance tol = rounding(t, 1e-5);
  kernel_case f(
      text("swiglu_fwd (%ld, %ld) %s%s", (long)n, (long)d, name(t), gap ? " strided" : ""));
  const int fx = f.in(values(n * two, 1, 4), t), fy = f.inout(values(n * one, 2), t, tol);
  f.check([&](device dev, const pointers &p) {
    const cft_swiglu_args a = {p(fy), p(fx), (char *)p(fx) + up, n, d, one, two, t};
    return dev->kernels->swiglu_fwd(dev, nullptr, &a);
  });
  kernel_case c(text("swiglu_bwd (%ld, %ld) %s%s%s%s", (long)n, (long)d, name(t),
                     gap ? " strided" : "", wants_y ? " and y" : "", in_place ? " in place" : ""));
  const int dy = c.in(values(n * one, 3), t), x = in_place ? -1 : c.in(values(n * two, 1, 4), t),
            dx = c.inout(values(n * two, in_place ? 1 : 5, 4), t, rounding(t, 2e-5)),
            y = wants_y ? c.inout(values(n * one, 4), t, tol) : -1;
  c.check([&](device dev, const pointers &p) {
    char *from = (char *)(in_place ? p(dx) : p(x)), *to = (char *)p(dx);
    const cft_swiglu_bwd_args a = {to, to + up, p(y), p(dy), from, from + up, n,
                                   d,  two,     one,  two,   one,  t};
    return dev->kernels->swiglu_bwd(dev, nullptr, &a);
  });
}

static void test_activations(bool quick) {
  for (cft_dtype t : FLOATS) {
    rope(3, 1, 2, 0, false, false, t);
    rope(17, 3, 6, 5, true, false, t);
    rope(9, 5, 64, 64, false, true, t);
    if (!quick) rope(5, 9, 128, 0, true, true, t);
    swiglu(3, 1, 0, t, true, false);
    swiglu(7, 67, 3, t, false, false);
    swiglu(5, 512, 8, t, true, true);
    if (!quick) swiglu(2, 2600, 0, t, true, false);
  }
}

// ---- attention -----------------------------------------------------------------------------

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

static void test_attention(bool quick) {
  cft_device *ours = nullptr;  // a second device, for what cuDNN is asked for where it is there
  if (open_cuda(&ours, 0) != CFT_OK) return report(false, "a second device", cft_last_error());
  attention({"one token", {1}, {1}}, 1, 1, 8, CFT_BF16, ours, ", ours");
  const attention_layout packed = {"packed", {1, 7, 0, 65, 40}, {1, 7, 0, 65, 40}};
  const attention_layout last = {"last rows", {1, 3, 0, 33}, {20, 3, 6, 70}};
  const attention_layout learned = {
      "learned rows", {2, 0, 35, 5}, {9, 4, 70, 5}, {}, {3,  7,  0,  1,  2,  3,  4,  5,  6,  7,  8,
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

// The sums are those of rows that saw no key on one side, on the other, on both, and of a side that
// weighs nothing beside the other.
static void attention_merge(int64_t n, int64_t H, int64_t D, int64_t gap, cft_dtype t) {
  kernel_case c(text("attention_merge %ld rows, %ld heads of %ld%s, %s", (long)n, (long)H, (long)D,
                     gap ? " strided" : "", name(t)));
  const int64_t stride = H * D + gap;
  doubles first = values(n * H, 3, 4), second = values(n * H, 4, 4);
  doubles mine = values(n * stride, 1);
  for (int64_t i = 0; i < n * H; i++) {
    if (i % 5 == 1) first[(size_t)i] = -INFINITY;
    if (i % 7 == 2) second[(size_t)i] = -INFINITY;
    if (i % 11 == 3) first[(size_t)i] = -300;
  }
  const int o2 = c.in(values(n * H * D, 2), t), lse2 = c.in(second, CFT_F32),
            o = c.inout(mine, t, rounding(t, 1e-5)), lse = c.inout(first, CFT_F32, {1e-5, 1e-5});
  c.check([&](device dev, const pointers &p) {
    const cft_attention_merge_args a = {p(o), p(lse), p(o2), p(lse2), n, H, D, stride, H * D, t};
    return dev->kernels->attention_merge(dev, nullptr, &a);
  });
}

static void test_attention_merge() {
  for (cft_dtype t : FLOATS) {
    attention_merge(1, 1, 1, 0, t);
    attention_merge(9, 3, 5, 0, t);
    attention_merge(13, 2, 64, 8, t);
    attention_merge(5, 4, 128, 0, t);
    attention_merge(7, 1, 264, 3, t);  // more than a warp takes at once, no wide access
    attention_merge(0, 2, 8, 0, t);
  }
}

// ---- loss ----------------------------------------------------------------------------------

static void cross_entropy(int64_t n, int64_t V, cft_dtype t, cft_dtype gt, double scale,
                          bool wants_grad, bool in_place, int64_t gap = 0) {
  kernel_case c(text("cross_entropy (%ld, %ld) %s->%s, logits to %g%s%s", (long)n, (long)V, name(t),
                     wants_grad ? name(gt) : "none", scale, in_place ? " in place" : "",
                     gap ? " strided" : ""));
  const int64_t stride = V + gap;
  std::vector<int32_t> target;
  doubles weight;
  for (int64_t i = 0; i < n; i++) {
    weight.push_back(i % 3 == 1 ? 0 : 0.5 + (double)(i % 4));
    target.push_back(i % 6 == 1 ? -100 : i % 6 == 4 ? (int32_t)V : (int32_t)(i * 7919 % V));
  }
  const tolerance tol = rounding(gt, gt == CFT_BF16 ? 1e-5 : 1e-6);
  const int x = in_place ? -1 : c.in(values(n * stride, 1, scale), t),
            g = in_place     ? c.inout(values(n * stride, 1, scale), gt, tol)
                : wants_grad ? c.inout(values(n * stride, 2), gt, tol)
                             : -1,
            nll = c.out(n, CFT_F32, {1e-5, 2e-5}), tg = c.ints(target), w = c.in(weight, CFT_F32);
  c.check([&](device dev, const pointers &p) {
    const cft_cross_entropy_args a = {p(nll),
                                      p(g),
                                      in_place ? p(g) : p(x),
                                      (int32_t *)p(tg),
                                      (float *)p(w),
                                      n,
                                      V,
                                      stride,
                                      stride,
                                      0.25,
                                      t,
                                      gt};
    return dev->kernels->cross_entropy(dev, nullptr, &a);
  });
}

static void softmax(int64_t n, int64_t d, cft_dtype t, double scale, bool beta) {
  kernel_case f(text("softmax_fwd (%ld, %ld) %s", (long)n, (long)d, name(t)));
  const int x = f.in(values(n * d, 1, scale), t), y = f.out(n * d, t, rounding(t, 1e-7));
  f.check([&](device dev, const pointers &p) {
    const cft_softmax_args a = {p(y), p(x), n, d, t};
    return dev->kernels->softmax_fwd(dev, nullptr, &a);
  });
  kernel_case c(
      text("softmax_bwd (%ld, %ld) %s%s", (long)n, (long)d, name(t), beta ? " beta" : ""));
  const tolerance tol = rounding(t, t == CFT_BF16 ? 4e-3 : 1e-5);
  const int dy = c.in(values(n * d, 2), t), by = c.in(values(n * d, 3), t),
            dx = beta ? c.inout(values(n * d, 4), t, tol) : c.out(n * d, t, tol);
  c.check([&](device dev, const pointers &p) {
    const cft_softmax_bwd_args a = {p(dx), p(dy), p(by), n, d, beta, t};
    return dev->kernels->softmax_bwd(dev, nullptr, &a);
  });
}

static void test_loss(bool quick) {
  for (cft_dtype t : FLOATS) {
    cross_entropy(3, 1, t, t, 1, true, false);
    cross_entropy(8, 1003, t, t, 4, true, true);
    cross_entropy(5, 1000, t, t, 300, true, false, 8);
    cross_entropy(7, 67, t, t, 1, false, false, 3);
    softmax(5, 67, t, 3, false);
    softmax(3, 1, t, 1, true);
    softmax(2, 1003, t, 100, true);
  }
  cross_entropy(7, 67, CFT_F32, CFT_BF16, 2, true, false, 3);
  cross_entropy(7, 1000, CFT_F32, CFT_BF16, 2, true, false);
  if (!quick) cross_entropy(2, 120008, CFT_BF16, CFT_BF16, 8, true, true);  // beyond what is kept
}

// ---- elementwise ---------------------------------------------------------------------------

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

static void test_elementwise(bool quick) {
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
}

// ---- reductions ----------------------------------------------------------------------------

static void reduce(cft_reduction f, int64_t outer, int64_t mid, int64_t inner, cft_dtype t,
                   cft_dtype yt, bool beta, bool nan = false, int64_t offset = 0) {
  kernel_case c(text("reduce %d of (%ld, %ld, %ld) %s->%s%s%s", (int)f, (long)outer, (long)mid,
                     (long)inner, name(t), name(yt), beta ? " beta" : "", nan ? " nan" : ""));
  doubles x = values(outer * mid * inner, 1);
  if (f == CFT_ARGMAX)
    for (double &v : x) v = floor(v * 20);  // with equals
  if (nan)
    for (size_t i = 0; i < x.size(); i += 3) x[i] = NAN;
  const double many = sqrt((double)mid + 1);
  const tolerance tol = f == CFT_ARGMAX  ? exact()
                        : yt == CFT_BF16 ? tolerance{0x1p-7, 1e-3}
                                         : tolerance{1e-5, 1e-6 * many};
  const int64_t results = outer * inner;
  const int from = c.in(x, t, offset),
            y = beta ? c.inout(values(results, 2), yt, tol) : c.out(results, yt, tol);
  c.check([&](device dev, const pointers &p) {
    const cft_reduce_args a = {p(y), p(from), outer, mid, inner, f == CFT_ARGMAX ? 1 : 0.5,
                               f,    beta,    t,     yt};
    return dev->kernels->reduce(dev, nullptr, &a);
  });
}

static void test_reduce(bool quick) {
  const cft_reduction all[] = {CFT_SUM, CFT_MAXIMUM, CFT_ARGMAX, CFT_SUM_SQUARES};
  for (cft_dtype t : FLOATS)
    for (cft_reduction f : all) {
      const cft_dtype yt = f == CFT_ARGMAX ? CFT_I32 : t,
                      wide = f == CFT_ARGMAX ? CFT_I32 : CFT_F32;
      reduce(f, 5, 67, 1, t, yt, false);
      reduce(f, 3, 16, 40, t, wide, f != CFT_ARGMAX);
      reduce(f, 2, 150, 9, t, yt, false, f == CFT_MAXIMUM || f == CFT_ARGMAX);
      reduce(f, 1, 20000, 1, t, wide, false);  // several blocks a row
      if (quick) continue;
      reduce(f, 2, 3000, 1, t, yt, false, false, 1);
      reduce(f, 1, 300, 24, t, yt, false);  // several stretches a column
      reduce(f, 1, 300, 67, t, wide, false);
      reduce(f, 4, 1, 5, t, yt, false);
      if (f != CFT_ARGMAX) reduce(f, 3, 0, 2, t, yt, false);
    }
}

// ---- casts, copies, fills ------------------------------------------------------------------

static void cast(cft_dtype from, cft_dtype to, int64_t n, int64_t offset = 0) {
  kernel_case c(
      text("cast %s->%s %ld%s", name(from), name(to), (long)n, offset ? " unaligned" : ""));
  doubles x = values(n, 1, 1000);
  const double special[] = {0,     -0.0, 1e30, -1e30, 3e-8, 6e-5,   65519,
                            65520, 0.5,  1.5,  2.5,   -2.5, 1.0 / 3};
  for (size_t i = 0; i < sizeof special / sizeof *special && i < x.size(); i++) x[i] = special[i];
  if (from == CFT_F16)
    for (size_t i = 0; i < x.size(); i++)
      x[i] = (double)(i * 2657 % 0x7c00 + (i % 2 << 15));  // bits
  if (from == CFT_F64)  // just beside a tie of bf16: two roundings would be one too many
    for (size_t i = 20; i < x.size(); i += 7) x[i] = (1 + 0x1p-8) * (1 + 1e-13);
  const bool from_integer = from == CFT_I32 || from == CFT_I64;
  if (from_integer)
    for (double &v : x)
      v = fmin(fmax(v, from == CFT_I32 ? -2147483648.0 : -9e18),
               from == CFT_I32 ? 2147483647.0 : 9e18);
  const int in = c.in(x, from, offset), y = c.out(n, to, exact());
  c.check([&](device dev, const pointers &p) {
    const cft_cast_args a = {p(y), p(in), n, to, from};
    return dev->kernels->cast(dev, nullptr, &a);
  });
}

static void strided(std::vector<int64_t> dims, std::vector<int64_t> to, std::vector<int64_t> from,
                    cft_dtype t) {
  std::string shape;
  for (int64_t n : dims) shape += (shape.empty() ? "" : " x ") + std::to_string(n);
  int64_t y_size = 1, x_size = 1;
  cft_strided_args a = {};
  a.ndim = (int)dims.size();
  a.dtype = t;
  for (size_t i = 0; i < dims.size(); i++) {
    a.dims[i] = dims[i];
    a.y_strides[i] = to[i];
    a.x_strides[i] = from[i];
    y_size += (dims[i] - 1) * to[i];
    x_size += (dims[i] - 1) * from[i];
  }
  kernel_case c("strided_copy " + shape + " " + name(t));
  const int x = c.in(values(x_size, 1, 100), t), y = c.inout(values(y_size, 2, 100), t, exact());
  c.check([&](device dev, const pointers &p) {
    a.y = p(y);
    a.x = p(x);
    return dev->kernels->strided_copy(dev, nullptr, &a);
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

static void random_numbers(cft_distribution f, int64_t n, cft_dtype t, int64_t offset = 0) {
  kernel_case c(text("random %s %ld %s%s", f == CFT_UNIFORM ? "uniform" : "normal", (long)n,
                     name(t), offset ? " unaligned" : ""));
  const int y = c.out(n, t, rounding(t, t == CFT_BF16 ? 4e-3 : 2e-5), offset);
  c.check([&](device dev, const pointers &p) {
    const cft_random_args a = {p(y), n, 0x123456789abcdef, 1ull << 40, -2, 3, f, t};
    return dev->kernels->random(dev, nullptr, &a);
  });
}

static void test_moves(bool quick) {
  const cft_dtype floats[] = {CFT_F32, CFT_BF16, CFT_F64, CFT_F16};
  const cft_dtype integers[] = {CFT_F32, CFT_I32, CFT_I64};
  for (cft_dtype from : floats)
    for (cft_dtype to : floats) cast(from, to, 203);
  for (cft_dtype from : integers)
    for (cft_dtype to : integers)
      if (from != to) cast(from, to, 203);
  cast(CFT_F32, CFT_BF16, 1000, 1);
  cast(CFT_F32, CFT_BF16, 0);
  for (cft_dtype t : {CFT_BF16, CFT_F32}) {
    strided({7, 5}, {5, 1}, {1, 7}, t);                 // a transpose
    strided({3, 4, 16}, {64, 16, 1}, {128, 32, 1}, t);  // rows of a wider buffer
    strided({2, 3, 2, 5}, {30, 10, 5, 1}, {6, 2, 1, 12}, t);
    strided({2, 1, 3, 1, 2, 2}, {12, 12, 4, 4, 2, 1}, {1, 7, 2, 9, 6, 12}, t);
    strided({9}, {3}, {2}, t);
    strided({3, 5}, {8, 1}, {16, 1}, t);  // odd rows that are evenly apart
  }
  strided({5, 6}, {6, 1}, {1, 5}, CFT_U8);
  strided({5, 6}, {6, 1}, {1, 5}, CFT_I64);
  for (cft_dtype t : {CFT_F32, CFT_BF16, CFT_F64, CFT_I32, CFT_I64, CFT_U8}) fill(t, 203, 0);
  fill(CFT_BF16, 203, 1);
  for (cft_dtype t : FLOATS) {
    random_numbers(CFT_UNIFORM, 1003, t);
    random_numbers(CFT_NORMAL, quick ? 67 : 4000, t, 1);
    random_numbers(CFT_NORMAL, 64, t);
  }
}

// ---- optimizer -----------------------------------------------------------------------------

static void adamw(int64_t n, cft_dtype t, cft_dtype gt, cft_dtype st, bool master, bool scaled,
                  int64_t offset = 0) {
  kernel_case c(text("adamw %ld %s, gradient %s, moments %s%s%s%s", (long)n, name(t), name(gt),
                     name(st), master ? ", master" : "", scaled ? ", scaled" : "",
                     offset ? ", unaligned" : ""));
  doubles v0 = values(n, 4, 1e-3);
  for (double &v : v0) v = fabs(v);
  // Rounding by chance: a sum that is off in the last place may go the other way.
  const tolerance by_chance = {0x1p-7, 1e-6}, f32 = {1e-5, 1e-7};
  const int p0 = c.inout(values(n, 1), t, t == CFT_BF16 ? by_chance : f32, offset),
            w = master ? c.inout(values(n, 1), CFT_F32, f32) : -1, g = c.in(values(n, 2), gt),
            m = c.inout(values(n, 3, 0.1), st, st == CFT_BF16 ? by_chance : f32),
            v = c.inout(v0, st, st == CFT_BF16 ? by_chance : f32),
            scale = scaled ? c.in({0.37}, CFT_F32) : -1;
  c.check([&](device dev, const pointers &p) {
    const cft_adamw_args a = {p(p0), p(w), p(m), p(v), p(g), (float *)p(scale),
                              n,     1e-2, 0.9,  0.95, 1e-8, 0.1,
                              7,     42,   t,    gt,   st};
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
                              7,     42,      t,    CFT_F32, t};
    return dev->kernels->adamw(dev, nullptr, &a);
  };
  c.check(call);
  if (wanted("adamw") && c.on_cpu(call, p0) != loaded(stored(values(n, 1), t), t))
    report(false, "adamw of a gradient that is no number: the CPU changed weights");
}

// Each parameter takes the way that chance decides, and on the whole they go where they should.
static void adamw_has_no_bias() {
  const std::string what = "adamw bf16 by chance: thirty small steps move as far as they should";
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
                              0.999, 1e-8,    0, step, 99, CFT_BF16, CFT_F32, CFT_F32};
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

static void test_optimizer(bool quick) {
  adamw(1003, CFT_F32, CFT_F32, CFT_F32, false, true);
  adamw(1003, CFT_BF16, CFT_BF16, CFT_F32, true, true);
  adamw(1003, CFT_BF16, CFT_BF16, CFT_BF16, false, false);
  adamw(1003, CFT_BF16, CFT_F32, CFT_BF16, true, true);
  adamw(67, CFT_BF16, CFT_F32, CFT_F32, false, true, 1);
  adamw(1, CFT_F32, CFT_BF16, CFT_F32, false, false);
  adamw_of_no_number(CFT_F32);
  adamw_of_no_number(CFT_BF16);
  adamw_has_no_bias();
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

// ---- the device itself ---------------------------------------------------------------------

static void test_device() {
  if (!wanted("device")) return;
  cft_device *d = the_world.gpu;
  cft_memory_use before, during, after;
  void *p = nullptr, *q = nullptr;
  d->memory(d, &before, 1);
  cft_status st = d->alloc(d, &p, 3000000, CFT_MEM_GRAD);
  d->memory(d, &during, 0);
  d->free(d, p, 3000000, CFT_MEM_GRAD);
  d->memory(d, &after, 0);
  report(!st && during.bytes[CFT_MEM_GRAD] == before.bytes[CFT_MEM_GRAD] + 3000000 &&
             during.total == before.total + 3000000 && after.total == before.total &&
             after.bytes[CFT_MEM_GRAD] == before.bytes[CFT_MEM_GRAD] &&
             after.peak == during.total && during.reserved >= during.total &&
             (uintptr_t)p % 256 == 0,
         "device: memory is counted by class, with its peak");
  st = d->sync(d);
  d->trim(d);
  d->memory(d, &after, 1);
  report(!st && after.peak == after.total && after.reserved <= during.reserved,
         "device: trim gives back what is not in use");

  st = d->alloc(d, &p, 0, CFT_MEM_OTHER);
  report(!st && p, "device: no bytes give a pointer that may be freed");
  d->free(d, p, 0, CFT_MEM_OTHER);

  st = d->alloc(d, &p, (size_t)1 << 50, CFT_MEM_ACTIVATION);
  report(st == CFT_E_OOM && !p && strstr(cft_last_error(), "of activations"),
         "device: out of memory says what for, and what is there", cft_last_error());
  report(d->sync(d) == CFT_OK, "device: a failure is answered once");

  std::vector<char> big(5 << 20), back(big.size());  // more than the staging slots hold at once
  for (size_t i = 0; i < big.size(); i++) big[i] = (char)(i * 2654435761u >> 13);
  const std::vector<char> kept = big;
  st = d->alloc(d, &p, big.size(), CFT_MEM_OTHER);
  if (!st) st = d->alloc(d, &q, big.size(), CFT_MEM_OTHER);
  for (int i = 0; i < 3 && !st; i++) st = d->upload(d, nullptr, p, big.data(), big.size());
  memset(big.data(), 7, big.size());  // upload has read it
  if (!st) st = d->copy(d, nullptr, q, p, big.size());
  if (!st) st = d->zero(d, nullptr, p, big.size());
  if (!st) st = d->download(d, nullptr, back.data(), q, back.size());
  report(!st && back == kept, "device: upload, copy, zero, download, in order");
  if (!st) st = d->download(d, nullptr, back.data(), p, back.size());
  report(!st && back == std::vector<char>(big.size(), 0), "device: zero");
  d->free(d, p, big.size(), CFT_MEM_OTHER);
  d->free(d, q, big.size(), CFT_MEM_OTHER);

  const cft_cast_args u8 = {nullptr, nullptr, 1, CFT_F32, CFT_U8};
  report(d->kernels->cast(d, nullptr, &u8) == CFT_E_UNSUPPORTED, "device: a cast from u8");
  const cft_softmax_args f64 = {nullptr, nullptr, 1, 1, CFT_F64};
  st = d->kernels->softmax_fwd(d, nullptr, &f64);
  report(
      st == CFT_E_UNSUPPORTED && strstr(cft_last_error(), "no cuda kernel for softmax_fwd in f64"),
      "device: f64 is the CPU's alone", cft_last_error());

  // What a step is made of, but for the loss: nothing of it waits for the device.
  if (the_world.waits) {
    const uint64_t waits = the_world.waits();
    st = d->alloc(d, &p, 4096, CFT_MEM_OTHER);
    const std::vector<char> ids(4096, 1);
    for (int i = 0; i < 40 && !st; i++) {  // more than there are staging slots
      st = d->upload(d, nullptr, p, ids.data(), ids.size());
      const cft_unary_args u = {p, p, 1024, CFT_NEG, 1, 0, CFT_F32};
      if (!st) st = d->kernels->unary(d, nullptr, &u);
    }
    d->free(d, p, 4096, CFT_MEM_OTHER);
    report(!st && the_world.waits() == waits, "device: uploads, kernels, memory: without a wait");
    d->sync(d);
  }
}

int main(int argc, char **argv) {
  bool quick = false;
  const char *module = nullptr;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--module") && i + 1 < argc)
      module = argv[++i];
    else if (!strcmp(argv[i], "--repeats") && i + 1 < argc)
      the_world.orders = (unsigned)atoi(argv[++i]);
    else if (!strcmp(argv[i], "quick"))
      quick = true;
    else
      the_world.filters.push_back(argv[i]);
  }
  the_world.set_order = cuda_emu_set_order;
  the_world.waits = cuda_emu_waits;
  if (module) {
    void *m = dlopen(module, RTLD_NOW | RTLD_GLOBAL);
    if (!m) {
      printf("FAIL  %s\n", dlerror());
      return 1;
    }
    *(void **)&open_cuda = dlsym(m, CFT_CUDA_OPEN_SYMBOL);
    *(void **)&the_world.set_order = dlsym(m, "cuda_emu_set_order");
    *(void **)&the_world.waits = dlsym(m, "cuda_emu_waits");
  }
  the_world.cpu = cft_cpu_device();
  if (!open_cuda || open_cuda(&the_world.gpu, 0) != CFT_OK) {
    printf("skip  no CUDA device: %s\n0 passed, 0 failed, 1 skipped\n", cft_last_error());
    return 0;
  }
  printf("%s: %s%s\n", the_world.gpu->name, the_world.gpu->description,
         the_world.set_order ? "; all that follows is emulated" : "");
  test_device();
  test_matmul(quick);
  test_matmul_sums(quick);
  test_autotune();
  test_rows(quick);
  test_rmsnorm(quick);
  test_activations(quick);
  test_attention(quick);
  test_attention_merge();
  test_loss(quick);
  test_elementwise(quick);
  test_reduce(quick);
  test_moves(quick);
  test_optimizer(quick);
  the_world.gpu->close(the_world.gpu);
  printf("%d passed, %d failed, %d skipped\n", the_world.passed, the_world.failed,
         the_world.skipped);
  return the_world.failed != 0;
}
