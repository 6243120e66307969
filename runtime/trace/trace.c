// trace.c - a device's table with each entry wrapped, for as long as a trace lasts.
//
// Whatever the runtime asks of a device goes through its table, so that is the one place to look: a
// trace puts another table there, whose entries note the call around the device's own. Calls that a
// device makes of itself, inside of a kernel, are part of that kernel. Where it has no queue its
// work is done when a call returns; else it notes a moment of its stream before and behind each
// call, and is asked for their times when it has been waited for.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "trace_impl.h"

enum {
#define XX(name, args, kind) OP_##name,
  CFT_KERNEL_MAP(XX)
#undef XX
      OP_upload,
  OP_download,
  OP_copy,
  OP_zero,
  OP_all_reduce,
  OP_broadcast,
  OP_reduce_scatter,
  OP_all_gather,
  OPS
};

static const char *const names[OPS] = {
#define XX(name, args, kind) #name,
    CFT_KERNEL_MAP(XX)
#undef XX
        "upload",
    "download",
    "copy",
    "zero",
    "all_reduce",
    "broadcast",
    "reduce_scatter",
    "all_gather"};

static struct {
  cft_device *device;   // NULL: no trace is on
  cft_device own;       // its entries as they were
  cft_kernels kernels;  // those in their place
  pthread_t thread;
  int inside;  // a call of the device that goes on
  cft_traced *list;
  int64_t count, most, lost;
  int64_t known;  // calls whose times are known
  double zero;    // when the stream's moment 0 was
  cft_status failed;
  char why[512];
} trace;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// A moment of the stream; the first that cannot be had ends the noting.
static void moment(cft_stream *s, int64_t i) {
  if (!trace.device->moment || trace.failed) return;
  trace.failed = trace.device->moment(trace.device, s, i);
  if (trace.failed) snprintf(trace.why, sizeof trace.why, "%s", cft_last_error());
}

// A place for a call that is about to be made; NULL where it is not to be noted.
static cft_traced *enter(const cft_device *d, int op) {
  if (d != trace.device || trace.failed || !pthread_equal(pthread_self(), trace.thread))
    return NULL;
  if (trace.inside++) return NULL;
  if (trace.count == trace.most) {
    trace.lost++;
    return NULL;
  }
  cft_traced *c = &trace.list[trace.count];
  *c = (cft_traced){.op = op};
  return c;
}

static void begin(cft_traced *c, cft_stream *s) {
  if (!c) return;
  c->queued = c->begun = now();
  moment(s, 2 * (trace.count - trace.known) + 1);
}

static cft_status end(cft_traced *c, cft_stream *s, cft_status st) {
  if (trace.inside && pthread_equal(pthread_self(), trace.thread)) trace.inside--;
  if (!c) return st;
  c->returned = c->ended = now();
  moment(s, 2 * (trace.count - trace.known) + 2);
  trace.count += !trace.failed;
  return st;
}

// ---- the entries -------------------------------------------------------------------------------

#define XX(name, args, kind)                                                     \
  static cft_status traced_##name(cft_device *d, cft_stream *s, const args *a) { \
    cft_traced *c = enter(d, OP_##name);                                         \
    if (c) cft_work_##name(c, a);                                                \
    begin(c, s);                                                                 \
    return end(c, s, trace.own.kernels->name(d, s, a));                          \
  }
CFT_KERNEL_MAP(XX)
#undef XX

static void move(cft_traced *c, int64_t count, cft_dtype dtype, double passes, const char *unit) {
  if (!c) return;
  c->dtype = (int32_t)dtype;
  c->bytes = passes * (double)count * (double)cft_dtype_bytes(dtype);
  snprintf(c->shape, sizeof c->shape, "%lld%s", (long long)count, unit);
}

static cft_status upload(cft_device *d, cft_stream *s, void *to, const void *host, size_t bytes) {
  cft_traced *c = enter(d, OP_upload);
  move(c, (int64_t)bytes, CFT_U8, 1, " B");
  begin(c, s);
  return end(c, s, trace.own.upload(d, s, to, host, bytes));
}

static cft_status download(cft_device *d, cft_stream *s, void *host, const void *from,
                           size_t bytes) {
  cft_traced *c = enter(d, OP_download);
  move(c, (int64_t)bytes, CFT_U8, 1, " B");
  begin(c, s);
  return end(c, s, trace.own.download(d, s, host, from, bytes));
}

static cft_status copy(cft_device *d, cft_stream *s, void *to, const void *from, size_t bytes) {
  cft_traced *c = enter(d, OP_copy);
  move(c, (int64_t)bytes, CFT_U8, 2, " B");
  begin(c, s);
  return end(c, s, trace.own.copy(d, s, to, from, bytes));
}

static cft_status zero(cft_device *d, cft_stream *s, void *p, size_t bytes) {
  cft_traced *c = enter(d, OP_zero);
  move(c, (int64_t)bytes, CFT_U8, 1, " B");
  begin(c, s);
  return end(c, s, trace.own.zero(d, s, p, bytes));
}

static cft_status all_reduce(cft_comm *comm, cft_stream *s, void *x, int64_t n, cft_dtype dtype) {
  cft_traced *c = enter(comm->device, OP_all_reduce);
  move(c, n, dtype, 1, "");
  begin(c, s);
  return end(c, s, trace.own.all_reduce(comm, s, x, n, dtype));
}

