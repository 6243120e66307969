// cft_trace.h - what a device does while somebody looks: each call of a kernel, copy and collective
// with its shape, its times and the work in it. Without a trace the device's table has nothing of
// it.
#ifndef CFT_TRACE_H
#define CFT_TRACE_H

#include "device.h"

// One call. Times are seconds of CLOCK_MONOTONIC.
typedef struct cft_traced {
  double queued, returned;  // the host's call
  double begun, ended;      // the device's work; the same as those where it has no queue
  double flops;             // of products and attention, a multiply-add as two; 0 elsewhere
  double bytes;             // read and written at least, each operand once
  int32_t op;               // cft_trace_op(op)
  int32_t dtype;            // of the arithmetic: a cft_dtype
  char shape[48];           // "2048 x 1536 x 576 nt"
} cft_traced;

// From here on note the calls that this thread makes of `d`, the first `most` of them; what comes
// after is counted. One device at a time. What an earlier trace has noted goes.
// E_STATE: a trace is on already. E_ARG: most < 1. E_OOM. E_DEVICE.
CFT_API cft_status cft_trace_start(cft_device *d, int64_t most);

// Wait for the device, and learn when what was noted since the last time began and ended. A device
// with events keeps two a call until then. E_DEVICE where it failed; then nothing more is noted.
CFT_API cft_status cft_trace_sync(void);

// Sync, and give the device its own table back, whatever that answers.
CFT_API cft_status cft_trace_stop(void);

// What was noted, and whose times are known, oldest first: until the next start. `lost`: how many
// calls there was no place for.
CFT_API int64_t cft_trace_calls(const cft_traced **list, int64_t *lost);

// An op by its number: the name of its kernel ("matmul"), or upload, download, copy, zero,
// all_reduce, broadcast, reduce_scatter, all_gather. NULL beyond the last. Static.
CFT_API const char *cft_trace_op(int op);

#endif
