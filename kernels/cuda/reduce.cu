// reduce.cu - x (outer, mid, inner) over mid. Memory bound: x is read once, 16 bytes a thread where
// addresses and widths allow. Any sizes, 0 too.
//
//   inner = 1   a row lies in one piece: a warp has it, or a block, or several blocks a stretch
//   each inner > 1   a thread has N neighbouring columns; 8 threads share the rows of a stretch
//
// Where there is too little of outer and inner to fill a card, mid is cut into stretches, whose
// results are merged by a second kernel. The cut depends on the sizes alone, and everything is
// merged in a fixed order: equal bits in repeats, on any card.
#include "cuda.cuh"

// ---- what is reduced -----------------------------------------------------------------------

struct sum_of {
  using acc = float;
  static __device__ __forceinline__ acc none() { return 0; }
  static __device__ __forceinline__ void add(acc &a, float x, int32_t) { a += x; }
  static __device__ __forceinline__ void merge(acc &a, acc b) { a += b; }
};

struct squares_of {  // in f64: the square of a large gradient leaves f32
  using acc = double;
  static __device__ __forceinline__ acc none() { return 0; }
  static __device__ __forceinline__ void add(acc &a, float x, int32_t) { a += (double)x * x; }
  static __device__ __forceinline__ void merge(acc &a, acc b) { a += b; }
};

struct maximum_of {  // NaN if there is one
  using acc = float;
  static __device__ __forceinline__ acc none() { return -INFINITY; }
  static __device__ __forceinline__ void add(acc &a, float x, int32_t) { merge(a, x); }
  static __device__ __forceinline__ void merge(acc &a, acc b) { a = b > a || b != b ? b : a; }
};

struct place_of_maximum {  // the first of equals; nothing but NaN: none, answered by 0
  struct acc {
    float value;
    int32_t at;
  };
  static __device__ __forceinline__ acc none() { return {0, -1}; }
  static __device__ __forceinline__ void add(acc &a, float x, int32_t at) {
    if (x == x) merge(a, {x, at});
  }
  static __device__ __forceinline__ void merge(acc &a, acc b) {
    if (b.at < 0) return;
    if (a.at < 0 || b.value > a.value || (b.value == a.value && b.at < a.at)) a = b;
  }
};

template <class A>
static __device__ __forceinline__ A from_lane(A v, int x) {
  return __shfl_xor_sync(ALL_LANES, v, x);
}
static __device__ __forceinline__ place_of_maximum::acc from_lane(place_of_maximum::acc v, int x) {
  return {__shfl_xor_sync(ALL_LANES, v.value, x), __shfl_xor_sync(ALL_LANES, v.at, x)};
}

template <class F>
static __device__ __forceinline__ typename F::acc warp_merge(typename F::acc v) {
  for (int x = 16; x > 0; x /= 2) F::merge(v, from_lane(v, x));
  return v;
}

// What is done with a result: the last word on it, or one stretch's part.
template <class Y, class A>
static __device__ __forceinline__ void finish(Y *y, int64_t i, A v, float alpha, bool add) {
  const double old = add ? (double)to_float(y[i]) : 0;
  y[i] = from_float<Y>((float)(alpha * (double)v + old));
}
static __device__ __forceinline__ void finish(int32_t *y, int64_t i, place_of_maximum::acc v, float,
                                              bool) {
  y[i] = v.at < 0 ? 0 : v.at;
}

// ---- rows ----------------------------------------------------------------------------------

constexpr int ROW_THREADS = 256;

