// split_keys.cu - attention of few queries over many keys, as in decoding: bf16 on tensor cores
// (mma.sync), D up to 128, keys behind each other or in pages.
//
// The keys of a sequence are split at multiples of 512. A block has 16 rows, which are the queries
// of one sequence times the heads of one key head's group, and one split: its four warps take 32
// keys in turn, each in a tile of its own that cp.async brings while the one before is used, and
// their sums are merged in order. So keys and values are read once for a whole group, and one query
// alone keeps many blocks busy. Where a row sees no more than one split, that is its result; else a
// second kernel merges its splits, in order. What a row gives depends on it and its keys alone:
// neither on the rows beside it, nor on where in a tile it stands, nor on how many sequences there
// are.
//
// Memory bound: reads each key and value once a 16 rows; parts are 4 (D + 2) bytes a row, head and
// split, written and read, where there is more than one split. Tiles are filled element by element
// where width, strides or addresses do not allow 16-byte copies.
#include "attention.cuh"
#include "tiles.cuh"

constexpr int WARPS = 4, THREADS = 32 * WARPS;
constexpr int ROWS = 16;  // of a tile of a product
constexpr int KEYS = 32;  // of a warp's tile
constexpr int ROUNDS = 4;
constexpr int SPLIT = KEYS * WARPS * ROUNDS;
constexpr size_t MOST_PARTS = 64 << 20;  // bytes; more rows take turns

struct split_tensors {
  const bf16 *q, *k, *v;
  int64_t q_stride, k_stride, v_stride, o_stride;
  bool wide;  // 16 bytes at a time, everywhere
};

// What splits leave of rows [first, end) of the batch: sums (split, row, head, D) that were not
// divided yet, and of each (split, row, head) the largest score in base 2, and the sum of
// exponentials.
struct parts_of {
  float *sum;
  float2 *row;
  int64_t first, end;
  int H, D;
  __device__ int64_t at(int split, int64_t r, int head) const {
    return (split * (end - first) + r - first) * H + head;
  }
};

// The tiles of 16 rows of all sequences have numbers that rise, with gaps: tile t of sequence b is
// first_tile(b) + t.
static __device__ __forceinline__ int64_t first_tile(const packed &p, int64_t b) {
  return (int64_t)p.cu_q[b] * (p.H / p.K) / ROWS + b;
}

