// attention_split.h - the part of attention.c for few queries, one of a sequence, over many keys: threads share the blocks
// of keys. The bits are those of one thread that takes block after block: scores know nothing of each other; the largest
// up to a block is that of the largest ones, in whatever order; with it a block's weights and sums know nothing of the
// blocks before; and what is left, to add a block's sums to those of before, is little and is done in order. Where sums of
// values go on from block to block (PAIRS), a thread takes them for a key head.
#ifndef CFT_ATTENTION_SPLIT_H
#define CFT_ATTENTION_SPLIT_H

typedef struct split {
  int32_t *first;  // sequence b has blocks of keys first[b] to first[b + 1]: none, where it is not one query
  int64_t blocks;
  acc *s;                   // (blocks, H, KEYS): scores, then weights
  acc *top;                 // (blocks, H): the largest score of a block
  acc *keep, *more, *part;  // (blocks, H) twice, (blocks, H, W): what `carry` takes
} split;

// Keys of sequence b that threads may share.
static int64_t split_keys(const problem *p, int64_t b) {
  return queries_of(p, b) == 1 && p->group <= MOST_HEADS && !p->tiles ? seen_by(p, b, 0) : 0;
}

static int64_t split_layout(split *s, const problem *p, char *memory) {
  char *at = memory;
  int64_t heads = s->blocks * p->H;
  s->first = take(&at, p->B + 1), s->s = take(&at, heads * KEYS);
  s->part = take(&at, PAIRS ? 0 : heads * p->width);
  s->top = take(&at, heads), s->keep = take(&at, heads), s->more = take(&at, heads);
  return at - memory;
}

// Block t of keys: its query, its first key and how many it has.
static block split_block(const split *s, const problem *p, int64_t t, int64_t *j0, int64_t *n) {
  int64_t b = sequence_of(s->first, p->B, t);
  block x = block_at(p, b, 0, 0);
  *j0 = (t - s->first[b]) * KEYS, *n = cpu_min(KEYS, x.most - *j0);
  return x;
}

static void split_scores(const split *s, const one_scratch *w, const problem *p, int64_t from, int64_t to) {
  int64_t packed = -1, j0, n;
  for (int64_t t = from; t < to; t++) {
    block x = split_block(s, p, t, &j0, &n);
    if (x.b != packed) pack_query(w, p, &x, p->K);
    for (packed = x.b; x.kh < p->K; x.kh++)
      score_block(s->s + (t * p->H + head_of(p, &x)) * KEYS, w, p, &x, j0, n);
    for (int64_t h = t * p->H; h < (t + 1) * p->H; h++)
      s->top[h] = largest(s->s + h * KEYS, n, p->scale * (acc)LOG2E);
  }
}

// w->top: the largest scores of blocks from `first` to before t.
static void split_top(const split *s, const one_scratch *w, int64_t H, int64_t first, int64_t t) {
  for (int64_t h = 0; h < H; h++) w->top[h] = -(acc)INFINITY;
  for (; first < t; first++)
    for (int64_t h = 0; h < H; h++) w->top[h] = s->top[first * H + h] > w->top[h] ? s->top[first * H + h] : w->top[h];
}

static void split_weights(const split *s, const one_scratch *w, const problem *p, int64_t from, int64_t to) {
  int64_t j0, n;
  for (int64_t t = from; t < to; t++) {
    block x = split_block(s, p, t, &j0, &n);
    if (t == from || j0 == 0) split_top(s, w, p->H, s->first[x.b], t);
    for (int64_t h = 0; h < p->H; h++) s->keep[t * p->H + h] = raise_top(w->top + h, s->top[t * p->H + h]);
    if (!PAIRS) memset(s->part + t * p->H * p->width, 0, (size_t)(p->H * p->width) * sizeof *s->part);
    for (; x.kh < p->K; x.kh++) {
      int64_t h = t * p->H + head_of(p, &x);
      weigh_block(s->s + h * KEYS, s->more + h, p, n, w->top + head_of(p, &x));
      if (!PAIRS) add_values(s->part + h * p->width, w, p, &x, s->s + h * KEYS, j0, n);
    }
  }
}

// Key head kh of sequence b's query: the blocks' sums, in order.
static void split_sums(real *o, int64_t o_stride, acc *lse, const split *s, const one_scratch *w, const problem *p, int64_t b,
                       int64_t kh) {
  block x = block_at(p, b, kh, 0);
  acc sum[MOST_HEADS] = {0};
  memset(w->o, 0, (size_t)(p->group * p->width) * sizeof *w->o);
  for (int64_t t = s->first[b]; t < s->first[b + 1]; t++) {
    int64_t j0 = (t - s->first[b]) * KEYS, h = t * p->H + head_of(p, &x);
    carry(w->o, sum, p, s->keep + h, s->more + h, PAIRS ? NULL : s->part + h * p->width);
    if (PAIRS) add_values(w->o, w, p, &x, s->s + h * KEYS, j0, cpu_min(KEYS, x.most - j0));
  }
  split_top(s, w, p->H, s->first[b], s->first[b + 1]);
  finish_heads(o + query_of(p, &x) * o_stride, lse, p, &x, w->o, w->top + head_of(p, &x), sum);
}

// By all threads of a team. Each has blocks that lie behind each other.
static void forward_split(real *o, int64_t o_stride, acc *lse, const problem *p, const split *s, char *memory) {
  int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
  int64_t from = s->blocks * me / all, to = s->blocks * (me + 1) / all;
  one_scratch w;
  one_layout(&w, p, memory);
  split_scores(s, &w, p, from, to);
#pragma omp barrier
  split_weights(s, &w, p, from, to);
#pragma omp barrier
#pragma omp for schedule(static) nowait
  for (int64_t t = 0; t < p->B * p->K; t++)
    if (s->first[t / p->K] < s->first[t / p->K + 1]) split_sums(o, o_stride, lse, s, &w, p, t / p->K, t % p->K);
}

#endif
