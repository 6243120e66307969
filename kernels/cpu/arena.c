// arena.c - memory in huge pages that is touched once and used again.
//
// The first touch of a page costs more than the arithmetic on it: 0.4 GB/s was measured for pages
// of 4 KiB, 12 for huge ones, 30 for memory touched before. So freed blocks stay here. Regions are
// mapped on 2 MiB boundaries; a block has a header of one cache line in front of it; free blocks
// hang in bins by size (a segregated fit, after TLSF: Masmano et al. 2004) and are joined with
// free neighbours at once. A region knows up to where it was ever written: what lies beyond is zero
// as it came, and whoever wants zeros need not touch it.
#include "arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

enum { LINE = 64 };

#ifdef __SANITIZE_ADDRESS__
// The sanitizer must see every block by itself, or it cannot tell a use after free.

void *cft_arena_take(size_t bytes, size_t limit, size_t *used) {
  if (bytes > limit || bytes > PTRDIFF_MAX - LINE) return NULL;
  *used = bytes;
  return aligned_alloc(LINE, bytes == 0 ? LINE : (bytes + LINE - 1) / LINE * LINE);
}
void cft_arena_give(void *p) { free(p); }
size_t cft_arena_reserved(void) { return 0; }
void cft_arena_trim(void) {}

#else

#define PAGE ((size_t)2 << 20)
#define LEAST_REGION ((size_t)64 << 20)  // costs nothing until it is touched

typedef enum { USED = 0x5573, FREE = 0x4672, END = 0x456e } state;

typedef struct region {
  struct region *next;
  size_t bytes;
  char *clean;  // from here on nothing was ever written but the end mark
} region;

typedef struct block {
  size_t bytes;                   // that follow this header; a multiple of LINE
  region *region;
  struct block *before;           // neighbour below, NULL for a region's first
  struct block *next, *previous;  // in its bin, while free
  state state;
} block;

static_assert(sizeof(block) <= LINE && sizeof(region) <= LINE, "headers take one line");

// Bins: 8 to each power of two, counted in lines.
enum { FINE = 3, BINS = 64 << FINE };
static block *bins[BINS];
static uint64_t filled[BINS / 64];
static region *regions;
static size_t reserved;

static block *first_block(region *r) { return (block *)((char *)r + LINE); }
static block *after(block *b) { return (block *)((char *)b + LINE + b->bytes); }

static int bin_of(size_t bytes) {
  uint64_t lines = bytes / LINE;
  if (lines < 1 << FINE) return (int)lines;
  int high = 63 - __builtin_clzll(lines);
  return ((high - FINE + 1) << FINE) + (int)(lines >> (high - FINE) & ((1 << FINE) - 1));
}

static void bin_add(block *b) {
  int i = bin_of(b->bytes);
  b->state = FREE;
  b->previous = NULL;
  b->next = bins[i];
  if (b->next != NULL) b->next->previous = b;
  bins[i] = b;
  filled[i / 64] |= 1ull << i % 64;
}

static void bin_remove(block *b) {
  int i = bin_of(b->bytes);
  if (b->next != NULL) b->next->previous = b->previous;
  if (b->previous != NULL) {
    b->previous->next = b->next;
  } else if ((bins[i] = b->next) == NULL) {
    filled[i / 64] &= ~(1ull << i % 64);
  }
}

// The smallest of the first few that fit in its own bin, else any of the next bin that has one:
// there all fit. Steps ask for the same sizes again, so the first look finds most.
static block *find(size_t bytes) {
  enum { LOOK = 32 };
  int i = bin_of(bytes);
  block *best = NULL;
  int looked = 0;
  for (block *b = bins[i]; b != NULL && looked < LOOK; b = b->next, looked++) {
    if (b->bytes >= bytes && (best == NULL || b->bytes < best->bytes)) best = b;
  }
  if (best != NULL) return best;
  i++;
  uint64_t word = filled[i / 64] & ~0ull << i % 64;
  for (int at = i / 64; at < BINS / 64; word = ++at < BINS / 64 ? filled[at] : 0) {
    if (word != 0) return bins[at * 64 + __builtin_ctzll(word)];
  }
  return NULL;
}

// Map a region that holds a block of `bytes`: its header, the block's, the block, and an end mark.
// Near the limit free regions are given back first, and the new one is as small as it can be.
static block *grow(size_t bytes, size_t limit) {
  size_t least = (bytes + 3 * LINE + PAGE - 1) / PAGE * PAGE;
  size_t want = least < LEAST_REGION ? LEAST_REGION : least;
  if (want > limit || reserved > limit - want) {
    cft_arena_trim();
    want = least;
    if (want > limit || reserved > limit - want) return NULL;
  }
  char *p = mmap(NULL, want + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  size_t skip = (PAGE - (uintptr_t)p % PAGE) % PAGE;
  if (skip > 0) munmap(p, skip);
  if (skip < PAGE) munmap(p + skip + want, PAGE - skip);
  madvise(p + skip, want, MADV_HUGEPAGE);  // a wish: without huge pages it is only slower

  region *r = (region *)(p + skip);
  *r = (region){.next = regions, .bytes = want, .clean = (char *)r + 2 * LINE};
  regions = r;
  reserved += want;
  block *b = first_block(r);
  *b = (block){.bytes = want - 3 * LINE, .region = r};
  *after(b) = (block){.before = b, .region = r, .state = END};
  bin_add(b);
  return b;
}

void *cft_arena_take(size_t bytes, size_t limit, size_t *used) {
  if (bytes > limit || bytes > PTRDIFF_MAX - 2 * PAGE) return NULL;
  bytes = bytes == 0 ? LINE : (bytes + LINE - 1) / LINE * LINE;
  block *b = find(bytes);
  if (b == NULL) b = grow(bytes, limit);
  if (b == NULL) return NULL;
  bin_remove(b);
  if (b->bytes - bytes >= 2 * LINE) {  // the rest is a block of its own
    block *rest = (block *)((char *)b + LINE + bytes);
    rest->bytes = b->bytes - bytes - LINE;
    rest->before = b;
    rest->region = b->region;
    b->bytes = bytes;
    after(rest)->before = rest;
    bin_add(rest);
  }
  b->state = USED;
  char *p = (char *)b + LINE, *end = (char *)after(b) + LINE;  // the header there is written, too
  region *r = b->region;
  *used = r->clean <= p ? 0 : r->clean - p < (ptrdiff_t)bytes ? (size_t)(r->clean - p) : bytes;
  if (end > r->clean) r->clean = end;
  return p;
}

void cft_arena_give(void *p) {
  block *b = (block *)((char *)p - LINE);
  assert(b->state == USED);
  block *below = b->before, *above = after(b);
  if (above->state == FREE) {
    bin_remove(above);
    b->bytes += LINE + above->bytes;
  }
  if (below != NULL && below->state == FREE) {
    bin_remove(below);
    below->bytes += LINE + b->bytes;
    b = below;
  }
  after(b)->before = b;
  bin_add(b);
}

size_t cft_arena_reserved(void) { return reserved; }

void cft_arena_trim(void) {
  for (region **at = &regions; *at != NULL;) {
    region *r = *at;
    block *b = first_block(r);
    if (b->state != FREE || after(b)->state != END) {
      at = &r->next;
      continue;
    }
    bin_remove(b);
    *at = r->next;
    reserved -= r->bytes;
    munmap(r, r->bytes);
  }
}
#endif
