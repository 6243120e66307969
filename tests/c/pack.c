// pack.c - orders that are permutations, packs that fit, batches laid out by hand.
#include "cft_batch.h"
#include "test.h"

// ---- order -------------------------------------------------------------------------------------

TEST(order_is_a_permutation) {
  static const int64_t sizes[] = {1, 2, 3, 7, 255, 256, 257, 1000, 4097, 50000};
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; ++k) {
    int64_t n = sizes[k];
    for (uint64_t epoch = 0; epoch < 3; ++epoch) {
      char *seen = calloc(1, (size_t)n);
      EXPECT(seen != NULL);
      for (int64_t i = 0; i < n; ++i) {
        int64_t to = cft_order_at(17, epoch, i, n);
        if (to < 0 || to >= n || seen[to]) {
          free(seen);
          TEST_FAIL("place %" PRId64 " of %" PRId64 " goes to %" PRId64, i, n, to);
        }
        seen[to] = 1;
      }
      free(seen);
    }
  }
  EXPECT_INT(cft_order_at(1, 1, 5, 5), -1);
  EXPECT_INT(cft_order_at(1, 1, -1, 5), -1);
  EXPECT_INT(cft_order_at(1, 1, 0, 0), -1);
}

// Runs are resumed by newer programs: these values must never change.
TEST(order_stays_what_it_is) {
  static const int64_t want[] = {806, 986, 930, 496, 485, 977, 576, 729};
  for (int64_t i = 0; i < 8; ++i) EXPECT_INT(cft_order_at(42, 3, i, 1000), want[i]);
  EXPECT_INT(cft_order_at(UINT64_MAX, 1, (int64_t)1 << 61, ((int64_t)1 << 62) - 1),
             1241145784769877043);
}

// Chi-square of where place 0 goes, over seeds and over epochs; and all 24 orders of four things.
TEST(order_is_even) {
  for (int over_epochs = 0; over_epochs < 2; ++over_epochs) {
    enum { N = 50, ROUNDS = 20000 };
    int counts[N] = {0}, orders[256] = {0};
    for (uint64_t r = 0; r < ROUNDS; ++r) {
      uint64_t seed = over_epochs ? 7 : r, epoch = over_epochs ? r : 7;
      ++counts[cft_order_at(seed, epoch, 0, N)];
      int64_t a = cft_order_at(seed, epoch, 0, 4), b = cft_order_at(seed, epoch, 1, 4),
              c = cft_order_at(seed, epoch, 2, 4);
      ++orders[a << 4 | b << 2 | c];
    }
    double chi = 0, expected = (double)ROUNDS / N;
    for (int i = 0; i < N; ++i) chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    EXPECT(chi < 85);  // 49 degrees of freedom: above 85.4 once in a thousand
    int kinds = 0;
    chi = 0, expected = ROUNDS / 24.0;
    for (int i = 0; i < 256; ++i)
      if (orders[i]) ++kinds, chi += (orders[i] - expected) * (orders[i] - expected) / expected;
    EXPECT_INT(kinds, 24);
    EXPECT(chi < 49.7);  // 23 degrees of freedom, once in a thousand
  }
}

// Neighbours do not stay neighbours: the step from one place to the next is as long as it is
// between places drawn at random, a third of n.
TEST(order_tears_neighbours_apart) {
  enum { N = 10000 };
  double sum = 0;
  for (int64_t i = 1; i < N; ++i)
    sum += fabs((double)(cft_order_at(1, 0, i, N) - cft_order_at(1, 0, i - 1, N)));
  EXPECT_CLOSE(sum / (N - 1) / N, 1.0 / 3, 0.02);
}

// ---- packing -----------------------------------------------------------------------------------

TEST(packs_by_hand) {
  static const int64_t lengths[] = {4, 8, 1, 4, 2, 1};
  int64_t pack[6], packs;
  EXPECT_OK(cft_pack_plan(pack, &packs, lengths, 6, 10));
  EXPECT_INT(packs, 2);  // 4 + 4 + 2 and 8 + 1 + 1
  static const int64_t want[] = {0, 1, 1, 0, 0, 1};
  for (int i = 0; i < 6; ++i) EXPECT_INT(pack[i], want[i]);
}

