// comm.c - the CPU's communicator: the ranks that MPI has started, or that have met and go by Gloo,
// summed by a thread beside the compute thread.
//
// That thread makes every call of MPI there is, or of Gloo. It takes collectives in the order in which they
// were queued, which is the same on all ranks, and sleeps until all ranks have come to one: MPI
// itself would spin, on a processor that another rank may need to get there. It then goes in
// pieces, since MPI takes a large message far slower than the same in parts. Sums are the library's, in f32
// where x is bf16; for the same ranks and sizes they are made in the same order.
#include "cpu/comm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { START_S = 600 };    // of MPI itself, which nobody watches, at most
enum { PIECE = 8 << 20 };  // bytes: of 128 MiB in one call, MPI took 11 times as long

typedef enum operation {
  START,
  ALL_REDUCE,
  BROADCAST,
  REDUCE_SCATTER,
  ALL_GATHER,
  FINISH
} operation;
static const char *const names[] = {"comm_open",      "all_reduce", "broadcast",
                                    "reduce_scatter", "all_gather", "comm_close"};

typedef struct job {
  operation op;
  void *x, *part;
  int64_t n;
  cft_dtype dtype;
  int from;
  struct job *next;
} job;

typedef struct cpu_comm {
  cft_comm base;
  const cft_collectives *table;  // MPI's or Gloo's. NULL: one rank, which has nothing to wait for
  const char *library;
  double timeout_s;
  char *in, *out;  // PIECE bytes each, the thread's

  pthread_t thread;
  pthread_mutex_t lock;  // of what stands below
  pthread_cond_t more, less;
  job *first, **last;
  int64_t queued, done;  // jobs
  cft_status failed;     // of the first job that did
  char why[512];
  bool left;  // at once: nobody waits, and the thread ends where it can
} cpu_comm;

// MPI starts once in a process, and never again; Gloo is kept to the same.
static bool started;

static const cft_meeting *meeting;

void cft_cpu_meet_by(const cft_meeting *m) { meeting = m; }

static cpu_comm *of(cft_comm *c) { return (cpu_comm *)c; }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- in the thread -------------------------------------------------------------------------

static cft_status of_library(const cpu_comm *c, operation op, int error) {
  char text[256];
  if (error == 0) return CFT_OK;
  c->table->text(error, text, sizeof text);
  return cft_fail(CFT_E_DEVICE, "%s: rank %d of %d: %s: %s", names[op], c->base.rank, c->base.size,
                  c->library, text);
}

static bool has_left(cpu_comm *c) {
  pthread_mutex_lock(&c->lock);
  bool left = c->left;
  pthread_mutex_unlock(&c->lock);
  return left;
}

// All ranks have come to this collective.
static cft_status meet(cpu_comm *c, operation op) {
  CFT_TRY(of_library(c, op, c->table->arrive()));
  const double begun = now();
  long sleep_ns = 0;
  for (int done = 0;;) {
    CFT_TRY(of_library(c, op, c->table->arrived(&done)));
    if (done) return CFT_OK;
    double waited = now() - begun;
    if (waited > c->timeout_s)
      return cft_fail(
          CFT_E_DEVICE,
          "%s: rank %d of %d: the other ranks did not come within %g s; one of them has "
          "died or stands still",
          names[op], c->base.rank, c->base.size, c->timeout_s);
    if (has_left(c)) return cft_fail(CFT_E_STATE, "%s: the communicator was left", names[op]);
    if (waited < 50e-6) continue;  // what is nearly there is not slept for
    if (sleep_ns < 500000) sleep_ns += 20000;
    nanosleep(&(struct timespec){.tv_nsec = sleep_ns}, NULL);
  }
}

static void widen(float *to, const bf16 *from, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = bf16_f32(from[i]);
}

static void narrow(bf16 *to, const float *from, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = f32_bf16(from[i]);
}

// What a sum is taken in, and how many bytes an element has there.
static cft_dtype wide_of(cft_dtype dtype) { return dtype == CFT_BF16 ? CFT_F32 : dtype; }

