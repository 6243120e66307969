// cuda.cuh - what every .cu file starts from: the launch, 16-byte accesses, reductions, queues.
//
// Compiled by nvcc this is CUDA; compiled by a host compiler, the emulator of tests/cuda_emu stands
// in for it, and the same kernels are tested without a GPU. No other file tells the two apart but
// mma.cuh, which holds the inline PTX. What that asks of a kernel:
//   - kernels and device functions are `static`;
//   - dynamic shared memory comes from dynamic_shared<T>();
//   - PTX lives in mma.cuh, each piece with its meaning in C++ beside it;
//   - no __activemask, cooperative groups, spinning on another block, __constant__ variables.
#pragma once
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, A... args) {
  kernel<<<grid, block, shared_bytes, stream>>>(args...);
  return cudaGetLastError();
}
#else
#include "cuda_emu.h"
#endif

#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <type_traits>

#include "host.h"

using bf16 = __nv_bfloat16;
using f16 = __half;
constexpr unsigned ALL_LANES = 0xffffffffu;

// ---- launching -----------------------------------------------------------------------------

constexpr size_t SHARED_UNASKED = 48 * 1024;  // above it a kernel must ask for shared memory

// Launch a kernel of this queue's op; a failure names the op.
template <class... P, class... A>
cft_status run(const queue &q, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
               A... args) {
  if (shared_bytes > SHARED_UNASKED)
    CFT_TRY(q.check(cudaFuncSetAttribute(
        (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes)));
  cudaError_t e = launch(kernel, grid, block, shared_bytes, q.stream, args...);
  if (e == cudaErrorMemoryAllocation) {  // for the kernel's own code, at its first launch
    q.make_room();
    e = launch(kernel, grid, block, shared_bytes, q.stream, args...);
  }
  return q.check(e);
}

// fn<float> or fn<bf16>, by dtype; any other is answered "no cuda kernel for rmsnorm_fwd in f64".
#define BY_FLOAT(q, dtype, fn, ...)                  \
  ((dtype) == CFT_F32    ? fn<float>(q, __VA_ARGS__) \
   : (dtype) == CFT_BF16 ? fn<bf16>(q, __VA_ARGS__)  \
                         : no_kernel(q, dtype))

// The op cft_cuda_NAME where all of it is that; `nothing`, of `a`, says when there is nothing to
// do.
#define FLOAT_OP(name, args, nothing, fn)                                   \
  cft_status cft_cuda_##name(cft_device *d, cft_stream *s, const args *a) { \
    if (nothing) return CFT_OK;                                             \
    const queue q(d, s, #name);                                             \
    return BY_FLOAT(q, a->dtype, fn, a);                                    \
  }

static inline unsigned blocks_for(int64_t n, int64_t per_block) {
  return (unsigned)((n + per_block - 1) / per_block);
}
static inline unsigned whole_warps(int64_t threads) { return (unsigned)((threads + 31) / 32 * 32); }

// ---- values --------------------------------------------------------------------------------

static __device__ __forceinline__ float to_float(float v) { return v; }
static __device__ __forceinline__ float to_float(bf16 v) { return __bfloat162float(v); }
template <class T>
static __device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float v) {
  return __float2bfloat16(v);
}

// N values of T that are loaded and stored by as few instructions as there are: 16 bytes each where
// there are that many. The address must be a multiple of min(16, N * sizeof(T)).
template <class T, int N>
struct pack {
  T v[N];
};

template <int N, class T>
static __device__ __forceinline__ pack<T, N> load(const T *p) {
  constexpr int bytes = N * (int)sizeof(T);
  pack<T, N> out;
  if constexpr (N == 1) {
    out.v[0] = *p;
  } else if constexpr (bytes % 16 == 0) {
#pragma unroll
    for (int i = 0; i < bytes / 16; i++) {
      const uint4 raw = reinterpret_cast<const uint4 *>(p)[i];
      memcpy(reinterpret_cast<char *>(&out) + i * 16, &raw, 16);
    }
  } else if constexpr (bytes == 8) {
    const uint2 raw = *reinterpret_cast<const uint2 *>(p);
    memcpy(&out, &raw, 8);
  } else {
    static_assert(bytes == 4, "4, 8 or a multiple of 16 bytes");
    const unsigned raw = *reinterpret_cast<const unsigned *>(p);
    memcpy(&out, &raw, 4);
  }
  return out;
}

