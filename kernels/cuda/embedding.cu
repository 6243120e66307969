// embedding.cu - the gradient of a table's rows, in an order that never changes: no atomics, no
// sort.
//
// A block looks after one token and up to 256 * N columns. If an earlier token has the same id it
// leaves; else it owns that row of the table, walks over all later tokens and adds the dy of those
// with its id, in their order, in f32; the table's row is read and written once. Ids are read n^2 /
// 256 times in all, from L1 and L2: at 16384 tokens less than dy itself takes. Any n and d.
#include "cuda.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;

template <class Y, class T, int N>
static __global__ void __launch_bounds__(THREADS)
    embedding_bwd_kernel(Y *dtable, const T *dy, const int32_t *ids, int64_t n, int64_t d) {
  __shared__ unsigned match[WARPS];  // which of 256 tokens have this block's id, a bit each
  const int64_t first = blockIdx.x;
  const int32_t id = ids[first];
  for (int64_t i = threadIdx.x; i - threadIdx.x < first; i += THREADS)
    if (__syncthreads_or(i < first && ids[i] == id)) return;  // the whole block leaves

  const int64_t column = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * N;
  pack<float, N> sum = {};
  for (int64_t base = first; base < n; base += THREADS) {
    const int64_t i = base + threadIdx.x;
    const unsigned here = __ballot_sync(ALL_LANES, i < n && ids[i] == id);
    if (threadIdx.x % 32 == 0) match[threadIdx.x / 32] = here;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) {
      for (unsigned left = match[w]; left != 0; left &= left - 1) {
        if (column >= d) continue;
        const int64_t row = base + w * 32 + __ffs((int)left) - 1;
        const pack<float, N> v = load_floats<N>(dy + row * d + column);
#pragma unroll
        for (int k = 0; k < N; k++) sum.v[k] += v.v[k];
      }
    }
    __syncthreads();  // all have read match
  }
  if (column >= d) return;
  Y *to = dtable + id * d + column;
  pack<float, N> old = load_floats<N>(to);
#pragma unroll
  for (int k = 0; k < N; k++) old.v[k] += sum.v[k];
  store_floats<N>(to, old);
}

template <class Y, class T>
static cft_status embedding_bwd(const queue &q, const cft_embedding_bwd_args *a) {
  constexpr int N = WIDTH<Y, T>;
  const bool wide = aligned16(a->dtable, a->dy) && a->d % N == 0;
  const dim3 grid((unsigned)a->n, blocks_for(a->d, THREADS * (wide ? N : 1)));
  auto *kernel = wide ? embedding_bwd_kernel<Y, T, N> : embedding_bwd_kernel<Y, T, 1>;
  return run(q, kernel, grid, THREADS, 0, (Y *)a->dtable, (const T *)a->dy, a->ids, a->n, a->d);
}

cft_status cft_cuda_embedding_bwd(cft_device *d, cft_stream *s, const cft_embedding_bwd_args *a) {
  if (a->n == 0 || a->d == 0) return CFT_OK;
  const queue q(d, s, "embedding_bwd");
  if (a->dtype == CFT_F32 && a->dtable_dtype == CFT_F32) return embedding_bwd<float, float>(q, a);
  if (a->dtype == CFT_BF16 && a->dtable_dtype == CFT_BF16) return embedding_bwd<bf16, bf16>(q, a);
  if (a->dtype == CFT_BF16 && a->dtable_dtype == CFT_F32) return embedding_bwd<float, bf16>(q, a);
  return no_kernel(q, a->dtype);
}
