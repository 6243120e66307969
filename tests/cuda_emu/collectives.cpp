// collectives.cpp - the CUDA device's collectives on the stand-in for NCCL: processes with an
// emulated GPU each, that sum and copy together, disagree, stand still and die.
//
//   collectives [--module libcft_cuda_emu.so]
//
// A rank is a fork, for which an alarm rings if it hangs. What it finds wrong is the text it sends.
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "harness.h"

world the_world;

extern "C" {
cft_status cft_cuda_open(cft_device **d, int index) __attribute__((weak));
void cuda_emu_set_order(unsigned) __attribute__((weak));
}
static cft_status (*open_cuda)(cft_device **, int) = cft_cuda_open;

constexpr double PATIENCE = 20;  // seconds that a rank waits where it need not wait
constexpr unsigned ALARM = 45;

// ---- ranks ---------------------------------------------------------------------------------

// What the ranks of a test share beside NCCL: the id, and whatever a test makes of the flags.
struct board {
  std::atomic<int> made, flag;
  cft_comm_id id;
};

struct rank_of {
  int rank, size;
  board *shared;
  int met = 0;
  cft_device *d = nullptr;
  cft_comm *c = nullptr;

  std::string open_device() {
    if (!d && open_cuda(&d, 0) != CFT_OK) return cft_last_error();
    return "";
  }

  // Joins by the id that rank 0 makes; `as` and `of` to lie about rank and size.
  cft_status join(double timeout_s = PATIENCE, int as = -1, int of = -1) {
    if (rank == 0 && !shared->made) {
      const cft_status st = d->comm_new_id(d, &shared->id);
      if (st != CFT_OK) return st;
      shared->made = 1;
    }
    while (!shared->made) usleep(100);
    return d->comm_open(d, &c, &shared->id, as < 0 ? rank : as, of < 0 ? size : of, timeout_s);
  }

  void meet() {  // all ranks
    shared->flag++;
    for (met += size; shared->flag < met;) usleep(100);
  }

  // Another communicator, by a new id. All ranks call it.
  cft_status join_again() {
    meet();
    if (rank == 0) d->comm_new_id(d, &shared->id);
    meet();
    return join();
  }

  // One of its own, where the rest of a test wants one to close.
  cft_status join_alone() {
    cft_comm_id own;
    const cft_status st = d->comm_new_id(d, &own);
    return st == CFT_OK ? d->comm_open(d, &c, &own, 0, 1, 1) : st;
  }
};

using work = std::function<std::string(rank_of &)>;

// What each rank says at its end; "" is good. One that was ended by a signal: which.
static std::vector<std::string> run_ranks(int size, const work &f) {
  board *shared = (board *)mmap(nullptr, sizeof(board), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  std::vector<int> pipes, pids;
  fflush(nullptr);
  for (int r = 0; r < size; r++) {
    int ends[2];
    if (pipe(ends) != 0) abort();
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(ALARM);
      rank_of me = {r, size, shared};
      std::string said = me.open_device();
      if (said.empty()) said = f(me);
      if (write(ends[1], said.data(), said.size()) < 0) _exit(1);
      _exit(0);
    }
    close(ends[1]);
    pipes.push_back(ends[0]);
    pids.push_back(pid);
  }
  std::vector<std::string> said((size_t)size);
  for (size_t r = 0; r < (size_t)size; r++) {
    char piece[1024];
    for (ssize_t n; (n = read(pipes[r], piece, sizeof piece)) > 0;)
      said[r].append(piece, (size_t)n);
    close(pipes[r]);
    int status = 0;
    waitpid(pids[r], &status, 0);
    if (WIFSIGNALED(status)) said[r] += "[signal " + std::to_string(WTERMSIG(status)) + "]";
  }
  munmap(shared, sizeof *shared);
  return said;
}