TEST(packs_any_samples) {
  enum { N = 3000, BUDGET = 2048 };
  int64_t *lengths = malloc(N * sizeof *lengths), *pack = malloc(N * sizeof *pack), total = 0,
          packs;
  EXPECT(lengths && pack);
  uint64_t seed = 5;
  for (int i = 0; i < N; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    total += lengths[i] = 1 + (int64_t)((seed >> 33) % BUDGET);
  }
  EXPECT_OK(cft_pack_plan(pack, &packs, lengths, N, BUDGET));
  int64_t *fill = calloc((size_t)packs, sizeof *fill), next = 0;
  EXPECT(fill != NULL);
  for (int i = 0; i < N; ++i) {
    EXPECT(pack[i] >= 0 && pack[i] <= next);
    if (pack[i] == next) ++next;  // numbered as they are met
    fill[pack[i]] += lengths[i];
  }
  EXPECT_INT(next, packs);
  for (int64_t p = 0; p < packs; ++p) EXPECT(fill[p] <= BUDGET);
  // Lengths are even over (0, budget]: best fit fills nearly everything.
  EXPECT((double)total / ((double)packs * BUDGET) > 0.98);
  free(fill);
  free(pack);
  free(lengths);
}

TEST(what_does_not_fit_a_pack) {
  int64_t pack[2], packs;
  EXPECT_FAILS(cft_pack_plan(pack, &packs, (int64_t[]){3, 11}, 2, 10), CFT_E_ARG,
               "sample 1 has 11 tokens; 1 to 10 fit a pack");
  EXPECT_FAILS(cft_pack_plan(pack, &packs, (int64_t[]){0}, 1, 10), CFT_E_ARG, "sample 0 has 0");
  EXPECT_OK(cft_pack_plan(pack, &packs, NULL, 0, 10));
  EXPECT_INT(packs, 0);
}

// ---- arrays ------------------------------------------------------------------------------------

static void expect_ints(const int32_t *got, const int32_t *want, int64_t n) {
  for (int64_t i = 0; i < n; ++i) EXPECT_INT(got[i], want[i]);
}

#define INTS(got, n, ...) expect_ints(got, (const int32_t[]){__VA_ARGS__}, n)

static cft_status new_batch(cft_batch **out, const cft_batch_sample *samples, int64_t B) {
  size_t bytes;
  CFT_TRY(cft_batch_bytes(&bytes, samples, B));
  *out = malloc(sizeof **out + bytes);
  if (!*out) return CFT_E_OOM;
  cft_batch_lay(*out, samples, B);
  return CFT_OK;
}

TEST(batch_by_hand) {
  static const int32_t a[] = {10, 11, 12, 13, 14}, b[] = {20}, c[] = {30, 31};
  static const cft_batch_span of_a[] = {{2, 0, 1}, {2, 1, 4}, {1, 3, 5}}, of_b[] = {{1, 1, 4}},
                              of_c[] = {{2, 2, 4}};
  cft_batch_sample samples[] = {
      {a, 5, of_a, 3, 1, 0}, {b, 1, of_b, 1, 1, 0}, {c, 2, of_c, 1, 0.25, 0}};
  cft_batch *x = NULL;
  EXPECT_OK(new_batch(&x, samples, 3));
  EXPECT_INT(x->n, 8);
  EXPECT_INT(x->sequences, 3);
  EXPECT_INT(x->longest, 5);
  INTS(x->ids, 8, 10, 11, 12, 13, 14, 20, 30, 31);
  INTS(x->targets, 8, 11, 12, 13, 14, -1, -1, 31, -1);
  INTS(x->positions, 8, 0, 1, 2, 3, 4, 0, 0, 1);
  INTS(x->cu_seqlens, 4, 0, 5, 6, 8);
  static const float weights[] = {0, 1, 1, 3, 0, 0, 0.5, 0};
  static const uint8_t kinds[] = {1, 4, 4, 5, 0, 0, 4, 0};
  for (int i = 0; i < 8; ++i) EXPECT_CLOSE(x->weights[i], weights[i], 0);
  for (int i = 0; i < 8; ++i) EXPECT_INT(x->kinds[i], kinds[i]);
  EXPECT_CLOSE(x->weight, 5.5, 0);
  EXPECT_INT(x->m, 4);
  INTS(x->rows, 4, 1, 2, 3, 6);
  INTS(x->row_positions, 4, 1, 2, 3, 0);
  INTS(x->cu_rows, 4, 0, 3, 3, 4);
  EXPECT_INT(x->prefixes, 0);
  EXPECT_INT(x->reach, 5);
  EXPECT_INT(x->saved, 0);
  INTS(x->cu_prefix, 1, 0);
  INTS(x->cu_shared, 1, 0);
  free(x);
}

