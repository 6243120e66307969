// relu2.cu - y = max(x, 0)^2 and its gradient. Memory bound: forward 2 values an element, backward
// 3 (4 where it adds), 16 bytes a thread where addresses allow. Any n; y may be x, dx may be dy.
#include "cuda.cuh"

constexpr int THREADS = 256;

static __device__ __forceinline__ float relu(float v) { return v < 0 ? 0 : v; }  // NaN stays

template <class T, int N>
static __global__ void __launch_bounds__(THREADS) relu2_fwd_kernel(T *y, const T *x, int64_t n) {
  for_elements<N>(n, [&](auto width, int64_t i) {
    constexpr int W = decltype(width)::value;
    pack<float, W> v = load_floats<W>(x + i);
#pragma unroll
    for (float &e : v.v) e = relu(e) * relu(e);
    store_floats<W>(y + i, v);
  });
}

template <class T>
static cft_status relu2_fwd(const queue &q, const cft_relu2_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = aligned16(a->y, a->x);
  auto *kernel = wide ? relu2_fwd_kernel<T, N> : relu2_fwd_kernel<T, 1>;
  return run(q, kernel, blocks_for(a->n, THREADS * (wide ? N : 1)), THREADS, 0, (T *)a->y,
             (const T *)a->x, a->n);
}

FLOAT_OP(relu2_fwd, cft_relu2_args, a->n == 0, relu2_fwd)

template <class T, int N>
static __global__ void __launch_bounds__(THREADS)
    relu2_bwd_kernel(T *dx, const T *dy, const T *x, int64_t n, bool add) {
  for_elements<N>(n, [&](auto width, int64_t i) {
    constexpr int W = decltype(width)::value;
    const pack<float, W> g = load_floats<W>(dy + i);
    pack<float, W> v = load_floats<W>(x + i), sum = {};
    if (add) sum = load_floats<W>(dx + i);
#pragma unroll
    for (int k = 0; k < W; k++) v.v[k] = 2 * relu(v.v[k]) * g.v[k] + sum.v[k];
    store_floats<W>(dx + i, v);
  });
}

template <class T>
static cft_status relu2_bwd(const queue &q, const cft_relu2_bwd_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = aligned16(a->dx, a->dy, a->x);
  auto *kernel = wide ? relu2_bwd_kernel<T, N> : relu2_bwd_kernel<T, 1>;
  return run(q, kernel, blocks_for(a->n, THREADS * (wide ? N : 1)), THREADS, 0, (T *)a->dx,
             (const T *)a->dy, (const T *)a->x, a->n, a->dx_beta != 0);
}

FLOAT_OP(relu2_bwd, cft_relu2_bwd_args, a->n == 0, relu2_bwd)
