// nccl.cpp - sums and copies over the GPUs of several processes, by NCCL.
//
// NCCL is opened when the first communicator is wanted, and never linked: a machine with one card
// needs none. Collectives are queued, and the host goes on.
//
// They go on a stream of the communicator's own, in the order of the calls: each begins when the
// stream that it was called for has come so far, by an event, and that stream goes on when it is
// done, by another; `beside`, only once comm_wait was called.
//
// A rank that dies leaves the kernels of all others waiting on the card, and with them whoever
// waits for the stream. So communicators never block (`blocking = 0`), and the host waits for a
// stream by asking again and again while there is one: NCCL for what it noticed, the clock for what
// it did not. Either way ncclCommAbort ends the kernels; the sum is lost, the process is not.
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <new>

#include "host.h"
#include "library.h"

#ifdef CFT_NCCL_H  // found at build
#include <nccl.h>
#else
#include "nccl_abi.h"
#endif

static_assert(sizeof(ncclUniqueId) == CFT_COMM_ID_BYTES, "an id is passed by value");
static_assert(ncclSuccess == 0 && ncclInvalidUsage == 5 && ncclRemoteError == 6 &&
                  ncclInProgress == 7 && ncclSum == 0 && ncclUint8 == 1 && ncclInt32 == 2 &&
                  ncclFloat32 == 7 && ncclFloat64 == 8 && ncclBfloat16 == 9,
              "NCCL's numbers");
static_assert(offsetof(ncclConfig_t, magic) == 8 && offsetof(ncclConfig_t, version) == 12 &&
                  offsetof(ncclConfig_t, blocking) == 16,
              "the head of ncclConfig_t, which every version reads");

struct cuda_comm : cft_comm {
  ncclComm_t nccl;      // NULL before it is open, and once it has failed
  cudaStream_t stream;  // of its collectives
  cudaEvent_t before;   // what the newest one waits for
  cudaEvent_t last;     // behind the newest one
  bool grouped;         // what is called goes together, at the group's end
  double timeout_s;     // as long as a wait for other ranks may take
  std::string why;      // it has failed
  cuda_comm *next;      // of the device
};

static cuda_device *of(cft_device *d) { return static_cast<cuda_device *>(d); }
static cuda_comm *of(cft_comm *c) { return static_cast<cuda_comm *>(c); }

// ---- the library ---------------------------------------------------------------------------

#define NCCL_CALLS(XX)       \
  XX(ncclGetUniqueId)        \
  XX(ncclCommInitRankConfig) \
  XX(ncclAllReduce)          \
  XX(ncclBroadcast)          \
  XX(ncclReduceScatter)      \
  XX(ncclAllGather)          \
  XX(ncclGroupStart)         \
  XX(ncclGroupEnd)           \
  XX(ncclCommGetAsyncError)  \
  XX(ncclCommFinalize)       \
  XX(ncclCommDestroy)        \
  XX(ncclCommAbort)          \
  XX(ncclGetErrorString)     \
  XX(ncclGetLastError)

static struct {
#define XX(name) decltype(&::name) name;
  NCCL_CALLS(XX)
#undef XX
} nccl;

static cft_status open_library() {
  static const char *const file = "libnccl.so.2";
  static bool opened;
  if (opened) return CFT_OK;
  void *library = nullptr;
  const cft_status st = cuda_library(&library, "libnccl", {2});
  if (st != CFT_OK)
    return cft_fail(st, "%s; pip's nvidia-nccl-cu13 (cu12) or the package libnccl2 has it",
                    cft_last_error());
  decltype(&ncclGetVersion) get_version = nullptr;
  int version = 0;
  CFT_TRY(cft_context(cuda_function(&get_version, library, "ncclGetVersion"), "%s", file));
  if (get_version(&version) != ncclSuccess || version < NCCL_OLDEST)
    return cft_fail(CFT_E_DEVICE, "%s is version %d.%d.%d; 2.14 or newer is wanted", file,
                    version / 10000, version / 100 % 100, version % 100);
#define XX(name) CFT_TRY(cft_context(cuda_function(&nccl.name, library, #name), "%s", file));
  NCCL_CALLS(XX)
#undef XX
  opened = true;
  return CFT_OK;
}

