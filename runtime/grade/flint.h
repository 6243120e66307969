// flint.h - Arb's ball arithmetic (FLINT 2.9 with Arb 2.23), opened when it is first needed.
//
// Their headers are not needed to build: what is used of them is declared here, and a library whose
// version is another one is not taken. A `ball` is their acb_struct: a complex number as two
// intervals, each a middle and a radius.
#ifndef CFT_GRADE_FLINT_H
#define CFT_GRADE_FLINT_H

#include "grade/grade_impl.h"

typedef struct ball_part {  // arb_struct: arf (exponent, size, two limbs), then mag (exponent,
                            // limb)
  int64_t exponent, size;
  uint64_t limbs[2];
  int64_t radius_exponent;
  uint64_t radius;
} ball_part;
typedef struct ball {
  ball_part re, im;
} ball;
typedef struct ball_size {  // mag_struct: an upper bound
  int64_t exponent;
  uint64_t limb;
} ball_size;

#define BALL_UNARY(XX) \
  XX(sin)              \
  XX(cos)              \
  XX(tan)              \
  XX(cot)              \
  XX(sec) XX(csc) XX(asin) XX(acos) XX(atan) XX(sinh) XX(cosh) XX(tanh) XX(exp) XX(log) XX(sqrt)
#define BALL_BINARY(XX) XX(add) XX(sub) XX(mul) XX(div) XX(pow)

typedef struct flint {
#define XX(name) void (*name)(ball * out, const ball *a, long bits);
  BALL_UNARY(XX)
#undef XX
#define XX(name) void (*name)(ball * out, const ball *a, const ball *b, long bits);
  BALL_BINARY(XX)
#undef XX
  void (*init)(ball *b);
  void (*clear)(ball *b);
  void (*set)(ball *out, const ball *a);
  void (*set_si)(ball *out, long v);
  void (*neg)(ball *out, const ball *a);
  void (*pow_si)(ball *out, const ball *a, long n, long bits);
  void (*root_ui)(ball *out, const ball *a, unsigned long n, long bits);
  void (*const_pi)(ball *out, long bits);
  void (*abs)(ball_part *out, const ball *a, long bits);
  int (*contains_zero)(const ball *a);
  int (*is_finite)(const ball *a);
  void (*get_mag)(ball_size *out, const ball *a);
  int (*set_str)(ball_part *out, const char *digits, long bits);
  void (*const_e)(ball_part *out, long bits);
  void (*fac_ui)(ball_part *out, unsigned long n, long bits);
  void (*bin_uiui)(ball_part *out, unsigned long n, unsigned long k, long bits);
  void (*floor)(ball_part *out, const ball_part *a, long bits);
  void (*ceil)(ball_part *out, const ball_part *a, long bits);
  void (*part_set_si)(ball_part *out, long v);
  int (*is_zero)(const ball_part *a);
  int (*is_negative)(const ball_part *a);
  double (*middle)(const ball_part *a, int rounding);  // of the arf that it begins with
  double (*size_log2)(const ball_size *s);
  void (*size_init)(ball_size *s);
  void (*size_clear)(ball_size *s);
} flint;

// The functions, valid until the program ends; NULL and *why where they are not there. Any thread.
const flint *flint_open(const char **why);

// Run with the library's allocations counted for `g` (NULL: no more): where they exceed their
// bound, or the library gives up, the grading ends as unknown, and the library is not used again.
void flint_for(cft_grader *g);

// Whether it has: what it was in the midst of is left as it lies, and not released.
bool flint_gave_up(void);

// What one thread may hold from now on, in bytes, for tests; 64 MiB. Returns what it was.
size_t flint_limit(size_t bytes);

#endif