static cft_status broadcast(cft_comm *comm, cft_stream *s, void *x, int64_t n, cft_dtype dtype,
                            int from) {
  cft_traced *c = enter(comm->device, OP_broadcast);
  move(c, n, dtype, 1, "");
  begin(c, s);
  return end(c, s, trace.own.broadcast(comm, s, x, n, dtype, from));
}

static cft_status reduce_scatter(cft_comm *comm, cft_stream *s, void *part, const void *x,
                                 int64_t n, cft_dtype dtype) {
  cft_traced *c = enter(comm->device, OP_reduce_scatter);
  move(c, n, dtype, 1 + comm->size, "");
  begin(c, s);
  return end(c, s, trace.own.reduce_scatter(comm, s, part, x, n, dtype));
}

static cft_status all_gather(cft_comm *comm, cft_stream *s, void *x, const void *part, int64_t n,
                             cft_dtype dtype) {
  cft_traced *c = enter(comm->device, OP_all_gather);
  move(c, n, dtype, 1 + comm->size, "");
  begin(c, s);
  return end(c, s, trace.own.all_gather(comm, s, x, part, n, dtype));
}

static void put_in_place(cft_device *d) {
#define XX(name, args, kind) trace.kernels.name = trace.own.kernels->name ? traced_##name : NULL;
  CFT_KERNEL_MAP(XX)
#undef XX
  d->kernels = &trace.kernels;
  d->upload = upload, d->download = download, d->copy = copy, d->zero = zero;
  d->graph_begin = NULL;  // of a graph's work no call would be seen
  if (!d->all_reduce) return;
  d->all_reduce = all_reduce, d->broadcast = broadcast;
  d->reduce_scatter = reduce_scatter, d->all_gather = all_gather;
}

static void put_back(cft_device *d) {
  d->kernels = trace.own.kernels;
  d->upload = trace.own.upload, d->download = trace.own.download;
  d->copy = trace.own.copy, d->zero = trace.own.zero;
  d->graph_begin = trace.own.graph_begin;
  d->all_reduce = trace.own.all_reduce, d->broadcast = trace.own.broadcast;
  d->reduce_scatter = trace.own.reduce_scatter, d->all_gather = trace.own.all_gather;
}

// ---- start and stop ----------------------------------------------------------------------------

cft_status cft_trace_start(cft_device *d, int64_t most) {
  if (trace.device)
    return cft_fail(CFT_E_STATE, "trace: one of %s is on already", trace.device->name);
  if (most < 1)
    return cft_fail(CFT_E_ARG, "trace: room for %lld calls; one at least", (long long)most);
  cft_traced *list =
      (uint64_t)most > SIZE_MAX / sizeof *list ? NULL : malloc((size_t)most * sizeof *list);
  if (!list) return cft_fail(CFT_E_OOM, "trace: no memory to note %lld calls", (long long)most);
  cft_status st = d->sync(d);  // the moments that follow are those of an idle stream
  if (st != CFT_OK) {
    free(list);
    return st;
  }
  free(trace.list);
  trace.list = list;
  trace.count = trace.lost = trace.known = 0;
  trace.most = most;
  trace.inside = 0;
  trace.failed = CFT_OK;
  trace.thread = pthread_self();
  trace.own = *d;
  trace.device = d;
  trace.zero = now();
  moment(d->stream(d), 0);
  if (!trace.failed) {
    put_in_place(d);
    return CFT_OK;
  }
  trace.device = NULL;
  return cft_fail(trace.failed, "trace: %s", trace.why);
}

static cft_status learn_times(cft_device *d) {
  CFT_TRY(d->sync(d));
  if (trace.failed) return cft_fail(trace.failed, "trace: %s", trace.why);
  for (int64_t i = trace.known; d->moment && i < trace.count; i++) {
    double begun, ended;
    CFT_TRY(d->moment_at(d, 2 * (i - trace.known) + 1, &begun));
    CFT_TRY(d->moment_at(d, 2 * (i - trace.known) + 2, &ended));
    trace.list[i].begun = trace.zero + begun;
    trace.list[i].ended = trace.zero + ended;
  }
  trace.known = trace.count;
  trace.zero = now();  // anew: a device counts from there in single precision
  moment(d->stream(d), 0);
  return CFT_OK;
}

cft_status cft_trace_sync(void) {
  if (!trace.device) return CFT_OK;
  cft_status st = learn_times(trace.device);
  if (st != CFT_OK && !trace.failed) {
    trace.failed = st;
    snprintf(trace.why, sizeof trace.why, "%s", cft_last_error());
  }
  if (st != CFT_OK) trace.count = trace.known;
  return st;
}

cft_status cft_trace_stop(void) {
  if (!trace.device) return CFT_OK;
  cft_status st = cft_trace_sync();
  put_back(trace.device);
  trace.device = NULL;
  return st;
}

int64_t cft_trace_calls(const cft_traced **list, int64_t *lost) {
  *list = trace.list;
  *lost = trace.lost;
  return trace.known;
}

const char *cft_trace_op(int op) { return op >= 0 && op < OPS ? names[op] : NULL; }
