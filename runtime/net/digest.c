// digest.c - SHA-256 and git's SHA-1, by libcrypto, which knows the processor's instructions for
// them.
#include "net/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/library.h"

struct cft_digest {
  const cft_crypto *crypto;
  EVP_MD_CTX *context;
  cft_digest_kind kind;
  int64_t bytes;
};

static cft_status failed(void) {
  return cft_fail(CFT_E_UNSUPPORTED, "libcrypto refuses to make a checksum");
}

cft_status cft_digest_restart(cft_digest *d) {
  const EVP_MD *md = d->kind == CFT_DIGEST_SHA256 ? d->crypto->EVP_sha256() : d->crypto->EVP_sha1();
  if (!d->crypto->EVP_DigestInit_ex(d->context, md, NULL)) return failed();
  if (d->kind == CFT_DIGEST_SHA256) return CFT_OK;
  char head[32];
  int n = snprintf(head, sizeof head, "blob %" PRId64, d->bytes);
  return cft_digest_put(d, head, (size_t)n + 1);  // the NUL too
}

cft_status cft_digest_new(cft_digest **out, cft_digest_kind kind, int64_t bytes) {
  const cft_crypto *crypto;
  CFT_TRY(cft_crypto_open(&crypto));
  cft_digest *d = calloc(1, sizeof *d);
  if (d) *d = (cft_digest){crypto, crypto->EVP_MD_CTX_new(), kind, bytes};
  cft_status st = CFT_OK;
  if (!d || !d->context) CFT_GO(cft_fail(CFT_E_OOM, "checksum: out of memory"));
  CFT_GO(cft_digest_restart(d));
  *out = d;
  d = NULL;
out:
  cft_digest_release(d);
  return st;
}

cft_status cft_digest_put(cft_digest *d, const void *data, size_t bytes) {
  return d->crypto->EVP_DigestUpdate(d->context, data, bytes) ? CFT_OK : failed();
}

cft_status cft_digest_end(cft_digest *d, char hex[CFT_DIGEST_ROOM]) {
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (!d->crypto->EVP_DigestFinal_ex(d->context, raw, &n) || 2 * n >= CFT_DIGEST_ROOM)
    return failed();
  for (unsigned i = 0; i < n; ++i) snprintf(hex + 2 * i, 3, "%02x", raw[i]);
  return CFT_OK;
}

void cft_digest_release(cft_digest *d) {
  if (!d) return;
  d->crypto->EVP_MD_CTX_free(d->context);
  free(d);
}
