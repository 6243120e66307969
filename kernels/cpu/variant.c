// variant.c - the kernels of one dtype and instruction set, as a table.
#include "cpu.h"

#ifdef CFT_CPU_ANY
#define ANY_DTYPE(name) .name = CPU(name),
#define BY_DTYPE(name)
#else
#define ANY_DTYPE(name)
#define BY_DTYPE(name) .name = CPU(name),
#endif

const cft_kernels CPU(kernels) = {
#define XX(name, args, kind) kind(name)
    CFT_KERNEL_MAP(XX)
#undef XX
};
