// storage.c - counted memory on one device.
#include <stdlib.h>

#include "tensor_impl.h"

static _Thread_local cft_memory_class class_now = CFT_MEM_OTHER;
static atomic_ullong next_id = 1;

cft_memory_class cft_memory_class_set(cft_memory_class why) {
  cft_memory_class before = class_now;
  if ((int)why >= 0 && why < CFT_MEM_CLASSES) class_now = why;
  return before;
}

static cft_status alloc_zeros(cft_device *d, void **p, size_t bytes, cft_memory_class why) {
  if (d->alloc_zeros) return d->alloc_zeros(d, p, bytes, why);
  CFT_TRY(d->alloc(d, p, bytes, why));
  cft_status st = d->zero(d, d->stream(d), *p, bytes);
  if (st != CFT_OK) d->free(d, *p, bytes, why);
  return st;
}

cft_status cft_storage_new(cft_storage **s, cft_device *d, size_t bytes, int zeros) {
  cft_storage *n = calloc(1, sizeof *n);
  if (!n) return cft_fail(CFT_E_OOM, "storage: no memory for its %zu-byte header", sizeof *n);
  n->device = d;
  n->bytes = bytes;
  n->why = class_now;
  n->id = atomic_fetch_add(&next_id, 1);
  atomic_init(&n->refs, 1);
  cft_status st = (zeros ? alloc_zeros : d->alloc)(d, &n->data, bytes, n->why);
  if (st != CFT_OK) {
    free(n);
    return st;
  }
  *s = n;
  return CFT_OK;
}

void cft_storage_release(cft_storage *s) {
  if (!s || atomic_fetch_sub(&s->refs, 1) > 1) return;
  if (s->wrapped) {
    if (s->released) s->released(s->owner);
  } else {
    s->device->free(s->device, s->data, s->bytes, s->why);
  }
  free(s);
}

cft_status cft_tensor_wrap(cft_tensor **t, cft_dtype dtype, int ndim, const int64_t *dims,
                           void *data, void (*released)(void *owner), void *owner) {
  cft_storage *s = calloc(1, sizeof *s);
  if (!s) return cft_fail(CFT_E_OOM, "tensor_wrap: no memory for a storage header");
  s->device = cft_cpu_device();
  s->data = data;
  s->wrapped = 1;
  s->id = atomic_fetch_add(&next_id, 1);
  atomic_init(&s->refs, 1);
  cft_status st = cft_tensor_over(t, s, data, dtype, ndim, dims, NULL);
  if (st == CFT_OK) {  // only now: a failed call leaves the memory to the caller
    s->released = released;
    s->owner = owner;
    s->bytes = (size_t)cft_tensor_bytes(*t);
  }
  cft_storage_release(s);
  return st;
}
