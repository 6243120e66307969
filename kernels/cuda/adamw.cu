// adamw.cu - AdamW over a flat group, the norm of a gradient, and the factor that clips it.
//
// adamw: four parameters a thread, by one Philox call where a rounding is a matter of chance. Every
// array is read once and written once: 28 bytes a parameter with an f32 master and f32 moments, 14
// with bf16 throughout. Any n; four at a time where all addresses allow it.
#include "philox.cuh"

constexpr int THREADS = 256;

// To bf16, up or down with the probabilities that keep the mean: random bits are added under the
// last place that is kept. Infinity and NaN as they are.
static __device__ __forceinline__ bf16 stochastic_round(float x, uint32_t bits16) {
  const uint32_t u = __float_as_uint(x);
  if ((u & 0x7f800000u) == 0x7f800000u) return __float2bfloat16(x);
  return __ushort_as_bfloat16((unsigned short)((u + bits16) >> 16));
}

struct adamw_constants {
  float shrink, beta1, beta2, rate, second, eps;
};

static constexpr float FLOAT_MOST = 3.40282347e38f, BF16_MOST = 3.38953139e38f;  // finite ones

// State of `bf16` is rounded stochastically from its own words, so that p and it do not share them.
static constexpr uint64_t OF_STATE = 1ull << 63;

// Whether all that comes out is finite, also in the dtype that it is stored in.
template <class P, class G, class S, int N>
static __device__ __forceinline__ bool update(P *p, float *master, S *m, S *v, const G *g,
                                              float grad_scale, const adamw_constants &c,
                                              const uint32_t *for_p, const uint32_t *for_state) {
  pack<float, N> w = master ? load<N>(master) : load_floats<N>(p);
  pack<float, N> mean = load_floats<N>(m), square = load_floats<N>(v);
  const pack<float, N> grad = load_floats<N>(g);
#pragma unroll
  for (int k = 0; k < N; k++) {
    const float gk = grad.v[k] * grad_scale;
    mean.v[k] = c.beta1 * mean.v[k] + (1 - c.beta1) * gk;
    square.v[k] = c.beta2 * square.v[k] + (1 - c.beta2) * gk * gk;
    w.v[k] = w.v[k] * c.shrink - c.rate * mean.v[k] / (sqrtf(square.v[k] * c.second) + c.eps);
  }
  constexpr float p_most = std::is_same_v<P, bf16> ? BF16_MOST : FLOAT_MOST;
  constexpr float state_most = std::is_same_v<S, bf16> ? BF16_MOST : FLOAT_MOST;
  bool within = true;  // NaN is not below anything
#pragma unroll
  for (int k = 0; k < N; k++)
    within &= fabsf(w.v[k]) <= p_most && fabsf(mean.v[k]) <= state_most && square.v[k] <= state_most;
  if constexpr (std::is_same_v<S, bf16>) {
    pack<bf16, N> low, high;
#pragma unroll
    for (int k = 0; k < N; k++) {
      low.v[k] = stochastic_round(mean.v[k], for_state[k] & 0xffffu);
      high.v[k] = stochastic_round(square.v[k], for_state[k] >> 16);
    }
    store<N>(m, low);
    store<N>(v, high);
  } else {
    store<N>(m, mean);
    store<N>(v, square);
  }
  if (master) store<N>(master, w);
  if constexpr (std::is_same_v<P, bf16>) {
    if (!master) {
      pack<bf16, N> out;
#pragma unroll
      for (int k = 0; k < N; k++) out.v[k] = stochastic_round(w.v[k], for_p[k] & 0xffffu);
      store<N>(p, out);
      return within;
    }
  }
  store_floats<N>(p, w);
  return within;
}

template <class P, class G, class S>
static __global__ void __launch_bounds__(THREADS)
    adamw_kernel(P *p, float *master, S *m, S *v, const G *g, const float *grad_scale,
                 float *not_finite, int64_t n, adamw_constants c, uint64_t seed, uint64_t step,
                 bool wide) {
  const int64_t group = (int64_t)blockIdx.x * THREADS + threadIdx.x, i = group * 4;
  if (i >= n) return;
  const float scale = grad_scale ? grad_scale[0] : 1;
  if (isnan(scale)) return;  // the gradient is no number: weights and moments stay
  random_words for_p = {}, for_state = {};
  if (std::is_same_v<P, bf16> && !master) for_p = philox(seed, (uint64_t)group, step);
  if (std::is_same_v<S, bf16>) for_state = philox(seed, (uint64_t)group, step | OF_STATE);
  bool within = true;
  if (wide && i + 4 <= n) {
    within = update<P, G, S, 4>(p + i, master ? master + i : nullptr, m + i, v + i, g + i, scale, c,
                                for_p.v, for_state.v);
  } else {
#pragma unroll  // so that the words stay in registers
    for (int k = 0; k < 4; k++)
      if (i + k < n)
        within &= update<P, G, S, 1>(p + i + k, master ? master + i + k : nullptr, m + i + k,
                                     v + i + k, g + i + k, scale, c, for_p.v + k, for_state.v + k);
  }
  if (!within && not_finite) atomicExch((int *)not_finite, __float_as_int(1.0f));
}

