// table.c - which kernels the CPU has: by dtype, and by the best instruction set of this processor.
#ifdef CFT_CPU_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu.h"

// ---- instruction sets ----------------------------------------------------------------------

#define VARIANT(dtype, isa) cft_cpu_kernels_##dtype##_##isa
#define DECLARE(isa) \
  extern const cft_kernels VARIANT(any, isa), VARIANT(f32, isa), VARIANT(bf16, isa);

DECLARE(base)
extern const cft_kernels VARIANT(f64, base);
#ifdef CFT_CPU_X86
DECLARE(avx2)
DECLARE(avx512)
extern const cft_kernels VARIANT(bf16, avx512bf16);
#endif

static int always(void) { return 1; }

#ifdef CFT_CPU_X86
static int has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}

static int has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

// Asked by hand: not every compiler knows these two by name.
static int has_avx512bf16(void) {
  unsigned a, b, c, d;
  return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 5 & 1;
}

// AMD runs dot products of bf16 at twice the rate of f32 arithmetic, Intel at half.
static int likes_avx512bf16(void) { return has_avx512bf16() && __builtin_cpu_is("amd"); }

// Linux gives a process the state of the tile registers when it asks for it.
static int has_amx(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  unsigned a, b, c, d;
  return has_avx512bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 22 & 1 &&
         syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#endif

typedef struct variants {
  const char *isa;
  int (*present)(void);
  int (*taken)(void);  // also where nobody asked for it by name
  const cft_kernels *any, *f32, *bf16;
} variants;

#define VARIANTS(isa, present) \
  { #isa, present, present, &VARIANT(any, isa), &VARIANT(f32, isa), &VARIANT(bf16, isa) }

static const variants known[] = {
    // best last
    VARIANTS(base, always),
#ifdef CFT_CPU_X86
    VARIANTS(avx2, has_avx2),
    VARIANTS(avx512, has_avx512),
    {"avx512bf16", has_avx512bf16, likes_avx512bf16, &VARIANT(any, avx512), &VARIANT(f32, avx512),
     &VARIANT(bf16, avx512bf16)},
    {"amx", has_amx, has_amx, &VARIANT(any, avx512), &VARIANT(f32, avx512),
     &VARIANT(bf16, avx512bf16)},
#endif
};
enum { KNOWN = sizeof known / sizeof *known };

static const variants *chosen = known;

const char *cft_cpu_isa(void) { return chosen->isa; }

int cft_cpu_has(const char *name) {
  for (int i = 0; i < KNOWN; i++)
    if (strcmp(name, known[i].isa) == 0) return known[i].present();
  return 0;
}

cft_status cft_cpu_set_isa(const char *name) {
  const variants *best = NULL;
  for (int i = 0; i < KNOWN; i++) {
    if (name == NULL ? known[i].taken() : strcmp(name, known[i].isa) == 0) best = &known[i];
  }
  if (best == NULL)
    return cft_fail(CFT_E_ARG,
                    "isa: '%s' is not known; wanted base, avx2, avx512, avx512bf16 or amx", name);
  if (!best->present()) return cft_fail(CFT_E_UNSUPPORTED, "isa: this processor has no %s", name);
  chosen = best;
  return CFT_OK;
}

// ---- dispatch ------------------------------------------------------------------------------

const cft_kernels *cft_cpu_kernels_of(cft_dtype dtype) {
  switch (dtype) {
    case CFT_F32: return chosen->f32;
    case CFT_BF16: return chosen->bf16;
    case CFT_F64: return &VARIANT(f64, base);
    default: return NULL;
  }
}

#define BY_DTYPE(name, args)                                                  \
  static cft_status name(cft_device *d, cft_stream *s, const args *a) {       \
    const cft_kernels *k = cft_cpu_kernels_of(a->dtype);                      \
    if (k == NULL || k->name == NULL)                                         \
      return cft_fail(CFT_E_UNSUPPORTED, "no cpu kernel for " #name " in %s", \
                      cft_dtype_name(a->dtype));                              \
    return k->name(d, s, a);                                                  \
  }

#define ANY_DTYPE(name, args)                                           \
  static cft_status name(cft_device *d, cft_stream *s, const args *a) { \
    return chosen->any->name(d, s, a);                                  \
  }

#define XX(name, args, kind) kind(name, args)
CFT_KERNEL_MAP(XX)
#undef XX

const cft_kernels cft_cpu_kernels = {
#define XX(name, args, kind) .name = name,
    CFT_KERNEL_MAP(XX)
#undef XX
};
