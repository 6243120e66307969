// cft_heartbeat.h - the ranks of a run hear of each other, beside their collectives.
//
// A collective cannot tell a rank that is slow from one that is gone: it waits. So each rank has a thread
// that sends a beat a second to rank 0, and gets one; what it last did goes with it. A rank that is gone, that
// has stood still or that has left with an error is lost, and all others know within seconds: whoever waits
// asks cft_heartbeat_lost, and a program that does not ask is ended.
//
// A rank may live and never come to a collective in which others wait: an endless loop of its program. Rank 0
// prints the table after warn_s of that, and again each time it has lasted twice as long; after stall_s that rank
// is lost, to itself too. It is waited for only from when it began what it does, and whoever saves is never lost so.
//
// TCP, not encrypted. Who connects shows the run's secret, of 32 random bytes, before anything of
// theirs is read; rank 0 hands it out by the way that the ranks have already.
#ifndef CFT_HEARTBEAT_H
#define CFT_HEARTBEAT_H

#include "cft_tensor.h"

typedef struct cft_heartbeat cft_heartbeat;

enum { CFT_SECRET_BYTES = 32 };

// What ranks are told to join: made by rank 0, the same for all.
typedef struct cft_heartbeat_place {
  char addresses[512];  // of rank 0, separated by spaces: IPv4 and IPv6, without names
  int port;
  char secret[CFT_SECRET_BYTES];
} cft_heartbeat_place;

typedef struct cft_heartbeat_how {
  int rank, size;     // 0 <= rank < size
  double patience_s;  // a rank of which nothing is heard for so long is lost; above 0
  double grace_s;     // so long after a loss the program is ended, unless cft_heartbeat_take was called; above 0
  int exit_code;      // with this code
  double warn_s, stall_s;  // how long a rank that does nothing new may be waited for; 0: for ever
} cft_heartbeat_how;

// What a rank is in, while it does what it says.
typedef enum cft_rank_state {
  CFT_RANK_WORKS,
  CFT_RANK_WAITS,  // in a collective
  CFT_RANK_SAVES,  // for a disk, which may take as long as it likes
} cft_rank_state;

// Rank 0: listen on a free port, and say where. *h is the caller's. E_ARG, E_IO.
CFT_API cft_status cft_heartbeat_listen(cft_heartbeat **h, cft_heartbeat_place *place,
                                        const cft_heartbeat_how *how);

// The others: connect to one of the place's addresses, within patience_s. *h is the caller's. E_ARG; E_IO
// where nobody answers who knows the secret.
CFT_API cft_status cft_heartbeat_join(cft_heartbeat **h, const cft_heartbeat_place *place,
                                      const cft_heartbeat_how *how);

// Say what this rank does from now on; any thread may.
//   step   the optimizer step, from 1; 0: none yet
//   calls  how many collectives it has begun: of two ranks the one with fewer is waited for
//   state  of these the one that holds
//   doing  "all_reduce", "backward", ...: borrowed for the call, cut at 47 bytes
//   where  a place of the program, "recipe.lua:12": cut at 95 bytes; NULL: as before
CFT_API void cft_heartbeat_at(cft_heartbeat *h, int64_t step, int64_t calls, cft_rank_state state,
                              const char *doing, const char *where);

// The rank that is lost; -1 while there is none. Once there is one there is no other.
CFT_API int cft_heartbeat_lost(cft_heartbeat *h);

// How each rank was last heard of: a line a rank, the lost one first, with host, step, what it did, for how long,
// where, and for whom it waits. Valid until the next call or cft_heartbeat_leave.
CFT_API const char *cft_heartbeat_table(cft_heartbeat *h);

// NCCL answers questions about its ranks at "HOST:PORT" or "[ADDRESS]:PORT" (its RAS thread, from 2.24 on): who prints the
// table at a loss asks there, for 0.7 s at most, and prints the answer, if there is one, below it. Once, before any loss. E_ARG where
// that is no address; then nobody is asked.
CFT_API cft_status cft_heartbeat_ask_nccl(cft_heartbeat *h, const char *address);

// The program knows of the loss and ends by itself: the thread does not end it.
CFT_API void cft_heartbeat_take(cft_heartbeat *h);

// Leave, and free h. NULL is accepted.
//   why  NULL: the run is over; else a rank leaves with an error, and is lost to the others
CFT_API void cft_heartbeat_leave(cft_heartbeat *h, const char *why);

#endif