static void check_ranks(const std::string &name, int size, const work &f) {
  std::string why;
  int r = 0;
  for (const std::string &said : run_ranks(size, f)) {
    if (!said.empty()) why += (why.empty() ? "rank " : "; rank ") + std::to_string(r) + ": " + said;
    r++;
  }
  report(why.empty(), name, why);
}

// ---- what a rank does ----------------------------------------------------------------------

#define DO(call)                                                \
  do {                                                          \
    if ((call) != CFT_OK) return std::string(cft_last_error()); \
  } while (0)

// "" where the call fails with that status and says so.
static std::string refused(cft_status got, cft_status want, const char *says) {
  if (got == want && strstr(cft_last_error(), says)) return "";
  return text("wanted %s '%s', got %s '%s'", cft_status_name(want), says, cft_status_name(got),
              got == CFT_OK ? "" : cft_last_error());
}
#define REFUSED(call, status, says)                               \
  do {                                                            \
    const std::string wrong_ = refused((call), (status), (says)); \
    if (!wrong_.empty()) return wrong_;                           \
  } while (0)

static double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// An array on the device, `offset` elements behind an aligned address.
struct array {
  cft_device *d;
  cft_dtype type;
  int64_t n, offset;
  void *base = nullptr;

  array(const rank_of &r, int64_t count, cft_dtype t, int64_t at = 0)
      : d(r.d), type(t), n(count), offset(at) {
    d->alloc(d, &base, bytes(n + offset), CFT_MEM_OTHER);
  }
  ~array() { d->free(d, base, bytes(n + offset), CFT_MEM_OTHER); }
  size_t bytes(int64_t count) const { return (size_t)count * cft_dtype_bytes(type); }
  void *p() const { return (char *)base + bytes(offset); }
  cft_status put(const doubles &v) {
    return d->upload(d, nullptr, p(), stored(v, type).data(), bytes(n));
  }
  cft_status get(doubles *v) {
    std::vector<char> host(bytes(n));
    const cft_status st = d->download(d, nullptr, host.data(), p(), bytes(n));
    *v = loaded(host, type);
    return st;
  }
};

static double rounded(double v, cft_dtype t) {
  return t == CFT_BF16 ? bf16_to_float(float_to_bf16((float)v)) : (float)v;
}

// What rank r has of a test, as it is after storing.
static doubles of_rank(int r, int64_t n, cft_dtype t) {
  doubles v = values(n, 70 + (uint64_t)r);
  for (double &x : v) x = rounded(x, t);
  return v;
}

// The stand-in's sum: by rank, rounded to the dtype after each.
static doubles serial_sum(const std::vector<doubles> &all, cft_dtype t) {
  doubles sum = all[0];
  for (size_t r = 1; r < all.size(); r++)
    for (size_t i = 0; i < sum.size(); i++) sum[i] = rounded((float)sum[i] + (float)all[r][i], t);
  return sum;
}

static std::string differs(const doubles &got, const doubles &want, const char *what) {
  for (size_t i = 0; i < want.size(); i++)
    if (got[i] != want[i]) return text("%s[%zu] is %.9g, wanted %.9g", what, i, got[i], want[i]);
  return "";
}

// ---- sums and copies -----------------------------------------------------------------------

static void test_values(int size) {
  for (cft_dtype t : {CFT_F32, CFT_BF16})
    check_ranks(
        text("all_reduce and broadcast in %s, %d ranks, odd sizes", cft_dtype_name(t), size), size,
        [=](rank_of &me) -> std::string {
          DO(me.join());
          for (int64_t n : {1, 3, 255, 4097, 100003})
            for (int64_t offset : {0, 1}) {
              array x(me, n, t, offset);
              doubles got;
              std::vector<doubles> all;
              for (int r = 0; r < size; r++) all.push_back(of_rank(r, n, t));
              DO(x.put(all[(size_t)me.rank]));
              DO(me.d->all_reduce(me.c, nullptr, x.p(), n, t));
              DO(x.get(&got));
              std::string wrong = differs(got, serial_sum(all, t), "sum");
              const int from = (int)(n % size);
              if (wrong.empty()) {
                DO(x.put(all[(size_t)me.rank]));
                DO(me.d->broadcast(me.c, nullptr, x.p(), n, t, from));
                DO(x.get(&got));
                wrong = differs(got, all[(size_t)from], "copy");
              }
              if (!wrong.empty()) return text("n = %ld: ", (long)n) + wrong;
            }
          DO(me.d->all_reduce(me.c, nullptr, nullptr, 0, t));  // nothing to sum
          DO(me.d->comm_close(me.c, 0));
          return "";
        });
}