// ---- failures ------------------------------------------------------------------------------

static double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void rest() { usleep(20); }  // between two questions

// The communicator is over: its kernels end, and what they were to write is undefined.
static cft_status give_up(const queue &q, cuda_comm *c, const std::string &why) {
  c->why = why;
  if (c->nccl) nccl.ncclCommAbort(c->nccl);
  c->nccl = nullptr;
  return cft_fail(CFT_E_DEVICE, "%s: rank %d of %d: %s", q.op, c->rank, c->size, why.c_str());
}

static cft_status give_up(const queue &q, cuda_comm *c, ncclResult_t r) {
  const char *more = nccl.ncclGetLastError(c->nccl);
  return give_up(q, c,
                 std::string("NCCL: ") + nccl.ncclGetErrorString(r) +
                     (more && *more ? std::string(": ") + more : ""));
}

static cft_status give_up_late(const queue &q, cuda_comm *c, const char *what) {
  char text[128];
  snprintf(text, sizeof text, "%s within %g s; one of them has died or stands still", what,
           c->timeout_s);
  return give_up(q, c, text);
}

static cft_status usable(const queue &q, const cuda_comm *c) {
  if (c->nccl) return CFT_OK;
  return cft_fail(CFT_E_STATE, "%s: rank %d of %d: the communicator has failed before: %s", q.op,
                  c->rank, c->size, c->why.c_str());
}

// What a call comes to in the end: NCCL may have answered that it is still at work.
static cft_status settled(const queue &q, cuda_comm *c, ncclResult_t r) {
  const double begun = now();
  while (r == ncclInProgress) {
    if (now() - begun > c->timeout_s) return give_up_late(q, c, "the other ranks did not come");
    rest();
    const ncclResult_t asked = nccl.ncclCommGetAsyncError(c->nccl, &r);
    if (asked != ncclSuccess) r = asked;
  }
  return r == ncclSuccess ? CFT_OK : give_up(q, c, r);
}

// Is all well with it, after a wait of so many seconds?
static cft_status look_after(const queue &q, cuda_comm *c, double waited) {
  CFT_TRY(usable(q, c));
  ncclResult_t r = ncclSuccess;
  const ncclResult_t asked = nccl.ncclCommGetAsyncError(c->nccl, &r);
  if (asked != ncclSuccess) r = asked;
  if (r != ncclSuccess && r != ncclInProgress) return give_up(q, c, r);
  if (waited > c->timeout_s && cudaEventQuery(c->last) == cudaErrorNotReady) {
    cudaGetLastError();
    return give_up_late(q, c, "a collective was not done by all ranks");
  }
  return CFT_OK;
}

cft_status cuda_comms_wait(const queue &q, cudaEvent_t event) {
  if (!q.device->comms) return CFT_OK;
  cft_status st = CFT_OK;  // the first failure; the stream may wait for others too
  std::string said;
  const double begun = now();
  for (;;) {
    const cudaError_t e = event ? cudaEventQuery(event) : cudaStreamQuery(q.stream);
    for (cuda_comm *c = q.device->comms; c; c = c->next) {
      const cft_status of_one = look_after(q, c, now() - begun);
      if (of_one == CFT_OK || st != CFT_OK) continue;
      st = of_one;
      said = cft_last_error();
    }
    if (e != cudaErrorNotReady) break;  // another error is the caller's to find
    cudaGetLastError();                 // it counts as one
    rest();
  }
  return st == CFT_OK ? st : cft_fail(st, "%s", said.c_str());
}

// ---- communicators -------------------------------------------------------------------------

cft_status cuda_comm_new_id(cft_device *device, cft_comm_id *id) {
  const queue q(device, nullptr, "comm_new_id");
  CFT_TRY(cft_context(open_library(), "%s", q.op));
  ncclUniqueId made;
  const ncclResult_t r = nccl.ncclGetUniqueId(&made);
  if (r != ncclSuccess)
    return cft_fail(CFT_E_DEVICE, "%s: NCCL: %s: %s", q.op, nccl.ncclGetErrorString(r),
                    nccl.ncclGetLastError(nullptr));
  memcpy(id->bytes, made.internal, sizeof id->bytes);
  return CFT_OK;
}

