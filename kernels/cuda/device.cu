// device.cu - the CUDA device's memory, copies and stream; opening and closing it.
//
// Memory is the driver's own caching pool (cudaMallocAsync with nothing ever given back unasked).
// It reuses what was freed earlier in stream order without a wait, splits and joins blocks, and is
// said to remap pages instead of fragmenting, which a cache of ours on top of cudaMalloc could not. Where
// a device has none (a part of a card, some virtual ones), freed blocks are kept in a list of ours.
// What we add is the census: bytes by class, so that a full card can say what fills it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>

#include "host.h"
#include "library.h"

static cuda_device *of(cft_device *d) { return static_cast<cuda_device *>(d); }

// ---- failures ------------------------------------------------------------------------------

static cft_status failed(cudaError_t e, const char *op) {
  cudaGetLastError();  // clears it
  return cft_fail(e == cudaErrorMemoryAllocation ? CFT_E_OOM : CFT_E_DEVICE, "%s: %s: %s", op,
                  cudaGetErrorName(e), cudaGetErrorString(e));
}

#define CFT_CUDA(call, op)                          \
  do {                                              \
    const cudaError_t e_ = (call);                  \
    if (e_ != cudaSuccess) return failed(e_, (op)); \
  } while (0)

queue::queue(cft_device *d, cft_stream *s, const char *op_name)
    : device(of(d)), stream(s ? s->cuda : device->queue.cuda), op(op_name) {
  cudaSetDevice(d->index);  // of this thread; another device may have been used meanwhile
}

static std::string census(const cuda_device *d);
static std::string amount(int64_t bytes);
static int64_t reserved(cuda_device *d);
static void trim(cft_device *device);

cft_status queue::check(cudaError_t e) const {
  if (e == cudaSuccess && device->waits) e = cudaStreamSynchronize(stream);
  if (e == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return cft_fail(
        CFT_E_OOM,
        "%s: %s has no memory left beside what is reserved: %s of %s; in use of that: %s", op,
        device->name, amount(reserved(device)).c_str(), amount(device->limit).c_str(),
        census(device).c_str());
  }
  return e == cudaSuccess ? CFT_OK : failed(e, op);
}

void queue::make_room() const {
  cudaGetLastError();  // the failure that asked for it
  trim(device);
}

cft_status no_kernel(const queue &q, cft_dtype dtype) {
  return cft_fail(CFT_E_UNSUPPORTED, "no cuda kernel for %s in %s", q.op, cft_dtype_name(dtype));
}

// ---- memory --------------------------------------------------------------------------------

static const char *const class_names[CFT_MEM_CLASSES] = {
    "other", "parameters", "gradients", "optimizer", "activations", "workspace", "cache"};

// "15.23 GiB", "640.00 KiB"
static std::string amount(int64_t bytes) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double v = (double)bytes;
  int unit = 0;
  while (v >= 1024 && unit < 4) v /= 1024, unit++;
  char text[32];
  snprintf(text, sizeof text, "%.*f %s", unit ? 2 : 0, v, units[unit]);
  return text;
}

// Freed blocks by their size. What is taken from the list was freed earlier on the one stream that
// orders everything, so whoever is given it comes later in that order, too.
struct cuda_free_list {
  std::multimap<size_t, void *> free;
  std::map<void *, size_t> sizes;  // of all that were taken from the driver
  int64_t bytes;                   // of all of them
};

// From the pool; or a freed block that is at most half as large again as what is wanted; or a new
// one.
static cudaError_t take(cuda_device *d, void **p, size_t bytes) {
  if (d->pool) return cudaMallocAsync(p, bytes, d->queue.cuda);
  const size_t rounded = (bytes + 511) / 512 * 512;
  const auto found = d->blocks->free.lower_bound(rounded);
  if (found != d->blocks->free.end() && found->first <= rounded + rounded / 2) {
    *p = found->second;
    d->blocks->free.erase(found);
    return cudaSuccess;
  }
  const cudaError_t e = cudaMalloc(p, rounded);
  if (e != cudaSuccess) return e;
  d->blocks->sizes[*p] = rounded;
  d->blocks->bytes += (int64_t)rounded;
  return cudaSuccess;
}

static void give(cuda_device *d, void *p) {
  if (!d->pool)
    d->blocks->free.insert({d->blocks->sizes[p], p});
  else if (cudaFreeAsync(p, d->queue.cuda) != cudaSuccess)
    cudaGetLastError();
}