// Several in one stream, kernels before, between and after, nothing waited for but the end; in
// orders of the emulator's. Coefficients are powers of two: each line rounds once.
static void test_in_flight(int size) {
  check_ranks(text("five collectives and kernels in flight, %d ranks, four orders", size), size,
              [=](rank_of &me) -> std::string {
                constexpr int64_t n = 5003;
                DO(me.join());
                for (unsigned order = 0; order < 4; order++) {
                  if (the_world.set_order) the_world.set_order(order);
                  std::vector<doubles> x, y;
                  for (int r = 0; r < size; r++) {
                    x.push_back(of_rank(r, n, CFT_F32));
                    y.push_back(of_rank(r + 8, n, CFT_F32));
                  }
                  array dx(me, n, CFT_F32), dy(me, n, CFT_F32);
                  DO(dx.put(x[(size_t)me.rank]));
                  DO(dy.put(y[(size_t)me.rank]));
                  const auto add = [&](array &to, const array &from, double alpha) {
                    const cft_axpby_args a = {to.p(), from.p(), n, alpha, 1, CFT_F32, CFT_F32};
                    return me.d->kernels->axpby(me.d, nullptr, &a);
                  };
                  const auto added = [&](std::vector<doubles> &to, const std::vector<doubles> &from,
                                         double alpha) {
                    for (int r = 0; r < size; r++)
                      for (size_t i = 0; i < (size_t)n; i++)
                        to[(size_t)r][i] = (float)(alpha * from[(size_t)r][i] + to[(size_t)r][i]);
                  };
                  const auto summed = [&](std::vector<doubles> &v) {
                    v.assign((size_t)size, serial_sum(v, CFT_F32));
                  };
                  DO(add(dx, dy, 0.5));
                  DO(me.d->all_reduce(me.c, nullptr, dx.p(), n, CFT_F32));
                  DO(me.d->all_reduce(me.c, nullptr, dy.p(), n, CFT_F32));
                  DO(add(dy, dx, 2));
                  DO(me.d->all_reduce(me.c, nullptr, dy.p(), n, CFT_F32));
                  DO(add(dx, dy, 0.25));
                  DO(me.d->broadcast(me.c, nullptr, dx.p(), n, CFT_F32, size - 1));
                  DO(me.d->all_reduce(me.c, nullptr, dx.p(), n, CFT_F32));
                  DO(add(dy, dx, -1));
                  added(x, y, 0.5);
                  summed(x);
                  summed(y);
                  added(y, x, 2);
                  summed(y);
                  added(x, y, 0.25);
                  x.assign((size_t)size, doubles(x[(size_t)size - 1]));
                  summed(x);
                  added(y, x, -1);
                  doubles got_x, got_y;
                  DO(dx.get(&got_x));
                  DO(dy.get(&got_y));
                  std::string wrong = differs(got_x, x[(size_t)me.rank], "x");
                  if (wrong.empty()) wrong = differs(got_y, y[(size_t)me.rank], "y");
                  if (!wrong.empty()) return text("order %u: ", order) + wrong;
                }
                DO(me.d->comm_close(me.c, 0));
                return "";
              });
}

