// attention_plain.cu - attention on CUDA cores, for what tensor cores do not take: f32, any D.
//
// A warp has one query and head (or one key row and key head). Of 32 keys at a time each lane takes
// one and makes its score alone; then each lane takes columns of D and goes over the 32. What a
// warp sums lies in its own shared memory, so D is free. K and V come from L1 and L2.
// Deterministic.
#include "attention.cuh"

constexpr int WARPS = 4;
constexpr int BLOCKS = 8;  // a multiprocessor: said to ptxas, which else spills to fit more in

template <class T>
static __device__ __forceinline__ float dot(const float *a, const T *b, int D) {
  float sum = 0;
  for (int d = 0; d < D; d++) sum += a[d] * to_float(b[d]);
  return sum;
}

static __device__ __forceinline__ float warp_most(float v) {
  for (int x = 16; x > 0; x /= 2) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, x));
  return v;
}

// What each warp has of shared memory, in floats; the pieces are of D and of 32.
static __device__ __forceinline__ float *warp_memory(int floats) {
  return dynamic_shared<float>() + threadIdx.x / 32 * floats;
}

struct strides {
  int64_t q, k, v, o, g, dq, dk, dv;  // g: of do
};

template <class T, bool PAGED>
static __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    plain_fwd_kernel(T *o, float *lse, const T *q, const T *k, const T *v, packed p, strides s,
                     float scale) {
  const int lane = threadIdx.x % 32, head = blockIdx.y, kv_head = head / (p.H / p.K), D = p.D;
  const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  if (row >= p.nq) return;  // warps leave whole, and no barrier is for more than one
  const int64_t b = sequence_of(p.cu_q, p.B, row);
  if (b < 0) return;
  float *mine = warp_memory(2 * D + 32), *sum = mine + D, *weights = sum + D;
  const int q0 = p.cu_q[b], keys = keys_of(p, b);
  const int seen = seen_by(p, (int)(row - q0), q0, p.cu_q[b + 1] - q0, keys);
  k += kv_head * D;
  v += kv_head * D;
  for (int d = lane; d < D; d += 32) {
    mine[d] = to_float(q[row * s.q + head * D + d]) * scale;
    sum[d] = 0;
  }
  __syncwarp();
  float most = -INFINITY, total = 0;
  for (int first = 0; first < seen; first += 32) {
    const int j = first + lane, count = min(32, seen - first);
    const int64_t at = key_row<PAGED>(p, b, first);
    const float score = j < seen ? dot(mine, k + (at + lane) * s.k, D) : -INFINITY;
    const float before = most;
    most = fmaxf(most, warp_most(score));
    const float keep = expf(before - most), weight = expf(score - most);
    total = total * keep + warp_sum(weight);
    weights[lane] = weight;
    __syncwarp();
    for (int d = lane; d < D; d += 32) {
      float x = sum[d] * keep;
      for (int i = 0; i < count; i++) x += weights[i] * to_float(v[(at + i) * s.v + d]);
      sum[d] = x;
    }
    __syncwarp();  // all have read weights
  }
  const float inverse = total > 0 ? 1 / total : seen > 0 ? total : 0;
  for (int d = lane; d < D; d += 32) o[row * s.o + head * D + d] = from_float<T>(sum[d] * inverse);
  if (lse && lane == 0) lse[row * p.H + head] = seen > 0 ? most + logf(total) : -INFINITY;
}

template <class T>
static __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    plain_dq_kernel(T *dq, const T *q, const T *k, const T *v, const T *g, const float *lse,
                    const float *delta, packed p, strides s, float scale) {
  const int lane = threadIdx.x % 32, head = blockIdx.y, kv_head = head / (p.H / p.K), D = p.D;
  const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  if (row >= p.nq) return;
  const int64_t b = sequence_of(p.cu_q, p.B, row);
  if (b < 0) return;
  float *mine = warp_memory(3 * D + 32), *grad = mine + D, *sum = grad + D, *ds = sum + D;
  const int q0 = p.cu_q[b], keys = keys_of(p, b);
  const int seen = seen_by(p, (int)(row - q0), q0, p.cu_q[b + 1] - q0, keys);
  const float row_lse = lse[row * p.H + head], row_delta = delta[row * p.H + head];
  k += p.cu_k[b] * s.k + kv_head * D;
  v += p.cu_k[b] * s.v + kv_head * D;
  for (int d = lane; d < D; d += 32) {
    mine[d] = to_float(q[row * s.q + head * D + d]) * scale;
    grad[d] = to_float(g[row * s.g + head * D + d]);
    sum[d] = 0;
  }
  __syncwarp();
  for (int first = 0; first < seen; first += 32) {
    const int j = first + lane, count = min(32, seen - first);
    if (j < seen)
      ds[lane] = expf(dot(mine, k + j * s.k, D) - row_lse) *
                 (dot(grad, v + j * s.v, D) - row_delta) * scale;
    __syncwarp();
    for (int d = lane; d < D; d += 32) {
      float x = sum[d];
      for (int i = 0; i < count; i++) x += ds[i] * to_float(k[(first + i) * s.k + d]);
      sum[d] = x;
    }
    __syncwarp();  // all have read ds
  }
  for (int d = lane; d < D; d += 32) dq[row * s.dq + head * D + d] = from_float<T>(sum[d]);
}

