// matmul_alone.cu - c = x w^T [+ bias] with one algorithm a weight: what a row of c is depends on
// its row of x alone, to the bit, neither on the rows beside it nor on how many there are. For what
// must not change with a batch (cft_device_set_rows_alone); made for few rows, right for any
// number. Where there is no cuBLASLt it has all products, which are turned into this one.
//
// bf16, on tensor cores: a block has 16 rows of w, which are a product's 16 rows, and up to 64 rows
// of x, which are its columns. Its eight warps take 32 of k in turn and add up in the order of the
// warps. Operands go from memory to registers 16 bytes a lane: which of these eight elements meets
// which place of a product is free, as long as both operands agree. w is read once for 64 rows of
// x, by blocks that follow each other, so device memory sees it once; x comes from L1 and L2.
// f32: a warp has a row of w and eight of x; a lane takes four of k in turn.
//
// That a row of `mma` does not depend on the others is what PTX's formula says of it; that an
// instruction of a card always adds in one order is not written anywhere, and is what a card's
// check of this file looks at. Any sizes, strides and addresses: where 16 bytes cannot be read at
// once, the same elements are read one by one.
#include "matmul_alone.h"

#include "mma.cuh"

constexpr int ROWS = 16;   // of w, a block
constexpr int WARPS = 8;   // share k
constexpr int CHUNK = 32;  // of k, a warp's turn: 8 a lane
constexpr int AHEAD = 4;   // turns whose w is on its way
constexpr int PITCH = 20;  // of a row's sums in shared memory: no two lanes of a store meet

struct product {
  const void *x, *w, *bias;
  int64_t m, n, k, x_stride, w_stride, c_stride;
  bool wide;  // 16 bytes at a time
  bool adds;  // to what c holds
};

// Eight elements of a row from k on; zeros beyond the row's end, and of no row.
static __device__ __forceinline__ uint4 eight_of(const bf16 *row, int64_t k, int64_t end,
                                                 bool wide) {
  uint4 out = {0, 0, 0, 0};
  if (!row || k >= end) return out;
  if (wide && k + 8 <= end) return *reinterpret_cast<const uint4 *>(row + k);
  unsigned short e[8];
#pragma unroll
  for (int i = 0; i < 8; i++) {
    e[i] = 0;
    if (k + i < end) memcpy(&e[i], row + k + i, 2);
  }
  memcpy(&out, e, 16);
  return out;
}

