// attention.c - checks and dispatch of packed causal grouped-query attention, and prefixes that
// sequences share; see cft_ops.h.
#include <inttypes.h>

#include "ops_impl.h"

typedef struct view {  // what both passes need to know of one (rows, heads * D) tensor
  int64_t rows, stride;
} view;

static cft_status look(view *v, const char *op, const char *name, const cft_tensor *t, int64_t rows,
                       int64_t width) {
  if (t->ndim != 2 || cft_last_dim(t) != width || (rows >= 0 && t->dims[0] != rows))
    return cft_fail(CFT_E_SHAPE, "%s: %s is %s; rows of width %" PRId64 " wanted", op, name,
                    cft_shape(t), width);
  v->rows = t->dims[0];
  return cft_row_stride(&v->stride, op, name, t);
}

static cft_status check_layout(const char *op, const cft_attention_layout *l, const cft_tensor *q,
                               const cft_tensor *k) {
  CFT_TRY(cft_want_index(op, "cu_q", l->cu_q, -1, q));
  int64_t B = l->cu_q->dims[0] - 1;
  if (B < 0) return cft_fail(CFT_E_SHAPE, "%s: cu_q is empty; (B + 1) wanted", op);
  CFT_TRY(cft_want_index(op, "cu_k", l->cu_k, B + 1, q));
  if (l->k_len) CFT_TRY(cft_want_index(op, "k_len", l->k_len, B, q));
  if (l->q_position) CFT_TRY(cft_want_index(op, "q_position", l->q_position, q->dims[0], q));
  if (!q->device->host_memory) return CFT_OK;  // offsets are the caller's to answer for

  const int32_t *cu_q = l->cu_q->data, *cu_k = l->cu_k->data;
  const int32_t *k_len = cft_data(l->k_len), *place = cft_data(l->q_position);
  for (int64_t b = 0; b < B; b++) {
    int64_t len = k_len ? k_len[b] : (int64_t)cu_k[b + 1] - cu_k[b];
    if (cu_q[b] < 0 || cu_q[b + 1] < cu_q[b] || cu_q[b + 1] > q->dims[0] || cu_k[b] < 0 ||
        len < 0 || cu_k[b] + len > k->dims[0])
      return cft_fail(CFT_E_ARG, "%s: sequence %" PRId64 " has queries %d to %d of %" PRId64
                      " and %" PRId64 " keys from %d of %" PRId64, op, b, cu_q[b], cu_q[b + 1],
                      q->dims[0], len, cu_k[b], k->dims[0]);
    if (cu_q[b + 1] - cu_q[b] > l->longest_q || len > l->longest_k)
      return cft_fail(CFT_E_ARG, "%s: sequence %" PRId64 " has %d queries and %" PRId64
                      " keys, but longest_q is %" PRId64 " and longest_k %" PRId64, op, b,
                      cu_q[b + 1] - cu_q[b], len, l->longest_q, l->longest_k);
    for (int32_t i = cu_q[b]; place && i < cu_q[b + 1]; i++)
      if (place[i] < 0 || place[i] >= len || (i > cu_q[b] && place[i] <= place[i - 1]))
        return cft_fail(CFT_E_ARG, "%s: q_position[%d] is %d; positions rise within their "
                        "sequence of %" PRId64 " keys", op, i, place[i], len);
  }
  return CFT_OK;
}

