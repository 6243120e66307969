// matmul.c - f32 and bf16 through oneDNN, f64 by a plain blocked loop. Compiled once.
//
// A primitive is made for a shape once and kept (making one compiles code: 0.1 to 1 ms); a call
// then only sets pointers. Where oneDNN refuses bf16 (no AVX-512), the operands are widened to f32
// into scratch and the product is rounded back.
//
// The same call gives the same bits each time. Another number of threads, or another m, may cut the
// sum over k elsewhere, and differs by rounding.
#include <dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

cft_status cft_cpu_matmul(cft_device *d, cft_stream *s, const cft_matmul_args *a);

// ---- oneDNN: everything that names it ----------------------------------------------------------

enum { MAX_ARGS = 5 };  // src, weights, dst, bias, scratch

// What distinguishes two primitives; compared as bytes, so it is zeroed before it is filled.
typedef struct plan_key {
  int64_t m, n, k;
  int64_t c_stride, a_stride, b_stride;
  int32_t trans_a, trans_b, beta, bias, dtype, c_dtype, threads;
  int32_t padding;
} plan_key;

typedef struct plan {
  plan_key key;
  uint64_t used;  // when, on the cache's clock; 0 = an empty slot
  bool refused;   // oneDNN has no kernel for this: remembered, not asked again
  dnnl_primitive_t primitive;
  dnnl_memory_t memory[MAX_ARGS];
  dnnl_exec_arg_t args[MAX_ARGS];
  int nargs;
  size_t scratch_bytes;
} plan;

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static cft_status dnn_status(dnnl_status_t st, const char *what) {
  if (st == dnnl_success) return CFT_OK;
  if (st == dnnl_out_of_memory) return cft_fail(CFT_E_OOM, "matmul: oneDNN: %s", what);
  return cft_fail(st == dnnl_unimplemented ? CFT_E_UNSUPPORTED : CFT_E_INTERNAL,
                  "matmul: oneDNN %s: status %d", what, (int)st);
}

#define DNN(call, what)              \
  do {                               \
    st = dnn_status((call), (what)); \
    if (st != CFT_OK) goto out;      \
  } while (0)