// A sum beside kernels that neither make nor read its tensor; it is made before, and read and written
// after `comm_wait`. Then a sum in the stream's order, whose tensor is overwritten at once.
static void test_beside() {
  check_ranks("a sum beside other kernels, and one that a kernel follows, 2 ranks, six orders", 2,
              [](rank_of &me) -> std::string {
                constexpr int64_t n = 3001;
                DO(me.join());
                for (unsigned order = 0; order < 6; order++) {
                  if (the_world.set_order) the_world.set_order(order);
                  array x(me, n, CFT_F32), y(me, n, CFT_F32);
                  DO(x.put(doubles(n, 1.0 + me.rank)));
                  DO(y.put(doubles(n, 5)));
                  const auto add = [&](array &to, const array &from, double alpha, double beta) {
                    const cft_axpby_args a = {to.p(), from.p(), n, alpha, beta, CFT_F32, CFT_F32};
                    return me.d->kernels->axpby(me.d, nullptr, &a);
                  };
                  DO(add(x, x, 1, 1));  // 2, 4
                  me.c->beside = 1;
                  DO(me.d->all_reduce(me.c, nullptr, x.p(), n, CFT_F32));  // 6
                  me.c->beside = 0;
                  for (int i = 0; i < 3; i++) DO(add(y, y, 1, 1));  // 40
                  DO(me.d->comm_wait(me.c));
                  DO(add(y, x, 1, 1));                                     // 46
                  DO(add(x, y, 1, 0));                                     // 46
                  DO(me.d->all_reduce(me.c, nullptr, y.p(), n, CFT_F32));  // 92
                  DO(add(x, y, 1, 1));                                     // 138
                  DO(add(y, x, 1, 0));                                     // 138
                  doubles got_x, got_y;
                  DO(x.get(&got_x));
                  DO(y.get(&got_y));
                  std::string wrong = differs(got_x, doubles(n, 138), "x");
                  if (wrong.empty()) wrong = differs(got_y, doubles(n, 138), "y");
                  if (!wrong.empty()) return text("order %u: ", order) + wrong;
                }
                DO(me.d->comm_close(me.c, 0));
                return "";
              });
}

static void test_again() {
  check_ranks("closed and opened again, by a new id; two at once", 2,
              [](rank_of &me) -> std::string {
                DO(me.join());
                DO(me.d->comm_close(me.c, 0));
                array x(me, 7, CFT_F32);
                DO(x.put(doubles(7, 1.0)));
                DO(me.join_again());
                cft_comm *first = me.c;
                DO(me.join_again());
                DO(me.d->all_reduce(first, nullptr, x.p(), 7, CFT_F32));
                DO(me.d->all_reduce(me.c, nullptr, x.p(), 7, CFT_F32));
                DO(me.d->comm_close(first, 0));
                DO(me.d->comm_close(me.c, 0));
                doubles got;
                DO(x.get(&got));
                return differs(got, doubles(7, 4.0), "x");
              });
}

// ---- what is refused -----------------------------------------------------------------------

// Two ranks that do not go together: whichever comes second is refused with those words, and the
// first waits in vain.
static void check_second_refused(const char *name, const char *says,
                                 const std::function<cft_status(rank_of &)> &join) {
  const std::vector<std::string> said = run_ranks(2, [&](rank_of &me) -> std::string {
    const cft_status st = join(me);
    return std::string(cft_status_name(st)) + ": " + (st == CFT_OK ? "opened" : cft_last_error());
  });
  const auto has = [&](size_t r, const char *words) {
    return said[r].find(cft_status_name(CFT_E_DEVICE)) == 0 &&
           said[r].find(words) != std::string::npos;
  };
  const char *const late = "did not come within 0.5 s";
  report((has(0, late) && has(1, says)) || (has(1, late) && has(0, says)), name,
         "rank 0: " + said[0] + "; rank 1: " + said[1]);
}

