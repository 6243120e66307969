// device.c - the CPU as a device: counted memory, copies, and a description of what it is.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arena.h"
#include "comm.h"
#include "cpu.h"

// ---- memory --------------------------------------------------------------------------------

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cft_memory_use use;  // what is in use, without what the arena keeps
static int64_t fail_in;     // allocations until one fails; 0 = none will

void cft_cpu_fail_alloc(int64_t nth) {
  pthread_mutex_lock(&lock);
  fail_in = nth;
  pthread_mutex_unlock(&lock);
}

static void count(cft_memory_class why, int64_t bytes) {
  use.bytes[why] += bytes;
  if (why != CFT_MEM_CACHE) use.total += bytes;
  if (use.total > use.peak) use.peak = use.total;
}

// *used: how many of the bytes, from the first on, are not known to be zero.
static cft_status take(void **p, size_t bytes, cft_memory_class why, size_t *used) {
  *p = NULL;
  pthread_mutex_lock(&lock);
  int64_t held = use.total + use.bytes[CFT_MEM_CACHE];
  int ordered = fail_in > 0 && --fail_in == 0;
  // Beyond the limit the system would give addresses now and kill the process at their first use.
  if (!ordered) *p = cft_arena_take(bytes, (size_t)use.limit, used);
  if (*p != NULL) count(why, (int64_t)bytes);
  pthread_mutex_unlock(&lock);
  if (*p == NULL)
    return cft_fail(CFT_E_OOM, "cpu: no memory for %zu bytes; %lld are in use of %lld", bytes,
                    (long long)held, (long long)use.limit);
  return CFT_OK;
}

static cft_status cpu_alloc(cft_device *d, void **p, size_t bytes, cft_memory_class why) {
  (void)d;
  size_t used;
  return take(p, bytes, why, &used);
}

static void cpu_free(cft_device *d, void *p, size_t bytes, cft_memory_class why) {
  (void)d;
  if (p == NULL) return;
  pthread_mutex_lock(&lock);
  cft_arena_give(p);
  count(why, -(int64_t)bytes);
  pthread_mutex_unlock(&lock);
}

static void cpu_memory(cft_device *d, cft_memory_use *out, int reset_peak) {
  (void)d;
  pthread_mutex_lock(&lock);
  if (reset_peak) use.peak = use.total;
  *out = use;
  out->reserved = (int64_t)cft_arena_reserved();
  int64_t used = use.total + use.bytes[CFT_MEM_CACHE];
  if (out->reserved > used) out->bytes[CFT_MEM_CACHE] += out->reserved - used;
  pthread_mutex_unlock(&lock);
}

static void cpu_trim(cft_device *d) {
  (void)d;
  pthread_mutex_lock(&lock);
  cft_arena_trim();
  pthread_mutex_unlock(&lock);
}

// What this process may take: the machine's memory, or less in a container.
static int64_t memory_limit(void) {
  int64_t limit = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  const char *const files[] = {"/sys/fs/cgroup/memory.max",                     // version 2
                               "/sys/fs/cgroup/memory/memory.limit_in_bytes"};  // version 1
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    long long bytes;
    FILE *f = fopen(files[i], "r");
    if (f == NULL) continue;
    if (fscanf(f, "%lld", &bytes) == 1 && bytes > 0 && bytes < limit) limit = bytes;
    fclose(f);
  }
  return limit;
}

// ---- copies --------------------------------------------------------------------------------

static const size_t PIECE = 1 << 18;

static void copy_bytes(char *to, const char *from, size_t bytes) {
  PARALLEL((int64_t)(bytes / 8))
  for (size_t at = 0; at < bytes; at += PIECE)
    memcpy(to + at, from + at, bytes - at < PIECE ? bytes - at : PIECE);
}

static cft_status cpu_upload(cft_device *d, cft_stream *s, void *to, const void *host,
                             size_t bytes) {
  (void)d, (void)s;
  copy_bytes(to, host, bytes);
  return CFT_OK;
}

