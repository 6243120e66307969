// kernels_cpu_heavy.c - matmul, attention and cross-entropy on the CPU, with bare arrays: against
// sums in double, finite differences, and themselves.
#include <dlfcn.h>

#include "cpu/cpu.h"
#include "device.h"
#include "test.h"

// ---- numbers -----------------------------------------------------------------------------------

static uint64_t state = 1;

// Uniform in [-1, 1), on a grid of 2^-6: exact in bf16, so that a reference sees what kernels see.
static double number(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (double)(int64_t)(state % 128) / 64 - 1;
}

static void put(void *x, cft_dtype dtype, int64_t i, double value) {
  if (dtype == CFT_F64)
    ((double *)x)[i] = value;
  else if (dtype == CFT_F32)
    ((float *)x)[i] = (float)value;
  else
    ((bf16 *)x)[i] = f32_bf16((float)value);
}

static double get(const void *x, cft_dtype dtype, int64_t i) {
  if (dtype == CFT_F64) return ((const double *)x)[i];
  if (dtype == CFT_F32) return ((const float *)x)[i];
  return bf16_f32(((const bf16 *)x)[i]);
}

// Half the distance of two numbers near 1.
static double epsilon(cft_dtype dtype) {
  return dtype == CFT_F64 ? 0x1p-53 : dtype == CFT_F32 ? 0x1p-24 : 0x1p-9;
}

// An array of n numbers; `fill` 0 leaves a value no kernel computes, so that a stray write shows.
static void *array(int64_t n, cft_dtype dtype, bool fill) {
  void *x = malloc((size_t)(n + 1) * cft_dtype_bytes(dtype));
  for (int64_t i = 0; i < n; i++) put(x, dtype, i, fill ? number() : 12345);
  return x;
}

static const char *const isas[] = {"base", "avx2", "avx512", "avx512bf16", "amx"};
enum { ISAS = sizeof isas / sizeof *isas };

// ---- matmul ------------------------------------------------------------------------------------

typedef struct matmul_case {
  int64_t m, n, k;
  int pad;  // columns of each row that belong to somebody else
} matmul_case;

static const matmul_case matmul_cases[] = {
    {1, 1, 1, 0},
    {1, 7, 5, 0},
    {3, 1, 9, 2},
    {5, 64, 1, 0},
    {17, 19, 23, 3},
    {64, 64, 64, 0},
    {33, 127, 65, 1},
    {130, 60, 128, 0},
    {2, 300, 576, 8},
    {257, 96, 31, 5},
    {40, 900, 530, 2},    // several blocks of columns, several
                          // slices of k where a is transposed
    {70, 400, 4200, 0},   // and where it is not
    {5, 33, 1024, 1024},  // rows that lie a multiple of 4096 bytes apart
};
enum { MATMUL_CASES = sizeof matmul_cases / sizeof *matmul_cases };

typedef struct matmul {
  cft_matmul_args args;
  void *a, *b, *c, *bias;
  double *before;  // c, as it was
} matmul;

static matmul matmul_new(const matmul_case *t, cft_dtype dtype, cft_dtype c_dtype, int flags) {
  int trans_a = flags & 1, trans_b = flags >> 1 & 1, beta = flags >> 2 & 1, bias = flags >> 3 & 1;
  int64_t a_stride = (trans_a ? t->m : t->k) + t->pad, b_stride = (trans_b ? t->k : t->n) + t->pad,
          c_stride = t->n + t->pad, size = t->m * c_stride;
  matmul x = {.a = array((trans_a ? t->k : t->m) * a_stride, dtype, true),
              .b = array((trans_b ? t->n : t->k) * b_stride, dtype, true),
              .c = array(size, c_dtype, beta),
              .bias = array(t->n, dtype, true),
              .before = malloc((size_t)size * sizeof *x.before)};
  for (int64_t i = 0; i < size; i++) x.before[i] = get(x.c, c_dtype, i);
  static uint64_t weights;
  x.args = (cft_matmul_args){.c = x.c,
                             .a = x.a,
                             .b = x.b,
                             .bias = bias ? x.bias : NULL,
                             .m = t->m,
                             .n = t->n,
                             .k = t->k,
                             .c_stride = c_stride,
                             .a_stride = a_stride,
                             .b_stride = b_stride,
                             .trans_a = trans_a,
                             .trans_b = trans_b,
                             .beta = beta,
                             .dtype = dtype,
                             .c_dtype = c_dtype,
                             .b_id = ++weights,
                             .b_version = 1};
  return x;
}

static void matmul_free(matmul *x) {
  free(x->a), free(x->b), free(x->c), free(x->bias), free(x->before);
}

static cft_status matmul_run(const matmul *x) {
  cft_device *cpu = cft_cpu_device();
  return cpu->kernels->matmul(cpu, NULL, &x->args);
}

