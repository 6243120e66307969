// trace_impl.h - the work in a call of each kernel, from its arguments alone.
#ifndef CFT_TRACE_IMPL_H
#define CFT_TRACE_IMPL_H

#include "cft_trace.h"

// Set dtype, flops, bytes and shape of a call.
#define XX(name, args, kind) void cft_work_##name(cft_traced *c, const args *a);
CFT_KERNEL_MAP(XX)
#undef XX

#endif
