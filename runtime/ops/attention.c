// attention.c - checks and dispatch of packed causal grouped-query attention; see cft_ops.h.
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

static cft_status check_heads(const char *op, const cft_tensor *q, int64_t H, int64_t K) {
  if (H < 1 || K < 1 || H % K != 0)
    return cft_fail(CFT_E_ARG, "%s: %" PRId64 " heads over %" PRId64
                    " kv heads; a whole number of times is needed", op, H, K);
  if (q->ndim != 2 || q->dims[1] % H != 0 || q->dims[1] == 0)
    return cft_fail(CFT_E_SHAPE, "%s: q is %s; (n, %" PRId64 " * D) wanted", op, cft_shape(q), H);
  return CFT_OK;
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

  cft_status st;
  cft_tensor *o0 = NULL, *lse0 = NULL;
  CFT_GO(cft_tensor_new(&o0, q->device, q->dtype, 2, q->dims));
  CFT_GO(cft_tensor_new(&lse0, q->device, cft_wide(q->dtype), 2, (int64_t[]){vq.rows, H}));
  CFT_GO(CFT_KERNEL(q, attention_fwd, (&(cft_attention_args){
    .o = o0->data, .lse = lse0->data, .q = q->data, .k = k->data, .v = v->data,
    .cu_q = l->cu_q->data, .cu_k = l->cu_k->data, .k_len = cft_data(l->k_len),
    .q_position = cft_data(l->q_position), .nq = vq.rows, .nk = vk.rows,
    .B = l->cu_q->dims[0] - 1, .longest_q = l->longest_q, .longest_k = l->longest_k,
    .H = H, .K = K, .D = D, .o_stride = H * D, .q_stride = vq.stride, .k_stride = vk.stride,
    .v_stride = vv.stride, .scale = scale, .causal = l->causal, .dtype = q->dtype })));
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
  return CFT_KERNEL(q, attention_bwd, (&(cft_attention_bwd_args){
    .dq = dq->data, .dk = dk->data, .dv = dv->data, .do_ = d_o->data, .o = o->data,
    .lse = lse->data, .q = q->data, .k = k->data, .v = v->data, .cu_q = l->cu_q->data,
    .cu_k = l->cu_k->data, .k_len = cft_data(l->k_len), .q_position = cft_data(l->q_position),
    .nq = vq.rows, .nk = vk.rows, .B = l->cu_q->dims[0] - 1, .longest_q = l->longest_q,
    .longest_k = l->longest_k, .H = H, .K = K, .D = D, .dq_stride = vdq.stride,
    .dk_stride = vdk.stride, .dv_stride = vdv.stride, .do_stride = vdo.stride,
    .o_stride = vo.stride, .q_stride = vq.stride, .k_stride = vk.stride, .v_stride = vv.stride,
    .scale = scale, .causal = l->causal, .deterministic = l->deterministic, .dtype = q->dtype }));
}