// Every entry, or some of a large product.
static void compare_matmul(const matmul *x, const char *by) {
  const cft_matmul_args *a = &x->args;
  int64_t entries = a->m * a->c_stride, step = (a->m * a->n * a->k / 500000) | 1;
  for (int64_t at = 0; at < entries; at += step) {
    int64_t i = at / a->c_stride, j = at % a->c_stride;
    double got = get(x->c, a->c_dtype, at), want = x->before[at], size = 0;
    if (j >= a->n) {
      if (got != want) TEST_FAIL("%s wrote past row %d: %g", by, (int)i, got);
      continue;
    }
    want = a->beta ? want : 0;
    if (a->bias) want += get(a->bias, a->dtype, j);
    for (int64_t p = 0; p < a->k; p++) {
      double product = get(a->a, a->dtype, a->trans_a ? p * a->a_stride + i : i * a->a_stride + p) *
                       get(a->b, a->dtype, a->trans_b ? j * a->b_stride + p : p * a->b_stride + j);
      want += product, size += fabs(product);
    }
    cft_dtype sum = a->dtype == CFT_F64 ? CFT_F64 : CFT_F32;
    double bound =
        4 * epsilon(sum) * (size + fabs(want) + 2) + 2 * epsilon(a->c_dtype) * fabs(want);
    if (!(fabs(got - want) <= bound))
      TEST_FAIL(
          "%s, (%d, %d, %d) of %s into %s, transposed %d %d, beta %d, bias %d: c[%d, %d] is "
          "%.9g, expected %.9g to %g",
          by, (int)a->m, (int)a->n, (int)a->k, cft_dtype_name(a->dtype), cft_dtype_name(a->c_dtype),
          a->trans_a, a->trans_b, a->beta, a->bias != NULL, (int)i, (int)j, got, want, bound);
  }
}

static const struct {
  cft_dtype dtype, c_dtype;
} matmul_types[] = {
    {CFT_F32, CFT_F32}, {CFT_BF16, CFT_BF16}, {CFT_BF16, CFT_F32}, {CFT_F64, CFT_F64}};

static void check_matmuls(const char *by, int types) {
  for (int i = 0; i < MATMUL_CASES; i++)
    for (int type = 0; type < types; type++)
      for (int flags = 0; flags < 16; flags++) {
        if (i == 11 && flags % 5 != 0) continue;  // large: each flag both ways is enough
        matmul x = matmul_new(&matmul_cases[i], matmul_types[type].dtype,
                              matmul_types[type].c_dtype, flags);
        cft_status st = matmul_run(&x);
        if (st == CFT_OK) compare_matmul(&x, by);
        matmul_free(&x);
        if (st == CFT_E_UNSUPPORTED && strncmp(by, "onednn", 6) == 0) continue;  // no AVX-512
        EXPECT_OK(st);
        if (TEST_FAILED()) return;
      }
}

TEST(matmul_against_double) {
  for (int isa = 0; isa < ISAS; isa++) {
    if (cft_cpu_set_isa(isas[isa]) != CFT_OK) continue;  // this processor lacks it
    check_matmuls(isas[isa], isa == 0 ? 4 : 3);
    if (TEST_FAILED()) return;
  }
}

// The module of `cftrun bench`, its matmuls in the place of ours. CMake says where it is built.
TEST(matmul_by_onednn) {
#ifndef CFT_BENCH_ONEDNN
  SKIP("built without libdnnl-dev");
#else
  void *module = dlopen(CFT_BENCH_ONEDNN, RTLD_NOW | RTLD_LOCAL);
  if (module == NULL) TEST_FAIL("%s", dlerror());
  cft_status (*plain)(cft_device *, cft_stream *, const cft_matmul_args *);
  cft_status (*packed)(cft_device *, cft_stream *, const cft_matmul_args *);
  void (*forget)(cft_device *);
  *(void **)&plain = dlsym(module, "cft_onednn_matmul");
  *(void **)&packed = dlsym(module, "cft_onednn_matmul_packed");
  *(void **)&forget = dlsym(module, "cft_onednn_forget");
  EXPECT(plain && packed && forget);
  cft_device *cpu = cft_cpu_device();
  const cft_kernels *own = cpu->kernels;
  cft_kernels theirs = *own;
  cpu->kernels = &theirs;
  theirs.matmul = plain;
  check_matmuls("onednn", 3);
  theirs.matmul = packed;
  if (!TEST_FAILED()) check_matmuls("onednn-packed", 3);
  // A weight that changes in place: another edition must not meet the old one's packed copy.
  matmul x = matmul_new(&(matmul_case){8, 40, 24, 0}, CFT_F32, CFT_F32, 2);
  cft_status first = matmul_run(&x);
  for (int i = 0; i < 40 * 24; i++) ((float *)x.b)[i] += 1;
  x.args.b_version++;
  cft_status second = matmul_run(&x);
  x.args.k = 0;
  cft_status empty = matmul_run(&x);
  x.args.k = 24;
  forget(cpu);
  cpu->kernels = own;
  EXPECT_OK(first);
  EXPECT_OK(second);
  EXPECT_INT(empty, CFT_E_UNSUPPORTED);
  compare_matmul(&x, "onednn-packed, the second time");
  matmul_free(&x);
  cft_memory_use use;
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.total, 0);
#endif
}

