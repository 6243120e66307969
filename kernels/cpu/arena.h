// arena.h - where the CPU device's memory comes from. Not thread-safe: device.c holds the lock.
#ifndef CFT_CPU_ARENA_H
#define CFT_CPU_ARENA_H

#include <stddef.h>

// At least `bytes` at a multiple of 64; NULL when the system has no more, or when more than `limit`
// would be mapped. What was touched before is preferred to what was not. 0 bytes are a block too.
// *used of them, from the first on, hold what was left there; the rest is zero.
void *cft_arena_take(size_t bytes, size_t limit, size_t *used);
void cft_arena_give(void *p);

// Bytes mapped, in use or not; return what no block needs to the system.
size_t cft_arena_reserved(void);
void cft_arena_trim(void);

#endif
