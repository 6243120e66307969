// copy.c - contents moved: copies between shapes, dtypes and devices; casts; fills.
#include <stdlib.h>
#include <string.h>

#include "tensor_impl.h"

static int same_dims(const cft_tensor *a, const cft_tensor *b) {
  return a->ndim == b->ndim &&
         memcmp(a->dims, b->dims, (size_t)a->ndim * sizeof a->dims[0]) == 0;
}

// Same device and dtype, any strides.
static cft_status copy_strided(cft_tensor *to, const cft_tensor *from) {
  cft_device *d = to->device;
  if (cft_tensor_is_contiguous(to) && cft_tensor_is_contiguous(from))
    return d->copy(d, d->stream(d), to->data, from->data, (size_t)cft_tensor_bytes(to));
  if (!d->kernels->strided_copy)
    return cft_fail(CFT_E_UNSUPPORTED, "no %s kernel for strided_copy", d->name);
  cft_strided_args a = {.y = to->data, .x = from->data, .ndim = to->ndim, .dtype = to->dtype};
  memcpy(a.dims, to->dims, sizeof a.dims);
  memcpy(a.y_strides, to->strides, sizeof a.y_strides);
  memcpy(a.x_strides, from->strides, sizeof a.x_strides);
  return d->kernels->strided_copy(d, d->stream(d), &a);
}

// A contiguous tensor on another device, through the host where neither side is the host's.
static cft_status copy_across(cft_tensor *to, const cft_tensor *from) {
  size_t bytes = (size_t)cft_tensor_bytes(to);
  if (from->device->host_memory) return cft_tensor_write(to, from->data, bytes);
  if (to->device->host_memory) return cft_tensor_read(from, to->data, bytes);
  void *host = malloc(bytes ? bytes : 1);
  if (!host) return cft_fail(CFT_E_OOM, "tensor_copy: no host memory for %zu bytes", bytes);
  cft_status st = cft_tensor_read(from, host, bytes);
  if (st == CFT_OK) st = cft_tensor_write(to, host, bytes);
  free(host);
  return st;
}

cft_status cft_tensor_copy(cft_tensor *to, cft_tensor *from) {
  if (!same_dims(to, from))
    return cft_fail(CFT_E_SHAPE, "tensor_copy: from %s to %s; shapes must be equal",
                    cft_shape(from), cft_shape(to));
  if (cft_tensor_count(to) == 0) return CFT_OK;
  cft_tensor_touch(to);
  if (to->device == from->device && to->dtype == from->dtype) return copy_strided(to, from);

  // In the order cast, move, spread: each only where it is needed.
  cft_status st;
  cft_tensor *cast = NULL, *moved = NULL;
  if (to->dtype != from->dtype)
    CFT_GO(cft_cast(&cast, from, to->dtype));
  else
    CFT_GO(cft_contiguous(&cast, from));
  if (to->device == cast->device) {
    CFT_GO(copy_strided(to, cast));
  } else if (cft_tensor_is_contiguous(to)) {
    CFT_GO(copy_across(to, cast));
  } else {
    CFT_GO(cft_tensor_new(&moved, to->device, to->dtype, to->ndim, to->dims));
    CFT_GO(copy_across(moved, cast));
    CFT_GO(copy_strided(to, moved));
  }
out:
  cft_tensor_release(moved);
  cft_tensor_release(cast);
  return st;
}

cft_status cft_contiguous(cft_tensor **y, cft_tensor *x) {
  if (cft_tensor_is_contiguous(x)) {
    *y = cft_tensor_retain(x);
    return CFT_OK;
  }
  cft_tensor *y0;
  CFT_TRY(cft_new_like(&y0, x));
  return cft_give(y, y0, cft_tensor_copy(y0, x));
}

cft_status cft_cast(cft_tensor **y, cft_tensor *x, cft_dtype dtype) {
  cft_status st;
  cft_tensor *flat = NULL, *y0 = NULL;
  CFT_GO(cft_contiguous(&flat, x));
  CFT_GO(cft_tensor_new(&y0, x->device, dtype, x->ndim, x->dims));
  if (dtype == x->dtype)
    CFT_GO(cft_tensor_copy(y0, flat));
  else
    CFT_GO(CFT_KERNEL(x, cast, (&(cft_cast_args){
      .y = y0->data, .x = flat->data, .n = cft_tensor_count(x), .y_dtype = dtype,
      .x_dtype = x->dtype })));
  *y = cft_take(&y0);
out:
  cft_tensor_release(y0);
  cft_tensor_release(flat);
  return st;
}

cft_status cft_tensor_zero(cft_tensor *t) {
  if (!cft_tensor_is_contiguous(t)) return cft_tensor_fill(t, 0);
  cft_tensor_touch(t);
  cft_device *d = t->device;
  return d->zero(d, d->stream(d), t->data, (size_t)cft_tensor_bytes(t));
}

cft_status cft_tensor_fill(cft_tensor *t, double value) {
  cft_tensor *flat = NULL;
  cft_status st = CFT_OK;
  cft_tensor_touch(t);
  cft_tensor *to = t;
  if (!cft_tensor_is_contiguous(t)) {
    CFT_GO(cft_new_like(&flat, t));
    to = flat;
  }
  CFT_GO(CFT_KERNEL(t, fill, (&(cft_fill_args){
    .y = to->data, .n = cft_tensor_count(t), .value = value, .dtype = t->dtype })));
  if (flat) CFT_GO(cft_tensor_copy(t, flat));
out:
  cft_tensor_release(flat);
  return st;
}