// x8: eighths of x's rows, of which each fills a product's columns. ptxas is told of one block a
// multiprocessor: it spills else.
template <int x8, class C>
static __global__ void __launch_bounds__(WARPS * 32, 1) alone_kernel(C *c, product p) {
  float *sums = dynamic_shared<float>();  // (warps, rows of x, PITCH)
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t m0 = (int64_t)blockIdx.x * x8 * 8, n0 = (int64_t)blockIdx.y * ROWS;
  const auto row_of = [&](const void *base, int64_t stride, int64_t row, int64_t rows) {
    return row < rows ? (const bf16 *)base + row * stride : nullptr;
  };
  const bf16 *w[2] = {row_of(p.w, p.w_stride, n0 + lane / 4, p.n),
                      row_of(p.w, p.w_stride, n0 + lane / 4 + 8, p.n)};
  const int64_t mine = warp * CHUNK + lane % 4 * 8, turn = WARPS * CHUNK;

  float sum[x8][4] = {};
  for (int64_t k = mine; k - lane % 4 * 8 < p.k; k += AHEAD * turn) {
    uint4 of_w[AHEAD][2];
#pragma unroll
    for (int t = 0; t < AHEAD; t++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        of_w[t][half] = eight_of(w[half], k + t * turn, p.k, p.wide);
#pragma unroll
    for (int t = 0; t < AHEAD; t++) {
      const uint4 low = of_w[t][0], high = of_w[t][1];
      const uint32_t first[4] = {low.x, high.x, low.y, high.y},
                     second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
      for (int j = 0; j < x8; j++) {
        const bf16 *x = row_of(p.x, p.x_stride, m0 + j * 8 + lane / 4, p.m);
        const uint4 of_x = eight_of(x, k + t * turn, p.k, p.wide);
        mma_16x8x16(sum[j], first, of_x.x, of_x.y);
        mma_16x8x16(sum[j], second, of_x.z, of_x.w);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < x8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++)
      sums[(warp * x8 * 8 + j * 8 + lane % 4 * 2 + e % 2) * PITCH + lane / 4 + e / 2 * 8] =
          sum[j][e];
  __syncthreads();  // all warps' sums are there
  for (int i = (int)threadIdx.x; i < x8 * 8 * ROWS; i += WARPS * 32) {
    const int row = i / ROWS, column = i % ROWS;
    if (m0 + row >= p.m || n0 + column >= p.n) continue;
    float v = 0;
#pragma unroll
    for (int from = 0; from < WARPS; from++) v += sums[(from * x8 * 8 + row) * PITCH + column];
    if (p.bias) v += to_float(((const bf16 *)p.bias)[n0 + column]);
    C *to = c + (m0 + row) * p.c_stride + n0 + column;
    if (p.adds) v += to_float(*to);
    *to = from_float<C>(v);
  }
}

template <int x8>
static cft_status multiply(const queue &q, const cft_matmul_args *a, const product &p) {
  const dim3 grid(blocks_for(a->m, x8 * 8), blocks_for(a->n, ROWS));
  const size_t shared = sizeof(float) * WARPS * x8 * 8 * PITCH;
  if (a->c_dtype == CFT_F32)
    return run(q, alone_kernel<x8, float>, grid, WARPS * 32, shared, (float *)a->c, p);
  return run(q, alone_kernel<x8, bf16>, grid, WARPS * 32, shared, (bf16 *)a->c, p);
}

constexpr int X_ROWS = 8;

static __global__ void __launch_bounds__(WARPS * 32) alone_f32_kernel(float *c, product p) {
  const int lane = threadIdx.x % 32;
  const int64_t m0 = (int64_t)blockIdx.x * X_ROWS;
  const int64_t column = (int64_t)blockIdx.y * WARPS + threadIdx.x / 32;
  if (column >= p.n) return;  // warps leave whole
  const float *w = (const float *)p.w + column * p.w_stride, *x = (const float *)p.x;
  float sum[X_ROWS] = {};
  for (int64_t k = lane * 4; k < p.k; k += 128)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      if (k + e >= p.k) continue;
      const float of_w = w[k + e];
#pragma unroll
      for (int j = 0; j < X_ROWS; j++)
        if (m0 + j < p.m) sum[j] = __fmaf_rn(of_w, x[(m0 + j) * p.x_stride + k + e], sum[j]);
    }
#pragma unroll
  for (int j = 0; j < X_ROWS; j++) {
    if (m0 + j >= p.m) continue;  // for all lanes
    float v = warp_sum(sum[j]);
    if (p.bias) v += ((const float *)p.bias)[column];
    if (lane > 0) continue;
    float *to = c + (m0 + j) * p.c_stride + column;
    *to = p.adds ? v + *to : v;
  }
}

// c = [c +] x w^T [+ bias].
static cft_status multiply_rows(const queue &q, const cft_matmul_args *a) {
  const bool wide = aligned16(a->a, a->b) && a->a_stride % 8 == 0 && a->b_stride % 8 == 0;
  const product p = {a->a,        a->b,        a->bias,     a->m, a->n,        a->k,
                     a->a_stride, a->b_stride, a->c_stride, wide, a->beta != 0};
  if (a->dtype == CFT_F32) {
    const dim3 grid(blocks_for(a->m, X_ROWS), blocks_for(a->n, WARPS));
    return run(q, alone_f32_kernel, grid, WARPS * 32, 0, (float *)a->c, p);
  }
  return a->m <= 8    ? multiply<1>(q, a, p)
         : a->m <= 16 ? multiply<2>(q, a, p)
         : a->m <= 32 ? multiply<4>(q, a, p)
                      : multiply<8>(q, a, p);
}

cft_status matmul_alone(const queue &q, const cft_matmul_args *a) {
  if (a->trans_a || !a->trans_b || a->beta || a->a_sum)
    return cft_fail(CFT_E_ARG,
                    "%s: rows alone are promised of x w^T, without sums: not of another product, "
                    "a gradient's for example",
                    q.op);
  return multiply_rows(q, a);
}

// x (rows, columns) the other way, its rows 16 bytes apart or a multiple.
static cft_status turn(const queue &q, scratch *memory, const void **x, int64_t *x_stride,
                       int64_t rows, int64_t columns, cft_dtype dtype) {
  const int64_t stride = (rows + 7) / 8 * 8;
  CFT_TRY(memory->take(q, (size_t)(columns * stride) * cft_dtype_bytes(dtype)));
  const cft_strided_args a = {memory->as<void>(), *x, 2, {columns, rows}, {stride, 1}, {1, *x_stride}, dtype};
  cft_stream s = {q.stream};
  *x = memory->as<void>(), *x_stride = stride;
  return cft_cuda_strided_copy(q.device, &s, &a);
}

cft_status matmul_own(const queue &q, const cft_matmul_args *a) {
  cft_matmul_args rows = *a;
  scratch x, w;
  if (a->trans_a) CFT_TRY(turn(q, &x, &rows.a, &rows.a_stride, a->k, a->m, a->dtype));
  if (!a->trans_b) CFT_TRY(turn(q, &w, &rows.b, &rows.b_stride, a->k, a->n, a->dtype));
  return multiply_rows(q, &rows);
}
