// host.h - the CUDA device as its own host code sees it: the struct behind cft_device, the queue
// that an op works through, scratch memory.
//
// Nothing in a step waits for the GPU but a download: kernels, copies and allocations are queued on
// one stream and follow each other there. What fails later is answered by sync or by the next call.
#pragma once
#include <cuda_runtime.h>
#include <stdint.h>

#include <string>

extern "C" {
#include "device.h"
}

struct cft_stream {
  cudaStream_t cuda;
};

struct cuda_matmul;     // cuBLASLt: handle, workspace, the algorithms that were chosen (matmul.cu)
struct cuda_attention;  // cuDNN: handle, plans (attention.cu)
struct cuda_free_list;  // blocks that were freed, where there is no pool (device.cu)
struct cuda_staging;    // pinned memory that uploads pass through (device.cu)
struct cuda_moments;    // events of a trace (moments.cpp)
struct cuda_graphs;     // what is being recorded, and its memory (graph.cpp)
struct cuda_comm;       // NCCL: one communicator of the device (nccl.cpp)

struct cuda_device : cft_device {
  char name_text[32], description_text[320];
  char gpu[256];  // "NVIDIA H100 80GB HBM3"
  char uuid_text[48];
  int arch;       // 90 for sm_90
  int multiprocessors;
  size_t shared_most;  // bytes of shared memory that a block may have
  bool waits;          // CFT_SYNC=1: after each launch, so that a message names the op that failed
  bool tunes;          // algorithms of matmuls are timed, and what was chosen is kept
  bool without_lt;     // cuBLASLt was looked for and is not there
  bool limited;        // CFT_CUDA_LIMIT: nothing is taken beyond the limit
  bool rows_alone;   // a row's forward products and attention must not depend on the rows beside it
  cft_stream queue;  // the stream that orders everything
  cudaStream_t aside;      // copies to pinned memory beside it; made when it is first wanted
  cudaMemPool_t pool;      // the driver's caching pool; null where the device has none
  cuda_free_list *blocks;  // what is kept in its place
  int64_t bytes[CFT_MEM_CLASSES], total, peak, limit;
  cuda_staging *staging;
  cuda_matmul *matmul;
  cuda_attention *attention;
  cuda_moments *moments;
  cuda_graphs *graphs;
  cuda_comm *comms;  // those that are open
};

// An op's way to the device.
struct queue {
  cuda_device *device;
  cudaStream_t stream;
  const char *op;  // what messages call it

  queue(cft_device *d, cft_stream *s, const char *op);

  // What a CUDA call answered. A failure is read once more, which clears it, or the next call
  // would report it as its own.
  cft_status check(cudaError_t e) const;

  // Give back what the pool keeps and does not use: kernels that are loaded when they are first
  // launched, and libraries, want memory that is not the pool's. Waits for the stream.
  void make_room() const;
};

// "no cuda kernel for rmsnorm_fwd in f64"
cft_status no_kernel(const queue &q, cft_dtype dtype);

// Device memory for the time of a call: freed in stream order, so when the kernels that were given
// it are through.
class scratch {
 public:
  scratch() = default;
  scratch(const scratch &) = delete;
  ~scratch();
  cft_status take(const queue &q, size_t bytes);
  template <class T>
  T *as() const {
    return static_cast<T *>(p_);
  }

 private:
  cuda_device *device_ = nullptr;
  void *p_ = nullptr;
  size_t bytes_ = 0;
};

// A file in the folder of what is kept between runs (algorithms that were timed, compiled plans):
// `cuda` in cft_cache_folder. It is made if missing; false where nothing is, or can be, kept.
// (cache.cpp)
bool cache_path(char *path, size_t bytes, const char *file);
bool cache_read(std::string *text, const char *path);
bool cache_write(const char *path, const std::string &text);   // whole or not at all
bool cache_append(const char *path, const std::string &line);  // beside other processes

// y (d) = [y +] the sum of `rows` rows of d, in a fixed order: what a kernel's blocks left of a
// gradient that all of them add to. y is f32 or bf16. (reduce.cu)
cft_status sum_rows(const queue &q, void *y, cft_dtype y_dtype, const float *x, int64_t rows,
                    int64_t d, bool add);

// Ops; table.cu lists them.
#define XX(name, args, kind) \
  cft_status cft_cuda_##name(cft_device *device, cft_stream *stream, const args *a);
CFT_KERNEL_MAP(XX)
#undef XX

// Collectives (nccl.cpp); the device's table has them.
cft_status cuda_comm_new_id(cft_device *d, cft_comm_id *id);
cft_status cuda_comm_open(cft_device *d, cft_comm **c, const cft_comm_id *id, int rank, int size,
                          double timeout_s);
cft_status cuda_all_reduce(cft_comm *c, cft_stream *s, void *x, int64_t n, cft_dtype dtype);
cft_status cuda_broadcast(cft_comm *c, cft_stream *s, void *x, int64_t n, cft_dtype dtype,
                          int from);
cft_status cuda_reduce_scatter(cft_comm *c, cft_stream *s, void *part, const void *x, int64_t n,
                               cft_dtype dtype);
cft_status cuda_all_gather(cft_comm *c, cft_stream *s, void *x, const void *part, int64_t n,
                           cft_dtype dtype);
cft_status cuda_comm_group(cft_comm *c, int begin);
cft_status cuda_comm_wait(cft_comm *c);
int cuda_comm_failed(cft_comm *c);
cft_status cuda_comm_close(cft_comm *c, int at_once);

// To be called before the host waits for the queue's stream, or an event in it. Where the device
// has communicators, what is waited for has happened when it returns: if one of them fails
// meanwhile it is ended, lest its kernels wait for other ranks for ever, and that is the answer.
cft_status cuda_comms_wait(const queue &q, cudaEvent_t event = nullptr);

// Moments of the stream (moments.cpp); device.h says what is asked of them.
cft_status cuda_moment(cft_device *d, cft_stream *s, int64_t i);
cft_status cuda_moment_at(cft_device *d, int64_t i, double *seconds);

// Graphs (graph.cpp); device.h says what is asked of them.
cft_status cuda_graph_begin(cft_device *d, int record);
cft_status cuda_graph_end(cft_device *d, cft_graph **g);
cft_status cuda_graph_launch(cft_device *d, cft_graph *g);
void cuda_graph_free(cft_device *d, cft_graph *g);

bool cuda_recording(const cuda_device *d);
// What no recording takes, which then makes no graph: E_STATE while one is on.
cft_status cuda_not_recording(const queue &q);
// Memory for who asks while a recording is on.
cft_status cuda_graph_take(cuda_device *d, void **p, size_t bytes);
// The device's own memory was taken: a rehearsal notes it.
void cuda_graph_noted(cuda_device *d, void *p, size_t bytes);
// True where p is the graphs', or has to wait for a recording's end: then that is all.
bool cuda_graph_freed(cuda_device *d, void *p, size_t bytes, cft_memory_class why);

// What the device owns of other files, made on first use and released with it.
void cuda_moments_close(cuda_moments *m);
void cuda_graphs_close(cuda_device *d);
void cuda_matmul_close(cuda_matmul *m);
void cuda_attention_close(cuda_attention *a);
