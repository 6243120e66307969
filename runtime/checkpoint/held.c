// held.c - pieces of what a save holds, and copies of those that the program wants to change first.
#include "checkpoint/held.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "device.h"

enum {
  PIECE = 1 << 20,
  SLAB =
      32 << 20,  // memory for copies is taken in blocks, and given back as their pieces are written
  SPARE = 256 << 20,  // memory that is left to others
};

typedef enum { LIVE, BUSY, COPIED, WRITTEN } piece_state;

struct cft_held {
  pthread_mutex_t lock;
  pthread_cond_t moved;
  struct piece {
    const char *from;
    char *copy;
    size_t bytes;
    int64_t slab;  // of the copy; -1: it is somebody else's memory
    piece_state state;
  } * pieces;
  int64_t count, space;
  int64_t *
      first;  // of each held range, by its number, the first of its pieces; and behind the last one
  int64_t ranges, ranges_space;
  struct slab {
    void *memory;  // NULL: given back
    size_t used;
    int64_t left;  // pieces in it that are not written
  } * slabs;
  int64_t slab_count, slab_space;
  int64_t last;     // behind the last live piece
  int64_t copying;  // pieces that are being copied, with the lock open
  cft_held_bytes bytes;
  bool awaited, changed;
  cft_status failed;
};

cft_status cft_held_new(cft_held **out) {
  cft_held *h = calloc(1, sizeof *h);
  if (!h) return cft_fail(CFT_E_OOM, "save: out of memory");
  pthread_mutex_init(&h->lock, NULL);
  pthread_cond_init(&h->moved, NULL);
  *out = h;
  return CFT_OK;
}

void cft_held_release(cft_held *h) {
  if (!h) return;
  cft_held_end(h);
  free(h->pieces);
  free(h->first);
  free(h->slabs);
  pthread_cond_destroy(&h->moved);
  pthread_mutex_destroy(&h->lock);
  free(h);
}

// Room for one more of `size` bytes each.
static cft_status widen(void *list, int64_t count, int64_t *space, size_t size) {
  if (count < *space) return CFT_OK;
  int64_t wanted = *space ? 2 * *space : 256;
  void **at = list, *more = realloc(*at, (size_t)wanted * size);
  if (!more) return cft_fail(CFT_E_OOM, "save: out of memory");
  *at = more;
  *space = wanted;
  return CFT_OK;
}

static cft_status add(cft_held *h, const char *from, size_t bytes) {
  CFT_TRY(widen(&h->first, h->ranges, &h->ranges_space, sizeof *h->first));
  h->first[h->ranges++] = h->count;
  for (size_t at = 0; at < bytes; at += PIECE) {
    CFT_TRY(widen(&h->pieces, h->count, &h->space, sizeof *h->pieces));
    h->pieces[h->count++] = (struct piece){
        .from = from + at, .slab = -1, .bytes = bytes - at < PIECE ? bytes - at : PIECE};
  }
  h->bytes.all += (int64_t)bytes;
  return CFT_OK;
}

static void gather(void *context, const void *held, size_t bytes) {
  cft_held *h = context;
  if (h->failed == CFT_OK) h->failed = add(h, held, bytes);
}

cft_status cft_held_begin(cft_held *h, cft_save *save, const char *room) {
  h->count = h->ranges = h->last = 0;
  h->bytes = (cft_held_bytes){0};
  h->awaited = h->changed = false;
  h->failed = CFT_OK;
  cft_save_each_held(save, gather, h);
  CFT_TRY(h->failed);
  CFT_TRY(widen(&h->first, h->ranges, &h->ranges_space, sizeof *h->first));
  h->first[h->ranges] = h->count;
  h->changed = room != NULL;
  if (!room) {
    h->last = h->count;
    h->bytes.pending = h->bytes.all;
  }
  for (int64_t i = 0; room && i < h->ranges; ++i)
    for (int64_t k = h->first[i]; k < h->first[i + 1]; ++k) {
      struct piece *p = &h->pieces[k];
      p->state = COPIED;
      p->copy = (char *)room;
      room += k + 1 < h->first[i + 1]
                  ? p->bytes
                  : (p->bytes + CFT_HELD_LINE - 1) / CFT_HELD_LINE * CFT_HELD_LINE;
    }
  return CFT_OK;
}

// ---- below the lock ------------------------------------------------------------------------

static void give_back(struct slab *slab) {
  cft_device *cpu = cft_cpu_device();
  if (slab->memory) cpu->free(cpu, slab->memory, SLAB, CFT_MEM_WORKSPACE);
  slab->memory = NULL;
}

static void set_written(cft_held *h, struct piece *p) {
  if (p->state == LIVE || p->state == BUSY) h->bytes.pending -= (int64_t)p->bytes;
  if (p->state == COPIED && p->slab >= 0) {
    struct slab *slab = &h->slabs[p->slab];
    if (--slab->left == 0 && slab->used + PIECE > SLAB) give_back(slab);
  }
  p->state = WRITTEN;
}

// A save that fails ends while the program may be copying: what it copies to stays until it has
// done.
void cft_held_end(cft_held *h) {
  pthread_mutex_lock(&h->lock);
  h->last = 0;  // no other copy is begun
  while (h->copying > 0) pthread_cond_wait(&h->moved, &h->lock);
  h->count = h->ranges = h->bytes.pending = 0;
  for (int64_t i = 0; i < h->slab_count; ++i) give_back(&h->slabs[i]);
  h->slab_count = 0;
  pthread_cond_broadcast(&h->moved);
  pthread_mutex_unlock(&h->lock);
}

