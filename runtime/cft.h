// cft.h - the public API, in reading order. The FFI declarations are made from this file, by
//   cc -E -P -DCFT_CDEF runtime/cft.h
// so what Lua sees cannot disagree with what C was compiled from. System includes and macros that
// only C needs stand under #ifndef CFT_CDEF in every header.
#ifndef CFT_H
#define CFT_H

#include "cft_host.h"
#include "cft_tensor.h"
#include "cft_ops.h"
#include "cft_optim.h"
#include "cft_comm.h"
#include "cft_heartbeat.h"
#include "cft_rendezvous.h"
#include "cft_trace.h"
#include "cft_file.h"
#include "cft_data.h"
#include "cft_tokenizer.h"
#include "cft_batch.h"
#include "cft_checkpoint.h"
#include "cft_net.h"
#include "cft_serve.h"
#include "cft_grade.h"

// The declarations of this file as text, for ffi.cdef. Static.
CFT_API const char *cft_cdef(void);

#endif
