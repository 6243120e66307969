// base.h - the words that all layers share: statuses, the thread's message, dtypes.
#ifndef CFT_BASE_H
#define CFT_BASE_H

#ifndef CFT_CDEF  // LuaJIT knows these types by itself; see runtime/cft.h
#include <stddef.h>
#include <stdint.h>
#define CFT_API __attribute__((visibility("default")))
#define CFT_PRINTF(f, a) __attribute__((format(printf, f, a)))
#ifdef __cplusplus
extern "C" {
#endif
#else
#define CFT_API
#define CFT_PRINTF(f, a)
#endif

// What a call answers. One list makes the enum and the names.
#define CFT_STATUS_MAP(XX)                                                 \
  XX(OK, 0)                                                                \
  XX(E_ARG, 1)          /* a value outside its range                    */ \
  XX(E_SHAPE, 2)        /* dimensions disagree                          */ \
  XX(E_DTYPE, 3)        /* no kernel for this type                      */ \
  XX(E_DEVICE, 4)       /* no GPU, or two devices                       */ \
  XX(E_OOM, 5)          /* out of memory                                */ \
  XX(E_IO, 6)           /* a file cannot be read or written             */ \
  XX(E_FORMAT, 7)       /* a foreign file says nonsense                 */ \
  XX(E_UNSUPPORTED, 8)  /* understood, but not implemented              */ \
  XX(E_STATE, 9)        /* released tensor, closed file                 */ \
  XX(E_INTERRUPTED, 10)                                                    \
  XX(E_INTERNAL, 11)    /* an invariant of ours is broken: a bug in cft */

typedef enum cft_status {
#define XX(name, value) CFT_##name = value,
  CFT_STATUS_MAP(XX)
#undef XX
} cft_status;

// What an element is: its name in Lua and in files of state, and its bytes.
#define CFT_DTYPE_MAP(XX)                                              \
  XX(F32, 0, "f32", 4)                                                 \
  XX(BF16, 1, "bf16", 2)                                               \
  XX(F64, 2, "f64", 8) /* CPU only: gradchecks                      */ \
  XX(F16, 3, "f16", 2) /* storage only: read from files and cast    */ \
  XX(I32, 4, "i32", 4)                                                 \
  XX(I64, 5, "i64", 8)                                                 \
  XX(U8, 6, "u8", 1)

typedef enum cft_dtype {
#define XX(id, value, name, bytes) CFT_##id = value,
  CFT_DTYPE_MAP(XX)
#undef XX
} cft_dtype;

// The reason of this thread's last failure: one sentence, without a newline. Valid until the
// thread's next failure; empty before the first.
CFT_API const char *cft_last_error(void);

// The oldest note (cft_note) that nobody has asked for yet, or NULL. Valid until the next call.
CFT_API const char *cft_next_note(void);

// The name of a status ("E_SHAPE"). A static string, never NULL.
CFT_API const char *cft_status_name(cft_status st);

// Bytes of one element; the name Lua uses ("bf16"). 0 and "?" for a number that is no dtype.
CFT_API size_t cft_dtype_bytes(cft_dtype dtype);
CFT_API const char *cft_dtype_name(cft_dtype dtype);

// Where to keep what is worth keeping from run to run (indices of large files, scans, algorithms that
// were timed): CFT_CACHE, else `cft` in XDG_CACHE_HOME or ~/.cache. Writes the path, of which nothing
// is made, and returns its length; 0 where nothing is to be kept: CFT_CACHE is set and empty, no
// home is known, or `room` bytes do not hold it.
CFT_API size_t cft_cache_folder(char *path, size_t room);

#ifndef CFT_CDEF
// Record the reason of a failure and return its status:
//   return cft_fail(CFT_E_SHAPE, "rmsnorm: w is %s but x is %s", ...);
// The message names the operation, what came and what was wanted.
CFT_API cft_status cft_fail(cft_status st, const char *format, ...) CFT_PRINTF(2, 3);

// Put "context: " in front of the recorded message and return st; for callers that know more
// (a path, a record number). With st == CFT_OK it does nothing.
CFT_API cft_status cft_context(cft_status st, const char *format, ...) CFT_PRINTF(2, 3);

// Keep a sentence for whoever runs this process: something worth knowing that is no failure (which
// way an op takes, a setting that is ignored). Any thread; what waits already is not said twice.
CFT_API void cft_note(const char *format, ...) CFT_PRINTF(1, 2);

// Pass a failure up.
#define CFT_TRY(call)                          \
  do {                                         \
    cft_status try_ = (call);                  \
    if (try_ != CFT_OK) return try_;           \
  } while (0)

// Pass a failure up through the one `out:` label; needs `cft_status st` in scope.
#define CFT_GO(call)                           \
  do {                                         \
    st = (call);                               \
    if (st != CFT_OK) goto out;                \
  } while (0)

#ifdef __cplusplus
}
#endif
#endif  // CFT_CDEF
#endif