static cft_status all_reduce(cpu_comm *c, const job *j) {
  const cft_dtype wide = wide_of(j->dtype);
  const int64_t size = (int64_t)cft_dtype_bytes(j->dtype);
  const int64_t most = PIECE / (int64_t)cft_dtype_bytes(wide);
  for (int64_t at = 0; at < j->n; at += most) {
    char *x = (char *)j->x + at * size;
    int64_t n = cpu_min(most, j->n - at);
    if (wide == j->dtype) {
      CFT_TRY(of_library(c, j->op, c->table->sum(x, (int)n, wide)));
    } else {
      widen((float *)c->in, (bf16 *)x, n);
      CFT_TRY(of_library(c, j->op, c->table->sum(c->in, (int)n, wide)));
      narrow((bf16 *)x, (float *)c->in, n);
    }
  }
  return CFT_OK;
}

// A piece has as many elements of each rank's part.
static int64_t row_of_piece(const cpu_comm *c, int64_t bytes) {
  return cpu_max(PIECE / bytes / c->base.size, 1);
}

static cft_status reduce_scatter(cpu_comm *c, const job *j) {
  const cft_dtype wide = wide_of(j->dtype);
  const int64_t size = (int64_t)cft_dtype_bytes(j->dtype), ranks = c->base.size;
  const int64_t wide_size = (int64_t)cft_dtype_bytes(wide), most = row_of_piece(c, wide_size);
  for (int64_t at = 0; at < j->n; at += most) {
    int64_t n = cpu_min(most, j->n - at);
    for (int64_t r = 0; r < ranks; r++) {
      char *row = c->in + r * n * wide_size, *x = (char *)j->x + (r * j->n + at) * size;
      if (wide == j->dtype)
        memcpy(row, x, (size_t)(n * size));
      else
        widen((float *)row, (bf16 *)x, n);
    }
    CFT_TRY(of_library(c, j->op, c->table->sum_part(c->out, c->in, (int)n, wide)));
    char *part = (char *)j->part + at * size;
    if (wide == j->dtype)
      memcpy(part, c->out, (size_t)(n * size));
    else
      narrow((bf16 *)part, (float *)c->out, n);
  }
  return CFT_OK;
}

static cft_status all_gather(cpu_comm *c, const job *j) {
  const int64_t size = (int64_t)cft_dtype_bytes(j->dtype), most = row_of_piece(c, size);
  for (int64_t at = 0; at < j->n; at += most) {
    int64_t n = cpu_min(most, j->n - at);
    memcpy(c->in, (char *)j->part + at * size, (size_t)(n * size));
    CFT_TRY(of_library(c, j->op, c->table->gather(c->out, c->in, (int)(n * size))));
    for (int64_t r = 0; r < c->base.size; r++)
      memcpy((char *)j->x + (r * j->n + at) * size, c->out + r * n * size, (size_t)(n * size));
  }
  return CFT_OK;
}

static cft_status broadcast(cpu_comm *c, const job *j) {
  const int64_t bytes = j->n * (int64_t)cft_dtype_bytes(j->dtype);
  for (int64_t at = 0; at < bytes; at += PIECE)
    CFT_TRY(of_library(c, j->op,
                   c->table->broadcast((char *)j->x + at, (int)cpu_min(PIECE, bytes - at), j->from)));
  return CFT_OK;
}

static cft_status start(cpu_comm *c) {
  int rank = 0, size = 0;
  CFT_TRY(of_library(c, START, c->table->start(meeting, c->timeout_s, &rank, &size)));
  if (size != c->base.size || rank != c->base.rank)
    return cft_fail(
        CFT_E_DEVICE,
        "comm_open: %s says this is rank %d of %d, and its variables rank %d of %d; the "
        "ranks were started by another MPI's mpirun, or by an srun whose --mpi= is "
        "another (`srun --mpi=list` shows which there are)",
        c->library, rank, size, c->base.rank, c->base.size);
  return CFT_OK;
}

static cft_status run(cpu_comm *c, const job *j) {
  if (j->op == START) return start(c);
  CFT_TRY(meet(c, j->op));
  switch (j->op) {
    case ALL_REDUCE: return all_reduce(c, j);
    case BROADCAST: return broadcast(c, j);
    case REDUCE_SCATTER: return reduce_scatter(c, j);
    case ALL_GATHER: return all_gather(c, j);
    default: return of_library(c, FINISH, c->table->finish());
  }
}