// Two prefixes, of 3 tokens behind which two samples stand, and of 2 that are other ones and have
// one; then a sample alone.
TEST(shared_prefixes_by_hand) {
  static const int32_t a[] = {10, 11, 12, 13, 14}, b[] = {10, 11, 12, 15, 16, 17},
                       c[] = {20, 21, 22, 23}, d[] = {10, 11, 12};
  static const cft_batch_span of_a[] = {{4, 0, 1}, {1, 1, 4}}, of_b[] = {{4, 0, 1}, {2, 2, 5}},
                              of_c[] = {{3, 0, 1}, {1, 1, 4}}, of_d[] = {{3, 1, 4}};
  cft_batch_sample samples[] = {
      {a, 5, of_a, 2, 1, 3}, {b, 6, of_b, 2, 1, 3}, {c, 4, of_c, 2, 1, 2}, {d, 3, of_d, 1, 1, 0}};
  cft_batch *x = NULL;
  EXPECT_OK(new_batch(&x, samples, 4));
  EXPECT_INT(x->n, 3 + 2 + 2 + 3 + 2 + 3);
  EXPECT_INT(x->sequences, 4);
  EXPECT_INT(x->longest, 3);
  EXPECT_INT(x->prefixes, 2);
  EXPECT_INT(x->reach, 6);
  EXPECT_INT(x->saved, 3);
  INTS(x->ids, 15, 10, 11, 12, 20, 21, 13, 14, 15, 16, 17, 22, 23, 10, 11, 12);
  INTS(x->targets, 15, 11, 12, -1, 21, -1, 14, -1, 16, 17, -1, 23, -1, 11, 12, -1);
  INTS(x->positions, 15, 0, 1, 2, 0, 1, 3, 4, 3, 4, 5, 2, 3, 0, 1, 2);
  INTS(x->cu_prefix, 3, 0, 3, 5);
  INTS(x->cu_seqlens, 5, 5, 7, 10, 12, 15);
  INTS(x->cu_shared, 3, 0, 2, 3);
  static const float weights[] = {0, 0, 0, 0, 0, 1, 0, 2, 2, 0, 1, 0, 1, 1, 0};
  static const uint8_t kinds[] = {1, 1, 0, 1, 0, 4, 0, 5, 5, 0, 4, 0, 4, 4, 0};
  for (int i = 0; i < 15; ++i) EXPECT_CLOSE(x->weights[i], weights[i], 0);
  for (int i = 0; i < 15; ++i) EXPECT_INT(x->kinds[i], kinds[i]);
  EXPECT_CLOSE(x->weight, 8, 0);
  EXPECT_INT(x->m, 6);
  INTS(x->rows, 6, 5, 7, 8, 10, 12, 13);
  INTS(x->row_positions, 6, 3, 3, 4, 2, 0, 1);
  INTS(x->cu_rows, 5, 0, 1, 3, 4, 6);
  free(x);
}

