// cft_comm.h - collectives: tensors summed or copied over several processes with a device each.
//
// A communicator is one process's membership in a group of ranks, which are numbered from 0. One of
// them makes an id and hands it to the others, by whatever way they have; then all open. From there
// on all ranks make the same calls in the same order. GPUs have it by NCCL, CPUs by the MPI that
// has started the processes; either is opened with the first communicator, or id.
#ifndef CFT_COMM_H
#define CFT_COMM_H

#include "cft_tensor.h"

// An id for a new communicator: 128 bytes, not a text, good for one opening by each rank.
// E_UNSUPPORTED on a device without collectives; E_DEVICE where the library is missing: it says
// which file, and where it was looked for.
CFT_API cft_status cft_comm_new_id(cft_device *d, cft_comm_id *id);

// Join: returns when all `size` ranks have come. The caller owns *c, and closes or aborts it before
// its process ends.
//   d          borrowed; a device takes part in a group once, the CPU of a process in one ever
//   id         read, not kept; of the CPU's, which are all that MPI has started, not looked at
//   rank       0 to size - 1, each of them by one process
//   timeout_s  seconds, above 0: how long this and any later wait for the other ranks may last
// E_ARG; E_UNSUPPORTED and E_DEVICE as for an id; E_DEVICE where a rank did not come in time, or
// ids and sizes differ, with the library's words.
CFT_API cft_status cft_comm_open(cft_comm **c, cft_device *d, const cft_comm_id *id, int rank,
                                 int size, double timeout_s);

// x = the sum of all ranks' x; x has one shape and dtype everywhere.
//   x  contiguous, f32, bf16, f64 or i32, on the communicator's device; overwritten. All ranks get
//   the
//      same bits. The sum's order is the library's own, and the same in each run of as many ranks;
//      the CPU adds bf16 in f32, NCCL rounds it on the way
// Queued with the device's other work: on a GPU the call returns before it is done. That a rank has
// died or stands still is found by the call or by whatever waits for the device (cft_device_sync,
// reading a tensor): it answers E_DEVICE, and every wait fails from then on until the communicator
// is closed; x is undefined then. E_DTYPE, E_SHAPE, E_DEVICE (another device), E_STATE (has failed
// before).
CFT_API cft_status cft_comm_all_reduce(cft_comm *c, cft_tensor *x);

// x = the x of rank `from`, 0 to size - 1, the same for all; of any dtype. Otherwise as all_reduce.
CFT_API cft_status cft_comm_broadcast(cft_comm *c, cft_tensor *x, int from);

// part = this rank's part of the sum of all ranks' x.
//   part  (n) elements, contiguous; may be x's own part, which begins at element rank * n
//   x     size * n elements, contiguous, of part's dtype; undefined afterwards where part is in it
// Otherwise as all_reduce.
CFT_API cft_status cft_comm_reduce_scatter(cft_comm *c, cft_tensor *part, cft_tensor *x);

// x = the parts of all ranks in their order; of any dtype. `part` and `x` as in reduce_scatter.
CFT_API cft_status cft_comm_all_gather(cft_comm *c, cft_tensor *x, cft_tensor *part);

// What stands between group(c, 1) and group(c, 0) may go together, which is faster for many small
// ones. E_UNSUPPORTED where the device has no such call.
CFT_API cft_status cft_comm_group(cft_comm *c, int begin);

// From beside(c, 1) on, collectives go beside what the device does otherwise: each waits for what
// was queued before it, and nothing that is queued after it waits for it, until cft_comm_wait. Its
// tensors must neither be read nor written nor freed meanwhile. beside(c, 0) ends that for those that
// follow.
CFT_API void cft_comm_beside(cft_comm *c, int on);

// What is queued from now on waits for all collectives so far; on the CPU the call does. E_DEVICE
// as all_reduce.
CFT_API cft_status cft_comm_wait(cft_comm *c);

// Has one of its collectives failed, as far as is known? Waits for nothing.
CFT_API int cft_comm_failed(cft_comm *c);

// Leave when all that was queued is done, and free c, also where that fails: the failure is the
// answer.
CFT_API cft_status cft_comm_close(cft_comm *c);

// Leave at once, and free c: what is queued is ended, its tensors undefined. For a way out that
// must not wait for the others. NULL is accepted.
CFT_API void cft_comm_abort(cft_comm *c);

#endif
