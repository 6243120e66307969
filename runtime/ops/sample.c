// sample.c - checks and dispatch of drawing tokens from logits; see cft_ops.h.
#include <inttypes.h>

#include "ops_impl.h"

static const char *const op = "sample";

enum { MOST_IDS = 1 << 19 };  // so many weights of 2^44 units fit into a sum

static cft_status want(const char *name, const cft_tensor *t, cft_dtype dtype, int64_t rows, int64_t width,
                       const cft_tensor *like) {
  if (t->device != like->device)
    return cft_fail(CFT_E_DEVICE, "%s: %s is on %s, the rest on %s", op, name, t->device->name, like->device->name);
  if (t->dtype != dtype || t->ndim != 2 || t->dims[0] != rows || t->dims[1] != width || !cft_tensor_is_contiguous(t))
    return cft_fail(CFT_E_SHAPE, "%s: %s is %s %s; %s (%" PRId64 ", %" PRId64 ") wanted", op, name,
                    cft_dtype_name(t->dtype), cft_shape(t), cft_dtype_name(dtype), rows, width);
  return CFT_OK;
}

// Lists of ids, one a row: cu rises from 0 to their number.
static cft_status check_lists(const char *name, const cft_tensor *cu, const cft_tensor *ids, const cft_tensor *logits) {
  int64_t n = logits->dims[0];
  CFT_TRY(cft_want_index(op, name, cu, n + 1, logits));
  CFT_TRY(cft_want_index(op, name, ids, -1, logits));
  if (!logits->device->host_memory) return CFT_OK;
  const int32_t *c = cu->data;
  int rises = c[0] == 0 && c[n] == ids->dims[0];
  for (int64_t i = 0; i < n; i++) rises = rises && c[i] <= c[i + 1];
  if (!rises)
    return cft_fail(CFT_E_ARG, "%s: %s rises from 0 to %" PRId64, op, name, ids->dims[0]);
  return cft_check_index(op, name, ids, logits->dims[1]);
}

static cft_status check_numbers(const cft_tensor *numbers, const cft_tensor *keys) {
  if (!numbers->device->host_memory) return CFT_OK;
  const float *v = numbers->data;
  const int64_t *k = keys->data;
  for (int64_t i = 0; i < numbers->dims[0]; i++, v += 4, k += 4)
    if (!(v[0] >= 0) || !(v[1] > 0) || !(v[1] <= 1) || !(v[2] >= 0) || !(v[2] <= 1) || !(v[3] > 0) || k[3] < 0)
      return cft_fail(CFT_E_ARG, "%s: row %" PRId64 " has temperature %g, top_p %g, min_p %g, penalty %g, top_k %" PRId64
                      "; wanted 0 or more, (0, 1], [0, 1], more than 0, 0 or more", op, i, (double)v[0], (double)v[1],
                      (double)v[2], (double)v[3], k[3]);
  return CFT_OK;
}

cft_status cft_sample(cft_tensor **token, cft_tensor **logprob, cft_tensor **top, cft_tensor **top_logprob,
                      cft_tensor *logits, cft_tensor *numbers, cft_tensor *keys, cft_tensor *cu_seen, cft_tensor *seen,
                      cft_tensor *cu_bias, cft_tensor *bias_id, cft_tensor *bias, int64_t top_n) {
  CFT_TRY(cft_same_float(op, CFT_ALL(logits)));
  if (logits->ndim != 2 || logits->dims[1] == 0)
    return cft_fail(CFT_E_SHAPE, "%s: logits are %s; (n, V) wanted", op, cft_shape(logits));
  int64_t n = logits->dims[0], V = logits->dims[1], stride;
  if (V > MOST_IDS)
    return cft_fail(CFT_E_SHAPE, "%s: logits are %s; at most %d ids can be drawn from", op, cft_shape(logits), MOST_IDS);
  CFT_TRY(cft_row_stride(&stride, op, "logits", logits));
  CFT_TRY(want("numbers", numbers, CFT_F32, n, 4, logits));
  CFT_TRY(want("keys", keys, CFT_I64, n, 4, logits));
  CFT_TRY(check_lists("seen", cu_seen, seen, logits));
  CFT_TRY(check_lists("bias_id", cu_bias, bias_id, logits));
  if (bias->device != logits->device || bias->dtype != CFT_F32 || bias->ndim != 1 ||
      bias->dims[0] != bias_id->dims[0] || !cft_tensor_is_contiguous(bias))
    return cft_fail(CFT_E_SHAPE, "%s: bias is %s %s; f32 (%" PRId64 ") wanted", op, cft_dtype_name(bias->dtype),
                    cft_shape(bias), bias_id->dims[0]);
  if (top_n < 0 || top_n > V)
    return cft_fail(CFT_E_ARG, "%s: top_n is %" PRId64 "; 0 to %" PRId64 " wanted", op, top_n, V);
  CFT_TRY(check_numbers(numbers, keys));

  cft_status st;
  cft_tensor *made[4] = {NULL, NULL, NULL, NULL};
  cft_dtype wide = cft_wide(logits->dtype);
  int64_t many[2] = {n, top_n};
  CFT_GO(cft_tensor_new(&made[0], logits->device, CFT_I32, 1, &n));
  CFT_GO(cft_tensor_new(&made[1], logits->device, wide, 1, &n));
  CFT_GO(cft_tensor_new(&made[2], logits->device, CFT_I32, 2, many));
  CFT_GO(cft_tensor_new(&made[3], logits->device, wide, 2, many));
  CFT_GO(CFT_KERNEL(logits, sample, (&(cft_sample_args){
    .token = made[0]->data, .logprob = made[1]->data, .top = made[2]->data, .top_logprob = made[3]->data,
    .logits = logits->data, .numbers = numbers->data, .keys = keys->data, .cu_seen = cu_seen->data,
    .seen = seen->data, .cu_bias = cu_bias->data, .bias_id = bias_id->data, .bias = bias->data, .n = n, .V = V,
    .listed = seen->dims[0] + bias_id->dims[0], .top_n = top_n, .logits_stride = stride, .dtype = logits->dtype })));
  *token = cft_take(&made[0]), *logprob = cft_take(&made[1]);
  *top = cft_take(&made[2]), *top_logprob = cft_take(&made[3]);
out:
  for (int i = 3; i >= 0; i--) cft_tensor_release(made[i]);
  return st;
}
