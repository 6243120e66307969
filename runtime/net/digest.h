// digest.h - the checksums that the Hub knows its files by.
#ifndef CFT_NET_DIGEST_H
#define CFT_NET_DIGEST_H

#include "base.h"

enum { CFT_DIGEST_ROOM = 65 };  // hex and a NUL

typedef enum cft_digest_kind {
  CFT_DIGEST_SHA256,    // of large files (git-lfs)
  CFT_DIGEST_GIT_SHA1,  // of the others: SHA-1 over "blob SIZE", a NUL, and the content
} cft_digest_kind;

typedef struct cft_digest cft_digest;

// `bytes` is the size of all that will be put, which git's checksum begins with.
cft_status cft_digest_new(cft_digest **out, cft_digest_kind kind, int64_t bytes);
cft_status cft_digest_restart(cft_digest *d);
cft_status cft_digest_put(cft_digest *d, const void *data, size_t bytes);
cft_status cft_digest_end(cft_digest *d, char hex[CFT_DIGEST_ROOM]);
void cft_digest_release(cft_digest *d);  // NULL is accepted

#endif