static void test_opening() {
  check_second_refused("opening: sizes that differ", "others as of",
                       [](rank_of &me) { return me.join(0.5, me.rank, 2 + me.rank); });
  check_second_refused("opening: a rank twice", "there is a rank 1 already",
                       [](rank_of &me) { return me.join(0.5, 1); });
  check_ranks("opening: a rank that there is not, an id that nobody made", 1,
              [](rank_of &me) -> std::string {
                REFUSED(me.join(1, 3, 2), CFT_E_DEVICE,
                        "comm_open: rank 3 of 2: NCCL: invalid argument: rank 3 of 2");
                memset(me.shared->id.bytes, 'x', sizeof me.shared->id.bytes);
                REFUSED(me.join(1), CFT_E_DEVICE, "an id that nobody made");
                return "";
              });
  check_ranks("opening: a rank does not come", 2, [](rank_of &me) -> std::string {
    if (me.rank == 1) return "";
    REFUSED(me.join(0.3), CFT_E_DEVICE, "rank 0 of 2: the other ranks did not come within 0.3 s");
    return "";
  });
  check_ranks("opening: a rank dies while others are awaited", 3, [](rank_of &me) -> std::string {
    if (me.rank == 2) return "";
    if (me.rank == 1) {
      me.join(0.5);  // makes itself known, gives up, and is no more
      return "";
    }
    REFUSED(me.join(10), CFT_E_DEVICE, "rank 1 has");
    return "";
  });
  check_ranks("a library that is missing, or too old", 1, [](rank_of &me) -> std::string {
    setenv("CUDA_EMU_WITHOUT", "nccl", 1);
    REFUSED(me.join(), CFT_E_DEVICE, "comm_new_id: libnccl.so.2 is not on this machine: ");
    REFUSED(me.join(), CFT_E_DEVICE,
            "; pip's nvidia-nccl-cu13 (cu12) or the package libnccl2 has it");
    unsetenv("CUDA_EMU_WITHOUT");
    setenv("CUDA_EMU_NCCL_VERSION", "21003", 1);
    REFUSED(me.join(), CFT_E_DEVICE, "libnccl.so.2 is version 2.10.3; 2.14 or newer is wanted");
    unsetenv("CUDA_EMU_NCCL_VERSION");
    DO(me.join());
    DO(me.d->comm_close(me.c, 0));
    return "";
  });
}

static void test_arguments() {
  check_ranks(
      "what NCCL refuses: NULL, host memory, a rank that there is not; a dtype", 1,
      [](rank_of &me) -> std::string {
        float host[4] = {};
        array x(me, 4, CFT_F32);
        DO(x.put(doubles(4, 1.0)));
        DO(me.join());
        REFUSED(me.d->all_reduce(me.c, nullptr, x.p(), 4, CFT_F16), CFT_E_UNSUPPORTED,
                "no cuda kernel for all_reduce in f16");
        REFUSED(me.d->all_reduce(me.c, nullptr, nullptr, 4, CFT_F32), CFT_E_DEVICE,
                "a buffer is NULL");
        REFUSED(
            me.d->all_reduce(me.c, nullptr, x.p(), 4, CFT_F32), CFT_E_STATE,
            "all_reduce: rank 0 of 1: the communicator has failed before: NCCL: invalid argument");
        REFUSED(me.d->comm_close(me.c, 0), CFT_E_STATE, "has failed before");
        DO(me.join());
        REFUSED(me.d->broadcast(me.c, nullptr, host, 4, CFT_F32, 0), CFT_E_DEVICE,
                "broadcast: rank 0 of 1: NCCL: invalid argument: ncclBroadcast: a buffer is not "
                "device memory");
        DO(me.d->comm_close(me.c, 1));
        DO(me.join());
        REFUSED(me.d->broadcast(me.c, nullptr, x.p(), 4, CFT_F32, 1), CFT_E_DEVICE,
                "root 1 of 1 ranks");
        DO(me.d->comm_close(me.c, 1));
        doubles got;
        DO(x.get(&got));  // the device lives on
        return "";
      });
}