// A row's bits depend on the row alone: neither on the rows around it nor on the threads.
TEST(matmul_rows_keep_their_bits) {
  int threads = cft_cpu_threads();
  int64_t worth = cft_cpu_worth_waking;
  cft_cpu_worth_waking = 1;
  for (int isa = 0; isa < ISAS; isa++) {
    if (cft_cpu_set_isa(isas[isa]) != CFT_OK) continue;
    for (int type = 0; type < 3; type++)
      for (int flags = 0; flags < 4; flags++) {
        cft_dtype c_dtype = matmul_types[type].c_dtype;
        matmul x =
            matmul_new(&(matmul_case){301, 500, 300, 1}, matmul_types[type].dtype, c_dtype, flags);
        size_t row = (size_t)x.args.c_stride * cft_dtype_bytes(c_dtype);
        void *once = malloc(301 * row);
        EXPECT_OK(cft_cpu_set_threads(1));
        EXPECT_OK(matmul_run(&x));
        memcpy(once, x.c, 301 * row);
        EXPECT_OK(cft_cpu_set_threads(3));
        EXPECT_OK(matmul_run(&x));
        EXPECT(memcmp(once, x.c, 301 * row) == 0);
        x.args.m = 45;
        x.args.c = (char *)x.c + 7 * row;  // rows 7 to 51, alone
        x.args.a = (char *)x.a + (size_t)(7 * (flags & 1 ? 1 : x.args.a_stride)) *
                                     cft_dtype_bytes(matmul_types[type].dtype);
        EXPECT_OK(matmul_run(&x));
        EXPECT(memcmp(once, x.c, 301 * row) == 0);
        free(once);
        matmul_free(&x);
      }
  }
  cft_cpu_worth_waking = worth;
  EXPECT_OK(cft_cpu_set_threads(threads));
}

// A NaN in a row of a reaches that row of c, and what pads the blocks reaches none.
TEST(matmul_passes_nan_on) {
  for (int isa = 0; isa < ISAS; isa++) {
    if (cft_cpu_set_isa(isas[isa]) != CFT_OK) continue;
    for (int flags = 0; flags < 4; flags++) {
      matmul x = matmul_new(&(matmul_case){37, 53, 41, 0}, CFT_F32, CFT_F32, flags);
      ((float *)x.a)[flags & 1 ? 40 * 37 + 36 : 36 * 41 + 40] = NAN;  // the last of the last row
      ((float *)x.b)[flags & 2 ? 52 * 41 + 40 : 40 * 53 + 52] = INFINITY;
      EXPECT_OK(matmul_run(&x));
      for (int i = 0; i < 37; i++)
        for (int j = 0; j < 53; j++) {
          float c = ((float *)x.c)[i * 53 + j];
          EXPECT(i == 36 ? isnan(c) : j == 52 ? !isfinite(c) : isfinite(c));
        }
      matmul_free(&x);
    }
  }
}

TEST(matmul_of_nothing) {
  cft_device *cpu = cft_cpu_device();
  float c[6] = {1, 2, 3, 4, 5, 6}, bias[3] = {10, 20, 30};
  cft_matmul_args a = {.c = c, .bias = bias, .m = 2, .n = 3, .k = 0, .c_stride = 3, .beta = 1};
  EXPECT_OK(cpu->kernels->matmul(cpu, NULL, &a));
  EXPECT_CLOSE(c[5], 36, 0);  // a sum over no k leaves c and bias
  a.beta = 0, a.bias = NULL;
  EXPECT_OK(cpu->kernels->matmul(cpu, NULL, &a));
  EXPECT_CLOSE(c[5], 0, 0);
  a.m = 0;
  EXPECT_OK(cpu->kernels->matmul(cpu, NULL, &a));
  a.n = 0;
  EXPECT_OK(cpu->kernels->matmul(cpu, NULL, &a));
  a.dtype = CFT_F32, a.c_dtype = CFT_BF16;
  EXPECT_FAILS(cpu->kernels->matmul(cpu, NULL, &a), CFT_E_UNSUPPORTED, "f32 into bf16");
}

// ---- attention ---------------------------------------------------------------------------------

enum { MOST = 8 };  // sequences of a case

typedef struct attention_case {
  const char *name;
  int64_t H, K, D;
  int q_len[MOST], k_len[MOST], n;  // k_len 0 where it is q_len: see `own_keys`
  bool own_keys;                    // k_len says how many keys there are
  int gap;                          // key rows after each sequence that belong to none
  bool subset;                      // q_position: every second row and the last
  bool not_causal, fused;           // fused: q, k, v are views of one buffer
} attention_case;

