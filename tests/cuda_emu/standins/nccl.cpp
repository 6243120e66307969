// nccl.cpp - the part of NCCL that kernels/cuda/nccl.cpp uses. Ranks are processes, each with an
// emulated GPU of its own; they meet in a file that the id names, mapped by all of them.
//
// A collective is two operations of its stream. The first copies this rank's values and what it
// wants done with them into its slot; the second stands in the stream until all ranks have, as the
// kernel on a card would, and computes. Sums go by rank, 0 first, and a sum of bf16 is rounded
// after each rank: an order that can be computed beside it; NCCL's own depends on the machine.
//
// As NCCL does it does not notice that a rank stands still. That one has died is noticed, as NCCL
// notices a closed connection: each rank holds a robust mutex while it lives. Either way what waits
// in a stream waits on until ncclCommAbort; but for a minute at most, so that no test hangs.
//
// Asked about its ranks at NCCL_RAS_ADDR it says what each has begun and done, and who is gone: ras.h.
//
//   CUDA_EMU_NCCL_DELAY=1:20  rank 1's collectives begin 20 ms after they could
//   CUDA_EMU_NCCL_STALL=1:7   rank 1's 7th call does not return
//   CUDA_EMU_COLLECTIVES=late, early: see emu/runtime.cpp
#ifdef CFT_NCCL_H
#include <nccl.h>
#else
#include "nccl_abi.h"
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "cuda_emu.h"
#include "ras.h"
#include "standins.h"

namespace {

// ---- what ranks share ----------------------------------------------------------------------

constexpr int MOST_RANKS = 8;
constexpr size_t MOST_BYTES = 64 << 20;  // of a collective; the file is sparse
constexpr double MOST_SECONDS = 60;

struct collective {
  enum { ALL_REDUCE, BROADCAST, REDUCE_SCATTER, ALL_GATHER } what;
  uint64_t count;
  ncclDataType_t type;
  int root;
};

struct alignas(64) slot {
  std::atomic<int> present, left;
  std::atomic<uint64_t> posted, taken;  // how many collectives: own values in, result out
  pthread_mutex_t alive;                // held by the rank's process
  collective call;
};

struct meeting {
  std::atomic<int> size;  // that the first to come has asked for
  slot ranks[MOST_RANKS];
};
constexpr size_t VALUES_AT = 4096;
static_assert(sizeof(meeting) <= VALUES_AT && std::atomic<uint64_t>::is_always_lock_free);
constexpr size_t MEETING_BYTES = VALUES_AT + MOST_RANKS * MOST_BYTES;

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// ---- failures ------------------------------------------------------------------------------

std::string last_error;

__attribute__((format(printf, 2, 3))) ncclResult_t refuse(ncclResult_t r, const char *format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  last_error = text;
  return r;
}

// What there is of types: 0 bytes for the others.
size_t width(ncclDataType_t type) {
  switch (type) {
    case ncclUint8: return 1;
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclFloat32: return 4;
    case ncclFloat64: return 8;
    default: return 0;
  }
}

const char *name_of(ncclDataType_t type) {
  return type == ncclUint8      ? "bytes"
         : type == ncclBfloat16 ? "bf16"
         : type == ncclInt32    ? "i32"
         : type == ncclFloat64  ? "f64"
                                : "f32";
}

std::string describe(const collective &c) {
  static const char *const names[] = {"the sum", "a copy", "a part of the sum", "the parts"};
  return std::string(names[c.what]) + " of " + std::to_string(c.count) + " " + name_of(c.type) +
         (c.what == collective::BROADCAST ? " from " + std::to_string(c.root) : "");
}

bool same(const collective &a, const collective &b) {
  return a.what == b.what && a.count == b.count && a.type == b.type && a.root == b.root;
}

// ---- a communicator ------------------------------------------------------------------------

struct communicator {
  std::string path;
  meeting *m = nullptr;
  int rank = 0, size = 0;
  bool met = false, aborted = false, finalized = false;
  ncclResult_t error = ncclSuccess;
  int late = 0;                 // times that it will still answer "in progress"
  std::function<void()> after;  // what happens then
  bool first = true;
  long calls = 0;
  double waiting_since = 0;  // 0: it does not

  slot &mine() { return m->ranks[rank]; }
  char *values(int r) { return (char *)m + VALUES_AT + (size_t)r * MOST_BYTES; }

  void fail(ncclResult_t r, const std::string &why) {
    if (error == ncclSuccess) error = refuse(r, "%s", why.c_str());
  }

  // Has rank r gone, and how? NULL: it has not.
  const char *gone(int r) {
    slot &s = m->ranks[r];
    if (s.left) return "has left";
    const int e = pthread_mutex_trylock(&s.alive);
    if (e == EOWNERDEAD)
      pthread_mutex_consistent(&s.alive);  // free from now on: the next sees it too
    if (e == 0 || e == EOWNERDEAD) pthread_mutex_unlock(&s.alive);
    return e == EBUSY ? nullptr : "has died";
  }