static __device__ __forceinline__ int64_t sequence_of_tile(const packed &p, int64_t tile) {
  int64_t low = 0, high = p.B;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (first_tile(p, middle) <= tile)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// `few`: sequences of that many queries or more are another kernel's.
template <int DP, bool PAGED>
static __global__ void __launch_bounds__(THREADS)
    split_keys_kernel(bf16 *o, float *lse, parts_of parts, split_tensors t, packed p,
                      int64_t tiles_from, int few, float scale) {
  __shared__ float tops[WARPS][ROWS], totals[WARPS][ROWS];
  constexpr int TILE = KEYS * PITCH<DP>;
  bf16 *qs = dynamic_shared<bf16>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.y;
  const int group = p.H / p.K, split = blockIdx.z;
  bf16 *ks = qs + ROWS * PITCH<DP> + warp * 2 * TILE, *vs = ks + TILE;
  const int64_t tile = tiles_from + blockIdx.x, b = sequence_of_tile(p, tile);
  const int q0 = p.cu_q[b], queries = p.cu_q[b + 1] - q0, keys = keys_of(p, b);
  const int64_t row0 = (tile - first_tile(p, b)) * ROWS;  // of queries times heads
  const int count = (int)min((int64_t)ROWS, (int64_t)queries * group - row0);
  if (row0 < 0 || count <= 0 || queries >= few) return;  // the whole block leaves
  const int first_query = (int)(row0 / group), last_query = (int)((row0 + count - 1) / group);
  const int most = seen_by(p, last_query, q0, queries, keys), begin = split * SPLIT;
  if ((split > 0 && begin >= most) || q0 + last_query < parts.first ||
      q0 + first_query >= parts.end)
    return;

  const auto key_at = [&](const bf16 *from, int64_t stride, int key) {
    return from + key_row<PAGED>(p, b, key) * stride + kv_head * p.D;
  };
  const auto first_of = [&](int round) { return begin + (round * WARPS + warp) * KEYS; };
  const auto fetch = [&](bf16 *to, const bf16 *from, int64_t stride, int round) {
    const int first = first_of(round);
    if (round < ROUNDS && first < most)
      fetch_by<DP>(lane, 32, to, KEYS, most - first, p.D, t.wide,
                   [&](int r) { return key_at(from, stride, first + r); });
    copy_async_commit();
  };
  fetch_by<DP>((int)threadIdx.x, THREADS, qs, ROWS, count, p.D, t.wide, [&](int r) {
    const int64_t row = row0 + r;
    return t.q + (q0 + row / group) * t.q_stride + (kv_head * group + row % group) * p.D;
  });
  copy_async_commit();
  fetch(ks, t.k, t.k_stride, 0);
  fetch(vs, t.v, t.v_stride, 0);
  copy_async_wait<2>();
  __syncthreads();  // all of qs is there

  int seen[2];  // by this lane's two rows
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {};
  float sum[DP / 8][4] = {};
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = lane / 4 + half * 8;
    seen[half] = row < count ? seen_by(p, (int)((row0 + row) / group), q0, queries, keys) : 0;
  }
  for (int round = 0; round < ROUNDS && first_of(round) < most; round++) {
    copy_async_wait<1>();
    __syncwarp();  // the warp's keys are there
    float score[KEYS / 8][4] = {};
    multiply_rows<DP, KEYS>(score, qs, 0, ks);
    __syncwarp();  // all lanes have read them
    fetch(ks, t.k, t.k_stride, round + 1);
    take_scores<DP, KEYS>(score, top, total, sum, seen, first_of(round), true, scale);
    copy_async_wait<1>();
    __syncwarp();  // the warp's values are there
    multiply_sums<DP, KEYS>(sum, score, vs);
    __syncwarp();  // all lanes have read these
    fetch(vs, t.v, t.v_stride, round + 1);
  }
  copy_async_wait<0>();

  // The warps' sums, where their keys were; then all threads merge them.
  float *mine = reinterpret_cast<float *>(ks);
  static_assert(ROWS * DP * sizeof(float) <= 2 * TILE * sizeof(bf16), "the sums fit");
  __syncwarp();
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = lane / 4 + half * 8;
    total[half] = sum_of_four(total[half]);
    if (lane % 4 == 0) tops[warp][row] = top[half], totals[warp][row] = total[half];
#pragma unroll
    for (int j = 0; j < DP / 8; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) mine[row * DP + j * 8 + lane % 4 * 2 + e] = sum[j][half * 2 + e];
  }
  __syncthreads();
  const float *sums =
      reinterpret_cast<const float *>(qs + ROWS * PITCH<DP>);  // a warp's every TILE floats
  for (int i = (int)threadIdx.x; i < count * DP; i += THREADS) {
    const int r = i / DP, column = i % DP, query = (int)((row0 + r) / group);
    const int64_t row = q0 + query, head = kv_head * group + (row0 + r) % group;
    const int sees = seen_by(p, query, q0, queries, keys);
    if (column >= p.D || row < parts.first || row >= parts.end) continue;
    if (split > 0 && sees <= begin) continue;  // another row of the tile sees more
    float high = tops[0][r], whole = 0, x = 0;
#pragma unroll
    for (int w = 1; w < WARPS; w++) high = fmaxf(high, tops[w][r]);
    const float shift = high == -INFINITY ? 0 : high;
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      const float keep = exp2f(tops[w][r] - shift);
      whole += totals[w][r] * keep;
      x += sums[w * TILE + r * DP + column] * keep;
    }
    if (sees <= SPLIT) {  // this split is all
      o[row * t.o_stride + head * p.D + column] = __float2bfloat16(sees > 0 ? x / whole : 0);
      if (lse && column == 0)
        lse[row * p.H + head] = sees > 0 ? high * LN2 + logf(whole) : -INFINITY;
    } else {
      const int64_t at = parts.at(split, row, (int)head);
      parts.sum[at * p.D + column] = x;
      if (column == 0) parts.row[at] = {high, whole};
    }
  }
}

