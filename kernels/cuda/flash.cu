// flash.cu - flash attention on tensor cores (mma.sync): bf16, D up to 128, any layout of a packed
// batch. For what cuDNN declines and where it is missing; cuDNN's is faster on sm_90.
//
// Forward: a block of four warps has 64 queries of one sequence and head, 16 a warp, and walks over
// the keys that the last of them sees in tiles of 64, two of which are in flight (cp.async). Scores
// and sums live in registers. Backward: dk and dv by blocks that have 64 keys of one key head and
// walk over the queries that see them, of all heads of the group; dq by blocks that have 64
// queries. The scores are made in both, which costs two of seven products and saves the atomics:
// equal bits in repeats. Reads q, k, v, o, do once a block that needs them, from L2 but for the
// first time.
//
// D is filled up to DP = 64 or 128 by zeros in shared memory. Where width, strides or addresses do
// not allow 16-byte copies, tiles are filled element by element.
#include "attention.cuh"
#include "tiles.cuh"

constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr int ROWS = 16 * WARPS;  // of what stays: queries forward and for dq, else keys
constexpr int KEYS = 64;          // a tile forward
constexpr int NARROW = 32;        // a tile backward

// ---- tiles ---------------------------------------------------------------------------------

// Rows [0, count) of D columns to a tile of `rows` x DP in shared memory, the rest zeros; of keys
// in pages, or that lie behind each other.
template <int DP, class Row>
static __device__ __forceinline__ void fetch_rows(bf16 *tile, int rows, int count, int D, bool wide,
                                                  Row from) {
  fetch_by<DP>((int)threadIdx.x, THREADS, tile, rows, count, D, wide, from);
}
template <int DP>
static __device__ __forceinline__ void fetch(bf16 *tile, const bf16 *from, int64_t stride, int rows,
                                             int count, int D, bool wide) {
  fetch_rows<DP>(tile, rows, count, D, wide, [&](int r) { return from + r * stride; });
}

// Rows lane / 4 and that + 8 of a warp's 16 x DP sums, times `scale` of their row, to memory.
template <int DP>
static __device__ __forceinline__ void write_rows(bf16 *to, int64_t stride, int row0, int count,
                                                  int D, const float (&sum)[DP / 8][4],
                                                  const float (&scale)[2], bool wide) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = row0 + lane / 4 + half * 8;
    if (row >= count) continue;
#pragma unroll
    for (int j = 0; j < DP / 8; j++) {
      const int column = j * 8 + lane % 4 * 2;
      const float low = sum[j][half * 2] * scale[half], high = sum[j][half * 2 + 1] * scale[half];
      bf16 *p = to + row * stride + column;
      if (wide && column < D) {
        *reinterpret_cast<uint32_t *>(p) = two_of(low, high);
      } else {
        if (column < D) p[0] = __float2bfloat16(low);
        if (column + 1 < D) p[1] = __float2bfloat16(high);
      }
    }
  }
}

// One sequence's share of a kernel: its rows, and the tile of them that a block has.
struct stretch {
  int q0, queries, k0, keys;
  int first, count;  // rows of the tile, from the sequence's own first
};

static __device__ __forceinline__ stretch stretch_at(const packed &p, int64_t b, int tile,
                                                     bool of_queries) {
  stretch s;
  s.q0 = p.cu_q[b];
  s.queries = p.cu_q[b + 1] - s.q0;
  s.k0 = p.cu_k ? p.cu_k[b] : 0;  // none: keys lie in pages
  s.keys = keys_of(p, b);
  s.first = tile * ROWS;
  s.count = min(ROWS, (of_queries ? s.queries : s.keys) - s.first);
  return s;
}

struct flash_tensors {
  const bf16 *q, *k, *v, *o, *g;  // g: do
  int64_t q_stride, k_stride, v_stride, o_stride, g_stride;
  bool wide;  // 16 bytes at a time, everywhere
};

// ---- forward -------------------------------------------------------------------------------