  bool all_present() {
    for (int r = 0; r < size; r++)
      if (m->ranks[r].present != 1) return false;
    return true;
  }

  // Whether `count` of every rank is at `want`. Where a rank that is behind is no more, it never
  // will be.
  bool all_reached(std::atomic<uint64_t> slot::*count, uint64_t want) {
    bool all = true;
    for (int r = 0; r < size; r++)
      if ((m->ranks[r].*count).load() < want) {
        all = false;
        const char *how = r == rank ? nullptr : gone(r);
        if (how && (m->ranks[r].*count).load() < want)
          fail(ncclRemoteError, "rank " + std::to_string(r) + " " + how);
      }
    if (all) {
      waiting_since = 0;
    } else if (waiting_since == 0) {
      waiting_since = now();
    } else if (now() - waiting_since > MOST_SECONDS) {
      cuda_emu::fail(
          "NCCL (stand-in): rank %d of %d waited a minute for other ranks, and nobody "
          "ended that",
          rank, size);
    }
    return all || aborted;
  }

  void post(const collective &c, const void *from) {
    if (aborted) return;
    mine().call = c;
    if (c.what != collective::BROADCAST || c.root == rank) {
      const size_t bytes =
          c.count * width(c.type) * (c.what == collective::REDUCE_SCATTER ? (size_t)size : 1);
      cuda_emu::will_access(from, bytes, false);
      memcpy(values(rank), from, bytes);
    }
    mine().posted++;
  }

  void take(const collective &c, void *to) {
    if (aborted) return;
    int other = -1;
    for (int r = 0; r < size; r++)
      if (!same(m->ranks[r].call, c)) other = r;
    if (other >= 0) {  // a card would wait for ever, or write what belongs to nobody
      fail(ncclInvalidUsage, "rank " + std::to_string(rank) + " wants " + describe(c) + ", rank " +
                                 std::to_string(other) + " " + describe(m->ranks[other].call));
    } else {
      const size_t bytes = c.count * width(c.type);
      cuda_emu::will_access(to, bytes * (c.what == collective::ALL_GATHER ? (size_t)size : 1),
                            true);
      if (c.what == collective::BROADCAST)
        memcpy(to, values(c.root), bytes);
      else if (c.what == collective::ALL_GATHER)
        for (int r = 0; r < size; r++) memcpy((char *)to + (size_t)r * bytes, values(r), bytes);
      else
        sum_of(c, to, c.what == collective::REDUCE_SCATTER ? (size_t)rank * bytes : 0);
    }
    mine().taken++;
  }

  // to = the sum over ranks of what they have `at` bytes behind their beginning.
  void sum_of(const collective &c, void *to, size_t at) {
    if (c.type == ncclBfloat16)
      sum<__nv_bfloat16>(to, c.count, at, [](__nv_bfloat16 a, __nv_bfloat16 b) {
        return __float2bfloat16(__bfloat162float(a) + __bfloat162float(b));
      });
    else if (c.type == ncclFloat64)
      sum<double>(to, c.count, at, [](double a, double b) { return a + b; });
    else if (c.type == ncclInt32)
      sum<int32_t>(to, c.count, at, [](int32_t a, int32_t b) { return a + b; });
    else
      sum<float>(to, c.count, at, [](float a, float b) { return a + b; });
  }

  template <class T, class Add>
  void sum(void *out, uint64_t n, size_t at, Add add) {
    T *to = (T *)out;
    memcpy((void *)to, values(0) + at, n * sizeof(T));
    for (int r = 1; r < size; r++) {
      const T *x = (const T *)(values(r) + at);
      for (uint64_t i = 0; i < n; i++) to[i] = add(to[i], x[i]);
    }
  }

