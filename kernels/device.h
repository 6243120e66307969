// device.h - the table of calls that a device fills: memory, copies, streams, events, kernels.
// The CPU's is always there; the CUDA device's comes from a module that is opened at run time.
#ifndef CFT_DEVICE_H
#define CFT_DEVICE_H

#include "kernels.h"

// Why memory was taken; counted apart, so that a census can name what fills a device.
typedef enum cft_memory_class {
  CFT_MEM_OTHER = 0,
  CFT_MEM_PARAM = 1,
  CFT_MEM_GRAD = 2,
  CFT_MEM_OPTIM = 3,       // moments, master weights
  CFT_MEM_ACTIVATION = 4,  // made while a step is recorded
  CFT_MEM_WORKSPACE = 5,   // a kernel's scratch
  CFT_MEM_CACHE = 6,       // kept by the device for reuse: packed weights, free blocks
  CFT_MEM_CLASSES = 7,
} cft_memory_class;

typedef struct cft_memory_use {
  int64_t bytes[CFT_MEM_CLASSES];  // in use now
  int64_t total, peak;             // sum over the classes but CACHE; its highest since a reset
  int64_t reserved;                // held from the system, in use or not
  int64_t limit;                   // what the device has, or a smaller budget; 0 = unknown
} cft_memory_use;

typedef struct cft_device cft_device;
typedef struct cft_graph cft_graph;  // work that was recorded

// Names a communicator to the processes that open it; not a text.
enum { CFT_COMM_ID_BYTES = 128 };
typedef struct cft_comm_id {
  char bytes[CFT_COMM_ID_BYTES];
} cft_comm_id;

// This process as one of several that sum and copy together, each with a device of its own. A
// device puts what it needs behind it. Fields are for reading only.
typedef struct cft_comm {
  cft_device *device;
  int rank, size;  // 0 to size - 1
  int beside;      // collectives do not hold up the default stream, until comm_wait
} cft_comm;

struct cft_device {
  const char *name;         // "cpu", "cuda:0"
  const char *description;  // "2 threads, AVX-512 with bf16", "NVIDIA H100, driver 580.95"
  const char *uuid;         // "GPU-...": the same for all processes of a host; NULL: the CPU
  int index;
  int host_memory;  // 1 when the host may read and write what alloc returns
  int fast_bf16;    // 1 when its bf16 matmuls are faster than those in f32
  const cft_kernels *kernels;

  // Memory. At least 64-byte aligned (CPU) or 256 (CUDA); contents undefined; 0 bytes give a
  // pointer that may be freed. Freed memory may be reused by later work of the same stream at once.
  // alloc_zeros gives zeros, perhaps without writing them; NULL: alloc and zero do as well.
  cft_status (*alloc)(cft_device *d, void **p, size_t bytes, cft_memory_class why);
  cft_status (*alloc_zeros)(cft_device *d, void **p, size_t bytes, cft_memory_class why);
  void (*free)(cft_device *d, void *p, size_t bytes, cft_memory_class why);
  void (*memory)(cft_device *d, cft_memory_use *use, int reset_peak);
  void (*trim)(cft_device *d);  // give cached memory back

  // Copies are ordered with the stream's kernels. `host` may be ordinary memory: upload has read
  // it, and download has written it, when the call returns.
  cft_status (*upload)(cft_device *d, cft_stream *s, void *to, const void *host, size_t bytes);
  cft_status (*download)(cft_device *d, cft_stream *s, void *host, const void *from, size_t bytes);
  cft_status (*copy)(cft_device *d, cft_stream *s, void *to, const void *from, size_t bytes);
  cft_status (*zero)(cft_device *d, cft_stream *s, void *p, size_t bytes);

  // Copies to the host beside the default stream, into pinned memory; NULL where the host reads the
  // device's memory itself. aside_begin: what follows waits for all that the default stream has
  // now, and no longer holds it up; aside_download returns at once; aside_wait: all of it has
  // arrived. What is copied must stay as it is until then.
  cft_status (*pin)(cft_device *d, void **p, size_t bytes);
  void (*unpin)(cft_device *d, void *p);
  cft_status (*aside_begin)(cft_device *d);
  cft_status (*aside_download)(cft_device *d, void *pinned, const void *from, size_t bytes);
  cft_status (*aside_wait)(cft_device *d);

  // Whether a kernel that has several ways is timed when it first meets a shape, and what was
  // faster kept between runs, or whatever a library suggests is taken unasked. NULL: nothing is
  // ever timed.
  void (*set_autotune)(cft_device *d, int on);

