// mma.cuh - tensor cores and asynchronous copies: each a function with the PTX for nvcc and the
// same meaning in plain C++ for the emulator (tests/cuda_emu/emu/mma_emu.h). A kernel that uses
// only these runs on both.
#pragma once
#include "cuda.cuh"

#ifdef __CUDACC__

// Four 8x8 matrices of bf16 from shared memory; lane l gives the address of row l % 8 of matrix
// l / 8, and gets elements (l / 4, 2 * (l % 4)) and the next of each.
static __device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const bf16 *row) {
  const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}

// The same, each matrix transposed: lane l gets elements (2 * (l % 4), l / 4) and the one below.
static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const bf16 *row) {
  const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}

// d (16x8, f32) += a (16x16) * b (16x8), bf16.
static __device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4],
                                                   uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Start copying 16 bytes to shared memory: `bytes` of them from global memory, the rest zeros.
static __device__ __forceinline__ void copy_async16(void *to, const void *from, int bytes) {
  const uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes)
               : "memory");
}
static __device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int groups>
static __device__ __forceinline__ void copy_async_wait() {  // until at most so many are under way
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

#else

#include "mma_emu.h"  // the same functions

#endif
