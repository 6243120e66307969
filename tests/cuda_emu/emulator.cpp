// emulator.cpp - what a card promises and the emulator must keep: streams and events, pinned
// buffers, captured graphs, errors, collectives, pools, tensor-core fragments. The kernels are
// small ones of its own; cft's are tested by ops/. broken/broken.cu has what must be caught.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "mma.cuh"

constexpr unsigned ORDERS = 4;  // ascending, descending, two shuffles
static int passed, failed;

static void expect(bool ok, const char *what) {
  printf("%s  %s\n", ok ? "ok  " : "FAIL", what);
  ok ? passed++ : failed++;
}

static void must(cudaError_t e) {
  if (e == cudaSuccess) return;
  printf("FAIL  %s\n", cudaGetErrorString(e));
  exit(1);
}

static std::vector<float> values(size_t n, uint32_t stream) {  // -1 .. 1
  std::vector<float> v(n);
  uint32_t z = stream * 2654435761u;
  for (float &x : v) z = z * 1664525u + 1013904223u, x = (float)(int32_t)z * 0x1p-31f;
  return v;
}

template <class T>
struct on_device {
  T *p = nullptr;
  size_t n;
  explicit on_device(size_t n) : n(n) { must(cudaMalloc((void **)&p, n * sizeof(T))); }
  explicit on_device(const std::vector<T> &v) : on_device(v.size()) {
    must(cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~on_device() { cudaFree(p); }
  on_device(const on_device &) = delete;
  std::vector<T> get() const {
    std::vector<T> v(n);
    must(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
    return v;
  }
};

static __global__ void square_kernel(float *y, const float *x, int n) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = x[i] * x[i];
}
static __global__ void add_kernel(float *y, const float *x, int n) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] += x[i];
}

// ---- streams -------------------------------------------------------------------------------

// Two streams, an event, pinned buffers used again: as a prefetching loop does.
static void test_pipeline() {
  constexpr int n = 6400, STEPS = 5;
  bool right = true;
  const bool same = cuda_emu::same_in_any_order(8, [&] {
    cudaStream_t copies, compute;
    cudaEvent_t loaded, consumed;
    must(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
    must(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking));
    must(cudaEventCreateWithFlags(&loaded, cudaEventDisableTiming));
    must(cudaEventCreateWithFlags(&consumed, cudaEventDisableTiming));
    float *host_x, *host_y, *x;
    must(cudaMallocHost((void **)&host_x, n * 4));
    must(cudaMallocHost((void **)&host_y, STEPS * n * 4));
    must(cudaMallocAsync((void **)&x, n * 4, copies));
    on_device<float> y(n);
    for (int step = 0; step < STEPS; step++) {
      must(cudaEventSynchronize(loaded));  // the host buffer is free again
      const auto fresh = values(n, 100 + (uint32_t)step);
      memcpy(host_x, fresh.data(), n * 4);
      must(cudaStreamWaitEvent(copies, consumed, 0));  // and so is the device buffer
      must(cudaMemcpyAsync(x, host_x, n * 4, cudaMemcpyHostToDevice, copies));
      must(cudaEventRecord(loaded, copies));
      must(cudaStreamWaitEvent(compute, loaded, 0));
      must(launch(square_kernel, (n + 255) / 256, 256, 0, compute, y.p, x, n));
      must(cudaMemcpyAsync(host_y + step * n, y.p, n * 4, cudaMemcpyDeviceToHost, compute));
      must(cudaEventRecord(consumed, compute));
    }
    must(cudaStreamSynchronize(compute));
    must(cudaFreeAsync(x, copies));
    std::vector<float> got(host_y, host_y + STEPS * n);
    for (int step = 0; step < STEPS; step++) {
      const auto fresh = values(n, 100 + (uint32_t)step);
      for (int i = 0; i < n; i++)
        right = right && got[(size_t)(step * n + i)] == fresh[(size_t)i] * fresh[(size_t)i];
    }
    must(cudaDeviceSynchronize());
    must(cudaEventDestroy(loaded));
    must(cudaEventDestroy(consumed));
    must(cudaStreamDestroy(copies));
    must(cudaStreamDestroy(compute));
    must(cudaFreeHost(host_x));
    must(cudaFreeHost(host_y));
    return got;
  });
  expect(right && same, "two streams, two events, pinned buffers used again: the same in 8 orders");
}

