// swiglu.cu - y = gate * sigmoid(gate) * up, and its gradient, which may take the place of gate and
// up and give y again. Memory bound: forward 3 values an element, backward 5 (6 with y), each moved
// once, 16 bytes a thread where width, strides and addresses allow. Any n and d.
#include "cuda.cuh"

template <class T, int N>
static __global__ void __launch_bounds__(256)
    swiglu_fwd_kernel(T *y, const T *gate, const T *up, int64_t d, unsigned stretches,
                      int64_t y_stride, int64_t x_stride) {
  const row_place at = place_in_rows<N>(stretches);
  if (at.column >= d) return;
  const int64_t from = at.row * x_stride + at.column;
  pack<float, N> g = load_floats<N>(gate + from);
  const pack<float, N> u = load_floats<N>(up + from);
#pragma unroll
  for (int k = 0; k < N; k++) g.v[k] = g.v[k] / (1 + __expf(-g.v[k])) * u.v[k];
  store_floats<N>(y + at.row * y_stride + at.column, g);
}

template <class T>
static cft_status swiglu_fwd(const queue &q, const cft_swiglu_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = a->d % N == 0 && a->y_stride % N == 0 && a->x_stride % N == 0 &&
                    aligned16(a->y, a->gate, a->up);
  const row_grid g(a->n, a->d, wide ? N : 1);
  auto *kernel = wide ? swiglu_fwd_kernel<T, N> : swiglu_fwd_kernel<T, 1>;
  return run(q, kernel, g.blocks, g.threads, 0, (T *)a->y, (const T *)a->gate, (const T *)a->up,
             a->d, g.stretches, a->y_stride, a->x_stride);
}

FLOAT_OP(swiglu_fwd, cft_swiglu_args, a->n == 0 || a->d == 0, swiglu_fwd)

// With f = g sigmoid(g): dup = dy f, dgate = dy u sigmoid(g) (1 + g (1 - sigmoid(g))).
template <class T, int N>
static __global__ void __launch_bounds__(256)
    swiglu_bwd_kernel(T *dgate, T *dup, T *y, const T *dy, const T *gate, const T *up, int64_t d,
                      unsigned stretches, int64_t dx_stride, int64_t dy_stride, int64_t x_stride,
                      int64_t y_stride) {
  const row_place at = place_in_rows<N>(stretches);
  if (at.column >= d) return;
  const int64_t from = at.row * x_stride + at.column, to = at.row * dx_stride + at.column;
  pack<float, N> g = load_floats<N>(gate + from), u = load_floats<N>(up + from), out;
  const pack<float, N> v = load_floats<N>(dy + at.row * dy_stride + at.column);
#pragma unroll
  for (int k = 0; k < N; k++) {
    const float gate_k = g.v[k], sigmoid = 1 / (1 + __expf(-gate_k)), f = gate_k * sigmoid;
    out.v[k] = f * u.v[k];
    g.v[k] = v.v[k] * u.v[k] * sigmoid * (1 + gate_k * (1 - sigmoid));
    u.v[k] = v.v[k] * f;
  }
  store_floats<N>(dgate + to, g);
  store_floats<N>(dup + to, u);
  if (y) store_floats<N>(y + at.row * y_stride + at.column, out);
}

template <class T>
static cft_status swiglu_bwd(const queue &q, const cft_swiglu_bwd_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = a->d % N == 0 && a->dx_stride % N == 0 && a->dy_stride % N == 0 &&
                    a->x_stride % N == 0 && (!a->y || a->y_stride % N == 0) &&
                    aligned16(a->dgate, a->dup, a->y, a->dy, a->gate, a->up);
  const row_grid g(a->n, a->d, wide ? N : 1);
  auto *kernel = wide ? swiglu_bwd_kernel<T, N> : swiglu_bwd_kernel<T, 1>;
  return run(q, kernel, g.blocks, g.threads, 0, (T *)a->dgate, (T *)a->dup, (T *)a->y,
             (const T *)a->dy, (const T *)a->gate, (const T *)a->up, a->d, g.stretches,
             a->dx_stride, a->dy_stride, a->x_stride, a->y_stride);
}

FLOAT_OP(swiglu_bwd, cft_swiglu_bwd_args, a->n == 0 || a->d == 0, swiglu_bwd)
