// softmax.c - checks and dispatch; see cft_ops.h.
#include "ops_impl.h"

cft_status cft_softmax_fwd(cft_tensor **y, cft_tensor *x) {
  CFT_TRY(cft_same_float("softmax", CFT_ALL(x)));
  if (x->ndim < 1)
    return cft_fail(CFT_E_SHAPE, "softmax: x is a scalar; (..., d) wanted");
  CFT_TRY(cft_want_contiguous("softmax", "x", x));
  cft_tensor *y0;
  CFT_TRY(cft_new_like(&y0, x));
  return cft_give(y, y0, CFT_KERNEL(x, softmax_fwd, (&(cft_softmax_args){
    .y = y0->data, .x = x->data, .n = cft_rows(x), .d = cft_last_dim(x), .dtype = x->dtype })));
}

cft_status cft_softmax_bwd(cft_tensor **dx, cft_tensor *dy, cft_tensor *y) {
  CFT_TRY(cft_same_float("softmax_bwd", CFT_ALL(dy, y)));
  if (cft_rows(dy) != cft_rows(y) || cft_last_dim(dy) != cft_last_dim(y))
    return cft_fail(CFT_E_SHAPE, "softmax_bwd: dy is %s but y is %s", cft_shape(dy), cft_shape(y));
  CFT_TRY(cft_want_contiguous("softmax_bwd", "dy", dy));
  CFT_TRY(cft_want_contiguous("softmax_bwd", "y", y));
  int made, beta;
  CFT_TRY(cft_gradient(dx, &made, &beta, "softmax_bwd", "dx", y, y->dtype, 0));
  cft_status st = CFT_KERNEL(y, softmax_bwd, (&(cft_softmax_bwd_args){
    .dx = (*dx)->data, .dy = dy->data, .y = y->data, .n = cft_rows(y), .d = cft_last_dim(y),
    .dx_beta = beta, .dtype = y->dtype }));
  if (st != CFT_OK) cft_gradient_undo(dx, made);
  return st;
}
