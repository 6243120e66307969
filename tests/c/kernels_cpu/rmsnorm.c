// rmsnorm.c - rmsnorm and its gradient, with a residual and without.
#include "harness.h"

EVERYWHERE(rmsnorm_fwd) {
  cft_dtype sum = sum_dtype(dtype);
  for (int shape = 0; shape < 6; shape++)
    for (int residual = 0; residual < 2; residual++) {
      int64_t n = ROW_SHAPES[shape][0], d = ROW_SHAPES[shape][1];
      double eps = shape == 2 ? 1e-1 : 1e-6;
      void *x = numbers(n * d, dtype), *r = numbers(n * d, dtype), *w = numbers(d, dtype);
      void *y = output(n * d, dtype, 0), *s = output(n * d, dtype, 0), *rstd = output(n, sum, 0);
      RUN(rmsnorm_fwd, (cft_rmsnorm_args){y, residual ? s : NULL, rstd, x, residual ? r : NULL, w,
                                          n, d, eps, dtype});
      note(y, (size_t)(n * d) * cft_dtype_bytes(dtype));
      note(rstd, (size_t)n * cft_dtype_bytes(sum));
      for (int64_t i = 0; i < n; i++) {
        double squares = 0;
        for (int64_t j = i * d; j < (i + 1) * d; j++) {
          if (residual) EXPECT_NEAR(s, j, get(x, dtype, j) + get(r, dtype, j), 0, dtype, dtype);
          double v = residual ? get(s, dtype, j) : get(x, dtype, j);
          squares += v * v;
        }
        double want = 1 / sqrt(squares / (double)d + eps);
        EXPECT_NEAR(rstd, i, want, want, sum, sum);
        for (int64_t j = 0; j < d; j++) {
          double v = residual ? get(s, dtype, i * d + j) : get(x, dtype, i * d + j);
          EXPECT_NEAR(y, i * d + j, get(w, dtype, j) * v * want, 0, sum, dtype);
        }
      }
      free_arrays();
    }
}

EVERYWHERE(rmsnorm_bwd) {
  cft_dtype sum = sum_dtype(dtype);
  for (int shape = 0; shape < 6; shape++)
    for (int flags = 0; flags < 32; flags++) {
      int ds_beta = flags & 1, dw_beta = flags >> 1 & 1, with_sum = flags >> 2 & 1;
      int with_dw = flags >> 3 & 1, wide = flags >> 4 & 1;
      if (wide && dtype != CFT_BF16) continue;
      int64_t n = ROW_SHAPES[shape][0], d = ROW_SHAPES[shape][1];
      cft_dtype dw_dtype = wide ? CFT_F32 : dtype;
      void *dy = numbers(n * d, dtype), *s = numbers(n * d, dtype), *w = numbers(d, dtype);
      void *dsum = numbers(n * d, dtype), *rstd = array(n, sum);
      void *ds = output(n * d, dtype, ds_beta), *ds0 = copied(ds, n * d, dtype);
      void *dw = output(d, dw_dtype, dw_beta), *dw0 = copied(dw, d, dw_dtype);
      for (int64_t i = 0; i < n; i++) {
        double squares = 0;
        for (int64_t j = i * d; j < (i + 1) * d; j++)
          squares += get(s, dtype, j) * get(s, dtype, j);
        put(rstd, sum, i, 1 / sqrt(squares / (double)d + 1e-5));
      }
      RUN(rmsnorm_bwd,
          (cft_rmsnorm_bwd_args){ds, with_dw ? dw : NULL, dy, s, w, rstd, with_sum ? dsum : NULL, n,
                                 d, ds_beta, dw_beta, dtype, dw_dtype});
      note(ds, (size_t)(n * d) * cft_dtype_bytes(dtype));
      note(dw, (size_t)d * cft_dtype_bytes(dw_dtype));
      double *want = array(d, CFT_F64), *size = array(d, CFT_F64);
      for (int64_t j = 0; j < d; j++) {
        want[j] = dw_beta ? get(dw0, dw_dtype, j) : 0;
        size[j] = fabs(want[j]);
      }
      for (int64_t i = 0; i < n; i++) {
        double r = get(rstd, sum, i), mean = 0, mean_size = 0;
        for (int64_t j = 0; j < d; j++) {
          double t = get(w, dtype, j) * get(dy, dtype, i * d + j) * get(s, dtype, i * d + j) * r;
          mean += t / (double)d, mean_size += fabs(t) / (double)d;
        }
        for (int64_t j = 0; j < d; j++) {
          int64_t at = i * d + j;
          double shat = get(s, dtype, at) * r, g = get(dy, dtype, at);
          double more = (with_sum ? get(dsum, dtype, at) : 0) + (ds_beta ? get(ds0, dtype, at) : 0);
          want[j] += g * shat, size[j] += fabs(g * shat);
          EXPECT_NEAR(ds, at, r * (get(w, dtype, j) * g - shat * mean) + more,
                      r * (fabs(g) + fabs(shat) * mean_size) + fabs(more), sum, dtype);
        }
      }
      for (int64_t j = 0; j < d && with_dw; j++)
        EXPECT_NEAR(dw, j, want[j], size[j], sum, dw_dtype);
      free_arrays();
    }
  float x[1] = {1};
  cft_rmsnorm_bwd_args wrong = {x, x, x, x, x, x, NULL, 1, 1, 0, 0, dtype, CFT_I32};
  EXPECT_FAILS(kernels->rmsnorm_bwd(cpu, NULL, &wrong), CFT_E_UNSUPPORTED, "dw in i32");
  wrong.dw_dtype = dtype;
  cft_cpu_fail_alloc(1);
  EXPECT_FAILS(kernels->rmsnorm_bwd(cpu, NULL, &wrong), CFT_E_OOM, "no memory for");
}

TEST_MAIN()
