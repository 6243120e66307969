// pack.c - which samples share a micro-batch, and the arrays of one.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cft_batch.h"

uint64_t cft_batch_hash(const int32_t *ids, int64_t n) {
  uint64_t h = 0xcbf29ce484222325u;
  for (int64_t i = 0; i < n; ++i) h = (h ^ (uint32_t)ids[i]) * 0x100000001b3u;
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
  return h ^ (h >> 31);
}

// ---- best fit decreasing -----------------------------------------------------------------------

typedef struct item {
  int64_t tokens, number;
} item;

static int longest_first(const void *a, const void *b) {
  const item *x = a, *y = b;
  if (x->tokens != y->tokens) return x->tokens > y->tokens ? -1 : 1;
  return (x->number > y->number) - (x->number < y->number);
}

// A pack in the list of those with room, which is kept ascending by room: the first that is large
// enough is the fullest.
typedef struct open_pack {
  int64_t room, pack;
} open_pack;

static int64_t first_with_room(const open_pack *open, int64_t count, int64_t room) {
  int64_t lo = 0, hi = count;
  while (lo < hi) {
    int64_t mid = lo + (hi - lo) / 2;
    if (open[mid].room < room)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

// Number the packs in the order of their first samples.
static void renumber(int64_t *pack, int64_t n, int64_t *number, int64_t packs) {
  int64_t next = 0;
  for (int64_t p = 0; p < packs; ++p) number[p] = -1;
  for (int64_t i = 0; i < n; ++i) {
    if (number[pack[i]] < 0) number[pack[i]] = next++;
    pack[i] = number[pack[i]];
  }
}

cft_status cft_pack_plan(int64_t *pack, int64_t *packs, const int64_t *lengths, int64_t n,
                         int64_t budget) {
  *packs = 0;
  for (int64_t i = 0; i < n; ++i)
    if (lengths[i] < 1 || lengths[i] > budget)
      return cft_fail(CFT_E_ARG, "pack: sample %lld has %lld tokens; 1 to %lld fit a pack",
                      (long long)i, (long long)lengths[i], (long long)budget);
  if (n == 0) return CFT_OK;
  item *items = malloc((size_t)n * sizeof *items);
  open_pack *open = malloc((size_t)n * sizeof *open);
  int64_t *number = malloc((size_t)n * sizeof *number);
  cft_status st = CFT_OK;
  if (!items || !open || !number) {
    st = cft_fail(CFT_E_OOM, "pack: no memory to plan %lld samples", (long long)n);
    goto out;
  }
  for (int64_t i = 0; i < n; ++i) items[i] = (item){lengths[i], i};
  qsort(items, (size_t)n, sizeof *items, longest_first);

  int64_t count = 0;  // of open packs; full ones stay in the list, at its front
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = first_with_room(open, count, items[i].tokens);
    open_pack p = at < count ? open[at] : (open_pack){budget, (*packs)++};
    if (at == count) ++count;
    p.room -= items[i].tokens;
    pack[items[i].number] = p.pack;
    int64_t to = first_with_room(open, at, p.room);  // it has less room now: somewhere before
    memmove(open + to + 1, open + to, (size_t)(at - to) * sizeof *open);
    open[to] = p;
  }
  renumber(pack, n, number, *packs);
out:
  free(number);
  free(open);
  free(items);
  return st;
}

// ---- arrays ------------------------------------------------------------------------------------

// Is sample i another one behind the prefix of the one before it?
static int continues(const cft_batch_sample *samples, int64_t i) {
  const cft_batch_sample *s = &samples[i];
  return i > 0 && s->shared > 0 && s->shared == s[-1].shared &&
         memcmp(s->ids, s[-1].ids, (size_t)s->shared * sizeof *s->ids) == 0;
}

static cft_status check_sample(const cft_batch_sample *samples, int64_t number) {
  const cft_batch_sample *s = &samples[number];
  long long at = (long long)number;
  if (s->n < 1) return cft_fail(CFT_E_ARG, "batch: sample %lld has no tokens", at);
  if (!(s->scale >= 0 && isfinite(s->scale)))
    return cft_fail(CFT_E_ARG, "batch: sample %lld is scaled by %g", at, s->scale);
  if (s->shared < 0 || s->shared >= s->n)
    return cft_fail(CFT_E_ARG, "batch: sample %lld shares %lld of its %lld tokens", at,
                    (long long)s->shared, (long long)s->n);
  if (s->shared > 0 && number > 0 && s[-1].shared == 0)
    return cft_fail(CFT_E_ARG, "batch: sample %lld shares a prefix, but the one before it does not",
                    at);
  int64_t covered = 0;
  for (int64_t i = 0; i < s->span_count; ++i) {
    const cft_batch_span *span = &s->spans[i];
    if (span->count < 1 || span->count > s->n - covered)
      return cft_fail(CFT_E_ARG, "batch: span %lld of sample %lld has %lld tokens; %lld are left",
                      (long long)i, at, (long long)span->count, (long long)(s->n - covered));
    if (!(span->weight >= 0 && isfinite((float)(span->weight * s->scale))))
      return cft_fail(CFT_E_ARG,
                      "batch: a weight of sample %lld is %g; a finite one from 0 is wanted", at,
                      (double)span->weight);
    // Row i predicts token i + 1, and the first token is predicted by none.
    int64_t first = covered > 0 ? covered : 1;
    if (span->weight != 0 && first <= s->shared && covered + span->count > first)
      return cft_fail(CFT_E_ARG,
                      "batch: sample %lld shares %lld tokens, but token %lld has loss weight", at,
                      (long long)s->shared, (long long)first);
    covered += span->count;
  }
  if (covered != s->n)
    return cft_fail(CFT_E_ARG, "batch: the spans of sample %lld cover %lld of its %lld tokens", at,
                    (long long)covered, (long long)s->n);
  return CFT_OK;
}

// Tokens [from, to) of a sample as a sequence of rows, from row `at` on.
static void lay(cft_batch *b, const cft_batch_sample *s, int64_t from, int64_t to, int64_t at) {
  int64_t n = to - from;
  memcpy(b->ids + at, s->ids + from, (size_t)n * sizeof *b->ids);
  memcpy(b->targets + at, s->ids + from + 1, (size_t)(n - 1) * sizeof *b->targets);
  b->targets[at + n - 1] = -1;
  b->weights[at + n - 1] = 0;
  b->kinds[at + n - 1] = 0;
  for (int64_t i = 0; i < n; ++i) b->positions[at + i] = (int32_t)(from + i);
  if (n > b->longest) b->longest = n;

  int64_t token = 0;
  for (int64_t k = 0; k < s->span_count; ++k) {
    float weight = (float)(s->spans[k].weight * s->scale);
    for (int64_t j = 0; j < s->spans[k].count; ++j, ++token) {
      if (token <= from || token >= to) continue;  // predicted by no row of these
      int64_t row = at + token - from - 1;
      b->weights[row] = weight;
      b->kinds[row] = (uint8_t)s->spans[k].kind;
      b->weight += (double)weight;
      if (weight == 0) continue;
      b->rows[b->m] = (int32_t)row;
      b->row_positions[b->m] = b->positions[row];
      ++b->m;
    }
  }
}

// Prefixes, and the rows that they and their samples have.
static int64_t count_prefixes(const cft_batch_sample *samples, int64_t B, int64_t *rows,
                              int64_t *prefix_rows) {
  int64_t prefixes = 0;
  *rows = *prefix_rows = 0;
  for (int64_t i = 0; i < B; ++i) {
    *rows += samples[i].n - samples[i].shared;
    if (samples[i].shared == 0 || continues(samples, i)) continue;
    ++prefixes;
    *prefix_rows += samples[i].shared;
  }
  *rows += *prefix_rows;
  return prefixes;
}

cft_status cft_batch_bytes(size_t *bytes, const cft_batch_sample *samples, int64_t B) {
  int64_t n = 0, prefix_rows;
  for (int64_t i = 0; i < B; ++i) {
    CFT_TRY(check_sample(samples, i));
    if (samples[i].n > INT32_MAX - n)
      return cft_fail(CFT_E_ARG, "batch: sample %lld is past row %d", (long long)i, INT32_MAX);
    n += samples[i].n;
  }
  int64_t prefixes = count_prefixes(samples, B, &n, &prefix_rows);
  *bytes = (size_t)n * (5 * sizeof(int32_t) + sizeof(float) + 1) +
           2 * ((size_t)(B + 1) + (size_t)prefixes) * sizeof(int32_t) + sizeof(int32_t);
  return CFT_OK;
}

void cft_batch_lay(cft_batch *b, const cft_batch_sample *samples, int64_t B) {
  int64_t rows, at;
  int64_t prefixes = count_prefixes(samples, B, &rows, &at);
  *b = (cft_batch){.n = rows, .sequences = B, .prefixes = prefixes};
  b->ids = (int32_t *)b->memory;
  b->targets = b->ids + rows;
  b->positions = b->targets + rows;
  b->rows = b->positions + rows;
  b->row_positions = b->rows + rows;
  b->cu_prefix = b->row_positions + rows;
  b->cu_seqlens = b->cu_prefix + prefixes;
  b->cu_shared = b->cu_seqlens + B + 1;
  b->cu_rows = b->cu_shared + prefixes + 1;
  b->weights = (float *)(b->cu_rows + B + 1);
  b->kinds = (uint8_t *)(b->weights + rows);

  int64_t prefix = 0, prefix_at = 0;
  for (int64_t i = 0; i < B; ++i) {
    const cft_batch_sample *s = &samples[i];
    if (s->shared > 0 && continues(samples, i)) {
      b->saved += s->shared;
    } else if (s->shared > 0) {
      b->cu_prefix[prefix] = (int32_t)prefix_at;
      b->cu_shared[prefix++] = (int32_t)i;
      lay(b, s, 0, s->shared, prefix_at);
      prefix_at += s->shared;
    }
    if (s->shared > 0) b->cu_shared[prefixes] = (int32_t)i + 1;
    b->cu_seqlens[i] = (int32_t)at;
    b->cu_rows[i] = (int32_t)b->m;
    lay(b, s, s->shared, s->n, at);
    if (s->n > b->reach) b->reach = s->n;
    at += s->n - s->shared;
  }
  if (prefixes == 0) b->cu_shared[0] = 0;
  b->cu_seqlens[B] = (int32_t)at;
  b->cu_rows[B] = (int32_t)b->m;
}