  ~communicator() {
    if (!m) return;
    if (!met) unlink(path.c_str());  // the others will not meet here either
    pthread_mutex_unlock(&mine().alive);
    munmap(m, MEETING_BYTES);
  }
};

// What a handle points to: operations in streams may outlive it.
using shared = std::shared_ptr<communicator>;
shared &of(ncclComm_t c) { return *(shared *)c; }

// ---- meeting -------------------------------------------------------------------------------

constexpr char MAGIC[] = "emulated NCCL ";

bool path_of(const ncclUniqueId &id, std::string *path) {
  if (memcmp(id.internal, MAGIC, sizeof MAGIC - 1) != 0) return false;
  const char *folder = getenv("TMPDIR");
  *path = std::string(folder && *folder ? folder : "/tmp") + "/cft-nccl-" +
          std::string(id.internal + sizeof MAGIC - 1, 32);
  return true;
}

ncclResult_t join(communicator &c) {
  const int fd = open(c.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return refuse(ncclSystemError, "%s: %s", c.path.c_str(), strerror(errno));
  void *at = MAP_FAILED;
  if (ftruncate(fd, (off_t)MEETING_BYTES) == 0)
    at = mmap(nullptr, MEETING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  close(fd);
  if (at == MAP_FAILED) return refuse(ncclSystemError, "%s: %s", c.path.c_str(), strerror(errno));
  meeting *m = (meeting *)at;
  int before = 0, nobody = 0;
  if (!m->size.compare_exchange_strong(before, c.size) && before != c.size) {
    munmap(at, MEETING_BYTES);
    return refuse(ncclInvalidUsage, "rank %d comes as one of %d, others as of %d", c.rank, c.size,
                  before);
  }
  slot &mine = m->ranks[c.rank];
  if (!mine.present.compare_exchange_strong(nobody, -1)) {
    munmap(at, MEETING_BYTES);
    return refuse(ncclInvalidUsage, "there is a rank %d already", c.rank);
  }
  pthread_mutexattr_t robust;
  pthread_mutexattr_init(&robust);
  pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mine.alive, &robust);
  pthread_mutexattr_destroy(&robust);
  pthread_mutex_lock(&mine.alive);
  mine.present = 1;
  c.m = m;
  return ncclSuccess;
}

// ---- what is said of the ranks -----------------------------------------------------------------

// The newest communicator, for the thread that is asked.
struct {
  std::mutex lock;
  std::weak_ptr<communicator> newest;
} known;

std::string status() {
  shared c;
  {
    const std::lock_guard<std::mutex> held(known.lock);
    c = known.newest.lock();
  }
  std::string text = "Communicators (stand-in)\n\n";
  for (int r = 0; c && r < c->size; r++) {
    const slot &s = c->m->ranks[r];
    const char *how = r == c->rank ? nullptr : c->gone(r);
    text += "Rank " + std::to_string(r) + " has begun " + std::to_string(s.posted) + " collectives and done " +
            std::to_string(s.taken) + (how ? std::string("; it ") + how : "") + "\n";
  }
  return text;
}

int group_depth;

// "RANK:N" of a variable, where it is this rank's: N; else -1.
long of_rank(const char *variable, int rank) {
  const char *text = getenv(variable), *colon = text ? strchr(text, ':') : nullptr;
  return colon && atoi(text) == rank ? atol(colon + 1) : -1;
}

ncclResult_t begin(ncclComm_t comm, const collective &call, const void *from, void *to,
                   cudaStream_t stream) {
  const shared c = of(comm);
  static const char *const names[] = {"ncclAllReduce", "ncclBroadcast", "ncclReduceScatter",
                                      "ncclAllGather"};
  const char *name = names[call.what];
  if (c->error != ncclSuccess) return c->error;
  if (!c->met || c->late > 0) return refuse(ncclInvalidUsage, "%s while in progress", name);
  if (!from || !to) return refuse(ncclInvalidArgument, "%s: a buffer is NULL", name);
  if (!cuda_emu::is_device_pointer(from) || !cuda_emu::is_device_pointer(to))
    return refuse(ncclInvalidArgument, "%s: a buffer is not device memory", name);
  const bool is_sum =
      call.what == collective::ALL_REDUCE || call.what == collective::REDUCE_SCATTER;
  if (width(call.type) == 0 || (is_sum && call.type == ncclUint8))
    return refuse(ncclInvalidArgument, "%s: type %d", name, (int)call.type);
  if (call.root < 0 || call.root >= c->size)
    return refuse(ncclInvalidArgument, "%s: root %d of %d ranks", name, call.root, c->size);
  const size_t parts = call.what == collective::REDUCE_SCATTER ? (size_t)c->size : 1;
  if (call.count * width(call.type) * parts > MOST_BYTES)
    return refuse(ncclInternalError, "%s: the stand-in takes %zu MiB", name, MOST_BYTES >> 20);
  c->calls++;
  while (of_rank("CUDA_EMU_NCCL_STALL", c->rank) == c->calls) pause();
  const double delay = 1e-3 * (double)of_rank("CUDA_EMU_NCCL_DELAY", c->rank);
  const auto enqueue = [=] {
    const auto since = std::make_shared<double>(0);  // it could begin
    cuda_emu::enqueue(
        stream, "a collective's input (stand-in)", [=] { c->post(call, from); },
        [=] {
          if (*since == 0) *since = now();
          return now() - *since >= delay && c->all_reached(&slot::taken, c->mine().posted.load());
        });
    cuda_emu::enqueue(
        stream, "a collective (stand-in)", [=] { c->take(call, to); },
        [=] { return c->all_reached(&slot::posted, c->mine().taken.load() + 1); });
  };
  if (c->first &&
      group_depth ==
          0) {  // channels are set up by the first: it is not in the stream when the call
                // returns
    c->first = false;
    c->late = 2;
    c->after = enqueue;
    return ncclInProgress;
  }
  enqueue();
  return ncclSuccess;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int *version) {
  const char *other = getenv("CUDA_EMU_NCCL_VERSION");
  *version = other ? atoi(other) : 22809;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  unsigned char name[16];
  if (getrandom(name, sizeof name, 0) != sizeof name) return refuse(ncclSystemError, "no id");
  memset(id, 0, sizeof *id);
  char *at = id->internal + snprintf(id->internal, sizeof MAGIC, "%s", MAGIC);
  for (unsigned char byte : name) at += snprintf(at, 3, "%02x", byte);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
  auto c = std::make_shared<communicator>();
  if (config->magic != 0xcafebeef || config->blocking != 0)
    cuda_emu::fail("ncclCommInitRankConfig: the stand-in is for communicators that do not block");
  if (ranks < 1 || rank < 0 || rank >= ranks)
    return refuse(ncclInvalidArgument, "rank %d of %d", rank, ranks);
  if (ranks > MOST_RANKS) return refuse(ncclInternalError, "the stand-in has 8 ranks");
  if (!path_of(id, &c->path)) return refuse(ncclInvalidArgument, "an id that nobody made");
  c->rank = rank;
  c->size = ranks;
  const ncclResult_t r = join(*c);
  if (r != ncclSuccess) return r;
  {
    const std::lock_guard<std::mutex> held(known.lock);
    known.newest = c;
  }
  standin_ras_listen(status);
  *comm = (ncclComm_t) new shared(c);
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  const shared c = of(comm);
  if (!c->met && c->all_present()) {
    c->met = true;
    unlink(c->path.c_str());  // by whoever is first
  }
  for (int r = 0; !c->met && r < c->size; r++) {
    const char *how = c->m->ranks[r].present == 1 && r != c->rank ? c->gone(r) : nullptr;
    if (how) c->fail(ncclRemoteError, "rank " + std::to_string(r) + " " + how);
  }
  *error = c->error != ncclSuccess ? c->error : c->met ? ncclSuccess : ncclInProgress;
  if (*error == ncclSuccess && c->late > 0) {
    *error = --c->late > 0 ? ncclInProgress : ncclSuccess;
    if (c->late == 0 && c->after) std::exchange(c->after, nullptr)();
  }
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  if (op != ncclSum) return refuse(ncclInvalidArgument, "ncclAllReduce: operation %d", (int)op);
  return begin(comm, {collective::ALL_REDUCE, count, type, 0}, from, to, stream);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return begin(comm, {collective::BROADCAST, count, type, root}, from, to, stream);
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  if (op != ncclSum) return refuse(ncclInvalidArgument, "ncclReduceScatter: operation %d", (int)op);
  return begin(comm, {collective::REDUCE_SCATTER, count, type, 0}, from, to, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return begin(comm, {collective::ALL_GATHER, count, type, 0}, from, to, stream);
}

ncclResult_t ncclGroupStart() {
  group_depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without a group");
  group_depth--;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  const shared c = of(comm);
  if (c->finalized) return refuse(ncclInvalidUsage, "ncclCommFinalize twice");
  c->finalized = true;
  c->late = 2;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const shared c = of(comm);
  if (!c->finalized || c->late > 0)
    cuda_emu::fail("ncclCommDestroy before ncclCommFinalize was through");
  c->mine().left = 1;
  delete (shared *)comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const shared c = of(comm);
  c->aborted = true;
  c->mine().left = 1;
  delete (shared *)comm;
  return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t r) {
  switch (r) {
    case ncclSuccess: return "no error";
    case ncclSystemError: return "a system call failed";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "a remote process has ended, or the network failed";
    case ncclInProgress: return "in progress";
    default: return "internal error";
  }
}

const char *ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

}  // extern "C"

const standin_function standin_nccl[] = {
    STANDIN(ncclGetVersion),         STANDIN(ncclGetUniqueId),
    STANDIN(ncclCommInitRankConfig), STANDIN(ncclCommGetAsyncError),
    STANDIN(ncclAllReduce),          STANDIN(ncclBroadcast),
    STANDIN(ncclCommFinalize),       STANDIN(ncclCommDestroy),
    STANDIN(ncclCommAbort),          STANDIN(ncclReduceScatter),
    STANDIN(ncclAllGather),          STANDIN(ncclGroupStart),
    STANDIN(ncclGroupEnd),           STANDIN(ncclGetErrorString),
    STANDIN(ncclGetLastError),       {nullptr, nullptr},
};
