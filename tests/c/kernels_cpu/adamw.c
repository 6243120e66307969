// adamw.c - the update, in every pair of dtypes, and stochastic rounding.
#include "harness.h"

// One case: p and g in `dtype` or g in f32, moments in f32 or bf16, with a master or not.
static void adamw_case(cft_dtype dtype, int64_t n, cft_dtype g_dtype, cft_dtype state_dtype,
                       bool with_master) {
  cft_dtype wide = sum_dtype(dtype);
  void *p = numbers(n, dtype), *g = numbers(n, g_dtype), *master = array(n, wide);
  void *m = constant(n, state_dtype, 0), *v = constant(n, state_dtype, 0);
  double *p_want = array(n, CFT_F64), *m_want = constant(n, CFT_F64, 0),
         *v_want = constant(n, CFT_F64, 0);
  for (int64_t i = 0; i < n; i++) put(master, wide, i, p_want[i] = get(p, dtype, i));
  float scale = 0.25f;
  double lr = 1e-2, b1 = 0.9, b2 = 0.95, eps = 1e-8, decay = 0.1;
  for (int64_t step = 1; step <= 5; step++) {
    for (int64_t i = 0; i < n; i++) put(g, g_dtype, i, get(g, g_dtype, i) * -0.5);
    RUN(adamw, (cft_adamw_args){p, with_master ? master : NULL, m, v, g, &scale, n, lr, b1, b2, eps,
                                decay, step, 42, dtype, g_dtype, state_dtype, NULL});
    for (int64_t i = 0; i < n; i++) {
      double x = get(g, g_dtype, i) * 0.25;
      m_want[i] = b1 * m_want[i] + (1 - b1) * x;
      v_want[i] = b2 * v_want[i] + (1 - b2) * x * x;
      p_want[i] *= 1 - lr * decay;
      p_want[i] -= lr / (1 - pow(b1, (double)step)) * m_want[i] /
                   (sqrt(v_want[i] / (1 - pow(b2, (double)step))) + eps);
    }
  }
  note(p, (size_t)n * cft_dtype_bytes(dtype));
  note(m, (size_t)n * cft_dtype_bytes(state_dtype));
  note(v, (size_t)n * cft_dtype_bytes(state_dtype));
  // Rounded five times: by f32, or stochastically to bf16, a unit up or down each.
  bool coarse = state_dtype == CFT_BF16 || (dtype == CFT_BF16 && !with_master);
  double tolerance = coarse ? 10 * epsilon(CFT_BF16) : 40 * epsilon(wide);
  for (int64_t i = 0; i < n; i++) {
    if (with_master) EXPECT_CLOSE(get(master, wide, i), p_want[i], tolerance);
    if (with_master) EXPECT_NEAR(p, i, get(master, wide, i), 0, dtype, dtype);
    EXPECT_CLOSE(get(p, dtype, i), p_want[i], tolerance + epsilon(dtype));
    EXPECT_CLOSE(get(m, state_dtype, i), m_want[i], tolerance);
    EXPECT_CLOSE(get(v, state_dtype, i), v_want[i], tolerance);
  }
}

EVERYWHERE(adamw) {
  cft_dtype wide = sum_dtype(dtype);
  static const int64_t sizes[] = {0, 1, 513, 20001};
  for (int size = 0; size < 4; size++)
    for (int flags = 0; flags < 8; flags++) {
      cft_dtype g_dtype = flags & 1 ? dtype : wide, state_dtype = flags & 2 ? CFT_BF16 : wide;
      if (dtype == CFT_F64 && state_dtype == CFT_BF16) continue;
      adamw_case(dtype, sizes[size], g_dtype, state_dtype, flags & 4);
      if (TEST_FAILED()) return;
      free_arrays();
    }
  float x[1] = {0};
  cft_adamw_args wrong = {.p = x,
                          .m = x,
                          .v = x,
                          .g = x,
                          .n = 1,
                          .step = 1,
                          .dtype = dtype,
                          .g_dtype = CFT_I32,
                          .state_dtype = wide};
  EXPECT_FAILS(kernels->adamw(cpu, NULL, &wrong), CFT_E_UNSUPPORTED, "g in i32");
  wrong.g_dtype = wide, wrong.state_dtype = CFT_F16;
  EXPECT_FAILS(kernels->adamw(cpu, NULL, &wrong), CFT_E_UNSUPPORTED, "moments in f16");
}

