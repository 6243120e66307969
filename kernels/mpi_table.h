// mpi_table.h - what the CPU's communicators ask of an MPI: the table that a module of its ABI
// exports.
//
// MPI fixes names and meanings, no numbers: a handle is a pointer in one library and an integer in
// the next. So mpi/mpi.c is compiled once against each library's header, and which one is opened
// shows when a communicator is (cpu/comm.c).
#ifndef CFT_MPI_TABLE_H
#define CFT_MPI_TABLE_H

#include "base.h"

// All calls are made by one thread, the one that called `start`, and answer MPI_SUCCESS (0) or what
// `text` explains. Counts are those of MPI: below 2^31.
typedef struct cft_mpi {
  int (*start)(int *rank, int *size);
  int (*finish)(void);
  void (*text)(int error, char *text, size_t bytes);  // why a call failed

  // All ranks have come when `arrived` has set *done; it does not block, and `arrive` begins it.
  int (*arrive)(void);
  int (*arrived)(int *done);

  // x = the sum of all ranks' x. dtype is F32, F64 or I32.
  int (*sum)(void *x, int n, cft_dtype dtype);
  // part (n) = the sum of all ranks' x (size, n) in the row of this rank.
  int (*sum_part)(void *part, const void *x, int n, cft_dtype dtype);
  // x (size, bytes) = every rank's part.
  int (*gather)(void *x, const void *part, int bytes);
  int (*broadcast)(void *x, int bytes, int from);
} cft_mpi;

#define CFT_MPI_SYMBOL "cft_mpi_table"
#endif