static cft_status check_prefix(const char *op, const cft_attention_prefix *p, const cft_tensor *q,
                               const cft_tensor *k) {
  if (!p->cu_q) return CFT_OK;
  CFT_TRY(cft_want_index(op, "prefix.cu_q", p->cu_q, -1, q));
  int64_t G = p->cu_q->dims[0] - 1;
  if (G < 0 || !p->cu_k)
    return cft_fail(CFT_E_SHAPE, "%s: prefix.cu_q and prefix.cu_k are (G + 1) each", op);
  CFT_TRY(cft_want_index(op, "prefix.cu_k", p->cu_k, G + 1, q));
  if (p->first_q < 0 || p->queries < 0 || p->queries > q->dims[0] - p->first_q || p->keys < 0 ||
      p->keys > k->dims[0])
    return cft_fail(CFT_E_ARG, "%s: %" PRId64 " queries from row %" PRId64 " of %" PRId64
                    " stand behind prefixes of %" PRId64 " of %" PRId64 " keys", op, p->queries,
                    p->first_q, q->dims[0], p->keys, k->dims[0]);
  if (!q->device->host_memory) return CFT_OK;

  const int32_t *cu_q = p->cu_q->data, *cu_k = p->cu_k->data;
  int ends = cu_q[0] == 0 && cu_k[0] == 0 && cu_q[G] == p->queries && cu_k[G] == p->keys;
  for (int64_t g = 0; g < G; g++)
    ends = ends && cu_q[g] <= cu_q[g + 1] && cu_q[g + 1] - cu_q[g] <= p->longest_q &&
           cu_k[g] <= cu_k[g + 1] && cu_k[g + 1] - cu_k[g] <= p->longest_k;
  if (!ends)
    return cft_fail(CFT_E_ARG, "%s: prefix.cu_q and prefix.cu_k rise from 0 to %" PRId64
                    " and %" PRId64 ", by at most %" PRId64 " and %" PRId64, op, p->queries,
                    p->keys, p->longest_q, p->longest_k);
  return CFT_OK;
}

static cft_status check_heads(const char *op, const cft_tensor *q, int64_t H, int64_t K) {
  if (H < 1 || K < 1 || H % K != 0)
    return cft_fail(CFT_E_ARG, "%s: %" PRId64 " heads over %" PRId64
                    " kv heads; a whole number of times is needed", op, H, K);
  if (q->ndim != 2 || q->dims[1] % H != 0 || q->dims[1] == 0)
    return cft_fail(CFT_E_SHAPE, "%s: q is %s; (n, %" PRId64 " * D) wanted", op, cft_shape(q), H);
  return CFT_OK;
}

// Rows from `row` on of a buffer that a kernel was given.
static void *rows_from(const void *data, int64_t row, int64_t stride, cft_dtype dtype) {
  return (char *)data + row * stride * (int64_t)cft_dtype_bytes(dtype);
}

// What the queries behind shared prefixes see of these, merged into what `own` made of their own
// sequences.
static cft_status see_prefix(const cft_attention_args *own, cft_tensor *q,
                             const cft_attention_prefix *p) {
  if (!p->cu_q || p->queries == 0) return CFT_OK;
  cft_status st;
  cft_tensor *o = NULL, *lse = NULL;
  cft_dtype wide = cft_wide(q->dtype);
  int64_t width = own->H * own->D;
  CFT_GO(cft_tensor_new(&o, q->device, q->dtype, 2, (int64_t[]){p->queries, width}));
  CFT_GO(cft_tensor_new(&lse, q->device, wide, 2, (int64_t[]){p->queries, own->H}));
  cft_attention_args a = *own;
  a.o = o->data, a.lse = lse->data, a.o_stride = width;
  a.q = rows_from(own->q, p->first_q, own->q_stride, q->dtype);
  a.cu_q = p->cu_q->data, a.cu_k = p->cu_k->data, a.k_len = NULL, a.q_position = NULL;
  a.nq = p->queries, a.nk = p->keys, a.B = p->cu_q->dims[0] - 1;
  a.longest_q = p->longest_q, a.longest_k = p->longest_k, a.pairs = p->pairs, a.causal = 0;
  CFT_GO(CFT_KERNEL(q, attention_fwd, &a));
  CFT_GO(CFT_KERNEL(q, attention_merge, (&(cft_attention_merge_args){
    .o = rows_from(own->o, p->first_q, own->o_stride, q->dtype),
    .lse = rows_from(own->lse, p->first_q, own->H, wide), .o2 = o->data, .lse2 = lse->data,
    .n = p->queries, .H = own->H, .D = own->D, .o_stride = own->o_stride, .o2_stride = width,
    .dtype = q->dtype })));
out:
  cft_tensor_release(lse);
  cft_tensor_release(o);
  return st;
}

