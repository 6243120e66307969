// sample.cu - not written yet: generation runs on the CPU. The runtime makes "no cuda kernel for sample" of it.
#include "host.h"

cft_status cft_cuda_sample(cft_device *, cft_stream *, const cft_sample_args *) {
  return cft_fail(CFT_E_UNSUPPORTED, "no cuda kernel for sample");
}