// Bytes that the device has for us, whether they are in use or not.
static int64_t reserved(cuda_device *d) {
  if (!d->pool) return d->blocks->bytes;
  uint64_t bytes = 0;
  if (cudaMemPoolGetAttribute(d->pool, cudaMemPoolAttrReservedMemCurrent, &bytes) != cudaSuccess)
    cudaGetLastError();
  return (int64_t)bytes;
}

// The stream has been waited for.
static void give_back(cuda_device *d) {
  if (d->pool) {
    cudaMemPoolTrimTo(d->pool, 0);
    return;
  }
  for (const auto &block : d->blocks->free) {
    cudaFree(block.second);
    d->blocks->sizes.erase(block.second);
    d->blocks->bytes -= (int64_t)block.first;
  }
  d->blocks->free.clear();
}

// "parameters 15.23 GiB, activations 12.21 GiB"
static std::string census(const cuda_device *d) {
  std::string text;
  for (int c = 0; c < CFT_MEM_CLASSES; c++)
    if (d->bytes[c] > 0)
      text += (text.empty() ? "" : ", ") + std::string(class_names[c]) + " " + amount(d->bytes[c]);
  return text.empty() ? "nothing" : text;
}

static void trim(cft_device *device) {
  cuda_device *d = of(device);
  const queue q(d, nullptr, "trim");
  cuda_comms_wait(q);  // a failure stays, for the next sync to answer
  cudaStreamSynchronize(q.stream);
  give_back(d);
  cudaGetLastError();
}

// The same below CFT_CUDA_LIMIT, which is held against all that is reserved: so a large card shows
// whether a run fits a smaller one.
static cudaError_t take_within(cuda_device *d, void **p, size_t bytes) {
  const cudaError_t e = take(d, p, bytes);
  if (e != cudaSuccess || !d->limited || reserved(d) <= d->limit) return e;
  give(d, *p);
  *p = nullptr;
  return cudaErrorMemoryAllocation;
}

static cft_status alloc(cft_device *device, void **p, size_t bytes, cft_memory_class why) {
  cuda_device *d = of(device);
  cudaSetDevice(d->index);
  const size_t asked = std::max<size_t>(bytes, 1);  // 0 bytes give a pointer that may be freed
  *p = nullptr;
  if (cuda_recording(d)) return cuda_graph_take(d, p, asked);
  cudaError_t e = take_within(d, p, asked);
  if (e == cudaErrorMemoryAllocation) {  // what is cached in other sizes may be enough
    cudaGetLastError();
    trim(device);
    e = take_within(d, p, asked);
  }
  if (e == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return cft_fail(CFT_E_OOM,
                    "%s: no room for %s of %s; of its %s, %s are reserved and in use: %s", d->name,
                    amount((int64_t)bytes).c_str(), class_names[why], amount(d->limit).c_str(),
                    amount(reserved(d)).c_str(), census(d).c_str());
  }
  if (e != cudaSuccess) return failed(e, "alloc");
  cuda_graph_noted(d, *p, asked);
  d->bytes[why] += (int64_t)bytes;
  d->total += (int64_t)bytes;
  d->peak = std::max(d->peak, d->total);
  return CFT_OK;
}

static void release(cft_device *device, void *p, size_t bytes, cft_memory_class why) {
  cuda_device *d = of(device);
  if (p == nullptr) return;
  cudaSetDevice(d->index);
  if (cuda_graph_freed(d, p, bytes, why)) return;
  give(d, p);
  d->bytes[why] -= (int64_t)bytes;
  d->total -= (int64_t)bytes;
}

static void memory(cft_device *device, cft_memory_use *use, int reset_peak) {
  cuda_device *d = of(device);
  if (reset_peak) d->peak = d->total;
  memcpy(use->bytes, d->bytes, sizeof use->bytes);
  use->reserved = reserved(d);
  // What the pool keeps for reuse. Its own count of what is in use trails ours: it learns of a free
  // when the stream gets there.
  use->bytes[CFT_MEM_CACHE] = std::max<int64_t>(0, use->reserved - d->total);
  use->total = d->total;
  use->peak = d->peak;
  use->limit = d->limit;
}

scratch::~scratch() {
  if (p_) release(device_, p_, bytes_, CFT_MEM_WORKSPACE);
}

cft_status scratch::take(const queue &q, size_t bytes) {
  device_ = q.device;
  bytes_ = bytes;
  return cft_context(alloc(q.device, &p_, bytes, CFT_MEM_WORKSPACE), "%s", q.op);
}