// A warp has a row and head: merges its splits, if there are several.
static __global__ void __launch_bounds__(THREADS)
    merge_splits_kernel(bf16 *o, float *lse, parts_of parts, packed p, int64_t o_stride, int few) {
  const int lane = threadIdx.x % 32;
  const int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  const int64_t row = parts.first + i / p.H, head = i % p.H;
  if (row >= parts.end) return;
  const int64_t b = sequence_of(p.cu_q, p.B, row);
  if (b < 0) return;
  const int q0 = p.cu_q[b], queries = p.cu_q[b + 1] - q0;
  const int sees = seen_by(p, (int)(row - q0), q0, queries, keys_of(p, b));
  if (sees <= SPLIT || queries >= few) return;
  const int splits = (sees + SPLIT - 1) / SPLIT;
  float high = -INFINITY, whole = 0;
  for (int s = 0; s < splits; s++) high = fmaxf(high, parts.row[parts.at(s, row, (int)head)].x);
  float sum[4] = {};
  for (int s = 0; s < splits; s++) {
    const int64_t at = parts.at(s, row, (int)head);
    const float2 of = parts.row[at];
    const float keep = exp2f(of.x - high);
    whole += of.y * keep;
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (k * 32 + lane < p.D) sum[k] += parts.sum[at * p.D + k * 32 + lane] * keep;
  }
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (k * 32 + lane < p.D)
      o[row * o_stride + head * p.D + k * 32 + lane] = __float2bfloat16(sum[k] / whole);
  if (lse && lane == 0) lse[row * p.H + head] = high * LN2 + logf(whole);
}

template <int DP, bool PAGED, class A>
static cft_status split_keys(const queue &q, const A *a, float *lse, int few) {
  const split_tensors t = {
      (const bf16 *)a->q,
      (const bf16 *)a->k,
      (const bf16 *)a->v,
      a->q_stride,
      a->k_stride,
      a->v_stride,
      a->o_stride,
      all_of_8(a->D, a->q_stride, a->k_stride, a->v_stride) && aligned16(a->q, a->k, a->v)};
  const packed p = packed_of(a);
  const int64_t group = a->H / a->K,
                splits = std::max<int64_t>(1, (a->longest_k + SPLIT - 1) / SPLIT);
  const size_t of_row = (size_t)(splits * a->H) * ((size_t)a->D * sizeof(float) + sizeof(float2));
  const int64_t rows = splits == 1 ? a->nq : std::max<int64_t>(1, (int64_t)(MOST_PARTS / of_row));
  const size_t shared = (ROWS + 2 * WARPS * KEYS) * PITCH<DP> * sizeof(bf16);
  scratch memory;
  if (splits > 1) CFT_TRY(memory.take(q, of_row * (size_t)std::min(rows, a->nq)));
  for (int64_t first = 0; first < a->nq; first += rows) {
    const int64_t end = std::min(a->nq, first + rows), cells = splits * (end - first) * a->H;
    float2 *of = memory.as<float2>();
    const parts_of parts = {(float *)(of + cells), of, first, end, (int)a->H, (int)a->D};
    const int64_t from = std::max<int64_t>(0, first * group / ROWS - 1);
    const int64_t tiles = end * group / ROWS + a->B - from;
    CFT_TRY(run(q, split_keys_kernel<DP, PAGED>,
                dim3((unsigned)tiles, (unsigned)a->K, (unsigned)splits), THREADS, shared,
                (bf16 *)a->o, lse, parts, t, p, from, few, (float)a->scale));
    if (splits > 1)
      CFT_TRY(run(q, merge_splits_kernel, blocks_for((end - first) * a->H, WARPS), THREADS, 0,
                  (bf16 *)a->o, lse, parts, p, a->o_stride, few));
  }
  return CFT_OK;
}

cft_status split_keys_fwd(const queue &q, const cft_attention_args *a) {
  auto *lse = (float *)a->lse;
  return a->D <= 64 ? split_keys<64, false>(q, a, lse, INT32_MAX)
                    : split_keys<128, false>(q, a, lse, INT32_MAX);
}

cft_status split_keys_paged(const queue &q, const cft_attention_paged_args *a, bool all) {
  const int few = all ? INT32_MAX : FEW_QUERIES;
  return a->D <= 64 ? split_keys<64, true>(q, a, nullptr, few)
                    : split_keys<128, true>(q, a, nullptr, few);
}
