// cast.c - casts by all their bits, and fills.
#include "harness.h"

static double f16_value(uint16_t h) {
  int e = h >> 10 & 31, m = h & 1023;
  double v = e == 31 ? (m ? NAN : INFINITY) : e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);
  return h & 0x8000 ? -v : v;
}

static bool same(double a, double b) {
  return (a == b && signbit(a) == signbit(b)) || (isnan(a) && isnan(b));
}

ANYWHERE(cast_16_bits) {
  enum { ALL = 65536 };
  uint16_t *h = array(ALL, CFT_F16), *back = array(ALL, CFT_F16);
  float *f = array(ALL, dtype);
  double *x = array(ALL, CFT_F64);
  for (int i = 0; i < ALL; i++) h[i] = (uint16_t)i;
  for (int half = 0; half < 2; half++) {
    cft_dtype narrow = half ? CFT_F16 : CFT_BF16;
    RUN(cast, (cft_cast_args){f, h, ALL, CFT_F32, narrow});
    RUN(cast, (cft_cast_args){x, h, ALL, CFT_F64, narrow});
    for (int i = 0; i < ALL; i++) {
      double want = half ? f16_value(h[i]) : get(h, CFT_BF16, i);
      if (!same((double)f[i], want) || !same(x[i], want))
        TEST_FAIL("%s %04x is %g and %g, expected %g", cft_dtype_name(narrow), h[i], (double)f[i],
                  x[i], want);
    }
    RUN(cast, (cft_cast_args){back, f, ALL, narrow, CFT_F32});
    for (int i = 0; i < ALL; i++)
      if (back[i] != h[i] && !isnan(f[i])) TEST_FAIL("%g came back as %04x", (double)f[i], back[i]);
  }
}

ANYWHERE(cast_rounds_to_even) {
  (void)dtype;
  enum { N = 1 << 20 };
  float *f = array(N, CFT_F32);
  double *x = array(N, CFT_F64);
  uint16_t *h = array(N, CFT_F16), *g = array(N, CFT_F16);
  for (int64_t i = 0; i < N; i++) {
    f[i] = bits_f32((uint32_t)(i * 4093 + 2048 * (i & 1)));
    // Doubles beside a tie of 16 bits, where rounding twice goes wrong.
    x[i] = (double)bits_f32((uint32_t)(i << 12)) * (1 + (double)(i % 3 - 1) * 0x1p-40);
  }
  f[7] = NAN, x[9] = NAN;
  for (int half = 0; half < 2; half++) {
    cft_dtype narrow = half ? CFT_F16 : CFT_BF16;
    RUN(cast, (cft_cast_args){h, f, N, narrow, CFT_F32});
    RUN(cast, (cft_cast_args){g, x, N, narrow, CFT_F64});
    note(h, sizeof *h * N);
    for (int64_t i = 0; i < N; i++) {
      for (int wide = 0; wide < 2; wide++) {
        double from = wide ? x[i] : (double)f[i];
        uint16_t to = wide ? g[i] : h[i];
        double got = half ? f16_value(to) : get(&to, CFT_BF16, 0);
        double want = half ? nearest(from, 10, -14, 65504) : nearest(from, 7, -126, 0x1.fep127);
        if (!same(got, want)) TEST_FAIL("%.17g became %.9g, expected %.9g", from, got, want);
      }
    }
  }
}

ANYWHERE(cast_integers) {
  const float f[] = {0, -1.75f, 2.5f, 1e10f, -1e10f, 1e30f, -1e30f, NAN, INFINITY};
  const int32_t i32[] = {0, -1, 2, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, 0, INT32_MAX};
  const int64_t i64[] = {0, -1, 2, 10000000000, -10000000000, INT64_MAX, INT64_MIN, 0, INT64_MAX};
  int32_t a[9];
  int64_t b[9];
  float c[9];
  RUN(cast, (cft_cast_args){a, f, 9, CFT_I32, CFT_F32});
  RUN(cast, (cft_cast_args){b, f, 9, CFT_I64, CFT_F32});
  for (int i = 0; i < 9; i++) {
    EXPECT_INT(a[i], i32[i]);
    EXPECT_INT(b[i], i64[i]);
  }
  RUN(cast, (cft_cast_args){a, i64, 9, CFT_I32, CFT_I64});
  for (int i = 0; i < 9; i++) EXPECT_INT(a[i], i32[i]);
  RUN(cast, (cft_cast_args){b, i32, 9, CFT_I64, CFT_I32});
  for (int i = 0; i < 9; i++) EXPECT_INT(b[i], i32[i]);
  RUN(cast, (cft_cast_args){c, i32, 9, CFT_F32, CFT_I32});
  for (int i = 0; i < 9; i++) EXPECT(c[i] == (float)i32[i]);
  RUN(cast, (cft_cast_args){c, i64, 9, CFT_F32, CFT_I64});
  for (int i = 0; i < 9; i++) EXPECT(c[i] == (float)i64[i]);
  EXPECT_FAILS(kernels->cast(cpu, NULL, &(cft_cast_args){c, f, 9, CFT_U8, CFT_F32}),
               CFT_E_UNSUPPORTED, "from f32 to u8");
  (void)dtype;
}

ANYWHERE(cast_floats) {
  static const cft_dtype types[] = {CFT_F32, CFT_BF16, CFT_F16, CFT_F64};
  enum { N = 9001 };
  (void)dtype;
  double *x = numbers(N, CFT_F64), *back = array(N, CFT_F64);
  for (int from = 0; from < 4; from++)
    for (int to = 0; to < 4; to++) {
      void *a = array(N, CFT_F64), *b = array(N, CFT_F64);
      RUN(cast, (cft_cast_args){a, x, N, types[from], CFT_F64});
      RUN(cast, (cft_cast_args){b, a, N, types[to], types[from]});
      RUN(cast, (cft_cast_args){back, b, N, CFT_F64, types[to]});
      for (int64_t i = 0; i < N; i++) EXPECT_CLOSE(back[i], x[i], 0);  // all are exact in all types
    }
}

ANYWHERE(fill) {
  (void)dtype;
  static const int64_t sizes[] = {0, 1, 33, 9001};
  for (int type = 0; type < 7; type++)
    for (int size = 0; size < 4; size++) {
      cft_dtype t = ALL_TYPES[type];
      void *y = array(sizes[size], t);
      cft_fill_args a = {y, sizes[size], 3, t};
      RUN(fill, a);
      for (int64_t i = 0; i < a.n; i++) {
        if (t == CFT_F16)
          EXPECT_INT(((uint16_t *)y)[i], 0x4200);
        else
          EXPECT_CLOSE(get(y, t, i), 3, 0);
      }
    }
}

TEST_MAIN()
