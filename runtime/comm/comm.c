// comm.c - what is asked of a collective's arguments before the device has them.
#include "cft_comm.h"

#include <math.h>

#include "../tensor/tensor_impl.h"

static cft_status has_collectives(const cft_device *d) {
  if (d->comm_open) return CFT_OK;
  return cft_fail(CFT_E_UNSUPPORTED, "comm: the device %s has no collectives", d->name);
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

static cft_status takes(const char *op, const cft_comm *c, const cft_tensor *x, int is_sum) {
  if (x->device != c->device)
    return cft_fail(CFT_E_DEVICE, "%s: the tensor is on %s, the communicator on %s", op,
                    x->device->name, c->device->name);
  if (is_sum && x->dtype != CFT_F32 && x->dtype != CFT_BF16 && x->dtype != CFT_F64 &&
      x->dtype != CFT_I32)
    return cft_fail(CFT_E_DTYPE, "%s: the tensor %s is %s; f32, bf16, f64 or i32 wanted", op,
                    cft_shape(x), cft_dtype_name(x->dtype));
  if (!cft_tensor_is_contiguous(x))
    return cft_fail(CFT_E_SHAPE, "%s: the tensor %s is a view with gaps; a contiguous one wanted",
                    op, cft_shape(x));
  return CFT_OK;
}

static cft_status takes_part(const char *op, const cft_comm *c, const cft_tensor *x,
                             const cft_tensor *part, int is_sum) {
  CFT_TRY(takes(op, c, x, is_sum));
  CFT_TRY(takes(op, c, part, is_sum));
  if (x->dtype != part->dtype)
    return cft_fail(CFT_E_DTYPE, "%s: the whole is %s and the part %s", op,
                    cft_dtype_name(x->dtype), cft_dtype_name(part->dtype));
  if (cft_tensor_count(x) != c->size * cft_tensor_count(part))
    return cft_fail(CFT_E_SHAPE, "%s: the whole is %s and a part %s; %d ranks have %d of these", op,
                    cft_shape(x), cft_shape(part), c->size, c->size);
  return CFT_OK;
}

#define LACKS(c, slot) \
  cft_fail(CFT_E_UNSUPPORTED, "comm: the device %s has no " #slot, (c)->device->name)

cft_status cft_comm_all_reduce(cft_comm *c, cft_tensor *x) {
  CFT_TRY(takes("all_reduce", c, x, 1));
  cft_tensor_touch(x);
  return c->device->all_reduce(c, c->device->stream(c->device), x->data, cft_tensor_count(x),
                               x->dtype);
}

cft_status cft_comm_broadcast(cft_comm *c, cft_tensor *x, int from) {
  CFT_TRY(takes("broadcast", c, x, 0));
  if (from < 0 || from >= c->size)
    return cft_fail(CFT_E_ARG, "broadcast: from rank %d of %d; ranks are numbered from 0", from,
                    c->size);
  cft_tensor_touch(x);
  return c->device->broadcast(c, c->device->stream(c->device), x->data, cft_tensor_count(x),
                              x->dtype, from);
}

cft_status cft_comm_reduce_scatter(cft_comm *c, cft_tensor *part, cft_tensor *x) {
  CFT_TRY(takes_part("reduce_scatter", c, x, part, 1));
  if (!c->device->reduce_scatter) return LACKS(c, reduce_scatter);
  cft_tensor_touch(part);
  return c->device->reduce_scatter(c, c->device->stream(c->device), part->data, x->data,
                                   cft_tensor_count(part), x->dtype);
}

cft_status cft_comm_all_gather(cft_comm *c, cft_tensor *x, cft_tensor *part) {
  CFT_TRY(takes_part("all_gather", c, x, part, 0));
  if (!c->device->all_gather) return LACKS(c, all_gather);
  cft_tensor_touch(x);
  return c->device->all_gather(c, c->device->stream(c->device), x->data, part->data,
                               cft_tensor_count(part), x->dtype);
}

cft_status cft_comm_group(cft_comm *c, int begin) {
  if (!c->device->comm_group) return LACKS(c, comm_group);
  return c->device->comm_group(c, begin);
}

void cft_comm_beside(cft_comm *c, int on) { c->beside = on; }

cft_status cft_comm_wait(cft_comm *c) {
  return c->device->comm_wait ? c->device->comm_wait(c) : CFT_OK;
}

int cft_comm_failed(cft_comm *c) { return c->device->comm_failed(c); }

cft_status cft_comm_close(cft_comm *c) { return c->device->comm_close(c, 0); }

void cft_comm_abort(cft_comm *c) {
  if (c) c->device->comm_close(c, 1);
}