static const attention_case attention_cases[] = {
    {"one token", 1, 1, 16, {1}, {0}, 1, 0, 0, 0, 0, 0},
    {"two heads", 2, 2, 8, {5}, {0}, 1, 0, 0, 0, 0, 0},
    {"packed", 2, 1, 32, {3, 1, 0, 70, 17}, {0}, 5, 0, 0, 0, 0, 0},
    {"groups of three", 9, 3, 64, {40, 129}, {0}, 2, 0, 0, 0, 0, 1},
    {"odd width", 3, 1, 21, {37, 2}, {0}, 2, 0, 0, 0, 0, 1},
    {"width 128", 4, 2, 128, {101}, {0}, 1, 0, 0, 0, 0, 0},
    {"many blocks", 1, 1, 16, {401}, {0}, 1, 0, 0, 0, 0, 0},
    {"group larger than a block", 128, 1, 4, {9}, {0}, 1, 0, 0, 0, 0, 0},
    {"decode", 6, 2, 32, {1, 1, 1}, {1, 250, 33}, 3, 1, 3, 0, 0, 0},
    {"chunk after a cache", 4, 2, 16, {5, 30}, {100, 30}, 2, 1, 0, 0, 0, 0},
    {"no keys", 2, 1, 16, {2, 3}, {0, 3}, 2, 1, 2, 0, 0, 0},
    {"more queries than keys", 2, 1, 16, {7}, {4}, 1, 1, 0, 0, 0, 0},
    {"rows with loss only", 4, 2, 32, {90, 1, 30}, {0}, 3, 0, 0, 1, 0, 0},
    {"keys of nobody", 2, 2, 16, {20, 30}, {0}, 2, 0, 5, 0, 0, 0},
    {"not causal", 4, 2, 32, {11, 120}, {130, 7}, 2, 1, 1, 0, 1, 0},
};
enum { ATTENTION_CASES = sizeof attention_cases / sizeof *attention_cases };

// A case with its arrays. References are laid out as the kernel's, in double.
typedef struct attention {
  cft_attention_args f;
  cft_attention_bwd_args b;
  int32_t cu_q[MOST + 1], cu_k[MOST + 1], k_len[MOST], *position;
  void *q, *k, *v, *buffer, *o, *lse, *go, *dq, *dk, *dv;
  cft_dtype sums;
} attention;

static void attention_new(attention *x, const attention_case *c, cft_dtype dtype) {
  memset(x, 0, sizeof *x);
  int64_t nq = 0, nk = 0, longest_q = 0, longest_k = 0;
  x->position = malloc(4096 * sizeof *x->position);
  for (int b = 0; b < c->n; b++) {
    int64_t keys = c->own_keys ? c->k_len[b] : c->q_len[b];
    x->cu_q[b] = (int32_t)nq, x->cu_k[b] = (int32_t)nk, x->k_len[b] = (int32_t)keys;
    int64_t rows = 0;
    for (int i = 0; i < c->q_len[b]; i++)
      if (!c->subset || i % 2 || i == c->q_len[b] - 1) x->position[nq + rows++] = i;
    nq += rows, nk += keys + c->gap;
    longest_q = cpu_max(longest_q, rows), longest_k = cpu_max(longest_k, keys);
  }
  x->cu_q[c->n] = (int32_t)nq, x->cu_k[c->n] = (int32_t)nk;
  x->sums = dtype == CFT_F64 ? CFT_F64 : CFT_F32;
  int64_t dq = c->H * c->D, dk = c->K * c->D, width = dq + 2 * dk;
  int64_t q_stride = c->fused ? width : dq, k_stride = c->fused ? width : dk;
  size_t bytes = cft_dtype_bytes(dtype);
  if (c->fused) {
    x->buffer = x->q = array(nq * width, dtype, true);
    x->k = (char *)x->q + (size_t)dq * bytes, x->v = (char *)x->k + (size_t)dk * bytes;
  } else {
    x->q = array(nq * dq, dtype, true);
    x->k = array(nk * dk, dtype, true), x->v = array(nk * dk, dtype, true);
  }
  x->o = array(nq * dq, dtype, false), x->lse = array(nq * c->H, x->sums, false);
  x->go = array(nq * dq, dtype, true);
  x->dq = array(nq * dq, dtype, false);
  x->dk = array(nk * dk, dtype, false), x->dv = array(nk * dk, dtype, false);
  x->f = (cft_attention_args){.o = x->o,
                              .lse = x->lse,
                              .q = x->q,
                              .k = x->k,
                              .v = x->v,
                              .cu_q = x->cu_q,
                              .cu_k = x->cu_k,
                              .k_len = c->own_keys || c->gap ? x->k_len : NULL,
                              .q_position = c->subset ? x->position : NULL,
                              .nq = nq,
                              .nk = nk,
                              .B = c->n,
                              .longest_q = longest_q,
                              .longest_k = longest_k,
                              .H = c->H,
                              .K = c->K,
                              .D = c->D,
                              .o_stride = dq,
                              .q_stride = q_stride,
                              .k_stride = k_stride,
                              .v_stride = k_stride,
                              .scale = 1.7 / sqrt((double)c->D),
                              .causal = !c->not_causal,
                              .dtype = dtype};
  x->b = (cft_attention_bwd_args){.dq = x->dq,
                                  .dk = x->dk,
                                  .dv = x->dv,
                                  .do_ = x->go,
                                  .o = x->o,
                                  .lse = x->lse,
                                  .q = x->q,
                                  .k = x->k,
                                  .v = x->v,
                                  .cu_q = x->cu_q,
                                  .cu_k = x->cu_k,
                                  .k_len = x->f.k_len,
                                  .q_position = x->f.q_position,
                                  .nq = nq,
                                  .nk = nk,
                                  .B = c->n,
                                  .longest_q = longest_q,
                                  .longest_k = longest_k,
                                  .H = c->H,
                                  .K = c->K,
                                  .D = c->D,
                                  .dq_stride = dq,
                                  .dk_stride = dk,
                                  .dv_stride = dk,
                                  .do_stride = dq,
                                  .o_stride = dq,
                                  .q_stride = q_stride,
                                  .k_stride = k_stride,
                                  .v_stride = k_stride,
                                  .scale = x->f.scale,
                                  .causal = x->f.causal,
                                  .deterministic = 1,
                                  .dtype = dtype};
}

