// library.c - libevent by dlopen: who serves nothing needs none of it.
#include "serve/library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>

#define EVENT_LIBRARY "libevent-2.1.so.7"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static cft_status find(void *to, void *library, const char *symbol) {
  void *found = dlsym(library, symbol);
  if (!found) return cft_fail(CFT_E_UNSUPPORTED, "%s has no function %s", EVENT_LIBRARY, symbol);
  *(void **)to = found;
  return CFT_OK;
}

// What libevent has to say of connections that break is no news.
static void say_nothing(int severity, const char *message) {
  (void)severity;
  (void)message;
}

static cft_status open_event(cft_event *ev) {
  void *library = dlopen(EVENT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (!library) return cft_fail(CFT_E_UNSUPPORTED, "serving wants a library that is not here: %s", dlerror());
#define XX(name) CFT_TRY(find(&ev->name, library, #name));
  CFT_EVENT_FUNCTIONS(XX)
#undef XX
  ev->event_set_log_callback(say_nothing);
  return CFT_OK;
}

cft_status cft_event_open(const cft_event **out) {
  static cft_event ev;
  static bool is_open;
  pthread_mutex_lock(&lock);
  cft_status st = is_open ? CFT_OK : open_event(&ev);
  is_open = st == CFT_OK;
  pthread_mutex_unlock(&lock);
  *out = &ev;
  return st;
}