template <int N, class T>
static __device__ __forceinline__ void store(T *p, const pack<T, N> &v) {
  constexpr int bytes = N * (int)sizeof(T);
  if constexpr (N == 1) {
    *p = v.v[0];
  } else if constexpr (bytes % 16 == 0) {
#pragma unroll
    for (int i = 0; i < bytes / 16; i++) {
      uint4 raw;
      memcpy(&raw, reinterpret_cast<const char *>(&v) + i * 16, 16);
      reinterpret_cast<uint4 *>(p)[i] = raw;
    }
  } else if constexpr (bytes == 8) {
    uint2 raw;
    memcpy(&raw, &v, 8);
    *reinterpret_cast<uint2 *>(p) = raw;
  } else {
    static_assert(bytes == 4, "4, 8 or a multiple of 16 bytes");
    unsigned raw;
    memcpy(&raw, &v, 4);
    *reinterpret_cast<unsigned *>(p) = raw;
  }
}

template <int N, class T>
static __device__ __forceinline__ pack<float, N> load_floats(const T *p) {
  const pack<T, N> in = load<N>(p);
  pack<float, N> out;
#pragma unroll
  for (int k = 0; k < N; k++) out.v[k] = to_float(in.v[k]);
  return out;
}
template <int N, class T>
static __device__ __forceinline__ void store_floats(T *p, const pack<float, N> &v) {
  pack<T, N> out;
#pragma unroll
  for (int k = 0; k < N; k++) out.v[k] = from_float<T>(v.v[k]);
  store<N>(p, out);
}

// How many elements a thread takes at a time where alignment allows: 16 bytes of the widest type.
template <class... T>
constexpr int WIDTH = 16 / (int)std::max({sizeof(T)...});

template <class... P>
static inline bool aligned16(P... p) {  // NULL is
  return (((uintptr_t)p % 16 == 0) && ...);
}

// Does `f(std::integral_constant<int, N>, i)` for this thread's elements of a flat array: once for
// N of them, or one at a time at the end.
template <int N, class F>
static __device__ __forceinline__ void for_elements(int64_t n, F f) {
  const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
  if (i + N <= n) {
    f(std::integral_constant<int, N>{}, i);
  } else {
    for (int64_t k = i; k < n; k++) f(std::integral_constant<int, 1>{}, k);
  }
}

// ---- rows ----------------------------------------------------------------------------------

// A grid over rows of d elements, N a thread: a block has one row, or a stretch of it.
struct row_grid {
  unsigned threads, stretches, blocks;
  row_grid(int64_t n, int64_t d, int N)
      : threads(std::min(256u, whole_warps((d + N - 1) / N))),
        stretches(blocks_for(d, (int64_t)threads * N)),
        blocks((unsigned)(n * stretches)) {}
};

// Where a thread of such a grid stands: its row, and its first column (d or more: none).
struct row_place {
  int64_t row, column;
};
template <int N>
static __device__ __forceinline__ row_place place_in_rows(unsigned stretches) {
  return {blockIdx.x / stretches,
          ((int64_t)(blockIdx.x % stretches) * blockDim.x + threadIdx.x) * N};
}

// ---- shared memory, reductions -------------------------------------------------------------

// The one declaration of dynamic shared memory: nvcc wants a single type for it in a file.
template <class T>
static __device__ __forceinline__ T *dynamic_shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
  return reinterpret_cast<T *>(dynamic_shared_bytes);
#else
  return reinterpret_cast<T *>(cuda_emu::dynamic_shared());
#endif
}

template <class T>
static __device__ __forceinline__ T warp_sum(T v) {  // in every lane
  for (int x = 16; x > 0; x /= 2) v += __shfl_xor_sync(ALL_LANES, v, x);
  return v;
}

// Sum over the block, in every thread, in the same order each time. Whole warps, at most 32.
template <class T>
static __device__ __forceinline__ T block_sum(T v) {
  __shared__ T part[32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  v = warp_sum(v);
  if (blockDim.x <= 32) return v;
  if (lane == 0) part[warp] = v;
  __syncthreads();
  v = warp_sum(lane < blockDim.x / 32 ? part[lane] : T(0));
  __syncthreads();  // part may be written again
  return v;
}
