// mma_emu.h - tensor-core fragments and asynchronous copies for cuda_emu: what the PTX of
// kernels/cuda/mma.cuh means. Fragment layouts: PTX ISA, "Matrix fragments for mma.m16n8k16" and
// "ldmatrix". Sums are in f32, one product after the other; a tensor core adds in another order and
// precision, so compare with a tolerance.
#pragma once
#include "cuda_emu.h"

namespace cuda_emu {

// To shared memory. Lands at once, at the wait, or either, by the order in force: both may happen
// on a card.
void copy_async(void *to, const void *from, int bytes);
void copy_async_commit();
void copy_async_wait(int groups);

struct ldmatrix_lane {
  uint32_t *r;
  const __nv_bfloat16 *row;
};
struct mma_lane {
  float *d;
  const uint32_t *a;
  uint32_t b[2];
};

inline float half_of(uint32_t two, int which) {
  return bits<float>(which ? two & 0xffff0000u : two << 16);
}

CUDA_EMU_UNCHECKED inline void complete_ldmatrix(unsigned, void **arg) {
  for (int lane = 0; lane < 32; lane++)
    for (int matrix = 0; matrix < 4; matrix++)
      memcpy(&((ldmatrix_lane *)arg[lane])->r[matrix],
             ((ldmatrix_lane *)arg[matrix * 8 + lane / 4])->row + lane % 4 * 2, 4);
}

CUDA_EMU_UNCHECKED inline void complete_ldmatrix_trans(unsigned, void **arg) {
  for (int lane = 0; lane < 32; lane++)
    for (int matrix = 0; matrix < 4; matrix++)
      for (int e = 0; e < 2; e++)
        memcpy((char *)&((ldmatrix_lane *)arg[lane])->r[matrix] + e * 2,
               ((ldmatrix_lane *)arg[matrix * 8 + lane % 4 * 2 + e])->row + lane / 4, 2);
}

CUDA_EMU_UNCHECKED inline void complete_mma(unsigned, void **arg) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const mma_lane *l = (mma_lane *)arg[lane];
    for (int e = 0; e < 8; e++)  // register e / 2: rows +8 in 1 and 3, columns +8 in 2 and 3
      a[lane / 4 + e / 2 % 2 * 8][lane % 4 * 2 + e % 2 + e / 4 * 8] = half_of(l->a[e / 2], e % 2);
    for (int e = 0; e < 4; e++)
      b[lane % 4 * 2 + e % 2 + e / 2 * 8][lane / 4] = half_of(l->b[e / 2], e % 2);
  }
  for (int lane = 0; lane < 32; lane++)
    for (int e = 0; e < 4; e++) {
      float &d = ((mma_lane *)arg[lane])->d[e];
      for (int k = 0; k < 16; k++) d += a[lane / 4 + e / 2 * 8][k] * b[k][lane % 4 * 2 + e % 2];
    }
}

}  // namespace cuda_emu

inline void ldmatrix_by(void (*complete)(unsigned, void **), const char *what, uint32_t (&r)[4],
                        const __nv_bfloat16 *row, const char *file, int line) {
  if ((uintptr_t)row % 16)
    cuda_emu::fail("misaligned: %s from %p at %s:%d", what, (const void *)row, file, line);
  cuda_emu::access(row, 16, false, false);
  cuda_emu::ldmatrix_lane l = {r, row};
  cuda_emu::sync_warp(~0u, what, &l, complete, file, line);
}
inline void ldmatrix_x4(uint32_t (&r)[4], const __nv_bfloat16 *row, CUDA_EMU_AT) {
  ldmatrix_by(cuda_emu::complete_ldmatrix, "ldmatrix", r, row, file, line);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const __nv_bfloat16 *row, CUDA_EMU_AT) {
  ldmatrix_by(cuda_emu::complete_ldmatrix_trans, "ldmatrix.trans", r, row, file, line);
}

inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                        CUDA_EMU_AT) {
  cuda_emu::mma_lane l = {d, a, {b0, b1}};
  cuda_emu::sync_warp(~0u, "mma", &l, cuda_emu::complete_mma, file, line);
}

inline void copy_async16(void *to, const void *from, int bytes, CUDA_EMU_AT) {
  if ((uintptr_t)to % 16 || (uintptr_t)from % 16)
    cuda_emu::fail("misaligned: cp.async from %p to %p at %s:%d", from, to, file, line);
  cuda_emu::copy_async(to, from, bytes);
}
inline void copy_async_commit() { cuda_emu::copy_async_commit(); }
template <int groups>
void copy_async_wait() {
  cuda_emu::copy_async_wait(groups);
}
