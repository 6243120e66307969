// rmsnorm.c - checks and dispatch of RMSNorm with an optional residual; see cft_ops.h.
#include "ops_impl.h"

static cft_status check(const char *op, const cft_tensor *x, const cft_tensor *w) {
  if (x->ndim < 1 || w->ndim != 1 || w->dims[0] != cft_last_dim(x))
    return cft_fail(CFT_E_SHAPE, "%s: w is %s but x is %s; w must be x's last dimension", op,
                    cft_shape(w), cft_shape(x));
  if (w->dims[0] == 0)
    return cft_fail(CFT_E_SHAPE, "%s: x is %s; an empty row has no mean", op, cft_shape(x));
  CFT_TRY(cft_want_contiguous(op, "w", w));
  return cft_want_contiguous(op, "x", x);
}

static cft_status same_shape(const char *op, const char *name, const cft_tensor *t,
                             const cft_tensor *x) {
  if (!t) return CFT_OK;
  if (cft_rows(t) != cft_rows(x) || cft_last_dim(t) != cft_last_dim(x))
    return cft_fail(CFT_E_SHAPE, "%s: %s is %s but x is %s", op, name, cft_shape(t), cft_shape(x));
  return cft_want_contiguous(op, name, t);
}

cft_status cft_rmsnorm_fwd(cft_tensor **y, cft_tensor **sum, cft_tensor **rstd, cft_tensor *x,
                           cft_tensor *residual, cft_tensor *w, double eps) {
  CFT_TRY(cft_same_float("rmsnorm", CFT_ALL(x, residual, w)));
  CFT_TRY(check("rmsnorm", x, w));
  CFT_TRY(same_shape("rmsnorm", "residual", residual, x));
  if (!(eps > 0)) return cft_fail(CFT_E_ARG, "rmsnorm: eps is %g; it must be above 0", eps);
  if (!residual != !sum)
    return cft_fail(CFT_E_ARG, "rmsnorm: a residual and its sum come together or not at all");

  cft_status st;
  cft_tensor *y0 = NULL, *sum0 = NULL, *rstd0 = NULL;
  int64_t n = cft_rows(x);
  CFT_GO(cft_new_like(&y0, x));
  if (residual) CFT_GO(cft_new_like(&sum0, x));
  CFT_GO(cft_tensor_new(&rstd0, x->device, cft_wide(x->dtype), 1, &n));
  CFT_GO(CFT_KERNEL(x, rmsnorm_fwd, (&(cft_rmsnorm_args){
    .y = y0->data, .sum = cft_data(sum0), .rstd = rstd0->data, .x = x->data,
    .residual = cft_data(residual), .w = w->data, .n = n, .d = w->dims[0], .eps = eps,
    .dtype = x->dtype })));
  *y = cft_take(&y0);
  if (residual) *sum = cft_take(&sum0);
  *rstd = cft_take(&rstd0);
out:
  cft_tensor_release(rstd0);
  cft_tensor_release(sum0);
  cft_tensor_release(y0);
  return st;
}

cft_status cft_rmsnorm_bwd(cft_tensor **ds, cft_tensor **dw, cft_tensor *dy, cft_tensor *dsum,
                           cft_tensor *s, cft_tensor *w, cft_tensor *rstd) {
  CFT_TRY(cft_same_float("rmsnorm_bwd", CFT_ALL(dy, dsum, s, w)));
  CFT_TRY(check("rmsnorm_bwd", s, w));
  CFT_TRY(same_shape("rmsnorm_bwd", "dy", dy, s));
  CFT_TRY(same_shape("rmsnorm_bwd", "dsum", dsum, s));
  if (rstd->dtype != cft_wide(s->dtype) || cft_tensor_count(rstd) != cft_rows(s))
    return cft_fail(CFT_E_SHAPE, "rmsnorm_bwd: rstd is %s %s but s is %s",
                    cft_dtype_name(rstd->dtype), cft_shape(rstd), cft_shape(s));

  cft_status st;
  int made_s = 0, made_w = 0, beta_s = 0, beta_w = 0;
  cft_tensor *unwanted = NULL, **target = ds ? ds : &unwanted;  // the kernel always writes ds
  CFT_GO(cft_gradient(target, &made_s, &beta_s, "rmsnorm_bwd", "ds", s, s->dtype, 0));
  CFT_GO(cft_gradient(dw, &made_w, &beta_w, "rmsnorm_bwd", "dw", w, w->dtype, 1));
  CFT_GO(CFT_KERNEL(s, rmsnorm_bwd, (&(cft_rmsnorm_bwd_args){
    .ds = (*target)->data, .dw = dw ? (*dw)->data : NULL, .dy = dy->data, .s = s->data,
    .w = w->data, .rstd = rstd->data, .dsum = cft_data(dsum), .n = cft_rows(s), .d = w->dims[0],
    .ds_beta = beta_s, .dw_beta = beta_w, .dtype = s->dtype,
    .dw_dtype = dw ? (*dw)->dtype : s->dtype })));
out:
  if (st != CFT_OK) {
    cft_gradient_undo(ds, made_s);
    cft_gradient_undo(dw, made_w);
  }
  cft_tensor_release(unwanted);
  return st;
}
