// cft_rendezvous.h - processes that nothing but variables has told of each other meet, and open a
// communicator.
//
// Rank 0 listens at an address that all know, and the others come to it. Who comes shows a secret
// before anything else of theirs is read; whoever is there in place of rank 0 is left alone when it
// does not answer to it. TCP, not encrypted.
#ifndef CFT_RENDEZVOUS_H
#define CFT_RENDEZVOUS_H

#include "cft_comm.h"

typedef struct cft_rendezvous cft_rendezvous;

enum {
  CFT_RENDEZVOUS_SECRET = 192,  // bytes, with the 0 at the end
  CFT_RENDEZVOUS_PORTS = 8,     // that are tried, one after the other
};

typedef struct cft_rendezvous_how {
  const char *host;    // of rank 0, a name or an address; where it is a loopback, no other host is let in
  int port;            // the first one to try: another program may have it
  int rank, size;      // 0 <= rank < size
  const char *secret;  // the same for all ranks, and for no other run
  double seconds;      // in which all ranks are to come; above 0
} cft_rendezvous_how;

// Meet: returns when all ranks have come. *r is the caller's. E_ARG; E_IO where nobody can be reached,
// or some did not come: it says who is missing.
CFT_API cft_status cft_rendezvous_open(cft_rendezvous **r, const cft_rendezvous_how *how);

// Each rank gives as many bytes, and gets those of all, in the order of ranks: `all` has room for
// size * bytes. E_IO where a rank is gone or does not speak for the seconds that it had to come.
CFT_API cft_status cft_rendezvous_gather(cft_rendezvous *r, const void *own, size_t bytes,
                                         void *all);

// A communicator of the CPU between those who have met, by Gloo. As cft_comm_open.
CFT_API cft_status cft_rendezvous_comm(cft_comm **c, cft_device *d, cft_rendezvous *r,
                                       double timeout_s);

// Part. NULL is accepted.
CFT_API void cft_rendezvous_close(cft_rendezvous *r);

#endif