static void attention_free(attention *x) {
  if (!x->buffer) free(x->q), free(x->k), free(x->v);
  free(x->buffer), free(x->o), free(x->lse), free(x->go), free(x->dq), free(x->dk), free(x->dv);
  free(x->position);
}

static cft_status attention_forward(attention *x) {
  cft_device *cpu = cft_cpu_device();
  return cpu->kernels->attention_fwd(cpu, NULL, &x->f);
}

static cft_status attention_backward(attention *x) {
  cft_device *cpu = cft_cpu_device();
  return cpu->kernels->attention_bwd(cpu, NULL, &x->b);
}

typedef struct attention_answer {
  double *o, *lse, *dq, *dk, *dv;
} attention_answer;

// Row by row, as the comment in kernels.h says it. The backward's rounding errors are relative to
// sums of absolute values, which are O(1) here: |numbers| <= 1.
static attention_answer attention_reference(const attention *x) {
  const cft_attention_args *a = &x->f;
  int64_t D = a->D, dq = a->H * D, dk = a->K * D;
  attention_answer r = {calloc((size_t)(a->nq * dq) + 1, 8), calloc((size_t)(a->nq * a->H) + 1, 8),
                        calloc((size_t)(a->nq * dq) + 1, 8), calloc((size_t)(a->nk * dk) + 1, 8),
                        calloc((size_t)(a->nk * dk) + 1, 8)};
  double *s = malloc((size_t)(a->longest_k + 1) * 8), *dp = malloc((size_t)(a->longest_k + 1) * 8);
  for (int64_t b = 0; b < a->B; b++) {
    int64_t queries = a->cu_q[b + 1] - a->cu_q[b], keys = x->k_len[b];
    for (int64_t i = 0; i < queries; i++)
      for (int64_t h = 0; h < a->H; h++) {
        int64_t row = a->cu_q[b] + i, kh = h / (a->H / a->K);
        int64_t at = a->q_position ? a->q_position[row] : keys - queries + i;
        int64_t n = a->causal ? cpu_max(0, cpu_min(at + 1, keys)) : keys;
        double top = -INFINITY, sum = 0, delta = 0, *o = r.o + row * dq + h * D;
        for (int64_t j = 0; j < n; j++) {
          s[j] = 0;
          for (int64_t e = 0; e < D; e++)
            s[j] += get(a->q, a->dtype, row * a->q_stride + h * D + e) *
                    get(a->k, a->dtype, (a->cu_k[b] + j) * a->k_stride + kh * D + e);
          s[j] *= a->scale;
          top = fmax(top, s[j]);
        }
        for (int64_t j = 0; j < n; j++) sum += exp(s[j] - top);
        r.lse[row * a->H + h] = n ? top + log(sum) : -INFINITY;
        for (int64_t j = 0; j < n; j++) {
          s[j] = exp(s[j] - top) / sum, dp[j] = 0;
          for (int64_t e = 0; e < D; e++) {
            double v = get(a->v, a->dtype, (a->cu_k[b] + j) * a->v_stride + kh * D + e);
            double g = get(x->go, a->dtype, row * dq + h * D + e);
            o[e] += s[j] * v, dp[j] += g * v;
            r.dv[(a->cu_k[b] + j) * dk + kh * D + e] += s[j] * g;
          }
        }
        for (int64_t j = 0; j < n; j++) delta += s[j] * dp[j];
        for (int64_t j = 0; j < n; j++)
          for (int64_t e = 0; e < D; e++) {
            double ds = a->scale * s[j] * (dp[j] - delta);
            r.dq[row * dq + h * D + e] +=
                ds * get(a->k, a->dtype, (a->cu_k[b] + j) * a->k_stride + kh * D + e);
            r.dk[(a->cu_k[b] + j) * dk + kh * D + e] +=
                ds * get(a->q, a->dtype, row * a->q_stride + h * D + e);
          }
      }
  }
  free(s), free(dp);
  return r;
}