// blockDim.x threads have a row (32, or the whole block), blockDim.y rows a block.
template <class F, class Y, class T, int N>
static __global__ void __launch_bounds__(ROW_THREADS)
    reduce_rows_kernel(Y *y, typename F::acc *parts, const T *x, int64_t rows, int64_t mid,
                       int64_t length, int stretches, float alpha, bool add) {
  using acc = typename F::acc;
  __shared__ acc part[ROW_THREADS / 32];
  const int64_t unit = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
  if (unit >= rows * stretches) return;  // whole warps leave together, or the whole block
  const int64_t row = unit / stretches, from = unit % stretches * length,
                to = min(from + length, mid);
  x += row * mid;
  acc v = F::none();
  for (int64_t i = from + (int64_t)threadIdx.x * N; i < to; i += (int64_t)blockDim.x * N) {
    if (i + N <= to) {
      const pack<float, N> p = load_floats<N>(x + i);
#pragma unroll
      for (int k = 0; k < N; k++) F::add(v, p.v[k], (int32_t)(i + k));
    } else {
      for (int64_t k = i; k < to; k++) F::add(v, to_float(x[k]), (int32_t)k);
    }
  }
  v = warp_merge<F>(v);
  if (blockDim.x > 32) {
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[0];
    for (unsigned w = 1; w < blockDim.x / 32; w++) F::merge(v, part[w]);
  }
  if (threadIdx.x != 0) return;
  if (parts)
    parts[unit] = v;
  else
    finish(y, row, v, alpha, add);
}

// ---- columns -------------------------------------------------------------------------------

constexpr int LANES = 8;  // threads that share a column

template <class F, class Y, class T, int N>
static __global__ void __launch_bounds__(32 * LANES)
    reduce_columns_kernel(Y *y, typename F::acc *parts, const T *x, int64_t mid, int64_t inner,
                          unsigned columns, int64_t length, int stretches, float alpha, bool add) {
  using acc = typename F::acc;
  __shared__ acc part[LANES][32 * N];
  const unsigned unit = blockIdx.x / columns;  // columns: blocks that share a row
  const int64_t outer = unit / stretches, stretch = unit % stretches;
  const int64_t first = (int64_t)(blockIdx.x % columns) * 32 * N, column = first + threadIdx.x * N;
  const int64_t from = stretch * length, to = min(from + length, mid);
  acc v[N];
#pragma unroll
  for (int k = 0; k < N; k++) v[k] = F::none();
  if (column < inner) {
    x += outer * mid * inner + column;
    for (int64_t i = from + threadIdx.y; i < to; i += LANES) {
      const pack<float, N> p = load_floats<N>(x + i * inner);
#pragma unroll
      for (int k = 0; k < N; k++) F::add(v[k], p.v[k], (int32_t)i);
    }
  }
#pragma unroll
  for (int k = 0; k < N; k++) part[threadIdx.y][threadIdx.x * N + k] = v[k];
  __syncthreads();
  for (int j = (int)(threadIdx.y * 32 + threadIdx.x); j < 32 * N; j += 32 * LANES) {
    const int64_t c = first + j;
    if (c >= inner) continue;
    acc sum = part[0][j];
    for (int l = 1; l < LANES; l++) F::merge(sum, part[l][j]);
    if (parts)
      parts[(outer * stretches + stretch) * inner + c] = sum;
    else
      finish(y, outer * inner + c, sum, alpha, add);
  }
}

// ---- stretches -----------------------------------------------------------------------------

// A warp has one result.
template <class F, class Y>
static __global__ void __launch_bounds__(256)
    merge_stretches_kernel(Y *y, const typename F::acc *parts, int64_t results, int64_t inner,
                           int stretches, float alpha, bool add) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
  if (i >= results) return;
  parts += i / inner * stretches * inner + i % inner;
  typename F::acc v = F::none();
  for (int s = (int)threadIdx.x; s < stretches; s += 32) F::merge(v, parts[s * inner]);
  v = warp_merge<F>(v);
  if (threadIdx.x == 0) finish(y, i, v, alpha, add);
}

constexpr int64_t ENOUGH_BLOCKS = 512;  // for any card
constexpr int64_t LEAST_COLUMNS_ROWS = 64, LEAST_ROW = 8192;

static int stretches_of(int64_t mid, int64_t least, int64_t blocks) {
  return (int)std::max<int64_t>(
      1, std::min(mid / least, ENOUGH_BLOCKS / std::max<int64_t>(blocks, 1)));
}