// The next job; NULL where the communicator was left.
static job *take(cpu_comm *c) {
  pthread_mutex_lock(&c->lock);
  while (!c->first && !c->left) pthread_cond_wait(&c->more, &c->lock);
  job *j = c->left ? NULL : c->first;
  if (j && !(c->first = j->next)) c->last = &c->first;
  pthread_mutex_unlock(&c->lock);
  return j;
}

static void *work(void *comm) {
  cpu_comm *c = comm;
  bool over = false;
  for (job *j; !over && (j = take(c)) != NULL;) {
    const cft_status st = c->failed == CFT_OK ? run(c, j) : c->failed;
    over = j->op == FINISH;
    free(j);
    pthread_mutex_lock(&c->lock);
    if (st != CFT_OK && c->failed == CFT_OK) {
      c->failed = st;
      snprintf(c->why, sizeof c->why, "%s", cft_last_error());
    }
    c->done++;
    pthread_cond_broadcast(&c->less);
    pthread_mutex_unlock(&c->lock);
  }
  return NULL;
}

// ---- in the compute thread -----------------------------------------------------------------

static cft_status push(cpu_comm *c, job like) {
  job *j = malloc(sizeof *j);
  if (!j) return cft_fail(CFT_E_OOM, "%s: no memory", names[like.op]);
  *j = like;
  j->next = NULL;
  pthread_mutex_lock(&c->lock);
  *c->last = j;
  c->last = &j->next;
  c->queued++;
  pthread_cond_signal(&c->more);
  pthread_mutex_unlock(&c->lock);
  return CFT_OK;
}

cft_status cpu_comm_wait(cft_comm *comm) {
  cpu_comm *c = of(comm);
  if (!c->table) return CFT_OK;
  pthread_mutex_lock(&c->lock);
  while (c->done < c->queued) pthread_cond_wait(&c->less, &c->lock);
  const cft_status st = c->failed;
  pthread_mutex_unlock(&c->lock);
  return st == CFT_OK ? st : cft_fail(st, "%s", c->why);
}

int cpu_comm_failed(cft_comm *comm) {
  cpu_comm *c = of(comm);
  pthread_mutex_lock(&c->lock);
  int failed = c->failed != CFT_OK;
  pthread_mutex_unlock(&c->lock);
  return failed;
}

static cft_status queue(cpu_comm *c, job like) {
  CFT_TRY(push(c, like));
  return c->base.beside ? CFT_OK : cpu_comm_wait(&c->base);
}

// Between the ranks of MPI there is nothing to be named.
cft_status cpu_comm_new_id(cft_device *d, cft_comm_id *id) {
  (void)d;
  memset(id, 0, sizeof *id);
  return CFT_OK;
}

static void discard(cpu_comm *c) {
  for (job *j = c->first; j;) {
    job *next = j->next;
    free(j);
    j = next;
  }
  free(c->in);
  free(c->out);
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->more);
  pthread_cond_destroy(&c->less);
  free(c);
}

// Signals are for the thread that runs Lua.
static cft_status begin(cpu_comm *c) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&c->thread, NULL, work, c);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed ? cft_fail(CFT_E_OOM, "comm_open: no thread: %s", strerror(failed)) : CFT_OK;
}

// MPI has started, or has failed, or took too long: it cannot be told to stop then.
static cft_status begun(cpu_comm *c) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  const double patience = c->timeout_s < START_S ? c->timeout_s : START_S;
  until.tv_sec += (time_t)patience + 1;
  int late = 0;
  pthread_mutex_lock(&c->lock);
  while (c->done < c->queued && !late) late = pthread_cond_timedwait(&c->less, &c->lock, &until);
  const cft_status st = c->failed;
  pthread_mutex_unlock(&c->lock);
  if (late == ETIMEDOUT)
    return cft_fail(CFT_E_DEVICE, "comm_open: rank %d of %d: %s did not start within %g s",
                    c->base.rank, c->base.size, c->library, patience);
  return st == CFT_OK ? st : cft_fail(st, "%s", c->why);
}

