// view.c - tensors that share another's storage.
#include <inttypes.h>
#include <string.h>

#include "tensor_impl.h"

static cft_status check_dim(const char *what, const cft_tensor *x, int dim) {
  if (dim < 0 || dim >= x->ndim)
    return cft_fail(CFT_E_SHAPE, "%s: dimension %d of a tensor %s", what, dim, cft_shape(x));
  return CFT_OK;
}

cft_status cft_tensor_narrow(cft_tensor **t, cft_tensor *x, int dim, int64_t start, int64_t len) {
  CFT_TRY(check_dim("narrow", x, dim));
  if (start < 0 || len < 0 || start > x->dims[dim] || len > x->dims[dim] - start)
    return cft_fail(CFT_E_SHAPE,
                    "narrow: %" PRId64 " entries from %" PRId64 " of dimension %d of a tensor %s",
                    len, start, dim, cft_shape(x));
  int64_t dims[CFT_MAX_DIMS];
  memcpy(dims, x->dims, sizeof dims);
  dims[dim] = len;
  char *data = (char *)x->data + start * x->strides[dim] * (int64_t)cft_dtype_bytes(x->dtype);
  return cft_tensor_over(t, x->storage, data, x->dtype, x->ndim, dims, x->strides);
}

cft_status cft_tensor_transpose(cft_tensor **t, cft_tensor *x, int a, int b) {
  CFT_TRY(check_dim("transpose", x, a));
  CFT_TRY(check_dim("transpose", x, b));
  int64_t dims[CFT_MAX_DIMS], strides[CFT_MAX_DIMS];
  memcpy(dims, x->dims, sizeof dims);
  memcpy(strides, x->strides, sizeof strides);
  dims[a] = x->dims[b], dims[b] = x->dims[a];
  strides[a] = x->strides[b], strides[b] = x->strides[a];
  return cft_tensor_over(t, x->storage, x->data, x->dtype, x->ndim, dims, strides);
}

// The strides of `dims` over x's memory, if there are any: each run of new dimensions must fall
// into a run of old ones that lies without gaps.
static int view_strides(const cft_tensor *x, int ndim, const int64_t *dims, int64_t *strides) {
  int i = x->ndim - 1, j = ndim - 1;
  while (i >= 0 && j >= 0) {
    int64_t old = x->dims[i], new = dims[j], step = x->strides[i];
    int first = j;
    strides[j] = step;
    while (old != new) {
      if (new < old) {
        if (first == 0) return 0;
        first--;
        strides[first] = step * new;
        new *= dims[first];
      } else {
        if (i == 0 || x->strides[i - 1] != x->dims[i] * x->strides[i]) return 0;
        i--;
        old *= x->dims[i];
      }
    }
    i--;
    j = first - 1;
  }
  for (; j >= 0; j--) {
    if (dims[j] != 1) return 0;
    strides[j] = 1;
  }
  for (; i >= 0; i--)
    if (x->dims[i] != 1) return 0;
  return 1;
}

cft_status cft_tensor_reshape(cft_tensor **t, cft_tensor *x, int ndim, const int64_t *wanted) {
  if (ndim < 0 || ndim > CFT_MAX_DIMS)
    return cft_fail(CFT_E_ARG, "reshape: %d dimensions; 0 to %d are possible", ndim, CFT_MAX_DIMS);
  int64_t dims[CFT_MAX_DIMS], strides[CFT_MAX_DIMS], count = cft_tensor_count(x), known = 1;
  int open = -1;
  for (int i = 0; i < ndim; i++) {
    dims[i] = wanted[i];
    if (dims[i] == -1 && open < 0)
      open = i;
    else if (dims[i] < 0 || __builtin_mul_overflow(known, dims[i], &known))
      goto mismatch;
  }
  if (open >= 0) {
    if (known == 0 || count % known != 0) goto mismatch;
    dims[open] = count / known;
    known = count;
  }
  if (known != count) goto mismatch;
  if (count == 0 || cft_tensor_is_contiguous(x))
    return cft_tensor_over(t, x->storage, x->data, x->dtype, ndim, dims, NULL);
  if (!view_strides(x, ndim, dims, strides))
    return cft_fail(CFT_E_SHAPE, "reshape: %s to %s needs a copy; make it contiguous first",
                    cft_shape(x), cft_shape_of(ndim, dims));
  return cft_tensor_over(t, x->storage, x->data, x->dtype, ndim, dims, strides);
mismatch:
  return cft_fail(CFT_E_SHAPE, "reshape: %s to %s; the number of elements differs", cft_shape(x),
                  cft_shape_of(ndim, wanted));
}
