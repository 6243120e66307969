// attention_paged.c - checks and dispatch of attention over keys and values in pages; see cft_ops.h.
#include <inttypes.h>

#include "ops_impl.h"

static cft_status check_tensor(int64_t *stride, const char *name, const cft_tensor *t, int64_t rows, int64_t width) {
  const char *op = "attention_paged";
  if (t->ndim != 2 || t->dims[1] != width || (rows >= 0 && t->dims[0] != rows))
    return cft_fail(CFT_E_SHAPE, "%s: %s is %s; rows of width %" PRId64 " wanted", op, name, cft_shape(t), width);
  return cft_row_stride(stride, op, name, t);
}

// Everything a kernel follows blindly leads into q and k. `keys`: how many keys all queries see together, at most.
static cft_status check_layout(int64_t *keys, const cft_paged_layout *l, const cft_tensor *q, const cft_tensor *k) {
  const char *op = "attention_paged";
  CFT_TRY(cft_want_index(op, "cu_q", l->cu_q, -1, q));
  int64_t B = l->cu_q->dims[0] - 1;
  if (B < 0) return cft_fail(CFT_E_SHAPE, "%s: cu_q is empty; (B + 1) wanted", op);
  CFT_TRY(cft_want_index(op, "cu_pages", l->cu_pages, B + 1, q));
  CFT_TRY(cft_want_index(op, "pages", l->pages, -1, q));
  CFT_TRY(cft_want_index(op, "k_len", l->k_len, B, q));
  if (l->page < 32 || l->page % 32 != 0)
    return cft_fail(CFT_E_ARG, "%s: a page of %" PRId64 " rows; a multiple of 32 wanted", op, l->page);
  *keys = q->dims[0] * l->longest_k;
  if (!q->device->host_memory) return CFT_OK;  // offsets are the caller's to answer for
  CFT_TRY(cft_check_index(op, "pages", l->pages, k->dims[0] / l->page));
  const int32_t *cu_q = l->cu_q->data, *cu_pages = l->cu_pages->data, *len = l->k_len->data;
  *keys = 0;
  for (int64_t b = 0; b < B; b++) {
    int64_t queries = (int64_t)cu_q[b + 1] - cu_q[b], room = ((int64_t)cu_pages[b + 1] - cu_pages[b]) * l->page;
    if (cu_q[b] < 0 || queries < 0 || cu_q[b + 1] > q->dims[0] || cu_pages[b] < 0 || cu_pages[b + 1] < cu_pages[b] ||
        cu_pages[b + 1] > l->pages->dims[0] || len[b] < queries || len[b] > room || len[b] > l->longest_k ||
        queries > l->longest_q)
      return cft_fail(CFT_E_ARG, "%s: sequence %" PRId64 " has queries %d to %d of %" PRId64 " and %d keys in pages %d "
                      "to %d of %" PRId64 "; longest_q is %" PRId64 ", longest_k %" PRId64, op, b, cu_q[b],
                      cu_q[b + 1], q->dims[0], len[b], cu_pages[b], cu_pages[b + 1], l->pages->dims[0], l->longest_q,
                      l->longest_k);
    *keys += queries * len[b];
  }
  return CFT_OK;
}

cft_status cft_attention_paged(cft_tensor **o, cft_tensor *q, cft_tensor *k, cft_tensor *v, int64_t H, int64_t K,
                               double scale, const cft_paged_layout *l) {
  const char *op = "attention_paged";
  CFT_TRY(cft_same_float(op, CFT_ALL(q, k, v)));
  if (H < 1 || K < 1 || H % K != 0)
    return cft_fail(CFT_E_ARG, "%s: %" PRId64 " heads over %" PRId64 " kv heads; a whole number of times is needed", op,
                    H, K);
  if (q->ndim != 2 || q->dims[1] % H != 0 || q->dims[1] == 0)
    return cft_fail(CFT_E_SHAPE, "%s: q is %s; (n, %" PRId64 " * D) wanted", op, cft_shape(q), H);
  int64_t D = q->dims[1] / H, keys;
  cft_attention_paged_args a = {.H = H, .K = K, .D = D, .o_stride = H * D, .scale = scale, .dtype = q->dtype};
  CFT_TRY(check_tensor(&a.q_stride, "q", q, -1, H * D));
  CFT_TRY(check_tensor(&a.k_stride, "k", k, -1, K * D));
  CFT_TRY(check_tensor(&a.v_stride, "v", v, k->dims[0], K * D));
  CFT_TRY(check_layout(&keys, l, q, k));

  cft_tensor *o0;
  CFT_TRY(cft_tensor_new(&o0, q->device, q->dtype, 2, q->dims));
  a.o = o0->data, a.q = q->data, a.k = k->data, a.v = v->data;
  a.cu_q = l->cu_q->data, a.cu_pages = l->cu_pages->data, a.pages = l->pages->data, a.k_len = l->k_len->data;
  a.nq = q->dims[0], a.B = l->cu_q->dims[0] - 1, a.page = l->page;
  a.longest_q = l->longest_q, a.longest_k = l->longest_k, a.keys = keys;
  return cft_give(o, o0, CFT_KERNEL(q, attention_paged, &a));
}