// y (n, d) += x, rows of y `stride` apart.
static cft_status add_rows(void *y, int64_t stride, const cft_tensor *x) {
  return CFT_KERNEL(x, scatter_rows, (&(cft_rows_args){
    .y = y, .x = x->data, .n = x->dims[0], .d = x->dims[1], .y_stride = stride,
    .x_stride = x->dims[1], .add = 1, .dtype = x->dtype }));
}

// The gradients that flow between prefixes and the queries behind them, added to what `own` made of
// each sequence alone. o and lse are the merged ones: with them every probability is over all keys.
static cft_status see_prefix_bwd(const cft_attention_bwd_args *own, cft_tensor *q,
                                 const cft_attention_prefix *p) {
  if (!p->cu_q || p->queries == 0) return CFT_OK;
  cft_status st;
  cft_tensor *dq = NULL, *dk = NULL, *dv = NULL;
  cft_dtype t = q->dtype;
  int64_t q_width = own->H * own->D, k_width = own->K * own->D;
  CFT_GO(cft_tensor_new(&dq, q->device, t, 2, (int64_t[]){p->queries, q_width}));
  CFT_GO(cft_tensor_new(&dk, q->device, t, 2, (int64_t[]){p->keys, k_width}));
  CFT_GO(cft_tensor_new(&dv, q->device, t, 2, (int64_t[]){p->keys, k_width}));
  cft_attention_bwd_args a = *own;
  a.dq = dq->data, a.dk = dk->data, a.dv = dv->data;
  a.dq_stride = q_width, a.dk_stride = a.dv_stride = k_width;
  a.do_ = rows_from(own->do_, p->first_q, own->do_stride, t);
  a.o = rows_from(own->o, p->first_q, own->o_stride, t);
  a.lse = rows_from(own->lse, p->first_q, own->H, cft_wide(t));
  a.q = rows_from(own->q, p->first_q, own->q_stride, t);
  a.cu_q = p->cu_q->data, a.cu_k = p->cu_k->data, a.k_len = NULL, a.q_position = NULL;
  a.nq = p->queries, a.nk = p->keys, a.B = p->cu_q->dims[0] - 1;
  a.longest_q = p->longest_q, a.longest_k = p->longest_k, a.pairs = p->pairs, a.causal = 0;
  CFT_GO(CFT_KERNEL(q, attention_bwd, &a));
  CFT_GO(add_rows(rows_from(own->dq, p->first_q, own->dq_stride, t), own->dq_stride, dq));
  CFT_GO(add_rows(own->dk, own->dk_stride, dk));
  CFT_GO(add_rows(own->dv, own->dv_stride, dv));
out:
  cft_tensor_release(dv);
  cft_tensor_release(dk);
  cft_tensor_release(dq);
  return st;
}

cft_status cft_attention_fwd(cft_tensor **o, cft_tensor **lse, cft_tensor *q, cft_tensor *k,
                             cft_tensor *v, int64_t H, int64_t K, double scale,
                             const cft_attention_layout *l) {
  const char *op = "attention";
  CFT_TRY(cft_same_float(op, CFT_ALL(q, k, v)));
  CFT_TRY(check_heads(op, q, H, K));
  int64_t D = q->dims[1] / H;
  view vq, vk, vv;
  CFT_TRY(look(&vq, op, "q", q, -1, H * D));
  CFT_TRY(look(&vk, op, "k", k, -1, K * D));
  CFT_TRY(look(&vv, op, "v", v, vk.rows, K * D));
  CFT_TRY(check_layout(op, l, q, k));
  CFT_TRY(check_prefix(op, &l->prefix, q, k));

  cft_status st;
  cft_tensor *o0 = NULL, *lse0 = NULL;
  CFT_GO(cft_tensor_new(&o0, q->device, q->dtype, 2, q->dims));
  CFT_GO(cft_tensor_new(&lse0, q->device, cft_wide(q->dtype), 2, (int64_t[]){vq.rows, H}));
  const cft_attention_args a = {
    .o = o0->data, .lse = lse0->data, .q = q->data, .k = k->data, .v = v->data,
    .cu_q = l->cu_q->data, .cu_k = l->cu_k->data, .k_len = cft_data(l->k_len),
    .q_position = cft_data(l->q_position), .nq = vq.rows, .nk = vk.rows,
    .B = l->cu_q->dims[0] - 1, .longest_q = l->longest_q, .longest_k = l->longest_k,
    .pairs = l->pairs, .H = H, .K = K, .D = D, .o_stride = H * D, .q_stride = vq.stride, .k_stride = vk.stride,
    .v_stride = vv.stride, .scale = scale, .causal = l->causal, .dtype = q->dtype };
  CFT_GO(CFT_KERNEL(q, attention_fwd, &a));
  CFT_GO(see_prefix(&a, q, &l->prefix));
  *o = cft_take(&o0);
  *lse = cft_take(&lse0);
out:
  cft_tensor_release(lse0);
  cft_tensor_release(o0);
  return st;
}

