// tiles.cuh - what attention on tensor cores shares: tiles of bf16 in shared memory, and products
// of them by a warp. D is filled up to DP = 64 or 128 by zeros.
#pragma once
#include "mma.cuh"

template <int DP>
constexpr int PITCH = DP + 8;  // rows stay 16-byte aligned, and eight of them hit all banks

constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

// Rows [0, count) of D columns to a tile of `rows` x DP, the rest zeros, by `threads` threads of
// which this is number `me`. from(r) is where row r begins; `wide`: 16 bytes of it may be copied at
// a time. count > 0.
template <int DP, class Row>
static __device__ __forceinline__ void fetch_by(int me, int threads, bf16 *tile, int rows,
                                                int count, int D, bool wide, Row from) {
  for (int i = me; i < rows * (DP / 8); i += threads) {
    const int r = i / (DP / 8), c = i % (DP / 8) * 8;
    bf16 *to = tile + r * PITCH<DP> + c;
    const bf16 *row = from(r < count ? r : 0);
    if (wide) {
      const bool inside = r < count && c < D;
      copy_async16(to, inside ? row + c : row, inside ? 16 : 0);
    } else {
      for (int e = 0; e < 8; e++) to[e] = r < count && c + e < D ? row[c + e] : __float2bfloat16(0);
    }
  }
}

// Where this lane points for ldmatrix_x4. As a: 16 rows x 16 of k. As b by rows: 16 rows, which are
// columns of b, x 16 of k. As b by columns (transposed on the way): 16 of k x 16 columns.
template <int DP>
static __device__ __forceinline__ const bf16 *as_a(const bf16 *tile, int row, int k) {
  const int lane = threadIdx.x % 32;
  return tile + (row + lane % 16) * PITCH<DP> + k + lane / 16 * 8;
}
template <int DP>
static __device__ __forceinline__ const bf16 *as_b_rows(const bf16 *tile, int row, int k) {
  const int lane = threadIdx.x % 32;
  return tile + (row + lane % 8 + lane / 16 * 8) * PITCH<DP> + k + lane / 8 % 2 * 8;
}
template <int DP>
static __device__ __forceinline__ const bf16 *as_b_columns(const bf16 *tile, int k, int column) {
  const int lane = threadIdx.x % 32;
  return tile + (k + lane % 16) * PITCH<DP> + column + lane / 16 * 8;
}

// sum (16 x N) += a (16 x DP, rows of a tile from row0) * b^T (N rows of another tile).
template <int DP, int N>
static __device__ __forceinline__ void multiply_rows(float (&sum)[N / 8][4], const bf16 *a,
                                                     int row0, const bf16 *b) {
#pragma unroll
  for (int k = 0; k < DP; k += 16) {
    uint32_t fa[4];
    ldmatrix_x4(fa, as_a<DP>(a, row0, k));
#pragma unroll
    for (int j = 0; j < N; j += 16) {
      uint32_t fb[4];
      ldmatrix_x4(fb, as_b_rows<DP>(b, j, k));
      mma_16x8x16(sum[j / 8], fa, fb[0], fb[1]);
      mma_16x8x16(sum[j / 8 + 1], fa, fb[2], fb[3]);
    }
  }
}

static __device__ __forceinline__ uint32_t two_of(float low, float high) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &v, 4);
  return bits;
}

// sum (16 x DP) += p (16 x N, as a product left it) * b (N rows of a tile).
template <int DP, int N>
static __device__ __forceinline__ void multiply_sums(float (&sum)[DP / 8][4],
                                                     const float (&p)[N / 8][4], const bf16 *b) {
#pragma unroll
  for (int k = 0; k < N; k += 16) {
    const float(&low)[4] = p[k / 8], (&high)[4] = p[k / 8 + 1];
    const uint32_t fa[4] = {two_of(low[0], low[1]), two_of(low[2], low[3]),
                            two_of(high[0], high[1]), two_of(high[2], high[3])};
#pragma unroll
    for (int j = 0; j < DP; j += 16) {
      uint32_t fb[4];
      ldmatrix_x4_trans(fb, as_b_columns<DP>(b, k, j));
      mma_16x8x16(sum[j / 8], fa, fb[0], fb[1]);
      mma_16x8x16(sum[j / 8 + 1], fa, fb[2], fb[3]);
    }
  }
}

static __device__ __forceinline__ float most_of_four(float v) {  // lanes that share a row
  v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
  return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}
static __device__ __forceinline__ float sum_of_four(float v) {
  v += __shfl_xor_sync(ALL_LANES, v, 1);
  return v + __shfl_xor_sync(ALL_LANES, v, 2);
}

// The running softmax of a warp's 16 rows: N more keys from `first` on, of which each of this
// lane's two rows sees those before `seen`, where `masked` (else all). `score` is q k^T, and
// becomes weights; `top` (-INFINITY at first) is the highest score yet, in powers of 2, `total` the
// sum of this lane's weights, `sum` that of values: both are brought to the new top.
template <int DP, int N>
static __device__ __forceinline__ void take_scores(float (&score)[N / 8][4], float (&top)[2],
                                                   float (&total)[2], float (&sum)[DP / 8][4],
                                                   const int (&seen)[2], int first, bool masked,
                                                   float scale) {
  const int lane = threadIdx.x % 32;
  float high[2] = {top[0], top[1]}, keep[2], shift[2];
#pragma unroll
  for (int j = 0; j < N / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int key = first + j * 8 + lane % 4 * 2 + e % 2;
      float &x = score[j][e];
      x = masked && key >= seen[e / 2] ? -INFINITY : x * (scale * LOG2E);
      high[e / 2] = fmaxf(high[e / 2], x);
    }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    high[half] = most_of_four(high[half]);
    shift[half] = high[half] == -INFINITY ? 0 : high[half];  // nothing seen yet: exp2(-inf) is 0
    keep[half] = exp2f(top[half] - shift[half]);
    top[half] = high[half];
    total[half] *= keep[half];
  }
#pragma unroll
  for (int j = 0; j < N / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      score[j][e] = exp2f(score[j][e] - shift[e / 2]);
      total[e / 2] += score[j][e];
    }
#pragma unroll
  for (int j = 0; j < DP / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) sum[j][e] *= keep[e / 2];
}
