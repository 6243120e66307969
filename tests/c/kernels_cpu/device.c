// device.c - the CPU as a device: memory, copies, threads, instruction sets.
#include <pthread.h>

#include "harness.h"

TEST(unknown_dtypes_have_no_kernel) {
  cpu = cft_cpu_device();
  float x[4] = {0};
  cft_softmax_args a = {x, x, 1, 4, CFT_I64};
  EXPECT_FAILS(cpu->kernels->softmax_fwd(cpu, NULL, &a), CFT_E_UNSUPPORTED,
               "no cpu kernel for softmax_fwd in i64");
  EXPECT_FAILS(cpu->kernels->unary(cpu, NULL, &(cft_unary_args){x, x, 4, 99, 1, 0, CFT_F32}),
               CFT_E_ARG, "99");
  EXPECT_FAILS(
      cpu->kernels->binary(cpu, NULL, &(cft_binary_args){x, x, x, 1, 4, 4, 1, 99, 0, CFT_F32}),
      CFT_E_ARG, "99");
}

TEST(instruction_sets_are_named) {
  cpu = cft_cpu_device();
  EXPECT_FAILS(cft_cpu_set_isa("sse9"), CFT_E_ARG, "sse9");
  EXPECT_OK(cft_cpu_set_isa("base"));
  EXPECT_STR(cft_cpu_isa(), "base");
  EXPECT_OK(cft_cpu_set_threads(1));
  EXPECT(strstr(cpu->description, "1 thread, ") == cpu->description);
  EXPECT_OK(cft_cpu_set_threads(3));
  EXPECT(strstr(cpu->description, "3 threads, ") == cpu->description);
  EXPECT_INT(cft_cpu_threads(), 3);
  EXPECT_FAILS(cft_cpu_set_threads(0), CFT_E_ARG, "wanted 1 to 1024");
  EXPECT_FAILS(cft_cpu_set_threads(1025), CFT_E_ARG, "wanted 1 to 1024");
  EXPECT_INT(cft_cpu_threads(), 3);
  EXPECT_OK(cft_cpu_set_isa(NULL));
  EXPECT_OK(cft_cpu_set_threads(2));
}

TEST(memory_is_counted) {
  cpu = cft_cpu_device();
  cft_memory_use use;
  cpu->memory(cpu, &use, 1);
  EXPECT_INT(use.total, 0);
  EXPECT(use.limit > 1 << 26);
  void *a, *b, *none;
  EXPECT_OK(cpu->alloc(cpu, &a, 1000, CFT_MEM_PARAM));
  EXPECT_OK(cpu->alloc(cpu, &b, 3 << 20, CFT_MEM_GRAD));
  EXPECT_OK(cpu->alloc(cpu, &none, 0, CFT_MEM_OTHER));
  EXPECT(a && b && none && (uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
  memset(a, 1, 1000), memset(b, 1, 3 << 20);
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.bytes[CFT_MEM_PARAM], 1000);
  EXPECT_INT(use.bytes[CFT_MEM_GRAD], 3 << 20);
  EXPECT_INT(use.total, 1000 + (3 << 20));
  cpu->free(cpu, b, 3 << 20, CFT_MEM_GRAD);
  cpu->free(cpu, none, 0, CFT_MEM_OTHER);
  cpu->memory(cpu, &use, 1);
  EXPECT_INT(use.total, 1000);
  EXPECT_INT(use.peak, 1000);
  EXPECT_OK(cpu->alloc(cpu, &b, 500, CFT_MEM_CACHE));
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.total, 1000);  // what is kept for reuse is not in use
  EXPECT(use.bytes[CFT_MEM_CACHE] >= 500);
  cpu->free(cpu, b, 500, CFT_MEM_CACHE);
  cpu->free(cpu, a, 1000, CFT_MEM_PARAM);
  cpu->free(cpu, NULL, 0, CFT_MEM_OTHER);
  cpu->trim(cpu);
  cpu->memory(cpu, &use, 1);
  EXPECT_INT(use.total, 0);
  EXPECT_INT(use.reserved, 0);
  EXPECT_INT(use.bytes[CFT_MEM_CACHE], 0);
}

TEST(memory_runs_out_with_a_message) {
  cpu = cft_cpu_device();
  cft_memory_use use;
  cpu->memory(cpu, &use, 0);
  void *p;
  EXPECT_FAILS(cpu->alloc(cpu, &p, (size_t)use.limit + 1, CFT_MEM_PARAM), CFT_E_OOM, "in use of");
  EXPECT(p == NULL);
  EXPECT_FAILS(cpu->alloc(cpu, &p, SIZE_MAX, CFT_MEM_PARAM), CFT_E_OOM, "in use of");
  cft_cpu_fail_alloc(2);
  void *q;
  EXPECT_OK(cpu->alloc(cpu, &p, 64, CFT_MEM_PARAM));
  EXPECT_FAILS(cpu->alloc(cpu, &q, 64, CFT_MEM_PARAM), CFT_E_OOM, "no memory for 64 bytes");
  EXPECT_OK(cpu->alloc(cpu, &q, 64, CFT_MEM_PARAM));
  cpu->free(cpu, p, 64, CFT_MEM_PARAM);
  cpu->free(cpu, q, 64, CFT_MEM_PARAM);
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.total, 0);
}

// Blocks of many sizes come and go: none overlap, and in the end all memory is one piece again.
typedef struct churn {
  uint64_t state;
  int64_t wrong;
} churn;

