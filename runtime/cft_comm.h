// cft_comm.h - collectives: tensors summed or copied over several processes with a device each.
//
// A communicator is one process's membership in a group of ranks, which are numbered from 0. One of
// them makes an id and hands it to the others, by whatever way they have; then all open. From there
// on all ranks make the same calls in the same order. GPUs have it by NCCL, which is opened with
// the first id or communicator; the CPU has none.
#ifndef CFT_COMM_H
#define CFT_COMM_H

#include "cft_tensor.h"

// An id for a new communicator: 128 bytes, not a text, good for one opening by each rank.
// E_UNSUPPORTED on a device without collectives; E_DEVICE where the library is missing: it says
// which file, and where it was looked for.
CFT_API cft_status cft_comm_new_id(cft_device *d, cft_comm_id *id);

// Join: returns when all `size` ranks have come. The caller owns *c, and closes or aborts it before
// its process ends.
//   d          borrowed; a GPU takes part in a group once
//   id         read, not kept
//   rank       0 to size - 1, each of them by one process
//   timeout_s  seconds, above 0: how long this and any later wait for the other ranks may last
// E_ARG; E_UNSUPPORTED and E_DEVICE as for an id; E_DEVICE where a rank did not come in time, or
// ids and sizes differ, with NCCL's words.
CFT_API cft_status cft_comm_open(cft_comm **c, cft_device *d, const cft_comm_id *id, int rank,
                                 int size, double timeout_s);

// x = the sum of all ranks' x; x has one shape and dtype everywhere.
//   x  contiguous, f32 or bf16, on the communicator's device; overwritten. The sum's order is the
//      library's own, bf16 is rounded on the way; all ranks get the same bits
// Queued with the device's other work: the call returns before it is done. That a rank has died or
// stands still is found by whatever waits for the device (cft_device_sync, reading a tensor): it
// answers E_DEVICE, and every wait fails from then on until the communicator is closed; x is
// undefined then. E_DTYPE, E_SHAPE, E_DEVICE (another device), E_STATE (has failed before).
CFT_API cft_status cft_comm_all_reduce(cft_comm *c, cft_tensor *x);

// x = the x of rank `from`, 0 to size - 1, the same for all. Otherwise as all_reduce.
CFT_API cft_status cft_comm_broadcast(cft_comm *c, cft_tensor *x, int from);

// Leave when all that was queued is done, and free c, also where that fails: the failure is the
// answer.
CFT_API cft_status cft_comm_close(cft_comm *c);

// Leave at once, and free c: what is queued is ended, its tensors undefined. For a way out that
// must not wait for the others. NULL is accepted.
CFT_API void cft_comm_abort(cft_comm *c);

#endif
