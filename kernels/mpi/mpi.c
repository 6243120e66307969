// mpi.c - collectives by MPI, whose world is all of a run's ranks.
//
// Compiled against the header of one ABI, and opened behind a library of it: cpu/comm.c opens that
// first, where all may see its symbols, which this module leaves open.
#include "collectives.h"

#include <mpi.h>
#include <string.h>

static MPI_Request coming;

static MPI_Datatype type_of(cft_dtype dtype) {
  return dtype == CFT_F32 ? MPI_FLOAT : dtype == CFT_F64 ? MPI_DOUBLE : MPI_INT32_T;
}

// Only the thread that starts MPI makes its calls. A failure is an answer, not the end of the job.
static int start(const cft_meeting *meeting, double timeout_s, int *rank, int *size) {
  (void)meeting, (void)timeout_s;
  int level, e = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
  if (e == MPI_SUCCESS) e = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (e == MPI_SUCCESS) e = MPI_Comm_rank(MPI_COMM_WORLD, rank);
  if (e == MPI_SUCCESS) e = MPI_Comm_size(MPI_COMM_WORLD, size);
  return e;
}

static int finish(void) { return MPI_Finalize(); }

static void text(int error, char *to, size_t bytes) {
  char message[MPI_MAX_ERROR_STRING];
  int n = 0;
  if (MPI_Error_string(error, message, &n) != MPI_SUCCESS) n = 0;
  if ((size_t)n >= bytes) n = (int)bytes - 1;
  memcpy(to, message, (size_t)n);
  to[n] = 0;
}

static int arrive(void) { return MPI_Ibarrier(MPI_COMM_WORLD, &coming); }
static int arrived(int *done) { return MPI_Test(&coming, done, MPI_STATUS_IGNORE); }

static int sum(void *x, int n, cft_dtype dtype) {
  return MPI_Allreduce(MPI_IN_PLACE, x, n, type_of(dtype), MPI_SUM, MPI_COMM_WORLD);
}

static int sum_part(void *part, const void *x, int n, cft_dtype dtype) {
  return MPI_Reduce_scatter_block(x, part, n, type_of(dtype), MPI_SUM, MPI_COMM_WORLD);
}

static int gather(void *x, const void *part, int bytes) {
  return MPI_Allgather(part, bytes, MPI_BYTE, x, bytes, MPI_BYTE, MPI_COMM_WORLD);
}

static int broadcast(void *x, int bytes, int from) {
  return MPI_Bcast(x, bytes, MPI_BYTE, from, MPI_COMM_WORLD);
}

CFT_API const cft_collectives cft_mpi_table = {
    .start = start,
    .finish = finish,
    .text = text,
    .arrive = arrive,
    .arrived = arrived,
    .sum = sum,
    .sum_part = sum_part,
    .gather = gather,
    .broadcast = broadcast,
};
