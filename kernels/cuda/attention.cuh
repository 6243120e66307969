// attention.cuh - what the attention kernels share: the layout of a packed batch, their entry
// points.
#pragma once
#include <functional>

#include "cuda.cuh"

// Sequence b owns query rows [cu_q[b], cu_q[b + 1]) and the k_len[b] key rows from cu_k[b]; or,
// where there are pages, k_len[b] keys, of which key j is row j % page of page pages[cu_pages[b] +
// j / page].
struct packed {
  const int32_t *cu_q, *cu_k, *k_len, *q_position;
  int64_t nq, nk, B;
  int H, K, D, causal;
  const int32_t *cu_pages = nullptr, *pages = nullptr;
  int page = 1;
};

template <class A>
static packed packed_of(const A *a) {
  return {a->cu_q, a->cu_k,   a->k_len,  a->q_position, a->nq,    a->nk,
          a->B,    (int)a->H, (int)a->K, (int)a->D,     a->causal};
}

static inline packed packed_of(const cft_attention_paged_args *a) {
  packed p = {a->cu_q, nullptr,   a->k_len,  nullptr,   a->nq, 0,
              a->B,    (int)a->H, (int)a->K, (int)a->D, 1};
  p.cu_pages = a->cu_pages;
  p.pages = a->pages;
  p.page = (int)a->page;
  return p;
}

// Where key j of sequence b lies. Keys from a multiple of 32 to the next lie behind each other.
template <bool PAGED>
static __device__ __forceinline__ int64_t key_row(const packed &p, int64_t b, int j) {
  if constexpr (PAGED) return (int64_t)p.pages[p.cu_pages[b] + j / p.page] * p.page + j % p.page;
  return p.cu_k[b] + (int64_t)j;
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

// Our flash attention on tensor cores: bf16, D up to 128, any layout. (flash.cu) Over pages it
// leaves out sequences of fewer than FEW_QUERIES queries.
constexpr int FEW_QUERIES = 16;
bool flash_takes(cft_dtype dtype, int64_t D);
cft_status flash_fwd(const queue &q, const cft_attention_args *a);
cft_status flash_bwd(const queue &q, const cft_attention_bwd_args *a);
cft_status flash_paged(const queue &q, const cft_attention_paged_args *a);

// What flash takes, for few queries and many keys: the keys are split among blocks, and the query
// heads of a key head are the rows of one tile. The bits of a row depend on it and its keys alone.
// (split_keys.cu) Over pages, unless `all`, only sequences of fewer than FEW_QUERIES queries.
cft_status split_keys_fwd(const queue &q, const cft_attention_args *a);
cft_status split_keys_paged(const queue &q, const cft_attention_paged_args *a, bool all);

// The same without tensor cores: f32, and bf16 with D beyond 128. A row's bits depend on it and its
// keys alone. (attention_plain.cu)
cft_status plain_fwd(const queue &q, const cft_attention_args *a);
cft_status plain_bwd(const queue &q, const cft_attention_bwd_args *a);
cft_status plain_paged(const queue &q, const cft_attention_paged_args *a);

// Another's attention, and a kind of call that is asked of it.
struct attention_way {
  std::function<cft_status(const cft_attention_args *)> forward;
  std::function<cft_status(const cft_attention_bwd_args *)> backward;
};
struct attention_kind {
  int64_t H, K, D;
  bool causal, from_first;  // from_first: queries and keys are the same rows
  bool backward, deterministic;
};

// How far it is from ours on a small problem: the largest relative difference of an output, in
// norms. Both wait for the device. (attention_probe.cu)
cft_status attention_differs(const queue &q, const attention_kind &kind,
                             const attention_way &theirs, double *by);
