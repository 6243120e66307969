// reduce.c - sums, maxima and their places along one dimension or all.
#include "ops_impl.h"

cft_status cft_reduce(cft_tensor **y, cft_tensor *x, int dim, cft_reduction f, double alpha) {
  CFT_TRY(cft_same_float("reduce", CFT_ALL(x)));
  CFT_TRY(cft_want_contiguous("reduce", "x", x));
  if (dim < -1 || dim >= x->ndim)
    return cft_fail(CFT_E_SHAPE, "reduce: dimension %d of a tensor %s", dim, cft_shape(x));
  int64_t outer = 1, mid = 1, inner = 1, dims[CFT_MAX_DIMS];
  int ndim = 0;
  for (int i = 0; i < x->ndim; i++) {
    if (dim == -1 || i == dim)
      mid *= x->dims[i];
    else if (i < dim)
      outer *= x->dims[i], dims[ndim++] = x->dims[i];
    else
      inner *= x->dims[i], dims[ndim++] = x->dims[i];
  }
  if (mid == 0 && f != CFT_SUM && f != CFT_SUM_SQUARES)
    return cft_fail(CFT_E_SHAPE, "reduce: a maximum over nothing; x is %s", cft_shape(x));
  cft_tensor *y0;
  cft_dtype dtype = f == CFT_ARGMAX ? CFT_I32 : x->dtype;
  CFT_TRY(cft_tensor_new(&y0, x->device, dtype, ndim, dims));
  return cft_give(y, y0, CFT_KERNEL(x, reduce, (&(cft_reduce_args){
    .y = y0->data, .x = x->data, .outer = outer, .mid = mid, .inner = inner, .alpha = alpha,
    .f = f, .dtype = x->dtype, .y_dtype = dtype })));
}
