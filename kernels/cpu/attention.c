// attention.c - causal grouped-query attention over packed sequences, in blocks; backward computes
// the probabilities again from lse. No buffer grows with T^2.
//
// Everything is laid out for one small product, c (+)= a b, with b and c along vectors and a
// broadcast number by number. The rows of a block are its queries times the heads that share a key
// head; they lie along the vectors:
//   s  (keys, rows) = k (keys, D) q^T (D, rows)        softmax runs down the columns
//   o^T (D, rows)  += v^T (D, keys) p (keys, rows)
// so that keys and values are read as they are stored, and each serves all heads of its group.
//
// A task is a block of queries or of keys of one sequence and one key head, cut by their own
// numbers only: the result does not depend on the threads, nor on what else is in the pack.
#include <omp.h>

#include "cpu.h"

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
enum { MR = 6, NR = 4 };  // 24 sums, 4 of b, 1 of a: of 32 registers
#elif defined(__AVX__)
#define VECTOR_BYTES 32
enum { MR = 6, NR = 2 };  // of 16
#else
#define VECTOR_BYTES 16
enum { MR = 6, NR = 2 };
#endif

typedef acc vec __attribute__((vector_size(VECTOR_BYTES)));
enum {
  LANES = VECTOR_BYTES / sizeof(acc),
  ROWS = 96,  // queries x heads of a group in a block
  KEYS = 96,  // keys in a block; a multiple of MR
};

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// ---- c (m, n) = [c +] a (m, k) b (k, n) --------------------------------------------------------

// MR rows and `vectors` columns of c stay in registers while k runs.
static inline __attribute__((always_inline)) void tile(acc *c, int64_t c_stride, const acc *a,
                                                       int64_t a_row, int64_t a_col, const acc *b,
                                                       int64_t b_stride, int64_t k, int add,
                                                       const int vectors) {
  vec sum[MR][NR];
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++)
      sum[i][j] = add ? *(const vec *)(c + i * c_stride + j * LANES) : (vec){0};
  for (int64_t p = 0; p < k; p++) {
    vec row[NR];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) row[j] = *(const vec *)(b + p * b_stride + j * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
      vec x = (vec){0} + a[i * a_row + p * a_col];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sum[i][j] += x * row[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) *(vec *)(c + i * c_stride + j * LANES) = sum[i][j];
}

// m a multiple of MR, n of LANES; b and c aligned, their strides multiples of LANES.
static void product(acc *c, int64_t c_stride, const acc *a, int64_t a_row, int64_t a_col,
                    const acc *b, int64_t b_stride, int64_t m, int64_t n, int64_t k, int add) {
  int64_t j = 0;
  for (; j + NR * LANES <= n; j += NR * LANES)
    for (int64_t i = 0; i < m; i += MR)
      tile(c + i * c_stride + j, c_stride, a + i * a_row, a_row, a_col, b + j, b_stride, k, add, NR);
  for (; j + 2 * LANES <= n; j += 2 * LANES)
    for (int64_t i = 0; i < m; i += MR)
      tile(c + i * c_stride + j, c_stride, a + i * a_row, a_row, a_col, b + j, b_stride, k, add, 2);
  for (; j < n; j += LANES)
    for (int64_t i = 0; i < m; i += MR)
      tile(c + i * c_stride + j, c_stride, a + i * a_row, a_row, a_col, b + j, b_stride, k, add, 1);
}

// ---- one sequence and one key head -------------------------------------------------------------

// What both directions share, so that a block is described once.
typedef struct problem {
  const real *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  const int32_t *cu_q, *cu_k, *k_len, *q_position;
  int64_t B, H, K, D, group;  // group: query heads of a key head
  int64_t block;              // queries of a block
  int64_t Dm, Dn;             // D rounded up to MR, to LANES
  acc scale;
  int causal;
} problem;

static int64_t keys_of(const problem *p, int64_t b) {
  return p->k_len ? p->k_len[b] : p->cu_k[b + 1] - p->cu_k[b];
}

// Queries [first, first + count) of sequence b under key head kh.
typedef struct block {
  int64_t b, kh, first, count;
  int64_t rows, padded;   // count * group, and rounded up to LANES
  int64_t keys, most, least;  // of the sequence; seen by the last and the first query
} block;

