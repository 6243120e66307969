// cast.cu - y = x in another dtype; strided copies. Memory bound; 16 bytes of the wider type a
// thread where addresses allow. Any n.
#include "cuda.cuh"

constexpr int THREADS = 256;

// Out of an integer's range: its nearest end; NaN: 0.
template <class Y, class X>
static __device__ __forceinline__ Y saturated(X x) {
  constexpr Y top = sizeof(Y) == 4 ? (Y)INT32_MAX : (Y)INT64_MAX;
  if constexpr (std::is_floating_point_v<X>) {
    if (x != x) return 0;
    if (x >= -(X)(-top - 1)) return top;
    return x < (X)(-top - 1) ? -top - 1 : (Y)x;
  } else if constexpr (sizeof(X) > sizeof(Y)) {
    return x > top ? top : x < -(X)top - 1 ? -top - 1 : (Y)x;
  } else {
    return (Y)x;
  }
}

// To float by rounding to odd: a second rounding, to 16 bits, then gives what one would have.
static __device__ __forceinline__ float odd(double x) {
  const float f = (float)x;
  if ((double)f == x || x != x) return f;
  const unsigned bits = __float_as_uint(f), away = fabs((double)f) > fabs(x) ? 1 : 0;
  return __uint_as_float((bits - away) | 1u);
}

template <class Y, class X>
static __device__ __forceinline__ Y converted(X x) {
  if constexpr (std::is_same_v<Y, X>) {
    return x;
  } else if constexpr (std::is_same_v<X, bf16>) {
    return converted<Y>(__bfloat162float(x));
  } else if constexpr (std::is_same_v<X, f16>) {
    return converted<Y>(__half2float(x));
  } else if constexpr (std::is_same_v<Y, bf16> || std::is_same_v<Y, f16>) {
    float v;
    if constexpr (std::is_same_v<X, double>)
      v = odd(x);
    else
      v = x;
    if constexpr (std::is_same_v<Y, bf16>)
      return __float2bfloat16(v);
    else
      return __float2half(v);
  } else if constexpr (std::is_integral_v<Y>) {
    return saturated<Y>(x);
  } else {
    return (Y)x;
  }
}

template <class Y, class X, int N>
static __global__ void __launch_bounds__(THREADS) cast_kernel(Y *y, const X *x, int64_t n) {
  const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
  if (i + N <= n) {
    const pack<X, N> in = load<N>(x + i);
    pack<Y, N> out;
#pragma unroll
    for (int k = 0; k < N; k++) out.v[k] = converted<Y>(in.v[k]);
    store<N>(y + i, out);
  } else {
    for (int64_t k = i; k < n; k++) y[k] = converted<Y>(x[k]);
  }
}

template <class Y, class X>
static cft_status cast(const queue &q, const cft_cast_args *a) {
  constexpr int N = WIDTH<Y, X>;
  const bool wide = aligned16(a->y, a->x);
  auto *kernel = wide ? cast_kernel<Y, X, N> : cast_kernel<Y, X, 1>;
  return run(q, kernel, blocks_for(a->n, THREADS * (wide ? N : 1)), THREADS, 0, (Y *)a->y,
             (const X *)a->x, a->n);
}

template <class X>
static cft_status from_float_type(const queue &q, const cft_cast_args *a) {
  switch (a->y_dtype) {
    case CFT_F32: return cast<float, X>(q, a);
    case CFT_BF16: return cast<bf16, X>(q, a);
    case CFT_F64: return cast<double, X>(q, a);
    case CFT_F16: return cast<f16, X>(q, a);
    default: return no_kernel(q, a->y_dtype);
  }
}

template <class X>
static cft_status from_integer(const queue &q, const cft_cast_args *a) {
  switch (a->y_dtype) {
    case CFT_F32: return cast<float, X>(q, a);
    case CFT_I32: return cast<int32_t, X>(q, a);
    case CFT_I64: return cast<int64_t, X>(q, a);
    default: return no_kernel(q, a->y_dtype);
  }
}

