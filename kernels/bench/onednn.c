// onednn.c - the same matmuls by oneDNN: what `cftrun bench` measures ours against, and a second
// opinion for the tests. A module of its own, opened by these two alone; the program knows nothing
// of it.
//
// A primitive is made for a shape once and kept (making one compiles code: 0.2 to 3 ms). Where
// oneDNN refuses bf16 (no AVX-512) the call fails with E_UNSUPPORTED.
#include "onednn.h"

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_version.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

// ---- the library -------------------------------------------------------------------------------

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static cft_status status_of(dnnl_status_t st, const char *what) {
  if (st == dnnl_success) return CFT_OK;
  if (st == dnnl_unimplemented)
    return cft_fail(CFT_E_UNSUPPORTED, "matmul: oneDNN has no kernel for this on this processor");
  return cft_fail(st == dnnl_out_of_memory ? CFT_E_OOM : CFT_E_INTERNAL,
                  "matmul: oneDNN's %s failed with status %d", what, (int)st);
}

#define DNN(name, ...) CFT_GO(status_of(name(__VA_ARGS__), #name))

static cft_status open_locked(void) {
  cft_status st = CFT_OK;
  if (!engine) DNN(dnnl_engine_create, &engine, dnnl_cpu, 0);
  if (!stream) DNN(dnnl_stream_create, &stream, engine, dnnl_stream_default_flags);
out:
  return st;
}

// ---- what differs between the versions ---------------------------------------------------------

static dnnl_data_type_t type_of(cft_dtype dtype) {
  return dtype == CFT_BF16 ? dnnl_bf16 : dnnl_f32;
}

#if DNNL_VERSION_MAJOR < 3

typedef dnnl_memory_desc_t layout;  // in 3 a pointer

// A matrix (rows, cols) whose rows, or columns if `turned`, lie `stride` apart.
static cft_status layout_new(layout *y, int64_t rows, int64_t cols, int64_t stride, bool turned,
                             cft_dtype dtype) {
  dnnl_dims_t dims = {rows, cols}, strides = {turned ? 1 : stride, turned ? stride : 1};
  return status_of(dnnl_memory_desc_init_by_strides(y, 2, dims, type_of(dtype), strides),
                   "memory descriptor");
}

// As the library likes it best.
static cft_status layout_any(layout *y, int64_t rows, int64_t cols, cft_dtype dtype) {
  dnnl_dims_t dims = {rows, cols};
  return status_of(dnnl_memory_desc_init_by_tag(y, 2, dims, type_of(dtype), dnnl_format_tag_any),
                   "memory descriptor");
}

static void layout_free(layout *y) { (void)y; }
static const dnnl_memory_desc_t *md(const layout *y) { return y; }
typedef const dnnl_memory_desc_t *described;

static dnnl_status_t describe(dnnl_primitive_desc_t *pd, const layout *a, const layout *b,
                              const layout *bias, const layout *c, dnnl_primitive_attr_t attr) {
  dnnl_matmul_desc_t op;
  dnnl_status_t st = dnnl_matmul_desc_init(&op, a, b, bias, c);
  return st == dnnl_success ? dnnl_primitive_desc_create(pd, &op, attr, engine, NULL) : st;
}

#else

typedef dnnl_memory_desc_t layout;

static cft_status layout_new(layout *y, int64_t rows, int64_t cols, int64_t stride, bool turned,
                             cft_dtype dtype) {
  dnnl_dims_t dims = {rows, cols}, strides = {turned ? 1 : stride, turned ? stride : 1};
  return status_of(dnnl_memory_desc_create_with_strides(y, 2, dims, type_of(dtype), strides),
                   "memory descriptor");
}

static cft_status layout_any(layout *y, int64_t rows, int64_t cols, cft_dtype dtype) {
  dnnl_dims_t dims = {rows, cols};
  return status_of(
      dnnl_memory_desc_create_with_tag(y, 2, dims, type_of(dtype), dnnl_format_tag_any),
      "memory descriptor");
}

static void layout_free(layout *y) {
  if (*y) dnnl_memory_desc_destroy(*y);
}
static const_dnnl_memory_desc_t md(const layout *y) { return *y; }
typedef const_dnnl_memory_desc_t described;

static dnnl_status_t describe(dnnl_primitive_desc_t *pd, const layout *a, const layout *b,
                              const layout *bias, const layout *c, dnnl_primitive_attr_t attr) {
  return dnnl_matmul_primitive_desc_create(pd, engine, *a, *b, bias ? *bias : NULL, *c, attr);
}

#endif

// ---- plans -------------------------------------------------------------------------------------

enum { MOST_ARGS = 5 };  // c, a, b, bias, scratch

