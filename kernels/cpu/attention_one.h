// attention_one.h - the part of attention.c for one query of a sequence, as in decoding: its heads are too few to fill a
// vector. Scores lie along keys and results along D in place of rows, each summed in the order that the blocks of
// attention.c have, so that the bits are theirs: one query alone, or among others.
#ifndef CFT_ATTENTION_ONE_H
#define CFT_ATTENTION_ONE_H

enum {
  MOST_HEADS = 8,                           // of a group, in registers
  HALVES = sizeof(real) != sizeof(num)      // bf16 without units for it: two numbers of k are turned as one
};

// Whether a block is of that kind.
static int is_one(const problem *p, const block *x) {
  return x->count == 1 && !p->tiles && p->group <= MOST_HEADS;
}

typedef struct one_scratch {
  num *q, *k;   // (K, heads, W); (LANES, W)
  unit *v;      // (KEYS, W), in pairs
  acc *s;       // (heads, KEYS)
  num *weight;  // (heads, KEYS)
  acc *o;       // (K, heads, W)
  acc *part;    // (heads, W) of a block, where that is summed from 0, as `product` does
  acc *top, *sum;  // (H)
} one_scratch;

static int64_t one_layout(one_scratch *w, const problem *p, char *memory) {
  int64_t all = p->K * p->group * p->width;
  char *at = memory;
  if (p->group > MOST_HEADS) return 0;
  w->q = take(&at, all), w->k = take(&at, LANES * p->width);
  w->v = take(&at, KEYS * p->width), w->s = take(&at, MOST_HEADS * KEYS);
  w->weight = take(&at, MOST_HEADS * KEYS), w->o = take(&at, all);
  w->part = take(&at, MOST_HEADS * p->width);
  w->top = take(&at, p->H), w->sum = take(&at, p->H);
  return at - memory;
}

// Where the key (or value) a block after j lies, which is asked for while j is worked on: many sequences' stay in no
// cache. Behind the last block: j itself.
static inline const char *later(const problem *p, const block *x, const real *from, int64_t stride, int64_t j) {
  return (const char *)key_at(p, x, from, stride, j + KEYS < x->most ? j + KEYS : j);
}

// s[h] = q k^T of `vectors` times LANES keys. `halves`: a unit of k is two numbers of bf16, which are widened here.
static inline __attribute__((always_inline)) void one_score(acc *s, const unit *q, int64_t units, const num *k,
                                                            int64_t stride, const char *next, int64_t next_stride,
                                                            const int halves, const int heads, const int vectors) {
  const int numbers = halves ? 2 : 1;
  vec sum[MOST_HEADS][2];
#pragma GCC unroll 8
  for (int h = 0; h < heads; h++)
#pragma GCC unroll 2
    for (int i = 0; i < vectors; i++) sum[h][i] = (vec){0};
  for (int64_t u = 0; u < units; u += LANES * numbers)
#pragma GCC unroll 2
    for (int i = 0; i < vectors; i++) {
      for (int l = 0; l < LANES; l++)
        __builtin_prefetch(next + (i * LANES + l) * next_stride + u / numbers * (int64_t)sizeof(unit), 0, 2);
      uvec to[LANES];
      square(to, k + i * LANES * stride + u / numbers * PAIR, stride);
#pragma GCC unroll 16
      for (int l = 0; l < LANES; l++)
#pragma GCC unroll 2
        for (int half = 0; half < numbers; half++) {
          uvec of_k = halves ? half_of(to[l], half) : to[l];
#pragma GCC unroll 8
          for (int h = 0; h < heads; h++)
            sum[h][i] = multiply_add(sum[h][i], q[h * units + u + l * numbers + half], of_k);
        }
    }
#pragma GCC unroll 8
  for (int h = 0; h < heads; h++)
#pragma GCC unroll 2
    for (int i = 0; i < vectors; i++) *(vec *)(s + h * KEYS + i * LANES) = sum[h][i];
}