static cft_status start_library(cpu_comm *c) {
  cft_status st, (*open)(const cft_collectives **, const char **) =
                     meeting ? cft_gloo_open : cft_mpi_open;
  if (started) return cft_fail(CFT_E_STATE, "comm_open: the CPU's ranks have met before in this process");
  CFT_GO(cft_context(open(&c->table, &c->library), "comm_open"));
  c->in = malloc(PIECE + 8 * (size_t)c->base.size);
  c->out = malloc(PIECE + 8 * (size_t)c->base.size);
  if (!c->in || !c->out) CFT_GO(cft_fail(CFT_E_OOM, "comm_open: no memory"));
  CFT_GO(push(c, (job){.op = START}));
  CFT_GO(begin(c));
  started = true;
  st = begun(c);
out:
  return st;
}

cft_status cpu_comm_open(cft_device *d, cft_comm **comm, const cft_comm_id *id, int rank, int size,
                         double timeout_s) {
  (void)id;
  cpu_comm *c = calloc(1, sizeof *c);
  if (!c) return cft_fail(CFT_E_OOM, "comm_open: no memory");
  c->base = (cft_comm){.device = d, .rank = rank, .size = size};
  c->timeout_s = timeout_s;
  c->last = &c->first;
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->more, NULL);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&c->less, &monotonic);
  pthread_condattr_destroy(&monotonic);
  const bool was_started = started;
  const cft_status st = size > 1 ? start_library(c) : CFT_OK;
  if (st == CFT_OK)
    *comm = &c->base;
  else if (started == was_started)  // else the thread has it, and MPI may hold that for ever
    discard(c);
  return st;
}

cft_status cpu_comm_close(cft_comm *comm, int at_once) {
  cpu_comm *c = of(comm);
  cft_status st = CFT_OK;
  if (c->table && at_once) {
    pthread_mutex_lock(&c->lock);
    c->left = true;
    pthread_cond_signal(&c->more);
    pthread_mutex_unlock(&c->lock);
    pthread_detach(c->thread);  // it may be in MPI, where nothing reaches it: what it has stays
    return CFT_OK;
  }
  if (c->table) {
    st = push(c, (job){.op = FINISH});
    if (st == CFT_OK) st = cpu_comm_wait(comm);
    pthread_join(c->thread, NULL);
  }
  discard(c);
  return st;
}

// ---- collectives ---------------------------------------------------------------------------

// Of one rank there is nothing to sum; of none to do.
static bool is_alone(const cpu_comm *c, int64_t n) { return !c->table || n == 0; }

cft_status cpu_all_reduce(cft_comm *c, cft_stream *s, void *x, int64_t n, cft_dtype dtype) {
  (void)s;
  if (is_alone(of(c), n)) return CFT_OK;
  return queue(of(c), (job){.op = ALL_REDUCE, .x = x, .n = n, .dtype = dtype});
}

cft_status cpu_broadcast(cft_comm *c, cft_stream *s, void *x, int64_t n, cft_dtype dtype,
                         int from) {
  (void)s;
  if (is_alone(of(c), n)) return CFT_OK;
  return queue(of(c), (job){.op = BROADCAST, .x = x, .n = n, .dtype = dtype, .from = from});
}

cft_status cpu_reduce_scatter(cft_comm *c, cft_stream *s, void *part, const void *x, int64_t n,
                              cft_dtype dtype) {
  (void)s;
  if (!is_alone(of(c), n))
    return queue(of(c),
                 (job){.op = REDUCE_SCATTER, .x = (void *)x, .part = part, .n = n, .dtype = dtype});
  if (part != x) memmove(part, x, (size_t)n * cft_dtype_bytes(dtype));
  return CFT_OK;
}

cft_status cpu_all_gather(cft_comm *c, cft_stream *s, void *x, const void *part, int64_t n,
                          cft_dtype dtype) {
  (void)s;
  if (!is_alone(of(c), n))
    return queue(of(c),
                 (job){.op = ALL_GATHER, .x = x, .part = (void *)part, .n = n, .dtype = dtype});
  if (part != x) memmove(x, part, (size_t)n * cft_dtype_bytes(dtype));
  return CFT_OK;
}

cft_status cpu_comm_group(cft_comm *c, int begin) {
  (void)c, (void)begin;  // the queue is one already
  return CFT_OK;
}
