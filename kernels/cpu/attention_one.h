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

// The weights of n keys of each head, in place of their scores; the running maximum and sum, and what sums of before
// are multiplied by.
static inline __attribute__((always_inline)) void one_softmax(acc *s, int64_t n, acc scale, acc *top, acc *sum,
                                                              acc *keep, const int heads) {
  for (int h = 0; h < heads; h++) {
    acc *x = s + h * KEYS, high = top[h];
    CPU_PRAGMA(omp simd reduction(max : high))
    for (int64_t j = 0; j < n; j++) high = x[j] * scale > high ? x[j] * scale : high;
    keep[h] = high == -(acc)INFINITY ? 1 : exp2_small(top[h] - high);
    SIMD
    for (int64_t j = 0; j < n; j++) x[j] = exp2_small(x[j] * scale - high);
    for (int64_t j = n; j < KEYS; j++) x[j] = 0;
    top[h] = high, sum[h] *= keep[h];
  }
  // One after the other, as the blocks' rows are; the heads side by side, since an addition waits for the one before.
  acc total[MOST_HEADS];
#pragma GCC unroll 8
  for (int h = 0; h < heads; h++) total[h] = sum[h];
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

// Of the query's heads those of key heads x->kh to end: block by block of keys, and there head by head, so that keys are
// read in the order in which they lie.
static inline __attribute__((always_inline)) void one_query(real *out, acc *lse, const problem *p, const block *of,
                                                            int64_t end, const one_scratch *w, const int heads) {
  int64_t W = p->width, each = heads * W;
  block x = *of;
  acc *top = w->top, *sum = w->sum, keep[MOST_HEADS];
  for (x.kh = of->kh; x.kh < end; x.kh++)
    pack_rows(w->q + x.kh * each, p,
              &(block){.b = x.b, .kh = x.kh, .first = x.first, .count = 1, .rows = heads, .padded = heads}, p->q,
              p->q_stride);
  for (int64_t h = 0; h < p->H; h++) top[h] = -(acc)INFINITY, sum[h] = 0;
  memset(w->o, 0, (size_t)(p->K * each) * sizeof *w->o);
  for (int64_t j0 = 0; j0 < x.most; j0 += KEYS) {
    int64_t n = cpu_min(KEYS, x.most - j0);
    for (x.kh = of->kh; x.kh < end; x.kh++) {
      acc *o = w->o + x.kh * each;
      for (int64_t j = 0, run; j < n; j += run) {
        run = run_of(p, j0 + j, n - j);
        one_scores(w->s + j, w, p, &x, (const unit *)(w->q + x.kh * each), j0 + j, run, heads);
      }
      one_softmax(w->s, n, p->scale * (acc)LOG2E, top + x.kh * heads, sum + x.kh * heads, keep, heads);
      for (int h = 0; h < heads; h++) {
        SIMD
        for (int64_t j = 0; j < W; j++) o[h * W + j] *= keep[h];
      }
      const unit *weight = sums_in_rows((unit *)w->weight, w->s, heads, KEYS);
      acc *to = PAIRS ? o : w->part;
      if (!PAIRS) memset(to, 0, (size_t)each * sizeof *to);
      for (int64_t j = 0, run; j < n; j += run) {
        run = run_of(p, j0 + j, n - j);
        one_run(to, w, p, &x, weight + j / PAIR, j0 + j, run, heads);
      }
      if (!PAIRS) {
        SIMD
        for (int64_t j = 0; j < each; j++) o[j] += to[j];
      }
    }
  }
  int64_t at = p->cu_q[x.b] + x.first;
  for (int64_t head = of->kh * heads; head < end * heads; head++) {
    if (lse) lse[at * p->H + head] = sum[head] == 0 ? -(acc)INFINITY : top[head] * (acc)LN2 + LOG(sum[head]);
    acc scale = sum[head] == 0 ? 0 : 1 / sum[head];
    SIMD
    for (int64_t j = 0; j < p->D; j++) out[head * p->D + j] = STORE(w->o[head * W + j] * scale);
  }
}

static void forward_one(real *o, int64_t o_stride, acc *lse, const problem *p, const block *x, int64_t end, char *memory) {
  one_scratch w;
  one_layout(&w, p, memory);
  real *out = o + (p->cu_q[x->b] + x->first) * o_stride;
  switch (p->group) {
    case 1: one_query(out, lse, p, x, end, &w, 1); break;
    case 2: one_query(out, lse, p, x, end, &w, 2); break;
    case 3: one_query(out, lse, p, x, end, &w, 3); break;
    case 4: one_query(out, lse, p, x, end, &w, 4); break;
    case 5: one_query(out, lse, p, x, end, &w, 5); break;
    case 6: one_query(out, lse, p, x, end, &w, 6); break;
    case 7: one_query(out, lse, p, x, end, &w, 7); break;
    default: one_query(out, lse, p, x, end, &w, 8);
  }
}

#endif
