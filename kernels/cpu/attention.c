// attention.c - causal grouped-query attention over packed sequences, in blocks; backward computes
// the probabilities again from lse. No buffer grows with T^2.
//
// All is one small product, c (+)= a b: b and c lie along vectors, a is broadcast. A block is some
// queries times the heads that share a key head; these rows lie along the vectors:
//   s  (keys, rows)  = k (keys, D) q^T (D, rows)       softmax runs down the columns
//   o^T (D, rows)   += v^T (D, keys) p (keys, rows)
// so that a key is read once for all heads of its group. A processor with dot products of bf16
// gets its operands in pairs; one with tiles (AMX) takes the same pairs sixteen rows at a time.
//
// Sequences are cut by their own numbers only, and every sum has one order: the result depends
// neither on the threads nor on what else is in the pack.
#include <omp.h>

#include "product.h"

enum {
  PAD = PAIRS        ? TILE
        : LANES > MR ? LANES
                     : MR,  // D, rows and, in pairs, keys are padded to this
  ROWS = 96,                // of a block: queries times heads of a group
  KEYS = 96,                // of a block
};

// ---- layouts -----------------------------------------------------------------------------------

// Rows (n, width) of numbers with rows 2i and 2i + 1 in pairs: (n/2, width) units, in y. Where a
// unit is one number they are that already.
static const unit *in_pairs(unit *y, const num *x, int64_t n, int64_t width) {
#if PAIRS
  for (int64_t i = 0; i < n; i += 2) {
    const num *a = x + i * width, *b = a + width;
    SIMD
    for (int64_t j = 0; j < width; j++) y[i / 2 * width + j] = (unit)(a[j] | (uint32_t)b[j] << 16);
  }
  return y;
#else
  (void)y, (void)n, (void)width;
  return x;
#endif
}

// The same from sums.
static const unit *sums_in_pairs(unit *y, const acc *x, int64_t n, int64_t width) {
#if PAIRS
  for (int64_t i = 0; i < n; i += 2) {
    const acc *a = x + i * width, *b = a + width;
    for (int64_t j = 0; j < width; j += LANES) {
      __m512i lo = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_load_ps(a + j)));
      __m512i hi = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_load_ps(b + j)));
      _mm512_store_si512(y + i / 2 * width + j, _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
    }
  }
  return y;
#else
  (void)y, (void)n, (void)width;
  return x;
#endif
}

// Sums (n, width) as numbers, which are units along a row.
static const unit *sums_in_rows(unit *y, const acc *x, int64_t n, int64_t width) {
#if PAIRS
  for (int64_t j = 0; j < n * width; j += 2 * LANES)
    _mm512_store_si512((num *)y + j, narrow(x + j));
  return y;
#else
  (void)y, (void)n, (void)width;
  return x;
#endif
}

// ---- a problem and its blocks ------------------------------------------------------------------

// What both directions share.
typedef struct problem {
  const real *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  const int32_t *cu_q, *cu_k, *k_len, *q_position;
  const int32_t *pages;  // sequence b's keys are in pages[cu_k[b]], ... of `page` rows each; NULL: in rows from cu_k[b]
  int64_t page;
  int64_t B, H, K, D;
  int64_t group;  // query heads of a key head
  int64_t width;  // D, padded
  int64_t block;  // queries of a block
  acc scale;
  int causal;
  int tiles;
} problem;

#define PROBLEM(a)                                                                               \
  {                                                                                              \
    .q = (a)->q, .k = (a)->k, .v = (a)->v, .q_stride = (a)->q_stride, .k_stride = (a)->k_stride, \
    .v_stride = (a)->v_stride, .cu_q = (a)->cu_q, .cu_k = (a)->cu_k, .k_len = (a)->k_len,        \
    .q_position = (a)->q_position, .B = (a)->B, .H = (a)->H, .K = (a)->K, .D = (a)->D,           \
    .group = (a)->H / (a)->K, .width = round_up((a)->D, PAD),                                    \
    .block = cpu_max(1, ROWS / ((a)->H / (a)->K)), .scale = (acc)(a)->scale,                     \
    .causal = (a)->causal, .tiles = have_tiles()                                                 \
  }

static int64_t queries_of(const problem *p, int64_t b) { return p->cu_q[b + 1] - p->cu_q[b]; }

static int64_t keys_of(const problem *p, int64_t b) {
  return p->k_len ? p->k_len[b] : p->cu_k[b + 1] - p->cu_k[b];
}

// How many keys query i of sequence b sees: the first so many.
static int64_t seen_by(const problem *p, int64_t b, int64_t i) {
  int64_t keys = keys_of(p, b);
  if (!p->causal) return keys;
  int64_t at = p->q_position ? p->q_position[p->cu_q[b] + i] : keys - queries_of(p, b) + i;
  return cpu_max(0, cpu_min(at + 1, keys));
}