// What comes out is looked at: one bad value anywhere raises the flag, none leaves it as it was.
EVERYWHERE(adamw_says_what_is_not_finite) {
  enum { N = 20001 };
  cft_dtype wide = sum_dtype(dtype);
  static const int64_t places[] = {-1, 0, 4097, N - 1};
  for (int narrow = 0; narrow < (dtype == CFT_F64 ? 1 : 2); narrow++)
    for (int which = 0; which < 4; which++)
      for (int what = 0; what < 3; what++) {
        cft_dtype st = narrow ? CFT_BF16 : wide;
        void *p = numbers(N, dtype), *g = constant(N, wide, 1e-3), *m = constant(N, st, 0),
             *v = constant(N, st, 1e-4), *one[3] = {p, m, v};
        if (places[which] >= 0)
          put(one[what], what == 0 ? dtype : st, places[which], what == 1 ? -INFINITY : NAN);
        float flag = 0;
        RUN(adamw, (cft_adamw_args){p, NULL, m, v, g, NULL, N, 1e-3, 0.9, 0.95, 1e-8, 0, 1, 7, dtype,
                                    wide, st, &flag});
        EXPECT(flag == (places[which] >= 0));
        free_arrays();
      }
  if (dtype == CFT_F64) return;
  float *p = constant(100, CFT_F32, 3.3953e38), flag = 0;  // in f32 it is one, in bf16 it would be infinite
  void *m = constant(100, CFT_F32, 0), *v = constant(100, CFT_F32, 0), *g = constant(100, CFT_F32, 0);
  void *stored = constant(100, dtype, 0);
  RUN(adamw, (cft_adamw_args){stored, p, m, v, g, NULL, 100, 0, 0.9, 0.95, 1e-8, 0, 1, 7, dtype, CFT_F32,
                              CFT_F32, &flag});
  EXPECT(flag == (dtype == CFT_BF16));
}

#ifdef __SSE2__
// Moments of rows that no batch touches become denormal; there they would cost twenty times as
// much.
ANYWHERE(adamw_leaves_no_denormals) {
  enum { N = 1000 };
  float *p = constant(N, dtype, 1), *g = constant(N, dtype, 0), *m = constant(N, dtype, 1e-40),
        *v = constant(N, dtype, 1e-40);
  RUN(adamw, (cft_adamw_args){p, NULL, m, v, g, NULL, N, 1e-2, 0.9, 0.95, 1e-8, 0, 1, 0, CFT_F32,
                              CFT_F32, CFT_F32, NULL});
  for (int i = 0; i < N; i++) EXPECT(m[i] == 0 && v[i] == 0 && p[i] == 1);
  volatile float tiny = 1e-40f;
  EXPECT(tiny * 0.5f != 0);  // other arithmetic is as it was
}
#endif

// Updates far below bf16's step are lost to nearest rounding; with stochastic rounding they arrive on average.
ANYWHERE(stochastic_rounding_keeps_the_mean) {
  enum { N = 65536, STEPS = 8 };
  void *p = constant(N, CFT_BF16, 1), *g = constant(N, CFT_F32, 1);
  void *m = constant(N, CFT_F32, 0), *v = constant(N, CFT_F32, 0);
  for (int step = 1; step <= STEPS; step++)
    RUN(adamw, (cft_adamw_args){p, NULL, m, v, g, NULL, N, 1e-4, 0.9, 0.999, 1e-8, 0, step, 1,
                                CFT_BF16, CFT_F32, CFT_F32, NULL});
  double sum = 0;
  int64_t moved = 0, neighbours = 0;
  for (int64_t i = 0; i < N; i++) {
    sum += get(p, CFT_BF16, i) - 1;
    moved += get(p, CFT_BF16, i) != 1;
    neighbours += i > 0 && get(p, CFT_BF16, i) != 1 && get(p, CFT_BF16, i - 1) != 1;
  }
  // Each step moves by -1e-4, and bf16's step under 1 is 2^-8: about 1 in 39 elements a step.
  EXPECT(fabs(sum / N + STEPS * 1e-4) < 5 * sqrt(STEPS * 1e-4 * 0x1p-8 / N));
  double share = (double)moved / N;
  EXPECT(fabs((double)neighbours / N - share * share) < 5 * share / sqrt(N));  // not in step
  (void)dtype;
}

TEST_MAIN()
