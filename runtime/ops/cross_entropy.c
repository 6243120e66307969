// cross_entropy.c - weighted cross-entropy, from logits or fused with the head that makes them.
#include <inttypes.h>

#include "ops_impl.h"

static cft_status check_labels(const char *op, const cft_tensor *target, const cft_tensor *weight,
                               int64_t n, int64_t V, const cft_tensor *x) {
  CFT_TRY(cft_want_index(op, "target", target, n, x));
  if (weight->device != x->device)
    return cft_fail(CFT_E_DEVICE, "%s: weight is on %s, the rest on %s", op, weight->device->name,
                    x->device->name);
  if (weight->dtype != CFT_F32 || weight->ndim != 1 || weight->dims[0] != n ||
      !cft_tensor_is_contiguous(weight))
    return cft_fail(CFT_E_SHAPE, "%s: weight is %s %s; f32 (%" PRId64 ") wanted", op,
                    cft_dtype_name(weight->dtype), cft_shape(weight), n);
  if (!x->device->host_memory) return CFT_OK;
  const int32_t *t = target->data;
  const float *w = weight->data;
  for (int64_t i = 0; i < n; i++)
    if (w[i] != 0 && (t[i] < 0 || t[i] >= V))
      return cft_fail(CFT_E_ARG, "%s: target[%" PRId64 "] is %d with weight %g; it must be in [0, %"
                      PRId64 ")", op, i, t[i], (double)w[i], V);
  return CFT_OK;
}

cft_status cft_cross_entropy(cft_tensor **nll, cft_tensor **dlogits, cft_tensor *logits,
                             cft_tensor *target, cft_tensor *weight, double scale) {
  const char *op = "cross_entropy";
  CFT_TRY(cft_same_float(op, CFT_ALL(logits)));
  if (logits->ndim != 2 || logits->dims[1] == 0)
    return cft_fail(CFT_E_SHAPE, "%s: logits are %s; (n, V) wanted", op, cft_shape(logits));
  int64_t n = logits->dims[0], V = logits->dims[1], stride;
  CFT_TRY(cft_row_stride(&stride, op, "logits", logits));
  CFT_TRY(check_labels(op, target, weight, n, V, logits));

  cft_status st;
  cft_tensor *nll0 = NULL, *d0 = NULL;
  CFT_GO(cft_tensor_new(&nll0, logits->device, cft_wide(logits->dtype), 1, &n));
  if (dlogits) CFT_GO(cft_new_like(&d0, logits));
  CFT_GO(CFT_KERNEL(logits, cross_entropy, (&(cft_cross_entropy_args){
    .nll = nll0->data, .grad = cft_data(d0), .logits = logits->data, .target = target->data,
    .weight = weight->data, .n = n, .V = V, .logits_stride = stride, .grad_stride = V,
    .scale = scale, .dtype = logits->dtype, .grad_dtype = logits->dtype })));
  *nll = cft_take(&nll0);
  if (dlogits) *dlogits = cft_take(&d0);
out:
  cft_tensor_release(d0);
  cft_tensor_release(nll0);
  return st;
}

// Rows at a time: enough that the head's matmuls run at full speed, few enough that their logits
// stay a small part of memory. A GPU reads and writes all of dw once a chunk, which costs more than
// the matmul where chunks are small.
int64_t cft_head_chunk(int host_memory, int64_t n, int64_t V) {
  enum { HOST_BYTES = 128 << 20, DEVICE_BYTES = 1 << 30, FEWEST = 256, STEP = 64 };
  int64_t bytes = host_memory ? HOST_BYTES : DEVICE_BYTES;
  int64_t rows = bytes / ((V < 1 ? 1 : V) * (int64_t)sizeof(float)) / STEP * STEP;
  if (rows < FEWEST) rows = FEWEST;
  return rows < n ? rows : n;
}

typedef struct head {  // one call of the fused loss
  cft_tensor *x, *w, *dx, *dw;
  cft_tensor *logits, *grad;  // (chunk, V): wide, and in x's dtype
  int64_t x_stride, w_stride;
  uint64_t w_id;
} head;

static cft_matmul_args times_weight(const head *h, int64_t rows) {
  return (cft_matmul_args){.b = h->w->data, .b_stride = h->w_stride, .m = rows,
                           .dtype = h->x->dtype, .b_id = h->w_id,
                           .b_version = h->w->storage->version};
}

static void *row_of(const cft_tensor *t, int64_t row, int64_t stride) {
  return (char *)t->data + row * stride * (int64_t)cft_dtype_bytes(t->dtype);
}

