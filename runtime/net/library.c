// library.c - libcurl and libcrypto by dlopen: linked, they and the thirty libraries behind them
// would take longer to load than the rest of cftrun's start.
#include "net/library.h"

#include <dlfcn.h>
#include <openssl/opensslv.h>
#include <pthread.h>
#include <stdbool.h>

#define CURL_LIBRARY "libcurl.so.4"
#if OPENSSL_VERSION_MAJOR >= 3
#define CRYPTO_LIBRARY "libcrypto.so.3"
#else
#define CRYPTO_LIBRARY "libcrypto.so.1.1"
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static cft_status open_library(void **library, const char *name) {
  *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (*library) return CFT_OK;
  return cft_fail(CFT_E_UNSUPPORTED, "fetching wants a library that is not here: %s", dlerror());
}

static cft_status find(void *to, void *library, const char *name, const char *symbol) {
  void *found = dlsym(library, symbol);
  if (!found) return cft_fail(CFT_E_UNSUPPORTED, "%s has no function %s", name, symbol);
  *(void **)to = found;
  return CFT_OK;
}

static cft_status open_curl(cft_curl *curl) {
  void *library;
  CFT_TRY(open_library(&library, CURL_LIBRARY));
#define XX(name) CFT_TRY(find(&curl->name, library, CURL_LIBRARY, "curl_" #name));
  CFT_CURL_FUNCTIONS(XX)
#undef XX
  CURLcode code = curl->global_init(CURL_GLOBAL_DEFAULT);
  if (code != CURLE_OK)
    return cft_fail(CFT_E_UNSUPPORTED, "libcurl does not start: %s", curl->easy_strerror(code));
  return CFT_OK;
}

static cft_status open_crypto(cft_crypto *crypto) {
  void *library;
  CFT_TRY(open_library(&library, CRYPTO_LIBRARY));
#define XX(name) CFT_TRY(find(&crypto->name, library, CRYPTO_LIBRARY, #name));
  CFT_CRYPTO_FUNCTIONS(XX)
#undef XX
  return CFT_OK;
}

cft_status cft_curl_open(const cft_curl **out) {
  static cft_curl curl;
  static bool is_open;
  pthread_mutex_lock(&lock);
  cft_status st = is_open ? CFT_OK : open_curl(&curl);
  is_open = st == CFT_OK;
  pthread_mutex_unlock(&lock);
  *out = &curl;
  return st;
}

cft_status cft_crypto_open(const cft_crypto **out) {
  static cft_crypto crypto;
  static bool is_open;
  pthread_mutex_lock(&lock);
  cft_status st = is_open ? CFT_OK : open_crypto(&crypto);
  is_open = st == CFT_OK;
  pthread_mutex_unlock(&lock);
  *out = &crypto;
  return st;
}
