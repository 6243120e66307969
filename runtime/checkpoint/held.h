// held.h - what a save holds of a running program: bytes that may not change before they are
// written, or copied.
#ifndef CFT_CHECKPOINT_HELD_H
#define CFT_CHECKPOINT_HELD_H

#include "util/file.h"

// Of one save at a time. The thread that writes takes pieces from the front and gives them back;
// who copies begins at the end, so that as little as possible is copied. Any thread may call.
typedef struct cft_held cft_held;

cft_status cft_held_new(cft_held **out);
void cft_held_release(cft_held *h);  // NULL is accepted

// What a deferred save holds. Where `room` is given all of it has been copied there, one behind the
// other, each from a multiple of CFT_HELD_LINE on. E_OOM.
enum { CFT_HELD_LINE = 64 };
cft_status cft_held_begin(cft_held *h, cft_save *save, const char *room);

// The save is over: nothing is held, whoever waits goes on, copies are released.
void cft_held_end(cft_held *h);

// As cft_lender has them.
const void *cft_held_take(cft_held *h, int64_t number, size_t at, size_t *bytes);
void cft_held_give(cft_held *h, int64_t number, size_t at, size_t bytes, bool once);
void cft_held_written(cft_held *h, int64_t first, int64_t end);

// Copy until at most `leave` bytes have still to be copied or written. False where there is no
// memory.
bool cft_held_copy(cft_held *h, int64_t leave);

// Wait until what is held may change, and copy meanwhile. Without memory that is when it is
// written.
void cft_held_wait(cft_held *h);
bool cft_held_is_awaited(cft_held *h);  // somebody does now
bool cft_held_is_free(cft_held *h);     // nobody has to

typedef struct cft_held_bytes {
  int64_t all, pending, copied;  // in all; neither copied nor written; copied so far
} cft_held_bytes;
cft_held_bytes cft_held_count(cft_held *h);

#endif
