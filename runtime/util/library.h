// library.h - libraries that most runs do without: opened when they are first needed.
#ifndef CFT_UTIL_LIBRARY_H
#define CFT_UTIL_LIBRARY_H

#include <pthread.h>
#include <stdbool.h>

#include "base.h"

// One of them: static, with a lock of PTHREAD_MUTEX_INITIALIZER. Its functions are a struct of
// pointers to functions, in the order of `names`:
//   static const char *const names[] = {"curl_global_init", "curl_free", NULL};
//   static struct { CURLcode (*global_init)(long); void (*free)(void *); } curl;
typedef struct cft_library {
  const char *file;          // as the loader finds it: "libcurl.so.4"
  const char *purpose;       // what wants it, for the message: "fetching"
  const char *package;       // where Debian has it
  const char *const *names;  // up to NULL
  void *functions;
  cft_status (*start)(void);  // what is called first of all; NULL: nothing
  pthread_mutex_t lock;
  bool is_open;
} cft_library;

// Open it and look up its functions, which are valid until the program ends. A library that is open
// already is so after no more than a look. Any thread may call it.
// E_UNSUPPORTED where the library or one of its functions is missing, and what `start` answers.
cft_status cft_library_open(cft_library *library);

#endif