// How many keys query i of the block sees.
static int64_t seen_by(const problem *p, const block *x, int64_t i) {
  if (!p->causal) return x->keys;
  int64_t queries = p->cu_q[x->b + 1] - p->cu_q[x->b], at = x->first + i;
  int64_t position = p->q_position ? p->q_position[p->cu_q[x->b] + at] : x->keys - queries + at;
  return cpu_max(0, cpu_min(position + 1, x->keys));
}

static block block_at(const problem *p, int64_t b, int64_t kh, int64_t first) {
  block x = {.b = b, .kh = kh, .first = first, .keys = keys_of(p, b)};
  x.count = cpu_min(p->block, p->cu_q[b + 1] - p->cu_q[b] - first);
  x.rows = x.count * p->group;
  x.padded = round_up(x.rows, LANES);
  x.least = seen_by(p, &x, 0);
  x.most = seen_by(p, &x, x.count - 1);
  return x;
}

// rows (n, D) of storage, each with D columns from x, into y (n, width), the rest zero.
static void pack(acc *y, int64_t width, const real *x, int64_t stride, int64_t n, int64_t n_padded,
                 int64_t D) {
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < D; j++) y[i * width + j] = LOAD(x[i * stride + j]);
    for (int64_t j = D; j < width; j++) y[i * width + j] = 0;
  }
  memset(y + n * width, 0, (size_t)((n_padded - n) * width) * sizeof *y);
}

// The block's rows of q (or do) times `scale`: as columns yt (D, padded), and as rows y (rows, Dn)
// where y is given.
static void pack_rows(acc *yt, acc *y, const problem *p, const block *x, const real *from,
                      int64_t stride, acc scale) {
  for (int64_t i = 0; i < x->count; i++)
    for (int64_t g = 0; g < p->group; g++) {
      int64_t r = i * p->group + g;
      const real *row = from + (p->cu_q[x->b] + x->first + i) * stride +
                        (x->kh * p->group + g) * p->D;
      for (int64_t j = 0; j < p->D; j++) yt[j * x->padded + r] = scale * LOAD(row[j]);
      if (!y) continue;
      for (int64_t j = 0; j < p->D; j++) y[r * p->Dn + j] = scale * LOAD(row[j]);
      for (int64_t j = p->D; j < p->Dn; j++) y[r * p->Dn + j] = 0;
    }
  for (int64_t r = x->rows; r < x->padded; r++)
    for (int64_t j = 0; j < p->D; j++) yt[j * x->padded + r] = 0;
}

// seen[r]: keys that row r sees, less those before the current block of keys; padding sees none.
static void count_seen(acc *seen, const problem *p, const block *x) {
  for (int64_t i = 0; i < x->count; i++)
    for (int64_t g = 0; g < p->group; g++) seen[i * p->group + g] = (acc)seen_by(p, x, i);
  for (int64_t r = x->rows; r < x->padded; r++) seen[r] = 0;
}

// ---- tasks and scratch -------------------------------------------------------------------------

static problem problem_of(const void *q, const void *k, const void *v, int64_t q_stride,
                          int64_t k_stride, int64_t v_stride, const int32_t *cu_q,
                          const int32_t *cu_k, const int32_t *k_len, const int32_t *q_position,
                          int64_t B, int64_t H, int64_t K, int64_t D, double scale, int causal) {
  int64_t group = H / K;
  return (problem){.q = q, .k = k, .v = v, .q_stride = q_stride, .k_stride = k_stride,
                   .v_stride = v_stride, .cu_q = cu_q, .cu_k = cu_k, .k_len = k_len,
                   .q_position = q_position, .B = B, .H = H, .K = K, .D = D, .group = group,
                   .block = cpu_max(1, ROWS / group), .Dm = round_up(D, MR),
                   .Dn = round_up(D, LANES), .scale = (acc)scale, .causal = causal};
}

// Take `n` numbers from *p, on a cache line's boundary.
static acc *take(acc **p, int64_t n) {
  acc *y = *p;
  *p += round_up(n, 64 / (int64_t)sizeof(acc));
  return y;
}

static int64_t rows_at_most(const problem *p) { return round_up(p->block * p->group, LANES); }

// ---- forward -----------------------------------------------------------------------------------

static int64_t forward_scratch(const problem *p) {
  int64_t R = rows_at_most(p), line = 64 / (int64_t)sizeof(acc);
  return R * (2 * p->Dm + KEYS + 4) + 2 * KEYS * p->Dm + 16 * line;
}