cft_status cft_cuda_cast(cft_device *d, cft_stream *s, const cft_cast_args *a) {
  if (a->n == 0) return CFT_OK;
  const queue q(d, s, "cast");
  switch (a->x_dtype) {
    case CFT_F32:
      if (a->y_dtype == CFT_I32 || a->y_dtype == CFT_I64) return from_integer<float>(q, a);
      return from_float_type<float>(q, a);
    case CFT_BF16: return from_float_type<bf16>(q, a);
    case CFT_F64: return from_float_type<double>(q, a);
    case CFT_F16: return from_float_type<f16>(q, a);
    case CFT_I32: return from_integer<int32_t>(q, a);
    case CFT_I64: return from_integer<int64_t>(q, a);
    default: return no_kernel(q, a->x_dtype);
  }
}

// ---- strided copies ------------------------------------------------------------------------

struct layout {
  int ndim;
  int64_t dims[CFT_MAX_DIMS], y_strides[CFT_MAX_DIMS], x_strides[CFT_MAX_DIMS];
};

template <class T>
static __global__ void __launch_bounds__(THREADS)
    strided_kernel(T *y, const T *x, int64_t n, layout l) {
  int64_t rest = (int64_t)blockIdx.x * THREADS + threadIdx.x, to = 0, from = 0;
  if (rest >= n) return;
#pragma unroll
  for (int k = CFT_MAX_DIMS - 1; k >= 0; k--) {
    if (k >= l.ndim) continue;
    const int64_t i = rest % l.dims[k];
    rest /= l.dims[k];
    to += i * l.y_strides[k];
    from += i * l.x_strides[k];
  }
  y[to] = x[from];
}

template <class T>
static cft_status strided(const queue &q, const cft_strided_args *a, const layout &l, int64_t n) {
  return run(q, strided_kernel<T>, blocks_for(n, THREADS), THREADS, 0, (T *)a->y, (const T *)a->x,
             n, l);
}

// Dimensions that follow each other without a gap in both are one: fewer divisions, and a row that
// can be moved by more than an element at a time.
static layout joined(const cft_strided_args *a) {
  layout l = {};
  for (int k = 0; k < a->ndim; k++) {
    if (a->dims[k] == 1) continue;
    if (l.ndim > 0 && l.y_strides[l.ndim - 1] == a->dims[k] * a->y_strides[k] &&
        l.x_strides[l.ndim - 1] == a->dims[k] * a->x_strides[k]) {
      l.ndim--;
      l.dims[l.ndim] *= a->dims[k];
    } else {
      l.dims[l.ndim] = a->dims[k];
    }
    l.y_strides[l.ndim] = a->y_strides[k];
    l.x_strides[l.ndim] = a->x_strides[k];
    l.ndim++;
  }
  return l;
}

cft_status cft_cuda_strided_copy(cft_device *d, cft_stream *s, const cft_strided_args *a) {
  const queue q(d, s, "strided_copy");
  int64_t n = 1;
  for (int k = 0; k < a->ndim; k++) n *= a->dims[k];
  if (n == 0) return CFT_OK;
  layout l = joined(a);
  size_t bytes = cft_dtype_bytes(a->dtype);
  const int last = l.ndim - 1;
  if (last >= 0 && l.y_strides[last] == 1 && l.x_strides[last] == 1) {
    while (bytes < 16) {  // rows that allow it are moved as rows of twice as wide elements
      bool even = l.dims[last] % 2 == 0 && (uintptr_t)a->y % (2 * bytes) == 0 &&
                  (uintptr_t)a->x % (2 * bytes) == 0;
      for (int k = 0; k < last; k++)
        even = even && l.y_strides[k] % 2 == 0 && l.x_strides[k] % 2 == 0;
      if (!even) break;
      bytes *= 2;
      n /= 2;
      l.dims[last] /= 2;
      for (int k = 0; k < last; k++) l.y_strides[k] /= 2, l.x_strides[k] /= 2;
    }
  }
  switch (bytes) {
    case 1: return strided<uint8_t>(q, a, l, n);
    case 2: return strided<uint16_t>(q, a, l, n);
    case 4: return strided<uint32_t>(q, a, l, n);
    case 8: return strided<uint2>(q, a, l, n);
    case 16: return strided<uint4>(q, a, l, n);
    default: return no_kernel(q, a->dtype);
  }
}
