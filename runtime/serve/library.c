// library.c - libevent by dlopen: who serves nothing needs none of it.
#include "serve/library.h"

#include "util/library.h"

static cft_event event;

// What libevent has to say of connections that break is no news.
static void say_nothing(int severity, const char *message) {
  (void)severity;
  (void)message;
}

static cft_status start(void) {
  event.event_set_log_callback(say_nothing);
  return CFT_OK;
}

cft_status cft_event_open(const cft_event **out) {
  static const char *const names[] = {
#define XX(name) #name,
      CFT_EVENT_FUNCTIONS(XX)
#undef XX
          NULL};
  static cft_library library = {.file = "libevent-2.1.so.7",
                                .purpose = "serving",
                                .package = "libevent-2.1-7",
                                .names = names,
                                .functions = &event,
                                .start = start,
                                .lock = PTHREAD_MUTEX_INITIALIZER};
  *out = &event;
  return cft_library_open(&library);
}
