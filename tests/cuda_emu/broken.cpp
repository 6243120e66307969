// broken.cpp - kernels and host sequences with one mistake each. Every one must be caught, in the
// builds that its row names; a case that slips through fails the run. `broken NAME` runs one, to
// see its whole report.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "mma.cuh"

// ---------------------------------------------------------------- help

static void must(cudaError_t e) {
  if (e == cudaSuccess) return;
  fprintf(stderr, "cuda error: %s\n", cudaGetErrorString(e));
  _exit(3);
}

template <class T>
static T *device(size_t n) {
  T *p;
  must(cudaMalloc((void **)&p, n * sizeof(T)));
  return p;
}

static std::vector<float> fetch(const float *p, size_t n) {
  std::vector<float> v(n);
  must(cudaMemcpy(v.data(), p, n * sizeof(float), cudaMemcpyDeviceToHost));
  return v;
}

// What a test does with each result: no NaN, and the same in any order.
template <class F>
static void examine(F f) {
  bool finite = true;
  const bool same = cuda_emu::same_in_any_order(8, [&] {
    auto v = f();
    for (float x : v) finite = finite && x == x;
    return v;
  });
  if (!same) fprintf(stderr, "caught: results differ with the order\n"), abort();
  if (!finite) fprintf(stderr, "caught: NaN from memory that nobody wrote\n"), abort();
}

template <class... P, class... A>
static void examine_kernel(void (*kernel)(P...), unsigned grid, unsigned block, size_t n,
                           A... args) {
  examine([=] {
    float *out = device<float>(n);
    must(cudaMemset(out, 0, n * sizeof(float)));
    must(launch(kernel, grid, block, 1024, nullptr, out, args...));
    return fetch(out, n);
  });
}

static __global__ void fill(float *p, float v, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) p[i] = v;
}
static __global__ void add(float *out, const float *a, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] += a[i];
}

// ---------------------------------------------------------------- barriers

static __global__ void reverse_without_barrier(float *out) {
  __shared__ float s[128];
  s[threadIdx.x] = (float)threadIdx.x;
  out[threadIdx.x] = s[127 - threadIdx.x];
}
static void missing_barrier() { examine_kernel(reverse_without_barrier, 1, 128, 128); }

static __global__ void sum_twice(
    float *out) {  // the second sum writes part[] while the first is still read
  __shared__ float part[4];
  for (int i = 0; i < 2; i++) {
    const float v = warp_sum((float)(threadIdx.x + i));
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    out[threadIdx.x * 2 + i] = part[0] + part[1] + part[2] + part[3];
  }
}
static void missing_second_barrier() { examine_kernel(sum_twice, 1, 128, 256); }

static __global__ void barrier_in_a_branch(float *out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = 1;
}
static void divergent_barrier() { examine_kernel(barrier_in_a_branch, 1, 64, 64); }

static __global__ void return_then_barrier(float *out, int n) {
  if ((int)threadIdx.x >= n) return;
  out[threadIdx.x] = 1;
  __syncthreads();
}
static void early_return() { examine_kernel(return_then_barrier, 1, 64, 64, 50); }

static __global__ void a_barrier_each(float *out) {
  if (threadIdx.x < 32) {
    out[threadIdx.x] = 1;
    __syncthreads();
  } else {
    __syncthreads();
    out[threadIdx.x] = 2;
  }
}
static void two_barriers() { examine_kernel(a_barrier_each, 1, 64, 64); }

static __global__ void neighbours_in_a_warp(float *out) {
  __shared__ float s[32];
  s[threadIdx.x] = (float)threadIdx.x;
  out[threadIdx.x] = s[threadIdx.x ^ 1];  // lanes of one warp, but nothing orders them
}
static void missing_syncwarp() { examine_kernel(neighbours_in_a_warp, 1, 32, 32); }

// ---------------------------------------------------------------- bounds, alignment, undefined
// memory