// s[h] (n) = q k^T of keys that lie behind each other in memory, of which the first is number j; whole vectors are written.
static inline __attribute__((always_inline)) void one_scores(acc *s, const one_scratch *w, const problem *p,
                                                             const block *x, const unit *q, int64_t j, int64_t n,
                                                             const int heads) {
  int64_t W = p->width, units = W / PAIR, bytes = p->k_stride * (int64_t)sizeof(real), vectors;
  const char *row = (const char *)key_at(p, x, p->k, p->k_stride, j), *next = later(p, x, p->k, p->k_stride, j);
  int direct = p->D == W && bytes % (int64_t)sizeof(num) == 0 && (!HALVES || units % (2 * LANES) == 0);
  int64_t stride = bytes / (int64_t)sizeof(num);
  for (; n > 0; n -= vectors * LANES, s += vectors * LANES, row += vectors * LANES * bytes, next += vectors * LANES * bytes) {
    const num *k = (const num *)(const void *)row;
    vectors = direct && heads <= 4 && n >= 2 * LANES ? 2 : 1;
    if (vectors == 2) {
      one_score(s, q, units, k, stride, next, bytes, HALVES, heads, 2);
    } else if (direct && n >= LANES) {
      one_score(s, q, units, k, stride, next, bytes, HALVES, heads, 1);
    } else {
      pack(w->k, W, (const real *)(const void *)row, p->k_stride, cpu_min(LANES, n), LANES, p->D);
      one_score(s, q, units, w->k, W, next, bytes, 0, heads, 1);
    }
  }
}

// o[h] (vectors) += weights of n keys times their values, of which `v` has one a row, or two; or one as it is stored.
static inline __attribute__((always_inline)) void one_values(acc *o, int64_t W, const void *v, int64_t stride,
                                                             const unit *weight, int64_t n, const char *next,
                                                             int64_t next_stride, const int stored, const int heads,
                                                             const int vectors) {
  vec sum[MOST_HEADS][4];
#pragma GCC unroll 8
  for (int h = 0; h < heads; h++)
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) sum[h][i] = *(const vec *)(o + h * W + i * LANES);
  const int64_t bytes = vectors * LANES * (int64_t)(stored ? sizeof(real) : sizeof(num));
  for (int64_t j = 0; j < n; j++) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(next + j * next_stride + at, 0, 2);
    uvec of_v[4];
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++)
      of_v[i] = stored ? load_real((const real *)v + j * stride + i * LANES)
                       : *(const loose *)((const unit *)v + j * stride + i * LANES);
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++)
#pragma GCC unroll 4
      for (int i = 0; i < vectors; i++)
        sum[h][i] = multiply_add(sum[h][i], weight[h * (KEYS / PAIR) + j], of_v[i]);
  }
#pragma GCC unroll 8
  for (int h = 0; h < heads; h++)
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) *(vec *)(o + h * W + i * LANES) = sum[h][i];
}

// Scores (heads, KEYS) of n keys from j0 on, of the heads of x->kh.
static inline __attribute__((always_inline)) void scores_of(acc *s, const one_scratch *w, const problem *p,
                                                            const block *x, int64_t j0, int64_t n, const int heads) {
  const unit *q = (const unit *)(w->q + x->kh * heads * p->width);
  for (int64_t j = 0, run; j < n; j += run) {
    run = run_of(p, j0 + j, n - j);
    one_scores(s + j, w, p, x, q, j0 + j, run, heads);
  }
}

// The largest of n scores.
static acc largest(const acc *s, int64_t n, acc scale) {
  acc top = -(acc)INFINITY;
  CPU_PRAGMA(omp simd reduction(max : top))
  for (int64_t j = 0; j < n; j++) top = s[j] * scale > top ? s[j] * scale : top;
  return top;
}

// Raises the largest score so far; what sums of before are multiplied by then.
static acc raise_top(acc *top, acc high) {
  acc before = *top;
  *top = high > before ? high : before;
  return *top == -(acc)INFINITY ? 1 : exp2_small(before - *top);
}

