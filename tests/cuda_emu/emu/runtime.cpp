// runtime.cpp - the part of the CUDA runtime API that host code uses, on the CPU and as late as
// allowed.
//
// Every asynchronous call only queues an operation. Operations run when the host waits for
// something, and then in any order that the declared dependencies (stream order, events, what the
// host has waited for) leave open: `order` picks. So a missing event, or a host buffer that is
// reused before its copy has run, is a wrong result or a report here, where a card would be wrong
// only now and then.
//
// Device memory is one range of addresses that is never handed out twice, unreadable while host
// code runs.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "emu_impl.h"

#define API std::lock_guard<std::recursive_mutex> locked(cuda_emu::api)
#define CALLER __builtin_return_address(0)

struct CUgraph_st {
  struct node {
    const char *what;
    const void *site;
    std::function<void()> run;
    std::function<bool()> ready;
  };
  std::vector<node> nodes;  // in the order of capture, which is one valid order
  uint64_t id = 0;          // of its capture
  CUstream_st *origin = nullptr;
  std::thread::id thread;  // that began it
  bool relaxed = false;    // calls that may wait are its own business
  bool invalid = false;    // something was asked meanwhile that ends a capture without a graph
};
struct CUgraphExec_st {
  CUgraph_st graph;
};

struct CUstream_st {
  uint32_t index = 0, issued = 0, done = 0;
  bool blocking = true;  // waits for the legacy stream and is waited for by it
  std::deque<cuda_emu::op> queue;
  cuda_emu::stream_clock clock;   // what the next operation will wait for
  CUgraph_st *capture = nullptr;  // operations go here instead
  uint64_t captured = 0;          // how many did
  bool joined = true;             // another stream of the capture waits for all of them
};

struct CUevent_st {
  bool recorded = false;
  cuda_emu::stream_clock clock;
  uint64_t capture = 0;       // it was last recorded in that one,
  CUstream_st *by = nullptr;  // by this stream, which had captured
  uint64_t after = 0;         // so many operations
  double ms = 0;
};