// Queries [first, first + count) of sequence b, under key head kh.
typedef struct block {
  int64_t b, kh, first, count;
  int64_t rows, padded;  // count * group: row r is query r / group, head r % group of the group
  int64_t least, most;   // keys that its first and its last query see
} block;

static block block_at(const problem *p, int64_t b, int64_t kh, int64_t first) {
  block x = {.b = b, .kh = kh, .first = first};
  x.count = cpu_min(p->block, queries_of(p, b) - first);
  x.rows = x.count * p->group;
  x.padded = round_up(x.rows, PAD);
  x.least = seen_by(p, b, first);
  x.most = seen_by(p, b, first + x.count - 1);
  return x;
}

// The block's first query among the rows of q, and its first head. A query's heads lie behind each other.
static int64_t query_of(const problem *p, const block *x) { return p->cu_q[x->b] + x->first; }
static int64_t head_of(const problem *p, const block *x) { return x->kh * p->group; }

// The block's rows of q, do or the like: (padded, width).
static void pack_rows(num *y, const problem *p, const block *x, const real *from, int64_t stride) {
  from += query_of(p, x) * stride + head_of(p, x) * p->D;
  for (int64_t i = 0; i < x->count; i++)
    pack(y + i * p->group * p->width, p->width, from + i * stride, p->D, p->group, p->group, p->D);
  memset(y + x->rows * p->width, 0, (size_t)((x->padded - x->rows) * p->width) * sizeof *y);
}

// The inverse: acc columns (width, padded) times scale[r] to rows in storage.
static void unpack_rows(real *to, int64_t stride, const problem *p, const block *x,
                        const acc *columns, const acc *scale, acc *spare) {
  transpose((unit *)spare, p->width, (const num *)columns, x->padded * PAIR, p->width, x->padded);
  to += query_of(p, x) * stride + head_of(p, x) * p->D;
  for (int64_t i = 0, r = 0; i < x->count; i++)
    for (int64_t h = 0; h < p->group; h++, r++) {
      real *y = to + i * stride + h * p->D;
      SIMD
      for (int64_t j = 0; j < p->D; j++) y[j] = STORE(spare[r * p->width + j] * scale[r]);
    }
}

// How many of the n keys from j lie behind each other in memory.
static int64_t run_of(const problem *p, int64_t j, int64_t n) {
  return p->pages ? cpu_min(n, p->page - j % p->page) : n;
}

// Key (or value) j of the block's sequence.
static const real *key_at(const problem *p, const block *x, const real *from, int64_t stride, int64_t j) {
  int64_t row = p->pages ? p->pages[p->cu_k[x->b] + j / p->page] * p->page + j % p->page : p->cu_k[x->b] + j;
  return from + row * stride + x->kh * p->D;
}

// A run of n keys (or values) as rows of a product: read where they are stored if they need no
// widening or padding, else packed.
static operand key_rows(num *spare, const problem *p, const real *row, int64_t stride, int64_t n, int64_t m) {
  if (sizeof(real) == sizeof(num) && n == m && p->D == p->width && stride % PAIR == 0)
    return (operand){(const unit *)row, stride / PAIR, 1};
  pack(spare, p->width, row, stride, n, m, p->D);
  return (operand){(const unit *)spare, p->width / PAIR, 1};
}

// The same transposed: (D, keys).
static operand key_columns(unit *spare, unit *turned, const problem *p, const real *row, int64_t stride, int64_t n,
                           int64_t m) {
  int64_t W = p->width;
  if (!PAIRS && sizeof(real) == sizeof(num) && n == m && p->D == W)
    return (operand){(const unit *)row, 1, stride};
  pack_in_pairs(spare, W, row, stride, n, m, p->D);
  if (!p->tiles) return (operand){spare, 1, W};
  transpose(turned, m / PAIR, (const num *)spare, W * PAIR, m / PAIR, W);
  return (operand){turned, m / PAIR, 1};
}

// seen[r]: how many keys row r sees; the padding sees none.
static void count_seen(acc *seen, const problem *p, const block *x) {
  for (int64_t i = 0, r = 0; i < x->count; i++) {
    acc keys = (acc)seen_by(p, x->b, x->first + i);
    for (int64_t h = 0; h < p->group; h++) seen[r++] = keys;
  }
  for (int64_t r = x->rows; r < x->padded; r++) seen[r] = 0;
}

// 2^x for x <= 0, and up to 127; 0 below -126. NaN stays NaN. Written so that a compiler which must mind NaN has no select
// in it but one with 0, which is a mask: others are three instructions on many processors.
static inline acc exp2_small(acc x) {
#ifdef CFT_CPU_F64
  return exp2(x);
#else
  const float magic = 12583039.0f;  // 1.5 * 2^23 + 127: the sum's low bits are the exponent of 2^round(x)
  const int32_t most = 0x4b400000 + 254;
  float shifted = x + magic;
  float r = x - (shifted - magic);
  float y = 1.535336188e-4f;  // Cephes' exp2f
  y = y * r + 1.339887440e-3f;
  y = y * r + 9.618437357e-3f;
  y = y * r + 5.550332471e-2f;
  y = y * r + 2.402264791e-1f;
  y = y * r + 6.931472028e-1f;
  y = y * r + 1.0f;
  int32_t bits = (int32_t)f32_bits(shifted);
  bits = bits < most ? bits : most;
  y *= bits_f32((uint32_t)bits << 23);
  return x < -126.0f ? 0.0f : y;
#endif
}

