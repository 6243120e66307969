// rope.cu - rotate the pairs (j, j + D/2) of each head by the angle of its row's position. A thread
// has N pairs of one head: 16 bytes of each half where D, strides and addresses allow. Memory
// bound: x is read once and y written once, in place if y is x; the threads of a row's heads share
// their cos and sin through L1. Any n, heads, even D.
#include "cuda.cuh"

constexpr int THREADS = 256;

template <class T, int N>
static __global__ void __launch_bounds__(THREADS)
    rope_kernel(T *y, const T *x, const float *cos, const float *sin, const int32_t *position,
                unsigned pairs, unsigned heads, unsigned stretches, int64_t y_stride,
                int64_t x_stride, float sign) {
  const unsigned per_head = (pairs + N - 1) / N;
  const unsigned t = blockIdx.x % stretches * THREADS + threadIdx.x;
  if (t >= heads * per_head) return;
  const int64_t row = blockIdx.x / stretches;
  const unsigned head = t / per_head, j = t % per_head * N;
  const int64_t angle = (int64_t)position[row] * pairs + j, at = (int64_t)head * pairs * 2 + j;
  const pack<float, N> c = load<N>(cos + angle), s = load<N>(sin + angle);
  x += row * x_stride + at;
  y += row * y_stride + at;
  pack<float, N> low = load_floats<N>(x), high = load_floats<N>(x + pairs);
#pragma unroll
  for (int k = 0; k < N; k++) {
    const float a = low.v[k], b = high.v[k], turned = sign * s.v[k];
    low.v[k] = a * c.v[k] - b * turned;
    high.v[k] = b * c.v[k] + a * turned;
  }
  store_floats<N>(y, low);
  store_floats<N>(y + pairs, high);
}

template <class T>
static cft_status rope(const queue &q, const cft_rope_args *a) {
  constexpr int N = WIDTH<T>;
  const int64_t pairs = a->d / 2;
  const bool wide = pairs % N == 0 && a->y_stride % N == 0 && a->x_stride % N == 0 &&
                    aligned16(a->y, a->x, a->cos, a->sin);
  const int64_t per_row = a->heads * (wide ? pairs / N : pairs);
  const unsigned stretches = blocks_for(per_row, THREADS);
  const unsigned threads = std::min<unsigned>(THREADS, whole_warps(per_row));
  auto *kernel = wide ? rope_kernel<T, N> : rope_kernel<T, 1>;
  return run(q, kernel, (unsigned)(a->n * stretches), threads, 0, (T *)a->y, (const T *)a->x,
             (const float *)a->cos, (const float *)a->sin, a->position, (unsigned)pairs,
             (unsigned)a->heads, stretches, a->y_stride, a->x_stride, a->inverse ? -1.0f : 1.0f);
}

FLOAT_OP(rope, cft_rope_args, a->n == 0 || a->heads == 0 || a->d == 0, rope)
