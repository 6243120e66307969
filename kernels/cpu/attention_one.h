// attention_one.h - the part of attention.c for one query of a sequence, as in decoding: its heads are too few to fill a
// vector. Scores lie along keys and results along D in place of rows, each summed in the order that the blocks of
// attention.c have, so that the bits are theirs: one query alone, or among others.
#ifndef CFT_ATTENTION_ONE_H
#define CFT_ATTENTION_ONE_H

enum { MOST_HEADS = 8 };  // of a group, in registers

// Whether a block is of that kind.
static int is_one(const problem *p, const block *x) {
  return x->count == 1 && !p->tiles && p->group <= MOST_HEADS;
}

typedef struct one_scratch {
  num *q, *k;  // (heads, W); (LANES, W)
  unit *v;     // (KEYS, W), in pairs
  acc *s;      // (heads, KEYS)
  num *weight; // (heads, KEYS)
  acc *o;      // (heads, W)
  acc *part;   // the same of a block, where that is summed from 0, as `product` does
} one_scratch;

static int64_t one_layout(one_scratch *w, const problem *p, char *memory) {
  char *at = memory;
  w->q = take(&at, MOST_HEADS * p->width), w->k = take(&at, LANES * p->width);
  w->v = take(&at, KEYS * p->width), w->s = take(&at, MOST_HEADS * KEYS);
  w->weight = take(&at, MOST_HEADS * KEYS), w->o = take(&at, MOST_HEADS * p->width);
  w->part = take(&at, MOST_HEADS * p->width);
  return at - memory;
}

// s[h] (n) = q k^T of keys that lie behind each other in memory; whole vectors are written.
static inline __attribute__((always_inline)) void one_scores(const one_scratch *w, const problem *p, const real *row,
                                                             int64_t from, int64_t n, const int heads) {
  int64_t W = p->width, units = W / PAIR;
  for (int64_t j = 0; j < n; j += LANES) {
    const num *keys = (const num *)(const void *)(row + j * p->k_stride);
    int64_t stride = p->k_stride;
    if (sizeof(real) != sizeof(num) || p->D != W || n - j < LANES) {
      pack(w->k, W, row + j * p->k_stride, p->k_stride, cpu_min(LANES, n - j), LANES, p->D);
      keys = w->k, stride = W;
    }
    vec sum[MOST_HEADS];
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) sum[h] = (vec){0};
    for (int64_t q = 0; q < units; q += LANES) {
      uvec to[LANES];
      square(to, keys + q * PAIR, stride);
#pragma GCC unroll 16
      for (int l = 0; l < LANES; l++)
#pragma GCC unroll 8
        for (int h = 0; h < heads; h++)
          sum[h] = multiply_add(sum[h], ((const unit *)w->q)[h * units + q + l], to[l]);
    }
#pragma GCC unroll 8
    for (int h = 0; h < heads; h++) *(vec *)(w->s + h * KEYS + from + j) = sum[h];
  }
}

// o[h] (vectors) += weights of n keys times their values, of which `v` has one a row, or two.
static inline __attribute__((always_inline)) void one_values(acc *o, int64_t W, const unit *v, int64_t stride,
                                                             const unit *weight, int64_t n, const int heads,
                                                             const int vectors) {
  vec sum[MOST_HEADS][4];
#pragma GCC unroll 8
  for (int h = 0; h < heads; h++)
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) sum[h][i] = *(const vec *)(o + h * W + i * LANES);
  for (int64_t j = 0; j < n; j++) {
    uvec of_v[4];
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) of_v[i] = *(const loose *)(v + j * stride + i * LANES);
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

// The weights of n keys of one head, in place of their scores; the running maximum and sum.
static acc one_softmax(acc *s, int64_t n, acc scale, acc *top, acc *sum) {
  acc high = *top, before = *top;
  CPU_PRAGMA(omp simd reduction(max : high))
  for (int64_t j = 0; j < n; j++) high = s[j] * scale > high ? s[j] * scale : high;
  acc keep = high == -(acc)INFINITY ? 1 : exp2_small(before - high), total = *sum * keep;
  SIMD
  for (int64_t j = 0; j < n; j++) s[j] = exp2_small(s[j] * scale - high);
  for (int64_t j = 0; j < n; j++) total += s[j];
  for (int64_t j = n; j < KEYS; j++) s[j] = 0;
  *top = high, *sum = total;
  return keep;
}