// What tells two primitives apart; compared as bytes.
typedef struct plan_key {
  int64_t m, n, k, c_stride, a_stride, b_stride;
  int32_t trans_a, trans_b, beta, bias, dtype, c_dtype, threads, packed;
} plan_key;

typedef struct plan {
  plan_key key;
  uint64_t used;  // on the cache's clock; 0 = an empty slot
  dnnl_primitive_t product, pack;
  dnnl_exec_arg_t args[MOST_ARGS], pack_args[2];
  int nargs;
  size_t scratch_bytes;
  // The weight as the library likes it: the edition that is kept.
  void *weight;
  size_t weight_bytes;
  uint64_t b_id, b_version;
} plan;

enum { PLANS = 64 };
static plan plans[PLANS];
static uint64_t now;

static void plan_free(plan *p, cft_device *d) {
  for (int i = 0; i < p->nargs; i++) dnnl_memory_destroy(p->args[i].memory);
  if (p->pack_args[0].memory) dnnl_memory_destroy(p->pack_args[0].memory);
  if (p->product) dnnl_primitive_destroy(p->product);
  if (p->pack) dnnl_primitive_destroy(p->pack);
  if (p->weight) d->free(d, p->weight, p->weight_bytes, CFT_MEM_CACHE);
  memset(p, 0, sizeof *p);
}

static cft_status plan_arg(plan *p, int arg, described layout_of) {
  dnnl_memory_t memory;
  CFT_TRY(status_of(dnnl_memory_create(&memory, layout_of, engine, DNNL_MEMORY_NONE),
                    "dnnl_memory_create"));
  p->args[p->nargs++] = (dnnl_exec_arg_t){arg, memory};
  return CFT_OK;
}

static dnnl_memory_t memory_of(const plan *p, int arg) {
  for (int i = 0; i < p->nargs; i++)
    if (p->args[i].arg == arg) return p->args[i].memory;
  return NULL;
}

static cft_status plan_new(plan *p, cft_device *d, const plan_key *key) {
  cft_status st;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_post_ops_t post = NULL;
  dnnl_primitive_desc_t pd = NULL, pack = NULL;
  layout a, b, b_any, c, bias;
  memset(&a, 0, sizeof a), memset(&b, 0, sizeof b), memset(&b_any, 0, sizeof b_any);
  memset(&c, 0, sizeof c), memset(&bias, 0, sizeof bias);
  p->key = *key;
  CFT_GO(layout_new(&a, key->m, key->k, key->a_stride, key->trans_a, (cft_dtype)key->dtype));
  CFT_GO(layout_new(&b, key->k, key->n, key->b_stride, key->trans_b, (cft_dtype)key->dtype));
  CFT_GO(layout_any(&b_any, key->k, key->n, (cft_dtype)key->dtype));
  CFT_GO(layout_new(&c, key->m, key->n, key->c_stride, false, (cft_dtype)key->c_dtype));
  CFT_GO(layout_new(&bias, 1, key->n, key->n, false, (cft_dtype)key->dtype));
  DNN(dnnl_primitive_attr_create, &attr);
  DNN(dnnl_primitive_attr_set_scratchpad_mode, attr, dnnl_scratchpad_mode_user);
  if (key->beta) {
    DNN(dnnl_post_ops_create, &post);
    DNN(dnnl_post_ops_append_sum, post, 1.0f);
    DNN(dnnl_primitive_attr_set_post_ops, attr, post);
  }
  CFT_GO(status_of(describe(&pd, &a, key->packed ? &b_any : &b, key->bias ? &bias : NULL, &c, attr),
                   "matmul descriptor"));
  DNN(dnnl_primitive_create, &p->product, pd);
  described scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  described liked = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
  p->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
  CFT_GO(plan_arg(p, DNNL_ARG_DST, md(&c)));
  CFT_GO(plan_arg(p, DNNL_ARG_SRC, md(&a)));
  CFT_GO(plan_arg(p, DNNL_ARG_WEIGHTS, liked));
  if (key->bias) CFT_GO(plan_arg(p, DNNL_ARG_BIAS, md(&bias)));
  if (p->scratch_bytes) CFT_GO(plan_arg(p, DNNL_ARG_SCRATCHPAD, scratch));
  if (key->packed) {
    DNN(dnnl_reorder_primitive_desc_create, &pack, md(&b), engine, liked, engine, NULL);
    DNN(dnnl_primitive_create, &p->pack, pack);
    p->pack_args[0].arg = DNNL_ARG_FROM;
    DNN(dnnl_memory_create, &p->pack_args[0].memory, md(&b), engine, DNNL_MEMORY_NONE);
    p->pack_args[1] = (dnnl_exec_arg_t){DNNL_ARG_TO, memory_of(p, DNNL_ARG_WEIGHTS)};
    p->weight_bytes = dnnl_memory_desc_get_size(liked);
    CFT_GO(d->alloc(d, &p->weight, p->weight_bytes, CFT_MEM_CACHE));
  }
out:
  if (pack) dnnl_primitive_desc_destroy(pack);
  if (pd) dnnl_primitive_desc_destroy(pd);
  if (post) dnnl_post_ops_destroy(post);
  if (attr) dnnl_primitive_attr_destroy(attr);
  layout_free(&a), layout_free(&b), layout_free(&b_any), layout_free(&c), layout_free(&bias);
  if (st != CFT_OK) plan_free(p, d);
  return st;
}