// ---- panels ------------------------------------------------------------------------------------
//
// Columns of a block that go together, as many as `product` has in registers. Its last query sees `reach` of the keys
// [j0, j0 + n), and a product of these columns ends there: at the diagonal that is half of the work.

static int64_t panel_width(int64_t left) {
  int64_t vectors = left / LANES;
  return LANES * (NR == 3 && vectors == 4 ? 2 : cpu_min(vectors, NR));
}

static int64_t reach(const problem *p, const block *x, int64_t r, int64_t width, int64_t j0, int64_t n) {
  int64_t last = cpu_min(r + width, x->rows) - 1;
  if (last < r) return 0;
  return cpu_max(0, cpu_min(n, seen_by(p, x->b, x->first + last / p->group) - j0));
}

// c (m, R) = [c +] a b over the block's columns, k and m rounded up to what a product takes: rows of c that are keys from
// j0 on, or a sum over them.
static void product_of_keys(acc *c, const problem *p, const block *x, operand a, const unit *b, int64_t j0, int64_t n) {
  int64_t R = x->padded, most = round_up(n, PAIRS ? PAD : MR);
  for (int64_t r = 0, width; r < R; r += width) {
    width = p->tiles ? R : panel_width(R - r);
    int64_t m = p->tiles ? most : round_up(reach(p, x, r, width, j0, n), MR);
    product(p->tiles, c + r, R, a, b + r, R, m, width, p->width / PAIR, 0, NULL);
  }
}

static void product_over_keys(acc *c, const problem *p, const block *x, operand a, const unit *b, int64_t j0, int64_t n) {
  int64_t R = x->padded, most = round_up(n, PAIRS ? PAD : MR);
  for (int64_t r = 0, width; r < R; r += width) {
    width = p->tiles ? R : panel_width(R - r);
    int64_t k = p->tiles ? most : round_up(reach(p, x, r, width, j0, n), PAIR);
    product(p->tiles, c + r, R, a, b + r, R, p->width, width, k / PAIR, j0 > 0, NULL);
  }
}

// c (n, W) += a b, a sum over the block's rows: keys that only its last rows see leave out the others.
enum { KEY_PANEL = 24 };
static void product_over_rows(acc *c, const problem *p, const block *x, const unit *a, const unit *b, int64_t j0,
                              int64_t n) {
  int64_t R = x->padded, W = p->width, m = round_up(n, PAIRS ? PAD : MR), i = 0;
  for (int64_t j = 0, count; j < m; j += count) {
    count = p->tiles ? m : cpu_min(KEY_PANEL, m - j);
    while (i < x->count && seen_by(p, x->b, x->first + i) <= j0 + j) i++;
    int64_t r = p->tiles ? 0 : i * p->group / PAIR;
    product(p->tiles, c + j * W, W, (operand){a + j * (R / PAIR) + r, R / PAIR, 1}, b + r * W, W, count, W, R / PAIR - r, 1,
            NULL);
  }
}

static const double LOG2E = 1.4426950408889634, LN2 = 0.6931471805599453;

static int64_t most_rows(const problem *p) { return round_up(p->block * p->group, PAD); }

// ---- forward -----------------------------------------------------------------------------------

typedef struct forward_scratch {
  num *rows, *k;
  unit *qt, *v, *vt, *p_pairs;
  acc *s, *ot, *top, *sum, *seen, *keep;
} forward_scratch;

static int64_t forward_layout(forward_scratch *w, const problem *p, char *memory) {
  int64_t R = most_rows(p), W = p->width;
  char *at = memory;
  w->rows = take(&at, R * W), w->qt = take(&at, R * W);
  w->k = take(&at, KEYS * W), w->v = take(&at, KEYS * W);
  w->vt = take(&at, p->tiles ? KEYS * W : 0), w->p_pairs = take(&at, PAIRS ? KEYS * R : 0);
  w->s = take(&at, KEYS * R), w->ot = take(&at, R * W);
  w->top = take(&at, R), w->sum = take(&at, R), w->seen = take(&at, R), w->keep = take(&at, R);
  return at - memory;
}

