// attention_merge.cu - attention over two sets of keys, from the results of each. A warp has one
// row and head: it reads both once and writes one. Any n, H and D; 16 bytes a lane where addresses,
// width and strides allow.
#include "cuda.cuh"

constexpr int WARPS = 8;

template <class T, int N>
static __global__ void __launch_bounds__(WARPS * 32)
    attention_merge_kernel(T *o, float *lse, const T *o2, const float *lse2, int64_t n, int H,
                           int D, int64_t o_stride, int64_t o2_stride) {
  const int64_t at = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  if (at >= n * H) return;  // warps leave whole
  const int lane = threadIdx.x % 32;
  const float a = lse[at], b = lse2[at];
  if (a == -INFINITY && b == -INFINITY) return;  // their ratio is no number
  const float top = a < b ? b : a, ea = expf(a - top), eb = expf(b - top), sum = ea + eb;
  const float wa = ea / sum, wb = eb / sum;
  o += at / H * o_stride + at % H * D;
  o2 += at / H * o2_stride + at % H * D;
  for (int d = lane * N; d < D; d += 32 * N) {
    pack<float, N> x = load_floats<N>(o + d);
    const pack<float, N> y = load_floats<N>(o2 + d);
#pragma unroll
    for (int k = 0; k < N; k++) x.v[k] = wa * x.v[k] + wb * y.v[k];
    store_floats<N>(o + d, x);
  }
  __syncwarp();  // all have read lse
  if (lane == 0) lse[at] = top + logf(sum);
}

template <class T>
static cft_status merge(const queue &q, const cft_attention_merge_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide =
      a->D % N == 0 && a->o_stride % N == 0 && a->o2_stride % N == 0 && aligned16(a->o, a->o2);
  auto *kernel = wide ? attention_merge_kernel<T, N> : attention_merge_kernel<T, 1>;
  return run(q, kernel, blocks_for(a->n * a->H, WARPS), WARPS * 32, 0, (T *)a->o, (float *)a->lse,
             (const T *)a->o2, (const float *)a->lse2, a->n, (int)a->H, (int)a->D, a->o_stride,
             a->o2_stride);
}

FLOAT_OP(attention_merge, cft_attention_merge_args, a->n == 0 || a->H == 0 || a->D == 0, merge)