static void test_mismatch() {
  struct {
    const char *name, *says;
    work wrong;  // what rank 1 does in place of an all_reduce of 9 f32
  } rows[] = {
      {"another count", "the sum of 8 f32",
       [](rank_of &me) -> std::string {
         array x(me, 8, CFT_F32);
         DO(x.put(doubles(8, 1.0)));
         DO(me.d->all_reduce(me.c, nullptr, x.p(), 8, CFT_F32));
         REFUSED(me.d->sync(me.d), CFT_E_DEVICE,
                 "NCCL: invalid usage: rank 1 wants the sum of 8 f32");
         return "";
       }},
      {"another dtype", "the sum of 9 bf16",
       [](rank_of &me) -> std::string {
         array x(me, 9, CFT_BF16);
         DO(x.put(doubles(9, 1.0)));
         DO(me.d->all_reduce(me.c, nullptr, x.p(), 9, CFT_BF16));
         REFUSED(me.d->sync(me.d), CFT_E_DEVICE, "invalid usage");
         return "";
       }},
      {"another collective", "a copy of 9 f32 from 1",
       [](rank_of &me) -> std::string {
         array x(me, 9, CFT_F32);
         DO(x.put(doubles(9, 1.0)));
         DO(me.d->broadcast(me.c, nullptr, x.p(), 9, CFT_F32, 1));
         REFUSED(me.d->sync(me.d), CFT_E_DEVICE, "invalid usage");
         return "";
       }},
  };
  for (const auto &row : rows)
    check_ranks(text("ranks that disagree: %s", row.name), 2, [&](rank_of &me) -> std::string {
      DO(me.join());
      if (me.rank == 1) return row.wrong(me);
      array x(me, 9, CFT_F32);
      DO(x.put(doubles(9, 1.0)));
      DO(me.d->all_reduce(me.c, nullptr, x.p(), 9, CFT_F32));
      REFUSED(me.d->sync(me.d), CFT_E_DEVICE, row.says);
      doubles got;
      REFUSED(x.get(&got), CFT_E_STATE, "has failed before");  // until it is closed
      DO(me.d->comm_close(me.c, 1));
      DO(x.get(&got));
      return "";
    });
}

// ---- ranks that die or stand still ---------------------------------------------------------

// Rank 1 of 3 ends when all have opened; the others do this, and must be told within seconds.
static void test_death(const char *name, const work &f) {
  check_ranks(text("a rank dies: %s", name), 3, [&](rank_of &me) -> std::string {
    DO(me.join());
    if (me.rank == 1) _exit(0);
    const double begun = seconds();
    const std::string wrong = f(me);
    if (!wrong.empty()) return wrong;
    const double took = seconds() - begun;
    DO(me.d->comm_close(me.c, 1));
    DO(me.d->sync(me.d));
    return took < PATIENCE / 2 ? "" : text("told after %.1f s", took);
  });
}