static cft_status cpu_copy(cft_device *d, cft_stream *s, void *to, const void *from, size_t bytes) {
  return cpu_upload(d, s, to, from, bytes);
}

static cft_status cpu_zero(cft_device *d, cft_stream *s, void *p, size_t bytes) {
  (void)d, (void)s;
  PARALLEL((int64_t)(bytes / 8))
  for (size_t at = 0; at < bytes; at += PIECE)
    memset((char *)p + at, 0, bytes - at < PIECE ? bytes - at : PIECE);
  return CFT_OK;
}

// Moments and gradients are zeros until the first optimizer step: what the system has just given
// is left alone until then, since its first touch is what takes time.
static cft_status cpu_alloc_zeros(cft_device *d, void **p, size_t bytes, cft_memory_class why) {
  size_t used;
  CFT_TRY(take(p, bytes, why, &used));
  return cpu_zero(d, NULL, *p, used);
}

// No row ever depends on others; in generation's order few rows are read faster, and many slower.
int cft_cpu_rows_alone;

static int cpu_set_rows_alone(cft_device *d, int on) {
  (void)d;
  int was = cft_cpu_rows_alone;
  cft_cpu_rows_alone = on != 0;
  return was;
}

// Kernels have run when their call returns: there is no queue and nothing to wait for.
static cft_stream *cpu_stream(cft_device *d) {
  (void)d;
  return NULL;
}

static cft_status cpu_sync(cft_device *d) {
  (void)d;
  return CFT_OK;
}

// ---- the device ----------------------------------------------------------------------------

static char description[96];
static cft_device cpu;

static void describe(void) {
  const char *isa = cft_cpu_isa();
  int n = cft_cpu_threads(), avx512 = strcmp(isa, "base") != 0 && strcmp(isa, "avx2") != 0;
  int bf16_dots = avx512 && cft_cpu_has("avx512bf16"), amx = avx512 && cft_cpu_has("amx");
  cpu.fast_bf16 = strcmp(isa, "avx512bf16") == 0 || strcmp(isa, "amx") == 0;
  snprintf(description, sizeof description, "%d thread%s, %s%s%s", n, n == 1 ? "" : "s",
           avx512                     ? "AVX-512"
           : strcmp(isa, "avx2") == 0 ? "AVX2"
                                      : "no vector extensions beyond the base",
           bf16_dots ? " with bf16" : "", amx ? " (AMX)" : "");
}

static cft_device cpu = {
    .name = "cpu",
    .description = description,
    .host_memory = 1,
    .kernels = &cft_cpu_kernels,
    .alloc = cpu_alloc,
    .alloc_zeros = cpu_alloc_zeros,
    .free = cpu_free,
    .memory = cpu_memory,
    .trim = cpu_trim,
    .upload = cpu_upload,
    .download = cpu_upload,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .set_rows_alone = cpu_set_rows_alone,
    .stream = cpu_stream,
    .sync = cpu_sync,
    .comm_new_id = cpu_comm_new_id,
    .comm_open = cpu_comm_open,
    .all_reduce = cpu_all_reduce,
    .broadcast = cpu_broadcast,
    .reduce_scatter = cpu_reduce_scatter,
    .all_gather = cpu_all_gather,
    .comm_group = cpu_comm_group,
    .comm_wait = cpu_comm_wait,
    .comm_failed = cpu_comm_failed,
    .comm_close = cpu_comm_close,
    .close = cpu_trim,
};

static void open_cpu(void) {
  use.limit = memory_limit();
  const char *isa = getenv("CFT_ISA");
  if (isa != NULL && *isa == 0) isa = NULL;
  if (cft_cpu_set_isa(isa) != CFT_OK) {
    cft_note("CFT_ISA is ignored: %s", cft_last_error());
    cft_cpu_set_isa(NULL);
  }
  describe();
}

cft_status cft_cpu_set_threads(int n) {
  CFT_TRY(cft_cpu_take_threads(n));
  describe();
  return CFT_OK;
}

cft_device *cft_cpu_device(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, open_cpu);
  return &cpu;
}
