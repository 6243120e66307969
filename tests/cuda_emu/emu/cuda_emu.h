// cuda_emu.h - CUDA's execution model for a host compiler, for tests.
//
// A .cu file that is compiled by g++ or clang++ includes this where nvcc has built-ins
// (kernels/cuda/cuda.cuh has the switch). Threads of a block are fibers on one host thread; they
// run in an order that a seed decides and switch only at barriers, warp collectives and their end.
// Types and the runtime API are those of the CUDA headers (or of emu/toolkit/ where there is no
// toolkit); emu/runtime.cpp defines the functions.
#pragma once
#ifdef __CUDACC__
#error "cuda_emu.h is for host compilers; nvcc has the real thing"
#endif

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <type_traits>

// One block runs at a time, so the storage that its threads share is a static. Kernels and device
// functions that hold one should have internal linkage: gcc puts no redzones around a template's
// static otherwise.
#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

#if defined(__SANITIZE_ADDRESS__)
#define CUDA_EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_EMU_ASAN 1
#endif
#endif

#define CUDA_EMU_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()
#ifdef CUDA_EMU_CHECK
#define CUDA_EMU_UNCHECKED __attribute__((no_sanitize_thread))  // its accesses are reported by hand
#else
#define CUDA_EMU_UNCHECKED
#endif

extern uint3 threadIdx, blockIdx;  // set at each switch, so a debugger shows them too
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_emu {

// --- for tests ---

// Order of threads, blocks and ready streams: 0 ascending, 1 descending, others shuffled by that
// seed. Starts as CUDA_EMU_ORDER of the environment, or 0.
void set_order(unsigned seed);

struct counts {
  uint64_t launches, threads, switches, barriers, collectives, drains, uploads, calls;
};
extern counts count;

// Does f, which returns bytes (a vector), give the same ones in `orders` thread orders? True for
// every kernel that is free of races and of floating-point atomics.
template <class F>
bool same_in_any_order(unsigned orders, F f) {
  set_order(0);
  const auto first = f();
  bool same = true;
  for (unsigned seed = 1; seed < orders && same; seed++) {
    set_order(seed);
    const auto again = f();
    same = first.size() == again.size() &&
           memcmp(first.data(), again.data(), first.size() * sizeof *first.data()) == 0;
  }
  set_order(0);
  return same;
}

// --- for stand-ins of libraries that work on streams (cuBLASLt, NCCL) ---

// Queue `run` on a stream, as an operation of that name. It says itself which device memory it
// reads and writes, before it does; then it may touch that. With `ready` the stream stops there
// until that answers true: it waits for another process.
cudaError_t enqueue(cudaStream_t stream, const char *what, std::function<void()> run,
                    std::function<bool()> ready = nullptr);
bool is_device_pointer(const void *p);
void will_access(const void *p, size_t bytes, bool write);

// --- what the built-ins below stand on ---

// Say what is wrong, in which kernel, block and thread, and abort.
[[noreturn]] void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// Wait for all threads of the block; returns how many of them passed a non-zero predicate.
int sync_block(int predicate, const char *what, const char *file, int line);

// Wait for all lanes of mask. The last to come calls complete(mask, arg) with every lane's argument
// (all are alive then: each lies on the stack of a waiting lane), and so does the collective's work
// for all of them.
void sync_warp(unsigned mask, const char *what, void *arg,
               void (*complete)(unsigned mask, void **arg), const char *file, int line);

unsigned lane();
void *dynamic_shared();
void access(const void *p, size_t bytes, bool write,
            bool atomic);  // tells check.cpp what no compiler tells it

void fence();

// Queue a kernel on a stream. It runs when the host waits for something: see runtime.cpp.
cudaError_t launch(const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, std::function<void()> body);
void check_argument(const void *kernel, int position, const volatile void *pointer);

template <class T>
void check_argument(const void *kernel, int position, const T &arg) {
  if constexpr (std::is_pointer_v<T>) check_argument(kernel, position, (const volatile void *)arg);
}

}  // namespace cuda_emu

