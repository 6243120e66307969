// sample.c - tokens drawn from logits: filters against a sort, the draw against a running sum, both in double.
#include "harness.h"

enum { V = 700, TOP = 5 };

typedef struct setting {
  float temperature, top_p, min_p, penalty;
  int64_t top_k;
} setting;

static const setting settings[] = {
  {0, 1, 0, 1, 0},     {1, 1, 0, 1, 0},      {0.7f, 1, 0, 1, 1},     {1.3f, 1, 0, 1.2f, 7}, {1, 0.5f, 0, 1, 0},
  {2, 0.9f, 0, 1, 40}, {1, 1, 0.2f, 1.5f, 0}, {0.5f, 1e-6f, 0, 1, 0}, {1, 1, 1, 1, 0},       {0, 1, 0, 1.4f, 0},
  {1, 0.3f, 0.1f, 0.8f, 9},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static const double *by;
static int compare(const void *a, const void *b) {
  double x = by[*(const int *)a], y = by[*(const int *)b];
  return x > y ? -1 : x < y ? 1 : *(const int *)a - *(const int *)b;
}

// Which tokens may come: the filters' words, by sorting. A bound may be off by what rounding moves it.
static void keep(bool *kept, const double *z, const setting *s) {
  static int order[V];
  for (int j = 0; j < V; j++) order[j] = j, kept[j] = true;
  by = z;
  qsort(order, V, sizeof *order, compare);
  double least = -INFINITY;
  if (s->top_k > 0) least = z[order[s->top_k - 1]];
  if (s->top_p < 1) {
    double total = 0, sum = 0;
    for (int i = 0; i < V && z[order[i]] >= least; i++) total += exp(z[order[i]] - z[order[0]]);
    int i = 0;
    for (; i < V && z[order[i]] >= least && sum < (double)s->top_p * total; i++) sum += exp(z[order[i]] - z[order[0]]);
    if (i > 0 && z[order[i - 1]] > least) least = z[order[i - 1]];
  }
  if (s->min_p > 0) least = fmax(least, z[order[0]] + log((double)s->min_p));
  least = fmin(least, z[order[0]]);
  for (int j = 0; j < V; j++) kept[j] = z[j] >= least - 1e-6;
}

EVERYWHERE(sample) {
  static const int32_t seen_ids[] = {3, 650, 20}, bias_ids[] = {5, 699};
  static const float biases[] = {2.5f, -1};
  cft_dtype wide = sum_dtype(dtype);
  int32_t cu_seen[SETTINGS + 1] = {0}, seen_id[3 * SETTINGS], cu_bias[SETTINGS + 1] = {0}, bias_id[2 * SETTINGS];
  float bias[2 * SETTINGS], figures[4 * SETTINGS];
  int64_t keys[4 * SETTINGS];
  for (int i = 0; i < SETTINGS; i++) {
    for (int j = 0; j < 3; j++) seen_id[3 * i + j] = seen_ids[j];
    for (int j = 0; j < 2; j++) bias_id[2 * i + j] = bias_ids[j], bias[2 * i + j] = biases[j];
    cu_seen[i + 1] = 3 * (i + 1), cu_bias[i + 1] = 2 * (i + 1);
    memcpy(figures + 4 * i, &settings[i], 4 * sizeof(float));
    keys[4 * i] = 77 + i, keys[4 * i + 1] = i % 3, keys[4 * i + 2] = 5 * i, keys[4 * i + 3] = settings[i].top_k;
  }
  void *logits = numbers(SETTINGS * V, dtype);
  for (int64_t i = 0; i < SETTINGS * V; i++) put(logits, dtype, i, 4 * get(logits, dtype, i) + number() / 8);
  put(logits, dtype, 11, -INFINITY);
  int32_t *token = output(SETTINGS, CFT_I32, 0), *top = output(SETTINGS * TOP, CFT_I32, 0);
  void *logprob = output(SETTINGS, wide, 0), *top_logprob = output(SETTINGS * TOP, wide, 0);
  cft_sample_args a = {.token = token, .logprob = logprob, .top = top, .top_logprob = top_logprob, .logits = logits,
                       .numbers = figures, .keys = keys, .cu_seen = cu_seen, .seen = seen_id, .cu_bias = cu_bias,
                       .bias_id = bias_id, .bias = bias, .n = SETTINGS, .V = V, .top_n = TOP, .logits_stride = V,
                       .dtype = dtype};
  EXPECT_OK(kernels->sample(cpu, NULL, &a));
  note(token, SETTINGS * sizeof *token);
  note(logprob, SETTINGS * cft_dtype_bytes(wide));
  note(top, SETTINGS * TOP * sizeof *top);
  for (int i = 0; i < SETTINGS; i++) {
    double x[V], z[V], total = 0;
    for (int j = 0; j < V; j++) x[j] = get(logits, dtype, i * V + j), total += exp(x[j]);
    for (int j = 0; j < V; j++) z[j] = x[j];
    for (int j = 0; j < 3; j++) {
      double *p = z + seen_ids[j], by_penalty = (double)settings[i].penalty;
      *p = *p > 0 ? *p / by_penalty : *p * by_penalty;
    }
    for (int j = 0; j < 2; j++) z[bias_ids[j]] += (double)biases[j];
    EXPECT(token[i] >= 0 && token[i] < V);
    if (settings[i].temperature == 0) {
      for (int j = 0; j < V; j++) EXPECT(z[j] < z[token[i]] || (z[j] == z[token[i]] && j >= token[i]));
    } else {
      bool kept[V];
      for (int j = 0; j < V; j++) z[j] /= (double)settings[i].temperature;
      keep(kept, z, &settings[i]);
      EXPECT(kept[token[i]]);
    }
    EXPECT_NEAR(logprob, i, x[token[i]] - log(total), 8, wide, wide);
    // The largest, in order; what is not among them is no larger.
    for (int j = 0; j < TOP; j++) {
      int32_t id = top[i * TOP + j];
      EXPECT(id >= 0 && id < V);
      EXPECT_NEAR(top_logprob, i * TOP + j, x[id] - log(total), 8, wide, wide);
      if (j > 0) {
        int32_t before = top[i * TOP + j - 1];
        EXPECT(x[before] > x[id] || (x[before] == x[id] && before < id));
      }
    }
    int larger = 0;
    for (int j = 0; j < V; j++) larger += x[j] > x[top[i * TOP + TOP - 1]];
    EXPECT(larger < TOP);
  }
  // A row alone is what it was among others.
  for (int i = 0; i < SETTINGS; i++) {
    int32_t alone[1], three[] = {0, 3}, two[] = {0, 2};
    cft_sample_args b = a;
    b.token = alone, b.logits = (char *)logits + (size_t)(i * V) * cft_dtype_bytes(dtype), b.numbers = figures + 4 * i;
    b.keys = keys + 4 * i, b.cu_seen = three, b.cu_bias = two, b.n = 1;
    EXPECT_OK(kernels->sample(cpu, NULL, &b));
    EXPECT_INT(alone[0], token[i]);
  }
}

EVERYWHERE(sample_of_what_is_no_distribution) {
  float figures[8] = {0, 1, 0, 1, 1, 1, 0, 1};
  int64_t keys[8] = {0};
  int32_t none[3] = {0}, token[2];
  double bad[] = {NAN, INFINITY, -INFINITY};
  for (int k = 0; k < 3; k++) {
    void *logits = constant(2 * 33, dtype, bad[k] == -INFINITY ? -INFINITY : 0), *logprob = output(2, sum_dtype(dtype), 0);
    put(logits, dtype, 20, bad[k]), put(logits, dtype, 33 + 20, bad[k]);
    RUN(sample, (cft_sample_args){.token = token, .logprob = logprob, .logits = logits, .numbers = figures, .keys = keys,
                                  .cu_seen = none, .seen = none, .cu_bias = none, .bias_id = none, .n = 2, .V = 33,
                                  .logits_stride = 33, .dtype = dtype});
    EXPECT_INT(token[0], -1);
    EXPECT_INT(token[1], -1);
  }
}

TEST_MAIN()
