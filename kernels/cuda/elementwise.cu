// elementwise.cu - unary, binary, axpby, fill. Memory bound: each value is read once and written
// once, 16 bytes a thread where all addresses and row lengths allow, else one element. Any n;
// outputs may be inputs.
#include "cuda.cuh"

constexpr int THREADS = 256;

// ---- unary ---------------------------------------------------------------------------------

template <int N>
static __device__ __forceinline__ void apply(cft_unary f, pack<float, N> &x) {
#define EACH(expression)                                       \
  _Pragma("unroll") for (float &v : x.v) { v = (expression); } \
  break
  switch (f) {
    case CFT_NEG: EACH(-v);
    case CFT_EXP: EACH(expf(v));
    case CFT_LOG: EACH(logf(v));
    case CFT_SQRT: EACH(sqrtf(v));
    case CFT_RSQRT: EACH(rsqrtf(v));
    case CFT_TANH: EACH(tanhf(v));
    case CFT_SIGMOID: EACH(1 / (1 + expf(-v)));
    case CFT_RELU: EACH(v < 0 ? 0 : v);  // NaN stays
    case CFT_SILU: EACH(v / (1 + expf(-v)));
    case CFT_ABS: EACH(fabsf(v));
    case CFT_SIN: EACH(sinf(v));
    case CFT_COS: EACH(cosf(v));
    case CFT_SQUARE: EACH(v * v);
    case CFT_RECIPROCAL: EACH(1 / v);
    case CFT_STEP: EACH(v > 0 ? 1 : 0);
  }
#undef EACH
}

template <class T, int N>
static __global__ void __launch_bounds__(THREADS)
    unary_kernel(T *y, const T *x, int64_t n, cft_unary f, float alpha, bool add) {
  for_elements<N>(n, [&](auto width, int64_t i) {
    constexpr int W = decltype(width)::value;
    pack<float, W> v = load_floats<W>(x + i), sum = {};
    if (add) sum = load_floats<W>(y + i);
    apply(f, v);
#pragma unroll
    for (int k = 0; k < W; k++) v.v[k] = alpha * v.v[k] + sum.v[k];
    store_floats<W>(y + i, v);
  });
}

template <class T>
static cft_status unary(const queue &q, const cft_unary_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = aligned16(a->y, a->x);
  auto *kernel = wide ? unary_kernel<T, N> : unary_kernel<T, 1>;
  return run(q, kernel, blocks_for(a->n, THREADS * (wide ? N : 1)), THREADS, 0, (T *)a->y,
             (const T *)a->x, a->n, a->f, (float)a->alpha, a->y_beta != 0);
}

FLOAT_OP(unary, cft_unary_args, a->n == 0, unary)

// ---- binary --------------------------------------------------------------------------------

template <int N>
static __device__ __forceinline__ void apply(cft_binary f, pack<float, N> &x,
                                             const pack<float, N> &b) {
#define EACH(expression)                          \
  _Pragma("unroll") for (int k = 0; k < N; k++) { \
    const float u = x.v[k], v = b.v[k];           \
    x.v[k] = (expression);                        \
  }                                               \
  break
  switch (f) {
    case CFT_ADD: EACH(u + v);
    case CFT_SUB: EACH(u - v);
    case CFT_MUL: EACH(u * v);
    case CFT_DIV: EACH(u / v);
    case CFT_MAX: EACH(u > v || u != u ? u : v);  // NaN passes, from either side
    case CFT_MIN: EACH(u < v || u != u ? u : v);
    case CFT_POW: EACH(powf(u, v));
  }
#undef EACH
}

template <class T, int N>
static __global__ void __launch_bounds__(THREADS)
    binary_kernel(T *y, const T *a, const T *b, int64_t d, unsigned stretches, int64_t b_rows,
                  int64_t b_cols, cft_binary f, bool add) {
  const row_place at = place_in_rows<N>(stretches);
  if (at.column >= d) return;
  const int64_t i = at.row * d + at.column;
  pack<float, N> x = load_floats<N>(a + i), other, sum = {};
  b += at.row * b_rows;
  if (b_cols == 1) {
    other = load_floats<N>(b + at.column);
  } else {
#pragma unroll
    for (int k = 0; k < N; k++) other.v[k] = to_float(b[(at.column + k) * b_cols]);
  }
  if (add) sum = load_floats<N>(y + i);
  apply(f, x, other);
#pragma unroll
  for (int k = 0; k < N; k++) x.v[k] += sum.v[k];
  store_floats<N>(y + i, x);
}