// The weights of n keys of each head, in place of their scores, and their sums.
static inline __attribute__((always_inline)) void weights_of(acc *s, acc *sum, int64_t n, acc scale, const acc *top,
                                                             const int heads) {
  for (int h = 0; h < heads; h++) {
    acc *x = s + h * KEYS, high = top[h];
    SIMD
    for (int64_t j = 0; j < n; j++) x[j] = exp2_small(x[j] * scale - high);
    for (int64_t j = n; j < KEYS; j++) x[j] = 0;
  }
  // One after the other, as the blocks' rows are; the heads side by side, since an addition waits for the one before.
  acc total[MOST_HEADS] = {0};
  for (int64_t j = 0; j < n; j++)
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) total[h] += s[h * KEYS + j];
#pragma GCC unroll 8
  for (int h = 0; h < heads; h++) sum[h] = total[h];
}

// o[h] += weights of n keys, of which the first is number j, times their values.
static inline __attribute__((always_inline)) void one_run(acc *o, const one_scratch *w, const problem *p,
                                                          const block *x, const unit *weight, int64_t j, int64_t n,
                                                          const int heads) {
  int64_t W = p->width, stride = p->v_stride, bytes = stride * (int64_t)sizeof(real), i = 0, all = W / LANES;
  const real *row = key_at(p, x, p->v, stride, j);
  const char *next = later(p, x, p->v, stride, j);
  const int stored = !PAIRS && p->D == W;
  if (!stored) {
    int64_t keys = n;
    n = cpu_blocks(n, PAIR), stride = W;
    pack_in_pairs(w->v, W, row, p->v_stride, keys, n * PAIR, p->D);
  }
#define VALUES_OF(vectors)                                                                                        \
  for (; i + vectors <= all; i += vectors) {                                                                      \
    const char *line = next + i * LANES * (int64_t)sizeof(real);                                                  \
    if (stored)                                                                                                   \
      one_values(o + i * LANES, W, row + i * LANES, stride, weight, n, line, bytes, 1, heads, vectors);           \
    else                                                                                                          \
      one_values(o + i * LANES, W, w->v + i * LANES, stride, weight, n, line, PAIR * bytes, 0, heads, vectors);   \
  }
  if (heads <= 4) VALUES_OF(4)
  VALUES_OF(2)
  VALUES_OF(1)
#undef VALUES_OF
}

// o (heads, W) += weights of n keys from j0 on times their values.
static inline __attribute__((always_inline)) void values_of(acc *o, const one_scratch *w, const problem *p,
                                                            const block *x, const unit *weight, int64_t j0, int64_t n,
                                                            const int heads) {
  for (int64_t j = 0, run; j < n; j += run) {
    run = run_of(p, j0 + j, n - j);
    one_run(o, w, p, x, weight + j / PAIR, j0 + j, run, heads);
  }
}

// f(..., heads) with the heads of a group as a constant.
#define BY_GROUP(f, p, ...)              \
  switch ((p)->group) {                  \
    case 1: f(__VA_ARGS__, 1); break;    \
    case 2: f(__VA_ARGS__, 2); break;    \
    case 3: f(__VA_ARGS__, 3); break;    \
    case 4: f(__VA_ARGS__, 4); break;    \
    case 5: f(__VA_ARGS__, 5); break;    \
    case 6: f(__VA_ARGS__, 6); break;    \
    case 7: f(__VA_ARGS__, 7); break;    \
    default: f(__VA_ARGS__, MOST_HEADS); \
  }

static void score_block(acc *s, const one_scratch *w, const problem *p, const block *x, int64_t j0, int64_t n) {
  BY_GROUP(scores_of, p, s, w, p, x, j0, n)
}

static void weigh_block(acc *s, acc *sum, const problem *p, int64_t n, const acc *top) {
  BY_GROUP(weights_of, p, s, sum, n, p->scale * (acc)LOG2E, top)
}