// The call that is kernel<<<grid, block, shared_bytes, stream>>>(args...) and an error check under
// nvcc.
template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, A... args) {
  static_assert(sizeof...(P) == sizeof...(A), "wrong number of kernel arguments");
  int position = 0;
  (cuda_emu::check_argument((const void *)kernel, ++position, args), ...);
  return cuda_emu::launch((const void *)kernel, grid, block, shared_bytes, stream,
                          [=]() CUDA_EMU_UNCHECKED { kernel((P)args...); });
}

// --- block ---

inline void __syncthreads(CUDA_EMU_AT) { cuda_emu::sync_block(0, "__syncthreads", file, line); }
inline int __syncthreads_count(int p, CUDA_EMU_AT) {
  return cuda_emu::sync_block(p, "__syncthreads_count", file, line);
}
inline int __syncthreads_or(int p, CUDA_EMU_AT) {
  return cuda_emu::sync_block(p, "__syncthreads_or", file, line) > 0;
}
inline int __syncthreads_and(int p, CUDA_EMU_AT) {
  return cuda_emu::sync_block(!p, "__syncthreads_and", file, line) == 0;
}

// Blocks never overlap here and a host thread sees its own writes: a fence only tells check.cpp
// that what is done next with an atomic publishes what was written before.
inline void __threadfence() { cuda_emu::fence(); }
inline void __threadfence_block() {}

inline void __trap() { cuda_emu::fail("__trap"); }

// --- warp ---

inline void __syncwarp(unsigned mask = ~0u, CUDA_EMU_AT) {
  cuda_emu::sync_warp(mask, "__syncwarp", nullptr, nullptr, file, line);
}

namespace cuda_emu {

struct shuffle {
  uint64_t value, result;
  unsigned from;
};

void complete_shuffle(unsigned mask, void **arg);
void complete_vote(unsigned mask, void **arg);

template <class T>
T shuffled(unsigned mask, T value, unsigned from, const char *what, const char *file, int line) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "shuffles move at most 8 bytes");
  shuffle s = {0, 0, from};
  memcpy(&s.value, &value, sizeof value);
  sync_warp(mask, what, &s, complete_shuffle, file, line);
  memcpy(&value, &s.result, sizeof value);
  return value;
}

inline unsigned vote(unsigned mask, int predicate, const char *what, const char *file, int line) {
  shuffle s = {predicate != 0, 0, 0};
  sync_warp(mask, what, &s, complete_vote, file, line);
  return (unsigned)s.result;
}

}  // namespace cuda_emu

