// threads.c - one OpenMP pool, entered from one compute thread.
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu.h"

enum { MAX_THREADS = 1024 };

// One thread does this in 10 to 15 us. Others that still spin join within 2, but once asleep they
// take 50, and hundreds where the machine is busy. Tiny models live under this line.
int64_t cft_cpu_worth_waking = 1 << 17;

static int threads;  // 0 = not asked yet

// Processors that a container's quota is worth, of which OpenMP knows nothing: it would start a
// thread for each processor of the machine, to be stopped most of the time. 0 = no quota.
static int quota(void) {
  static const char *const files[][2] = {
      {"/sys/fs/cgroup/cpu.max", NULL},  // version 2: "quota period", version 1: a file for each
      {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"}};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    double microseconds[2] = {0, 0};
    int found = 0;
    for (int j = 0; j < 2 && files[i][j] != NULL; j++) {
      FILE *f = fopen(files[i][j], "r");
      if (f == NULL) break;
      while (found < 2 && fscanf(f, "%lf", &microseconds[found]) == 1) found++;
      fclose(f);
    }
    if (found == 2 && microseconds[0] > 0 && microseconds[1] > 0)
      return (int)ceil(microseconds[0] / microseconds[1]);
  }
  return 0;
}

int cft_cpu_threads(void) {
  if (threads == 0) {
    int n = (int)cpu_min(omp_get_max_threads(), MAX_THREADS), most = quota();
    if (most > 0 && most < n && getenv("OMP_NUM_THREADS") == NULL) omp_set_num_threads(n = most);
    threads = n;
  }
  return threads;
}

cft_status cft_cpu_take_threads(int n) {
  if (n < 1 || n > MAX_THREADS)
    return cft_fail(CFT_E_ARG, "threads: %d, wanted 1 to %d", n, MAX_THREADS);
  threads = n;
  omp_set_num_threads(n);  // oneDNN asks OpenMP
  return CFT_OK;
}

int cft_cpu_team(int64_t work) { return work < cft_cpu_worth_waking ? 1 : cft_cpu_threads(); }
