// flint.c - FLINT and Arb by dlopen, with our own allocator and our own end for what they abort.
#include "grade/flint.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define ARB "libflint-arb.so.2"

// Of one thread's balls and the constants that FLINT keeps for it. Only tests change it.
static _Atomic size_t most_bytes = (size_t)64 << 20;

static _Thread_local cft_grader *grading;
static _Thread_local size_t held;
static atomic_bool broken;

void flint_for(cft_grader *g) { grading = g; }
bool flint_gave_up(void) { return atomic_load(&broken); }
size_t flint_limit(size_t bytes) { return atomic_exchange(&most_bytes, bytes); }

__attribute__((noreturn)) static void give_up(void) {
  cft_grader *g = grading;
  if (!g) abort();  // nobody's grading: a fault of ours
  grading = NULL;
  atomic_store(&broken, true);
  grade_stop(g, "the ball arithmetic gave up");
}

static void *counted(void *p) {
  if (!p) give_up();
  held += malloc_usable_size(p);
  return p;
}

static void within(size_t n) {
  size_t most = most_bytes;
  if (grading && (n > most || held + n > most)) give_up();
}

static void *our_malloc(size_t n) {
  within(n);
  return counted(malloc(n));
}

static void *our_calloc(size_t n, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(n, size, &bytes)) give_up();
  within(bytes);
  return counted(calloc(n, size));
}

static void forget(void *p) {
  size_t n = malloc_usable_size(p);  // another thread may have made it: never below 0
  held = held > n ? held - n : 0;
}

static void *our_realloc(void *p, size_t n) {
  within(n);
  if (p) forget(p);
  return counted(realloc(p, n));
}

static void our_free(void *p) {
  if (p) forget(p);
  free(p);
}

static struct {
  pthread_mutex_t lock;
  bool tried;
  char why[160];
  flint f;
} library = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool find(void *to, void *handle, const char *symbol) {
  void *found = dlsym(handle, symbol);
  if (!found) snprintf(library.why, sizeof library.why, "%s has no function %s", ARB, symbol);
  *(void **)to = found;
  return found != NULL;
}

// The layouts above are those of these versions.
static bool is_version(void *handle, const char *symbol, const char *wanted) {
  const char *const *pointer = dlsym(handle, symbol);
  const char *version = !pointer                             ? "none"
                        : strcmp(symbol, "arb_version") == 0 ? *pointer
                                                             : (const char *)pointer;
  if (strncmp(version, wanted, strlen(wanted)) == 0) return true;
  snprintf(library.why, sizeof library.why, "%s is %.20s, and %s is wanted", symbol, version,
           wanted);
  return false;
}

static bool find_all(void *h) {
  flint *f = &library.f;
  bool ok = true;
#define XX(name) ok = ok && find(&f->name, h, "acb_" #name);
  BALL_UNARY(XX)
  BALL_BINARY(XX)
  XX(init)
  XX(clear)
  XX(set)
  XX(set_si)
  XX(neg)
  XX(pow_si)
  XX(root_ui)
  XX(const_pi)
  XX(abs)
  XX(contains_zero)
  XX(is_finite)
  XX(get_mag)
#undef XX
#define XX(name) ok = ok && find(&f->name, h, "arb_" #name);
  XX(set_str)
  XX(const_e)
  XX(fac_ui)
  XX(bin_uiui)
  XX(floor)
  XX(ceil)
  XX(is_zero)
  XX(is_negative)
#undef XX
      ok = ok && find(&f->part_set_si, h, "arb_set_si");
  ok = ok && find(&f->middle, h, "arf_get_d");
  ok = ok && find(&f->size_log2, h, "mag_get_d_log2_approx");
  ok = ok && find(&f->size_init, h, "mag_init") && find(&f->size_clear, h, "mag_clear");
  return ok;
}

static void open_library(void) {
  void *h = dlopen(ARB, RTLD_NOW | RTLD_LOCAL);
  if (!h) {
    snprintf(library.why, sizeof library.why, "no ball arithmetic: %.120s", dlerror());
    return;
  }
  if (!is_version(h, "flint_version", "2.9.") || !is_version(h, "arb_version", "2.23.")) return;
  void (*set_memory)(void *(*)(size_t), void *(*)(size_t, size_t), void *(*)(void *, size_t),
                     void (*)(void *));
  void (*set_abort)(void (*)(void));
  if (!find(&set_memory, h, "__flint_set_memory_functions") ||
      !find(&set_abort, h, "flint_set_abort"))
    return;
  if (!find_all(h)) return;
  set_memory(our_malloc, our_calloc, our_realloc, our_free);
  set_abort(give_up);
}

const flint *flint_open(const char **why) {
  pthread_mutex_lock(&library.lock);
  if (!library.tried) open_library();
  library.tried = true;
  pthread_mutex_unlock(&library.lock);
  *why = library.why[0] ? library.why : atomic_load(&broken) ? "the ball arithmetic gave up" : NULL;
  return *why ? NULL : &library.f;
}

bool cft_grade_has_balls(const char **why) { return flint_open(why) != NULL; }