// The plan of a key; the one unused for longest makes room.
static cft_status plan_get(plan **out, cft_device *d, const plan_key *key) {
  plan *oldest = plans;
  for (plan *p = plans; p < plans + PLANS; p++) {
    if (p->used && memcmp(&p->key, key, sizeof *key) == 0) {
      p->used = ++now;
      *out = p;
      return CFT_OK;
    }
    if (p->used < oldest->used) oldest = p;
  }
  plan_free(oldest, d);
  CFT_TRY(plan_new(oldest, d, key));
  oldest->used = ++now;
  *out = oldest;
  return CFT_OK;
}

static cft_status plan_run(plan *p, cft_device *d, const cft_matmul_args *a) {
  cft_status st;
  void *scratch = NULL;
  if (p->scratch_bytes) CFT_TRY(d->alloc(d, &scratch, p->scratch_bytes, CFT_MEM_WORKSPACE));
  for (int i = 0; i < p->nargs; i++) {
    const void *data = NULL;
    switch (p->args[i].arg) {
      case DNNL_ARG_DST: data = a->c; break;
      case DNNL_ARG_SRC: data = a->a; break;
      case DNNL_ARG_WEIGHTS: data = p->weight ? p->weight : a->b; break;
      case DNNL_ARG_BIAS: data = a->bias; break;
      case DNNL_ARG_SCRATCHPAD: data = scratch; break;
    }
    DNN(dnnl_memory_set_data_handle, p->args[i].memory, (void *)(uintptr_t)data);
  }
  if (p->pack && (p->b_id != a->b_id || p->b_version != a->b_version)) {
    DNN(dnnl_memory_set_data_handle, p->pack_args[0].memory, (void *)(uintptr_t)a->b);
    DNN(dnnl_primitive_execute, p->pack, stream, 2, p->pack_args);
    p->b_id = a->b_id, p->b_version = a->b_version;
  }
  DNN(dnnl_primitive_execute, p->product, stream, p->nargs, p->args);
  DNN(dnnl_stream_wait, stream);
out:
  if (scratch) d->free(d, scratch, p->scratch_bytes, CFT_MEM_WORKSPACE);
  return st;
}

static cft_status matmul(cft_device *d, const cft_matmul_args *a, bool packed) {
  if (a->a_sum || a->dtype == CFT_F64 || a->m == 0 || a->n == 0 || a->k == 0)
    return cft_fail(CFT_E_UNSUPPORTED,
                    "matmul: not by oneDNN: f64, nothing to multiply, or a sum beside");
  plan_key key;
  memset(&key, 0, sizeof key);
  key.m = a->m, key.n = a->n, key.k = a->k;
  key.c_stride = a->c_stride, key.a_stride = a->a_stride, key.b_stride = a->b_stride;
  key.trans_a = a->trans_a != 0, key.trans_b = a->trans_b != 0;
  key.beta = a->beta != 0, key.bias = a->bias != NULL;
  key.dtype = (int32_t)a->dtype, key.c_dtype = (int32_t)a->c_dtype;
  key.threads = cft_cpu_threads();
  key.packed = packed && a->b_id != 0;
  pthread_mutex_lock(&lock);
  plan *p = NULL;
  cft_status st = open_locked();
  if (st == CFT_OK) st = plan_get(&p, d, &key);
  if (st == CFT_OK) st = plan_run(p, d, a);
  pthread_mutex_unlock(&lock);
  return st;
}

cft_status cft_onednn_matmul(cft_device *d, cft_stream *s, const cft_matmul_args *a) {
  (void)s;
  return matmul(d, a, false);
}

cft_status cft_onednn_matmul_packed(cft_device *d, cft_stream *s, const cft_matmul_args *a) {
  (void)s;
  return matmul(d, a, true);
}

void cft_onednn_forget(cft_device *d) {
  pthread_mutex_lock(&lock);
  for (plan *p = plans; p < plans + PLANS; p++)
    if (p->used) plan_free(p, d);
  pthread_mutex_unlock(&lock);
}
