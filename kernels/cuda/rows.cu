// rows.cu - gather and scatter of rows. Memory bound: each row is read once and written once, 16
// bytes a thread where addresses, width and strides allow. Any n and d.
#include "cuda.cuh"

// to[i] = from[index[i]], or to[index[i]] = from[i], moving elements as they are; without an index
// row by row.
template <class T, int N, bool gather>
static __global__ void __launch_bounds__(256)
    move_rows_kernel(T *y, const T *x, const int32_t *index, int64_t d, unsigned stretches,
                     int64_t y_stride, int64_t x_stride) {
  const row_place at = place_in_rows<N>(stretches);
  if (at.column >= d) return;
  const int64_t there = index ? index[at.row] : at.row;
  const int64_t to = gather ? at.row : there, from = gather ? there : at.row;
  store<N>(y + to * y_stride + at.column, load<N>(x + from * x_stride + at.column));
}

template <class T, int N>
static __global__ void __launch_bounds__(256)
    add_rows_kernel(T *y, const T *x, const int32_t *index, int64_t d, unsigned stretches,
                    int64_t y_stride, int64_t x_stride) {
  const row_place at = place_in_rows<N>(stretches);
  if (at.column >= d) return;
  T *to = y + (index ? index[at.row] : at.row) * y_stride + at.column;
  const pack<float, N> v = load_floats<N>(x + at.row * x_stride + at.column);
  pack<float, N> sum = load_floats<N>(to);
#pragma unroll
  for (int k = 0; k < N; k++) sum.v[k] += v.v[k];
  store_floats<N>(to, sum);
}

static bool wide_rows(const cft_rows_args *a, int N) {
  return aligned16(a->y, a->x) && a->d % N == 0 && a->y_stride % N == 0 && a->x_stride % N == 0;
}

template <class T, bool gather>
static cft_status move_rows(const queue &q, const cft_rows_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = wide_rows(a, N);
  const row_grid g(a->n, a->d, wide ? N : 1);
  auto *kernel = wide ? move_rows_kernel<T, N, gather> : move_rows_kernel<T, 1, gather>;
  return run(q, kernel, g.blocks, g.threads, 0, (T *)a->y, (const T *)a->x, a->index, a->d,
             g.stretches, a->y_stride, a->x_stride);
}

template <bool gather>
static cft_status move_rows(const queue &q, const cft_rows_args *a) {
  switch (cft_dtype_bytes(a->dtype)) {
    case 1: return move_rows<uint8_t, gather>(q, a);
    case 2: return move_rows<uint16_t, gather>(q, a);
    case 4: return move_rows<uint32_t, gather>(q, a);
    case 8: return move_rows<uint2, gather>(q, a);
    default: return no_kernel(q, a->dtype);
  }
}

template <class T>
static cft_status add_rows(const queue &q, const cft_rows_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = wide_rows(a, N);
  const row_grid g(a->n, a->d, wide ? N : 1);
  auto *kernel = wide ? add_rows_kernel<T, N> : add_rows_kernel<T, 1>;
  return run(q, kernel, g.blocks, g.threads, 0, (T *)a->y, (const T *)a->x, a->index, a->d,
             g.stretches, a->y_stride, a->x_stride);
}

cft_status cft_cuda_gather_rows(cft_device *d, cft_stream *s, const cft_rows_args *a) {
  if (a->n == 0 || a->d == 0) return CFT_OK;
  const queue q(d, s, "gather_rows");
  return move_rows<true>(q, a);
}

cft_status cft_cuda_scatter_rows(cft_device *d, cft_stream *s, const cft_rows_args *a) {
  if (a->n == 0 || a->d == 0) return CFT_OK;
  const queue q(d, s, "scatter_rows");
  if (!a->add) return move_rows<false>(q, a);
  return BY_FLOAT(q, a->dtype, add_rows, a);
}

cft_status cft_cuda_embedding_fwd(cft_device *d, cft_stream *s, const cft_embedding_args *a) {
  if (a->n == 0 || a->d == 0) return CFT_OK;
  const queue q(d, s, "embedding_fwd");
  const cft_rows_args rows = {.y = a->y,
                              .x = a->table,
                              .index = a->ids,
                              .n = a->n,
                              .d = a->d,
                              .y_stride = a->d,
                              .x_stride = a->d,
                              .add = 0,
                              .dtype = a->dtype};
  return move_rows<true>(q, &rows);
}