template <class T>
static cft_status binary(const queue &q, const cft_binary_args *a) {
  int64_t n = a->n, d = a->d, b_rows = a->b_rows, b_cols = a->b_cols;
  if (d == 1) {  // a column: many rows of one element are one row of many
    d = n, n = 1, b_cols = b_rows, b_rows = 0;
  } else if (n == 1 || b_rows == d * b_cols) {  // nothing changes where a row begins
    d *= n, n = 1, b_rows = 0;
  }
  constexpr int N = WIDTH<T>;
  const bool wide = aligned16(a->y, a->a) && d % N == 0 &&
                    (b_cols == 1 ? aligned16(a->b) && b_rows % N == 0 : b_cols == 0);
  const row_grid g(n, d, wide ? N : 1);
  auto *kernel = wide ? binary_kernel<T, N> : binary_kernel<T, 1>;
  return run(q, kernel, g.blocks, g.threads, 0, (T *)a->y, (const T *)a->a, (const T *)a->b, d,
             g.stretches, b_rows, b_cols, a->f, a->y_beta != 0);
}

FLOAT_OP(binary, cft_binary_args, a->n == 0 || a->d == 0, binary)

// ---- axpby ---------------------------------------------------------------------------------

template <class Y, class X, int N>
static __global__ void __launch_bounds__(THREADS)
    axpby_kernel(Y *y, const X *x, int64_t n, float alpha, float beta) {
  for_elements<N>(n, [&](auto width, int64_t i) {
    constexpr int W = decltype(width)::value;
    pack<float, W> v = load_floats<W>(x + i), old = {};
    if (beta != 0) old = load_floats<W>(y + i);
#pragma unroll
    for (int k = 0; k < W; k++) v.v[k] = alpha * v.v[k] + beta * old.v[k];
    store_floats<W>(y + i, v);
  });
}

template <class Y, class X>
static cft_status axpby(const queue &q, const cft_axpby_args *a) {
  constexpr int N = WIDTH<Y, X>;
  const bool wide = aligned16(a->y, a->x);
  auto *kernel = wide ? axpby_kernel<Y, X, N> : axpby_kernel<Y, X, 1>;
  return run(q, kernel, blocks_for(a->n, THREADS * (wide ? N : 1)), THREADS, 0, (Y *)a->y,
             (const X *)a->x, a->n, (float)a->alpha, (float)a->beta);
}

cft_status cft_cuda_axpby(cft_device *d, cft_stream *s, const cft_axpby_args *a) {
  if (a->n == 0) return CFT_OK;
  const queue q(d, s, "axpby");
  if (a->dtype == CFT_F32 && a->y_dtype == CFT_F32) return axpby<float, float>(q, a);
  if (a->dtype == CFT_BF16 && a->y_dtype == CFT_BF16) return axpby<bf16, bf16>(q, a);
  if (a->dtype == CFT_BF16 && a->y_dtype == CFT_F32) return axpby<float, bf16>(q, a);
  return no_kernel(q, a->dtype);
}

// ---- fill ----------------------------------------------------------------------------------

template <class T, int N>
static __global__ void __launch_bounds__(THREADS) fill_kernel(T *y, int64_t n, T value) {
  for_elements<N>(n, [&](auto width, int64_t i) {
    pack<T, decltype(width)::value> v;
#pragma unroll
    for (T &e : v.v) e = value;
    store<decltype(width)::value>(y + i, v);
  });
}

template <class T>
static cft_status fill(const queue &q, const cft_fill_args *a, T value) {
  constexpr int N = WIDTH<T>;
  const bool wide = aligned16(a->y);
  auto *kernel = wide ? fill_kernel<T, N> : fill_kernel<T, 1>;
  return run(q, kernel, blocks_for(a->n, THREADS * (wide ? N : 1)), THREADS, 0, (T *)a->y, a->n,
             value);
}

cft_status cft_cuda_fill(cft_device *d, cft_stream *s, const cft_fill_args *a) {
  if (a->n == 0) return CFT_OK;
  const queue q(d, s, "fill");
  switch (a->dtype) {
    case CFT_F32: return fill(q, a, (float)a->value);
    case CFT_BF16: return fill(q, a, __float2bfloat16((float)a->value));
    case CFT_F64: return fill(q, a, a->value);
    case CFT_F16: return fill(q, a, __float2half((float)a->value));
    case CFT_I32: return fill(q, a, (int32_t)a->value);
    case CFT_I64: return fill(q, a, (int64_t)a->value);
    case CFT_U8: return fill(q, a, (uint8_t)a->value);
  }
  return no_kernel(q, a->dtype);
}
