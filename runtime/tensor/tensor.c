// tensor.c - shape over storage, and contents to and from the host.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor_impl.h"

static atomic_llong alive = 0;

int64_t cft_tensor_alive(void) { return atomic_load(&alive); }

const char *cft_shape_of(int ndim, const int64_t *dims) {
  enum { RING = 8, BYTES = 160 };
  static _Thread_local char ring[RING][BYTES];
  static _Thread_local unsigned next;
  char *s = ring[next++ % RING];
  int at = snprintf(s, BYTES, "(");
  for (int i = 0; i < ndim; i++)
    at += snprintf(s + at, (size_t)(BYTES - at), i ? ", %" PRId64 : "%" PRId64, dims[i]);
  snprintf(s + at, (size_t)(BYTES - at), ")");
  return s;
}

const char *cft_shape(const cft_tensor *t) {
  return t ? cft_shape_of(t->ndim, t->dims) : "nothing";
}

// The number of elements of a shape and its bytes, or a sentence that says why there are none.
static cft_status measure(int64_t *count, cft_dtype dtype, int ndim, const int64_t *dims) {
  size_t size = cft_dtype_bytes(dtype);
  if (size == 0) return cft_fail(CFT_E_ARG, "tensor: %d is no dtype", (int)dtype);
  if (ndim < 0 || ndim > CFT_MAX_DIMS)
    return cft_fail(CFT_E_ARG, "tensor: %d dimensions; 0 to %d are possible", ndim, CFT_MAX_DIMS);
  int64_t n = 1;
  for (int i = 0; i < ndim; i++) {
    if (dims[i] < 0)
      return cft_fail(CFT_E_SHAPE, "tensor: shape %s has a negative dimension",
                      cft_shape_of(ndim, dims));
    if (__builtin_mul_overflow(n, dims[i], &n) || n > INT64_MAX / (int64_t)size)
      return cft_fail(CFT_E_SHAPE, "tensor: shape %s is larger than any memory",
                      cft_shape_of(ndim, dims));
  }
  *count = n;
  return CFT_OK;
}

cft_status cft_tensor_over(cft_tensor **t, cft_storage *s, void *data, cft_dtype dtype, int ndim,
                           const int64_t *dims, const int64_t *strides) {
  int64_t count;
  CFT_TRY(measure(&count, dtype, ndim, dims));
  cft_tensor *n = calloc(1, sizeof *n);
  if (!n) return cft_fail(CFT_E_OOM, "tensor: no memory for its header");
  n->storage = s;
  atomic_fetch_add(&s->refs, 1);
  n->device = s->device;
  n->data = data;
  n->dtype = dtype;
  n->ndim = ndim;
  n->refs = 1;
  int64_t stride = 1;
  for (int i = CFT_MAX_DIMS - 1; i >= 0; i--) {
    n->dims[i] = i < ndim ? dims[i] : 1;
    n->strides[i] = i < ndim && strides ? strides[i] : stride;
    if (i < ndim) stride *= n->dims[i];
  }
  atomic_fetch_add(&alive, 1);
  *t = n;
  return CFT_OK;
}

static cft_status tensor_new(cft_tensor **t, cft_device *d, cft_dtype dtype, int ndim,
                             const int64_t *dims, int zeros) {
  int64_t count;
  CFT_TRY(measure(&count, dtype, ndim, dims));
  cft_storage *s = NULL;
  size_t bytes = (size_t)count * cft_dtype_bytes(dtype);
  cft_status st = cft_storage_new(&s, d, bytes, zeros);
  if (st != CFT_OK)
    return cft_context(st, "a %s tensor of %s", cft_shape_of(ndim, dims), cft_dtype_name(dtype));
  st = cft_tensor_over(t, s, s->data, dtype, ndim, dims, NULL);
  cft_storage_release(s);  // the tensor holds it now
  return st;
}

cft_status cft_tensor_new(cft_tensor **t, cft_device *d, cft_dtype dtype, int ndim,
                          const int64_t *dims) {
  return tensor_new(t, d, dtype, ndim, dims, 0);
}

cft_status cft_tensor_zeros(cft_tensor **t, cft_device *d, cft_dtype dtype, int ndim,
                            const int64_t *dims) {
  return tensor_new(t, d, dtype, ndim, dims, 1);
}

cft_status cft_new_like(cft_tensor **t, const cft_tensor *x) {
  return cft_tensor_new(t, x->device, x->dtype, x->ndim, x->dims);
}

cft_tensor *cft_tensor_retain(cft_tensor *t) {
  if (t) __atomic_fetch_add(&t->refs, 1, __ATOMIC_RELAXED);
  return t;
}

void cft_tensor_release(cft_tensor *t) {
  if (!t || __atomic_fetch_sub(&t->refs, 1, __ATOMIC_ACQ_REL) > 1) return;
  cft_storage_release(t->storage);
  atomic_fetch_sub(&alive, 1);
  free(t);
}

int64_t cft_tensor_count(const cft_tensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->ndim; i++) n *= t->dims[i];
  return n;
}

int64_t cft_tensor_bytes(const cft_tensor *t) {
  return cft_tensor_count(t) * (int64_t)cft_dtype_bytes(t->dtype);
}

int cft_tensor_is_contiguous(const cft_tensor *t) {
  int64_t stride = 1;
  for (int i = t->ndim - 1; i >= 0; i--) {
    if (t->dims[i] != 1 && t->strides[i] != stride) return 0;
    stride *= t->dims[i];
  }
  return 1;
}

int cft_tensor_shares(const cft_tensor *a, const cft_tensor *b) {
  return a->storage == b->storage;
}

cft_status cft_no_kernel(const cft_tensor *x, const char *kernel) {
  return cft_fail(CFT_E_UNSUPPORTED, "no %s kernel for %s in %s", x->device->name, kernel,
                  cft_dtype_name(x->dtype));
}

cft_status cft_kernel_result(cft_status st, const cft_tensor *x, const char *kernel) {
  return st == CFT_E_UNSUPPORTED ? cft_no_kernel(x, kernel) : st;
}

// ---- contents ------------------------------------------------------------------------------

static cft_status check_host_copy(const char *what, const cft_tensor *t, size_t bytes) {
  if (!cft_tensor_is_contiguous(t))
    return cft_fail(CFT_E_SHAPE, "%s: the tensor %s is not contiguous", what, cft_shape(t));
  if ((int64_t)bytes != cft_tensor_bytes(t))
    return cft_fail(CFT_E_SHAPE, "%s: %zu bytes given, but a %s tensor of %s has %" PRId64, what,
                    bytes, cft_shape(t), cft_dtype_name(t->dtype), cft_tensor_bytes(t));
  return CFT_OK;
}

cft_status cft_tensor_write(cft_tensor *t, const void *host, size_t bytes) {
  CFT_TRY(check_host_copy("tensor_write", t, bytes));
  if (bytes == 0) return CFT_OK;
  cft_tensor_touch(t);
  return t->device->upload(t->device, t->device->stream(t->device), t->data, host, bytes);
}

cft_status cft_tensor_read(const cft_tensor *t, void *host, size_t bytes) {
  CFT_TRY(check_host_copy("tensor_read", t, bytes));
  if (bytes == 0) return CFT_OK;
  return t->device->download(t->device, t->device->stream(t->device), host, t->data, bytes);
}