cft_status cft_attention_bwd(cft_tensor *dq, cft_tensor *dk, cft_tensor *dv, cft_tensor *d_o,
                             cft_tensor *o, cft_tensor *lse, cft_tensor *q, cft_tensor *k,
                             cft_tensor *v, int64_t H, int64_t K, double scale,
                             const cft_attention_layout *l) {
  const char *op = "attention_bwd";
  CFT_TRY(cft_same_float(op, CFT_ALL(dq, dk, dv, d_o, o, q, k, v)));
  CFT_TRY(check_heads(op, q, H, K));
  int64_t D = q->dims[1] / H;
  view vq, vk, vv, vdq, vdk, vdv, vdo, vo;
  CFT_TRY(look(&vq, op, "q", q, -1, H * D));
  CFT_TRY(look(&vk, op, "k", k, -1, K * D));
  CFT_TRY(look(&vv, op, "v", v, vk.rows, K * D));
  CFT_TRY(look(&vdq, op, "dq", dq, vq.rows, H * D));
  CFT_TRY(look(&vdk, op, "dk", dk, vk.rows, K * D));
  CFT_TRY(look(&vdv, op, "dv", dv, vk.rows, K * D));
  CFT_TRY(look(&vdo, op, "do", d_o, vq.rows, H * D));
  CFT_TRY(look(&vo, op, "o", o, vq.rows, H * D));
  if (lse->dtype != cft_wide(q->dtype) || cft_tensor_count(lse) != vq.rows * H)
    return cft_fail(CFT_E_SHAPE, "%s: lse is %s %s; %s (%" PRId64 ", %" PRId64 ") wanted", op,
                    cft_dtype_name(lse->dtype), cft_shape(lse),
                    cft_dtype_name(cft_wide(q->dtype)), vq.rows, H);
  CFT_TRY(check_layout(op, l, q, k));
  CFT_TRY(check_prefix(op, &l->prefix, q, k));
  const cft_attention_bwd_args a = {
    .dq = dq->data, .dk = dk->data, .dv = dv->data, .do_ = d_o->data, .o = o->data,
    .lse = lse->data, .q = q->data, .k = k->data, .v = v->data, .cu_q = l->cu_q->data,
    .cu_k = l->cu_k->data, .k_len = cft_data(l->k_len), .q_position = cft_data(l->q_position),
    .nq = vq.rows, .nk = vk.rows, .B = l->cu_q->dims[0] - 1, .longest_q = l->longest_q,
    .longest_k = l->longest_k, .pairs = l->pairs, .H = H, .K = K, .D = D, .dq_stride = vdq.stride,
    .dk_stride = vdk.stride, .dv_stride = vdv.stride, .do_stride = vdo.stride,
    .o_stride = vo.stride, .q_stride = vq.stride, .k_stride = vk.stride, .v_stride = vv.stride,
    .scale = scale, .causal = l->causal, .deterministic = l->deterministic, .dtype = q->dtype };
  CFT_TRY(CFT_KERNEL(q, attention_bwd, &a));
  return see_prefix_bwd(&a, q, &l->prefix);
}
