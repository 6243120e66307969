// linear.c - y = x w^T + b, its gradients, and plain matrix products.
#include <string.h>

#include "ops_impl.h"

uint64_t cft_weight_id(const cft_tensor *w) {
  if (w->storage->why != CFT_MEM_PARAM) return 0;
  uint64_t offset = (uint64_t)((const char *)w->data - (const char *)w->storage->data);
  return (w->storage->id << 40) ^ offset;
}

static void identify(cft_matmul_args *a, const cft_tensor *w) {
  a->b_id = cft_weight_id(w);
  a->b_version = w->storage->version;
}

static cft_status check_weight(const char *op, const cft_tensor *x, const cft_tensor *w) {
  if (x->ndim < 1 || w->ndim != 2 || w->dims[1] != cft_last_dim(x))
    return cft_fail(CFT_E_SHAPE, "%s: w is %s but x is %s; w's last dimension must be x's", op,
                    cft_shape(w), cft_shape(x));
  return CFT_OK;
}

cft_status cft_linear_fwd(cft_tensor **y, cft_tensor *x, cft_tensor *w, cft_tensor *b) {
  CFT_TRY(cft_same_float("linear", CFT_ALL(x, w, b)));
  CFT_TRY(check_weight("linear", x, w));
  if (b && (b->ndim != 1 || b->dims[0] != w->dims[0]))
    return cft_fail(CFT_E_SHAPE, "linear: b is %s but w is %s; b must be w's first dimension",
                    cft_shape(b), cft_shape(w));
  cft_matmul_args a = {.m = cft_rows(x), .n = w->dims[0], .k = w->dims[1],
                       .a = x->data, .b = w->data, .bias = cft_data(b), .trans_b = 1,
                       .c_stride = w->dims[0], .dtype = x->dtype, .c_dtype = x->dtype};
  CFT_TRY(cft_row_stride(&a.a_stride, "linear", "x", x));
  CFT_TRY(cft_row_stride(&a.b_stride, "linear", "w", w));
  CFT_TRY(cft_want_contiguous("linear", "b", b));
  identify(&a, w);

  cft_tensor *y0;
  int64_t dims[CFT_MAX_DIMS];
  memcpy(dims, x->dims, sizeof dims);
  dims[x->ndim - 1] = w->dims[0];
  CFT_TRY(cft_tensor_new(&y0, x->device, x->dtype, x->ndim, dims));
  a.c = y0->data;
  return cft_give(y, y0, CFT_KERNEL(x, matmul, &a));
}

cft_status cft_logits(cft_tensor **y, cft_tensor *x, cft_tensor *w) {
  CFT_TRY(cft_same_float("logits", CFT_ALL(x, w)));
  CFT_TRY(check_weight("logits", x, w));
  if (x->ndim != 2) return cft_fail(CFT_E_SHAPE, "logits: x is %s; (n, d) wanted", cft_shape(x));
  cft_matmul_args a = {.m = x->dims[0], .n = w->dims[0], .k = w->dims[1], .a = x->data,
                       .b = w->data, .trans_b = 1, .c_stride = w->dims[0], .dtype = x->dtype,
                       .c_dtype = cft_wide(x->dtype)};
  CFT_TRY(cft_row_stride(&a.a_stride, "logits", "x", x));
  CFT_TRY(cft_row_stride(&a.b_stride, "logits", "w", w));
  identify(&a, w);
  cft_tensor *y0;
  CFT_TRY(cft_tensor_new(&y0, x->device, a.c_dtype, 2, (int64_t[]){a.m, a.n}));
  a.c = y0->data;
  return cft_give(y, y0, CFT_KERNEL(x, matmul, &a));
}

static cft_status prepare_db(cft_tensor **db, int *made, int *beta, cft_tensor *dy,
                             cft_tensor *like_w) {
  cft_tensor shape = *dy;  // only its device and dims are looked at
  shape.ndim = 1;
  for (int i = 0; i < CFT_MAX_DIMS; i++) shape.dims[i] = i ? 1 : like_w->dims[0];
  CFT_TRY(cft_gradient(db, made, beta, "linear_bwd", "db", &shape, dy->dtype, 1));
  return cft_want_contiguous("linear_bwd", "dy", dy);
}

static cft_status sum_of_rows(cft_tensor **db, int beta, cft_tensor *dy) {
  return CFT_KERNEL(dy, reduce, (&(cft_reduce_args){
    .y = (*db)->data, .x = dy->data, .outer = 1, .mid = cft_rows(dy), .inner = cft_last_dim(dy),
    .alpha = 1, .f = CFT_SUM, .y_beta = beta, .dtype = dy->dtype, .y_dtype = (*db)->dtype }));
}