template <int DP, bool PAGED>
static __global__ void __launch_bounds__(THREADS)
    flash_fwd_kernel(bf16 *o, float *lse, flash_tensors t, packed p, int tiles, float scale) {
  bf16 *qs = dynamic_shared<bf16>(), *ks = qs + ROWS * PITCH<DP>, *vs = ks + 2 * KEYS * PITCH<DP>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
  const int64_t b = blockIdx.x / tiles;
  // The last tiles of a sequence see the most keys: they begin first.
  const stretch s = stretch_at(p, b, tiles - 1 - (int)(blockIdx.x % tiles), true);
  if (s.count <= 0 || (PAGED && s.queries < FEW_QUERIES)) return;  // the whole block leaves
  const bf16 *q = t.q + (s.q0 + s.first) * t.q_stride + head * p.D;
  const bf16 *k = t.k + head / (p.H / p.K) * p.D, *v = t.v + head / (p.H / p.K) * p.D;
  const int least = seen_by(p, s.first, s.q0, s.queries, s.keys);
  const int most = seen_by(p, s.first + s.count - 1, s.q0, s.queries, s.keys);
  const int key_tiles = (most + KEYS - 1) / KEYS;

  int seen[2];  // by this lane's two rows
  float top[2], total[2] = {};
  float sum[DP / 8][4] = {};
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = warp * 16 + lane / 4 + half * 8;
    seen[half] = row < s.count ? seen_by(p, s.first + row, s.q0, s.queries, s.keys) : 0;
    top[half] = -INFINITY;
  }

  const auto row_of = [&](int key) -> int64_t {
    if constexpr (PAGED) return key_row<true>(p, b, key);
    return s.k0 + key;
  };
  const auto fetch_keys = [&](int tile) {
    const int first = tile * KEYS, at = tile % 2 * KEYS * PITCH<DP>;
    fetch_rows<DP>(ks + at, KEYS, s.keys - first, p.D, t.wide,
                   [&](int r) { return k + row_of(first + r) * t.k_stride; });
    fetch_rows<DP>(vs + at, KEYS, s.keys - first, p.D, t.wide,
                   [&](int r) { return v + row_of(first + r) * t.v_stride; });
  };
  fetch<DP>(qs, q, t.q_stride, ROWS, s.count, p.D, t.wide);
  if (key_tiles > 0) fetch_keys(0);
  copy_async_commit();
  for (int tile = 0; tile < key_tiles; tile++) {
    const int first = tile * KEYS, at = tile % 2 * KEYS * PITCH<DP>;
    if (tile + 1 < key_tiles) fetch_keys(tile + 1);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // what the other threads copied is there too

    float score[KEYS / 8][4] = {};
    multiply_rows<DP, KEYS>(score, qs, warp * 16, ks + at);
    const bool masked = first + KEYS > least || s.count < ROWS;
    take_scores<DP, KEYS>(score, top, total, sum, seen, first, masked, scale);
    multiply_sums<DP, KEYS>(sum, score, vs + at);
    __syncthreads();  // all have read this tile: the next round may refill it
  }
  copy_async_wait<0>();

  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = warp * 16 + lane / 4 + half * 8;
    total[half] = sum_of_four(total[half]);
    inverse[half] = seen[half] > 0 ? 1 / total[half] : 0;
    if (!PAGED && row < s.count && lane % 4 == 0)
      lse[(int64_t)(s.q0 + s.first + row) * p.H + head] =
          seen[half] > 0 ? top[half] * LN2 + logf(total[half]) : -INFINITY;
  }
  write_rows<DP>(o + (s.q0 + s.first) * t.o_stride + head * p.D, t.o_stride, warp * 16, s.count,
                 p.D, sum, inverse, t.wide);
}

// ---- backward: dk, dv ----------------------------------------------------------------------

