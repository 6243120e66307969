// heartbeat_impl.h - what a rank's heartbeat is made of: shared by its beginning and end, and its
// thread.
#ifndef CFT_HEARTBEAT_IMPL_H
#define CFT_HEARTBEAT_IMPL_H

#include <pthread.h>
#include <stdbool.h>

#include "cft_heartbeat.h"
#include "comm/ras.h"

enum {
  MAGIC = 0x62746663,  // "cftb"; another byte order does not fit
  PASSED_ON = 64,      // ranks, at most, whose beats rank 0 passes on to all
  STRANGERS = 16,      // connections that have not shown the secret yet
  COMING_S = 30,       // seconds in which all are to come
};

typedef enum kind { HELLO = 1, BEAT, LOST, BYE } kind;

typedef struct message {
  uint32_t magic, kind;
  int32_t rank;
  int32_t pid;
  int32_t state, unused;  // cft_rank_state
  int64_t step, calls;
  double since;  // seconds that it has done this
  char secret[CFT_SECRET_BYTES];
  char host[64], doing[48], where[96];
} message;

typedef struct peer {
  int fd;      // -1: not connected
  size_t got;  // bytes of the message that is coming
  message coming;
  double heard;  // when, by now()
  bool left;
} peer;

struct cft_heartbeat {
  cft_heartbeat_how how;
  char secret[CFT_SECRET_BYTES];
  int listener, wake;
  peer *peers;  // rank 0: of each rank; the others: peers[0] alone
  peer strangers[STRANGERS];
  pthread_t thread;

  pthread_mutex_t lock;
  message *last;          // of each rank
  double *heard, *began;  // when a rank's last message came; when this rank began what it does
  int lost;
  char reason[128];
  bool taken, leaving;
  char *table;

  ras_place nccl;  // asked at a loss; without addresses: not
  pthread_t asking;
  bool answered, asks, said;  // the latter two are the thread's
  char answer[RAS_BYTES];

  double warned;  // the thread's: for how long the ranks had waited when it was last said
};

enum { LINE = 400 };  // bytes of a rank's line in a table

// A line for each rank but `but`, below a lock that the caller has; returns their bytes.
size_t cft_beat_lines(char *to, const cft_heartbeat *h, int but);

// For how long a rank has done what it does, below the lock.
double cft_beat_since(const cft_heartbeat *h, int rank);

// Rank 0: who is waited for in vain is said, and in the end lost. heartbeat_stall.c
void cft_beat_look_for_stalls(cft_heartbeat *h);

// A rank is lost, unless another one is.
void cft_beat_lose(cft_heartbeat *h, int rank, const char *reason);

// A text of somebody's, cut to its place, without control characters.
void cft_beat_text(char *to, size_t room, const char *from);

// A message of this rank, as it is now.
message cft_beat_own(cft_heartbeat *h, kind what);

// Send to all peers but one; -1: to all.
void cft_beat_send(cft_heartbeat *h, const message *m, int but);

// A message has come from a peer.
void cft_beat_take(cft_heartbeat *h, peer *p, message *m);

// Close a connection, if there is one.
void cft_beat_shut(peer *p);

// The thread of a heartbeat; ends when it is leaving.
void *cft_beat_thread(void *heartbeat);

#endif
