// relu2.c - checks and dispatch of max(x, 0)^2; see cft_ops.h.
#include <string.h>

#include "ops_impl.h"

cft_status cft_relu2_fwd(cft_tensor **y, cft_tensor *x) {
  CFT_TRY(cft_same_float("relu2", CFT_ALL(x)));
  CFT_TRY(cft_want_contiguous("relu2", "x", x));
  cft_tensor *y0;
  CFT_TRY(cft_new_like(&y0, x));
  return cft_give(y, y0, CFT_KERNEL(x, relu2_fwd, (&(cft_relu2_args){
    .y = y0->data, .x = x->data, .n = cft_tensor_count(x), .dtype = x->dtype })));
}

cft_status cft_relu2_bwd(cft_tensor **dx, cft_tensor *dy, cft_tensor *x) {
  CFT_TRY(cft_same_float("relu2_bwd", CFT_ALL(dy, x)));
  if (dy->ndim != x->ndim || memcmp(dy->dims, x->dims, sizeof dy->dims) != 0)
    return cft_fail(CFT_E_SHAPE, "relu2_bwd: dy is %s but x is %s", cft_shape(dy), cft_shape(x));
  CFT_TRY(cft_want_contiguous("relu2_bwd", "dy", dy));
  CFT_TRY(cft_want_contiguous("relu2_bwd", "x", x));
  int made, beta;
  CFT_TRY(cft_gradient(dx, &made, &beta, "relu2_bwd", "dx", x, x->dtype, 0));
  cft_status st = CFT_KERNEL(x, relu2_bwd, (&(cft_relu2_bwd_args){
    .dx = (*dx)->data, .dy = dy->data, .x = x->data, .n = cft_tensor_count(x), .dx_beta = beta,
    .dtype = x->dtype }));
  if (st != CFT_OK) cft_gradient_undo(dx, made);
  return st;
}