// Whether the machine is short of memory: what it gave now it would take back by killing somebody.
static bool is_scarce(void) {
  long long kib = -1;
  char line[128];
  FILE *f = fopen("/proc/meminfo", "re");
  if (!f) return false;
  while (kib < 0 && fgets(line, sizeof line, f)) (void)sscanf(line, "MemAvailable: %lld kB", &kib);
  fclose(f);
  return kib >= 0 && kib < SPARE / 1024;
}

// Memory for a copy of a piece.
static bool find_room(cft_held *h, struct piece *p) {
  struct slab *slab = h->slab_count ? &h->slabs[h->slab_count - 1] : NULL;
  if (!slab || !slab->memory || slab->used + p->bytes > SLAB) {
    cft_device *cpu = cft_cpu_device();
    if (widen(&h->slabs, h->slab_count, &h->slab_space, sizeof *h->slabs) != CFT_OK) return false;
    slab = &h->slabs[h->slab_count];
    *slab = (struct slab){0};
    if (is_scarce()) return false;
    if (cpu->alloc(cpu, &slab->memory, SLAB, CFT_MEM_WORKSPACE) != CFT_OK) return false;
    ++h->slab_count;
  }
  p->copy = (char *)slab->memory + slab->used;
  p->slab = slab - h->slabs;
  slab->used += (p->bytes + CFT_HELD_LINE - 1) / CFT_HELD_LINE * CFT_HELD_LINE;
  ++slab->left;
  return true;
}

// Copy the last piece that lies where it was; the lock is open meanwhile. False where there is
// none, or no memory.
static bool copy_last(cft_held *h) {
  while (h->last > 0 && h->pieces[h->last - 1].state != LIVE) --h->last;
  if (h->last == 0) return false;
  struct piece *p = &h->pieces[h->last - 1];
  if (!find_room(h, p)) return false;
  p->state = BUSY;
  ++h->copying;
  pthread_mutex_unlock(&h->lock);
  memcpy(p->copy, p->from, p->bytes);
  pthread_mutex_lock(&h->lock);
  --h->copying;
  p->state = COPIED;
  h->bytes.pending -= (int64_t)p->bytes;
  h->bytes.copied += (int64_t)p->bytes;
  pthread_cond_broadcast(&h->moved);
  return true;
}

// ---- what the threads ask for --------------------------------------------------------------

static struct piece *piece_at(cft_held *h, int64_t number, size_t at) {
  return &h->pieces[h->first[number] + (int64_t)(at / PIECE)];
}

const void *cft_held_take(cft_held *h, int64_t number, size_t at, size_t *bytes) {
  size_t inside = at % PIECE;
  pthread_mutex_lock(&h->lock);
  struct piece *p = piece_at(h, number, at);
  while (p->state == BUSY) pthread_cond_wait(&h->moved, &h->lock);  // it is being copied
  const char *from = p->state == COPIED ? p->copy : p->from;
  if (p->state == WRITTEN && h->changed) from = NULL;
  if (p->state == WRITTEN && !h->changed) h->bytes.pending += (int64_t)p->bytes;
  if (from && p->state != COPIED) p->state = BUSY;
  if (*bytes > p->bytes - inside) *bytes = p->bytes - inside;
  pthread_mutex_unlock(&h->lock);
  if (from) return from + inside;
  (void)cft_fail(
      CFT_E_STATE,
      "save: a file has to be written once more, and what it was to hold has changed since");
  return NULL;
}

void cft_held_give(cft_held *h, int64_t number, size_t at, size_t bytes, bool once) {
  pthread_mutex_lock(&h->lock);
  struct piece *p = piece_at(h, number, at);
  if (once && at % PIECE + bytes == p->bytes) {
    set_written(h, p);
  } else if (p->state == BUSY) {
    p->state = LIVE;
    if (h->last < p - h->pieces + 1) h->last = p - h->pieces + 1;
  }
  pthread_cond_broadcast(&h->moved);
  pthread_mutex_unlock(&h->lock);
}

void cft_held_written(cft_held *h, int64_t first, int64_t end) {
  pthread_mutex_lock(&h->lock);
  for (int64_t k = h->first[first]; k < h->first[end]; ++k) {
    while (h->pieces[k].state == BUSY) pthread_cond_wait(&h->moved, &h->lock);
    if (h->pieces[k].state != WRITTEN) set_written(h, &h->pieces[k]);
  }
  pthread_cond_broadcast(&h->moved);
  pthread_mutex_unlock(&h->lock);
}

bool cft_held_copy(cft_held *h, int64_t leave) {
  pthread_mutex_lock(&h->lock);
  bool copies = true;
  while (copies && h->bytes.pending > leave) copies = copy_last(h);
  pthread_mutex_unlock(&h->lock);
  return copies;
}

void cft_held_wait(cft_held *h) {
  pthread_mutex_lock(&h->lock);
  h->awaited = true;
  while (h->bytes.pending > 0)
    if (!copy_last(h) && h->bytes.pending > 0) pthread_cond_wait(&h->moved, &h->lock);
  h->awaited = false;
  h->changed = true;
  pthread_mutex_unlock(&h->lock);
}

bool cft_held_is_awaited(cft_held *h) {
  pthread_mutex_lock(&h->lock);
  bool awaited = h->awaited;
  pthread_mutex_unlock(&h->lock);
  return awaited;
}

bool cft_held_is_free(cft_held *h) {
  pthread_mutex_lock(&h->lock);
  bool changed = h->changed;
  pthread_mutex_unlock(&h->lock);
  return changed;
}

cft_held_bytes cft_held_count(cft_held *h) {
  pthread_mutex_lock(&h->lock);
  cft_held_bytes bytes = h->bytes;
  pthread_mutex_unlock(&h->lock);
  return bytes;
}