static void answer_free(attention_answer *r) {
  free(r->o), free(r->lse), free(r->dq), free(r->dk), free(r->dv);
}

static void compare(const char *name, const char *what, const void *got, cft_dtype dtype,
                    const double *want, int64_t n, double bound) {
  for (int64_t i = 0; i < n; i++) {
    double g = get(got, dtype, i), w = want[i];
    if (!(g == w || fabs(g - w) <= bound * (1 + fabs(w))))
      TEST_FAIL("%s, %s, %s: %s[%d] is %.9g, expected %.9g to %g", name, cft_dtype_name(dtype),
                cft_cpu_isa(), what, (int)i, g, w, bound);
  }
}

static void check_attention(const attention_case *c, cft_dtype dtype) {
  attention x;
  attention_new(&x, c, dtype);
  EXPECT_OK(attention_forward(&x));
  EXPECT_OK(attention_backward(&x));
  attention_answer want = attention_reference(&x);
  int64_t dq = c->H * c->D, dk = c->K * c->D, group = c->H / c->K;
  // lse is f32 for bf16 too. Gradients sum over queries and the heads of a group.
  double bound = dtype == CFT_F64 ? 1e-13 : dtype == CFT_F32 ? 4e-6 : 0x1p-7;
  double keys_bound = bound * (2 + sqrt((double)group));
  compare(c->name, "o", x.o, dtype, want.o, x.f.nq * dq, bound);
  compare(c->name, "lse", x.lse, x.sums, want.lse, x.f.nq * c->H, dtype == CFT_F64 ? 1e-14 : 2e-6);
  compare(c->name, "dq", x.dq, dtype, want.dq, x.f.nq * dq, 2 * bound);
  compare(c->name, "dk", x.dk, dtype, want.dk, x.f.nk * dk, keys_bound);
  compare(c->name, "dv", x.dv, dtype, want.dv, x.f.nk * dk, keys_bound);
  answer_free(&want);
  attention_free(&x);
}

TEST(attention_against_double) {
  for (int isa = 0; isa < ISAS; isa++) {
    if (cft_cpu_set_isa(isas[isa]) != CFT_OK) continue;  // this processor lacks it
    for (int i = 0; i < ATTENTION_CASES && !TEST_FAILED(); i++) {
      check_attention(&attention_cases[i], CFT_F32);
      check_attention(&attention_cases[i], CFT_BF16);
      if (isa == 0) check_attention(&attention_cases[i], CFT_F64);
    }
  }
}

// d sum(go * o) / dx by central differences, against backward, for every number of q, k and v.
TEST(attention_gradients_are_slopes) {
  const attention_case c = {"slopes", 4, 2, 6, {3, 0, 9, 1}, {0}, 4, 0, 1, 0, 0, 0};
  attention x;
  attention_new(&x, &c, CFT_F64);
  EXPECT_OK(attention_forward(&x));
  EXPECT_OK(attention_backward(&x));
  int64_t dq = c.H * c.D, dk = c.K * c.D;
  double *from[] = {x.q, x.k, x.v}, *grad[] = {x.dq, x.dk, x.dv};
  for (int which = 0; which < 3; which++) {
    int64_t n = which ? x.f.nk * dk : x.f.nq * dq;
    for (int64_t i = 0; i < n; i++) {
      double keep = from[which][i], step = 1e-5, up = 0;
      for (int sign = 1; sign >= -1; sign -= 2) {
        from[which][i] = keep + sign * step;
        EXPECT_OK(attention_forward(&x));
        for (int64_t j = 0; j < x.f.nq * dq; j++)
          up += sign * ((double *)x.o)[j] * ((double *)x.go)[j];
      }
      from[which][i] = keep;
      EXPECT_CLOSE(grad[which][i], up / (2 * step), 1e-9);
    }
  }
  attention_free(&x);
}