static void test_deaths() {
  // Of the two that are left one learns of the other's leaving, too, where that is sooner.
  const char *const says = " of 3: NCCL: a remote process has ended, or the network failed: rank ";
  test_death("sync answers", [=](rank_of &me) -> std::string {
    array x(me, 1000, CFT_F32);
    DO(x.put(doubles(1000, 1.0)));
    DO(me.d->all_reduce(me.c, nullptr, x.p(), 1000, CFT_F32));
    REFUSED(me.d->sync(me.d), CFT_E_DEVICE, says);
    return "";
  });
  test_death("reading answers", [=](rank_of &me) -> std::string {
    array x(me, 1000, CFT_F32);
    doubles got;
    DO(x.put(doubles(1000, 1.0)));
    DO(me.d->broadcast(me.c, nullptr, x.p(), 1000, CFT_F32, 1));
    REFUSED(x.get(&got), CFT_E_DEVICE, says);
    return "";
  });
  test_death("an upload that wants a slot answers", [=](rank_of &me) -> std::string {
    array x(me, 3 << 20, CFT_F32);
    const doubles v(3 << 20, 1.0);
    DO(me.d->all_reduce(me.c, nullptr, x.p(), 1000, CFT_F32));
    REFUSED(x.put(v), CFT_E_DEVICE, says);
    return "";
  });
  test_death("trim does not hide it", [](rank_of &me) -> std::string {
    array x(me, 1000, CFT_F32);
    DO(x.put(doubles(1000, 1.0)));
    DO(me.d->all_reduce(me.c, nullptr, x.p(), 1000, CFT_F32));
    me.d->trim(me.d);
    REFUSED(me.d->sync(me.d), CFT_E_STATE, "has failed before: NCCL: a remote process has ended");
    return "";
  });
  test_death("set_autotune does not wait for it", [](rank_of &me) -> std::string {
    array x(me, 1000, CFT_F32);
    DO(x.put(doubles(1000, 1.0)));
    me.d->set_autotune(me.d, 1);
    DO(me.d->all_reduce(me.c, nullptr, x.p(), 1000, CFT_F32));
    me.d->set_autotune(me.d, 0);
    REFUSED(me.d->sync(me.d), CFT_E_STATE, "has failed before: NCCL: a remote process has ended");
    return "";
  });
  check_ranks("a rank dies: two communicators wait for it", 2, [](rank_of &me) -> std::string {
    DO(me.join());
    cft_comm *first = me.c;
    DO(me.join_again());
    if (me.rank == 1) _exit(0);
    array x(me, 10, CFT_F32);
    DO(x.put(doubles(10, 1.0)));
    DO(me.d->all_reduce(first, nullptr, x.p(), 10, CFT_F32));
    DO(me.d->all_reduce(me.c, nullptr, x.p(), 10, CFT_F32));
    REFUSED(me.d->sync(me.d), CFT_E_DEVICE, "sync: rank 0 of 2: NCCL: a remote process has ended");
    DO(me.d->comm_close(first, 1));
    REFUSED(me.d->sync(me.d), CFT_E_STATE, "has failed before");
    DO(me.d->comm_close(me.c, 1));
    DO(me.d->sync(me.d));
    return "";
  });
  setenv("CFT_CACHE", "", 1);  // so that no choice of an earlier run is found, and none is kept
  test_death("a matmul that is timed does not wait for it", [](rank_of &me) -> std::string {
    array x(me, 64, CFT_F32), y(me, 64, CFT_F32);
    DO(x.put(doubles(64, 1.0)));
    DO(me.d->all_reduce(me.c, nullptr, x.p(), 64, CFT_F32));
    cft_matmul_args a = {};
    a.c = y.p(), a.a = a.b = x.p();
    a.m = a.n = a.k = a.c_stride = a.a_stride = a.b_stride = 8;
    a.dtype = a.c_dtype = CFT_F32;
    DO(me.d->kernels->matmul(me.d, nullptr, &a));
    REFUSED(me.d->sync(me.d), CFT_E_STATE, "has failed before");
    return "";
  });
  // Where candidates could not be timed, the sums of a are made apart. That is seen by a bf16 that
  // is rounded once: the epilogue rounds the sum, and then what it is added to.
  test_death("a matmul with sums that cannot be timed makes them apart",
             [](rank_of &me) -> std::string {
               array x(me, 64, CFT_F32), dy(me, 2, CFT_BF16), in(me, 2, CFT_BF16),
                   dw(me, 1, CFT_BF16), db(me, 1, CFT_BF16);
               DO(x.put(doubles(64, 1.0)));
               DO(dy.put({0x1p-8, 0x1p-17}));
               DO(in.put({1, 1}));
               DO(db.put({1}));
               me.d->set_autotune(me.d, 1);
               DO(me.d->all_reduce(me.c, nullptr, x.p(), 64, CFT_F32));
               cft_matmul_args a = {};
               a.c = dw.p(), a.a = dy.p(), a.b = in.p(), a.a_sum = db.p();
               a.m = a.n = a.c_stride = a.a_stride = a.b_stride = a.trans_a = a.a_sum_beta = 1;
               a.k = 2, a.dtype = a.c_dtype = CFT_BF16;
               DO(me.d->kernels->matmul(me.d, nullptr, &a));
               REFUSED(me.d->sync(me.d), CFT_E_STATE, "has failed before");
               DO(me.d->comm_close(me.c, 1));
               DO(me.join_alone());
               doubles got;
               DO(db.get(&got));
               return differs(got, {1 + 0x1p-7}, "db");
             });
  unsetenv("CFT_CACHE");
  setenv("CFT_SYNC", "1", 1);
  test_death("with CFT_SYNC=1 the collective answers", [=](rank_of &me) -> std::string {
    array x(me, 1000, CFT_F32);
    DO(x.put(doubles(1000, 1.0)));
    REFUSED(me.d->all_reduce(me.c, nullptr, x.p(), 1000, CFT_F32), CFT_E_DEVICE, says);
    return "";
  });
  unsetenv("CFT_SYNC");
  test_death("a close answers", [=](rank_of &me) -> std::string {
    array x(me, 1000, CFT_F32);
    DO(x.put(doubles(1000, 1.0)));
    DO(me.d->all_reduce(me.c, nullptr, x.p(), 1000, CFT_F32));
    REFUSED(me.d->comm_close(me.c, 0), CFT_E_DEVICE, says);
    DO(me.join_alone());
    return "";
  });
}

