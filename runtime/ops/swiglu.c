// swiglu.c - checks and dispatch of silu(gate) * up; see cft_ops.h.
#include <string.h>

#include "ops_impl.h"

static cft_status check(const char *op, const cft_tensor *gate_up) {
  if (gate_up->ndim < 1 || cft_last_dim(gate_up) % 2 != 0)
    return cft_fail(CFT_E_SHAPE, "%s: gate_up is %s; its last dimension must be even", op,
                    cft_shape(gate_up));
  return CFT_OK;
}

static const void *second_half(const cft_tensor *t) {
  return (const char *)t->data + cft_last_dim(t) / 2 * (int64_t)cft_dtype_bytes(t->dtype);
}

cft_status cft_swiglu_fwd(cft_tensor **y, cft_tensor *gate_up) {
  CFT_TRY(cft_same_float("swiglu", CFT_ALL(gate_up)));
  CFT_TRY(check("swiglu", gate_up));
  int64_t stride, d = cft_last_dim(gate_up) / 2, dims[CFT_MAX_DIMS];
  CFT_TRY(cft_row_stride(&stride, "swiglu", "gate_up", gate_up));
  memcpy(dims, gate_up->dims, sizeof dims);
  dims[gate_up->ndim - 1] = d;

  cft_tensor *y0;
  CFT_TRY(cft_tensor_new(&y0, gate_up->device, gate_up->dtype, gate_up->ndim, dims));
  return cft_give(y, y0, CFT_KERNEL(gate_up, swiglu_fwd, (&(cft_swiglu_args){
    .y = y0->data, .gate = gate_up->data, .up = second_half(gate_up), .n = cft_rows(gate_up),
    .d = d, .y_stride = d, .x_stride = stride, .dtype = gate_up->dtype })));
}

cft_status cft_swiglu_bwd(cft_tensor **dgate_up, cft_tensor *dy, cft_tensor *gate_up) {
  CFT_TRY(cft_same_float("swiglu_bwd", CFT_ALL(dy, gate_up)));
  CFT_TRY(check("swiglu_bwd", gate_up));
  int64_t x_stride, dy_stride, d = cft_last_dim(gate_up) / 2;
  if (cft_last_dim(dy) != d || cft_rows(dy) != cft_rows(gate_up))
    return cft_fail(CFT_E_SHAPE, "swiglu_bwd: dy is %s but gate_up is %s", cft_shape(dy),
                    cft_shape(gate_up));
  CFT_TRY(cft_row_stride(&x_stride, "swiglu_bwd", "gate_up", gate_up));
  CFT_TRY(cft_row_stride(&dy_stride, "swiglu_bwd", "dy", dy));

  // The kernel writes; a gradient to add to is rare (two consumers of gate_up) and takes one pass more.
  cft_status st;
  cft_tensor *fresh = NULL;
  int made = 0, beta = 0;
  CFT_GO(cft_gradient(dgate_up, &made, &beta, "swiglu_bwd", "dgate_up", gate_up, gate_up->dtype, 0));
  if (beta) CFT_GO(cft_new_like(&fresh, gate_up));
  cft_tensor *to = beta ? fresh : *dgate_up;
  CFT_GO(CFT_KERNEL(dy, swiglu_bwd, (&(cft_swiglu_bwd_args){
    .dgate = to->data, .dup = (void *)second_half(to), .dy = dy->data, .gate = gate_up->data,
    .up = second_half(gate_up), .n = cft_rows(dy), .d = d, .dx_stride = 2 * d,
    .dy_stride = dy_stride, .x_stride = x_stride, .dtype = dy->dtype })));
  if (beta) CFT_GO(cft_axpby(*dgate_up, fresh, 1, 1));
out:
  cft_tensor_release(fresh);
  if (st != CFT_OK) cft_gradient_undo(dgate_up, made);
  return st;
}
