// cross_entropy.cu - a block per row of logits: maximum and sum of exponentials in one pass
// (online), then the gradient, in the row's own place if asked. The first pass leaves the row in
// shared memory, as much of it as fits (115,000 bf16 on sm_90), so that device memory sees each
// logit read once and written once, and L2 the rest. 16 bytes an access where V, strides and
// addresses allow. Any n, V.
#include "running_sum.cuh"

constexpr int THREADS = 1024;
constexpr size_t ELSE = 2048;  // bytes of shared memory for anything but the row

// kept: packs of the row that stay in shared memory; each is written and read by the same thread.
template <class G, class T, int N>
static __global__ void __launch_bounds__(THREADS)
    cross_entropy_kernel(float *nll, G *grad, const T *logits, const int32_t *target,
                         const float *weight, int64_t V, int64_t logits_stride, int64_t grad_stride,
                         float scale, int64_t kept) {
  pack<T, N> *row = dynamic_shared<pack<T, N>>();
  const int64_t i = blockIdx.x, packs = (V + N - 1) / N;
  const T *x = logits + i * logits_stride;
  const int32_t t = target[i];
  const bool inside = t >= 0 && t < V;
  const float right = inside ? to_float(x[t]) : 0, factor = scale * weight[i];
  const bool wants_gradient = grad && weight[i] != 0;

  const row_sum sum = sum_of_row<N>(packs, [&](int64_t p) {
    const pack<T, N> raw = load<N>(x + p * N);
    if (wants_gradient && p < kept) row[p] = raw;
    pack<float, N> e;
#pragma unroll
    for (int k = 0; k < N; k++) e.v[k] = to_float(raw.v[k]);
    return e;
  });  // its barrier: x[t] is read before its owner overwrites it below
  const running_sum all = sum.all;
  const float lse = sum.lse;
  if (threadIdx.x == 0) nll[i] = inside ? lse - right : 0;
  if (!grad) return;

  G *g = grad + i * grad_stride;
  const float over = factor / all.s;
  for (int64_t p = threadIdx.x; p < packs; p += blockDim.x) {
    pack<float, N> out = {};
    if (wants_gradient) {
      const pack<T, N> raw = p < kept ? row[p] : load<N>(x + p * N);
#pragma unroll
      for (int k = 0; k < N; k++) {
        out.v[k] = __expf(to_float(raw.v[k]) - all.m) * over;
        if (p * N + k == t) out.v[k] -= factor;
      }
    }
    store_floats<N>(g + p * N, out);
  }
}

template <class G, class T>
static cft_status cross_entropy(const queue &q, const cft_cross_entropy_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = a->V % N == 0 && a->logits_stride % N == 0 && aligned16(a->logits) &&
                    (!a->grad || (a->grad_stride % N == 0 && aligned16(a->grad)));
  const int64_t packs = wide ? a->V / N : a->V;
  const unsigned threads = threads_of_row(packs);
  const size_t room = (q.device->shared_most - ELSE) / 16 * 16;  // 227 KiB on sm_90, 99 on sm_86
  const size_t bytes = wide && a->grad ? std::min(room, (size_t)packs * 16) : 0;
  auto *kernel = wide ? cross_entropy_kernel<G, T, N> : cross_entropy_kernel<G, T, 1>;
  return run(q, kernel, (unsigned)a->n, threads, bytes, (float *)a->nll, (G *)a->grad,
             (const T *)a->logits, a->target, a->weight, a->V, a->logits_stride, a->grad_stride,
             (float)a->scale, (int64_t)(bytes / 16));
}

cft_status cft_cuda_cross_entropy(cft_device *d, cft_stream *s, const cft_cross_entropy_args *a) {
  if (a->n == 0 || a->V == 0) return CFT_OK;
  const queue q(d, s, "cross_entropy");
  const cft_dtype g = a->grad ? a->grad_dtype : a->dtype;
  if (a->dtype == CFT_F32 && g == CFT_F32) return cross_entropy<float, float>(q, a);
  if (a->dtype == CFT_F32 && g == CFT_BF16) return cross_entropy<bf16, float>(q, a);
  if (a->dtype == CFT_BF16 && g == CFT_BF16) return cross_entropy<bf16, bf16>(q, a);
  return no_kernel(q, a->dtype == CFT_F32 || a->dtype == CFT_BF16 ? g : a->dtype);
}