// Of `width` columns of s (n, R), times `scale`: the running maximum of each, then its powers of 2 in place, and their
// running sum. Of keys from j0 on; a column's first `seen` ones count. What lies in registers is written out: a column
// has its maximum and sum there from the first key to the last.
static inline __attribute__((always_inline)) void softmax_panel(acc *s, int64_t R, int64_t j0, int64_t n, acc scale,
                                                                acc *top, acc *sum, acc *keep, const acc *seen,
                                                                const int masked, const int width) {
  const acc none = -(acc)INFINITY;
  acc high[NR * LANES], total[NR * LANES];
  SIMD
  for (int r = 0; r < width; r++) high[r] = top[r];
  for (int64_t j = 0; j < n; j++) {
    SIMD
    for (int r = 0; r < width; r++) {
      acc x = s[j * R + r] * scale;
      if (masked) x = (acc)(j0 + j) < seen[r] ? x : none;
      high[r] = x > high[r] ? x : high[r];
    }
  }
  SIMD
  for (int r = 0; r < width; r++) {
    keep[r] = high[r] == none ? 1 : exp2_small(top[r] - high[r]);
    total[r] = 0;
    top[r] = high[r];
  }
  for (int64_t j = 0; j < n; j++) {
    SIMD
    for (int r = 0; r < width; r++) {
      acc x = exp2_small(s[j * R + r] * scale - high[r]);
      if (masked) x = (acc)(j0 + j) < seen[r] ? x : 0;
      s[j * R + r] = x;
      total[r] += x;
    }
  }
  SIMD
  for (int r = 0; r < width; r++) sum[r] = sum[r] * keep[r] + total[r];
}

static void softmax_block(const forward_scratch *w, const problem *p, const block *x, int64_t j0, int64_t n) {
  int64_t R = x->padded;
  acc scale = p->scale * (acc)LOG2E;
  for (int64_t r = 0, width; r < R; r += width) {
    width = panel_width(R - r);
    int64_t m = reach(p, x, r, width, j0, n);
#define PANEL(masked, vectors)                                                                             \
  softmax_panel(w->s + r, R, j0, m, scale, w->top + r, w->sum + r, w->keep + r, w->seen + r, masked, \
                (vectors) * LANES)
    if (r + width > x->rows || j0 + m > (int64_t)w->seen[r])
      width == NR * LANES ? PANEL(1, NR) : width == 2 * LANES ? PANEL(1, 2) : PANEL(1, 1);
    else
      width == NR * LANES ? PANEL(0, NR) : width == 2 * LANES ? PANEL(0, 2) : PANEL(0, 1);
#undef PANEL
    for (int64_t j = m; j < n; j++) memset(w->s + j * R + r, 0, (size_t)width * sizeof *w->s);
  }
}

// s (n, R) = the block's scores of keys j0 to j0 + n; rows up to round_up(n) are written.
static void score(const forward_scratch *w, const problem *p, const block *x, int64_t j0, int64_t n) {
  int64_t R = x->padded;
  for (int64_t j = 0, run; j < n; j += run) {
    run = run_of(p, j0 + j, n - j);
    int64_t m = round_up(run, PAIRS ? PAD : MR);
    operand k = key_rows(w->k, p, key_at(p, x, p->k, p->k_stride, j0 + j), p->k_stride, run, m);
    product_of_keys(w->s + j * R, p, x, k, w->qt, j0 + j, run);
  }
}

// Values j0 to j0 + n as key_columns has them: m of them, from several pages perhaps.
static operand value_columns(const forward_scratch *w, const problem *p, const block *x, int64_t j0, int64_t n,
                             int64_t m) {
  int64_t W = p->width, run = run_of(p, j0, n);
  if (run == n) return key_columns(w->v, w->vt, p, key_at(p, x, p->v, p->v_stride, j0), p->v_stride, n, m);
  for (int64_t j = 0; j < n; j += run) {
    run = run_of(p, j0 + j, n - j);
    pack_in_pairs(w->v + j / PAIR * W, W, key_at(p, x, p->v, p->v_stride, j0 + j), p->v_stride, run,
                  j + run < n ? run : m - j, p->D);
  }
  if (!p->tiles) return (operand){w->v, 1, W};
  transpose(w->vt, m / PAIR, (const num *)w->v, W * PAIR, m / PAIR, W);
  return (operand){w->vt, m / PAIR, 1};
}

