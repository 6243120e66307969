// random.cu - element i takes word i % 4 of philox(seed; i / 4, counter), as on the CPU. A thread
// makes four elements and stores them at once where the address allows. Any n.
#include "philox.cuh"

constexpr int THREADS = 256;

// A normal pair is Box-Muller's of a pair of words: the first gives the radius, as a number in (0,
// 1], the second the angle.
static __device__ __forceinline__ pack<float, 4> drawn(const random_words &w, cft_distribution f,
                                                       float a, float b) {
  pack<float, 4> out;
  if (f == CFT_UNIFORM) {
#pragma unroll
    for (int k = 0; k < 4; k++) out.v[k] = a + (b - a) * ((float)(w.v[k] >> 8) * 0x1p-24f);
  } else {
#pragma unroll
    for (int k = 0; k < 4; k += 2) {
      const float r = sqrtf(-2 * logf(((float)w.v[k] + 0.5f) * 0x1p-32f));
      float sine, cosine;  // of 2 pi times a number in [0, 1)
      sincospif((float)(w.v[k + 1] >> 8) * 0x1p-23f, &sine, &cosine);
      out.v[k] = a + b * r * cosine;
      out.v[k + 1] = a + b * r * sine;
    }
  }
  return out;
}

template <class T>
static __global__ void __launch_bounds__(THREADS)
    random_kernel(T *y, int64_t n, uint64_t seed, uint64_t counter, float a, float b,
                  cft_distribution f, bool wide) {
  const int64_t group = (int64_t)blockIdx.x * THREADS + threadIdx.x, i = group * 4;
  if (i >= n) return;
  const pack<float, 4> out = drawn(philox(seed, (uint64_t)group, counter), f, a, b);
  if (wide && i + 4 <= n) {
    store_floats<4>(y + i, out);
    return;
  }
#pragma unroll  // so that out stays in registers
  for (int k = 0; k < 4; k++)
    if (i + k < n) y[i + k] = from_float<T>(out.v[k]);
}

template <class T>
static cft_status random(const queue &q, const cft_random_args *a) {
  return run(q, random_kernel<T>, blocks_for(a->n, THREADS * 4), THREADS, 0, (T *)a->y, a->n,
             a->seed, a->counter, (float)a->a, (float)a->b, a->f, aligned16(a->y));
}

FLOAT_OP(random, cft_random_args, a->n == 0, random)
