// threads.c - one OpenMP pool, entered from one compute thread.
#include <omp.h>

#include "cpu.h"

enum { MAX_THREADS = 1024 };

// One thread does this in 10 to 15 us. Others that still spin join within 2, but once asleep they
// take 50, and hundreds where the machine is busy. Tiny models live under this line.
int64_t cft_cpu_worth_waking = 1 << 17;

static int threads;  // 0 = not asked yet

int cft_cpu_threads(void) {
  if (threads == 0) threads = (int)cpu_min(omp_get_max_threads(), MAX_THREADS);
  return threads;
}

cft_status cft_cpu_set_threads(int n) {
  if (n < 1 || n > MAX_THREADS)
    return cft_fail(CFT_E_ARG, "threads: %d, wanted 1 to %d", n, MAX_THREADS);
  threads = n;
  omp_set_num_threads(n);  // oneDNN asks OpenMP
  cft_cpu_describe();
  return CFT_OK;
}

int cft_cpu_team(int64_t work) { return work < cft_cpu_worth_waking ? 1 : cft_cpu_threads(); }