namespace cuda_emu {

const op *running;
static std::recursive_mutex api;
static std::vector<std::unique_ptr<CUstream_st>> streams;  // the first is the legacy default stream
static std::deque<op> history;                             // what was issued, without its function
static stream_clock host_clock;                            // what the host has waited for
static cudaError_t last_error;

static cudaError_t set_error(cudaError_t e) {
  if (e != cudaSuccess && e != cudaErrorNotReady) last_error = e;
  return e;
}

std::string describe(const op &o) {
  if (!strcmp(o.what, "kernel")) return "kernel " + symbol(o.site);
  return std::string(o.what) + " called by " + symbol((const char *)o.site - 1);
}

const op &op_by_id(uint32_t id) { return history[id - 1]; }

// ---------------------------------------------------------------- devices

// Numbers of the host's GPUs that this process sees: CUDA_EMU_DEVICES says how many there are, 1 if
// it does not, and CUDA_VISIBLE_DEVICES which of them, as on a card. A process works with one of
// them: all have the same memory.
static const std::vector<int> &visible() {
  static const std::vector<int> list = [] {
    const char *there = getenv("CUDA_EMU_DEVICES"), *only = getenv("CUDA_VISIBLE_DEVICES");
    const int n = there ? atoi(there) : 1;
    std::vector<int> v;
    if (!only)
      for (int i = 0; i < n; i++) v.push_back(i);
    for (const char *at = only; at && *at; at += strcspn(at, ","), at += *at == ',')
      if (atoi(at) < n) v.push_back(atoi(at));
    return v;
  }();
  return list;
}
static int current_device;

static bool is_device(int device) { return device >= 0 && (size_t)device < visible().size(); }

// ---------------------------------------------------------------- device memory

enum alloc_state { RESERVED, LIVE, FREED };  // RESERVED: cudaMallocAsync was called but has not run
struct alloc {
  size_t bytes;
  alloc_state state;
};

static constexpr size_t ARENA = (size_t)256 << 30, ALIGN = 256, REDZONE = 256, HUGE_PAGE = 2 << 20;
static char *arena, *top;
static std::map<uintptr_t, alloc> allocs;  // freed ones too: addresses are not reused
static std::map<uintptr_t, size_t> pinned;
static size_t used_bytes, limit_bytes;
static size_t kept_bytes;  // by the memory pool, whether used or not
static bool keeps;         // its release threshold is above 0
static size_t
    module_bytes;  // that a kernel's code takes of the device at its first launch; 0: none
static size_t outside_bytes;  // taken so
static std::set<const void *> loaded;
static int open_count;
static void on_segv(int, siginfo_t *, void *);
static struct sigaction next_handler;

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static bool in_arena(const void *p) {
  return (const char *)p >= arena && (const char *)p < arena + ARENA;
}

// Device memory is readable and writable while one of these lives.
struct device_access {
  device_access() {
    if (open_count++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  ~device_access() {
    if (--open_count == 0) protect(PROT_NONE);
  }
  static void protect(int how) {
    if (top > arena) mprotect(arena, round_up((size_t)(top - arena), HUGE_PAGE), how);
  }
};

static void init() {
  if (arena) return;
  arena = (char *)mmap(nullptr, ARENA + HUGE_PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) fail("no address space for device memory");
  arena = (char *)round_up((size_t)arena, HUGE_PAGE);
  // Or each change of protection walks a page table entry per 4 KiB: 30 times slower.
  madvise(arena, ARENA, MADV_HUGEPAGE);
  top = arena;
  const char *limit = getenv("CUDA_EMU_MEMORY");  // MiB
  limit_bytes = (size_t)(limit ? atoll(limit) : 4096) << 20;
  check_arena(arena, ARENA);
  streams.push_back(std::make_unique<CUstream_st>());

  static char signal_stack[64 * 1024];
  stack_t ss = {};
  ss.ss_sp = signal_stack;
  ss.ss_size = sizeof signal_stack;
  sigaltstack(&ss, nullptr);
  struct sigaction sa = {};
  sa.sa_sigaction = on_segv;
  sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &sa, &next_handler);
#ifdef CUDA_EMU_ASAN
  __sanitizer_set_death_callback(print_context);
#endif
}

static std::map<uintptr_t, alloc>::iterator alloc_at(
    const void *p) {  // the one that begins at or before p
  auto it = allocs.upper_bound((uintptr_t)p);
  return it == allocs.begin() ? allocs.end() : std::prev(it);
}

std::string name_address(const void *p) {
  if (!in_arena(p)) return "not of device memory";
  auto it = alloc_at(p);
  char text[160];
  if (it == allocs.end()) return "an address below all allocations";
  const size_t at = (uintptr_t)p - it->first;
  snprintf(text, sizeof text, "byte %zu of %s allocation of %zu bytes", at,
           it->second.state == FREED      ? "a freed"
           : it->second.state == RESERVED ? "a not yet made"
                                          : "an",
           it->second.bytes);
  return text;
}

static void require_span(const void *p, size_t bytes) {  // all of it in one live allocation
  auto it = alloc_at(p);
  if (it == allocs.end() || it->second.state != LIVE ||
      (uintptr_t)p - it->first + bytes > it->second.bytes)
    fail("out of bounds: %zu bytes from %s", bytes, name_address(p).c_str());
}

static void on_segv(int sig, siginfo_t *info, void *context) {
  device_code = false;
  const void *at = info->si_addr, *pc = nullptr;
#ifdef __x86_64__
  pc = (const void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#endif
  if (is_stack_guard(at)) fail("stack overflow of a device thread, in %s", symbol(pc).c_str());
  if (in_arena(at) && !in_kernel())
    fail("host code touches device memory: %s, in %s", name_address(at).c_str(),
         symbol(pc).c_str());
  if (in_arena(at))
    fail("out of bounds: a kernel touches %s, in %s", name_address(at).c_str(), symbol(pc).c_str());
  if (in_kernel())
    fail("a kernel touches %p, which is not device memory, in %s", at, symbol(pc).c_str());
  sigaction(SIGSEGV, &next_handler,
            nullptr);  // not ours: happens again under whoever was there before
  (void)sig;
}

static void wait_for_all();

static cudaError_t reserve(void **p, size_t bytes, bool in_stream_order = false) {
  init();
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  // What is freed in stream order is free for what comes later in that order; here it is once the
  // queues have been worked off.
  const size_t limit = limit_bytes - outside_bytes;
  if (in_stream_order && bytes > limit - used_bytes && !running) wait_for_all();
  if (bytes > limit - used_bytes || bytes > (size_t)(arena + ARENA - top))
    return set_error(cudaErrorMemoryAllocation);
  char *at = top + REDZONE;
  top = at + round_up(bytes, ALIGN);
  if (open_count) device_access::protect(PROT_READ | PROT_WRITE);  // what is new, like the rest
  ASAN_POISON_MEMORY_REGION(at - REDZONE, (size_t)(top - at) + 2 * REDZONE);
  allocs[(uintptr_t)at] = {bytes, RESERVED};
  used_bytes += bytes;
  kept_bytes = std::max(kept_bytes, used_bytes);
  *p = at;
  return cudaSuccess;
}

static void commit(void *p) {
  alloc &a = allocs[(uintptr_t)p];
  a.state = LIVE;
  ASAN_UNPOISON_MEMORY_REGION(p, a.bytes);
  device_access open;
  memset(p, POISON, a.bytes);
  check_alloc(p, a.bytes);
}

void give_back(const void *p, size_t bytes) {
  char *from = (char *)round_up((size_t)p, 4096), *to = (char *)(((size_t)p + bytes) / 4096 * 4096);
  if (to > from) madvise(from, (size_t)(to - from), MADV_DONTNEED);
}

static void release(void *p) {
  device_access open;
  auto it = allocs.find((uintptr_t)p);
  if (it == allocs.end() || it->second.state != LIVE)
    fail("freeing %p: %s", p, name_address(p).c_str());
  alloc &a = it->second;
  check_free(p, a.bytes);
  a.state = FREED;
  used_bytes -= a.bytes;
  if (!keeps) kept_bytes = used_bytes;
  memset(p, POISON, a.bytes);
  ASAN_POISON_MEMORY_REGION(p, a.bytes);
  give_back(p, a.bytes);
}

static bool is_pinned(const void *p) {
  auto it = pinned.upper_bound((uintptr_t)p);
  return it != pinned.begin() && (uintptr_t)p - std::prev(it)->first < std::prev(it)->second;
}

// ---------------------------------------------------------------- streams

static void join(stream_clock &a, const stream_clock &b) {
  if (a.size() < b.size()) a.resize(b.size());
  for (size_t i = 0; i < b.size(); i++) a[i] = std::max(a[i], b[i]);
}

static bool covered(const stream_clock &c) {
  for (size_t i = 0; i < c.size(); i++)
    if (streams[i]->done < c[i]) return false;
  return true;
}

static CUstream_st *stream_of(cudaStream_t s) {
  init();
  if (!s || s == cudaStreamLegacy || s == cudaStreamPerThread) return streams[0].get();
  for (auto &known : streams)
    if (known.get() == s) return s;
  fail("%p is not a stream", (void *)s);
}

static void carry_out(op &o) {
  const op *before = running;
  device_access open;
  running = &o;
  if (o.run) o.run();
  running = before;
}

static bool may_run(const op &o) { return covered(o.after) && (!o.ready || o.ready()); }

// What other processes take part in is put off as long as anything else may run, or is begun first:
// whatever is not ordered against it by an event then comes too early, or too late.
static void prefer(std::vector<CUstream_st *> &can) {
  static const char *const when = getenv("CUDA_EMU_COLLECTIVES");
  if (!when) return;
  const bool wanted = !strcmp(when, "early");
  std::vector<CUstream_st *> some;
  for (CUstream_st *s : can)
    if ((s->queue.front().ready != nullptr) == wanted) some.push_back(s);
  if (!some.empty()) can = some;
}

static bool step() {  // one operation that may run now; false: there was none
  std::vector<CUstream_st *> can;
  for (auto &s : streams)
    if (!s->queue.empty() && may_run(s->queue.front())) can.push_back(s.get());
  if (can.empty()) {  // all wait for another process
    usleep(100);
    return false;
  }
  prefer(can);
  std::sort(can.begin(), can.end(),
            [](auto *a, auto *b) { return a->queue.front().id < b->queue.front().id; });
  CUstream_st *s = can[choose((uint32_t)can.size())];
  op o = std::move(s->queue.front());
  s->queue.pop_front();
  carry_out(o);
  s->done++;
  return true;
}

// What a question does for the answer: so much of the work before `c` as a card might have done since the last one.
static bool advance(const stream_clock &c) {
  device_access open;  // once for all of them
  for (int i = 0; i < 100 && !covered(c) && step(); i++) {
  }
  return covered(c);
}

static void wait_for(const stream_clock &c) {
  if (running) fail("%s waits for the device inside of an operation", running->what);
  device_access open;  // once for all of them
  count.drains += !covered(c);
  while (!covered(c)) step();
  join(host_clock, c);
}

static void wait_for_all() {
  for (size_t i = 0; i < streams.size(); i++) wait_for(streams[i]->clock);
}

// A call that ends a capture: it fails, and so does all that is captured afterwards.
static cudaError_t end_capture_by(CUgraph_st *capture, cudaError_t e) {
  capture->invalid = true;
  return set_error(e);
}

// A capture that this thread must not make calls beside that may wait for the device; NULL: none.
static CUgraph_st *strict_capture() {
  for (auto &s : streams)
    if (s->capture && !s->capture->relaxed && s->capture->thread == std::this_thread::get_id())
      return s->capture;
  return nullptr;
}

static cudaError_t issue(cudaStream_t handle, const char *what, const void *site,
                         std::function<void()> run, std::function<bool()> ready = nullptr) {
  CUstream_st *s = stream_of(handle);
  count.calls++;
  if (s->capture) {
    if (s->capture->invalid) return set_error(cudaErrorStreamCaptureInvalidated);
    s->captured++;
    s->joined = s == s->capture->origin;
    s->capture->nodes.push_back({what, site, std::move(run), std::move(ready)});
    return cudaSuccess;
  }
  if (s->index == 0)  // it would wait for what is only being recorded
    for (auto &t : streams)
      if (t->capture && t->blocking) return end_capture_by(t->capture, cudaErrorStreamCaptureImplicit);
  op o;
  o.id = (uint32_t)history.size() + 1;
  o.what = what;
  o.site = site;
  o.stream = s->index;
  o.after = s->clock;
  join(o.after, host_clock);
  if (s->index == 0) {
    for (auto &t : streams)
      if (t->blocking) join(o.after, t->clock);
  } else if (s->blocking) {
    join(o.after, streams[0]->clock);
  }
  o.after.resize(std::max<size_t>(o.after.size(), s->index + 1));
  o.seq = ++s->issued;
  s->clock = o.after;
  s->clock[s->index] = o.seq;
  history.push_back(o);
  o.run = std::move(run);
  o.ready = std::move(ready);
  s->queue.push_back(std::move(o));
  static const bool blocking =
      getenv("CUDA_LAUNCH_BLOCKING") && atoi(getenv("CUDA_LAUNCH_BLOCKING"));
  if (blocking) wait_for(s->clock);
  return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, const char *what, std::function<void()> run,
                    std::function<bool()> ready) {
  API;
  return issue(stream, what, CALLER, std::move(run), std::move(ready));
}

bool is_device_pointer(const void *p) {
  init();
  return in_arena(p);
}

void will_access(const void *p, size_t bytes, bool write) {
  if (!bytes) return;
  require_span(p, bytes);
  check_range(p, bytes, write);
}

// ---------------------------------------------------------------- launches

static int emulated_arch() {
  const char *arch = getenv("CUDA_EMU_ARCH");
  return arch ? atoi(arch) : 90;
}

size_t
shared_most() {  // CUDA's programming guide, "Technical Specifications per Compute Capability"
  switch (emulated_arch()) {
    case 80:
    case 87: return 163 * 1024;
    case 86:
    case 89:
    case 120: return 99 * 1024;
    default: return DYNAMIC_SHARED_MAX;
  }
}

static std::map<const void *, size_t> allowed_shared;

void check_argument(const void *kernel, int position, const volatile void *p) {
  API;
  init();
  const void *q = (const void *)p;
  if (q && !in_arena(q) && !is_pinned(q))
    fail("argument %d of kernel %s is a host pointer", position, symbol(kernel).c_str());
}

cudaError_t launch(const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, std::function<void()> body) {
  API;
  const uint64_t threads = (uint64_t)block.x * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || (uint64_t)grid.x * grid.y * grid.z == 0 ||
      grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
    return set_error(cudaErrorInvalidConfiguration);
  auto allowed = allowed_shared.find(kernel);
  const size_t declared = static_shared(kernel);
  const size_t asked = allowed == allowed_shared.end() ? 0 : allowed->second;
  if (shared_bytes + declared > std::max(SHARED_DEFAULT, asked + declared))
    return set_error(cudaErrorInvalidValue);
  if (module_bytes && !loaded.count(kernel)) {
    if (std::max(kept_bytes, used_bytes) + outside_bytes + module_bytes > limit_bytes)
      return set_error(cudaErrorMemoryAllocation);
    outside_bytes += module_bytes;
    loaded.insert(kernel);
  }
  return issue(stream, "kernel", kernel, [=] { run_grid(grid, block, shared_bytes, body); });
}

// ---------------------------------------------------------------- copies

struct span {
  const char *p;
  size_t bytes;
};
static std::vector<span> in_flight;  // host memory that queued copies read or write

static bool overlaps_in_flight(const void *p, size_t bytes) {
  for (const span &s : in_flight)
    if ((const char *)p < s.p + s.bytes && s.p < (const char *)p + bytes) return true;
  return false;
}

static void land(const void *p, size_t bytes) {
  for (size_t i = 0; i < in_flight.size(); i++)
    if (in_flight[i].p == p && in_flight[i].bytes == bytes) {
      in_flight.erase(in_flight.begin() + (long)i);
      return;
    }
}

static uint64_t digest(const void *p, size_t bytes) {  // FNV-1a
  uint64_t h = 0xcbf29ce484222325;
  for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3;
  return h;
}

static void upload(void *to, const void *from, size_t bytes) {
  require_span(to, bytes);
  check_range(to, bytes, true);
  memcpy(to, from, bytes);
}

static void download(void *to, const void *from, size_t bytes) {
  require_span(from, bytes);
  check_range(from, bytes, false);
  memcpy(to, from, bytes);
}

static cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                        cudaStream_t stream, const char *what, const void *site) {
  init();
  if (bytes == 0) return cudaSuccess;
  const bool to_device = in_arena(to), from_device = in_arena(from);
  if (kind != cudaMemcpyDefault &&
      (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
       from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
    fail("%s: the kind of copy is %d, but it goes from %s to %s memory; called by %s", what,
         (int)kind, from_device ? "device" : "host", to_device ? "device" : "host",
         symbol((const char *)site - 1).c_str());
  const bool captured = stream_of(stream)->capture;

  if (to_device && from_device)
    return issue(stream, what, site, [=] {
      require_span(to, bytes);
      require_span(from, bytes);
      check_copy(to, from, bytes);
      memmove(to, from, bytes);
    });

  if (to_device) {
    count.uploads++;
    if (captured) return issue(stream, what, site, [=] { upload(to, from, bytes); });
    if (!is_pinned(from)) {  // pageable memory is staged before the call returns, so it may change
                             // afterwards
      std::vector<char> staged((const char *)from, (const char *)from + bytes);
      return issue(stream, what, site, [=] { upload(to, staged.data(), bytes); });
    }
    const bool watched = !overlaps_in_flight(from, bytes);
    const uint64_t as_issued = watched ? digest(from, bytes) : 0;
    in_flight.push_back({(const char *)from, bytes});
    return issue(stream, what, site, [=] {
      if (watched && digest(from, bytes) != as_issued)
        fail(
            "host buffer reused too early: %zu bytes at %p changed after %s was issued and before "
            "it ran",
            bytes, from, what);
      land(from, bytes);
      upload(to, from, bytes);
    });
  }

  if (from_device) {
    if (captured) return issue(stream, what, site, [=] { download(to, from, bytes); });
    if (!is_pinned(to)) {  // the call returns when the copy is done
      issue(stream, what, site, [=] { download(to, from, bytes); });
      wait_for(stream_of(stream)->clock);
      return cudaSuccess;
    }
    const bool hidden = !overlaps_in_flight(to, bytes);
    in_flight.push_back({(const char *)to, bytes});
    if (hidden) {  // nothing that the host could read there has a meaning until it has waited
      memset(to, POISON, bytes);
      ASAN_POISON_MEMORY_REGION(to, bytes);
    }
    return issue(stream, what, site, [=] {
      land(to, bytes);
      ASAN_UNPOISON_MEMORY_REGION(to, bytes);
      download(to, from, bytes);
    });
  }
  return issue(stream, what, site, [=] { memmove(to, from, bytes); });
}

static cudaError_t fill(void *p, int value, size_t bytes, cudaStream_t stream, const char *what,
                        const void *site) {
  init();
  if (bytes == 0) return cudaSuccess;
  if (!in_arena(p))
    fail("%s: %p is host memory; called by %s", what, p, symbol((const char *)site - 1).c_str());
  return issue(stream, what, site, [=] {
    require_span(p, bytes);
    check_range(p, bytes, true);
    memset(p, value, bytes);
  });
}

static cudaError_t refuse_in_capture(cudaStream_t s) {  // waiting for what is only being recorded
  CUgraph_st *capture = stream_of(s)->capture;
  return capture ? end_capture_by(capture, cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

static cudaError_t refuse_beside_capture() {
  CUgraph_st *capture = strict_capture();
  return capture ? end_capture_by(capture, cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

static cudaError_t refuse_captured(cudaEvent_t e) {  // it is a place in a graph, and no moment
  if (!e->capture) return cudaSuccess;
  for (auto &s : streams)
    if (s->capture && s->capture->id == e->capture) s->capture->invalid = true;
  return set_error(cudaErrorCapturedEvent);
}

#define REFUSE(call)                                     \
  do {                                                   \
    if (const cudaError_t e_ = (call)) return e_; \
  } while (0)

}  // namespace cuda_emu

using namespace cuda_emu;

// ---------------------------------------------------------------- the API

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes) {
  API;
  REFUSE(refuse_beside_capture());
  const cudaError_t e = reserve(p, bytes);
  if (e == cudaSuccess && *p) commit(*p);
  return e;
}

cudaError_t cudaFree(void *p) {
  API;
  init();
  if (!p) return cudaSuccess;
  REFUSE(refuse_beside_capture());
  wait_for_all();  // as on a card
  release(p);
  return cudaSuccess;
}

static bool has_pools() {
  static const bool has = !getenv("CUDA_EMU_NO_POOL");
  return has;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr name, int device) {
  if (!is_device(device)) return set_error(cudaErrorInvalidDevice);
  if (name != cudaDevAttrMemoryPoolsSupported) return set_error(cudaErrorInvalidValue);
  *value = has_pools();
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream) {
  API;
  if (!has_pools()) return set_error(cudaErrorNotSupported);
  if (stream_of(stream)->capture) fail("cudaMallocAsync in a capture: a graph's memory nodes are not emulated");
  const cudaError_t e = reserve(p, bytes, true);
  if (e != cudaSuccess || !*p) return e;
  void *at = *p;
  return issue(stream, "cudaMallocAsync", CALLER, [=] { commit(at); });
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream) {
  API;
  if (!p) return cudaSuccess;
  if (stream_of(stream)->capture) fail("cudaFreeAsync in a capture: a graph's memory nodes are not emulated");
  return issue(stream, "cudaFreeAsync", CALLER, [=] { release(p); });
}

static CUmemPoolHandle_st *const the_pool = (CUmemPoolHandle_st *)&kept_bytes;

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
  if (!is_device(device)) return set_error(cudaErrorInvalidDevice);
  if (!has_pools()) return set_error(cudaErrorNotSupported);
  *pool = the_pool;
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr name, void *value) {
  API;
  if (pool != the_pool || name != cudaMemPoolAttrReleaseThreshold)
    return set_error(cudaErrorInvalidValue);
  keeps = *(uint64_t *)value > 0;
  return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr name, void *value) {
  API;
  if (pool != the_pool) return set_error(cudaErrorInvalidValue);
  switch (name) {
    case cudaMemPoolAttrReservedMemCurrent: *(uint64_t *)value = kept_bytes; return cudaSuccess;
    case cudaMemPoolAttrUsedMemCurrent: *(uint64_t *)value = used_bytes; return cudaSuccess;
    default: return set_error(cudaErrorInvalidValue);
  }
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes) {
  API;
  if (pool != the_pool) return set_error(cudaErrorInvalidValue);
  kept_bytes = std::max(used_bytes, std::min(kept_bytes, bytes));
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes) {
  API;
  init();
  REFUSE(refuse_beside_capture());
  *p = malloc(bytes ? bytes : 1);
  if (!*p) return set_error(cudaErrorMemoryAllocation);
  memset(*p, POISON, bytes);
  pinned[(uintptr_t)*p] = bytes;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) { return cudaMallocHost(p, bytes); }

cudaError_t cudaFreeHost(void *p) {
  API;
  if (!p) return cudaSuccess;
  REFUSE(refuse_beside_capture());
  wait_for_all();
  if (!pinned.erase((uintptr_t)p))
    fail("cudaFreeHost of %p, which cudaMallocHost did not return", p);
  free(p);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  API;
  return copy(to, from, bytes, kind, stream, "cudaMemcpyAsync", CALLER);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  API;
  REFUSE(refuse_beside_capture());
  const cudaError_t e = copy(to, from, bytes, kind, nullptr, "cudaMemcpy", CALLER);
  wait_for(streams[0]->clock);
  return e;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
  API;
  return fill(p, value, bytes, stream, "cudaMemsetAsync", CALLER);
}
cudaError_t cudaMemset(void *p, int value, size_t bytes) {
  API;
  return fill(p, value, bytes, nullptr, "cudaMemset", CALLER);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  API;
  init();
  *available = limit_bytes - used_bytes;
  *total = limit_bytes;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
  API;
  init();
  auto made = std::make_unique<CUstream_st>();
  made->index = (uint32_t)streams.size();
  made->blocking = !(flags & cudaStreamNonBlocking);
  *s = made.get();
  streams.push_back(std::move(made));
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) {
  return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int) {
  return cudaStreamCreateWithFlags(s, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *most) {
  *least = 0, *most = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s) {  // what it holds still runs, as on a card
  API;
  stream_of(s);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  API;
  REFUSE(refuse_in_capture(s));
  wait_for(stream_of(s)->clock);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t s) {
  API;
  REFUSE(refuse_in_capture(s));
  const stream_clock c = stream_of(s)->clock;
  if (!advance(c)) return cudaErrorNotReady;
  wait_for(c);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
  API;
  init();
  for (auto &s : streams)
    if (s->capture) return end_capture_by(s->capture, cudaErrorStreamCaptureUnsupported);
  wait_for_all();
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  API;
  CUstream_st *stream = stream_of(s);
  if (!e->capture) {
    if (stream->capture && e->recorded)  // of work outside of it
      return end_capture_by(stream->capture, cudaErrorStreamCaptureIsolation);
    join(stream->clock, e->clock);
    return cudaSuccess;
  }
  CUgraph_st *capture = e->by->capture;
  if (!capture || capture->id != e->capture) return set_error(cudaErrorCapturedEvent);
  if (stream->capture && stream->capture != capture)
    return end_capture_by(stream->capture, cudaErrorStreamCaptureMerge);
  if (!stream->capture) {  // a fork: this stream is being recorded too
    stream->capture = capture;
    stream->captured = 0;
    stream->joined = false;
  }
  if (e->by != stream && e->after == e->by->captured) e->by->joined = true;
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void *data) {
  API;
  return issue(s, "cudaLaunchHostFunc", CALLER, [=] {
    const int were_open = open_count;
    open_count = 0;
    device_access::protect(PROT_NONE);
    f(data);
    device_access::protect(PROT_READ | PROT_WRITE);
    open_count = were_open;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
  *e = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t e) {
  API;
  wait_for(e->clock);  // a queued record writes its time
  delete e;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  API;
  CUstream_st *stream = stream_of(s);
  e->capture = stream->capture ? stream->capture->id : 0;
  e->by = stream;
  e->after = stream->captured;
  if (e->capture) return stream->capture->invalid ? set_error(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
  issue(s, "cudaEventRecord", CALLER, [=] {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    e->ms = (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
  });
  e->clock = stream->clock;
  e->recorded = true;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  API;
  REFUSE(refuse_captured(e));
  wait_for(e->clock);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e) {
  API;
  REFUSE(refuse_captured(e));
  if (!advance(e->clock)) return cudaErrorNotReady;
  wait_for(e->clock);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
  API;
  if (!a->recorded || !b->recorded) return set_error(cudaErrorInvalidResourceHandle);
  if (!covered(a->clock) || !covered(b->clock)) return cudaErrorNotReady;
  *ms = (float)(b->ms - a->ms);
  return cudaSuccess;
}

// Graphs: a launch queues what was recorded, in the order of recording, with the arguments of then.
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
  API;
  static uint64_t captures;
  CUstream_st *stream = stream_of(s);
  if (stream->index == 0) return set_error(cudaErrorStreamCaptureUnsupported);
  if (stream->capture) return set_error(cudaErrorIllegalState);
  stream->capture = new CUgraph_st;
  stream->capture->id = ++captures;
  stream->capture->origin = stream;
  stream->capture->thread = std::this_thread::get_id();
  stream->capture->relaxed = mode == cudaStreamCaptureModeRelaxed;
  stream->captured = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph) {
  API;
  *graph = nullptr;
  CUgraph_st *made = stream_of(s)->capture;
  if (!made) return set_error(cudaErrorIllegalState);
  if (stream_of(s) != made->origin) return end_capture_by(made, cudaErrorStreamCaptureUnmatched);
  if (!made->relaxed && made->thread != std::this_thread::get_id())
    return set_error(cudaErrorStreamCaptureWrongThread);
  bool joined = true;
  for (auto &t : streams)
    if (t->capture == made) {
      joined = joined && t->joined;
      t->capture = nullptr;
      t->joined = true;
    }
  const cudaError_t e = made->invalid ? cudaErrorStreamCaptureInvalidated
                        : !joined     ? cudaErrorStreamCaptureUnjoined
                                      : cudaSuccess;
  if (e == cudaSuccess)
    *graph = made;
  else
    delete made;
  return set_error(e);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
  if (!graph) return set_error(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{*graph};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  API;
  if (stream_of(s)->capture) fail("cudaGraphLaunch in a capture: a graph in a graph is not emulated");
  const uint64_t calls = count.calls + 1;
  for (auto &node : exec->graph.nodes) issue(s, node.what, node.site, node.run, node.ready);
  count.calls = calls;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  API;
  wait_for_all();
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value) {
  API;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || (size_t)value + static_shared(kernel) > shared_most())
    return set_error(cudaErrorInvalidValue);
  allowed_shared[kernel] = (size_t)value;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n) {
  *n = (int)visible().size();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (!is_device(device)) return set_error(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
  *device = current_device;
  return cudaSuccess;
}

// No two cards anywhere have one name: the host's is in it, and the card's number there.
static void name_card(cudaUUID_t *uuid, int number) {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char *c = host; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
  memcpy(uuid->bytes, &hash, sizeof hash);
  uuid->bytes[15] = (char)number;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
  API;
  init();
  if (!is_device(device)) return set_error(cudaErrorInvalidDevice);
  *p = {};
  snprintf(p->name, sizeof p->name, "emulated (no GPU)");
  name_card(&p->uuid, visible()[(size_t)device]);
  p->totalGlobalMem = limit_bytes;
  p->major = emulated_arch() / 10;
  p->minor = emulated_arch() % 10;
  p->multiProcessorCount = 4;  // few, so that kernels which size their grid by it loop
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->sharedMemPerBlock = SHARED_DEFAULT;
  p->sharedMemPerBlockOptin = shared_most();
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }
cudaError_t cudaGetLastError(void) {
  const cudaError_t e = last_error;
  last_error = cudaSuccess;
  return e;
}

const char *cudaGetErrorName(cudaError_t e) {
  switch (e) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorIllegalState: return "cudaErrorIllegalState";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureMerge: return "cudaErrorStreamCaptureMerge";
    case cudaErrorStreamCaptureUnmatched: return "cudaErrorStreamCaptureUnmatched";
    case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation: return "cudaErrorStreamCaptureIsolation";
    case cudaErrorStreamCaptureImplicit: return "cudaErrorStreamCaptureImplicit";
    case cudaErrorCapturedEvent: return "cudaErrorCapturedEvent";
    case cudaErrorStreamCaptureWrongThread: return "cudaErrorStreamCaptureWrongThread";
    default: return "cudaError (not emulated)";
  }
}
const char *cudaGetErrorString(cudaError_t e) { return cudaGetErrorName(e); }

// For whoever opens a module that was built with the emulator: tests ask for these by name.
#define EXPORTED __attribute__((visibility("default")))
EXPORTED void cuda_emu_set_order(unsigned seed) { set_order(seed); }
EXPORTED uint64_t cuda_emu_waits(void) { return count.drains; }     // of the host, for the device
EXPORTED uint64_t cuda_emu_uploads(void) { return count.uploads; }  // queued so far
// A second budget beside allocations: each kernel's first launch from now on takes so many bytes.
EXPORTED void cuda_emu_set_module_bytes(uint64_t bytes) {
  module_bytes = bytes, outside_bytes = 0;
  loaded.clear();
}
// Kernels, copies and allocations that the host has queued, and graphs, each of them one.
EXPORTED uint64_t cuda_emu_calls(void) { return count.calls; }
EXPORTED uint64_t cuda_emu_launches(void) { return count.launches; }
// What was issued since the last call, as lines "COUNT NAME"; how long the text is, of which at most `bytes` - 1 are there.
EXPORTED size_t cuda_emu_census(char *text, size_t bytes) {
  static size_t from;
  std::map<std::string, uint64_t> counted;
  for (; from < history.size(); from++) counted[describe(history[from])]++;
  std::string all;
  for (const auto &c : counted) all += std::to_string(c.second) + " " + c.first + "\n";
  if (bytes > 0) snprintf(text, bytes, "%s", all.c_str());
  return all.size();
}

}  // extern "C"