static void forward(const cft_attention_args *a, const problem *p, const block *x, acc *scratch) {
  int64_t R = x->padded, Dm = p->Dm, D = p->D;
  acc *qt = take(&scratch, D * R), *ot = take(&scratch, Dm * R), *s = take(&scratch, KEYS * R);
  acc *top = take(&scratch, R), *sum = take(&scratch, R), *seen = take(&scratch, R),
      *keep = take(&scratch, R);
  acc *k = take(&scratch, KEYS * Dm), *v = take(&scratch, KEYS * Dm);
  pack_rows(qt, NULL, p, x, p->q, p->q_stride, p->scale);
  count_seen(seen, p, x);
  memset(ot, 0, (size_t)(Dm * R) * sizeof *ot);
  for (int64_t r = 0; r < R; r++) top[r] = -(acc)INFINITY, sum[r] = 0;
  for (int64_t j0 = 0; j0 < x->most; j0 += KEYS) {
    int64_t n = cpu_min(KEYS, x->most - j0), key = p->cu_k[x->b] + j0;
    pack(k, Dm, p->k + key * p->k_stride + x->kh * D, p->k_stride, n, round_up(n, MR), D);
    pack(v, Dm, p->v + key * p->v_stride + x->kh * D, p->v_stride, n, n, D);
    product(s, R, k, Dm, 1, qt, R, round_up(n, MR), R, D, 0);
    int masked = j0 + n > x->least || R > x->rows;
    for (int64_t c = 0; c < R; c += LANES) {
      acc high[LANES], shift[LANES], part[LANES];
      for (int l = 0; l < LANES; l++) high[l] = top[c + l], part[l] = 0;
      for (int64_t j = 0; j < n; j++) {
        acc *sj = s + j * R + c;
        if (masked) {
          SIMD
          for (int l = 0; l < LANES; l++)
            sj[l] = (acc)(j0 + j) < seen[c + l] ? sj[l] : -(acc)INFINITY;
        }
        SIMD
        for (int l = 0; l < LANES; l++) high[l] = sj[l] > high[l] ? sj[l] : high[l];
      }
      SIMD
      for (int l = 0; l < LANES; l++) {
        shift[l] = high[l] == -(acc)INFINITY ? 0 : high[l];  // nothing seen yet: exp(-inf) is 0
        keep[c + l] = EXP(top[c + l] - shift[l]);
        top[c + l] = high[l];
      }
      for (int64_t j = 0; j < n; j++) {
        acc *sj = s + j * R + c;
        SIMD
        for (int l = 0; l < LANES; l++) {
          sj[l] = EXP(sj[l] - shift[l]);
          part[l] += sj[l];
        }
      }
      for (int l = 0; l < LANES; l++) sum[c + l] = sum[c + l] * keep[c + l] + part[l];
    }
    for (int64_t j = 0; j < D; j++) {
      SIMD
      for (int64_t r = 0; r < R; r++) ot[j * R + r] *= keep[r];
    }
    product(ot, R, v, 1, Dm, s, R, Dm, R, n, 1);
  }
  for (int64_t r = 0; r < x->rows; r++) {
    int64_t i = p->cu_q[x->b] + x->first + r / p->group, h = x->kh * p->group + r % p->group;
    real *o = (real *)a->o + i * a->o_stride + h * D;
    acc inverse = sum[r] == 0 ? 0 : 1 / sum[r];
    for (int64_t j = 0; j < D; j++) o[j] = STORE(ot[j * R + r] * inverse);
    ((acc *)a->lse)[i * p->H + h] = sum[r] == 0 ? -(acc)INFINITY : top[r] + LOG(sum[r]);
  }
}

// Zero `n` rows of `heads` x D, contiguous in themselves.
static void zero_rows(void *y, int64_t from, int64_t to, int64_t stride, int64_t width) {
  for (int64_t i = from; i < to; i++)
    memset((real *)y + i * stride, 0, (size_t)width * sizeof(real));
}

// Blocks of all sequences, times key heads: task t of `tasks` is block_of(t).
static int64_t count_blocks(int32_t *first, const problem *p) {
  first[0] = 0;
  for (int64_t b = 0; b < p->B; b++)
    first[b + 1] = first[b] + (int32_t)cpu_blocks(p->cu_q[b + 1] - p->cu_q[b], p->block);
  return first[p->B];
}