template <int DP>
static __global__ void __launch_bounds__(THREADS)
    flash_dkv_kernel(bf16 *dk, bf16 *dv, int64_t dk_stride, int64_t dv_stride, const float *lse,
                     const float *delta, flash_tensors t, packed p, int tiles, float scale) {
  constexpr int TILE = NARROW * PITCH<DP>;
  bf16 *ks = dynamic_shared<bf16>(), *vs = ks + ROWS * PITCH<DP>, *qs = vs + ROWS * PITCH<DP>,
       *gs = qs + 2 * TILE;
  float *lses = reinterpret_cast<float *>(gs + 2 * TILE), *deltas = lses + 2 * NARROW;
  int *seens = reinterpret_cast<int *>(deltas + 2 * NARROW);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.y,
            group = p.H / p.K;
  const stretch s = stretch_at(p, blockIdx.x / tiles, (int)(blockIdx.x % tiles), false);
  if (s.count <= 0) return;
  const int64_t key_row = s.k0 + s.first;

  // Queries see more the later they are, so those that see this block's keys are the last ones.
  const int query_tiles = (s.queries + NARROW - 1) / NARROW;
  int begin = 0;
  while (begin < query_tiles &&
         seen_by(p, min((begin + 1) * NARROW, s.queries) - 1, s.q0, s.queries, s.keys) <= s.first)
    begin++;
  const int rounds = (query_tiles - begin) * group;

  const auto fetch_queries = [&](int round) {
    const int head = kv_head * group + round / (query_tiles - begin), half = round % 2;
    const int first = (begin + round % (query_tiles - begin)) * NARROW;
    const int64_t row = s.q0 + first;
    fetch<DP>(qs + half * TILE, t.q + row * t.q_stride + head * p.D, t.q_stride, NARROW,
              s.queries - first, p.D, t.wide);
    fetch<DP>(gs + half * TILE, t.g + row * t.g_stride + head * p.D, t.g_stride, NARROW,
              s.queries - first, p.D, t.wide);
    const int i = (int)threadIdx.x;
    if (i >= NARROW) return;
    const bool inside = first + i < s.queries;
    lses[half * NARROW + i] = inside ? lse[(row + i) * p.H + head] * LOG2E : 0;
    deltas[half * NARROW + i] = inside ? delta[(row + i) * p.H + head] : 0;
    seens[half * NARROW + i] = inside ? seen_by(p, first + i, s.q0, s.queries, s.keys) : 0;
  };

  float sum_k[DP / 8][4] = {}, sum_v[DP / 8][4] = {};
  fetch<DP>(ks, t.k + key_row * t.k_stride + kv_head * p.D, t.k_stride, ROWS, s.count, p.D, t.wide);
  fetch<DP>(vs, t.v + key_row * t.v_stride + kv_head * p.D, t.v_stride, ROWS, s.count, p.D, t.wide);
  if (rounds > 0) fetch_queries(0);
  copy_async_commit();
  for (int round = 0; round < rounds; round++) {
    const int half = round % 2;
    if (round + 1 < rounds) fetch_queries(round + 1);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // what the other threads copied is there too

    float weight[NARROW / 8][4] = {}, change[NARROW / 8][4] = {};  // (keys, queries)
    multiply_rows<DP, NARROW>(weight, ks, warp * 16, qs + half * TILE);
    multiply_rows<DP, NARROW>(change, vs, warp * 16, gs + half * TILE);
#pragma unroll
    for (int j = 0; j < NARROW / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int i = half * NARROW + j * 8 + lane % 4 * 2 + e % 2;
        const int key = s.first + warp * 16 + lane / 4 + e / 2 * 8;
        float &x = weight[j][e];
        x = key < seens[i] ? exp2f(x * (scale * LOG2E) - lses[i]) : 0;
        change[j][e] = x * (change[j][e] - deltas[i]);
      }
    multiply_sums<DP, NARROW>(sum_v, weight, gs + half * TILE);
    multiply_sums<DP, NARROW>(sum_k, change, qs + half * TILE);
    __syncthreads();  // all have read this tile: the next round may refill it
  }
  copy_async_wait<0>();

  const float one[2] = {1, 1}, scales[2] = {scale, scale};
  write_rows<DP>(dk + key_row * dk_stride + kv_head * p.D, dk_stride, warp * 16, s.count, p.D,
                 sum_k, scales, t.wide);
  write_rows<DP>(dv + key_row * dv_stride + kv_head * p.D, dv_stride, warp * 16, s.count, p.D,
                 sum_v, one, t.wide);
}