static inline __attribute__((always_inline)) void one_query(real *out, acc *lse, const problem *p, const block *x,
                                                            const one_scratch *w, const int heads) {
  int64_t W = p->width;
  acc top[MOST_HEADS], sum[MOST_HEADS];
  pack_rows(w->q, p, &(block){.b = x->b, .kh = x->kh, .first = x->first, .count = 1, .rows = heads, .padded = heads},
            p->q, p->q_stride);
  for (int h = 0; h < heads; h++) top[h] = -(acc)INFINITY, sum[h] = 0;
  memset(w->o, 0, (size_t)(heads * W) * sizeof *w->o);
  for (int64_t j0 = 0; j0 < x->most; j0 += KEYS) {
    int64_t n = cpu_min(KEYS, x->most - j0);
    for (int64_t j = 0, run; j < n; j += run) {
      run = run_of(p, j0 + j, n - j);
      one_scores(w, p, key_at(p, x, p->k, p->k_stride, j0 + j), j, run, heads);
    }
    for (int h = 0; h < heads; h++) {
      acc keep = one_softmax(w->s + h * KEYS, n, p->scale * (acc)LOG2E, &top[h], &sum[h]);
      SIMD
      for (int64_t j = 0; j < W; j++) w->o[h * W + j] *= keep;
    }
    const unit *weight = sums_in_rows((unit *)w->weight, w->s, heads, KEYS);
    acc *o = PAIRS ? w->o : w->part;
    if (!PAIRS) memset(w->part, 0, (size_t)(heads * W) * sizeof *w->part);
    for (int64_t j = 0, run; j < n; j += run) {
      run = run_of(p, j0 + j, n - j);
      const real *row = key_at(p, x, p->v, p->v_stride, j0 + j);
      const unit *v = (const unit *)(const void *)row;
      int64_t stride = p->v_stride, count = run;
      if (PAIRS || sizeof(real) != sizeof(num) || p->D != W) {
        count = cpu_blocks(run, PAIR), stride = W;
        pack_in_pairs(w->v, W, row, p->v_stride, run, count * PAIR, p->D);
        v = w->v;
      }
      int64_t i = 0, vectors = W / LANES;
      if (heads <= 4)
        for (; i + 4 <= vectors; i += 4)
          one_values(o + i * LANES, W, v + i * LANES, stride, weight + j / PAIR, count, heads, 4);
      for (; i + 2 <= vectors; i += 2)
        one_values(o + i * LANES, W, v + i * LANES, stride, weight + j / PAIR, count, heads, 2);
      for (; i < vectors; i++)
        one_values(o + i * LANES, W, v + i * LANES, stride, weight + j / PAIR, count, heads, 1);
    }
    if (!PAIRS) {
      SIMD
      for (int64_t j = 0; j < heads * W; j++) w->o[j] += w->part[j];
    }
  }
  int64_t at = p->cu_q[x->b] + x->first;
  for (int h = 0; h < heads; h++) {
    int64_t head = x->kh * p->group + h;
    if (lse) lse[at * p->H + head] = sum[h] == 0 ? -(acc)INFINITY : top[h] * (acc)LN2 + LOG(sum[h]);
    acc scale = sum[h] == 0 ? 0 : 1 / sum[h];
    SIMD
    for (int64_t j = 0; j < p->D; j++) out[head * p->D + j] = STORE(w->o[h * W + j] * scale);
  }
}

static void forward_one(real *o, int64_t o_stride, acc *lse, const problem *p, const block *x, char *memory) {
  one_scratch w;
  one_layout(&w, p, memory);
  real *out = o + (p->cu_q[x->b] + x->first) * o_stride;
  switch (p->group) {
    case 1: one_query(out, lse, p, x, &w, 1); break;
    case 2: one_query(out, lse, p, x, &w, 2); break;
    case 3: one_query(out, lse, p, x, &w, 3); break;
    case 4: one_query(out, lse, p, x, &w, 4); break;
    case 5: one_query(out, lse, p, x, &w, 5); break;
    case 6: one_query(out, lse, p, x, &w, 6); break;
    case 7: one_query(out, lse, p, x, &w, 7); break;
    default: one_query(out, lse, p, x, &w, 8);
  }
}

#endif
