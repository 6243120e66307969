// matmul_alone.h - products by our own kernels, whose rows do not depend on each other, for matmul.cu.
#pragma once
#include "host.h"

// c = x w^T [+ bias], none of m, n, k 0. E_ARG for any other product. (matmul_alone.cu)
cft_status matmul_alone(const queue &q, const cft_matmul_args *a);

// Any product but its a_sum, where there is no cuBLASLt: what is stored the other way is turned
// first, and the same kernels have it.
cft_status matmul_own(const queue &q, const cft_matmul_args *a);
