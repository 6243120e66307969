// elementwise.c - one value at a time: functions and arithmetic; see cft_ops.h.
#include <string.h>

#include "ops_impl.h"

cft_status cft_unary_op(cft_tensor **y, cft_tensor *x, cft_unary f, double alpha) {
  CFT_TRY(cft_same_float("unary", CFT_ALL(x)));
  CFT_TRY(cft_want_contiguous("unary", "x", x));
  cft_tensor *y0;
  CFT_TRY(cft_new_like(&y0, x));
  return cft_give(y, y0, CFT_KERNEL(x, unary, (&(cft_unary_args){
    .y = y0->data, .x = x->data, .n = cft_tensor_count(x), .f = f, .alpha = alpha,
    .dtype = x->dtype })));
}

// How b is read beside a (rows of width d): elementwise, a row for all, a number a row, one number.
static int broadcast(cft_binary_args *args, const cft_tensor *a, const cft_tensor *b) {
  int64_t n = cft_rows(a), d = cft_last_dim(a), count = cft_tensor_count(b);
  args->n = n, args->d = d;
  if (b->ndim == a->ndim && memcmp(a->dims, b->dims, sizeof a->dims) == 0)
    args->b_rows = d, args->b_cols = 1;
  else if (count == 1)
    args->b_rows = args->b_cols = 0;
  else if (b->ndim == 1 && count == d)
    args->b_rows = 0, args->b_cols = 1;
  else if (count == n && b->ndim == a->ndim && cft_last_dim(b) == 1)
    args->b_rows = 1, args->b_cols = 0;
  else
    return 0;
  return 1;
}

cft_status cft_binary_op(cft_tensor **y, cft_tensor *a, cft_tensor *b, cft_binary f) {
  CFT_TRY(cft_same_float("binary", CFT_ALL(a, b)));
  CFT_TRY(cft_want_contiguous("binary", "a", a));
  CFT_TRY(cft_want_contiguous("binary", "b", b));
  cft_binary_args args = {.a = a->data, .b = b->data, .f = f, .dtype = a->dtype};
  if (!broadcast(&args, a, b))
    return cft_fail(CFT_E_SHAPE, "binary: %s and %s; the second must be of the first's shape, one "
                    "row of it, one number a row, or one number", cft_shape(a), cft_shape(b));
  cft_tensor *y0;
  CFT_TRY(cft_new_like(&y0, a));
  args.y = y0->data;
  return cft_give(y, y0, CFT_KERNEL(a, binary, &args));
}

cft_status cft_axpby(cft_tensor *y, cft_tensor *x, double alpha, double beta) {
  CFT_TRY(cft_same_device("axpby", CFT_ALL(y, x)));
  CFT_TRY(cft_same_float("axpby", CFT_ALL(x)));
  if (y->ndim != x->ndim || memcmp(y->dims, x->dims, sizeof y->dims) != 0)
    return cft_fail(CFT_E_SHAPE, "axpby: y is %s but x is %s", cft_shape(y), cft_shape(x));
  if (y->dtype != x->dtype && y->dtype != cft_wide(x->dtype))
    return cft_fail(CFT_E_DTYPE, "axpby: y is %s but x is %s", cft_dtype_name(y->dtype),
                    cft_dtype_name(x->dtype));
  CFT_TRY(cft_want_contiguous("axpby", "y", y));
  CFT_TRY(cft_want_contiguous("axpby", "x", x));
  cft_tensor_touch(y);
  return CFT_KERNEL(x, axpby, (&(cft_axpby_args){
    .y = y->data, .x = x->data, .n = cft_tensor_count(x), .alpha = alpha, .beta = beta,
    .dtype = x->dtype, .y_dtype = y->dtype }));
}
