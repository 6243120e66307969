// sample.c - one token of each row of logits. What the filters of a row keep are the tokens with z above a bound; each
// bound is found in three passes by the bits of z, without sorting. Weights are added up as whole numbers, so that no
// order of the sums, and so no device, gives another token.
#include <omp.h>

#include "log_sum_exp.h"
#include "philox.h"

enum { BUCKETS = 2048 };

typedef struct row_scratch {
  float *z, *weight;  // (V)
  int64_t *sums;      // (BUCKETS)
} row_scratch;

// A weight, 0 to 1, to the nearest of 2^-44, as a whole number: the low bits of a sum that has its last place there.
static inline int64_t units_of(float weight) {
  const double magic = 384;  // 1.5 * 2^8: in double its last place is 2^-44
  double shifted = (double)weight + magic;
  int64_t at, from;
  memcpy(&at, &shifted, sizeof at);
  memcpy(&from, &magic, sizeof from);
  return at - from;
}

// Bits that are in the order of the numbers.
static inline uint32_t ordered(float x) {
  uint32_t u = f32_bits(x);
  return u ^ (u >> 31 ? 0xffffffffu : 0x80000000u);
}

static inline float from_ordered(uint32_t u) { return bits_f32(u ^ (u >> 31 ? 0x80000000u : 0xffffffffu)); }

// The largest t such that the weights (1 each where NULL) of the tokens with z >= t add up to `target`; `least`, below
// which none is looked at, where they never do.
static float bound_of(const float *z, const float *weight, int64_t V, float least, double target, int64_t *sums) {
  static const int shift[] = {21, 10, 0}, bits[] = {11, 11, 10};
  uint32_t prefix = 0, low = ordered(least);
  int64_t above = 0;
  for (int level = 0; level < 3; level++) {
    uint32_t mask = (1u << bits[level]) - 1;
    int fixed = shift[level] + bits[level];  // bits from here up are `prefix` already
    memset(sums, 0, BUCKETS * sizeof *sums);
    for (int64_t j = 0; j < V; j++) {
      uint32_t u = ordered(z[j]);
      if (u < low || (level > 0 && u >> fixed != prefix)) continue;
      sums[u >> shift[level] & mask] += weight ? units_of(weight[j]) : 1;
    }
    int64_t bucket = mask;
    while (bucket >= 0 && (double)(above + sums[bucket]) < target) above += sums[bucket--];
    if (bucket < 0) return least;
    prefix = prefix << bits[level] | (uint32_t)bucket;
  }
  return from_ordered(prefix);
}

static float largest(const float *z, int64_t V) {
  float top = -INFINITY;
  CPU_PRAGMA(omp simd reduction(max : top))
  for (int64_t j = 0; j < V; j++) top = z[j] > top ? z[j] : top;
  return top;
}

// Whether the filters keep token j; `least` is the bound of the first two.
static inline int keeps(const row_scratch *w, int64_t j, float least, float min_p) {
  return w->z[j] >= least && w->weight[j] >= min_p;
}

static int64_t sum_of_kept(const row_scratch *w, int64_t V, float least, float min_p) {
  int64_t sum = 0;
  SIMD for (int64_t j = 0; j < V; j++) sum += keeps(w, j, least, min_p) ? units_of(w->weight[j]) : 0;
  return sum;
}

// The least z that top_k and top_p of row i keep.
static float kept_from(const cft_sample_args *a, int64_t i, const row_scratch *w) {
  const float top_p = a->numbers[4 * i + 1];
  int64_t k = a->keys[4 * i + 3];
  float least = -INFINITY;
  if (k > 0 && k < a->V) least = bound_of(w->z, NULL, a->V, least, (double)k, w->sums);
  if (top_p < 1)
    least = bound_of(w->z, w->weight, a->V, least, (double)top_p * (double)sum_of_kept(w, a->V, least, 0), w->sums);
  return least;
}

static double uniform(const int64_t *key) {
  uint32_t words[4][PHILOX_GROUPS];
  philox(words, (uint64_t)key[0], (uint64_t)key[2], (uint64_t)key[1]);
  return ((double)words[0][0] * 0x1p21 + (double)(words[1][0] >> 11)) * 0x1p-53;
}

