// collectives.h - what the CPU's communicators ask of an MPI, or of Gloo: the table that a module exports.
//
// MPI fixes names and meanings, no numbers: a handle is a pointer in one library and an integer in
// the next. So mpi/mpi.c is compiled once against each library's header, and which one is opened
// shows when a communicator is (cpu/comm.c). gloo/gloo.cpp is for processes that no MPI has started.
#ifndef CFT_COLLECTIVES_H
#define CFT_COLLECTIVES_H

#include "base.h"

// How the processes of a run hear of each other before they have a communicator, where no MPI has
// started them.
typedef struct cft_meeting {
  int rank, size;
  const char *address;  // of this host, which the others reach
  // Each gives `bytes` of its own, and gets those of all ranks, in their order.
  cft_status (*gather)(void *with, const void *own, size_t bytes, void *all);
  void *with;
} cft_meeting;

// The CPU's communicator that is opened next is one of these, and goes by Gloo; NULL: MPI has
// started its ranks. Borrowed until it is set again.
void cft_cpu_meet_by(const cft_meeting *meeting);

// All calls are made by one thread, the one that called `start`, and answer 0 or what `text`
// explains. Counts are those of MPI: below 2^31.
typedef struct cft_collectives {
  // MPI knows who its ranks are, and says it; others are told by `meeting`, which is lent for the
  // call. Every later wait ends after timeout_s, where the library can do that.
  int (*start)(const cft_meeting *meeting, double timeout_s, int *rank, int *size);
  int (*finish)(void);  // all have come to this
  void (*text)(int error, char *text, size_t bytes);  // why a call failed

  // All ranks have come when `arrived` has set *done; it does not block, and `arrive` begins it. A
  // library whose calls sleep while they wait says at once that it is so.
  int (*arrive)(void);
  int (*arrived)(int *done);

  // x = the sum of all ranks' x. dtype is F32, F64 or I32.
  int (*sum)(void *x, int n, cft_dtype dtype);
  // part (n) = the sum of all ranks' x (size, n) in the row of this rank.
  int (*sum_part)(void *part, const void *x, int n, cft_dtype dtype);
  // x (size, bytes) = every rank's part.
  int (*gather)(void *x, const void *part, int bytes);
  int (*broadcast)(void *x, int bytes, int from);
} cft_collectives;

#define CFT_MPI_SYMBOL "cft_mpi_table"
#define CFT_GLOO_SYMBOL "cft_gloo_table"
#endif
