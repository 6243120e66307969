// oom.h - memory runs out at every single allocation of a call: the status is E_OOM and nothing
// leaks. Allocations are counted here by taking the place of malloc, in one program's one file;
// under a sanitizer, which does the same, there is nothing to run and CFT_TEST_OOM is not defined.
#ifndef CFT_TEST_OOM_H
#define CFT_TEST_OOM_H

#include <errno.h>

#include "test.h"

#if !defined(__SANITIZE_ADDRESS__) && defined(__GLIBC__)
#define CFT_TEST_OOM

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

// countdown 0: this allocation fails. volatile, since compilers believe that malloc reads nothing.
static volatile int64_t alive, countdown = -1;

static bool fails(void) {
  if (countdown < 0 || countdown-- > 0) return false;
  errno = ENOMEM;
  return true;
}

void *malloc(size_t n) {
  if (fails()) return NULL;
  void *p = __libc_malloc(n);
  alive += p != NULL;
  return p;
}

void *calloc(size_t n, size_t size) {
  if (fails()) return NULL;
  void *p = __libc_calloc(n, size);
  alive += p != NULL;
  return p;
}

void *realloc(void *old, size_t n) {
  if (fails()) return NULL;
  void *p = __libc_realloc(old, n);
  alive += p != NULL && old == NULL;
  return p;
}

int posix_memalign(void **p, size_t alignment, size_t n) {
  if (fails()) return ENOMEM;
  *p = __libc_memalign(alignment, n);
  alive += *p != NULL;
  return *p ? 0 : ENOMEM;
}

void free(void *p) {
  alive -= p != NULL;
  __libc_free(p);
}

// Run it with the first, second, ... allocation failing until it succeeds.
// `before`, where there is one, goes before each try.
__attribute__((unused)) static void exhaust(const char *what, cft_status (*run)(void),
                                            void (*before_try)(void), bool json) {
  for (int64_t n = 0;; ++n) {
    if (before_try) before_try();
    int64_t before = alive;
    countdown = n;
    cft_status st = run();
    bool reached = countdown < 0;
    countdown = -1;
    if (alive != before)
      TEST_FAIL("%s: allocation %" PRId64 " fails: %" PRId64 " leak", what, n, alive - before);
    if (!reached) {
      if (st != CFT_OK) TEST_FAIL("%s: %s", what, cft_last_error());
      return;
    }
    // OK: vasprintf can do without its last one. Of jansson no more can be asked than that it leaks
    // nothing: it reports the text, or drops a character of it.
    if (st != CFT_E_OOM && st != CFT_OK && !json)
      TEST_FAIL("%s: allocation %" PRId64 " fails: %s, \"%s\"", what, n, cft_status_name(st),
                cft_last_error());
  }
}

#endif
#endif
