// measure.h - what measurements of the CPU's kernels need beside the kernels (`cftrun bench`).
#ifndef CFT_CPU_MEASURE_H
#define CFT_CPU_MEASURE_H

#include "base.h"

// FLOP/s of all the CPU's threads at multiply-adds alone, in f32 or bf16, by the instruction set in
// use: the best of a few short bursts. Takes about a tenth of a second.
CFT_API double cft_cpu_burst(cft_dtype dtype);

// The instruction set in use, by the name that CFT_ISA has for it: "avx2". Static.
CFT_API const char *cft_cpu_isa(void);

#endif
