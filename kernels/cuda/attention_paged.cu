// attention_paged.cu - attention over keys and values in pages: who takes the call.
//
// In bf16, D up to 128, sequences of few queries, which is a token that is being written, go to
// split_keys.cu, and those of many, which is a prompt that is being read, to flash.cu: a launch
// each, in which the other's blocks leave at once, since only the device knows which sequence is
// which. Where rows must not depend on how a prompt was cut, all go to the first. The rest is
// attention_plain.cu's.
#include "attention.cuh"

cft_status cft_cuda_attention_paged(cft_device *d, cft_stream *s,
                                    const cft_attention_paged_args *a) {
  if (a->nq == 0) return CFT_OK;
  const queue q(d, s, "attention_paged");
  if (!flash_takes(a->dtype, a->D)) return plain_paged(q, a);
  const bool all = q.device->rows_alone;
  if (!all && a->longest_q >= FEW_QUERIES) CFT_TRY(flash_paged(q, a));
  return split_keys_paged(q, a, all);
}