// Who names a prefix of the same length and other ids has one of their own.
TEST(prefixes_are_compared) {
  static const int32_t a[] = {1, 2, 3, 4}, b[] = {1, 2, 3, 5}, c[] = {1, 9, 3, 5};
  static const cft_batch_span span[] = {{3, 0, 0}, {1, 1, 0}};
  cft_batch_sample samples[] = {
      {a, 4, span, 2, 1, 2}, {b, 4, span, 2, 1, 2}, {c, 4, span, 2, 1, 2}, {c, 4, span, 2, 1, 1}};
  cft_batch *x = NULL;
  EXPECT_OK(new_batch(&x, samples, 4));
  EXPECT_INT(x->prefixes, 3);
  INTS(x->cu_prefix, 4, 0, 2, 4, 5);
  INTS(x->cu_shared, 4, 0, 2, 3, 4);
  INTS(x->ids, 5, 1, 2, 1, 9, 1);
  free(x);
  EXPECT(cft_batch_hash(a, 3) == cft_batch_hash(b, 3));
  EXPECT(cft_batch_hash(a, 4) != cft_batch_hash(b, 4));
  EXPECT(cft_batch_hash(a, 2) != cft_batch_hash(c, 2));
}

TEST(batch_of_nothing) {
  cft_batch *x = NULL;
  EXPECT_OK(new_batch(&x, NULL, 0));
  EXPECT_INT(x->n, 0);
  EXPECT_INT(x->cu_seqlens[0], 0);
  EXPECT_INT(x->cu_rows[0], 0);
  free(x);
}

TEST(batch_refuses) {
  static const int32_t ids[] = {1, 2, 3};
  static const struct {
    cft_batch_span spans[2];
    int64_t n, count;
    double scale;
    const char *says;
    int64_t shared;
  } cases[] = {
      {{{2, 1, 0}}, 3, 1, 1, "cover 2 of its 3 tokens", 0},
      {{{4, 1, 0}}, 3, 1, 1, "has 4 tokens; 3 are left", 0},
      {{{2, 1, 0}, {0, 1, 0}}, 3, 2, 1, "span 1 of sample 0 has 0 tokens", 0},
      {{{3, -1, 0}}, 3, 1, 1, "a weight of sample 0 is -1", 0},
      {{{3, NAN, 0}}, 3, 1, 1, "a weight of sample 0 is", 0},
      {{{3, INFINITY, 0}}, 3, 1, 1, "a weight of sample 0 is inf", 0},
      {{{3, 1, 0}}, 3, 1, NAN, "is scaled by", 0},
      {{{3, 1, 0}}, 0, 0, 1, "sample 0 has no tokens", 0},
      {{{3, 0, 0}}, 3, 1, 1, "sample 0 shares 3 of its 3 tokens", 3},
      {{{3, 0, 0}}, 3, 1, 1, "sample 0 shares -1 of", -1},
      {{{3, 1, 0}}, 3, 1, 1, "sample 0 shares 1 tokens, but token 1 has loss weight", 1},
      {{{2, 0, 0}, {1, 1, 0}}, 3, 2, 1, "shares 2 tokens, but token 2 has loss weight", 2},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    cft_batch *x = NULL;
    cft_batch_sample s = {
        ids, cases[i].n, cases[i].spans, cases[i].count, cases[i].scale, cases[i].shared};
    EXPECT_FAILS(new_batch(&x, &s, 1), CFT_E_ARG, cases[i].says);
    EXPECT(x == NULL);
  }
  cft_batch *x = NULL;
  static const cft_batch_span span = {INT32_MAX, 1, 0};
  cft_batch_sample huge[] = {{ids, INT32_MAX, &span, 1, 1, 0}, {ids, 1, &span, 1, 1, 0}};
  huge[1].spans = &(cft_batch_span){1, 1, 0};
  EXPECT_FAILS(new_batch(&x, huge, 2), CFT_E_ARG, "sample 1 is past row");
  static const cft_batch_span plain = {3, 0, 0};
  cft_batch_sample late[] = {{ids, 3, &plain, 1, 1, 0}, {ids, 3, &plain, 1, 1, 1}};
  EXPECT_FAILS(new_batch(&x, late, 2), CFT_E_ARG,
               "sample 1 shares a prefix, but the one before it does not");
}

TEST_MAIN()
