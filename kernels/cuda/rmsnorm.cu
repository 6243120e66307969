// rmsnorm.cu - a block per row, whose threads keep their columns in registers: x, residual and dy
// are read once, sum, y and ds written once. Rows too wide for that (more than 8192 bf16 or 4096
// f32) are read twice, the second time from L1 or L2. 16 bytes an access where width and addresses
// allow; any n and d.
#include "cuda.cuh"

// P packs of N columns a thread: column of pack p is ((p * threads) + thread) * N.
template <class T, int N, int P>
static __global__ void __launch_bounds__(512)
    rmsnorm_fwd_kernel(T *y, T *sum, float *rstd, const T *x, const T *residual, const T *w,
                       int64_t d, float eps) {
  const int64_t row = blockIdx.x, step = (int64_t)blockDim.x * N, first = threadIdx.x * N;
  x += row * d;
  y += row * d;
  if (residual) residual += row * d, sum += row * d;
  pack<float, N> s[P] = {};
  float squares = 0;
#pragma unroll
  for (int p = 0; p < P; p++) {
    const int64_t j = first + p * step;
    if (j >= d) break;
    s[p] = load_floats<N>(x + j);
    if (residual) {
      const pack<float, N> r = load_floats<N>(residual + j);
#pragma unroll
      for (int k = 0; k < N; k++) s[p].v[k] = to_float(from_float<T>(s[p].v[k] + r.v[k]));
      store_floats<N>(sum + j, s[p]);
    }
#pragma unroll
    for (int k = 0; k < N; k++) squares += s[p].v[k] * s[p].v[k];
  }
  const float r = rsqrtf(block_sum(squares) / (float)d + eps);
  if (threadIdx.x == 0) rstd[row] = r;
#pragma unroll
  for (int p = 0; p < P; p++) {
    const int64_t j = first + p * step;
    if (j >= d) break;
    const pack<float, N> scale = load_floats<N>(w + j);
#pragma unroll
    for (int k = 0; k < N; k++) s[p].v[k] *= r * scale.v[k];
    store_floats<N>(y + j, s[p]);
  }
}

template <class T, int N>
static __global__ void __launch_bounds__(512)
    rmsnorm_fwd_wide_kernel(T *y, T *sum, float *rstd, const T *x, const T *residual, const T *w,
                            int64_t d, float eps) {
  const int64_t row = blockIdx.x, step = (int64_t)blockDim.x * N, first = threadIdx.x * N;
  x += row * d;
  y += row * d;
  if (residual) residual += row * d, sum += row * d;
  float squares = 0;
  for (int64_t j = first; j < d; j += step) {
    pack<float, N> s = load_floats<N>(x + j);
    if (residual) {
      const pack<float, N> r = load_floats<N>(residual + j);
#pragma unroll
      for (int k = 0; k < N; k++) s.v[k] = to_float(from_float<T>(s.v[k] + r.v[k]));
      store_floats<N>(sum + j, s);
    }
#pragma unroll
    for (int k = 0; k < N; k++) squares += s.v[k] * s.v[k];
  }
  const float r = rsqrtf(block_sum(squares) / (float)d + eps);
  if (threadIdx.x == 0) rstd[row] = r;
  const T *again = residual ? sum : x;  // each thread its own columns: nothing to wait for
  for (int64_t j = first; j < d; j += step) {
    pack<float, N> s = load_floats<N>(again + j);
    const pack<float, N> scale = load_floats<N>(w + j);
#pragma unroll
    for (int k = 0; k < N; k++) s.v[k] *= r * scale.v[k];
    store_floats<N>(y + j, s);
  }
}

// Threads of a block so that each has few packs; whole warps.
struct row_shape {
  unsigned threads;
  int packs;
  row_shape(int64_t d, int N)
      : threads(std::min(512u, whole_warps((d + N - 1) / N))),
        packs((int)blocks_for(d, (int64_t)threads * N)) {}
};

template <class T, int N>
static cft_status fwd_by_packs(const queue &q, const cft_rmsnorm_args *a) {
  const row_shape shape(a->d, N);
  auto *kernel = shape.packs == 1   ? rmsnorm_fwd_kernel<T, N, 1>
                 : shape.packs == 2 ? rmsnorm_fwd_kernel<T, N, 2>
                                    : rmsnorm_fwd_wide_kernel<T, N>;
  return run(q, kernel, (unsigned)a->n, shape.threads, 0, (T *)a->y, (T *)a->sum, (float *)a->rstd,
             (const T *)a->x, (const T *)a->residual, (const T *)a->w, a->d, (float)a->eps);
}

template <class T>
static cft_status rmsnorm_fwd(const queue &q, const cft_rmsnorm_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = a->d % N == 0 && aligned16(a->y, a->sum, a->x, a->residual, a->w);
  return wide ? fwd_by_packs<T, N>(q, a) : fwd_by_packs<T, 1>(q, a);
}

FLOAT_OP(rmsnorm_fwd, cft_rmsnorm_args, a->n == 0, rmsnorm_fwd)

// ---- backward ------------------------------------------------------------------------------

