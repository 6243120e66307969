// hash.c - XXH3-128 of memory and of files.
#include "util/hash.h"

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

cft_status cft_hash_fd(XXH128_hash_t *out, int fd, const char *path) {
  cft_status st = CFT_OK;
  XXH3_state_t *state = XXH3_createState();
  char *piece = malloc(PIECE_BYTES);
  if (!state || !piece) CFT_GO(cft_fail(CFT_E_OOM, "read %s: out of memory", path));
  XXH3_128bits_reset(state);
  size_t got = 1;
  for (uint64_t at = 0; got > 0; at += got) {
    CFT_GO(cft_file_read(fd, path, at, piece, PIECE_BYTES, &got));
    XXH3_128bits_update(state, piece, got);
  }
  *out = XXH3_128bits_digest(state);
out:
  XXH3_freeState(state);
  free(piece);
  return st;
}

cft_status cft_hash_file(char hex[33], const char *path) {
  int fd;
  XXH128_hash_t hash;
  CFT_TRY(cft_file_open(&fd, path, NULL));
  cft_status st = cft_hash_fd(&hash, fd, path);
  close(fd);
  if (st == CFT_OK) cft_hash_hex(hex, hash);
  return st;
}
