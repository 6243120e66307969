// cft_tensor.h - devices, storage, tensors, views, copies to and from the host.
#ifndef CFT_TENSOR_H
#define CFT_TENSOR_H

#include "cpu/measure.h"
#include "device.h"

// ---- devices -------------------------------------------------------------------------------

// Open a device by name: "cpu", "cuda" (GPU 0), "cuda:N", or "auto", which takes GPU 0 where there
// is one and else the CPU. The same name gives the same device; it lives until the process ends.
// E_DEVICE says what is missing: module, driver, GPU, architecture. E_ARG for another name.
CFT_API cft_status cft_device_open(cft_device **d, const char *name);

// Why "auto" did not take a GPU the last time it was asked; "" if it did, or was never asked.
CFT_API const char *cft_device_why_cpu(void);

// What this machine has of a GPU: a row each for the module, the driver, the GPUs and the libraries, of
// three words between tabs: which; ok, missing or old; its version and path, or what to do. Opens
// libraries, and no device. At most `bytes` of text, without a NUL; their number.
CFT_API size_t cft_device_report(char *text, size_t bytes);

// The device's memory counters; reset_peak sets the peak to what is in use now.
CFT_API cft_status cft_device_memory(cft_device *d, cft_memory_use *use, int reset_peak);

// Wait for all work of the device. Answers the first failure that happened meanwhile.
CFT_API cft_status cft_device_sync(cft_device *d);

// Whether a GPU's matmuls are timed when they first meet a shape, and what was faster is kept in a
// file for later runs (1: how a device opens, unless CFT_CUDA_TUNE=0), or cuBLASLt's first suggestion
// is taken, nothing timed, no file read or written (0). Waits for the device if that changes. The
// CPU has nothing of the kind.
CFT_API void cft_device_set_autotune(cft_device *d, int on);

// Whether, from now on, what a row gives in a product x w^T (linear, logits) and in attention's forward
// must not depend, to the bit, on the rows beside it or on how many there are (1), or libraries may
// choose by the number of rows (0: how a device opens). While it is 1 other products on a GPU, a gradient's
// for example, are E_ARG. The CPU's rows never depend on others, but sums of x w^T have two orders there:
// generation's (1), in which few rows are fastest, and training's (0). Answers what it was.
CFT_API int cft_device_set_rows_alone(cft_device *d, int on);

// Graphs: work that is recorded once and then queued again by one call; device.h says what that asks.
// Whether this device has any, now: none while it is traced.
CFT_API int cft_device_has_graphs(const cft_device *d);
// E_STATE inside of another; E_UNSUPPORTED where there are none.
CFT_API cft_status cft_graph_begin(cft_device *d, int record);
CFT_API cft_status cft_graph_end(cft_device *d, cft_graph **g);
CFT_API cft_status cft_graph_launch(cft_device *d, cft_graph *g);
CFT_API void cft_graph_free(cft_device *d, cft_graph *g);

CFT_API const char *cft_device_name(const cft_device *d);
CFT_API const char *cft_device_description(const cft_device *d);

// The class that new storage of this thread is counted under; returns the one before.
CFT_API cft_memory_class cft_memory_class_set(cft_memory_class why);

// ---- tensors -------------------------------------------------------------------------------

typedef struct cft_storage cft_storage;

// A shape over counted memory. Fields are for reading only; dims beyond ndim are 1. Strides are in
// elements. `data` points to the first element, on the device.
typedef struct cft_tensor {
  cft_storage *storage;
  cft_device *device;
  void *data;
  cft_dtype dtype;
  int ndim;
  int64_t dims[CFT_MAX_DIMS];
  int64_t strides[CFT_MAX_DIMS];
  int64_t refs;
} cft_tensor;

// A new tensor, contents undefined, contiguous. ndim 0 to 6; every dim >= 0. The caller owns it.
// E_ARG, E_OOM.
CFT_API cft_status cft_tensor_new(cft_tensor **t, cft_device *d, cft_dtype dtype, int ndim,
                                  const int64_t *dims);

// The same, filled with zeros. On the CPU memory that is new from the system is not written for it.
CFT_API cft_status cft_tensor_zeros(cft_tensor **t, cft_device *d, cft_dtype dtype, int ndim,
                                    const int64_t *dims);

// A tensor over host memory that somebody else owns (a mapped file); `released(owner)` is called
// when its last view is gone (NULL: nobody is told). CPU device.
CFT_API cft_status cft_tensor_wrap(cft_tensor **t, cft_dtype dtype, int ndim, const int64_t *dims,
                                   void *data, void (*released)(void *owner), void *owner);

CFT_API cft_tensor *cft_tensor_retain(cft_tensor *t);
CFT_API void cft_tensor_release(cft_tensor *t);  // NULL is accepted; any order

// Tensors alive in this process (a test ends with as many as it began with).
CFT_API int64_t cft_tensor_alive(void);

CFT_API int64_t cft_tensor_count(const cft_tensor *t);  // elements
CFT_API int64_t cft_tensor_bytes(const cft_tensor *t);  // elements times their size
CFT_API int cft_tensor_is_contiguous(const cft_tensor *t);

// 1 where both lie in the same storage.
CFT_API int cft_tensor_shares(const cft_tensor *a, const cft_tensor *b);

// ---- views: free; they hold the storage ------------------------------------------------------

// len entries of dimension `dim` (0-based) from `start`. E_SHAPE if out of range.
CFT_API cft_status cft_tensor_narrow(cft_tensor **t, cft_tensor *x, int dim, int64_t start,
                                     int64_t len);

// The same elements in another shape; one dim may be -1 (worked out). E_SHAPE where the counts
// differ or the strides allow no view (take cft_contiguous first).
CFT_API cft_status cft_tensor_reshape(cft_tensor **t, cft_tensor *x, int ndim, const int64_t *dims);

// Dimensions a and b exchanged.
CFT_API cft_status cft_tensor_transpose(cft_tensor **t, cft_tensor *x, int a, int b);

// ---- contents ------------------------------------------------------------------------------

// Host memory <-> a contiguous tensor; bytes must be the tensor's. Done when the call returns.
CFT_API cft_status cft_tensor_write(cft_tensor *t, const void *host, size_t bytes);
CFT_API cft_status cft_tensor_read(const cft_tensor *t, void *host, size_t bytes);

// to = from: same shape; dtypes and devices may differ, strides are free.
CFT_API cft_status cft_tensor_copy(cft_tensor *to, cft_tensor *from);

// The same values in another dtype, contiguous. The same dtype gives a copy.
CFT_API cft_status cft_cast(cft_tensor **y, cft_tensor *x, cft_dtype dtype);

// x itself (one reference more) where it is contiguous, else a copy that is.
CFT_API cft_status cft_contiguous(cft_tensor **y, cft_tensor *x);

CFT_API cft_status cft_tensor_zero(cft_tensor *t);
CFT_API cft_status cft_tensor_fill(cft_tensor *t, double value);

#endif