// ---- copies --------------------------------------------------------------------------------

// Uploads go through a ring of pinned slots: the host copies into one and goes on, the GPU reads it
// when its stream gets there. An event says when a slot may be filled again. Small uploads share a
// slot, so that those of many micro-batches fit and none of them waits for the GPU.
struct cuda_staging {
  enum { SLOTS = 8 };
  static constexpr size_t BYTES = 1 << 20;
  char *pinned;
  cudaEvent_t read[SLOTS];
  int next;
  size_t used;  // bytes of the slot `next`
};

static cft_status staging_new(cuda_staging **made) {
  cuda_staging *s = new (std::nothrow) cuda_staging{};
  if (!s) return cft_fail(CFT_E_OOM, "cuda: no memory for staging buffers");
  *made = s;
  CFT_CUDA(cudaMallocHost((void **)&s->pinned, cuda_staging::SLOTS * cuda_staging::BYTES), "open");
  for (cudaEvent_t &e : s->read)
    CFT_CUDA(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "open");
  return CFT_OK;
}

static void staging_free(cuda_staging *s) {
  if (!s) return;
  for (cudaEvent_t e : s->read)
    if (e) cudaEventDestroy(e);
  if (s->pinned) cudaFreeHost(s->pinned);
  delete s;
}

static cft_status upload(cft_device *device, cft_stream *stream, void *to, const void *host,
                         size_t bytes) {
  const queue q(device, stream, "upload");
  CFT_TRY(cuda_not_recording(q));
  cuda_staging *s = q.device->staging;
  for (size_t at = 0; at < bytes; at += cuda_staging::BYTES) {
    const size_t n = std::min(bytes - at, cuda_staging::BYTES);
    if (s->used + n > cuda_staging::BYTES) {
      s->next = (s->next + 1) % cuda_staging::SLOTS;
      s->used = 0;
      CFT_TRY(cuda_comms_wait(q, s->read[s->next]));
      CFT_CUDA(cudaEventSynchronize(s->read[s->next]), q.op);  // the GPU has read what it held
    }
    char *slot = s->pinned + (size_t)s->next * cuda_staging::BYTES + s->used;
    s->used += (n + 255) / 256 * 256;
    memcpy(slot, (const char *)host + at, n);
    CFT_TRY(q.check(cudaMemcpyAsync((char *)to + at, slot, n, cudaMemcpyHostToDevice, q.stream)));
    CFT_CUDA(cudaEventRecord(s->read[s->next], q.stream), q.op);
  }
  return CFT_OK;
}

static cft_status download(cft_device *device, cft_stream *stream, void *host, const void *from,
                           size_t bytes) {
  const queue q(device, stream, "download");
  if (bytes == 0) return CFT_OK;
  CFT_TRY(cuda_not_recording(q));
  CFT_TRY(cuda_comms_wait(q));
  // Pageable memory: the driver stages it, and the call returns when the bytes are there.
  CFT_CUDA(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, q.stream), q.op);
  CFT_CUDA(cudaStreamSynchronize(q.stream), q.op);
  return CFT_OK;
}

static cft_status copy(cft_device *device, cft_stream *stream, void *to, const void *from,
                       size_t bytes) {
  const queue q(device, stream, "copy");
  if (bytes == 0) return CFT_OK;
  return q.check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, q.stream));
}

static cft_status zero(cft_device *device, cft_stream *stream, void *p, size_t bytes) {
  const queue q(device, stream, "zero");
  if (bytes == 0) return CFT_OK;
  return q.check(cudaMemsetAsync(p, 0, bytes, q.stream));
}

// ---- copies beside the stream --------------------------------------------------------------

static cft_status pin(cft_device *device, void **p, size_t bytes) {
  const queue q(device, nullptr, "pin host memory");
  return q.check(cudaMallocHost(p, bytes));
}

static void unpin(cft_device *device, void *p) {
  const queue q(device, nullptr, "unpin");
  if (cudaFreeHost(p) != cudaSuccess) cudaGetLastError();
}

