// harness.h - a check of one kernel on bare arrays, against the formula in double: for every
// instruction set that this machine has, every dtype, and several numbers of threads, which must
// give the same bits. Each file here is a program with the cases of one op.
#ifndef CFT_TEST_KERNELS_CPU_H
#define CFT_TEST_KERNELS_CPU_H

#include "../test.h"
#include "cpu/cpu.h"
#include "device.h"

// ---- numbers --------------------------------------------------------------------------------

static uint64_t state;

// Uniform in [-1, 1), on a grid of 2^-6: exact in bf16, so that a reference sees what kernels see.
static inline double number(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (double)(int64_t)(state % 128) / 64 - 1;
}

static inline int64_t below(int64_t n) {
  number();
  return (int64_t)(state % (uint64_t)n);
}

static inline void put(void *x, cft_dtype dtype, int64_t i, double value) {
  switch (dtype) {
    case CFT_F64: ((double *)x)[i] = value; break;
    case CFT_F32: ((float *)x)[i] = (float)value; break;
    case CFT_BF16: ((bf16 *)x)[i] = f32_bf16((float)value); break;
    case CFT_I32: ((int32_t *)x)[i] = (int32_t)value; break;
    case CFT_I64: ((int64_t *)x)[i] = (int64_t)value; break;
    default: ((uint8_t *)x)[i] = (uint8_t)value;
  }
}

static inline double get(const void *x, cft_dtype dtype, int64_t i) {
  switch (dtype) {
    case CFT_F64: return ((const double *)x)[i];
    case CFT_F32: return (double)((const float *)x)[i];
    case CFT_BF16: return (double)bf16_f32(((const bf16 *)x)[i]);
    case CFT_I32: return ((const int32_t *)x)[i];
    case CFT_I64: return (double)((const int64_t *)x)[i];
    default: return ((const uint8_t *)x)[i];
  }
}

static inline cft_dtype sum_dtype(cft_dtype dtype) { return dtype == CFT_F64 ? CFT_F64 : CFT_F32; }

// Half the distance of two numbers just above 1.
static inline double epsilon(cft_dtype dtype) {
  return dtype == CFT_F64 ? 0x1p-53 : dtype == CFT_F32 ? 0x1p-24 : 0x1p-8;
}

// Arrays of a case, ended exactly where they end, so that the sanitizer sees a step too far.
// All are freed when the case ends.
enum { MOST_ARRAYS = 64 };
static void *arrays[MOST_ARRAYS];
static int array_count;

static inline void *array(int64_t n, cft_dtype dtype) {
  void *x = malloc((size_t)n * cft_dtype_bytes(dtype) + (n == 0));
  arrays[array_count++] = x;
  return x;
}

static inline void *numbers(int64_t n, cft_dtype dtype) {
  void *x = array(n, dtype);
  for (int64_t i = 0; i < n; i++) put(x, dtype, i, number());
  return x;
}

static inline void *constant(int64_t n, cft_dtype dtype, double value) {
  void *x = array(n, dtype);
  for (int64_t i = 0; i < n; i++) put(x, dtype, i, value);
  return x;
}

static inline void *copied(const void *x, int64_t n, cft_dtype dtype) {
  return memcpy(array(n, dtype), x, (size_t)n * cft_dtype_bytes(dtype));
}

// An output: where a kernel that forgets an element, or reads a y it should not, leaves NaN.
static inline void *output(int64_t n, cft_dtype dtype, int beta) {
  return beta ? numbers(n, dtype) : constant(n, dtype, dtype == CFT_I32 ? -7 : NAN);
}

static inline void free_arrays(void) {
  while (array_count > 0) free(arrays[--array_count]);
}

// x rounded to nearest even with so many bits of mantissa and this lowest exponent: what a 16-bit
// float must be, by arithmetic in double.
static inline double nearest(double x, int bits, int lowest, double largest) {
  if (x == 0 || isinf(x) || isnan(x)) return x;
  int e = ilogb(x) < lowest ? lowest : ilogb(x);
  double step = ldexp(1, e - bits), y = nearbyint(x / step) * step;
  return fabs(y) > largest ? copysign(INFINITY, x) : y;
}