static void test_graph() {
  constexpr int n = 1001;
  std::vector<float> result[2];
  for (int captured = 0; captured < 2; captured++) {
    on_device<float> y(values(n, 1)), x(values(n, 2));
    cudaStream_t s;
    must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    if (captured) {
      cudaGraph_t graph;
      cudaGraphExec_t exec;
      must(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
      must(launch(add_kernel, 4, 256, 0, s, y.p, x.p, n));
      must(cudaStreamEndCapture(s, &graph));
      must(cudaGraphInstantiate(&exec, graph, 0));
      for (int i = 0; i < 3; i++) must(cudaGraphLaunch(exec, s));
      must(cudaGraphExecDestroy(exec));
      must(cudaGraphDestroy(graph));
    } else {
      for (int i = 0; i < 3; i++) must(launch(add_kernel, 4, 256, 0, s, y.p, x.p, n));
    }
    must(cudaStreamSynchronize(s));
    result[captured] = y.get();
  }
  expect(result[0] == result[1] && result[0] != values(n, 1),
         "a captured graph launched three times equals three launches");
}

// What a capture is promised by a call, and how it ends.
static void test_capture_refuses() {
  on_device<float> x(values(256, 1)), y(values(256, 2));
  cudaStream_t s, other, blocking;
  cudaEvent_t begun, done, outside;
  must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  must(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  must(cudaStreamCreate(&blocking));
  for (cudaEvent_t *e : {&begun, &done, &outside})
    must(cudaEventCreateWithFlags(e, cudaEventDisableTiming));
  must(cudaEventRecord(outside, other));
  cudaGraph_t graph;
  const auto capture = [&](cudaStream_t from, auto during) {  // how its end answers
    must(cudaStreamBeginCapture(from, cudaStreamCaptureModeThreadLocal));
    during();
    const cudaError_t e = cudaStreamEndCapture(from, &graph);
    cudaGetLastError();
    return e;
  };
  const auto add = [&](cudaStream_t to) { return launch(add_kernel, 1, 256, 0, to, y.p, x.p, 256); };
  const auto refuses = [&](cudaError_t wanted, auto call) {  // and what was captured is lost
    cudaError_t got = cudaSuccess, after = cudaSuccess;
    const cudaError_t end = capture(s, [&] { got = call(), after = add(s); });
    return got == wanted && after == cudaErrorStreamCaptureInvalidated &&
           end == cudaErrorStreamCaptureInvalidated && !graph;
  };
  void *p;
  expect(refuses(cudaErrorStreamCaptureUnsupported, [&] { return cudaStreamSynchronize(s); }) &&
             refuses(cudaErrorStreamCaptureUnsupported, [&] { return cudaStreamQuery(s); }) &&
             refuses(cudaErrorStreamCaptureUnsupported, [&] { return cudaDeviceSynchronize(); }) &&
             refuses(cudaErrorStreamCaptureUnsupported, [&] { return cudaMalloc(&p, 256); }) &&
             refuses(cudaErrorStreamCaptureUnsupported, [&] { return cudaMallocHost(&p, 256); }) &&
             refuses(cudaErrorStreamCaptureUnsupported, [&] {
               return cudaMemcpy(x.p, y.p, 256, cudaMemcpyDeviceToDevice);
             }),
         "a capture ends without a graph by what would wait for it");
  expect(refuses(cudaErrorCapturedEvent,
                 [&] { return cudaEventRecord(begun, s), cudaEventSynchronize(begun); }) &&
             refuses(cudaErrorStreamCaptureIsolation,
                     [&] { return cudaStreamWaitEvent(s, outside, 0); }),
         "and by events: one of it that is waited for, one of other work that it waits for");
  cudaError_t got = cudaSuccess;
  expect(capture(blocking, [&] { got = add(nullptr); }) == cudaErrorStreamCaptureInvalidated &&
             got == cudaErrorStreamCaptureImplicit,
         "the legacy stream would wait for a stream that is captured");
  const auto fork = [&](bool joins) {
    must(cudaEventRecord(begun, s));
    must(cudaStreamWaitEvent(other, begun, 0));
    must(add(other));
    must(cudaEventRecord(done, other));
    if (joins) must(cudaStreamWaitEvent(s, done, 0));
  };
  expect(capture(s, [&] { fork(false); }) == cudaErrorStreamCaptureUnjoined && !graph &&
             capture(s, [&] { fork(true); }) == cudaSuccess && graph,
         "what another stream does of a capture has to be waited for");
  must(cudaGraphDestroy(graph));
  must(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  const bool twice = cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal) == cudaErrorIllegalState;
  must(cudaStreamEndCapture(s, &graph));
  must(cudaGraphDestroy(graph));
  expect(twice && cudaStreamEndCapture(s, &graph) == cudaErrorIllegalState &&
             cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeThreadLocal) ==
                 cudaErrorStreamCaptureUnsupported,
         "a capture within one, an end of none, and one of the legacy stream are refused");
  cudaGetLastError();
  must(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
  const bool relaxed = cudaMalloc(&p, 256) == cudaSuccess;
  must(cudaStreamEndCapture(s, &graph));
  must(cudaGraphDestroy(graph));
  must(cudaFree(p));
  expect(relaxed, "a relaxed capture leaves memory to whoever asks");
  for (cudaEvent_t e : {begun, done, outside}) must(cudaEventDestroy(e));
  for (cudaStream_t t : {s, other, blocking}) must(cudaStreamDestroy(t));
}

static void test_host_function() {
  static bool called;
  cudaStream_t s;
  must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  must(cudaLaunchHostFunc(
      s, [](void *p) { *(bool *)p = true; }, &called));
  const bool too_early = called;
  must(cudaStreamSynchronize(s));
  expect(called && !too_early, "a host function in a stream runs when the stream gets there");
}

static void test_standin() {
  on_device<float> x(values(100, 1));
  const auto before = x.get();
  float *p = x.p;
  must(cuda_emu::enqueue(nullptr, "scale (stand-in)", [p] {
    cuda_emu::will_access(p, 400, false);
    cuda_emu::will_access(p, 400, true);
    for (int i = 0; i < 100; i++) p[i] *= 2;
  }));
  expect(x.get()[99] == 2 * before[99], "a stand-in for a library call, in stream order");
}

// What waits for another process holds its own stream, and no other.
static void test_waiting() {
  static bool came, ran;
  cudaStream_t held, other;
  must(cudaStreamCreateWithFlags(&held, cudaStreamNonBlocking));
  must(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  on_device<float> y(values(1001, 1)), x(values(1001, 2));
  const auto before = y.get();
  must(cuda_emu::enqueue(
      held, "a wait (stand-in)", [] { ran = true; }, [] { return came; }));
  must(launch(add_kernel, 4, 256, 0, other, y.p, x.p, 1001));
  must(cudaStreamSynchronize(other));
  const bool waits = cudaStreamQuery(held) == cudaErrorNotReady && !ran;
  came = true;
  must(cudaStreamSynchronize(held));
  expect(waits && ran && y.get() != before,
         "an operation that waits for another process holds its own stream alone");
}

// ---- memory and errors ---------------------------------------------------------------------

static __device__ __forceinline__ float *half_of_it() {
  __shared__ float s[2 * 1024];
  return s;
}
static __global__ void declares_shared(float *out) {
  __shared__ float s[2 * 1024];
  float *t = half_of_it(), *u = dynamic_shared<float>();
  s[threadIdx.x] = t[threadIdx.x] = u[threadIdx.x] = (float)threadIdx.x;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = s[31] + t[31] - u[31];
}

static __global__ void uses_shared(float *out) {
  float *s = dynamic_shared<float>();
  s[threadIdx.x] = (float)threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}

static void test_errors() {
  on_device<float> out(32);
  float *p = out.p;
  expect(launch(uses_shared, 0, 32, 128, nullptr, p) == cudaErrorInvalidConfiguration &&
             cudaGetLastError() == cudaErrorInvalidConfiguration &&
             cudaGetLastError() == cudaSuccess,
         "a launch of no blocks is an error, read once");
  expect(launch(uses_shared, 1, 2000, 128, nullptr, p) == cudaErrorInvalidConfiguration,
         "2000 threads a block: error");
  expect(launch(uses_shared, 1, 32, 50000, nullptr, p) == cudaErrorInvalidValue,
         "more than 48 KiB shared unasked: error");
  must(cudaFuncSetAttribute((const void *)uses_shared, cudaFuncAttributeMaxDynamicSharedMemorySize,
                            50000));
  must(launch(uses_shared, 1, 32, 50000, nullptr, p));
  expect(out.get()[0] == 31, "more than 48 KiB shared after cudaFuncSetAttribute");
  // What a kernel declares counts beside what it asks for.
  expect(launch(declares_shared, 1, 32, 40 * 1024, nullptr, p) == cudaErrorInvalidValue &&
             cudaGetLastError() != cudaSuccess,
         "16 KiB declared and 40 KiB asked: error");
  must(launch(declares_shared, 1, 32, 31 * 1024, nullptr, p));
  expect(out.get()[0] == 31, "16 KiB declared and 31 KiB asked");
  const auto most = cudaFuncAttributeMaxDynamicSharedMemorySize;
  cudaDeviceProp card;
  must(cudaGetDeviceProperties(&card, 0));
  const int room = (int)card.sharedMemPerBlockOptin - 16 * 1024;
  expect(cudaFuncSetAttribute((const void *)declares_shared, most, room + 1) ==
                 cudaErrorInvalidValue &&
             cudaGetLastError() != cudaSuccess,
         "a byte more than the card has beside what is declared: error");
  must(cudaFuncSetAttribute((const void *)declares_shared, most, room - 1024));
  must(launch(declares_shared, 1, 32, (size_t)room - 1024, nullptr, p));
  void *big;
  expect(cudaMalloc(&big, (size_t)1 << 40) == cudaErrorMemoryAllocation && !big,
         "out of memory is reported");
  cudaGetLastError();
}

static uint64_t attribute(cudaMemPool_t pool, cudaMemPoolAttr name) {
  uint64_t v = 0;
  must(cudaMemPoolGetAttribute(pool, name, &v));
  return v;
}

static void test_pool() {
  cudaMemPool_t pool;
  cudaStream_t s;
  void *p;
  uint64_t keep = UINT64_MAX;
  must(cudaDeviceSynchronize());
  must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
  must(cudaDeviceGetDefaultMemPool(&pool, 0));
  must(cudaMemPoolTrimTo(pool, 0));
  must(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
  const uint64_t before = attribute(pool, cudaMemPoolAttrReservedMemCurrent);
  must(cudaMallocAsync(&p, 1 << 20, s));
  must(cudaFreeAsync(p, s));
  must(cudaStreamSynchronize(s));
  const uint64_t kept = attribute(pool, cudaMemPoolAttrReservedMemCurrent);
  must(cudaMemPoolTrimTo(pool, 0));
  expect(kept == before + (1 << 20) &&
             attribute(pool, cudaMemPoolAttrReservedMemCurrent) == before &&
             attribute(pool, cudaMemPoolAttrUsedMemCurrent) == before,
         "a pool keeps what is freed until it is trimmed");
  size_t free_bytes, total;
  must(cudaMemGetInfo(&free_bytes, &total));
  for (int i = 0; i < 3; i++) {  // each as large as all there is: freed in stream order, so it fits
    must(cudaMallocAsync(&p, free_bytes, s));
    must(cudaFreeAsync(p, s));
  }
  must(cudaStreamSynchronize(s));
  expect(true, "what is freed in stream order is free for what comes later in that order");
}

// ---- collectives ---------------------------------------------------------------------------

static __global__ void collectives(unsigned *out) {
  const unsigned lane = threadIdx.x % 32;
  out[threadIdx.x * 6 + 0] = __ballot_sync(~0u, lane % 3 == 0);
  out[threadIdx.x * 6 + 1] = __shfl_up_sync(~0u, lane, 3);
  out[threadIdx.x * 6 + 2] = __shfl_down_sync(~0u, lane, 3, 16);
  out[threadIdx.x * 6 + 3] = __shfl_sync(~0u, lane, 5, 8);
  out[threadIdx.x * 6 + 4] =
      lane < 8 ? __shfl_xor_sync(0xffu, lane, 1) : __any_sync(~0xffu, lane == 31);
  out[threadIdx.x * 6 + 5] = (unsigned)__syncthreads_count(lane == 0);
}

static void test_collectives() {
  const bool same = cuda_emu::same_in_any_order(ORDERS, [] {
    on_device<unsigned> out(96 * 6);
    must(launch(collectives, 1, 96, 0, nullptr, out.p));
    auto got = out.get();
    bool right = true;
    for (unsigned t = 0; t < 96; t++) {
      const unsigned l = t % 32, *r = &got[t * 6];
      right = right && r[0] == 0x49249249u && r[1] == (l < 3 ? l : l - 3) &&
              r[2] == (l % 16 + 3 < 16 ? l + 3 : l) && r[3] == (l & ~7u) + 5 &&
              r[4] == (l < 8 ? l ^ 1 : 1u) && r[5] == 3;
    }
    if (!right) got[0] = (unsigned)rand();
    return got;
  });
  expect(same, "votes and shuffles: segments, partial masks side by side, counting barrier");
}

// Each block sums its part; the last one to finish sums the parts.
static __global__ void sum_by_last_block(float *out, float *part, unsigned *finished,
                                         const float *x, int n) {
  __shared__ bool last;
  float v = 0;
  for (int i = (int)(blockIdx.x * 32 + threadIdx.x); i < n; i += (int)(gridDim.x * 32)) v += x[i];
  v = warp_sum(v);
  if (threadIdx.x == 0) {
    part[blockIdx.x] = v;
    __threadfence();
    last = atomicInc(finished, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  v = warp_sum(threadIdx.x < gridDim.x ? part[threadIdx.x] : 0);
  if (threadIdx.x == 0) *out = v;
}

static void test_last_block() {
  const bool same = cuda_emu::same_in_any_order(ORDERS, [] {
    on_device<float> x(values(1000, 3)), part(7), out(1);
    on_device<unsigned> finished(std::vector<unsigned>{0});
    must(launch(sum_by_last_block, 7, 32, 0, nullptr, out.p, part.p, finished.p, x.p, 1000));
    must(cudaDeviceSynchronize());
    return out.get();
  });
  expect(same, "the last block sums up: fence, atomic, no false alarm");
}

// ---- fragments -----------------------------------------------------------------------------

// c (16 x 8) = a (16 x 16) * b, b given as (8 x 16) rows or, transposed on the way, as 16 x 8.
static __global__ void fragments(float *c, const bf16 *a, const bf16 *b, bool columns) {
  __shared__ __align__(16) bf16 as[16 * 24];
  __shared__ __align__(16) bf16 bs[16 * 24];
  const int lane = (int)threadIdx.x;
  copy_async16(as + lane / 2 * 24 + lane % 2 * 8, a + lane * 8, 16);
  copy_async16(bs + lane / 2 * 24 + lane % 2 * 8, b + (lane < 16 ? lane * 8 : 0),
               lane < 16 ? 16 : 0);
  copy_async_commit();
  copy_async_wait<0>();
  __syncwarp();
  uint32_t fa[4], fb[4];
  ldmatrix_x4(fa, as + lane % 16 * 24 + lane / 16 * 8);
  if (columns)  // 16 rows of 8, eight of them in each row of 16 that was copied
    ldmatrix_x4_trans(fb, bs + lane % 16 / 2 * 24 + lane % 2 * 8);
  else
    ldmatrix_x4(fb, bs + lane % 8 * 24 + lane / 8 % 2 * 8);
  float sum[4] = {};
  mma_16x8x16(sum, fa, fb[0], fb[1]);
  for (int e = 0; e < 4; e++) c[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2] = sum[e];
}

static std::vector<bf16> halves(const std::vector<float> &v) {
  std::vector<bf16> h;
  for (float x : v) h.push_back(__float2bfloat16(x));
  return h;
}

static void test_fragments() {
  const auto a = halves(values(256, 1)), b = halves(values(128, 2));
  for (bool columns : {false, true}) {
    bool right = true;
    const bool same = cuda_emu::same_in_any_order(ORDERS, [&] {
      on_device<bf16> da(a), db(b);
      on_device<float> c(128);
      must(launch(fragments, 1, 32, 0, nullptr, c.p, da.p, db.p, columns));
      const auto got = c.get();
      for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < 8; j++) {
          double want = 0;
          for (size_t k = 0; k < 16; k++)
            want += (double)__bfloat162float(a[i * 16 + k]) *
                    __bfloat162float(columns ? b[k * 8 + j] : b[j * 16 + k]);
          right = right && fabs(got[i * 8 + j] - want) < 1e-5;
        }
      return got;
    });
    expect(right && same, columns ? "mma with b transposed on its way from shared memory"
                                  : "mma, ldmatrix, cp.async");
  }
}

// emu/toolkit's bf16 and f16 must round as the toolkit's do: one digest for both
static void test_rounding() {
  uint64_t h = 0xcbf29ce484222325, g = h;
  for (uint32_t high = 0; high < 0x10000; high++) {
    for (uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const uint32_t bits = high << 16 | low;
      float v;
      memcpy(&v, &bits, 4);
      h = (h ^ __bfloat16_as_ushort(__float2bfloat16(v))) * 0x100000001b3;
      h = (h ^ __bfloat16_as_ushort(__float2bfloat16_rz(v))) * 0x100000001b3;
      const __half half = __float2half(v);
      uint16_t half_bits;
      memcpy(&half_bits, &half, 2);
      g = (g ^ half_bits) * 0x100000001b3;
    }
    const uint16_t half_bits = (uint16_t)high;
    __half half;
    memcpy((void *)&half, &half_bits, 2);
    const float back = __half2float(half);
    uint32_t bits;
    memcpy(&bits, &back, 4);
    if (back == back) g = (g ^ bits) * 0x100000001b3;
  }
  char what[120];
  snprintf(what, sizeof what, "rounding to bf16 and f16, 393216 values: digests %016lx, %016lx",
           (unsigned long)h, (unsigned long)g);
  expect(h == 0x542f52a048da9119 && g == 0x2cdf6f52e663a77f, what);
}

int main() {
  setenv("CUDA_EMU_MEMORY", "4", 1);  // MiB: the check build has 48 bytes of records for each byte
  test_rounding();
  test_fragments();
  test_collectives();
  test_last_block();
  test_host_function();
  test_standin();
  test_waiting();
  test_pipeline();
  test_graph();
  test_capture_refuses();
  test_pool();
  test_errors();
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed != 0;
}