static cft_status aside_begin(cft_device *device) {
  const queue q(device, nullptr, "copy beside the stream");
  CFT_TRY(cuda_not_recording(q));
  cuda_device *d = of(device);
  if (!d->aside) CFT_CUDA(cudaStreamCreateWithFlags(&d->aside, cudaStreamNonBlocking), q.op);
  cudaEvent_t so_far;
  CFT_CUDA(cudaEventCreateWithFlags(&so_far, cudaEventDisableTiming), q.op);
  cudaError_t e = cudaEventRecord(so_far, q.stream);
  if (e == cudaSuccess) e = cudaStreamWaitEvent(d->aside, so_far, 0);
  cudaEventDestroy(so_far);  // when it has come to pass
  return e == cudaSuccess ? CFT_OK : failed(e, q.op);
}

static cft_status aside_download(cft_device *device, void *pinned, const void *from, size_t bytes) {
  const queue q(device, nullptr, "copy beside the stream");
  if (bytes == 0) return CFT_OK;
  CFT_CUDA(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, of(device)->aside), q.op);
  return CFT_OK;
}

static cft_status aside_wait(cft_device *device) {
  const queue q(device, nullptr, "copy beside the stream");
  CFT_TRY(cuda_comms_wait(q));
  CFT_CUDA(cudaStreamSynchronize(of(device)->aside), q.op);
  return CFT_OK;
}

static cft_stream *default_stream(cft_device *d) { return &of(d)->queue; }

static cft_status sync(cft_device *d) {
  const queue q(d, nullptr, "sync");
  CFT_TRY(cuda_not_recording(q));
  CFT_TRY(cuda_comms_wait(q));
  CFT_CUDA(cudaStreamSynchronize(q.stream), q.op);
  CFT_CUDA(cudaGetLastError(), q.op);
  return CFT_OK;
}

// What was chosen so far goes, and with it the library's handle: the next matmul makes it anew.
static void set_autotune(cft_device *device, int on) {
  cuda_device *d = of(device);
  if (d->tunes == (on != 0)) return;
  d->tunes = on != 0;
  const queue q(d, nullptr, "set_autotune");
  cuda_comms_wait(q);  // a failure stays, for the next sync to answer
  cudaStreamSynchronize(q.stream);
  cuda_matmul_close(d->matmul);
  d->matmul = nullptr;
}

static int set_rows_alone(cft_device *device, int on) {
  const int was = of(device)->rows_alone;
  of(device)->rows_alone = on != 0;
  return was;
}

// ---- opening and closing -------------------------------------------------------------------

static void close(cft_device *device) {
  cuda_device *d = of(device);
  cudaSetDevice(d->index);
  if (d->queue.cuda) cudaStreamSynchronize(d->queue.cuda);
  cuda_attention_close(d->attention);
  cuda_matmul_close(d->matmul);
  cuda_moments_close(d->moments);
  cuda_graphs_close(d);
  staging_free(d->staging);
  if (d->pool || d->blocks) give_back(d);
  delete d->blocks;
  if (d->aside) cudaStreamDestroy(d->aside);
  if (d->queue.cuda) cudaStreamDestroy(d->queue.cuda);
  cudaGetLastError();
  delete d;
}

extern "C" const cft_kernels cft_cuda_kernels;  // table.cu

static cft_status open_memory(cuda_device *d, int index) {
  int has_pools = 0;
  CFT_CUDA(cudaDeviceGetAttribute(&has_pools, cudaDevAttrMemoryPoolsSupported, index), "open");
  if (!has_pools) {
    d->blocks = new (std::nothrow) cuda_free_list{};
    return d->blocks ? CFT_OK : cft_fail(CFT_E_OOM, "cuda: no memory");
  }
  CFT_CUDA(cudaDeviceGetDefaultMemPool(&d->pool, index), "open");
  uint64_t keep = UINT64_MAX;
  CFT_CUDA(cudaMemPoolSetAttribute(d->pool, cudaMemPoolAttrReleaseThreshold, &keep), "open");
  return CFT_OK;
}

// CFT_CUDA_LIMIT, "79GiB", where it is set.
static cft_status take_limit(cuda_device *d) {
  const char *text = getenv("CFT_CUDA_LIMIT");
  if (!text || !*text) return CFT_OK;
  static const struct {
    const char *name;
    double bytes;
  } units[] = {{"B", 1}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"MB", 1e6}, {"GB", 1e9}};
  char *end;
  const double n = strtod(text, &end);
  for (const auto &unit : units)
    if (end != text && n > 0 && strcmp(end, unit.name) == 0) {
      d->limited = true;
      d->limit = (int64_t)std::min((double)d->limit, n * unit.bytes);
      return CFT_OK;
    }
  return cft_fail(CFT_E_ARG, "CFT_CUDA_LIMIT: '%s' is no size; say 79GiB or 500MiB", text);
}

