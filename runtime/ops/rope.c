// rope.c - checks and dispatch of rotary position embedding; see cft_ops.h.
#include <inttypes.h>

#include "ops_impl.h"

cft_status cft_rope(cft_tensor *x, cft_tensor *cos, cft_tensor *sin, cft_tensor *position,
                    int64_t heads, int inverse) {
  CFT_TRY(cft_same_float("rope", CFT_ALL(x)));
  CFT_TRY(cft_same_device("rope", CFT_ALL(x, cos, sin, position)));
  int64_t n = cft_rows(x), width = cft_last_dim(x), stride;
  if (heads < 1 || width % heads != 0 || (width / heads) % 2 != 0)
    return cft_fail(CFT_E_SHAPE, "rope: x is %s; its width must be %" PRId64
                    " heads of even width", cft_shape(x), heads);
  int64_t d = width / heads;
  if (cos->ndim != 2 || cos->dims[1] != d / 2 || cos->dtype != cft_wide(x->dtype) ||
      sin->ndim != 2 || sin->dims[1] != d / 2 || sin->dims[0] != cos->dims[0] ||
      sin->dtype != cos->dtype)
    return cft_fail(CFT_E_SHAPE, "rope: cos is %s %s, sin %s %s; %s (positions, %" PRId64
                    ") wanted", cft_dtype_name(cos->dtype), cft_shape(cos),
                    cft_dtype_name(sin->dtype), cft_shape(sin),
                    cft_dtype_name(cft_wide(x->dtype)), d / 2);
  CFT_TRY(cft_row_stride(&stride, "rope", "x", x));
  CFT_TRY(cft_want_contiguous("rope", "cos", cos));
  CFT_TRY(cft_want_contiguous("rope", "sin", sin));
  CFT_TRY(cft_want_index("rope", "position", position, n, x));
  CFT_TRY(cft_check_index("rope", "position", position, cos->dims[0]));
  cft_tensor_touch(x);
  return CFT_KERNEL(x, rope, (&(cft_rope_args){
    .y = x->data, .x = x->data, .cos = cos->data, .sin = sin->data, .position = position->data,
    .n = n, .heads = heads, .d = d, .y_stride = stride, .x_stride = stride,
    .inverse = inverse != 0, .dtype = x->dtype }));
}