static void forget(cuda_comm *c) {
  for (cuda_comm **at = &of(c->device)->comms; *at; at = &(*at)->next)
    if (*at == c) {
      *at = c->next;
      break;
    }
  if (c->nccl) nccl.ncclCommAbort(c->nccl);
  if (c->before) cudaEventDestroy(c->before);
  if (c->last) cudaEventDestroy(c->last);
  if (c->stream) cudaStreamDestroy(c->stream);
  cudaGetLastError();
  delete c;
}

// Of the highest priority: where kernels of both streams want room, the ones that other ranks wait
// for come first.
static cft_status make_stream(const queue &q, cuda_comm *c) {
  int least = 0, most = 0;
  cudaError_t e = cudaDeviceGetStreamPriorityRange(&least, &most);
  if (e == cudaSuccess) e = cudaStreamCreateWithPriority(&c->stream, cudaStreamNonBlocking, most);
  if (e == cudaSuccess) e = cudaEventCreateWithFlags(&c->before, cudaEventDisableTiming);
  if (e == cudaSuccess) e = cudaEventCreateWithFlags(&c->last, cudaEventDisableTiming);
  return q.check(e);
}

cft_status cuda_comm_open(cft_device *device, cft_comm **comm, const cft_comm_id *id, int rank,
                          int size, double timeout_s) {
  const queue q(device, nullptr, "comm_open");
  CFT_TRY(cft_context(open_library(), "%s", q.op));
  cuda_comm *c = new (std::nothrow) cuda_comm{};
  if (!c) return cft_fail(CFT_E_OOM, "%s: no memory", q.op);
  c->device = device;
  c->rank = rank;
  c->size = size;
  c->timeout_s = timeout_s;
  cft_status st = make_stream(q, c);
  if (st == CFT_OK) {
    q.make_room();  // its buffers are not the pool's, and it says of too little no more than
                    // "unhandled"
    ncclUniqueId shared;
    memcpy(shared.internal, id->bytes, sizeof shared.internal);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    st = settled(q, c, nccl.ncclCommInitRankConfig(&c->nccl, size, shared, rank, &config));
  }
  if (st != CFT_OK) {
    forget(c);
    return st;
  }
  c->next = q.device->comms;
  q.device->comms = c;
  *comm = c;
  return CFT_OK;
}

// The way out that NCCL describes for communicators that do not block: nothing in flight, finalize,
// destroy.
static cft_status finish(const queue &q, cuda_comm *c) {
  CFT_TRY(usable(q, c));
  CFT_TRY(cuda_comms_wait(q, c->last));
  CFT_TRY(settled(q, c, nccl.ncclCommFinalize(c->nccl)));
  const ncclResult_t r = nccl.ncclCommDestroy(c->nccl);
  c->nccl = nullptr;
  return r == ncclSuccess ? CFT_OK : give_up(q, c, r);
}

cft_status cuda_comm_close(cft_comm *comm, int at_once) {
  cuda_comm *c = of(comm);
  const queue q(c->device, nullptr, "comm_close");
  const cft_status st = at_once ? CFT_OK : finish(q, c);
  forget(c);
  return st;
}

// ---- collectives ---------------------------------------------------------------------------

// What is summed: n elements. What is only moved may be of any dtype: bytes, where NCCL has none.
struct elements {
  ncclDataType_t type;
  size_t n;
};

static cft_status elements_of(const queue &q, int64_t n, cft_dtype dtype, bool summed,
                              elements *e) {
  e->n = (size_t)n;
  switch (dtype) {
    case CFT_F32: e->type = ncclFloat32; return CFT_OK;
    case CFT_BF16: e->type = ncclBfloat16; return CFT_OK;
    case CFT_F64: e->type = ncclFloat64; return CFT_OK;
    case CFT_I32: e->type = ncclInt32; return CFT_OK;
    default: break;
  }
  if (summed) return no_kernel(q, dtype);
  *e = {ncclUint8, (size_t)n * cft_dtype_bytes(dtype)};
  return CFT_OK;
}

// The communicator's stream waits for what q's stream has now.
static cft_status follow(const queue &q, cuda_comm *c) {
  cudaError_t e = cudaEventRecord(c->before, q.stream);
  if (e == cudaSuccess) e = cudaStreamWaitEvent(c->stream, c->before, 0);
  return e == cudaSuccess ? CFT_OK : q.check(e);
}

