// comm.h - what the CPU's device table has of communicators.
#ifndef CFT_CPU_COMM_H
#define CFT_CPU_COMM_H

#include "cpu/cpu.h"
#include "collectives.h"

// Open the MPI that has started this process. `name` says which that is. E_DEVICE says what is
// missing, E_ARG that CFT_MPI names none.
cft_status cft_mpi_open(const cft_collectives **table, const char **name);

// Open Gloo, for processes that meet without MPI.
cft_status cft_gloo_open(const cft_collectives **table, const char **name);

// As device.h says.
cft_status cpu_comm_new_id(cft_device *d, cft_comm_id *id);
cft_status cpu_comm_open(cft_device *d, cft_comm **c, const cft_comm_id *id, int rank, int size,
                         double timeout_s);
cft_status cpu_all_reduce(cft_comm *c, cft_stream *s, void *x, int64_t n, cft_dtype dtype);
cft_status cpu_broadcast(cft_comm *c, cft_stream *s, void *x, int64_t n, cft_dtype dtype, int from);
cft_status cpu_reduce_scatter(cft_comm *c, cft_stream *s, void *part, const void *x, int64_t n,
                              cft_dtype dtype);
cft_status cpu_all_gather(cft_comm *c, cft_stream *s, void *x, const void *part, int64_t n,
                          cft_dtype dtype);
cft_status cpu_comm_group(cft_comm *c, int begin);
cft_status cpu_comm_wait(cft_comm *c);
int cpu_comm_failed(cft_comm *c);
cft_status cpu_comm_close(cft_comm *c, int at_once);

#endif