// Of one block: o, and lse unless it is NULL.
static void forward(real *o, int64_t o_stride, acc *lse, const problem *p, const block *x, char *memory) {
  forward_scratch w;
  forward_layout(&w, p, memory);
  int64_t R = x->padded, W = p->width;
  pack_rows(w.rows, p, x, p->q, p->q_stride);
  transpose(w.qt, R, w.rows, W, R, W / PAIR);
  count_seen(w.seen, p, x);
  for (int64_t r = 0; r < R; r++) w.top[r] = -(acc)INFINITY, w.sum[r] = 0;
  if (x->most == 0) memset(w.ot, 0, (size_t)(W * R) * sizeof *w.ot);
  for (int64_t j0 = 0; j0 < x->most; j0 += KEYS) {
    int64_t n = cpu_min(KEYS, x->most - j0), m = round_up(n, PAIRS ? PAD : MR);
    score(&w, p, x, j0, n);
    softmax_block(&w, p, x, j0, n);
    memset(w.s + n * R, 0, (size_t)((m - n) * R) * sizeof *w.s);
    if (j0 > 0)
      for (int64_t j = 0; j < W; j++) {
        SIMD
        for (int64_t r = 0; r < R; r++) w.ot[j * R + r] *= w.keep[r];
      }
    operand vt = value_columns(&w, p, x, j0, n, m);
    product_over_keys(w.ot, p, x, vt, sums_in_pairs(w.p_pairs, w.s, m, R), j0, n);
  }
  for (int64_t r = 0; r < x->rows; r++) w.keep[r] = w.sum[r] == 0 ? 0 : 1 / w.sum[r];
  for (int64_t i = 0, r = 0; lse && i < x->count; i++) {
    acc *y = lse + (query_of(p, x) + i) * p->H + head_of(p, x);
    for (int64_t h = 0; h < p->group; h++, r++)
      y[h] = w.sum[r] == 0 ? -(acc)INFINITY : w.top[r] * (acc)LN2 + LOG(w.sum[r]);
  }
  unpack_rows(o, o_stride, p, x, w.ot, w.keep, (acc *)w.qt);
}

static void zero_rows(void *y, int64_t from, int64_t to, int64_t stride, int64_t width) {
  for (int64_t i = from; i < to; i++)
    memset((real *)y + i * stride, 0, (size_t)width * sizeof(real));
}

// Blocks of `size` of each sequence's queries (or keys): sequence b has [first[b], first[b + 1]).
static int64_t count_blocks(int32_t *first, const problem *p,
                            int64_t (*length)(const problem *, int64_t), int64_t size) {
  first[0] = 0;
  for (int64_t b = 0; b < p->B; b++)
    first[b + 1] = first[b] + (int32_t)cpu_blocks(length(p, b), size);
  return first[p->B];
}

static int64_t sequence_of(const int32_t *first, int64_t B, int64_t t) {
  int64_t low = 0, high = B;  // first[low] <= t < first[high]
  while (high - low > 1) {
    int64_t mid = (low + high) / 2;
    if (first[mid] <= t)
      low = mid;
    else
      high = mid;
  }
  return low;
}

#include "attention_one.h"
#include "attention_split.h"

// Blocks of keys for threads to share: none where tasks, a query's key heads, leave less than a quarter of the threads idle,
// or keys are so few that threads would wait for each other longer than they save.
static int64_t blocks_to_share(const problem *p, int team) {
  int64_t tasks = 0, blocks = 0;
  for (int64_t b = 0; b < p->B; b++) {
    tasks += cpu_blocks(queries_of(p, b), p->block) * p->K;
    blocks += cpu_blocks(split_keys(p, b), KEYS);
  }
  int64_t turns = cpu_blocks(tasks, team);
  return turns <= 2 && 4 * tasks <= 3 * turns * team && blocks >= 8 * team ? blocks : 0;
}

