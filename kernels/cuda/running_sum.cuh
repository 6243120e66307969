// running_sum.cuh - a sum of exponentials that cannot overflow: s * exp(m), m the largest so far.
#pragma once
#include "cuda.cuh"

struct running_sum {
  float m, s;  // nothing yet: -infinity, 0
};

// Of two such sums the one with the larger m keeps it.
static __device__ __forceinline__ running_sum merge(running_sum a, running_sum b) {
  const float m = fmaxf(a.m, b.m);
  if (m == -INFINITY) return {m, a.s + b.s};  // else inf - inf below; a NaN in s goes on
  return {m, a.s * __expf(a.m - m) + b.s * __expf(b.m - m)};
}

static __device__ __forceinline__ running_sum warp_merge(running_sum v) {  // in every lane
  for (int x = 16; x > 0; x /= 2)
    v = merge(v, {__shfl_xor_sync(ALL_LANES, v.m, x), __shfl_xor_sync(ALL_LANES, v.s, x)});
  return v;
}

// More of them: the values x, and no exponential but one a call to bring the old sum to the new m.
// A NaN passes the maximum by, but not the sum.
template <int N>
static __device__ __forceinline__ void add(running_sum &v, const pack<float, N> &x) {
  float m = v.m;
#pragma unroll
  for (int k = 0; k < N; k++) m = fmaxf(m, x.v[k]);
  const float shift = m == -INFINITY ? 0 : m;
  v.s *= __expf(v.m - shift);
#pragma unroll
  for (int k = 0; k < N; k++) v.s += __expf(x.v[k] - shift);
  v.m = m;
}

// log sum exp of a row, in every thread of the block: what a loss and a log-probability are
// measured by, one function, so that they have the same bits. x(p) gives pack p of `packs`, as
// floats. Ends with a barrier behind it.
struct row_sum {
  running_sum all;
  float lse;
};
template <int N, class F>
static __device__ __forceinline__ row_sum sum_of_row(int64_t packs, F x) {
  __shared__ running_sum part[32];
  running_sum v = {-INFINITY, 0};
  for (int64_t p = threadIdx.x; p < packs; p += blockDim.x) add<N>(v, x(p));
  v = warp_merge(v);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();  // part is complete; and so is whatever else the threads did in their x
  running_sum all = part[0];
  for (unsigned w = 1; w < blockDim.x / 32; w++) all = merge(all, part[w]);
  return {all, all.m + __logf(all.s)};
}

// How many threads a row of so many packs has there: the bits depend on it.
static inline unsigned threads_of_row(int64_t packs) { return std::min(1024u, whole_warps(packs)); }