// ---- backward: dq --------------------------------------------------------------------------

template <int DP>
static __global__ void __launch_bounds__(THREADS)
    flash_dq_kernel(bf16 *dq, int64_t dq_stride, const float *lse, const float *delta,
                    flash_tensors t, packed p, int tiles, float scale) {
  constexpr int TILE = NARROW * PITCH<DP>;
  bf16 *qs = dynamic_shared<bf16>(), *gs = qs + ROWS * PITCH<DP>, *ks = gs + ROWS * PITCH<DP>,
       *vs = ks + 2 * TILE;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
  const stretch s = stretch_at(p, blockIdx.x / tiles, tiles - 1 - (int)(blockIdx.x % tiles), true);
  if (s.count <= 0) return;
  const int64_t row0 = s.q0 + s.first;
  const bf16 *k = t.k + s.k0 * t.k_stride + head / (p.H / p.K) * p.D;
  const bf16 *v = t.v + s.k0 * t.v_stride + head / (p.H / p.K) * p.D;
  const int most = seen_by(p, s.first + s.count - 1, s.q0, s.queries, s.keys);
  const int key_tiles = (most + NARROW - 1) / NARROW;

  int seen[2];
  float row_lse[2], row_delta[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = warp * 16 + lane / 4 + half * 8;
    const bool inside = row < s.count;
    seen[half] = inside ? seen_by(p, s.first + row, s.q0, s.queries, s.keys) : 0;
    row_lse[half] = inside ? lse[(row0 + row) * p.H + head] * LOG2E : 0;
    row_delta[half] = inside ? delta[(row0 + row) * p.H + head] : 0;
  }

  const auto fetch_keys = [&](int tile) {
    const int first = tile * NARROW, at = tile % 2 * TILE;
    fetch<DP>(ks + at, k + first * t.k_stride, t.k_stride, NARROW, s.keys - first, p.D, t.wide);
    fetch<DP>(vs + at, v + first * t.v_stride, t.v_stride, NARROW, s.keys - first, p.D, t.wide);
  };
  float sum[DP / 8][4] = {};
  fetch<DP>(qs, t.q + row0 * t.q_stride + head * p.D, t.q_stride, ROWS, s.count, p.D, t.wide);
  fetch<DP>(gs, t.g + row0 * t.g_stride + head * p.D, t.g_stride, ROWS, s.count, p.D, t.wide);
  if (key_tiles > 0) fetch_keys(0);
  copy_async_commit();
  for (int tile = 0; tile < key_tiles; tile++) {
    const int first = tile * NARROW, at = tile % 2 * TILE;
    if (tile + 1 < key_tiles) fetch_keys(tile + 1);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // what the other threads copied is there too

    float weight[NARROW / 8][4] = {}, change[NARROW / 8][4] = {};
    multiply_rows<DP, NARROW>(weight, qs, warp * 16, ks + at);
    multiply_rows<DP, NARROW>(change, gs, warp * 16, vs + at);
#pragma unroll
    for (int j = 0; j < NARROW / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int key = first + j * 8 + lane % 4 * 2 + e % 2;
        const float x =
            key < seen[e / 2] ? exp2f(weight[j][e] * (scale * LOG2E) - row_lse[e / 2]) : 0;
        change[j][e] = x * (change[j][e] - row_delta[e / 2]);
      }
    multiply_sums<DP, NARROW>(sum, change, ks + at);
    __syncthreads();  // all have read this tile: the next round may refill it
  }
  copy_async_wait<0>();
  const float scales[2] = {scale, scale};
  write_rows<DP>(dq + row0 * dq_stride + head * p.D, dq_stride, warp * 16, s.count, p.D, sum,
                 scales, t.wide);
}