static int64_t draw(const cft_sample_args *a, int64_t i, const row_scratch *w, float top) {
  float scale = 1 / a->numbers[4 * i];
  SIMD for (int64_t j = 0; j < a->V; j++) {
    w->z[j] = w->z[j] * scale + 0.0f;  // no zero is negative
  }
  top = top * scale + 0.0f;
  SIMD for (int64_t j = 0; j < a->V; j++) w->weight[j] = exp_f32(w->z[j] - top);
  float least = kept_from(a, i, w), min_p = a->numbers[4 * i + 2];
  double goal = uniform(a->keys + 4 * i) * (double)sum_of_kept(w, a->V, least, min_p);
  int64_t last = 0, sofar = 0;
  for (int64_t j = 0; j < a->V; j++) {
    int64_t units = keeps(w, j, least, min_p) ? units_of(w->weight[j]) : 0;
    sofar += units;
    if (units > 0) last = j;
    if ((double)sofar > goal) break;
  }
  return last;
}

static int64_t first_of(const float *z, int64_t V, float top) {
  int64_t j = 0;
  while (j < V - 1 && z[j] != top) j++;
  return j;
}

// The ids of the top_n largest logits of a row, by insertion.
static void largest_of(const cft_sample_args *a, int64_t i, const real *x, acc lse) {
  int32_t *id = a->top + i * a->top_n;
  acc *logprob = (acc *)a->top_logprob + i * a->top_n;
  int64_t have = 0;
  for (int64_t j = 0; j < a->V; j++) {
    acc v = LOAD(x[j]);
    if (have == a->top_n && !(v > logprob[have - 1])) continue;
    int64_t at = have < a->top_n ? have++ : have - 1;
    for (; at > 0 && logprob[at - 1] < v; at--) logprob[at] = logprob[at - 1], id[at] = id[at - 1];
    logprob[at] = v, id[at] = (int32_t)j;
  }
  for (int64_t n = 0; n < a->top_n; n++) {
    if (n < have)
      logprob[n] -= lse;
    else
      logprob[n] = -(acc)INFINITY, id[n] = -1;
  }
}

static void sample_row(const cft_sample_args *a, int64_t i, const row_scratch *w) {
  const real *x = (const real *)a->logits + i * a->logits_stride;
  acc lse = log_sum_exp(x, a->V);
  if (a->top_n > 0) largest_of(a, i, x, lse);
  SIMD for (int64_t j = 0; j < a->V; j++) w->z[j] = (float)LOAD(x[j]);
  float penalty = a->numbers[4 * i + 3];
  for (int32_t s = a->cu_seen[i]; s < a->cu_seen[i + 1]; s++) {
    float *z = w->z + a->seen[s];
    *z = *z > 0 ? *z / penalty : *z * penalty;
  }
  for (int32_t b = a->cu_bias[i]; b < a->cu_bias[i + 1]; b++) w->z[a->bias_id[b]] += a->bias[b];
  float top = largest(w->z, a->V);
  int64_t token = -1;
  if (isfinite(lse) && isfinite(top)) token = a->numbers[4 * i] == 0 ? first_of(w->z, a->V, top) : draw(a, i, w, top);
  a->token[i] = (int32_t)token;
  ((acc *)a->logprob)[i] = token < 0 ? (acc)NAN : LOAD(x[token]) - lse;
}

cft_status CPU(sample)(cft_device *d, cft_stream *s, const cft_sample_args *a) {
  (void)s;
  if (a->n == 0) return CFT_OK;
  int team = cft_cpu_team(a->n * a->V * 16);
  int64_t row = (a->V + 15) / 16 * 16;
  size_t each = 2 * (size_t)row * sizeof(float) + BUCKETS * sizeof(int64_t), bytes = each * (size_t)team;
  char *memory;
  CFT_TRY(d->alloc(d, (void **)&memory, bytes, CFT_MEM_WORKSPACE));
#pragma omp parallel num_threads(team)
  {
    char *mine = memory + each * (size_t)omp_get_thread_num();
    row_scratch w = {.sums = (int64_t *)mine, .z = (float *)(mine + BUCKETS * sizeof(int64_t))};
    w.weight = w.z + row;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < a->n; i++) sample_row(a, i, &w);
  }
  d->free(d, memory, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}