static cft_status forward_all(cft_device *d, const problem *p, real *o, int64_t o_stride, acc *lse, int64_t work) {
  forward_scratch none;
  int team = cft_cpu_team(work);
  size_t list = (size_t)round_up((p->B + 1) * (int64_t)sizeof(int32_t), 64);
  one_scratch of_one;
  split shared = {.blocks = blocks_to_share(p, team)};
  size_t each = (size_t)cpu_max(forward_layout(&none, p, NULL), one_layout(&of_one, p, NULL));
  size_t of_all = list + (shared.blocks ? (size_t)split_layout(&shared, p, NULL) : 0), bytes = of_all + each * (size_t)team;
  char *memory;
  CFT_TRY(d->alloc(d, (void **)&memory, bytes, CFT_MEM_WORKSPACE));
  int32_t *first = (int32_t *)memory;
  int64_t blocks = count_blocks(first, p, queries_of, p->block);
  if (shared.blocks) {
    split_layout(&shared, p, memory + list);
    count_blocks(shared.first, p, split_keys, KEYS);
  }
  int together = team == 1 || blocks >= 2 * team;  // all heads of one query are a task
#pragma omp parallel num_threads(team)
  {
    char *scratch = memory + of_all + each * (size_t)omp_get_thread_num();
    tiles_begin(p->tiles);
    if (shared.blocks) forward_split(o, o_stride, lse, p, &shared, scratch);
#pragma omp for schedule(dynamic) nowait
    for (int64_t t = 0; t < blocks * p->K; t++) {
      // A sequence's last queries see the most keys: long tasks first.
      int64_t at = blocks - 1 - t / p->K, b = sequence_of(first, p->B, at);
      block x = block_at(p, b, t % p->K, (at - first[b]) * p->block);
      if (!is_one(p, &x))
        forward(o, o_stride, lse, p, &x, scratch);
      else if ((x.kh == 0 || !together) && !(shared.blocks && split_keys(p, b) > 0))
        forward_one(o, o_stride, lse, p, &x, together ? p->K : x.kh + 1, scratch);
    }
    tiles_end(p->tiles);
  }
  d->free(d, memory, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}

cft_status CPU(attention_fwd)(cft_device *d, cft_stream *stream, const cft_attention_args *a) {
  (void)stream;
  if (a->nq == 0) return CFT_OK;
  problem p = PROBLEM(a);
  return forward_all(d, &p, a->o, a->o_stride, a->lse, a->nq * a->longest_k * a->H * a->D / 4);
}

cft_status CPU(attention_paged)(cft_device *d, cft_stream *stream, const cft_attention_paged_args *a) {
  (void)stream;
  if (a->nq == 0) return CFT_OK;
  // clang-format off
  problem p = {
    .q = a->q, .k = a->k, .v = a->v, .q_stride = a->q_stride, .k_stride = a->k_stride, .v_stride = a->v_stride,
    .cu_q = a->cu_q, .cu_k = a->cu_pages, .k_len = a->k_len, .pages = a->pages, .page = a->page, .B = a->B, .H = a->H,
    .K = a->K, .D = a->D, .group = a->H / a->K, .width = round_up(a->D, PAD),
    .block = cpu_max(1, ROWS / (a->H / a->K)), .scale = (acc)a->scale, .causal = 1, .tiles = have_tiles()};
  // clang-format on
  return forward_all(d, &p, a->o, a->o_stride, NULL, a->keys * a->H * a->D / 4);
}

// ---- backward ----------------------------------------------------------------------------------
//
//   p = exp(s - lse)    dp = do v^T    ds = p (dp - delta)    delta = rowsum(do * o)
//   dv += p^T do        dk += scale ds^T q        dq += scale ds k
//
// dv and dk are summed over blocks of queries, dq over blocks of keys, each in rising order.

typedef struct backward_scratch {
  num *rows, *k, *v;
  unit *qt, *q, *gt, *g;  // g: do
  unit *k_pairs, *kt, *p_rows, *ds_rows, *ds_pairs;
  acc *s, *dp, *dqt, *lse, *delta, *seen, *scale;
  acc *dk, *dv;
} backward_scratch;

static int64_t backward_layout(backward_scratch *w, const problem *p, int64_t keys, char *memory) {
  int64_t R = most_rows(p), W = p->width, K = round_up(keys, KEYS);
  char *at = memory;
  w->rows = take(&at, R * W);
  w->qt = take(&at, R * W), w->q = take(&at, R * W);
  w->gt = take(&at, R * W), w->g = take(&at, R * W);
  w->k = take(&at, KEYS * W), w->v = take(&at, KEYS * W);
  w->k_pairs = take(&at, KEYS * W), w->kt = take(&at, p->tiles ? KEYS * W : 0);
  w->p_rows = take(&at, PAIRS ? KEYS * R : 0), w->ds_rows = take(&at, PAIRS ? KEYS * R : 0);
  w->ds_pairs = take(&at, PAIRS ? KEYS * R : 0);
  w->s = take(&at, KEYS * R), w->dp = take(&at, KEYS * R), w->dqt = take(&at, R * W);
  w->lse = take(&at, R), w->delta = take(&at, R), w->seen = take(&at, R), w->scale = take(&at, R);
  w->dk = take(&at, K * W), w->dv = take(&at, K * W);
  return at - memory;
}

// The inner product of two rows, in sixteen sums whatever the instruction set.
static acc inner(const real *a, const real *b, int64_t n) {
  acc part[16] = {0}, sum = 0;
  int64_t j = 0;
  for (; j + 16 <= n; j += 16)
    SIMD
    for (int l = 0; l < 16; l++) part[l] += LOAD(a[j + l]) * LOAD(b[j + l]);
  for (; j < n; j++) part[j % 16] += LOAD(a[j]) * LOAD(b[j]);
  for (int l = 0; l < 16; l++) sum += part[l];
  return sum;
}

static void pack_queries(const backward_scratch *w, const cft_attention_bwd_args *a,
                         const problem *p, const block *x) {
  int64_t R = x->padded, W = p->width;
  num *rows = PAIRS ? w->rows : (num *)w->q;
  pack_rows(rows, p, x, p->q, p->q_stride);
  in_pairs(w->q, rows, R, W);
  transpose(w->qt, R, rows, W, R, W / PAIR);
  rows = PAIRS ? w->rows : (num *)w->g;
  pack_rows(rows, p, x, a->do_, a->do_stride);
  in_pairs(w->g, rows, R, W);
  transpose(w->gt, R, rows, W, R, W / PAIR);
  count_seen(w->seen, p, x);
  for (int64_t r = 0; r < R; r++) w->lse[r] = w->delta[r] = 0, w->scale[r] = p->scale;
  for (int64_t i = query_of(p, x), r = 0; r < x->rows; i++)
    for (int64_t h = head_of(p, x); h < head_of(p, x) + p->group; h++, r++) {
      w->delta[r] = inner((const real *)a->o + i * a->o_stride + h * p->D,
                          (const real *)a->do_ + i * a->do_stride + h * p->D, p->D);
      w->lse[r] = ((const acc *)a->lse)[i * p->H + h] * (acc)LOG2E;
    }
}

// Keys from j0 against the block's queries: to dk and dv of these keys unless they are NULL, and to
// dqt if `dq`.
static void backward_block(const backward_scratch *w, const problem *p, const block *x, int64_t j0,
                           acc *dk, acc *dv, int dq) {
  int64_t R = x->padded;
  int64_t n = cpu_min(KEYS, x->most - j0), m = round_up(n, PAIRS ? PAD : MR);
  operand k = key_rows(w->k, p, key_at(p, x, p->k, p->k_stride, j0), p->k_stride, n, m);
  operand v = key_rows(w->v, p, key_at(p, x, p->v, p->v_stride, j0), p->v_stride, n, m);
  product_of_keys(w->s, p, x, k, w->qt, j0, n);
  product_of_keys(w->dp, p, x, v, w->gt, j0, n);
  int masked = j0 + n > x->least || R > x->rows;
  acc scale = p->scale * (acc)LOG2E;
  const acc *lse = w->lse, *delta = w->delta, *seen = w->seen;
  for (int64_t j = 0; j < n; j++) {
    acc *s = w->s + j * R, *dp = w->dp + j * R;
    if (masked) {
      SIMD
      for (int64_t r = 0; r < R; r++) {
        s[r] = (acc)(j0 + j) < seen[r] ? exp2_small(s[r] * scale - lse[r]) : 0;
        dp[r] = (acc)(j0 + j) < seen[r] ? s[r] * (dp[r] - delta[r]) : 0;
      }
    } else {
      SIMD
      for (int64_t r = 0; r < R; r++) {
        s[r] = exp2_small(s[r] * scale - lse[r]);
        dp[r] = s[r] * (dp[r] - delta[r]);
      }
    }
  }
  memset(w->s + n * R, 0, (size_t)((m - n) * R) * sizeof *w->s);
  memset(w->dp + n * R, 0, (size_t)((m - n) * R) * sizeof *w->dp);
  if (dk) {
    product_over_rows(dv, p, x, sums_in_rows(w->p_rows, w->s, m, R), w->g, j0, n);
    product_over_rows(dk, p, x, sums_in_rows(w->ds_rows, w->dp, m, R), w->q, j0, n);
  }
  if (dq) {
    operand kt = key_columns(w->k_pairs, w->kt, p, key_at(p, x, p->k, p->k_stride, j0), p->k_stride, n, m);
    product_over_keys(w->dqt, p, x, kt, sums_in_pairs(w->ds_pairs, w->dp, m, R), j0, n);
  }
}

static void unpack_keys(const backward_scratch *w, const cft_attention_bwd_args *a,
                        const problem *p, int64_t b, int64_t kh, int64_t j0, int64_t n) {
  for (int64_t j = 0; j < n; j++) {
    real *dk = (real *)a->dk + (p->cu_k[b] + j0 + j) * a->dk_stride + kh * p->D;
    real *dv = (real *)a->dv + (p->cu_k[b] + j0 + j) * a->dv_stride + kh * p->D;
    SIMD
    for (int64_t e = 0; e < p->D; e++) dk[e] = STORE(w->dk[j * p->width + e] * p->scale);
    SIMD
    for (int64_t e = 0; e < p->D; e++) dv[e] = STORE(w->dv[j * p->width + e]);
  }
}

static void unpack_dq(const backward_scratch *w, const cft_attention_bwd_args *a, const problem *p,
                      const block *x) {
  if (x->most == 0) memset(w->dqt, 0, (size_t)(p->width * x->padded) * sizeof *w->dqt);
  unpack_rows(a->dq, a->dq_stride, p, x, w->dqt, w->scale, (acc *)w->qt);
}

// All of a sequence and key head by one owner: its keys' gradients wait in scratch.
static void backward_whole(const cft_attention_bwd_args *a, const problem *p, int64_t b, int64_t kh,
                           char *memory) {
  backward_scratch w;
  backward_layout(&w, p, keys_of(p, b), memory);
  int64_t W = p->width, bytes = round_up(keys_of(p, b), KEYS) * W * (int64_t)sizeof *w.dk;
  memset(w.dk, 0, (size_t)bytes), memset(w.dv, 0, (size_t)bytes);
  for (int64_t i = 0; i < queries_of(p, b); i += p->block) {
    block x = block_at(p, b, kh, i);
    pack_queries(&w, a, p, &x);
    for (int64_t j0 = 0; j0 < x.most; j0 += KEYS)
      backward_block(&w, p, &x, j0, w.dk + j0 * W, w.dv + j0 * W, 1);
    unpack_dq(&w, a, p, &x);
  }
  unpack_keys(&w, a, p, b, kh, 0, keys_of(p, b));
}

// The same in pieces that share nothing, where there are fewer owners than threads: dk and dv of a
// block of keys, then dq of a block of queries. 7 products instead of 5, and the same bits.
static void backward_keys(const cft_attention_bwd_args *a, const problem *p, int64_t b, int64_t kh,
                          int64_t j0, char *memory) {
  backward_scratch w;
  backward_layout(&w, p, KEYS, memory);
  memset(w.dk, 0, (size_t)(KEYS * p->width) * sizeof *w.dk);
  memset(w.dv, 0, (size_t)(KEYS * p->width) * sizeof *w.dv);
  for (int64_t i = 0; i < queries_of(p, b); i += p->block) {
    block x = block_at(p, b, kh, i);
    if (x.most <= j0) continue;
    pack_queries(&w, a, p, &x);
    backward_block(&w, p, &x, j0, w.dk, w.dv, 0);
  }
  unpack_keys(&w, a, p, b, kh, j0, cpu_min(KEYS, keys_of(p, b) - j0));
}

static void backward_queries(const cft_attention_bwd_args *a, const problem *p, const block *x,
                             char *memory) {
  backward_scratch w;
  backward_layout(&w, p, KEYS, memory);
  pack_queries(&w, a, p, x);
  for (int64_t j0 = 0; j0 < x->most; j0 += KEYS) backward_block(&w, p, x, j0, NULL, NULL, 1);
  unpack_dq(&w, a, p, x);
}

// Whether whole sequences are the better tasks: the longest must not keep the other threads
// waiting for more than the seven products would cost.
static int share_whole(const problem *p, int team) {
  double all = 0, most = 0;
  for (int64_t b = 0; b < p->B; b++) {
    double work = (double)queries_of(p, b) * (double)keys_of(p, b);
    all += work * (double)p->K;
    most = work > most ? work : most;
  }
  return 1.25 * most * team <= all;
}

cft_status CPU(attention_bwd)(cft_device *d, cft_stream *stream, const cft_attention_bwd_args *a) {
  (void)stream;
  problem p = PROBLEM(a);
  int team = cft_cpu_team(a->nq * a->longest_k * a->H * a->D);
  int whole = team == 1 || share_whole(&p, team);
  backward_scratch none;
  size_t list = (size_t)round_up((a->B + 1) * (int64_t)sizeof(int32_t), 64);
  size_t each = (size_t)backward_layout(&none, &p, whole ? a->longest_k : KEYS, NULL),
         bytes = 2 * list + each * (size_t)team;
  char *memory;
  CFT_TRY(d->alloc(d, (void **)&memory, bytes, CFT_MEM_WORKSPACE));
  int64_t end = 0, line = a->K * a->D;  // key rows that belong to no sequence
  for (int64_t b = 0; b < a->B; b++) {
    zero_rows(a->dk, end, a->cu_k[b], a->dk_stride, line);
    zero_rows(a->dv, end, a->cu_k[b], a->dv_stride, line);
    end = a->cu_k[b] + keys_of(&p, b);
  }
  zero_rows(a->dk, end, a->nk, a->dk_stride, line);
  zero_rows(a->dv, end, a->nk, a->dv_stride, line);
  int32_t *first_q = (int32_t *)memory, *first_k = (int32_t *)(memory + list);
  int64_t q_blocks = count_blocks(first_q, &p, queries_of, p.block);
  int64_t k_blocks = count_blocks(first_k, &p, keys_of, KEYS);
#pragma omp parallel num_threads(team)
  {
    char *scratch = memory + 2 * list + each * (size_t)omp_get_thread_num();
    tiles_begin(p.tiles);
    if (whole) {
#pragma omp for schedule(dynamic)
      for (int64_t t = 0; t < a->B * a->K; t++) backward_whole(a, &p, t / a->K, t % a->K, scratch);
    } else {
#pragma omp for schedule(dynamic) nowait
      for (int64_t t = 0; t < k_blocks * a->K; t++) {
        int64_t at = t / a->K, b = sequence_of(first_k, a->B, at);
        backward_keys(a, &p, b, t % a->K, (at - first_k[b]) * KEYS, scratch);
      }
#pragma omp for schedule(dynamic)
      for (int64_t t = 0; t < q_blocks * a->K; t++) {
        int64_t at = q_blocks - 1 - t / a->K, b = sequence_of(first_q, a->B, at);
        block x = block_at(&p, b, t % a->K, (at - first_q[b]) * p.block);
        backward_queries(a, &p, &x, scratch);
      }
    }
    tiles_end(p.tiles);
  }
  d->free(d, memory, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}
