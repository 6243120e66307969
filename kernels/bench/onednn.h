// onednn.h - what libcft_bench_onednn.so exports: oneDNN's matmuls, to stand in a device's table of
// kernels for a while.
#ifndef CFT_BENCH_ONEDNN_H
#define CFT_BENCH_ONEDNN_H

#include "device.h"

// The CPU's matmul, in f32 and bf16, with weights as they lie; or packed, kept in the library's own
// order as long as b_id and b_version are the same. E_UNSUPPORTED for what the library has no
// kernel for on this processor, for f64, for a_sum and for an empty product.
CFT_API cft_status cft_onednn_matmul(cft_device *d, cft_stream *s, const cft_matmul_args *a);
CFT_API cft_status cft_onednn_matmul_packed(cft_device *d, cft_stream *s, const cft_matmul_args *a);

// Give back what it keeps of the device's memory.
CFT_API void cft_onednn_forget(cft_device *d);

#endif