static __global__ void one_too_many(float *out, int n) {
  for (int i = threadIdx.x; i <= n; i += blockDim.x) out[i] = 1;
}
static void global_bounds() { examine_kernel(one_too_many, 1, 32, 100, 100); }

static __global__ void shared_one_too_many(float *out) {
  __shared__ float s[32];
  float *p = s + 1;
  p[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = p[threadIdx.x];
}
static void shared_bounds() { examine_kernel(shared_one_too_many, 1, 32, 32); }

static __global__ void dynamic_one_too_many(float *out) {  // 1024 bytes are given
  float *s = dynamic_shared<float>();
  s[threadIdx.x * 2 + 194] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x * 2 + 194];
}
static void dynamic_shared_bounds() { examine_kernel(dynamic_one_too_many, 1, 32, 32); }

static __global__ void vectors_from(float *out, int offset) {
  const float4 v = *reinterpret_cast<const float4 *>(out + offset + threadIdx.x % 4 * 4);
  out[32 + threadIdx.x] = v.x + v.y + v.z + v.w;
}
static void misaligned_float4() { examine_kernel(vectors_from, 1, 32, 64, 1); }

static __global__ void sum_of_shared(float *out) {
  __shared__ float s[64];
  if (threadIdx.x < 32) s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x + 1];  // s[32] has no value
}
static void undefined_shared() { examine_kernel(sum_of_shared, 1, 32, 32); }

static __global__ void sum_of_dynamic(float *out) {
  out[threadIdx.x] = dynamic_shared<float>()[threadIdx.x];
}
static void undefined_dynamic_shared() { examine_kernel(sum_of_dynamic, 1, 32, 32); }

static void undefined_global() {
  examine([] {
    float *a = device<float>(64), *out = device<float>(64);  // neither was set
    must(cudaMemset(a, 0, 64 * sizeof(float)));
    must(launch(add, 1, 32, 0, nullptr, out, a, 64));
    return fetch(out, 64);
  });
}

static void use_after_free() {
  examine([] {
    float *a = device<float>(64);
    must(cudaFree(a));
    must(launch(fill, 1, 32, 0, nullptr, a, 1, 64));
    must(cudaDeviceSynchronize());
    return std::vector<float>();
  });
}

// ---------------------------------------------------------------- warps

static __global__ void shuffle_by_half(float *out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(ALL_LANES, (float)threadIdx.x, 1);
}
static void wrong_mask() { examine_kernel(shuffle_by_half, 1, 32, 32); }

static __global__ void shuffle_beyond(float *out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0xffffu, (float)threadIdx.x, 1);
}
static void lane_outside_mask() { examine_kernel(shuffle_beyond, 1, 32, 32); }

static __global__ void odd_block(float *out) { out[threadIdx.x] = warp_sum(1); }
static void half_a_warp() { examine_kernel(odd_block, 1, 48, 48); }

static __global__ void two_masks(float *out) {
  const unsigned mask = threadIdx.x < 8 ? 0xffffffffu : 0x0000ffffu;
  out[threadIdx.x] = __shfl_sync(mask, 1.0f, 0);
}
static void masks_disagree() { examine_kernel(two_masks, 1, 32, 32); }

// ---------------------------------------------------------------- races

static __global__ void last_warp_wins(float *out) {
  __shared__ float s;
  if (threadIdx.x % 32 == 0) s = (float)(threadIdx.x / 32);
  __syncthreads();
  out[threadIdx.x] = s;
}
static void race_of_warps() { examine_kernel(last_warp_wins, 1, 64, 64); }

static __global__ void blocks_add(float *out) {
  if (threadIdx.x == 0) out[0] = out[0] * 0.5f + (float)blockIdx.x;
}
static void race_of_blocks() { examine_kernel(blocks_add, 4, 32, 1); }

static __global__ void last_block_without_fence(float *out, unsigned *finished) {
  out[blockIdx.x] = 1;
  if (atomicAdd(finished, 1u) < gridDim.x - 1) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; i++) sum += out[i];
  out[gridDim.x] = sum;
}
static void missing_fence() {
  examine([] {
    float *out = device<float>(5);
    unsigned *finished = device<unsigned>(1);
    must(cudaMemset(finished, 0, 4));
    must(launch(last_block_without_fence, 4, 1, 0, nullptr, out, finished));
    return fetch(out, 5);
  });
}

