// comm.c - what is asked of a collective's arguments before the device has them.
#include "cft_comm.h"

#include <math.h>

#include "../tensor/tensor_impl.h"

static cft_status has_collectives(const cft_device *d) {
  if (d->comm_open) return CFT_OK;
  return cft_fail(CFT_E_UNSUPPORTED,
                  "comm: the device %s has no collectives; each rank wants a GPU (cuda, cuda:N)",
                  d->name);
}

cft_status cft_comm_new_id(cft_device *d, cft_comm_id *id) {
  CFT_TRY(has_collectives(d));
  return d->comm_new_id(d, id);
}

cft_status cft_comm_open(cft_comm **c, cft_device *d, const cft_comm_id *id, int rank, int size,
                         double timeout_s) {
  CFT_TRY(has_collectives(d));
  if (size < 1 || rank < 0 || rank >= size)
    return cft_fail(CFT_E_ARG, "comm_open: rank %d of %d; ranks are numbered from 0", rank, size);
  if (!(timeout_s > 0) || isinf(timeout_s))
    return cft_fail(CFT_E_ARG, "comm_open: the timeout is %g; seconds above 0 wanted", timeout_s);
  return d->comm_open(d, c, id, rank, size, timeout_s);
}

static cft_status takes(const char *op, const cft_comm *c, const cft_tensor *x) {
  if (x->device != c->device)
    return cft_fail(CFT_E_DEVICE, "%s: the tensor is on %s, the communicator on %s", op,
                    x->device->name, c->device->name);
  if (x->dtype != CFT_F32 && x->dtype != CFT_BF16)
    return cft_fail(CFT_E_DTYPE, "%s: the tensor %s is %s; f32 or bf16 wanted", op, cft_shape(x),
                    cft_dtype_name(x->dtype));
  if (!cft_tensor_is_contiguous(x))
    return cft_fail(CFT_E_SHAPE, "%s: the tensor %s is a view with gaps; a contiguous one wanted",
                    op, cft_shape(x));
  return CFT_OK;
}

cft_status cft_comm_all_reduce(cft_comm *c, cft_tensor *x) {
  CFT_TRY(takes("all_reduce", c, x));
  cft_tensor_touch(x);
  return c->device->all_reduce(c, c->device->stream(c->device), x->data, cft_tensor_count(x),
                               x->dtype);
}

cft_status cft_comm_broadcast(cft_comm *c, cft_tensor *x, int from) {
  CFT_TRY(takes("broadcast", c, x));
  if (from < 0 || from >= c->size)
    return cft_fail(CFT_E_ARG, "broadcast: from rank %d of %d; ranks are numbered from 0", from,
                    c->size);
  cft_tensor_touch(x);
  return c->device->broadcast(c, c->device->stream(c->device), x->data, cft_tensor_count(x),
                              x->dtype, from);
}

cft_status cft_comm_close(cft_comm *c) { return c->device->comm_close(c, 0); }

void cft_comm_abort(cft_comm *c) {
  if (c) c->device->comm_close(c, 1);
}