template <class P, class G, class S>
static cft_status adamw(const queue &q, const cft_adamw_args *a) {
  const adamw_constants c = {(float)(1 - a->lr * a->decay),
                             (float)a->beta1,
                             (float)a->beta2,
                             (float)(a->lr / (1 - pow(a->beta1, (double)a->step))),
                             (float)(1 / (1 - pow(a->beta2, (double)a->step))),
                             (float)a->eps};
  return run(q, adamw_kernel<P, G, S>, blocks_for(a->n, THREADS * 4), THREADS, 0, (P *)a->p,
             (float *)a->master, (S *)a->m, (S *)a->v, (const G *)a->g, a->grad_scale,
             a->not_finite, a->n, c, a->seed, (uint64_t)a->step, aligned16(a->p, a->master, a->m, a->v, a->g));
}

template <class P, class G>
static cft_status adamw_by_state(const queue &q, const cft_adamw_args *a) {
  return a->state_dtype == CFT_F32    ? adamw<P, G, float>(q, a)
         : a->state_dtype == CFT_BF16 ? adamw<P, G, bf16>(q, a)
                                      : no_kernel(q, a->state_dtype);
}

template <class P>
static cft_status adamw_by_gradient(const queue &q, const cft_adamw_args *a) {
  return a->g_dtype == CFT_F32    ? adamw_by_state<P, float>(q, a)
         : a->g_dtype == CFT_BF16 ? adamw_by_state<P, bf16>(q, a)
                                  : no_kernel(q, a->g_dtype);
}

FLOAT_OP(adamw, cft_adamw_args, a->n == 0, adamw_by_gradient)

// ---- the norm ------------------------------------------------------------------------------

constexpr int64_t MOST_PARTS = 2048;

// Part b of `length` elements, squares and sums in f64: the square of a large gradient leaves f32.
// The cut depends on n alone, so the bits do too.
template <class T, int N>
static __global__ void __launch_bounds__(THREADS)
    squares_kernel(double *parts, const T *x, int64_t n, int64_t length) {
  const int64_t from = blockIdx.x * length, to = min(from + length, n);
  double sum = 0;
  for (int64_t i = from + (int64_t)threadIdx.x * N; i < to; i += THREADS * N) {
    if (i + N <= to) {
      const pack<float, N> v = load_floats<N>(x + i);
#pragma unroll
      for (int k = 0; k < N; k++) sum += (double)v.v[k] * v.v[k];
    } else {
      for (int64_t k = i; k < to; k++) sum += (double)to_float(x[k]) * to_float(x[k]);
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(THREADS)
    add_squares_kernel(double *out, const double *parts, int count, double alpha) {
  double sum = 0;
  for (int i = (int)threadIdx.x; i < count; i += THREADS) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) out[0] += alpha * sum;
}

template <class T>
static cft_status sum_squares(const queue &q, const cft_sum_squares_args *a) {
  constexpr int N = WIDTH<T>;
  constexpr int64_t SHORTEST = THREADS * N * 4;
  const int64_t length =
      ((a->n + MOST_PARTS - 1) / MOST_PARTS + SHORTEST - 1) / SHORTEST * SHORTEST;
  const unsigned count = blocks_for(a->n, length);
  scratch parts;
  CFT_TRY(parts.take(q, count * sizeof(double)));
  auto *kernel = aligned16(a->x) ? squares_kernel<T, N> : squares_kernel<T, 1>;
  CFT_TRY(run(q, kernel, count, THREADS, 0, parts.as<double>(), (const T *)a->x, a->n, length));
  return run(q, add_squares_kernel, 1, THREADS, 0, a->out, parts.as<const double>(), (int)count,
             a->alpha);
}

FLOAT_OP(sum_squares, cft_sum_squares_args, a->n == 0, sum_squares)

// ---- the clip ------------------------------------------------------------------------------

static __global__ void clip_kernel(float *out, const double *sum_squares, double scale,
                                   double max_norm) {
  const double norm = sqrt(sum_squares[0]) * scale;
  double shrink = max_norm / (norm + 1e-6);
  if (max_norm <= 0 || shrink > 1) shrink = 1;
  out[1] = (float)norm;
  out[0] = isfinite((float)norm) ? (float)(scale * shrink) : NAN;  // adamw sees that, and waits
}

cft_status cft_cuda_clip_scale(cft_device *d, cft_stream *s, const cft_clip_args *a) {
  const queue q(d, s, "clip_scale");
  return run(q, clip_kernel, 1, 1, 0, a->out, a->sum_squares, a->scale, a->max_norm);
}
