// random.c - Philox and its two distributions.
#include "harness.h"

// The first of Random123's published vectors (kat_vectors: philox4x32, 10 rounds, all zero).
EVERYWHERE(philox_is_the_published_one) {
  static const uint32_t words[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  void *y = array(4, dtype);
  RUN(random, (cft_random_args){y, 4, 0, 0, 0, 1, CFT_UNIFORM, dtype});
  for (int i = 0; i < 4; i++) EXPECT_NEAR(y, i, (words[i] >> 8) * 0x1p-24, 0, CFT_F64, dtype);
}

EVERYWHERE(random) {
  enum { N = 100003 };
  void *y = array(N, dtype), *part = array(N, dtype);
  size_t size = cft_dtype_bytes(dtype);
  for (int f = 0; f < 2; f++) {
    cft_random_args a = {y, N, 12345678901234, 7, -1, 3, (cft_distribution)f, dtype};
    RUN(random, a);
    note(y, N * size);
    double sum = 0, squares = 0, cubes = 0, fourth = 0, pairs = 0, low = INFINITY, high = -INFINITY;
    double mean = f ? -1 : 1, deviation = f ? 3 : 4 / sqrt(12);
    for (int64_t i = 0; i < N; i++) {
      double v = (get(y, dtype, i) - mean) / deviation;
      sum += v, squares += v * v, cubes += v * v * v, fourth += v * v * v * v;
      if (i > 0) pairs += v * (get(y, dtype, i - 1) - mean) / deviation;
      low = fmin(low, v), high = fmax(high, v);
    }
    double root = sqrt(N);  // moments to within five of their standard deviations
    EXPECT(fabs(sum / root) < 5);
    EXPECT(fabs(squares / N - 1) < 5 * sqrt(2) / root + 4 * epsilon(dtype));
    EXPECT(fabs(cubes / root) < 5 * sqrt(15));
    EXPECT(fabs(fourth / N - (f ? 3 : 1.8)) < 5 * sqrt(96) / root + 0.01);
    EXPECT(fabs(pairs / root) < 5);
    if (f == CFT_UNIFORM)
      EXPECT(low > -1.7330 && high < 1.7330);
    else
      EXPECT(low < -3.5 && high > 3.5 && low > -6.8 && high < 6.8);
    // A number depends on its place alone, and on seed and counter.
    a.y = part, a.n = 4097;
    RUN(random, a);
    EXPECT(!memcmp(part, y, 4097 * size));
    a.counter++;
    RUN(random, a);
    EXPECT(memcmp(part, y, 64 * size));
    a.counter--, a.seed += 1ull << 32;
    RUN(random, a);
    EXPECT(memcmp(part, y, 64 * size));
    a.f = (cft_distribution)5;
    EXPECT_FAILS(kernels->random(cpu, NULL, &a), CFT_E_ARG, "5");
  }
}

// What f32 draws is what f64 draws, to rounding: gradchecks start from the same weights.
ANYWHERE(random_agrees_between_dtypes) {
  enum { N = 70000 };
  float *x = array(N, dtype);
  double *y = array(N, CFT_F64);
  for (int f = 0; f < 2; f++) {
    RUN(random, (cft_random_args){x, N, 99, 3, 0, 1, (cft_distribution)f, dtype});
    RUN(random, (cft_random_args){y, N, 99, 3, 0, 1, (cft_distribution)f, CFT_F64});
    // A radius near 0 comes from a word near 2^32, of which f32 keeps 24 bits.
    for (int64_t i = 0; i < N; i++) EXPECT(fabs((double)x[i] - y[i]) <= (f ? 4e-4 : 0));
  }
}

TEST_MAIN()
