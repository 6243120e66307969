// library.h - libcurl and libcrypto, opened when they are first needed.
#ifndef CFT_NET_LIBRARY_H
#define CFT_NET_LIBRARY_H

#define CURL_DISABLE_TYPECHECK  // its macros are made for calls by name
#include <curl/curl.h>
#include <openssl/evp.h>

#include "base.h"

#define CFT_CURL_FUNCTIONS(XX) \
  XX(global_init)              \
  XX(free)                     \
  XX(easy_init)                \
  XX(easy_setopt)              \
  XX(easy_getinfo)             \
  XX(easy_strerror)            \
  XX(easy_cleanup)             \
  XX(multi_init)               \
  XX(multi_add_handle)         \
  XX(multi_remove_handle)      \
  XX(multi_perform)            \
  XX(multi_poll)               \
  XX(multi_info_read)          \
  XX(multi_strerror)           \
  XX(multi_cleanup)            \
  XX(slist_append)             \
  XX(slist_free_all)           \
  XX(url)                      \
  XX(url_set)                  \
  XX(url_get)                  \
  XX(url_cleanup)

#define CFT_CRYPTO_FUNCTIONS(XX) \
  XX(EVP_MD_CTX_new)             \
  XX(EVP_MD_CTX_free)            \
  XX(EVP_DigestInit_ex)          \
  XX(EVP_DigestUpdate)           \
  XX(EVP_DigestFinal_ex)         \
  XX(EVP_sha256)                 \
  XX(EVP_sha1)

typedef struct cft_curl {
#define XX(name) __typeof__(&curl_##name) name;
  CFT_CURL_FUNCTIONS(XX)
#undef XX
} cft_curl;

typedef struct cft_crypto {
#define XX(name) __typeof__(&name) name;
  CFT_CRYPTO_FUNCTIONS(XX)
#undef XX
} cft_crypto;

// The functions, valid until the program ends. E_UNSUPPORTED where the library is missing. Any
// thread may call these.
cft_status cft_curl_open(const cft_curl **out);
cft_status cft_crypto_open(const cft_crypto **out);

#endif