template <class T>
static __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    plain_dkv_kernel(T *dk, T *dv, const T *q, const T *k, const T *v, const T *g, const float *lse,
                     const float *delta, packed p, strides s, float scale) {
  const int lane = threadIdx.x % 32, kv_head = blockIdx.y, group = p.H / p.K, D = p.D;
  const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  if (row >= p.nk) return;
  const int64_t b = sequence_of(p.cu_k, p.B, row);
  const int key = b < 0 ? 0 : (int)(row - p.cu_k[b]);
  if (b < 0 || key >= keys_of(p, b)) return;  // of no sequence: attention_finish_keys clears it
  float *mine_k = warp_memory(4 * D + 64), *mine_v = mine_k + D, *sum_k = mine_v + D,
        *sum_v = sum_k + D, *ds = sum_v + D, *weights = ds + 32;
  const int q0 = p.cu_q[b], queries = p.cu_q[b + 1] - q0, keys = keys_of(p, b);
  for (int d = lane; d < D; d += 32) {
    mine_k[d] = to_float(k[row * s.k + kv_head * D + d]) * scale;
    mine_v[d] = to_float(v[row * s.v + kv_head * D + d]);
    sum_k[d] = sum_v[d] = 0;
  }
  __syncwarp();
  for (int head = kv_head * group; head < (kv_head + 1) * group; head++)
    for (int first = 0; first < queries; first += 32) {
      const int i = first + lane, count = min(32, queries - first);
      const bool sees = i < queries && seen_by(p, i, q0, queries, keys) > key;
      if (!__any_sync(ALL_LANES, sees)) continue;
      float weight = 0, change = 0;
      if (sees) {
        const int64_t at = q0 + i;
        weight = expf(dot(mine_k, q + at * s.q + head * D, D) - lse[at * p.H + head]);
        change =
            weight * scale * (dot(mine_v, g + at * s.g + head * D, D) - delta[at * p.H + head]);
      }
      weights[lane] = weight;
      ds[lane] = change;
      __syncwarp();
      for (int d = lane; d < D; d += 32) {
        float x = sum_k[d], y = sum_v[d];
        for (int j = 0; j < count; j++) {
          x += ds[j] * to_float(q[(q0 + first + j) * s.q + head * D + d]);
          y += weights[j] * to_float(g[(q0 + first + j) * s.g + head * D + d]);
        }
        sum_k[d] = x;
        sum_v[d] = y;
      }
      __syncwarp();  // all have read weights and ds
    }
  for (int d = lane; d < D; d += 32) {
    dk[row * s.dk + kv_head * D + d] = from_float<T>(sum_k[d]);
    dv[row * s.dv + kv_head * D + d] = from_float<T>(sum_v[d]);
  }
}

static size_t bytes_for(int floats) { return (size_t)(WARPS * floats) * sizeof(float); }

template <class T>
static cft_status fwd(const queue &q, const cft_attention_args *a) {
  const strides s = {a->q_stride, a->k_stride, a->v_stride, a->o_stride, 0, 0, 0, 0};
  const dim3 grid(blocks_for(a->nq, WARPS), (unsigned)a->H);
  return run(q, plain_fwd_kernel<T, false>, grid, WARPS * 32, bytes_for(2 * (int)a->D + 32),
             (T *)a->o, (float *)a->lse, (const T *)a->q, (const T *)a->k, (const T *)a->v,
             packed_of(a), s, (float)a->scale);
}

template <class T>
static cft_status paged(const queue &q, const cft_attention_paged_args *a) {
  const strides s = {a->q_stride, a->k_stride, a->v_stride, a->o_stride, 0, 0, 0, 0};
  const dim3 grid(blocks_for(a->nq, WARPS), (unsigned)a->H);
  return run(q, plain_fwd_kernel<T, true>, grid, WARPS * 32, bytes_for(2 * (int)a->D + 32),
             (T *)a->o, nullptr, (const T *)a->q, (const T *)a->k, (const T *)a->v, packed_of(a), s,
             (float)a->scale);
}

template <class T>
static cft_status bwd(const queue &q, const cft_attention_bwd_args *a) {
  const strides s = {a->q_stride,  a->k_stride,  a->v_stride,  a->o_stride,
                     a->do_stride, a->dq_stride, a->dk_stride, a->dv_stride};
  const int D = (int)a->D;
  const packed p = packed_of(a);
  const auto *lse = (const float *)a->lse;
  scratch delta;
  CFT_TRY(delta.take(q, (size_t)(a->nq * a->H) * sizeof(float)));
  CFT_TRY(attention_delta(q, delta.as<float>(), a));
  if (a->nq > 0)
    CFT_TRY(run(q, plain_dq_kernel<T>, dim3(blocks_for(a->nq, WARPS), (unsigned)a->H), WARPS * 32,
                bytes_for(3 * D + 32), (T *)a->dq, (const T *)a->q, (const T *)a->k,
                (const T *)a->v, (const T *)a->do_, lse, delta.as<const float>(), p, s,
                (float)a->scale));
  if (a->nk == 0) return CFT_OK;
  CFT_TRY(run(q, plain_dkv_kernel<T>, dim3(blocks_for(a->nk, WARPS), (unsigned)a->K), WARPS * 32,
              bytes_for(4 * D + 64), (T *)a->dk, (T *)a->dv, (const T *)a->q, (const T *)a->k,
              (const T *)a->v, (const T *)a->do_, lse, delta.as<const float>(), p, s,
              (float)a->scale));
  return attention_finish_keys(q, a, nullptr, nullptr);
}

cft_status plain_fwd(const queue &q, const cft_attention_args *a) {
  return BY_FLOAT(q, a->dtype, fwd, a);
}

cft_status plain_paged(const queue &q, const cft_attention_paged_args *a) {
  return BY_FLOAT(q, a->dtype, paged, a);
}

cft_status plain_bwd(const queue &q, const cft_attention_bwd_args *a) {
  return BY_FLOAT(q, a->dtype, bwd, a);
}
