// table.cu - the kernels that the CUDA device has.
#include "host.h"

extern "C" const cft_kernels cft_cuda_kernels;
const cft_kernels cft_cuda_kernels = {
#define XX(name, args, kind) .name = cft_cuda_##name,
    CFT_KERNEL_MAP(XX)
#undef XX
};