static void *churning(void *arg) {
  enum { SLOTS = 64, ROUNDS = 20000 };
  churn *c = arg;
  struct {
    uint8_t *p;
    size_t bytes;
    uint8_t mark;
  } slots[SLOTS] = {{0}};
  for (int round = 0; round < ROUNDS + SLOTS; round++) {
    c->state = c->state * 6364136223846793005u + 1442695040888963407u;
    uint64_t r = c->state >> 20;
    int i = round < ROUNDS ? (int)(r % SLOTS) : round - ROUNDS;
    if (slots[i].p) {
      size_t n = slots[i].bytes;
      if (n && (slots[i].p[0] != slots[i].mark || slots[i].p[n - 1] != slots[i].mark)) c->wrong++;
      cpu->free(cpu, slots[i].p, n, CFT_MEM_ACTIVATION);
      slots[i].p = NULL;
    } else if (round < ROUNDS) {
      size_t n = slots[i].bytes = (size_t)(r >> 8) % ((size_t)1 << (r >> 32) % 21);
      int zeros = r >> 40 & 1;
      if ((zeros ? cpu->alloc_zeros : cpu->alloc)(cpu, (void **)&slots[i].p, n,
                                                  CFT_MEM_ACTIVATION) != CFT_OK) {
        c->wrong++;
        continue;
      }
      for (size_t k = 0; zeros && k < n; k++) c->wrong += slots[i].p[k] != 0;
      slots[i].mark = (uint8_t)(r | 1);
      memset(slots[i].p, slots[i].mark, n);
    }
  }
  return NULL;
}

TEST(memory_survives_threads) {
  cpu = cft_cpu_device();
  pthread_t threads[3];
  churn c[3] = {{1, 0}, {2, 0}, {3, 0}};
  for (int i = 0; i < 3; i++) EXPECT_INT(pthread_create(&threads[i], NULL, churning, &c[i]), 0);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 3; i++) EXPECT_INT(c[i].wrong, 0);
  cft_memory_use use;
  cpu->trim(cpu);
  cpu->memory(cpu, &use, 1);
  EXPECT_INT(use.total, 0);
  EXPECT_INT(use.reserved, 0);  // one free block in each region, or trim had kept it
}

// A step asks for the same sizes in the same order: the second takes no more from the system.
TEST(memory_is_used_again) {
  cpu = cft_cpu_device();
  int64_t reserved = 0;
  for (int step = 0; step < 5; step++) {
    enum { N = 40 };
    void *p[N];
    size_t bytes[N];
    state = 99;
    for (int i = 0; i < N; i++) {
      bytes[i] = (size_t)below(8 << 20);
      EXPECT_OK(cpu->alloc(cpu, &p[i], bytes[i], CFT_MEM_ACTIVATION));
    }
    for (int i = 0; i < N; i++)
      cpu->free(cpu, p[(i * 7) % N], bytes[(i * 7) % N], CFT_MEM_ACTIVATION);
    cft_memory_use use;
    cpu->memory(cpu, &use, 0);
    if (step > 0) EXPECT_INT(use.reserved, reserved);
    reserved = use.reserved;
  }
  cpu->trim(cpu);
}

// Each instruction set has its burst, and none leaves the processor's state changed.
TEST(bursts) {
  cpu = cft_cpu_device();
  const char *sets[] = {"base", "avx2", "avx512", "avx512bf16", "amx"};
  for (int i = 0; i < 5; i++) {
    if (!cft_cpu_has(sets[i])) continue;
    EXPECT_OK(cft_cpu_set_isa(sets[i]));
    EXPECT(cft_cpu_burst(CFT_F32) > 1e7);
    EXPECT(cft_cpu_burst(CFT_BF16) > 1e7);
  }
  EXPECT_OK(cft_cpu_set_isa(NULL));
}

TEST(notes_wait_until_they_are_asked_for) {
  while (cft_next_note() != NULL) continue;
  cft_note("a %s of %d", "note", 1);
  cft_note("a second");
  cft_note("a %s of %d", "note", 1);  // it waits already
  EXPECT_STR(cft_next_note(), "a note of 1");
  cft_note("a note of 1");  // said before, and true again
  EXPECT_STR(cft_next_note(), "a second");
  EXPECT_STR(cft_next_note(), "a note of 1");
  EXPECT(cft_next_note() == NULL);
}

TEST(copies) {
  cpu = cft_cpu_device();
  EXPECT(cpu->stream(cpu) == NULL);
  for (int64_t bytes = 0; bytes < 2000000; bytes = bytes * 7 + 3) {
    uint8_t *host = array(bytes, CFT_U8), *back = array(bytes, CFT_U8), *a = array(bytes, CFT_U8),
            *b = array(bytes, CFT_U8);
    for (int64_t i = 0; i < bytes; i++) host[i] = (uint8_t)below(256);
    EXPECT_OK(cpu->upload(cpu, NULL, a, host, (size_t)bytes));
    EXPECT_OK(cpu->copy(cpu, NULL, b, a, (size_t)bytes));
    EXPECT_OK(cpu->download(cpu, NULL, back, b, (size_t)bytes));
    EXPECT_OK(cpu->sync(cpu));
    EXPECT(!memcmp(back, host, (size_t)bytes));
    EXPECT_OK(cpu->zero(cpu, NULL, b, (size_t)bytes));
    for (int64_t i = 0; i < bytes; i++) EXPECT(b[i] == 0);
    free_arrays();
  }
}

TEST_MAIN()