static __global__ void float_atomics(float *out) {  // no race, but its sum depends on the order
  atomicAdd(out, threadIdx.x % 2 ? 1e-8f * (float)threadIdx.x : (float)threadIdx.x / 3);
}
static void unordered_sum() { examine_kernel(float_atomics, 3, 64, 1); }

static __global__ void copy_without_wait(float *out, const float *in) {
  __shared__ __align__(16) float s[128];
  copy_async16(s + threadIdx.x * 4, in + threadIdx.x * 4, 16);
  copy_async_commit();
  copy_async_wait<1>();  // lets the newest group be under way; should be 0
  out[threadIdx.x] = s[threadIdx.x * 4];
  copy_async_wait<0>();
}
static void async_copy_not_awaited() {
  examine([] {
    float *in = device<float>(128), *out = device<float>(32);
    must(cudaMemset(in, 0, 128 * sizeof(float)));
    must(launch(copy_without_wait, 1, 32, 0, nullptr, out, in));
    return fetch(out, 32);
  });
}

static __global__ void refill(
    float *out, const float *in) {  // the next tile is fetched while others read this one
  __shared__ __align__(16) float s[256];
  for (int tile = 0; tile < 2; tile++) {
    copy_async16(s + threadIdx.x * 4, in + tile * 256 + threadIdx.x * 4, 16);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    out[tile * 64 + threadIdx.x] = s[255 - threadIdx.x * 4];
  }
}
static void async_copy_too_early() {
  examine([] {
    std::vector<float> host(512);
    for (size_t i = 0; i < host.size(); i++) host[i] = (float)i;
    float *in = device<float>(512), *out = device<float>(128);
    must(cudaMemcpy(in, host.data(), 512 * sizeof(float), cudaMemcpyHostToDevice));
    must(launch(refill, 1, 64, 0, nullptr, out, in));
    return fetch(out, 128);
  });
}

// ---------------------------------------------------------------- host code

