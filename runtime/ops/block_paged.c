// block_paged.c - a decoder block over keys and values in pages, in one call: the ops that a
// model's block calls one by one, for steps so small that each call costs as much as what it does;
// see cft_ops.h.
#include <inttypes.h>

#include "ops_impl.h"

// Queries, keys and values of y, rotated; those of the new tokens go to the cache.
static cft_status attend(cft_tensor **o, cft_tensor *qkv, cft_tensor *cache,
                         const cft_block_weights *w, const cft_paged_step *s) {
  cft_status st;
  cft_tensor *q = NULL, *k = NULL, *kv = NULL, *keys = NULL, *values = NULL;
  int64_t D = cft_last_dim(qkv) / (w->heads + 2 * w->kv_heads), at = w->heads * D,
          width = w->kv_heads * D;
  if (cft_last_dim(cache) != 2 * width)
    return cft_fail(CFT_E_SHAPE,
                    "block_paged: the cache is %s but qkv %s; keys and values side by side wanted",
                    cft_shape(cache), cft_shape(qkv));
  CFT_GO(cft_tensor_narrow(&q, qkv, 1, 0, at));
  CFT_GO(cft_tensor_narrow(&k, qkv, 1, at, width));
  CFT_GO(cft_tensor_narrow(&kv, qkv, 1, at, 2 * width));
  CFT_GO(cft_rope(q, s->cos, s->sin, s->position, w->heads, 0));
  CFT_GO(cft_rope(k, s->cos, s->sin, s->position, w->kv_heads, 0));
  CFT_GO(cft_scatter_rows(cache, kv, s->place, 0));
  CFT_GO(cft_tensor_narrow(&keys, cache, 1, 0, width));
  CFT_GO(cft_tensor_narrow(&values, cache, 1, width, width));
  CFT_GO(cft_attention_paged(o, q, keys, values, w->heads, w->kv_heads, s->scale, s->layout));
out:
  cft_tensor_release(values);
  cft_tensor_release(keys);
  cft_tensor_release(kv);
  cft_tensor_release(k);
  cft_tensor_release(q);
  return st;
}

// The norm of x + branch, and that sum; of x alone where there is no branch, and then x is the sum.
static cft_status norm(cft_tensor **y, cft_tensor **sum, cft_tensor *x, cft_tensor *branch,
                       cft_tensor *w, double eps) {
  cft_tensor *rstd = NULL;
  CFT_TRY(cft_rmsnorm_fwd(y, branch ? sum : NULL, &rstd, branch ? branch : x, branch ? x : NULL, w,
                          eps));
  cft_tensor_release(rstd);
  if (!branch) *sum = cft_tensor_retain(x);
  return CFT_OK;
}

cft_status cft_block_paged(cft_tensor **y, cft_tensor **sum, cft_tensor *x, cft_tensor *branch,
                           cft_tensor *cache, const cft_block_weights *w, const cft_paged_step *s) {
  if (w->heads < 1 || w->kv_heads < 1)
    return cft_fail(CFT_E_ARG, "block_paged: %" PRId64 " heads over %" PRId64 "; at least 1 wanted",
                    w->heads, w->kv_heads);
  cft_status st;
  cft_tensor *first = NULL, *at_first = NULL, *qkv = NULL, *o = NULL, *attended = NULL,
             *second = NULL, *at_second = NULL, *gate_up = NULL, *product = NULL, *down = NULL;
  CFT_GO(norm(&first, &at_first, x, branch, w->norm1, w->eps));
  CFT_GO(cft_linear_fwd(&qkv, first, w->qkv, w->qkv_bias));
  CFT_GO(attend(&o, qkv, cache, w, s));
  CFT_GO(cft_linear_fwd(&attended, o, w->o, NULL));
  CFT_GO(norm(&second, &at_second, at_first, attended, w->norm2, w->eps));
  CFT_GO(cft_linear_fwd(&gate_up, second, w->gate_up, NULL));
  CFT_GO(cft_swiglu_fwd(&product, gate_up));
  CFT_GO(cft_linear_fwd(&down, product, w->down, NULL));
  *y = cft_take(&down);
  *sum = cft_take(&at_second);
out:
  cft_tensor_release(down);
  cft_tensor_release(product);
  cft_tensor_release(gate_up);
  cft_tensor_release(at_second);
  cft_tensor_release(second);
  cft_tensor_release(attended);
  cft_tensor_release(o);
  cft_tensor_release(qkv);
  cft_tensor_release(at_first);
  cft_tensor_release(first);
  return st;
}