  // Whether what a row gives in a product x w^T and in attention's forward must not depend, to the bit,
  // on the rows beside it or on how many there are: the device's own kernels, whose sums have one
  // order, in place of libraries'. Other products are refused meanwhile on a GPU. On the CPU no row ever
  // depends on others, and this chooses between two orders of sums in x w^T: generation's, which is
  // fastest for few rows, and training's, for many. Answers what it was. NULL: there is one order.
  int (*set_rows_alone)(cft_device *d, int on);

  // The default stream orders everything that names no other; sync waits for all of it and
  // answers with the first failure that happened meanwhile.
  cft_stream *(*stream)(cft_device *d);
  cft_status (*sync)(cft_device *d);

  // Moments of the stream, for who asks how long its work took: `moment` notes number i, from 0 and
  // without gaps, when the stream gets there; `moment_at`, after a sync, says how many seconds it
  // was after number 0. A number may be noted again. NULL: work is done when its call returns.
  cft_status (*moment)(cft_device *d, cft_stream *s, int64_t i);
  cft_status (*moment_at)(cft_device *d, int64_t i, double *seconds);

  // Graphs: work of the default stream that is recorded once and then queued again by one call, with
  // the addresses of then. graph_begin, up to graph_end: with record = 0 a rehearsal, work is done
  // as ever, and what memory it takes is noted; with 1 it is recorded and not done. A recording's
  // memory is the graphs' own, as much as the largest rehearsal took: what is allocated meanwhile
  // lies there whoever frees it, and its contents count until the next recording or launch. It goes
  // back with the last graph (graph_free of NULL: or if there is none), before which what was
  // allocated there is freed, outside of recordings. What is recorded was rehearsed before, or
  // libraries would have to choose their algorithms meanwhile. What the host would have to wait for
  // fails then (upload, download, sync), and any such failure is graph_end's, too, which makes no
  // graph. NULL: there are none.
  cft_status (*graph_begin)(cft_device *d, int record);
  cft_status (*graph_end)(cft_device *d, cft_graph **g);  // NULL of a rehearsal
  cft_status (*graph_launch)(cft_device *d, cft_graph *g);
  void (*graph_free)(cft_device *d, cft_graph *g);

  // Collectives (runtime/cft_comm.h says what they do). NULL: this device has none. x is n elements
  // on the device, of f32, bf16, f64 or i32 where they are summed; a part is n of them, and the
  // parts of all ranks in their order are x. They are ordered with the stream's kernels, as a copy
  // is; with `beside` set what follows them on the stream need not wait, until comm_wait. That a
  // rank is missing is found by a wait (sync, download, a close), and every wait fails from then on
  // until the communicator is closed. comm_group: what stands between begin = 1 and 0 may go
  // together. comm_close waits for what was queued; `at_once` does not.
  cft_status (*comm_new_id)(cft_device *d, cft_comm_id *id);
  cft_status (*comm_open)(cft_device *d, cft_comm **c, const cft_comm_id *id, int rank, int size,
                          double timeout_s);
  cft_status (*all_reduce)(cft_comm *c, cft_stream *s, void *x, int64_t n, cft_dtype dtype);
  cft_status (*broadcast)(cft_comm *c, cft_stream *s, void *x, int64_t n, cft_dtype dtype,
                          int from);
  cft_status (*reduce_scatter)(cft_comm *c, cft_stream *s, void *part, const void *x, int64_t n,
                               cft_dtype dtype);
  cft_status (*all_gather)(cft_comm *c, cft_stream *s, void *x, const void *part, int64_t n,
                           cft_dtype dtype);
  cft_status (*comm_group)(cft_comm *c, int begin);
  cft_status (*comm_wait)(cft_comm *c);
  int (*comm_failed)(cft_comm *c);  // has a collective failed, as far as is known? waits for nothing
  cft_status (*comm_close)(cft_comm *c, int at_once);

  void (*close)(cft_device *d);  // after the last storage and communicator are gone
};

// The CPU device: one for the process, never NULL. `threads` 0 = as OpenMP says.
CFT_API cft_device *cft_cpu_device(void);

// Threads that the CPU's kernels use. Setting takes 1 to 1024; results do not depend on it.
CFT_API int cft_cpu_threads(void);
CFT_API cft_status cft_cpu_set_threads(int threads);

#ifndef CFT_CDEF
// What libcft_cuda.so exports: opens GPU `index`. E_DEVICE says what is missing.
typedef cft_status cft_cuda_open_fn(cft_device **d, int index);
#define CFT_CUDA_OPEN_SYMBOL "cft_cuda_open"
#define CFT_CUDA_REPORT_SYMBOL "cft_cuda_report"
#endif
#endif
