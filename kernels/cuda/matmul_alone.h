// matmul_alone.h - products whose rows do not depend on each other, for matmul.cu.
#pragma once
#include "host.h"

// c = x w^T [+ bias], none of m, n, k 0. E_ARG for any other product. (matmul_alone.cu)
cft_status matmul_alone(const queue &q, const cft_matmul_args *a);