static cft_status dnn_open(void) {
  if (stream) return CFT_OK;
  cft_status st;
  if (!engine) DNN(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
  DNN(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream");
out:
  return st;
}

static dnnl_data_type_t dnn_type(int dtype) { return dtype == CFT_BF16 ? dnnl_bf16 : dnnl_f32; }

static void plan_drop(plan *p) {
  for (int i = 0; i < p->nargs; i++) dnnl_memory_destroy(p->memory[i]);
  if (p->primitive) dnnl_primitive_destroy(p->primitive);
  memset(p, 0, sizeof *p);
}

#if DNNL_VERSION_MAJOR < 3

static cft_status describe(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, int64_t stride,
                           int trans, int dtype) {
  dnnl_dims_t dims = {rows, cols}, strides = {trans ? 1 : stride, trans ? stride : 1};
  return dnn_status(dnnl_memory_desc_init_by_strides(md, 2, dims, dnn_type(dtype), strides),
                    "memory descriptor");
}

static cft_status plan_add(plan *p, int arg, const dnnl_memory_desc_t *md) {
  cft_status st =
      dnn_status(dnnl_memory_create(&p->memory[p->nargs], md, engine, DNNL_MEMORY_NONE), "memory");
  if (st != CFT_OK) return st;
  p->args[p->nargs] = (dnnl_exec_arg_t){arg, p->memory[p->nargs]};
  p->nargs++;
  return CFT_OK;
}

static cft_status plan_build(plan *p, const plan_key *key) {
  cft_status st;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_post_ops_t post = NULL;
  dnnl_primitive_desc_t pd = NULL;
  dnnl_memory_desc_t a, b, c, bias;
  dnnl_matmul_desc_t op;
  p->key = *key;
  CFT_GO(describe(&a, key->m, key->k, key->a_stride, key->trans_a, key->dtype));
  CFT_GO(describe(&b, key->k, key->n, key->b_stride, key->trans_b, key->dtype));
  CFT_GO(describe(&c, key->m, key->n, key->c_stride, 0, key->c_dtype));
  CFT_GO(describe(&bias, 1, key->n, key->n, 0, key->dtype));
  DNN(dnnl_primitive_attr_create(&attr), "attributes");
  DNN(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), "scratchpad mode");
  if (key->beta) {
    DNN(dnnl_post_ops_create(&post), "post-ops");
    DNN(dnnl_post_ops_append_sum(post, 1.0f), "sum post-op");
    DNN(dnnl_primitive_attr_set_post_ops(attr, post), "post-ops");
  }
  DNN(dnnl_matmul_desc_init(&op, &a, &b, key->bias ? &bias : NULL, &c), "matmul descriptor");
  dnnl_status_t made = dnnl_primitive_desc_create(&pd, &op, attr, engine, NULL);
  if (made == dnnl_unimplemented) {
    p->refused = true;
    st = CFT_OK;
    goto out;
  }
  DNN(made, "primitive descriptor");
  DNN(dnnl_primitive_create(&p->primitive, pd), "primitive");
  CFT_GO(plan_add(p, DNNL_ARG_DST, &c));
  CFT_GO(plan_add(p, DNNL_ARG_SRC, &a));
  CFT_GO(plan_add(p, DNNL_ARG_WEIGHTS, &b));
  const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  p->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
  if (key->bias) CFT_GO(plan_add(p, DNNL_ARG_BIAS, &bias));
  if (p->scratch_bytes) CFT_GO(plan_add(p, DNNL_ARG_SCRATCHPAD, scratch));
out:
  if (pd) dnnl_primitive_desc_destroy(pd);
  if (post) dnnl_post_ops_destroy(post);
  if (attr) dnnl_primitive_attr_destroy(attr);
  if (st != CFT_OK) plan_drop(p);
  return st;
}

#else
#error "oneDNN 3 is not yet supported"
#endif

static cft_status plan_run(plan *p, cft_device *d, const cft_matmul_args *a) {
  cft_status st;
  void *scratch = NULL;
  if (p->scratch_bytes) CFT_TRY(d->alloc(d, &scratch, p->scratch_bytes, CFT_MEM_WORKSPACE));
  for (int i = 0; i < p->nargs; i++) {
    const void *data = NULL;
    switch (p->args[i].arg) {
      case DNNL_ARG_DST: data = a->c; break;
      case DNNL_ARG_SRC: data = a->a; break;
      case DNNL_ARG_WEIGHTS: data = a->b; break;
      case DNNL_ARG_BIAS: data = a->bias; break;
      case DNNL_ARG_SCRATCHPAD: data = scratch; break;
    }
    DNN(dnnl_memory_set_data_handle(p->memory[i], (void *)data), "data handle");
  }
  DNN(dnnl_primitive_execute(p->primitive, stream, p->nargs, p->args), "execution");
  DNN(dnnl_stream_wait(stream), "wait");
out:
  if (scratch) d->free(d, scratch, p->scratch_bytes, CFT_MEM_WORKSPACE);
  return st;
}

// ---- plans, kept by shape ----------------------------------------------------------------------

enum { PLANS = 256, WAYS = 8 };  // a set-associative table: a shape lives in one of WAYS slots
static plan plans[PLANS];
static uint64_t clock_;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static cft_status plan_get(plan **out, const plan_key *key) {
  uint64_t h = 14695981039346656037u;  // FNV-1a
  for (size_t i = 0; i < sizeof *key; i++) h = (h ^ ((const uint8_t *)key)[i]) * 1099511628211u;
  plan *set = &plans[(h ^ h >> 32) % (PLANS / WAYS) * WAYS], *oldest = set;
  for (plan *p = set; p < set + WAYS; p++) {
    if (p->used && memcmp(&p->key, key, sizeof *key) == 0) {
      p->used = ++clock_;
      *out = p;
      return CFT_OK;
    }
    if (p->used < oldest->used) oldest = p;
  }
  CFT_TRY(dnn_open());
  plan_drop(oldest);
  CFT_TRY(plan_build(oldest, key));
  oldest->used = ++clock_;
  *out = oldest;
  return CFT_OK;
}

static cft_status planned(bool *refused, cft_device *d, const cft_matmul_args *a) {
  plan_key key;
  memset(&key, 0, sizeof key);
  key = (plan_key){.m = a->m,
                   .n = a->n,
                   .k = a->k,
                   .c_stride = a->c_stride,
                   .a_stride = a->a_stride,
                   .b_stride = a->b_stride,
                   .trans_a = a->trans_a != 0,
                   .trans_b = a->trans_b != 0,
                   .beta = a->beta != 0,
                   .bias = a->bias != NULL,
                   .dtype = (int32_t)a->dtype,
                   .c_dtype = (int32_t)a->c_dtype,
                   .threads = omp_get_max_threads()};
  pthread_mutex_lock(&lock);
  plan *p = NULL;
  cft_status st = plan_get(&p, &key);
  if (st == CFT_OK) {
    *refused = p->refused;
    if (!p->refused) st = plan_run(p, d, a);
  }
  pthread_mutex_unlock(&lock);
  return st;
}

// ---- bf16 where oneDNN has none ----------------------------------------------------------------

static float widen(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static uint16_t narrow(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);  // NaN stays NaN
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void widen_rows(float *y, const uint16_t *x, int64_t rows, int64_t cols, int64_t stride) {
#pragma omp parallel for if (rows * cols > 16384)
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) y[i * cols + j] = widen(x[i * stride + j]);
}

static cft_status by_f32(cft_device *d, const cft_matmul_args *a) {
  static atomic_flag said = ATOMIC_FLAG_INIT;
  if (!atomic_flag_test_and_set(&said))
    fprintf(stderr, "cft: this CPU has no bf16 matmul; operands are widened to f32 each time\n");
  int64_t a_rows = a->trans_a ? a->k : a->m, a_cols = a->trans_a ? a->m : a->k;
  int64_t b_rows = a->trans_b ? a->n : a->k, b_cols = a->trans_b ? a->k : a->n;
  bool round = a->c_dtype == CFT_BF16;
  size_t a_n = (size_t)(a->m * a->k), b_n = (size_t)(a->k * a->n),
         c_n = round ? (size_t)(a->m * a->n) : 0, bias_n = a->bias ? (size_t)a->n : 0;
  size_t bytes = (a_n + b_n + c_n + bias_n) * sizeof(float);
  float *wide;
  CFT_TRY(d->alloc(d, (void **)&wide, bytes, CFT_MEM_WORKSPACE));
  float *wa = wide, *wb = wa + a_n, *wc = wb + b_n, *wbias = wc + c_n;
  widen_rows(wa, a->a, a_rows, a_cols, a->a_stride);
  widen_rows(wb, a->b, b_rows, b_cols, a->b_stride);
  if (a->bias) widen_rows(wbias, a->bias, 1, a->n, a->n);
  if (round && a->beta) widen_rows(wc, a->c, a->m, a->n, a->c_stride);
  cft_matmul_args w = *a;
  w.a = wa, w.a_stride = a_cols, w.b = wb, w.b_stride = b_cols, w.bias = a->bias ? wbias : NULL;
  w.dtype = w.c_dtype = CFT_F32, w.b_id = 0;
  if (round) w.c = wc, w.c_stride = a->n;
  cft_status st = cft_cpu_matmul(d, NULL, &w);
  if (st == CFT_OK && round) {
    uint16_t *c = a->c;
#pragma omp parallel for if (a->m * a->n > 16384)
    for (int64_t i = 0; i < a->m; i++)
      for (int64_t j = 0; j < a->n; j++) c[i * a->c_stride + j] = narrow(wc[i * a->n + j]);
  }
  d->free(d, wide, bytes, CFT_MEM_WORKSPACE);
  return st;
}

// ---- f64: for gradchecks -----------------------------------------------------------------------

// Each c is summed in order of k: equal for any number of threads.
static void plain_f64(const cft_matmul_args *g) {
  const double *a = g->a, *b = g->b, *bias = g->bias;
  int64_t a_i = g->trans_a ? 1 : g->a_stride, a_p = g->trans_a ? g->a_stride : 1;
  enum { COLS = 256 };  // of c at a time: the sums stay in the first cache
#pragma omp parallel for if (g->m * g->n * g->k > 32768)
  for (int64_t i = 0; i < g->m; i++) {
    double *c = (double *)g->c + i * g->c_stride, sum[COLS];
    for (int64_t j0 = 0; j0 < g->n; j0 += COLS) {
      int64_t cols = g->n - j0 < COLS ? g->n - j0 : COLS;
      for (int64_t j = 0; j < cols; j++)
        sum[j] = (g->beta ? c[j0 + j] : 0) + (bias ? bias[j0 + j] : 0);
      if (g->trans_b) {
        for (int64_t j = 0; j < cols; j++) {
          const double *row = b + (j0 + j) * g->b_stride;
          double dot = 0;
          for (int64_t p = 0; p < g->k; p++) dot += a[i * a_i + p * a_p] * row[p];
          sum[j] += dot;
        }
      } else {
        for (int64_t p = 0; p < g->k; p++) {
          double x = a[i * a_i + p * a_p];
          const double *row = b + p * g->b_stride + j0;
          for (int64_t j = 0; j < cols; j++) sum[j] += x * row[j];
        }
      }
      memcpy(c + j0, sum, (size_t)cols * sizeof *c);
    }
  }
}

// c = [c] + [bias], the whole of a product over no k.
static void no_k(const cft_matmul_args *a) {
  size_t size = cft_dtype_bytes(a->c_dtype);
  for (int64_t i = 0; i < a->m; i++) {
    char *c = (char *)a->c + (size_t)(i * a->c_stride) * size;
    if (!a->beta) memset(c, 0, (size_t)a->n * size);
    for (int64_t j = 0; a->bias && j < a->n; j++) {
      if (a->dtype == CFT_F64)
        ((double *)c)[j] += ((const double *)a->bias)[j];
      else if (a->dtype == CFT_F32)
        ((float *)c)[j] += ((const float *)a->bias)[j];
      else if (a->c_dtype == CFT_F32)
        ((float *)c)[j] += widen(((const uint16_t *)a->bias)[j]);
      else
        ((uint16_t *)c)[j] =
            narrow(widen(((uint16_t *)c)[j]) + widen(((const uint16_t *)a->bias)[j]));
    }
  }
}

cft_status cft_cpu_matmul(cft_device *d, cft_stream *s, const cft_matmul_args *a) {
  (void)s;
  bool mixed = a->dtype == CFT_BF16 && a->c_dtype == CFT_F32;
  if ((a->dtype != CFT_F32 && a->dtype != CFT_BF16 && a->dtype != CFT_F64) ||
      (a->c_dtype != a->dtype && !mixed))
    return cft_fail(CFT_E_UNSUPPORTED, "no cpu kernel for matmul of %s into %s",
                    cft_dtype_name(a->dtype), cft_dtype_name(a->c_dtype));
  if (a->m == 0 || a->n == 0) return CFT_OK;
  if (a->k == 0) return no_k(a), CFT_OK;
  if (a->dtype == CFT_F64) return plain_f64(a), CFT_OK;
  bool refused = false;
  CFT_TRY(planned(&refused, d, a));
  if (!refused) return CFT_OK;
  if (a->dtype == CFT_BF16) return by_f32(d, a);
  return cft_fail(CFT_E_UNSUPPORTED, "matmul: oneDNN has no f32 kernel for (%lld, %lld, %lld)",
                  (long long)a->m, (long long)a->n, (long long)a->k);
}