static int64_t sequence_of(const int32_t *first, int64_t B, int64_t t) {
  int64_t low = 0, high = B;  // first[low] <= t < first[high]
  while (high - low > 1) {
    int64_t mid = (low + high) / 2;
    if (first[mid] <= t) low = mid;
    else high = mid;
  }
  return low;
}

cft_status CPU(attention_fwd)(cft_device *d, cft_stream *stream, const cft_attention_args *a) {
  (void)stream;
  if (a->nq == 0) return CFT_OK;
  problem p = problem_of(a->q, a->k, a->v, a->q_stride, a->k_stride, a->v_stride, a->cu_q, a->cu_k,
                         a->k_len, a->q_position, a->B, a->H, a->K, a->D, a->scale, a->causal);
  int team = cft_cpu_team(a->nq * a->longest_k * a->H * a->D / 4);
  int64_t each = forward_scratch(&p);
  size_t list = (size_t)round_up((a->B + 1) * (int64_t)sizeof(int32_t), 64);
  size_t bytes = list + (size_t)(each * team) * sizeof(acc);
  char *memory;
  CFT_TRY(d->alloc(d, (void **)&memory, bytes, CFT_MEM_WORKSPACE));
  int32_t *first = (int32_t *)memory;
  acc *scratch = (acc *)(memory + list);
  int64_t blocks = count_blocks(first, &p);
#pragma omp parallel for schedule(dynamic) num_threads(team)
  for (int64_t t = 0; t < blocks * a->K; t++) {
    // The last blocks of a sequence see the most keys: long tasks first.
    int64_t kh = t % a->K, at = blocks - 1 - t / a->K, b = sequence_of(first, a->B, at);
    block x = block_at(&p, b, kh, (at - first[b]) * p.block);
    forward(a, &p, &x, scratch + each * omp_get_thread_num());
  }
  d->free(d, memory, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}

// ---- backward ----------------------------------------------------------------------------------
//
//   p = exp(s - lse)    dp = do v^T    ds = p (dp - delta)    delta = rowsum(do * o)
//   dv += p^T do        dk += scale ds^T q        dq += scale ds k
// One owner a (sequence, key head): dk and dv of the whole sequence are summed in its scratch, dq a
// block of queries at a time.

static int64_t backward_scratch(const problem *p, int64_t longest_k) {
  int64_t R = rows_at_most(p), line = 64 / (int64_t)sizeof(acc);
  return R * (2 * p->D + p->Dm + 2 * p->Dn + 2 * KEYS + 3) + 2 * KEYS * p->Dm +
         2 * round_up(longest_k + KEYS, MR) * p->Dn + 24 * line;
}

static void backward(const cft_attention_bwd_args *a, const problem *p, int64_t b, int64_t kh,
                     acc *scratch) {
  int64_t R_most = rows_at_most(p), D = p->D, Dm = p->Dm, Dn = p->Dn;
  int64_t keys = keys_of(p, b), key0 = p->cu_k[b], queries = p->cu_q[b + 1] - p->cu_q[b];
  int64_t padded_keys = round_up(keys, MR) + KEYS;
  acc *qt = take(&scratch, D * R_most), *q = take(&scratch, R_most * Dn);
  acc *gt = take(&scratch, D * R_most), *g = take(&scratch, R_most * Dn);
  acc *dqt = take(&scratch, Dm * R_most);
  acc *s = take(&scratch, KEYS * R_most), *dp = take(&scratch, KEYS * R_most);
  acc *lse = take(&scratch, R_most), *delta = take(&scratch, R_most), *seen = take(&scratch, R_most);
  acc *k = take(&scratch, KEYS * Dm), *v = take(&scratch, KEYS * Dm);
  acc *dk = take(&scratch, padded_keys * Dn), *dv = take(&scratch, padded_keys * Dn);
  memset(dk, 0, (size_t)(padded_keys * Dn) * sizeof *dk);
  memset(dv, 0, (size_t)(padded_keys * Dn) * sizeof *dv);
  for (int64_t i0 = 0; i0 < queries; i0 += p->block) {
    block x = block_at(p, b, kh, i0);
    int64_t R = x.padded;
    pack_rows(qt, q, p, &x, p->q, p->q_stride, p->scale);
    pack_rows(gt, g, p, &x, a->do_, a->do_stride, 1);
    count_seen(seen, p, &x);
    memset(dqt, 0, (size_t)(Dm * R) * sizeof *dqt);
    for (int64_t r = 0; r < R; r++) lse[r] = delta[r] = 0;
    for (int64_t r = 0; r < x.rows; r++) {
      int64_t i = p->cu_q[b] + i0 + r / p->group, h = kh * p->group + r % p->group;
      const real *o = (const real *)a->o + i * a->o_stride + h * D;
      lse[r] = ((const acc *)a->lse)[i * p->H + h];
      for (int64_t j = 0; j < D; j++) delta[r] += LOAD(o[j]) * g[r * Dn + j];
    }
    for (int64_t j0 = 0; j0 < x.most; j0 += KEYS) {
      int64_t n = cpu_min(KEYS, x.most - j0), m = round_up(n, MR), key = key0 + j0;
      pack(k, Dm, p->k + key * p->k_stride + kh * D, p->k_stride, n, m, D);
      pack(v, Dm, p->v + key * p->v_stride + kh * D, p->v_stride, n, m, D);
      product(s, R, k, Dm, 1, qt, R, m, R, D, 0);
      product(dp, R, v, Dm, 1, gt, R, m, R, D, 0);
      for (int64_t j = 0; j < n; j++) {
        SIMD
        for (int64_t r = 0; r < R; r++) {
          acc prob = (acc)(j0 + j) < seen[r] ? EXP(s[j * R + r] - lse[r]) : 0;
          s[j * R + r] = prob;
          dp[j * R + r] = prob * (dp[j * R + r] - delta[r]);
        }
      }
      for (int64_t j = n * R; j < m * R; j++) s[j] = dp[j] = 0;
      product(dv + j0 * Dn, Dn, s, R, 1, g, Dn, m, Dn, x.rows, 1);
      product(dk + j0 * Dn, Dn, dp, R, 1, q, Dn, m, Dn, x.rows, 1);
      product(dqt, R, k, 1, Dm, dp, R, Dm, R, n, 1);
    }
    for (int64_t r = 0; r < x.rows; r++) {
      int64_t i = p->cu_q[b] + i0 + r / p->group, h = kh * p->group + r % p->group;
      real *dq = (real *)a->dq + i * a->dq_stride + h * D;
      for (int64_t j = 0; j < D; j++) dq[j] = STORE(p->scale * dqt[j * R + r]);
    }
  }
  for (int64_t i = 0; i < keys; i++) {
    real *dk_row = (real *)a->dk + (key0 + i) * a->dk_stride + kh * D;
    real *dv_row = (real *)a->dv + (key0 + i) * a->dv_stride + kh * D;
    for (int64_t j = 0; j < D; j++) dk_row[j] = STORE(dk[i * Dn + j]);
    for (int64_t j = 0; j < D; j++) dv_row[j] = STORE(dv[i * Dn + j]);
  }
}

cft_status CPU(attention_bwd)(cft_device *d, cft_stream *stream, const cft_attention_bwd_args *a) {
  (void)stream;
  if (a->nq == 0 && a->nk == 0) return CFT_OK;
  problem p = problem_of(a->q, a->k, a->v, a->q_stride, a->k_stride, a->v_stride, a->cu_q, a->cu_k,
                         a->k_len, a->q_position, a->B, a->H, a->K, a->D, a->scale, a->causal);
  int64_t width = a->K * a->D, end = 0;
  for (int64_t b = 0; b < a->B; b++) {
    zero_rows(a->dk, end, a->cu_k[b], a->dk_stride, width);
    zero_rows(a->dv, end, a->cu_k[b], a->dv_stride, width);
    end = a->cu_k[b] + keys_of(&p, b);
  }
  zero_rows(a->dk, end, a->nk, a->dk_stride, width);
  zero_rows(a->dv, end, a->nk, a->dv_stride, width);
  int team = cft_cpu_team(a->nq * a->longest_k * a->H * a->D);
  int64_t each = backward_scratch(&p, a->longest_k);
  size_t bytes = (size_t)(each * team) * sizeof(acc);
  acc *scratch;
  CFT_TRY(d->alloc(d, (void **)&scratch, bytes, CFT_MEM_WORKSPACE));
#pragma omp parallel for schedule(dynamic) num_threads(team)
  for (int64_t t = 0; t < a->B * a->K; t++)
    backward(a, &p, t / a->K, t % a->K, scratch + each * omp_get_thread_num());
  d->free(d, scratch, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}