static void add_values(acc *o, const one_scratch *w, const problem *p, const block *x, const acc *s, int64_t j0, int64_t n) {
  const unit *weight = sums_in_rows((unit *)w->weight, s, p->group, KEYS);
  BY_GROUP(values_of, p, o, w, p, x, weight, j0, n)
}

// Sums of before and those of a block: of weights, and, where values are summed from 0 in each block, of these.
static void carry(acc *o, acc *sum, const problem *p, const acc *keep, const acc *more, const acc *part) {
  for (int64_t h = 0; h < p->group; h++) {
    sum[h] = sum[h] * keep[h] + more[h];
    SIMD
    for (int64_t j = 0; j < p->width; j++) o[h * p->width + j] *= keep[h];
  }
  if (!part) return;
  SIMD
  for (int64_t j = 0; j < p->group * p->width; j++) o[j] += part[j];
}

static void pack_query(const one_scratch *w, const problem *p, const block *of, int64_t end) {
  block x = *of;
  x.rows = x.padded = p->group;
  for (; x.kh < end; x.kh++) pack_rows(w->q + x.kh * p->group * p->width, p, &x, p->q, p->q_stride);
}

// Heads of key head x->kh: what was summed, divided.
static void finish_heads(real *out, acc *lse, const problem *p, const block *x, const acc *o, const acc *top,
                         const acc *sum) {
  int64_t at = query_of(p, x) * p->H + head_of(p, x);
  for (int64_t h = 0; h < p->group; h++) {
    if (lse) lse[at + h] = sum[h] == 0 ? -(acc)INFINITY : top[h] * (acc)LN2 + LOG(sum[h]);
    acc scale = sum[h] == 0 ? 0 : 1 / sum[h];
    SIMD
    for (int64_t j = 0; j < p->D; j++) out[(head_of(p, x) + h) * p->D + j] = STORE(o[h * p->width + j] * scale);
  }
}

// Of the query's heads those of key heads x->kh to end: block by block of keys, and there head by head, so that keys are
// read in the order in which they lie.
static void forward_one(real *o, int64_t o_stride, acc *lse, const problem *p, const block *of, int64_t end, char *memory) {
  one_scratch w;
  one_layout(&w, p, memory);
  int64_t heads = p->group, each = heads * p->width;
  block x = *of;
  pack_query(&w, p, of, end);
  for (int64_t h = 0; h < p->H; h++) w.top[h] = -(acc)INFINITY, w.sum[h] = 0;
  memset(w.o, 0, (size_t)(p->K * each) * sizeof *w.o);
  for (int64_t j0 = 0; j0 < x.most; j0 += KEYS) {
    int64_t n = cpu_min(KEYS, x.most - j0);
    for (x.kh = of->kh; x.kh < end; x.kh++) {
      acc *to = w.o + x.kh * each, *top = w.top + x.kh * heads, keep[MOST_HEADS], more[MOST_HEADS];
      score_block(w.s, &w, p, &x, j0, n);
      for (int64_t h = 0; h < heads; h++)
        keep[h] = raise_top(top + h, largest(w.s + h * KEYS, n, p->scale * (acc)LOG2E));
      weigh_block(w.s, more, p, n, top);
      if (!PAIRS) {
        memset(w.part, 0, (size_t)each * sizeof *w.part);
        add_values(w.part, &w, p, &x, w.s, j0, n);
      }
      carry(to, w.sum + x.kh * heads, p, keep, more, PAIRS ? NULL : w.part);
      if (PAIRS) add_values(to, &w, p, &x, w.s, j0, n);
    }
  }
  for (x.kh = of->kh; x.kh < end; x.kh++)
    finish_heads(o + query_of(p, &x) * o_stride, lse, p, &x, w.o + x.kh * each, w.top + x.kh * heads, w.sum + x.kh * heads);
}

#endif