// A block takes every gridDim.x-th row. With P > 0 a thread keeps its columns of dw and of the row
// in registers; with P = 0 (wide rows) the row is read twice and dw lies in the block's row of
// `parts`, which the same thread has to itself. dw NULL: parts is NULL too.
template <class T, int N, int P>
static __global__ void __launch_bounds__(512)
    rmsnorm_bwd_kernel(T *ds, float *parts, const T *dy, const T *s, const T *w, const float *rstd,
                       const T *dsum, int64_t n, int64_t d, bool add) {
  constexpr int OWN = P > 0 ? P : 1;
  const int64_t step = (int64_t)blockDim.x * N, first = threadIdx.x * N;
  pack<float, N> dw[OWN] = {}, scale[OWN] = {}, hat[OWN] = {}, g[OWN] = {}, more[OWN] = {};
  if (parts) parts += blockIdx.x * d;
  if constexpr (P > 0) {
#pragma unroll
    for (int p = 0; p < P; p++)
      if (first + p * step < d) scale[p] = load_floats<N>(w + first + p * step);
  } else if (parts) {
    for (int64_t j = first; j < d; j += step) store_floats<N>(parts + j, pack<float, N>{});
  }

  for (int64_t row = blockIdx.x; row < n; row += gridDim.x) {
    const int64_t at = row * d;
    const float r = rstd[row];
    float dot = 0;
    // One stretch of the row: shat, w * dy, their product, and what dw gets of it.
    const auto look = [&](int64_t j, pack<float, N> &x, pack<float, N> &v,
                          const pack<float, N> &weight, pack<float, N> &grad) {
      x = load_floats<N>(s + at + j);
      v = load_floats<N>(dy + at + j);
#pragma unroll
      for (int k = 0; k < N; k++) {
        x.v[k] *= r;
        grad.v[k] += v.v[k] * x.v[k];
        v.v[k] *= weight.v[k];
        dot += v.v[k] * x.v[k];
      }
    };
    const auto write = [&](int64_t j, const pack<float, N> &x, const pack<float, N> &v,
                           const pack<float, N> &more, float mean) {
      pack<float, N> out, old = {};
      if (add) old = load_floats<N>(ds + at + j);
#pragma unroll
      for (int k = 0; k < N; k++) out.v[k] = r * (v.v[k] - x.v[k] * mean) + more.v[k] + old.v[k];
      store_floats<N>(ds + at + j, out);
    };
    if constexpr (P > 0) {
#pragma unroll
      for (int p = 0; p < P; p++)
        if (first + p * step < d) {
          look(first + p * step, hat[p], g[p], scale[p], dw[p]);
          if (dsum) more[p] = load_floats<N>(dsum + at + first + p * step);  // on its way meanwhile
        }
      const float mean = block_sum(dot) / (float)d;
#pragma unroll
      for (int p = 0; p < P; p++)
        if (first + p * step < d) write(first + p * step, hat[p], g[p], more[p], mean);
    } else {
      for (int64_t j = first; j < d; j += step) {
        pack<float, N> sum = {};
        if (parts) sum = load_floats<N>(parts + j);
        look(j, hat[0], g[0], load_floats<N>(w + j), sum);
        if (parts) store_floats<N>(parts + j, sum);
      }
      const float mean = block_sum(dot) / (float)d;
      for (int64_t j = first; j < d; j += step) {
        pack<float, N> unused = {};
        look(j, hat[0], g[0], load_floats<N>(w + j), unused);
        if (dsum) more[0] = load_floats<N>(dsum + at + j);
        write(j, hat[0], g[0], more[0], mean);
      }
    }
  }
  if constexpr (P > 0) {
    if (!parts) return;
#pragma unroll
    for (int p = 0; p < P; p++)
      if (first + p * step < d) store_floats<N>(parts + first + p * step, dw[p]);
  }
}

template <class T, int N>
static cft_status bwd_by_packs(const queue &q, const cft_rmsnorm_bwd_args *a, unsigned blocks,
                               float *parts) {
  const row_shape shape(a->d, N);
  auto *kernel = shape.packs == 1   ? rmsnorm_bwd_kernel<T, N, 1>
                 : shape.packs == 2 ? rmsnorm_bwd_kernel<T, N, 2>
                                    : rmsnorm_bwd_kernel<T, N, 0>;
  return run(q, kernel, blocks, shape.threads, 0, (T *)a->ds, parts, (const T *)a->dy,
             (const T *)a->s, (const T *)a->w, (const float *)a->rstd, (const T *)a->dsum, a->n,
             a->d, a->ds_beta != 0);
}

template <class T>
static cft_status rmsnorm_bwd(const queue &q, const cft_rmsnorm_bwd_args *a) {
  constexpr int N = WIDTH<T>;
  // Enough blocks for two on each multiprocessor of the largest cards, few enough that their parts
  // of dw stay in L2. Not the number of this card's: the order of the sum, and so its bits, are
  // every card's.
  const unsigned blocks = (unsigned)std::min<int64_t>(a->n, 264);
  scratch parts;
  if (a->dw) CFT_TRY(parts.take(q, blocks * (size_t)a->d * sizeof(float)));
  const bool wide = a->d % N == 0 && aligned16(a->ds, a->dy, a->s, a->w, a->dsum);
  auto *bwd = wide ? bwd_by_packs<T, N> : bwd_by_packs<T, 1>;
  CFT_TRY(bwd(q, a, blocks, parts.as<float>()));
  if (!a->dw) return CFT_OK;
  return sum_rows(q, a->dw, a->dw_dtype, parts.as<const float>(), blocks, a->d, a->dw_beta != 0);
}

cft_status cft_cuda_rmsnorm_bwd(cft_device *d, cft_stream *s, const cft_rmsnorm_bwd_args *a) {
  const queue q(d, s, "rmsnorm_bwd");
  if (a->n == 0) {  // the gradient of nothing is zero, and has to be written
    if (!a->dw || a->dw_beta) return CFT_OK;
    return q.check(
        cudaMemsetAsync(a->dw, 0, (size_t)a->d * cft_dtype_bytes(a->dw_dtype), q.stream));
  }
  if (a->dw && a->dw_dtype != CFT_F32 && a->dw_dtype != CFT_BF16) return no_kernel(q, a->dw_dtype);
  return BY_FLOAT(q, a->dtype, rmsnorm_bwd, a);
}
