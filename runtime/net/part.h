// part.h - a file while it is fetched: PATH.incomplete, which grows in order, under a lock.
#ifndef CFT_NET_PART_H
#define CFT_NET_PART_H

#include "cft_net.h"

typedef struct cft_part cft_part;

// Copies what it needs; opens nothing yet.
cft_status cft_part_new(cft_part **out, const cft_download *what);

// Try to get the lock, without waiting. With it, either PATH is there with the right size (*whole),
// or PATH.incomplete is opened, with what it has to be read.
cft_status cft_part_lock(cft_part *p, bool *locked, bool *whole);

// Take the checksum of a piece of what an earlier try has left; *more while there is some.
cft_status cft_part_read(cft_part *p, bool *more);

int64_t cft_part_bytes(const cft_part *p);   // that are in the file and its checksum
int64_t cft_part_wanted(const cft_part *p);  // the size it will have
const char *cft_part_digest(const cft_part *p);

cft_status cft_part_put(cft_part *p, const void *data, size_t bytes);

// Begin again with nothing.
cft_status cft_part_restart(cft_part *p);

// With all bytes there: if the checksum is the one that is wanted, sync and rename to PATH. If not,
// *right is false, *found says which it is, and what came is removed.
cft_status cft_part_finish(cft_part *p, bool *right, const char **found);

// Close the file, which stays for the next try, and give the lock back.
void cft_part_close(cft_part *p);
void cft_part_release(cft_part *p);  // NULL is accepted

#endif