struct two_streams {
  cudaStream_t a, b;
  two_streams() {
    must(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    must(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
  }
};

static void missing_event() {
  examine([] {
    two_streams s;
    float *x = device<float>(64), *y = device<float>(64);
    must(cudaMemset(x, 0, 256));
    must(cudaMemset(y, 0, 256));
    must(cudaDeviceSynchronize());
    must(launch(fill, 1, 32, 0, s.a, x, 1, 64));
    must(launch(add, 1, 32, 0, s.b, y, x, 64));  // should wait for s.a
    must(cudaDeviceSynchronize());
    return fetch(y, 64);
  });
}

static void freed_in_another_stream() {
  examine([] {
    two_streams s;
    float *x, *y = device<float>(64);
    cudaEvent_t filled;
    must(cudaEventCreate(&filled));
    must(cudaMallocAsync((void **)&x, 256, s.a));
    must(launch(fill, 1, 32, 0, s.a, x, 1, 64));
    must(cudaEventRecord(filled, s.a));
    must(cudaMemsetAsync(y, 0, 256, s.a));
    must(launch(add, 1, 32, 0, s.a, y, x, 64));
    must(cudaStreamWaitEvent(s.b, filled, 0));  // too little: the addition is still to come
    must(cudaFreeAsync(x, s.b));
    must(cudaDeviceSynchronize());
    return fetch(y, 64);
  });
}

static void host_buffer_reused() {
  examine([] {
    two_streams s;
    float *host, *x = device<float>(64);
    must(cudaMallocHost((void **)&host, 256));
    for (int i = 0; i < 64; i++) host[i] = 1;
    must(cudaMemcpyAsync(x, host, 256, cudaMemcpyHostToDevice, s.a));
    for (int i = 0; i < 64; i++)
      host[i] = 2;  // the next batch, before an event said that the copy is done
    must(cudaDeviceSynchronize());
    return fetch(x, 64);
  });
}

static void host_reads_too_early() {
  examine([] {
    two_streams s;
    float *host, *x = device<float>(64);
    must(cudaMallocHost((void **)&host, 256));
    must(cudaMemset(x, 0, 256));
    must(cudaDeviceSynchronize());
    must(cudaMemcpyAsync(host, x, 256, cudaMemcpyDeviceToHost, s.a));
    return std::vector<float>(host, host + 64);  // should wait first
  });
}

static void host_dereference() {
  float *x = device<float>(64);
  must(cudaMemset(x, 0, 256));
  must(cudaDeviceSynchronize());
  volatile float *p = x;
  if (p[3] == 7) printf("?");
}

static void host_pointer_to_kernel() {
  static float on_host[64];
  must(launch(fill, 1, 32, 0, nullptr, on_host, 1, 64));
  must(cudaDeviceSynchronize());
}

static void copy_out_of_bounds() {
  std::vector<float> host(65);
  float *x = device<float>(64);
  must(cudaMemcpy(x, host.data(), 65 * sizeof(float), cudaMemcpyHostToDevice));
}

static void copy_of_the_wrong_kind() {
  float *x = device<float>(64), *y = device<float>(64);
  must(cudaMemcpy(x, y, 256, cudaMemcpyHostToDevice));
}

static __device__ int depth(int n, volatile char *p) {
  volatile char mine[1000];
  mine[0] = p[0];
  return n == 0 ? mine[0] : depth(n - 1, mine) + mine[0];
}
static __global__ void deep(float *out) {
  volatile char c = 0;
  out[threadIdx.x] = (float)depth(1000, &c);
}
static void stack_overflow() { examine_kernel(deep, 1, 1, 1); }

// ---------------------------------------------------------------- all of them

#define DIFFER "results differ"
#define UNDEF "NaN from memory"
// clang-format off
static const struct broken_case {
  const char *name;
  void (*run)();
  const char *plain, *asan, *check;  // what the report must say in each build; NULL: this build cannot see it
  const char *clang = NULL;          // the same as asan, if NULL; "": not seen
} CASES[] = {
  { "missing_barrier",          missing_barrier,          DIFFER, DIFFER, "shared memory" },
  { "missing_second_barrier",   missing_second_barrier,   DIFFER, DIFFER, "race on shared" },
  { "divergent_barrier",        divergent_barrier,        "divergent barrier", "divergent barrier", "divergent barrier" },
  { "early_return",             early_return,             "has returned", "has returned", "has returned" },
  { "two_barriers",             two_barriers,             "divergent barrier", "divergent barrier", "divergent barrier" },
  { "missing_syncwarp",         missing_syncwarp,         DIFFER, DIFFER, "shared memory" },
  { "global_bounds",            global_bounds,            NULL, "AddressSanitizer", "out of bounds" },
  { "shared_bounds",            shared_bounds,            NULL, "insufficient space", "insufficient space", "AddressSanitizer" },
  { "dynamic_shared_bounds",    dynamic_shared_bounds,    NULL, "AddressSanitizer", "out of bounds" },
  { "misaligned_float4",        misaligned_float4,        NULL, "misaligned address", "misaligned address", "" },
  { "undefined_shared",         undefined_shared,         NULL, NULL, "uninitialised shared" },
  { "undefined_dynamic_shared", undefined_dynamic_shared, UNDEF, UNDEF, "uninitialised shared", NULL },
  { "undefined_global",         undefined_global,         UNDEF, UNDEF, "uninitialised device" },
  { "use_after_free",           use_after_free,           NULL, "AddressSanitizer", "freed" },
  { "wrong_mask",               wrong_mask,               "missing lanes", "missing lanes", "missing lanes" },
  { "lane_outside_mask",        lane_outside_mask,        "takes no part", "takes no part", "takes no part" },
  { "half_a_warp",              half_a_warp,              "wrong mask", "wrong mask", "wrong mask" },
  { "masks_disagree",           masks_disagree,           "wrong mask", "wrong mask", "wrong mask" },
  { "race_of_warps",            race_of_warps,            DIFFER, DIFFER, "race on shared" },
  { "race_of_blocks",           race_of_blocks,           DIFFER, DIFFER, "race on device" },
  { "missing_fence",            missing_fence,            NULL, NULL, "race on device" },
  { "unordered_sum",            unordered_sum,            DIFFER, DIFFER, DIFFER },
  { "async_copy_not_awaited",   async_copy_not_awaited,   DIFFER, DIFFER, "uninitialised shared" },
  { "async_copy_too_early",     async_copy_too_early,     DIFFER, DIFFER, "race on shared" },
  { "missing_event",            missing_event,            DIFFER, DIFFER, "unordered streams" },
  { "freed_in_another_stream",  freed_in_another_stream,  DIFFER, "AddressSanitizer", "unordered streams" },
  { "host_buffer_reused",       host_buffer_reused,       "reused too early", "reused too early", "reused too early" },
  { "host_reads_too_early",     host_reads_too_early,     UNDEF, "AddressSanitizer", UNDEF },
  { "host_dereference",         host_dereference,         "host code touches", "host code touches", "host code touches" },
  { "host_pointer_to_kernel",   host_pointer_to_kernel,   "is a host pointer", "is a host pointer", "is a host pointer" },
  { "copy_out_of_bounds",       copy_out_of_bounds,       "out of bounds", "out of bounds", "out of bounds" },
  { "copy_of_the_wrong_kind",   copy_of_the_wrong_kind,   "kind of copy", "kind of copy", "kind of copy" },
  { "stack_overflow",           stack_overflow,           "stack overflow", "stack overflow", "stack overflow" },
};
// clang-format on

#if defined(CUDA_EMU_CHECK)
static const char *expected(const broken_case &c) { return c.check; }
#elif defined(CUDA_EMU_ASAN) && defined(__clang__)
static const char *expected(const broken_case &c) {
  return !c.clang ? c.asan : *c.clang ? c.clang : NULL;
}
#elif defined(CUDA_EMU_ASAN)
static const char *expected(const broken_case &c) { return c.asan; }
#else
static const char *expected(const broken_case &c) { return c.plain; }
#endif

static std::string report_of(const broken_case &c, bool *died) {
  int to_parent[2];
  if (pipe(to_parent)) exit(1);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    dup2(to_parent[1], 2);
    close(to_parent[0]);
    c.run();
    _exit(0);
  }
  close(to_parent[1]);
  std::string text;
  char part[4096];
  for (ssize_t n; (n = read(to_parent[0], part, sizeof part)) > 0;) text.append(part, (size_t)n);
  close(to_parent[0]);
  int status;
  waitpid(child, &status, 0);
  *died = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return text;
}

static std::string line_with(const std::string &text, const char *what) {
  const size_t at = text.find(what);
  if (at == std::string::npos) return "";
  const size_t from = text.rfind('\n', at) + 1, to = text.find('\n', at);
  return text.substr(from, to - from);
}

int main(int argc, char **argv) {
  int caught = 0, missed = 0;
  for (const broken_case &c : CASES) {
    if (argc > 1) {
      if (!strcmp(argv[1], c.name)) c.run(), printf("%s: not caught\n", c.name);
      continue;
    }
    const char *what = expected(c);
    if (!what) {
      printf("-     %-25s  not for this build: see the others\n", c.name);
      continue;
    }
    bool died;
    const std::string text = report_of(c, &died), line = line_with(text, what);
    const bool ok = died && !line.empty();
    printf("%s  %-25s  %s\n", ok ? "ok  " : "FAIL", c.name,
           ok             ? line.c_str()
           : text.empty() ? "not caught"
                          : text.c_str());
    ok ? caught++ : missed++;
  }
  if (argc == 1) printf("%d passed, %d failed, 0 skipped\n", caught, missed);
  return missed != 0;
}