static const cft_dtype ALL_TYPES[] = {CFT_F32, CFT_BF16, CFT_F64, CFT_F16,
                                      CFT_I32, CFT_I64,  CFT_U8};

// (n, d)
static const int64_t ROW_SHAPES[][2] = {{0, 5}, {1, 1}, {3, 7}, {17, 64}, {70, 577}, {90, 200}};

// ---- everywhere -----------------------------------------------------------------------------

static cft_device *cpu;
static const cft_kernels *kernels;
static const char *const isas[] = {"base", "avx2", "avx512", "avx512bf16"};
static const int teams[] = {1, 2, 3};
static uint64_t seen;  // a hash of all outputs of a check
static char where[64];

static inline void note(const void *x, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) seen = (seen ^ ((const uint8_t *)x)[i]) * 0x100000001b3u;
}

// Run a check for each dtype on each instruction set; its outputs must not depend on the threads.
static inline void everywhere(void (*check)(cft_dtype), const cft_dtype *dtypes, int count) {
  cpu = cft_cpu_device();
  kernels = cpu->kernels;
  cft_cpu_worth_waking = 1;
  for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
    static bool told[sizeof isas / sizeof *isas];
    if (cft_cpu_set_isa(isas[i]) != CFT_OK) {
      if (!told[i]) fprintf(stderr, "  without %s: %s\n", isas[i], cft_last_error());
      told[i] = true;
      continue;
    }
    for (int type = 0; type < count; type++) {
      if (dtypes[type] == CFT_F64 && i > 0) continue;  // built once
      uint64_t first = 0;
      for (size_t team = 0; team < sizeof teams / sizeof *teams; team++) {
        EXPECT_OK(cft_cpu_set_threads(teams[team]));
        snprintf(where, sizeof where, "%s, %s, %d threads", isas[i], cft_dtype_name(dtypes[type]),
                 teams[team]);
        state = 88172645463325252u, seen = 0;
        check(dtypes[type]);
        free_arrays();
        if (TEST_FAILED()) {
          fprintf(stderr, "  on %s\n", where);
          return;
        }
        if (team == 0) first = seen;
        if (seen != first) TEST_FAIL("on %s: other bits than with one thread", where);
      }
    }
  }
  cft_memory_use use;
  cpu->memory(cpu, &use, 0);
  EXPECT_INT(use.total, 0);  // scratch is given back
  EXPECT_OK(cft_cpu_set_isa(NULL));
}

static const cft_dtype FLOATS[] = {CFT_F32, CFT_BF16, CFT_F64};
#define EVERYWHERE(name)                              \
  static void check_##name(cft_dtype dtype);          \
  TEST(name) { everywhere(check_##name, FLOATS, 3); } \
  static void check_##name(cft_dtype dtype)
#define ANYWHERE(name)                                \
  static void check_##name(cft_dtype dtype);          \
  TEST(name) { everywhere(check_##name, FLOATS, 1); } \
  static void check_##name(cft_dtype dtype)

#define RUN(op, ...) EXPECT_OK(kernels->op(cpu, NULL, &(__VA_ARGS__)))

// got is stored in `dtype`; `size` bounds the terms of its sum, which `sum` rounds.
static inline bool close_to(double got, double want, double size, cft_dtype sum, cft_dtype dtype) {
  if (isnan(want)) return isnan(got);
  if (isinf(want)) return got == want;
  double bound =
      8 * epsilon(sum) * (size + fabs(want)) + 1.01 * epsilon(dtype) * fabs(want) + 1e-37;
  return fabs(got - want) <= bound;
}

#define EXPECT_NEAR(y, i, want, size, sum, dtype)                                         \
  do {                                                                                    \
    double got_ = get(y, dtype, i), want_ = (want);                                       \
    if (!close_to(got_, want_, (size), (sum), (dtype)))                                   \
      TEST_FAIL("%s[%" PRId64 "] is %.9g, expected %.9g", #y, (int64_t)(i), got_, want_); \
  } while (0)

#endif