// ---- entry points --------------------------------------------------------------------------

template <int DP, bool PAGED, class A>
static cft_status fwd(const queue &q, const A *a, float *lse) {
  const flash_tensors t = {(const bf16 *)a->q,
                           (const bf16 *)a->k,
                           (const bf16 *)a->v,
                           nullptr,
                           nullptr,
                           a->q_stride,
                           a->k_stride,
                           a->v_stride,
                           a->o_stride,
                           0,
                           all_of_8(a->D, a->q_stride, a->k_stride, a->v_stride, a->o_stride) &&
                               aligned16(a->q, a->k, a->v, a->o)};
  const unsigned tiles = blocks_for(a->longest_q, ROWS);
  const size_t shared = (ROWS + 4 * KEYS) * PITCH<DP> * sizeof(bf16);
  return run(q, flash_fwd_kernel<DP, PAGED>, dim3(tiles * (unsigned)a->B, (unsigned)a->H), THREADS,
             shared, (bf16 *)a->o, lse, t, packed_of(a), (int)tiles, (float)a->scale);
}

template <int DP>
static cft_status bwd(const queue &q, const cft_attention_bwd_args *a) {
  const flash_tensors t = {(const bf16 *)a->q,
                           (const bf16 *)a->k,
                           (const bf16 *)a->v,
                           (const bf16 *)a->o,
                           (const bf16 *)a->do_,
                           a->q_stride,
                           a->k_stride,
                           a->v_stride,
                           a->o_stride,
                           a->do_stride,
                           all_of_8(a->D, a->q_stride, a->k_stride, a->v_stride, a->do_stride,
                                    a->dq_stride, a->dk_stride, a->dv_stride) &&
                               aligned16(a->q, a->k, a->v, a->do_, a->dq, a->dk, a->dv)};
  const packed p = packed_of(a);
  const auto *lse = (const float *)a->lse;
  const size_t shared = (2 * ROWS + 4 * NARROW) * PITCH<DP> * sizeof(bf16);
  const unsigned tiles_q = blocks_for(a->longest_q, ROWS), tiles_k = blocks_for(a->longest_k, ROWS);
  scratch delta;
  CFT_TRY(delta.take(q, (size_t)(a->nq * a->H) * sizeof(float)));
  CFT_TRY(attention_delta(q, delta.as<float>(), a));
  if (tiles_q > 0)
    CFT_TRY(run(q, flash_dq_kernel<DP>, dim3(tiles_q * (unsigned)a->B, (unsigned)a->H), THREADS,
                shared, (bf16 *)a->dq, a->dq_stride, lse, delta.as<const float>(), t, p,
                (int)tiles_q, (float)a->scale));
  if (tiles_k > 0)
    CFT_TRY(run(q, flash_dkv_kernel<DP>, dim3(tiles_k * (unsigned)a->B, (unsigned)a->K), THREADS,
                shared + 6 * NARROW * sizeof(float), (bf16 *)a->dk, (bf16 *)a->dv, a->dk_stride,
                a->dv_stride, lse, delta.as<const float>(), t, p, (int)tiles_k, (float)a->scale));
  return attention_finish_keys(q, a, nullptr, nullptr);
}

bool flash_takes(cft_dtype dtype, int64_t D) { return dtype == CFT_BF16 && D <= 128; }

cft_status flash_fwd(const queue &q, const cft_attention_args *a) {
  auto *lse = (float *)a->lse;
  return a->D <= 64 ? fwd<64, false>(q, a, lse) : fwd<128, false>(q, a, lse);
}

cft_status flash_paged(const queue &q, const cft_attention_paged_args *a) {
  return a->D <= 64 ? fwd<64, true>(q, a, nullptr) : fwd<128, true>(q, a, nullptr);
}

cft_status flash_bwd(const queue &q, const cft_attention_bwd_args *a) {
  return a->D <= 64 ? bwd<64>(q, a) : bwd<128>(q, a);
}
