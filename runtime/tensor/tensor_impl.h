// tensor_impl.h - what the rest of runtime/ may know of storage, and helpers of every op.
#ifndef CFT_TENSOR_IMPL_H
#define CFT_TENSOR_IMPL_H

#include <stdatomic.h>

#include "cft_tensor.h"

struct cft_storage {
  cft_device *device;
  void *data;
  size_t bytes;
  cft_memory_class why;
  uint64_t id;       // never reused
  uint64_t version;  // bumped by every write: a packed copy of an older version is stale
  atomic_llong refs;
  void (*released)(void *owner);  // wrapped memory; NULL = the device's own
  void *owner;
  int wrapped;
};

cft_status cft_storage_new(cft_storage **s, cft_device *d, size_t bytes, int zeros);
void cft_storage_release(cft_storage *s);

// A tensor of the given shape over s, which it retains.
cft_status cft_tensor_over(cft_tensor **t, cft_storage *s, void *data, cft_dtype dtype, int ndim,
                           const int64_t *dims, const int64_t *strides);

// Contents changed through t: every cached copy of them is stale.
static inline void cft_tensor_touch(cft_tensor *t) { t->storage->version++; }

// A tensor like x: same device, dtype and shape; contiguous.
cft_status cft_new_like(cft_tensor **t, const cft_tensor *x);

// The tensor that *t held, which it no longer does.
static inline cft_tensor *cft_take(cft_tensor **t) {
  cft_tensor *taken = *t;
  *t = 0;
  return taken;
}

// The end of a call that made one tensor: it is the caller's, or released where the call failed.
static inline cft_status cft_give(cft_tensor **y, cft_tensor *made, cft_status st) {
  if (st == CFT_OK)
    *y = made;
  else
    cft_tensor_release(made);
  return st;
}

// "(3, 7)"; one of eight buffers of this thread, so several fit into one message.
const char *cft_shape(const cft_tensor *t);
const char *cft_shape_of(int ndim, const int64_t *dims);

cft_status cft_no_kernel(const cft_tensor *x, const char *kernel);

// Call x's device's kernel; an empty slot and an E_UNSUPPORTED are put into the same words.
#define CFT_KERNEL(x, slot, args) \
  ((x)->device->kernels->slot     \
       ? cft_kernel_result((x)->device->kernels->slot((x)->device, (x)->device->stream((x)->device), args), \
                           x, #slot)                                                                     \
       : cft_no_kernel(x, #slot))

cft_status cft_kernel_result(cft_status st, const cft_tensor *x, const char *kernel);

#endif