static void test_standstill() {
  check_ranks("a rank stands still: the wait ends, and so does the collective", 2,
              [](rank_of &me) -> std::string {
                DO(me.join(0.4));
                if (me.rank == 1) {
                  while (!me.shared->flag) usleep(1000);
                  DO(me.d->comm_close(me.c, 1));
                  return "";
                }
                array x(me, 10, CFT_F32);
                DO(x.put(doubles(10, 1.0)));
                DO(me.d->all_reduce(me.c, nullptr, x.p(), 10, CFT_F32));
                const double begun = seconds();
                const std::string wrong =
                    refused(me.d->sync(me.d), CFT_E_DEVICE,
                            "sync: rank 0 of 2: a collective was not done by all ranks within 0.4 "
                            "s; one of them has died or stands still");
                me.shared->flag = 1;
                if (!wrong.empty()) return wrong;
                if (seconds() - begun < 0.39) return "too early";
                DO(me.d->comm_close(me.c, 1));
                DO(x.put(doubles(10, 1.0)));
                return "";
              });
  check_ranks("an abort waits for nobody, and tells the others", 2, [](rank_of &me) -> std::string {
    DO(me.join());
    array x(me, 10, CFT_F32);
    DO(x.put(doubles(10, 1.0)));
    DO(me.d->all_reduce(me.c, nullptr, x.p(), 10, CFT_F32));
    if (me.rank == 0) {
      DO(me.d->comm_close(me.c, 1));
      DO(me.d->sync(me.d));
      return "";
    }
    REFUSED(me.d->sync(me.d), CFT_E_DEVICE, "rank 0 has left");
    DO(me.d->comm_close(me.c, 1));
    return "";
  });
}

int main(int argc, char **argv) {
  the_world.set_order = cuda_emu_set_order;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--module") || i + 1 == argc) {
      fprintf(stderr, "usage: %s [--module libcft_cuda_emu.so]\n", argv[0]);
      return 2;
    }
    void *m = dlopen(argv[++i], RTLD_NOW | RTLD_GLOBAL);
    if (!m) {
      printf("FAIL  %s\n", dlerror());
      return 1;
    }
    *(void **)&open_cuda = dlsym(m, CFT_CUDA_OPEN_SYMBOL);
    *(void **)&the_world.set_order = dlsym(m, "cuda_emu_set_order");
  }
  for (int size : {1, 2, 3}) test_values(size);
  for (int size : {2, 3}) test_in_flight(size);
  test_beside();
  test_again();
  test_opening();
  test_arguments();
  test_mismatch();
  test_deaths();
  test_standstill();
  printf("%d passed, %d failed, %d skipped\n", the_world.passed, the_world.failed,
         the_world.skipped);
  return the_world.failed != 0;
}
