// hash.c - XXH3-128 of memory and of files.
#include "util/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/file.h"

enum { PIECE_BYTES = 1 << 20 };

void cft_hash_write(uint8_t out[16], XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  memcpy(out, canonical.digest, 16);
}

void cft_hash_hex(char hex[33], XXH128_hash_t hash) {
  snprintf(hex, 33, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64, (uint64_t)hash.low64);
}

void cft_hash(char hex[33], const void *data, size_t bytes) {
  cft_hash_hex(hex, XXH3_128bits(data, bytes));
}

void cft_bytes_hash(uint8_t hash[16], const void *bytes, size_t n) {
  cft_hash_write(hash, XXH3_128bits(bytes, n));
}

// The hash of a file from where its offset 0 is; `direct`: so many of its bytes, whole pieces, come
// from the disk itself.
static cft_status hash_all(XXH128_hash_t *out, int fd, const char *path, size_t direct) {
  cft_status st = CFT_OK;
  XXH3_state_t *state = XXH3_createState();
  void *piece = NULL;
  if (!state || posix_memalign(&piece, CFT_DIRECT_ALIGNMENT, PIECE_BYTES) != 0)
    CFT_GO(cft_fail(CFT_E_OOM, "read %s: out of memory", path));
  XXH3_128bits_reset(state);
  size_t got = 1;
  if (direct && !cft_file_direct(fd, true)) direct = 0;
  for (uint64_t at = 0; got > 0; at += got) {
    if (direct && at == direct) (void)cft_file_direct(fd, false);
    st = cft_file_read(fd, path, at, piece, PIECE_BYTES, &got);
    if (st != CFT_OK && at < direct &&
        cft_file_reason() == EINVAL) {  // it may be wished for, and not be done
      (void)cft_file_direct(fd, false);
      direct = 0;
      st = cft_file_read(fd, path, at, piece, PIECE_BYTES, &got);
    }
    CFT_GO(st);
    XXH3_128bits_update(state, piece, got);
  }
  *out = XXH3_128bits_digest(state);
out:
  XXH3_freeState(state);
  free(piece);
  return st;
}

cft_status cft_hash_fd(XXH128_hash_t *out, int fd, const char *path) {
  return hash_all(out, fd, path, 0);
}

static cft_status hash_file(char hex[33], const char *path, bool from_disk) {
  int fd;
  size_t bytes;
  XXH128_hash_t hash;
  CFT_TRY(cft_file_open(&fd, path, &bytes));
  cft_status st = hash_all(&hash, fd, path, from_disk ? bytes / PIECE_BYTES * PIECE_BYTES : 0);
  close(fd);
  if (st == CFT_OK) cft_hash_hex(hex, hash);
  return st;
}

cft_status cft_hash_file(char hex[33], const char *path) { return hash_file(hex, path, false); }

cft_status cft_hash_file_on_disk(char hex[33], const char *path) {
  return hash_file(hex, path, true);
}
