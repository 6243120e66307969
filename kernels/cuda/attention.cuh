// attention.cuh - what the attention kernels share: the layout of a packed batch, their entry
// points.
#pragma once
#include "cuda.cuh"

// Sequence b owns query rows [cu_q[b], cu_q[b + 1]) and the k_len[b] key rows from cu_k[b].
struct packed {
  const int32_t *cu_q, *cu_k, *k_len, *q_position;
  int64_t nq, nk, B;
  int H, K, D, causal;
};

template <class A>
static packed packed_of(const A *a) {
  return {a->cu_q, a->cu_k,   a->k_len,  a->q_position, a->nq,    a->nk,
          a->B,    (int)a->H, (int)a->K, (int)a->D,     a->causal};
}

static __device__ __forceinline__ int keys_of(const packed &p, int64_t b) {
  return p.k_len ? p.k_len[b] : p.cu_k[b + 1] - p.cu_k[b];
}

// How many keys query i (of `queries`) of a sequence with `keys` keys sees; q0 is its first row.
static __device__ __forceinline__ int seen_by(const packed &p, int i, int q0, int queries,
                                              int keys) {
  if (!p.causal) return keys;
  const int position = p.q_position ? p.q_position[q0 + i] : keys - queries + i;
  return max(0, min(position + 1, keys));
}

// The sequence that row lies in, or -1: the last b with cu[b] <= row, if row < cu[b + 1].
static __device__ __forceinline__ int64_t sequence_of(const int32_t *cu, int64_t B, int64_t row) {
  if (row < cu[0] || row >= cu[B]) return -1;
  int64_t low = 0, high = B;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (cu[middle] <= row)
      low = middle;
    else
      high = middle;
  }
  return low;
}

template <class... N>
static inline bool all_of_8(N... n) {
  return ((n % 8 == 0) && ...);
}

// ---- entry points --------------------------------------------------------------------------

// delta (nq, H) = sum over D of do * o; f32. (attention.cu)
cft_status attention_delta(const queue &q, float *delta, const cft_attention_bwd_args *a);

// Rows of dk and dv that belong to no sequence get zero. Where `from` is given, all others are
// copied from it: (nk, K * D) without gaps between rows, the same dtype. (attention.cu)
cft_status attention_finish_keys(const queue &q, const cft_attention_bwd_args *a,
                                 const void *dk_from, const void *dv_from);

// Our flash attention on tensor cores: bf16, D up to 128, any layout. (flash.cu)
bool flash_takes(cft_dtype dtype, int64_t D);
cft_status flash_fwd(const queue &q, const cft_attention_args *a);
cft_status flash_bwd(const queue &q, const cft_attention_bwd_args *a);

// The same without tensor cores: f32, and bf16 with D beyond 128. (attention_plain.cu)
cft_status plain_fwd(const queue &q, const cft_attention_args *a);
cft_status plain_bwd(const queue &q, const cft_attention_bwd_args *a);
