// attention_paged.c - attention over keys in pages: the bits of attention_fwd over the same keys in rows, whatever the
// order of the pages, and whichever part of a sequence's queries is asked.
#include "harness.h"

enum { H = 6, K = 2, D = 40, B = 4, PAGE = 32, WIDTH = 2 * K * D };
static const int32_t keys_of[B] = {1, 33, 96, 230}, queries_of[B] = {1, 33, 5, 131};

// Rows of sequence b, key j: in rows behind each other, and in pages that lie scattered.
static int64_t row_of(int b, int64_t j) {
  int64_t row = j;
  for (int i = 0; i < b; i++) row += keys_of[i];
  return row;
}

EVERYWHERE(attention_paged) {
  size_t size = cft_dtype_bytes(dtype);
  int32_t cu_q[B + 1] = {0}, cu_k[B + 1] = {0}, cu_pages[B + 1] = {0}, pages[32];
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
    .nq = cu_q[B], .nk = cu_k[B], .B = B, .longest_q = 131, .longest_k = 230, .H = H, .K = K, .D = D,
    .o_stride = H * D, .q_stride = H * D, .k_stride = WIDTH, .v_stride = WIDTH, .scale = 0.3, .causal = 1,
    .dtype = dtype});
  cft_attention_paged_args a = {
    .o = o, .q = q, .k = paged, .v = (char *)paged + K * D * size, .cu_q = cu_q, .cu_pages = cu_pages, .pages = pages,
    .k_len = keys_of, .nq = cu_q[B], .B = B, .page = PAGE, .longest_q = 131, .longest_k = 230, .keys = 40000, .H = H,
    .K = K, .D = D, .o_stride = H * D, .q_stride = H * D, .k_stride = WIDTH, .v_stride = WIDTH, .scale = 0.3,
    .dtype = dtype};
  EXPECT_OK(kernels->attention_paged(cpu, NULL, &a));
  note(o, (size_t)(cu_q[B] * H * D) * size);
  EXPECT(memcmp(o, want, (size_t)(cu_q[B] * H * D) * size) == 0);

  // The last query of each sequence alone, as in decoding.
  int32_t one[B + 1] = {0, 1, 2, 3, 4};
  void *last = array(B * H * D, dtype), *alone = output(B * H * D, dtype, 0);
  for (int b = 0; b < B; b++)
    memcpy((char *)last + b * H * D * (int64_t)size, (char *)q + (cu_q[b + 1] - 1) * H * D * (int64_t)size, H * D * size);
  a.o = alone, a.q = last, a.cu_q = one, a.nq = B, a.longest_q = 1;
  EXPECT_OK(kernels->attention_paged(cpu, NULL, &a));
  for (int b = 0; b < B; b++)
    EXPECT(memcmp((char *)alone + b * H * D * (int64_t)size,
                  (char *)want + (cu_q[b + 1] - 1) * H * D * (int64_t)size, H * D * size) == 0);
}

TEST_MAIN()
