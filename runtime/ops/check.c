// check.c - the questions every op asks of its tensors, and their one wording.
#include <inttypes.h>
#include <string.h>

#include "ops_impl.h"

cft_status cft_same_device(const char *op, int count, cft_tensor *const *tensors) {
  const cft_tensor *first = NULL;
  for (int i = 0; i < count; i++) {
    const cft_tensor *t = tensors[i];
    if (!t) continue;
    if (!first) first = t;
    if (t->device != first->device)
      return cft_fail(CFT_E_DEVICE, "%s: one tensor is on %s, another on %s", op,
                      first->device->name, t->device->name);
  }
  return CFT_OK;
}

cft_status cft_same_float(const char *op, int count, cft_tensor *const *tensors) {
  CFT_TRY(cft_same_device(op, count, tensors));
  const cft_tensor *first = NULL;
  for (int i = 0; i < count; i++) {
    const cft_tensor *t = tensors[i];
    if (!t) continue;
    if (!first) first = t;
    if (t->dtype != CFT_F32 && t->dtype != CFT_BF16 && t->dtype != CFT_F64)
      return cft_fail(CFT_E_DTYPE, "%s: a tensor %s is %s; f32, bf16 or f64 wanted", op,
                      cft_shape(t), cft_dtype_name(t->dtype));
    if (t->dtype != first->dtype)
      return cft_fail(CFT_E_DTYPE, "%s: one tensor is %s, another %s; cast one of them", op,
                      cft_dtype_name(first->dtype), cft_dtype_name(t->dtype));
  }
  return CFT_OK;
}

cft_status cft_want_index(const char *op, const char *name, const cft_tensor *index, int64_t count,
                          const cft_tensor *x) {
  if (index->device != x->device)
    return cft_fail(CFT_E_DEVICE, "%s: %s is on %s, the rest on %s", op, name, index->device->name,
                    x->device->name);
  if (index->dtype == CFT_I32 && index->ndim == 1 && cft_tensor_is_contiguous(index) &&
      (count < 0 || index->dims[0] == count))
    return CFT_OK;
  if (count < 0)
    return cft_fail(CFT_E_SHAPE, "%s: %s is %s %s; a vector of i32 wanted", op, name,
                    cft_dtype_name(index->dtype), cft_shape(index));
  return cft_fail(CFT_E_SHAPE, "%s: %s is %s %s; i32 (%" PRId64 ") wanted", op, name,
                  cft_dtype_name(index->dtype), cft_shape(index), count);
}

cft_status cft_check_index(const char *op, const char *name, const cft_tensor *index, int64_t end) {
  if (!index->device->host_memory) return CFT_OK;
  const int32_t *v = index->data;
  for (int64_t i = 0; i < index->dims[0]; i++)
    if (v[i] < 0 || v[i] >= end)
      return cft_fail(CFT_E_ARG, "%s: %s[%" PRId64 "] is %d; it must be in [0, %" PRId64 ")", op,
                      name, i, v[i], end);
  return CFT_OK;
}

int64_t cft_last_dim(const cft_tensor *t) { return t->ndim ? t->dims[t->ndim - 1] : 1; }

int64_t cft_rows(const cft_tensor *t) {
  int64_t n = 1;
  for (int i = 0; i + 1 < t->ndim; i++) n *= t->dims[i];
  return n;
}

cft_status cft_row_stride(int64_t *stride, const char *op, const char *name, const cft_tensor *t) {
  int last = t->ndim - 1;
  *stride = cft_last_dim(t);
  if (cft_tensor_is_contiguous(t) || cft_tensor_count(t) == 0) return CFT_OK;
  if (t->dims[last] > 1 && t->strides[last] != 1) goto gaps;
  int innermost = 1;
  for (int i = last - 1; i >= 0; i--) {
    if (t->dims[i] == 1) continue;
    if (innermost) {
      *stride = t->strides[i];
      innermost = 0;
    } else {  // an outer dimension must continue the same even steps
      int64_t inside = 1;
      for (int j = i + 1; j < last; j++) inside *= t->dims[j];
      if (t->strides[i] != inside * *stride) goto gaps;
    }
  }
  return CFT_OK;
gaps:
  return cft_fail(CFT_E_SHAPE, "%s: rows of %s %s lie unevenly; make it contiguous first", op, name,
                  cft_shape(t));
}

cft_status cft_want_contiguous(const char *op, const char *name, const cft_tensor *t) {
  if (!t || cft_tensor_is_contiguous(t)) return CFT_OK;
  return cft_fail(CFT_E_SHAPE, "%s: %s %s is not contiguous; call contiguous() on it first", op,
                  name, cft_shape(t));
}

cft_status cft_gradient(cft_tensor **g, int *made, int *beta, const char *op, const char *name,
                        const cft_tensor *like, cft_dtype dtype, int wide_too) {
  *made = *beta = 0;
  if (!g) return CFT_OK;
  if (!*g) {
    CFT_TRY(cft_tensor_new(g, like->device, dtype, like->ndim, like->dims));
    *made = 1;
    return CFT_OK;
  }
  const cft_tensor *t = *g;
  if (t->ndim != like->ndim || memcmp(t->dims, like->dims, sizeof t->dims) != 0)
    return cft_fail(CFT_E_SHAPE, "%s: %s is %s; it must be %s", op, name, cft_shape(t),
                    cft_shape(like));
  if (t->device != like->device)
    return cft_fail(CFT_E_DEVICE, "%s: %s is on %s, the rest on %s", op, name, t->device->name,
                    like->device->name);
  if (t->dtype != dtype && !(wide_too && t->dtype == cft_wide(dtype)))
    return cft_fail(CFT_E_DTYPE, "%s: %s is %s; %s wanted", op, name, cft_dtype_name(t->dtype),
                    cft_dtype_name(dtype));
  *beta = 1;
  return cft_want_contiguous(op, name, t);
}

void cft_gradient_undo(cft_tensor **g, int made) {
  if (made) cft_tensor_release(cft_take(g));
}