// Source lanes as in the PTX manual: a lane whose source falls outside of its segment reads itself.
template <class T>
T __shfl_sync(unsigned mask, T v, int from, int width = 32, CUDA_EMU_AT) {
  const unsigned base = cuda_emu::lane() & ~(width - 1u);
  return cuda_emu::shuffled(mask, v, base | ((unsigned)from & (width - 1u)), "__shfl_sync", file,
                            line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, CUDA_EMU_AT) {
  const unsigned l = cuda_emu::lane(), in_segment = l & (width - 1u);
  return cuda_emu::shuffled(mask, v, in_segment >= delta ? l - delta : l, "__shfl_up_sync", file,
                            line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, CUDA_EMU_AT) {
  const unsigned l = cuda_emu::lane(), in_segment = l & (width - 1u);
  return cuda_emu::shuffled(mask, v, in_segment + delta < (unsigned)width ? l + delta : l,
                            "__shfl_down_sync", file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32, CUDA_EMU_AT) {
  const unsigned l = cuda_emu::lane(), end = (l & ~(width - 1u)) + width, from = l ^ (unsigned)x;
  return cuda_emu::shuffled(mask, v, from < end ? from : l, "__shfl_xor_sync", file, line);
}
inline unsigned __ballot_sync(unsigned mask, int p, CUDA_EMU_AT) {
  return cuda_emu::vote(mask, p, "__ballot_sync", file, line);
}
inline int __any_sync(unsigned mask, int p, CUDA_EMU_AT) {
  return cuda_emu::vote(mask, p, "__any_sync", file, line) != 0;
}
inline int __all_sync(unsigned mask, int p, CUDA_EMU_AT) {
  return cuda_emu::vote(mask, p, "__all_sync", file, line) == mask;
}

// --- atomics: threads switch at barriers only, so plain code is atomic ---

namespace cuda_emu {
template <class T, class F>
CUDA_EMU_UNCHECKED T atomic(T *p, F update) {
  access(p, sizeof(T), true, true);
  const T old = *p;
  *p = update(old);
  return old;
}
}  // namespace cuda_emu

#define CUDA_EMU_ATOMIC(name, T, expression)                            \
  inline T name(T *p, T v) {                                            \
    return cuda_emu::atomic(p, [v](T old) -> T { return expression; }); \
  }
CUDA_EMU_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)v))
CUDA_EMU_ATOMIC(atomicAdd, unsigned, old + v)
CUDA_EMU_ATOMIC(atomicAdd, unsigned long long, old + v)
CUDA_EMU_ATOMIC(atomicAdd, float, old + v)
CUDA_EMU_ATOMIC(atomicAdd, double, old + v)
CUDA_EMU_ATOMIC(atomicMax, int, old > v ? old : v)
CUDA_EMU_ATOMIC(atomicMax, unsigned, old > v ? old : v)
CUDA_EMU_ATOMIC(atomicMin, int, old < v ? old : v)
CUDA_EMU_ATOMIC(atomicOr, unsigned, old | v)
CUDA_EMU_ATOMIC(atomicExch, int, ((void)old, v))
CUDA_EMU_ATOMIC(atomicExch, unsigned, ((void)old, v))
#undef CUDA_EMU_ATOMIC
inline unsigned atomicInc(unsigned *p, unsigned top) {
  return cuda_emu::atomic(p, [top](unsigned old) { return old >= top ? 0 : old + 1; });
}
inline unsigned atomicCAS(unsigned *p, unsigned compare, unsigned v) {
  return cuda_emu::atomic(p, [=](unsigned old) { return old == compare ? v : old; });
}

// --- arithmetic: exact where a card's is fast, so the last digits differ from a card's ---

template <class T>
T __ldg(const T *p) {
  return *p;
}
template <class T>
T __ldcs(const T *p) {
  return *p;
}
template <class T>
T __ldcg(const T *p) {
  return *p;
}
template <class T>
void __stcs(T *p, T v) {
  *p = v;
}
template <class T>
void __stcg(T *p, T v) {
  *p = v;
}

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1 / x; }
inline unsigned long long __float2ull_rn(float x) { return (unsigned long long)nearbyint((double)x); }
inline void sincospif(float x, float *s, float *c) {
  *s = (float)sin(M_PI * (double)x);
  *c = (float)cos(M_PI * (double)x);
}
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }

namespace cuda_emu {
template <class To, class From>
To bits(From v) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &v, sizeof to);
  return to;
}
}  // namespace cuda_emu
inline int __float_as_int(float v) { return cuda_emu::bits<int>(v); }
inline unsigned __float_as_uint(float v) { return cuda_emu::bits<unsigned>(v); }
inline float __int_as_float(int v) { return cuda_emu::bits<float>(v); }
inline float __uint_as_float(unsigned v) { return cuda_emu::bits<float>(v); }

inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline int __ffs(int v) { return __builtin_ffs(v); }

#define CUDA_EMU_MIN_MAX(T)                        \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
CUDA_EMU_MIN_MAX(int)
CUDA_EMU_MIN_MAX(unsigned)
CUDA_EMU_MIN_MAX(long)
CUDA_EMU_MIN_MAX(unsigned long)
CUDA_EMU_MIN_MAX(long long)
CUDA_EMU_MIN_MAX(unsigned long long)
#undef CUDA_EMU_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
