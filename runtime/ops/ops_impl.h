// ops_impl.h - what every op does first and last: agree on a device and dtype, count rows, make or
// take a gradient, call the kernel.
#ifndef CFT_OPS_IMPL_H
#define CFT_OPS_IMPL_H

#include "../tensor/tensor_impl.h"
#include "cft_ops.h"

// One device for all the tensors (NULLs are skipped).
cft_status cft_same_device(const char *op, int count, cft_tensor *const *tensors);

// One device and one float dtype; f64 only where the device has it.
cft_status cft_same_float(const char *op, int count, cft_tensor *const *tensors);

#define CFT_ALL(...) \
  (int)(sizeof((cft_tensor *[]){__VA_ARGS__}) / sizeof(cft_tensor *)), (cft_tensor *[]){__VA_ARGS__}

// An i32 vector on the device of x: "rope: position is f32 (3); i32 (7) wanted". count < 0: any.
cft_status cft_want_index(const char *op, const char *name, const cft_tensor *index, int64_t count,
                          const cft_tensor *x);

// Every entry of a host-memory index within [0, end); E_ARG names the first that is not.
cft_status cft_check_index(const char *op, const char *name, const cft_tensor *index, int64_t end);

int64_t cft_last_dim(const cft_tensor *t);  // 1 for a scalar
int64_t cft_rows(const cft_tensor *t);      // the leading dimensions flattened; 1 for a vector

// Distance of two rows in elements, or E_SHAPE where rows have gaps inside or lie unevenly.
cft_status cft_row_stride(int64_t *stride, const char *op, const char *name, const cft_tensor *t);

cft_status cft_want_contiguous(const char *op, const char *name, const cft_tensor *t);

// f32 or f64: what statistics of x are kept in.
static inline cft_dtype cft_wide(cft_dtype dtype) { return dtype == CFT_F64 ? CFT_F64 : CFT_F32; }

// A gradient output: makes *g where it is NULL (then *beta = 0 and *made = 1), else checks it
// against the shape and dtype (or f32 in place of bf16, if wide_too) and sets *beta = 1.
// Nothing at all where g is NULL.
cft_status cft_gradient(cft_tensor **g, int *made, int *beta, const char *op, const char *name,
                        const cft_tensor *like, cft_dtype dtype, int wide_too);

// After a failure: release what cft_gradient made, and make the caller's pointer NULL again.
void cft_gradient_undo(cft_tensor **g, int made);

// A weight's name, under which a device may keep a packed copy of it beside its storage's version.
// Tensors that are not parameters are never seen twice, and get 0.
uint64_t cft_weight_id(const cft_tensor *w);

static inline void *cft_data(const cft_tensor *t) { return t ? t->data : NULL; }

#endif