// NCCL has queued it: what comes later on q's stream waits for it, but for one that goes beside.
static cft_status queued(const queue &q, cuda_comm *c) {
  cudaError_t e = cudaEventRecord(c->last, c->stream);
  if (e == cudaSuccess && !c->beside) e = cudaStreamWaitEvent(q.stream, c->last, 0);
  if (e != cudaSuccess) return q.check(e);
  return q.device->waits ? cuda_comms_wait(q, c->last) : CFT_OK;
}

// What all of them are: `call` gives NCCL the elements, the communicator and its stream.
template <class Call>
static cft_status collective(cft_comm *comm, cft_stream *stream, const char *op, int64_t n,
                             cft_dtype dtype, bool summed, Call call) {
  cuda_comm *c = of(comm);
  const queue q(c->device, stream, op);
  elements e = {ncclFloat32, 0};
  CFT_TRY(usable(q, c));
  CFT_TRY(elements_of(q, n, dtype, summed, &e));
  if (n == 0) return CFT_OK;
  CFT_TRY(follow(q, c));
  const ncclResult_t r = call(e, c->nccl, c->stream);
  if (c->grouped) return r == ncclSuccess || r == ncclInProgress ? CFT_OK : give_up(q, c, r);
  CFT_TRY(settled(q, c, r));
  return queued(q, c);
}

cft_status cuda_all_reduce(cft_comm *comm, cft_stream *stream, void *x, int64_t n,
                           cft_dtype dtype) {
  return collective(comm, stream, "all_reduce", n, dtype, true,
                    [=](elements e, ncclComm_t c, cudaStream_t s) {
                      return nccl.ncclAllReduce(x, x, e.n, e.type, ncclSum, c, s);
                    });
}

cft_status cuda_broadcast(cft_comm *comm, cft_stream *stream, void *x, int64_t n, cft_dtype dtype,
                          int from) {
  return collective(comm, stream, "broadcast", n, dtype, false,
                    [=](elements e, ncclComm_t c, cudaStream_t s) {
                      return nccl.ncclBroadcast(x, x, e.n, e.type, from, c, s);
                    });
}

cft_status cuda_reduce_scatter(cft_comm *comm, cft_stream *stream, void *part, const void *x,
                               int64_t n, cft_dtype dtype) {
  return collective(comm, stream, "reduce_scatter", n, dtype, true,
                    [=](elements e, ncclComm_t c, cudaStream_t s) {
                      return nccl.ncclReduceScatter(x, part, e.n, e.type, ncclSum, c, s);
                    });
}

cft_status cuda_all_gather(cft_comm *comm, cft_stream *stream, void *x, const void *part, int64_t n,
                           cft_dtype dtype) {
  return collective(comm, stream, "all_gather", n, dtype, false,
                    [=](elements e, ncclComm_t c, cudaStream_t s) {
                      return nccl.ncclAllGather(part, x, e.n, e.type, c, s);
                    });
}

cft_status cuda_comm_group(cft_comm *comm, int begin) {
  cuda_comm *c = of(comm);
  const queue q(c->device, nullptr, "comm_group");
  CFT_TRY(usable(q, c));
  if ((begin != 0) == c->grouped)
    return cft_fail(CFT_E_STATE, "%s: %s", q.op, begin ? "a group is open" : "no group is open");
  c->grouped = begin != 0;
  CFT_TRY(settled(q, c, begin ? nccl.ncclGroupStart() : nccl.ncclGroupEnd()));
  return begin ? CFT_OK : queued(q, c);
}

int cuda_comm_failed(cft_comm *comm) {
  cuda_comm *c = of(comm);
  return look_after(queue(c->device, nullptr, "comm_failed"), c, 0) != CFT_OK;
}

// The stream waits, not the host.
cft_status cuda_comm_wait(cft_comm *comm) {
  cuda_comm *c = of(comm);
  const queue q(c->device, nullptr, "comm_wait");
  CFT_TRY(look_after(q, c, 0));
  const cudaError_t e = cudaStreamWaitEvent(q.stream, c->last, 0);
  return e == cudaSuccess ? CFT_OK : q.check(e);
}
