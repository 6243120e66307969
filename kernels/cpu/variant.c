// variant.c - the kernels of one dtype and instruction set, as a table.
#include "cpu.h"

#ifdef CFT_CPU_ANY
const cft_kernels CPU(kernels) = {
    .gather_rows = CPU(gather_rows),
    .scatter_rows = CPU(scatter_rows),
    .cast = CPU(cast),
    .strided_copy = CPU(strided_copy),
    .fill = CPU(fill),
    .clip_scale = CPU(clip_scale),
};
#else
const cft_kernels CPU(kernels) = {
    .matmul = CPU(matmul),
    .embedding_fwd = CPU(embedding_fwd),
    .embedding_bwd = CPU(embedding_bwd),
    .rmsnorm_fwd = CPU(rmsnorm_fwd),
    .rmsnorm_bwd = CPU(rmsnorm_bwd),
    .rope = CPU(rope),
    .swiglu_fwd = CPU(swiglu_fwd),
    .swiglu_bwd = CPU(swiglu_bwd),
    .attention_fwd = CPU(attention_fwd),
    .attention_bwd = CPU(attention_bwd),
    .attention_merge = CPU(attention_merge),
    .cross_entropy = CPU(cross_entropy),
    .softmax_fwd = CPU(softmax_fwd),
    .softmax_bwd = CPU(softmax_bwd),
    .unary = CPU(unary),
    .binary = CPU(binary),
    .axpby = CPU(axpby),
    .reduce = CPU(reduce),
    .random = CPU(random),
    .sum_squares = CPU(sum_squares),
    .adamw = CPU(adamw),
};
#endif
