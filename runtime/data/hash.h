// hash.h - XXH3 as this folder uses it: compiled in, so that the program needs no libxxhash where
// it runs.
#ifndef CFT_DATA_HASH_H
#define CFT_DATA_HASH_H

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

// Big-endian, as xxh128sum prints it.
static inline void hash_write(uint8_t out[16], XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  memcpy(out, canonical.digest, 16);
}

#endif
