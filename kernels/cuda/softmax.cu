// softmax.cu - a block per row, or a warp where rows are short. Reads x twice forward (the second
// time from L1 or L2), dy and y twice backward; writes once. Any n and d.
#include "running_sum.cuh"

constexpr int THREADS = 256;

template <class T>
static __global__ void __launch_bounds__(THREADS) softmax_fwd_kernel(T *y, const T *x, int64_t d) {
  __shared__ running_sum part[THREADS / 32];
  const int64_t row = blockIdx.x;
  x += row * d;
  y += row * d;
  running_sum v = {-INFINITY, 0};
  for (int64_t j = threadIdx.x; j < d; j += blockDim.x) add(v, load_floats<1>(x + j));
  v = warp_merge(v);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();  // also: all have read x before y, which may be x, is written
  running_sum all = part[0];
  for (unsigned w = 1; w < blockDim.x / 32; w++) all = merge(all, part[w]);
  const float scale = 1 / all.s;
  for (int64_t j = threadIdx.x; j < d; j += blockDim.x)
    y[j] = from_float<T>(__expf(to_float(x[j]) - all.m) * scale);
}

template <class T>
static cft_status softmax_fwd(const queue &q, const cft_softmax_args *a) {
  const unsigned threads = std::min<unsigned>(THREADS, whole_warps(a->d));
  return run(q, softmax_fwd_kernel<T>, (unsigned)a->n, threads, 0, (T *)a->y, (const T *)a->x,
             a->d);
}

FLOAT_OP(softmax_fwd, cft_softmax_args, a->n == 0 || a->d == 0, softmax_fwd)

template <class T>
static __global__ void __launch_bounds__(THREADS)
    softmax_bwd_kernel(T *dx, const T *dy, const T *y, int64_t d, bool add) {
  const int64_t row = blockIdx.x;
  dx += row * d;
  dy += row * d;
  y += row * d;
  float dot = 0;
  for (int64_t j = threadIdx.x; j < d; j += blockDim.x) dot += to_float(y[j]) * to_float(dy[j]);
  dot = block_sum(dot);
  for (int64_t j = threadIdx.x; j < d; j += blockDim.x) {
    const float old = add ? to_float(dx[j]) : 0;
    dx[j] = from_float<T>(to_float(y[j]) * (to_float(dy[j]) - dot) + old);
  }
}

template <class T>
static cft_status softmax_bwd(const queue &q, const cft_softmax_bwd_args *a) {
  const unsigned threads = std::min<unsigned>(THREADS, whole_warps(a->d));
  return run(q, softmax_bwd_kernel<T>, (unsigned)a->n, threads, 0, (T *)a->dx, (const T *)a->dy,
             (const T *)a->y, a->d, a->dx_beta != 0);
}

FLOAT_OP(softmax_bwd, cft_softmax_bwd_args, a->n == 0 || a->d == 0, softmax_bwd)