// The rows of one sequence keep their bits whatever else is in the pack, and for any thread count.
TEST(attention_ignores_neighbours) {
  const attention_case alone = {"alone", 4, 2, 24, {0, 150, 0}, {0}, 3, 0, 0, 0, 0, 0};
  const attention_case packed = {"packed", 4, 2, 24, {31, 150, 203}, {0}, 3, 0, 0, 0, 0, 0};
  int threads = cft_cpu_threads();
  for (int type = 0; type < 3; type++) {
    cft_dtype dtype = (cft_dtype[]){CFT_F32, CFT_BF16, CFT_F64}[type];
    attention x, y;
    attention_new(&x, &alone, dtype), attention_new(&y, &packed, dtype);
    size_t size = cft_dtype_bytes(dtype), q = (size_t)(alone.H * alone.D) * size,
           k = (size_t)(alone.K * alone.D) * size;
    memcpy((char *)y.q + 31 * q, x.q, 150 * q), memcpy((char *)y.go + 31 * q, x.go, 150 * q);
    memcpy((char *)y.k + 31 * k, x.k, 150 * k), memcpy((char *)y.v + 31 * k, x.v, 150 * k);
    EXPECT_OK(cft_cpu_set_threads(1));
    EXPECT_OK(attention_forward(&x));
    EXPECT_OK(attention_backward(&x));
    EXPECT_OK(cft_cpu_set_threads(3));
    EXPECT_OK(attention_forward(&y));
    EXPECT_OK(attention_backward(&y));
    EXPECT(memcmp(x.o, (char *)y.o + 31 * q, 150 * q) == 0);
    EXPECT(memcmp(x.dq, (char *)y.dq + 31 * q, 150 * q) == 0);
    EXPECT(memcmp(x.dk, (char *)y.dk + 31 * k, 150 * k) == 0);
    EXPECT(memcmp(x.dv, (char *)y.dv + 31 * k, 150 * k) == 0);
    attention_free(&x), attention_free(&y);
  }
  EXPECT_OK(cft_cpu_set_threads(threads));
}

// A NaN in a key reaches every query that sees it, o and lse, and no other sequence.
TEST(attention_passes_nan_on) {
  const attention_case c = {"nan", 2, 1, 16, {5, 60}, {0}, 2, 0, 0, 0, 0, 0};
  for (int isa = 0; isa < ISAS; isa++) {
    if (cft_cpu_set_isa(isas[isa]) != CFT_OK) continue;
    attention x;
    attention_new(&x, &c, CFT_F32);
    ((float *)x.k)[(5 + 40) * 16 + 3] = NAN;
    EXPECT_OK(attention_forward(&x));
    EXPECT_OK(attention_backward(&x));
    for (int64_t i = 0; i < 65; i++)
      for (int64_t h = 0; h < 2; h++) {
        EXPECT(isnan(((float *)x.lse)[i * 2 + h]) == (i >= 45));
        if (i >= 45) EXPECT(isnan(((float *)x.o)[i * 32 + h * 16]));
        if (i < 5) EXPECT(isfinite(((float *)x.o)[i * 32 + h * 16 + 7]));
      }
    EXPECT(isnan(((float *)x.dq)[64 * 32]));
    EXPECT(isfinite(((float *)x.dq)[4 * 32 + 31]) && isfinite(((float *)x.dk)[4 * 16 + 15]));
    attention_free(&x);
  }
}

// Scores of some thousands, all negative: what cancels must be subtracted before exp.
TEST(attention_with_large_scores) {
  const attention_case c = {"large", 2, 2, 16, {130}, {0}, 1, 0, 0, 0, 0, 0};
  attention x;
  attention_new(&x, &c, CFT_F32);
  float *q = x.q, *k = x.k;
  for (int64_t i = 0; i < 130 * 32; i++) q[i] = 64, k[i] = -64 + (float)(i % 3);
  EXPECT_OK(attention_forward(&x));
  EXPECT_OK(attention_backward(&x));
  attention_answer want = attention_reference(&x);
  compare(c.name, "o", x.o, CFT_F32, want.o, 130 * 32, 2e-3);  // a score of 27,000 is known to 1e-3
  compare(c.name, "lse", x.lse, CFT_F32, want.lse, 130 * 2, 1e-6);
  for (int64_t i = 0; i < 130 * 32; i++) EXPECT(isfinite(((float *)x.dq)[i]));
  EXPECT(want.lse[0] < -20000);
  answer_free(&want);
  attention_free(&x);
}

// Scratch is all that these kernels allocate: without it they fail, and leave nothing behind.
TEST(heavy_kernels_without_memory) {
  cft_device *cpu = cft_cpu_device();
  attention x;
  attention_new(&x, &attention_cases[2], CFT_F32);
  matmul y = matmul_new(&matmul_cases[4], CFT_F32, CFT_F32, 0);
  cft_cpu_fail_alloc(1);
  EXPECT_FAILS(attention_forward(&x), CFT_E_OOM, "memory");
  cft_cpu_fail_alloc(1);
  EXPECT_FAILS(attention_backward(&x), CFT_E_OOM, "memory");
  cft_cpu_fail_alloc(1);
  EXPECT_FAILS(matmul_run(&y), CFT_E_OOM, "memory");
  cft_memory_use use;
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.total, 0);
  EXPECT_CLOSE(((float *)x.o)[0], 12345, 0);
  EXPECT_CLOSE(((float *)y.c)[0], 12345, 0);
  attention_free(&x);
  matmul_free(&y);
}

// ---- cross-entropy -----------------------------------------------------------------------------