template <class F, class Y, class T>
static cft_status reduce_to(const queue &q, Y *y, const T *x, int64_t outer, int64_t mid,
                            int64_t inner, float alpha, bool add) {
  using acc = typename F::acc;
  constexpr int N = WIDTH<T>;
  const bool wide = aligned16(x) && (inner == 1 ? mid : inner) % N == 0;
  const unsigned blocks = inner == 1 ? (unsigned)outer : blocks_for(inner, 32 * (wide ? N : 1));
  const int stretches = inner == 1 ? stretches_of(mid, LEAST_ROW, outer)
                                   : stretches_of(mid, LEAST_COLUMNS_ROWS, blocks * outer);
  const int64_t length = ((mid + stretches - 1) / stretches + N - 1) / N * N;
  scratch parts;
  if (stretches > 1) CFT_TRY(parts.take(q, (size_t)(outer * stretches * inner) * sizeof(acc)));
  if (inner == 1) {
    const dim3 block = mid <= 2048 ? dim3(32, 8) : dim3(ROW_THREADS, 1);
    auto *kernel = wide ? reduce_rows_kernel<F, Y, T, N> : reduce_rows_kernel<F, Y, T, 1>;
    CFT_TRY(run(q, kernel, blocks_for(outer * stretches, block.y), block, 0, y, parts.as<acc>(), x,
                outer, mid, length, stretches, alpha, add));
  } else {
    const auto grid = (unsigned)(blocks * outer * stretches);
    auto *kernel = wide ? reduce_columns_kernel<F, Y, T, N> : reduce_columns_kernel<F, Y, T, 1>;
    CFT_TRY(run(q, kernel, grid, dim3(32, LANES), 0, y, parts.as<acc>(), x, mid, inner, blocks,
                length, stretches, alpha, add));
  }
  if (stretches == 1) return CFT_OK;
  return run(q, merge_stretches_kernel<F, Y>, blocks_for(outer * inner, 8), dim3(32, 8), 0, y,
             parts.as<const acc>(), outer * inner, inner, stretches, alpha, add);
}

template <class F, class T>
static cft_status reduce_floats(const queue &q, const cft_reduce_args *a) {
  const bool add = a->y_beta != 0;
  if (a->y_dtype == CFT_F32)
    return reduce_to<F>(q, (float *)a->y, (const T *)a->x, a->outer, a->mid, a->inner,
                        (float)a->alpha, add);
  if (a->y_dtype == CFT_BF16 && a->dtype == CFT_BF16)
    return reduce_to<F>(q, (bf16 *)a->y, (const T *)a->x, a->outer, a->mid, a->inner,
                        (float)a->alpha, add);
  return no_kernel(q, a->y_dtype);
}

template <class T>
static cft_status reduce(const queue &q, const cft_reduce_args *a) {
  switch (a->f) {
    case CFT_SUM: return reduce_floats<sum_of, T>(q, a);
    case CFT_SUM_SQUARES: return reduce_floats<squares_of, T>(q, a);
    case CFT_MAXIMUM: return reduce_floats<maximum_of, T>(q, a);
    case CFT_ARGMAX:
      if (a->y_dtype != CFT_I32) return no_kernel(q, a->y_dtype);
      return reduce_to<place_of_maximum>(q, (int32_t *)a->y, (const T *)a->x, a->outer, a->mid,
                                         a->inner, 1, false);
  }
  return cft_fail(CFT_E_ARG, "reduce: no reduction %d", (int)a->f);
}

FLOAT_OP(reduce, cft_reduce_args, a->outer == 0 || a->inner == 0, reduce)

cft_status sum_rows(const queue &q, void *y, cft_dtype y_dtype, const float *x, int64_t rows,
                    int64_t d, bool add) {
  if (y_dtype == CFT_F32) return reduce_to<sum_of>(q, (float *)y, x, 1, rows, d, 1, add);
  return reduce_to<sum_of>(q, (bf16 *)y, x, 1, rows, d, 1, add);
}