static constexpr int OLDEST = 80;  // what the module is compiled for: sm_80 and whatever is newer

static cft_status fill_in(cuda_device *d, int index) {
  cudaDeviceProp prop;
  int driver = 0;
  CFT_CUDA(cudaSetDevice(index), "open");
  CFT_CUDA(cudaGetDeviceProperties(&prop, index), "open");
  CFT_CUDA(cudaDriverGetVersion(&driver), "open");
  d->arch = prop.major * 10 + prop.minor;
  if (d->arch < OLDEST)
    return cft_fail(CFT_E_DEVICE, "cuda:%d: %s is sm_%d; this build has code for sm_%d and newer",
                    index, prop.name, d->arch, OLDEST);
  snprintf(d->gpu, sizeof d->gpu, "%s", prop.name);
  size_t at = (size_t)snprintf(d->uuid_text, sizeof d->uuid_text, "GPU-");  // as nvidia-smi -L has it
  for (int i = 0; i < 16; i++)
    at += (size_t)snprintf(d->uuid_text + at, sizeof d->uuid_text - at, "%s%02x",
                           i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                           (unsigned char)prop.uuid.bytes[i]);
  snprintf(d->name_text, sizeof d->name_text, "cuda:%d", index);
  snprintf(d->description_text, sizeof d->description_text, "%s, sm_%d, %s, driver for CUDA %d.%d",
           prop.name, d->arch, amount((int64_t)prop.totalGlobalMem).c_str(), driver / 1000,
           driver % 1000 / 10);
  d->multiprocessors = prop.multiProcessorCount;
  d->shared_most = prop.sharedMemPerBlockOptin;
  d->limit = (int64_t)prop.totalGlobalMem;
  CFT_TRY(take_limit(d));
  const char *sync_always = getenv("CFT_SYNC");
  d->waits = sync_always && atoi(sync_always) > 0;
  const char *tune = getenv("CFT_CUDA_TUNE");
  d->tunes = !(tune && *tune == '0');
  const char *graphs = getenv("CFT_CUDA_GRAPHS");
  if (d->waits || (graphs && *graphs == '0')) d->graph_begin = nullptr;  // nobody waits in a recording

  CFT_CUDA(cudaStreamCreateWithFlags(&d->queue.cuda, cudaStreamNonBlocking), "open");
  CFT_TRY(open_memory(d, index));
  return staging_new(&d->staging);
}

// E_DEVICE names the first thing that is missing: driver, GPU, architecture.
extern "C" CFT_API cft_status cft_cuda_open(cft_device **device, int index) {
  CFT_TRY(cuda_driver_check(index));
  cuda_device *d = new (std::nothrow) cuda_device{};
  if (!d) return cft_fail(CFT_E_OOM, "cuda: no memory");
  d->name = d->name_text;
  d->description = d->description_text;
  d->uuid = d->uuid_text;
  d->index = index;
  d->fast_bf16 = 1;
  d->kernels = &cft_cuda_kernels;
  d->alloc = alloc;
  d->free = release;
  d->memory = memory;
  d->trim = trim;
  d->upload = upload;
  d->download = download;
  d->copy = copy;
  d->zero = zero;
  d->pin = pin;
  d->unpin = unpin;
  d->aside_begin = aside_begin;
  d->aside_download = aside_download;
  d->aside_wait = aside_wait;
  d->set_autotune = set_autotune;
  d->set_rows_alone = set_rows_alone;
  d->stream = default_stream;
  d->sync = sync;
  d->moment = cuda_moment;
  d->moment_at = cuda_moment_at;
  d->graph_begin = cuda_graph_begin;
  d->graph_end = cuda_graph_end;
  d->graph_launch = cuda_graph_launch;
  d->graph_free = cuda_graph_free;
  d->comm_new_id = cuda_comm_new_id;
  d->comm_open = cuda_comm_open;
  d->all_reduce = cuda_all_reduce;
  d->broadcast = cuda_broadcast;
  d->reduce_scatter = cuda_reduce_scatter;
  d->all_gather = cuda_all_gather;
  d->comm_group = cuda_comm_group;
  d->comm_wait = cuda_comm_wait;
  d->comm_failed = cuda_comm_failed;
  d->comm_close = cuda_comm_close;
  d->close = close;
  const cft_status st = fill_in(d, index);
  if (st != CFT_OK) {
    close(d);
    return st;
  }
  *device = d;
  return CFT_OK;
}
