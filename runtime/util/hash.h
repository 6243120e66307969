// hash.h - XXH3-128, compiled in, so that the program needs no libxxhash where it runs.
#ifndef CFT_UTIL_HASH_H
#define CFT_UTIL_HASH_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base.h"

// Big-endian, as xxh128sum prints it; 32 hex digits and a NUL.
void cft_hash_write(uint8_t out[16], XXH128_hash_t hash);
void cft_hash_hex(char hex[33], XXH128_hash_t hash);

// The hash of all that an open file has. E_IO, E_OOM.
cft_status cft_hash_fd(XXH128_hash_t *out, int fd, const char *path);

// As cft_hash_file, of what the disk has rather than the page cache, where the file system can say.
cft_status cft_hash_file_on_disk(char hex[33], const char *path);

#endif
