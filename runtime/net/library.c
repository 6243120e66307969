// library.c - libcurl and libcrypto by dlopen: linked, they and the thirty libraries behind them
// would take longer to load than the rest of cftrun's start.
#include "net/library.h"

#include <openssl/opensslv.h>

#include "util/library.h"

static cft_curl curl;
static cft_crypto crypto;

static cft_status start_curl(void) {
  CURLcode code = curl.global_init(CURL_GLOBAL_DEFAULT);
  if (code == CURLE_OK) return CFT_OK;
  return cft_fail(CFT_E_UNSUPPORTED, "libcurl does not start: %s", curl.easy_strerror(code));
}

cft_status cft_curl_open(const cft_curl **out) {
  static const char *const names[] = {
#define XX(name) "curl_" #name,
      CFT_CURL_FUNCTIONS(XX)
#undef XX
          NULL};
  static cft_library library = {.file = "libcurl.so.4",
                                .purpose = "fetching",
                                .package = "libcurl4",
                                .names = names,
                                .functions = &curl,
                                .start = start_curl,
                                .lock = PTHREAD_MUTEX_INITIALIZER};
  *out = &curl;
  return cft_library_open(&library);
}

cft_status cft_crypto_open(const cft_crypto **out) {
  static const char *const names[] = {
#define XX(name) #name,
      CFT_CRYPTO_FUNCTIONS(XX)
#undef XX
          NULL};
  static cft_library library = {
#if OPENSSL_VERSION_MAJOR >= 3
    .file = "libcrypto.so.3",
    .package = "libssl3",
#else
    .file = "libcrypto.so.1.1",
    .package = "libssl1.1",
#endif
    .purpose = "fetching",
    .names = names,
    .functions = &crypto,
    .lock = PTHREAD_MUTEX_INITIALIZER
  };
  *out = &crypto;
  return cft_library_open(&library);
}
