// cpu.h - how one source becomes many kernels.
//
// An op's file is compiled once per dtype and instruction set, with
//   CFT_CPU_DTYPE  f32, bf16, f64; `any` for files that look at the dtype themselves
//   CFT_CPU_ISA    base, avx2, avx512; avx512bf16 for bf16 alone
// and says CPU(name) for what it defines: cft_cpu_rmsnorm_fwd_bf16_avx2. In it
//   real           what is stored: float, bf16 (16 bits), double
//   acc            what is computed with: float, float, double
//   LOAD, STORE    from one to the other
//   EXP, LOG, ...  on acc; in f32 they are polynomials that vectorise (vmath.h)
// Loops are plain and vectorised for whatever the build allows; where one names instructions, it
// says why.
#ifndef CFT_CPU_H
#define CFT_CPU_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cpu/measure.h"
#include "device.h"

// ---- threads -------------------------------------------------------------------------------

// How many threads `work` (elements touched, more where one is costly) is worth: one, or all.
// Nothing between: libgomp ends threads that a smaller team leaves over, and makes them anew.
int cft_cpu_team(int64_t work);
cft_status cft_cpu_take_threads(int threads);  // cft_cpu_set_threads, but for the description
extern int64_t cft_cpu_worth_waking;  // the least work that all take part in; tests lower it

extern int cft_cpu_rows_alone;  // whether products x w^T have generation's order of sums: dots.h

// Share the iterations of the next loop among threads. Kernels cut work by its shape and never by
// the number of threads, so that results do not depend on it.
#define CPU_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define PARALLEL(work) CPU_PRAGMA(omp parallel for schedule(static) num_threads(cft_cpu_team(work)))
#define SIMD CPU_PRAGMA(omp simd)
#define SIMD_SUM(...) CPU_PRAGMA(omp simd reduction(+ : __VA_ARGS__))

// Elements of a flat array that one thread takes at a time.
enum { CPU_BLOCK = 8192 };

static inline int64_t cpu_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t cpu_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t cpu_blocks(int64_t n, int64_t block) { return (n + block - 1) / block; }

// Run `each` for every element i of [0, n), in blocks that threads share.
#define FOR_EACH(n, each)                                 \
  PARALLEL(n)                                             \
  for (int64_t from = 0; from < (n); from += CPU_BLOCK) { \
    int64_t to = cpu_min(from + CPU_BLOCK, n);            \
    SIMD for (int64_t i = from; i < to; i++) { each; }    \
  }

// ---- instruction sets ----------------------------------------------------------------------

// Use the kernels built for "base", "avx2", "avx512", "avx512bf16" or "amx" (avx512bf16 whose bf16
// attention uses tiles) from now on; NULL takes the best that this processor has. E_ARG for another
// name, E_UNSUPPORTED where the processor lacks it. The device starts with the best, or with what
// CFT_ISA names.
cft_status cft_cpu_set_isa(const char *name);

// Whether this processor has an instruction set of those, in use or not.
int cft_cpu_has(const char *name);

extern const cft_kernels cft_cpu_kernels;

// Our kernels of one dtype, as the chosen instruction set has them; NULL for a dtype without any.
const cft_kernels *cft_cpu_kernels_of(cft_dtype dtype);

// For tests: the nth allocation from now fails, the next one for 1; 0 ends it.
void cft_cpu_fail_alloc(int64_t nth);

// ---- 16-bit floats -------------------------------------------------------------------------

typedef uint16_t bf16;

static inline float bits_f32(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

static inline uint32_t f32_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

static inline float bf16_f32(bf16 x) { return bits_f32((uint32_t)x << 16); }

// To nearest, ties to even. Rounding may carry into the exponent and so reach infinity, which is
// right; a NaN must not carry.
static inline bf16 f32_bf16(float x) {
  uint32_t u = f32_bits(x);
  uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
  return (bf16)(x != x ? 0x7fc0 : rounded);
}

// ---- one dtype, one instruction set --------------------------------------------------------

#ifdef CFT_CPU_DTYPE
#define CPU_PASTE(name, dtype, isa) cft_cpu_##name##_##dtype##_##isa
#define CPU_EXPAND(name, dtype, isa) CPU_PASTE(name, dtype, isa)
#define CPU(name) CPU_EXPAND(name, CFT_CPU_DTYPE, CFT_CPU_ISA)

#define XX(name, args, kind) cft_status CPU(name)(cft_device * d, cft_stream * s, const args *a);
CFT_KERNEL_MAP(XX)
#undef XX

#include "vmath.h"

#ifdef CFT_CPU_F32
typedef float real;
typedef float acc;
#define CFT_REAL CFT_F32
#define CFT_ACC CFT_F32
#define LOAD(x) (x)
#define STORE(x) (x)
#endif

#ifdef CFT_CPU_BF16
typedef bf16 real;
typedef float acc;
#define CFT_REAL CFT_BF16
#define CFT_ACC CFT_F32
#define LOAD(x) bf16_f32(x)
#define STORE(x) f32_bf16(x)
#endif

#ifdef CFT_CPU_F64
typedef double real;
typedef double acc;
#define CFT_REAL CFT_F64
#define CFT_ACC CFT_F64
#define LOAD(x) (x)
#define STORE(x) (x)
#define EXP(x) exp(x)
#define LOG(x) log(x)
#define TANH(x) tanh(x)
#define SIGMOID(x) (1 / (1 + exp(-(x))))
#define SIN(x) sin(x)
#define COS(x) cos(x)
#define POW(x, y) pow(x, y)
#define SQRT(x) sqrt(x)
#define ABS(x) fabs(x)
#else
#define EXP(x) exp_f32(x)
#define LOG(x) log_f32(x)
#define TANH(x) tanh_f32(x)
#define SIGMOID(x) sigmoid_f32(x)
// These three are rare in a model, and exact range reduction is libm's trade.
#define SIN(x) sinf(x)
#define COS(x) cosf(x)
#define POW(x, y) powf(x, y)
#define SQRT(x) sqrtf(x)
#define ABS(x) fabsf(x)
#endif
#endif

#endif