cft_status cft_linear_bwd(cft_tensor **dx, cft_tensor **dw, cft_tensor **db, cft_tensor *dy,
                          cft_tensor *x, cft_tensor *w) {
  CFT_TRY(cft_same_float("linear_bwd", CFT_ALL(dy, x, w)));
  CFT_TRY(check_weight("linear_bwd", x, w));
  int64_t n = cft_rows(x), in = w->dims[1], out_width = w->dims[0];
  if (cft_rows(dy) != n || cft_last_dim(dy) != out_width)
    return cft_fail(CFT_E_SHAPE, "linear_bwd: dy is %s, but x is %s and w is %s", cft_shape(dy),
                    cft_shape(x), cft_shape(w));
  int64_t x_stride, w_stride, dy_stride;
  CFT_TRY(cft_row_stride(&x_stride, "linear_bwd", "x", x));
  CFT_TRY(cft_row_stride(&w_stride, "linear_bwd", "w", w));
  CFT_TRY(cft_row_stride(&dy_stride, "linear_bwd", "dy", dy));

  cft_status st = CFT_OK;
  int made_x = 0, made_w = 0, made_b = 0, beta, beta_b = 0, summed = 0;
  if (db) CFT_GO(prepare_db(db, &made_b, &beta_b, dy, w));
  if (dx) {
    CFT_GO(cft_gradient(dx, &made_x, &beta, "linear_bwd", "dx", x, x->dtype, 0));
    cft_matmul_args a = {.c = (*dx)->data, .a = dy->data, .b = w->data,
                         .m = n, .n = in, .k = out_width, .beta = beta,
                         .c_stride = in, .a_stride = dy_stride, .b_stride = w_stride,
                         .dtype = x->dtype, .c_dtype = x->dtype};
    identify(&a, w);
    CFT_GO(CFT_KERNEL(x, matmul, &a));
  }
  if (dw) {
    CFT_GO(cft_gradient(dw, &made_w, &beta, "linear_bwd", "dw", w, w->dtype, 1));
    cft_matmul_args a = {.c = (*dw)->data, .a = dy->data, .b = x->data,
                         .m = out_width, .n = in, .k = n, .trans_a = 1, .beta = beta,
                         .c_stride = in, .a_stride = dy_stride, .b_stride = x_stride,
                         .dtype = x->dtype, .c_dtype = (*dw)->dtype};
    if (db && (*db)->dtype == a.c_dtype) {  // both from one pass over dy, where there is one
      a.a_sum = (*db)->data, a.a_sum_beta = beta_b;
      summed = 1;
    }
    CFT_GO(CFT_KERNEL(x, matmul, &a));
  }
  if (db && !summed) CFT_GO(sum_of_rows(db, beta_b, dy));
out:
  if (st != CFT_OK) {
    cft_gradient_undo(dx, made_x);
    cft_gradient_undo(dw, made_w);
    cft_gradient_undo(db, made_b);
  }
  return st;
}

cft_status cft_matmul(cft_tensor **y, cft_tensor *a, cft_tensor *b, int trans_a, int trans_b) {
  CFT_TRY(cft_same_float("matmul", CFT_ALL(a, b)));
  if (a->ndim != 2 || b->ndim != 2 || a->dims[!trans_a] != b->dims[!!trans_b])
    return cft_fail(CFT_E_SHAPE, "matmul: %s%s times %s%s; inner dimensions must be equal",
                    cft_shape(a), trans_a ? " transposed" : "", cft_shape(b),
                    trans_b ? " transposed" : "");
  cft_matmul_args args = {.a = a->data, .b = b->data, .trans_a = !!trans_a, .trans_b = !!trans_b,
                          .m = a->dims[!!trans_a], .k = a->dims[!trans_a], .n = b->dims[!trans_b],
                          .dtype = a->dtype, .c_dtype = a->dtype};
  args.c_stride = args.n;
  CFT_TRY(cft_row_stride(&args.a_stride, "matmul", "a", a));
  CFT_TRY(cft_row_stride(&args.b_stride, "matmul", "b", b));

  cft_tensor *y0;
  CFT_TRY(cft_tensor_new(&y0, a->device, a->dtype, 2, (int64_t[]){args.m, args.n}));
  args.c = y0->data;
  return cft_give(y, y0, CFT_KERNEL(a, matmul, &args));
}