static cft_status one_chunk(const head *h, cft_cross_entropy_args loss, int64_t from, int64_t rows,
                            int dx_beta, int dw_beta) {
  int64_t V = h->w->dims[0], d = h->w->dims[1];
  cft_matmul_args a = times_weight(h, rows);  // logits = x w^T
  a.c = h->logits->data, a.c_stride = V, a.c_dtype = h->logits->dtype;
  a.a = row_of(h->x, from, h->x_stride), a.a_stride = h->x_stride;
  a.n = V, a.k = d, a.trans_b = 1;
  CFT_TRY(CFT_KERNEL(h->x, matmul, &a));

  loss.n = rows;
  loss.nll = (char *)loss.nll + from * (int64_t)cft_dtype_bytes(cft_wide(h->x->dtype));
  loss.target += from;
  loss.weight += from;
  CFT_TRY(CFT_KERNEL(h->logits, cross_entropy, &loss));

  if (h->dx) {  // dx = dlogits w
    a = times_weight(h, rows);
    a.c = row_of(h->dx, from, d), a.c_stride = d, a.c_dtype = h->dx->dtype, a.beta = dx_beta;
    a.a = loss.grad, a.a_stride = V;
    a.n = d, a.k = V;
    CFT_TRY(CFT_KERNEL(h->x, matmul, &a));
  }
  if (!h->dw) return CFT_OK;
  return CFT_KERNEL(h->x, matmul, (&(cft_matmul_args){  // dw += dlogits^T x
    .c = h->dw->data, .c_stride = d, .c_dtype = h->dw->dtype, .beta = dw_beta,
    .a = loss.grad, .a_stride = V, .trans_a = 1,
    .b = row_of(h->x, from, h->x_stride), .b_stride = h->x_stride,
    .m = V, .n = d, .k = rows, .dtype = h->x->dtype }));
}

cft_status cft_linear_cross_entropy(cft_tensor **nll, cft_tensor **dx, cft_tensor **dw,
                                    cft_tensor *x, cft_tensor *w, cft_tensor *target,
                                    cft_tensor *weight, double scale, int64_t chunk) {
  const char *op = "linear_cross_entropy";
  CFT_TRY(cft_same_float(op, CFT_ALL(x, w)));
  if (x->ndim != 2 || w->ndim != 2 || w->dims[1] != x->dims[1] || w->dims[0] == 0)
    return cft_fail(CFT_E_SHAPE, "%s: x is %s and w %s; (n, d) and (V, d) wanted", op,
                    cft_shape(x), cft_shape(w));
  if (chunk < 0) return cft_fail(CFT_E_ARG, "%s: chunk is %" PRId64, op, chunk);
  int64_t n = x->dims[0], V = w->dims[0];
  head h = {.x = x, .w = w};
  CFT_TRY(cft_row_stride(&h.x_stride, op, "x", x));
  CFT_TRY(cft_row_stride(&h.w_stride, op, "w", w));
  CFT_TRY(check_labels(op, target, weight, n, V, x));
  h.w_id = cft_weight_id(w);
  if (chunk == 0 || chunk > n) chunk = cft_head_chunk(x->device->host_memory, n, V);

  cft_status st;
  cft_tensor *nll0 = NULL;
  int made_x = 0, made_w = 0, beta_x = 0, beta_w = 0;
  int64_t logits_dims[2] = {chunk, V};
  cft_memory_class before = cft_memory_class_set(CFT_MEM_WORKSPACE);
  CFT_GO(cft_tensor_new(&h.logits, x->device, cft_wide(x->dtype), 2, logits_dims));
  if ((dx || dw) && x->dtype != h.logits->dtype)
    CFT_GO(cft_tensor_new(&h.grad, x->device, x->dtype, 2, logits_dims));
  cft_memory_class_set(before);
  CFT_GO(cft_tensor_new(&nll0, x->device, cft_wide(x->dtype), 1, &n));
  CFT_GO(cft_gradient(dx, &made_x, &beta_x, op, "dx", x, x->dtype, 0));
  CFT_GO(cft_gradient(dw, &made_w, &beta_w, op, "dw", w, w->dtype, 1));
  h.dx = dx ? *dx : NULL;
  h.dw = dw ? *dw : NULL;
  if (made_w && n == 0) CFT_GO(cft_tensor_zero(h.dw));

  cft_cross_entropy_args loss = {
    .nll = nll0->data, .logits = h.logits->data, .target = target->data, .weight = weight->data,
    .grad = dx || dw ? cft_data(h.grad ? h.grad : h.logits) : NULL, .V = V, .logits_stride = V,
    .grad_stride = V, .scale = scale, .dtype = h.logits->dtype, .grad_dtype = x->dtype };
  for (int64_t from = 0; from < n; from += chunk) {
    int64_t rows = n - from < chunk ? n - from : chunk;
    CFT_GO(one_chunk(&h, loss, from, rows, beta_x, beta_w || from > 0));
  }
  *nll = cft_take(&nll0);
out:
  cft_memory_class_set(before);
  if (st != CFT_OK) {
    cft_gradient_undo(dx, made_x);
    cft_gradient_undo(dw, made_w);
  }
  cft_tensor_release(nll0);
  cft_tensor_release(h.grad);
  cft_tensor_release(h.logits);
  return st;
}
