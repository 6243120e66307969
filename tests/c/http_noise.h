// http_noise.h - requests to `cftrun serve` as nobody should make them, drawn from a seed: good
// ones of which fields, headers, lengths or bytes are changed, several behind each other, cut
// anywhere.
#ifndef CFT_TEST_HTTP_NOISE_H
#define CFT_TEST_HTTP_NOISE_H

#include <stddef.h>
#include <stdint.h>

// The next number of a sequence. `state` is the seed first.
uint64_t noise_next(uint64_t *state);

// One below n. n > 0.
static inline unsigned noise_below(uint64_t *state, unsigned n) {
  return (unsigned)(noise_next(state) >> 33) % n;
}

// What a connection sends, written to `out`, which has room for `room` bytes. How many.
size_t noise_make(uint64_t *state, char *out, size_t room);

#endif
