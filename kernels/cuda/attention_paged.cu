// attention_paged.cu - not written yet: generation runs on the CPU. The runtime makes "no cuda kernel for attention_paged" of it.
#include "host.h"

cft_status cft_cuda_attention_paged(cft_device *, cft_stream *, const cft_attention_paged_args *) {
  return cft_fail(CFT_E_UNSUPPORTED, "no cuda kernel for attention_paged");
}
