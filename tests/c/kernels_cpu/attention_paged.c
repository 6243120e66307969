// attention_paged.c - attention over keys in pages: the bits of attention_fwd over the same keys in rows, whatever the
// order of the pages, whichever part of a sequence's queries is asked, and however many threads share one's keys.
#include "harness.h"

enum { H = 6, K = 2, B = 4, PAGE = 32 };
static const int32_t keys_of[B] = {1, 33, 96, 2400}, queries_of[B] = {1, 33, 5, 41};

// Rows of sequence b, key j: in rows behind each other, and in pages that lie scattered.
static int64_t row_of(int b, int64_t j) {
  int64_t row = j;
  for (int i = 0; i < b; i++) row += keys_of[i];
  return row;
}

static void check_width(cft_dtype dtype, int D) {
  const int WIDTH = 2 * K * D;
  size_t size = cft_dtype_bytes(dtype);
  int32_t cu_q[B + 1] = {0}, cu_k[B + 1] = {0}, cu_pages[B + 1] = {0}, pages[96];
  for (int b = 0; b < B; b++) {
    cu_q[b + 1] = cu_q[b] + queries_of[b], cu_k[b + 1] = cu_k[b] + keys_of[b];
    cu_pages[b + 1] = cu_pages[b] + (keys_of[b] + PAGE - 1) / PAGE;
  }
  int32_t count = cu_pages[B];
  for (int32_t i = 0; i < count; i++) pages[i] = count - 1 - i;
  void *q = numbers(cu_q[B] * H * D, dtype), *k = numbers(cu_k[B] * WIDTH, dtype);
  void *paged = constant(count * PAGE * WIDTH, dtype, NAN);  // what is behind a sequence's end must not be read
  for (int b = 0; b < B; b++)
    for (int64_t j = 0; j < keys_of[b]; j++)
      memcpy((char *)paged + (pages[cu_pages[b] + j / PAGE] * PAGE + j % PAGE) * WIDTH * (int64_t)size,
             (char *)k + row_of(b, j) * WIDTH * (int64_t)size, WIDTH * size);
  void *o = output(cu_q[B] * H * D, dtype, 0), *want = output(cu_q[B] * H * D, dtype, 0);
  void *lse = output(cu_q[B] * H, sum_dtype(dtype), 0);
  RUN(attention_fwd, (cft_attention_args){
    .o = want, .lse = lse, .q = q, .k = k, .v = (char *)k + K * D * size, .cu_q = cu_q, .cu_k = cu_k,
    .nq = cu_q[B], .nk = cu_k[B], .B = B, .longest_q = 41, .longest_k = 2400, .H = H, .K = K, .D = D,
    .o_stride = H * D, .q_stride = H * D, .k_stride = WIDTH, .v_stride = WIDTH, .scale = 0.3, .causal = 1,
    .dtype = dtype});
  cft_attention_paged_args a = {
    .o = o, .q = q, .k = paged, .v = (char *)paged + K * D * size, .cu_q = cu_q, .cu_pages = cu_pages, .pages = pages,
    .k_len = keys_of, .nq = cu_q[B], .B = B, .page = PAGE, .longest_q = 41, .longest_k = 2400, .keys = 100000, .H = H,
    .K = K, .D = D, .o_stride = H * D, .q_stride = H * D, .k_stride = WIDTH, .v_stride = WIDTH, .scale = 0.3,
    .dtype = dtype};
  EXPECT_OK(kernels->attention_paged(cpu, NULL, &a));
  note(o, (size_t)(cu_q[B] * H * D) * size);
  EXPECT(memcmp(o, want, (size_t)(cu_q[B] * H * D) * size) == 0);

  // The last query of each sequence alone, as in decoding: of all, and of so few that threads share their keys.
  size_t row = (size_t)(H * D) * size;
  static const int32_t one[B + 1] = {0, 1, 2, 3, 4}, subsets[][2] = {{0, 4}, {0, 1}, {1, 1}, {2, 1}, {3, 1}, {2, 2}, {0, 3}};
  for (size_t s = 0; s < sizeof subsets / sizeof *subsets; s++) {
    int32_t from = subsets[s][0], count = subsets[s][1];
    char *last = array(count * H * D, dtype), *alone = output(count * H * D, dtype, 0);
    for (int b = 0; b < count; b++) memcpy(last + (size_t)b * row, (char *)q + (size_t)(cu_q[from + b + 1] - 1) * row, row);
    a.o = alone, a.q = last, a.cu_q = one, a.nq = a.B = count, a.longest_q = 1;
    a.cu_pages = cu_pages + from, a.k_len = keys_of + from;
    EXPECT_OK(kernels->attention_paged(cpu, NULL, &a));
    for (int b = 0; b < count; b++)
      EXPECT(memcmp(alone + (size_t)b * row, (char *)want + (size_t)(cu_q[from + b + 1] - 1) * row, row) == 0);
  }
}

// A width that needs padding, and one that does not.
EVERYWHERE(attention_paged) {
  check_width(dtype, 40);
  check_width(dtype, 64);
}

TEST_MAIN()