static void check_cross_entropy(int64_t n, int64_t V, cft_dtype dtype, cft_dtype grad_dtype,
                                bool in_place) {
  int64_t stride = V + 3;
  cft_dtype sums = dtype == CFT_F64 ? CFT_F64 : CFT_F32;
  void *logits = array(n * stride, dtype, true), *nll = array(n, sums, false);
  void *grad = in_place ? logits : array(n * stride, grad_dtype, false);
  int32_t *target = malloc((size_t)n * sizeof *target);
  float *weight = malloc((size_t)n * sizeof *weight);
  double *x = malloc((size_t)(n * stride) * sizeof *x), stray = get(grad, grad_dtype, 0);
  for (int64_t i = 0; i < n * stride; i++) {
    x[i] = 8 * number();
    put(logits, dtype, i, x[i]);
    x[i] = get(logits, dtype, i);
  }
  for (int64_t i = 0; i < n; i++) {
    weight[i] = (float[]){1, 0, 0.5f, 0}[i % 4];
    target[i] = i % 4 == 3 ? (i % 8 == 3 ? -100 : (int32_t)V) : (int32_t)((i * 7919) % V);
  }
  cft_device *cpu = cft_cpu_device();
  cft_cross_entropy_args a = {.nll = nll,
                              .grad = grad,
                              .logits = logits,
                              .target = target,
                              .weight = weight,
                              .n = n,
                              .V = V,
                              .logits_stride = stride,
                              .grad_stride = stride,
                              .scale = 0.25,
                              .dtype = dtype,
                              .grad_dtype = grad_dtype};
  EXPECT_OK(cpu->kernels->cross_entropy(cpu, NULL, &a));
  double bound = dtype == CFT_F64 ? 1e-14 : 4e-7;
  for (int64_t i = 0; i < n; i++) {
    double top = -INFINITY, sum = 0, *row = x + i * stride;
    for (int64_t j = 0; j < V; j++) top = fmax(top, row[j]);
    for (int64_t j = 0; j < V; j++) sum += exp(row[j] - top);
    double lse = top + log(sum);
    EXPECT_CLOSE(get(nll, sums, i), i % 4 == 3 ? 0 : lse - row[target[i]], 4 * bound);
    for (int64_t j = 0; j < V; j++) {
      double want = 0.25 * weight[i] * (exp(row[j] - lse) - (j == target[i]));
      double got = get(grad, grad_dtype, i * stride + j);
      double to = bound + (2 * epsilon(grad_dtype) + 16 * bound) * fabs(want);
      if (!(fabs(got - want) <= to))
        TEST_FAIL("V %d, %s: grad[%d, %d] is %.9g, expected %.9g to %g", (int)V,
                  cft_dtype_name(dtype), (int)i, (int)j, got, want, to);
    }
    for (int64_t j = V; j < stride; j++)
      EXPECT(get(grad, grad_dtype, i * stride + j) == (in_place ? row[j] : stray));
  }
  if (!in_place) free(grad);
  free(logits), free(nll), free(target), free(weight), free(x);
}

TEST(cross_entropy_against_double) {
  static const int64_t widths[] = {1, 2, 15, 60, 1024, 1025, 5000};
  for (int isa = 0; isa < ISAS; isa++) {
    if (cft_cpu_set_isa(isas[isa]) != CFT_OK) continue;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
      for (int in_place = 0; in_place < 2; in_place++) {
        check_cross_entropy(9, widths[w], CFT_F32, CFT_F32, in_place);
        check_cross_entropy(9, widths[w], CFT_BF16, CFT_BF16, in_place);
        check_cross_entropy(9, widths[w], CFT_F64, CFT_F64, in_place);
      }
      check_cross_entropy(9, widths[w], CFT_F32, CFT_BF16, false);
      if (TEST_FAILED()) return;
    }
  }
}

TEST(cross_entropy_of_infinities) {
  enum { V = 2100 };  // more than two chunks, so that a whole chunk may be -inf
  float x[V], nll, weight = 1, *grad = malloc(V * sizeof *grad);
  int32_t target = V - 1;
  for (int i = 0; i < V; i++) x[i] = i < V - 2 ? -INFINITY : 3;
  cft_device *cpu = cft_cpu_device();
  cft_cross_entropy_args a = {.nll = &nll,
                              .grad = grad,
                              .logits = x,
                              .target = &target,
                              .weight = &weight,
                              .n = 1,
                              .V = V,
                              .scale = 1};
  EXPECT_OK(cpu->kernels->cross_entropy(cpu, NULL, &a));
  EXPECT_CLOSE(nll, log(2), 1e-6);
  EXPECT_CLOSE(grad[0], 0, 0);
  EXPECT_CLOSE(grad[V - 2], 0.5, 1e-6);
  target = 0;  // of probability 0
  EXPECT_OK(cpu->kernels->cross_entropy(cpu, NULL, &a));
  EXPECT(nll == INFINITY);
  target = V - 1, x[700] = NAN;
  EXPECT_OK(cpu->kernels->cross_entropy(cpu, NULL, &a));
  EXPECT(isnan(nll) && isnan(grad[0]) && isnan(grad[target]));
  x[700] = 0, x[3] = INFINITY;
  EXPECT_OK(cpu->kernels->cross_entropy(cpu, NULL, &a));
  EXPECT(!isfinite(nll));
  free(grad);
}

TEST_MAIN()
