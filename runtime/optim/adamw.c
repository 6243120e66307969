// adamw.c - checks and dispatch of the optimizer's three calls; see cft_optim.h.
#include <inttypes.h>

#include "../ops/ops_impl.h"
#include "cft_optim.h"

static cft_status check_flat(const char *name, const cft_tensor *t, const cft_tensor *p,
                             cft_dtype dtype, cft_dtype or_dtype) {
  if (t->device != p->device)
    return cft_fail(CFT_E_DEVICE, "adamw: %s is on %s, p on %s", name, t->device->name,
                    p->device->name);
  if (cft_tensor_count(t) != cft_tensor_count(p))
    return cft_fail(CFT_E_SHAPE, "adamw: %s is %s but p is %s", name, cft_shape(t), cft_shape(p));
  if (t->dtype != dtype && t->dtype != or_dtype)
    return cft_fail(CFT_E_DTYPE, "adamw: %s is %s beside p in %s; %s or %s wanted", name,
                    cft_dtype_name(t->dtype), cft_dtype_name(p->dtype), cft_dtype_name(dtype),
                    cft_dtype_name(or_dtype));
  return cft_want_contiguous("adamw", name, t);
}

cft_status cft_adamw_step(cft_tensor *p, cft_tensor *master, cft_tensor *m, cft_tensor *v,
                          cft_tensor *g, cft_tensor *scale, const cft_adamw_options *o) {
  CFT_TRY(cft_same_float("adamw", CFT_ALL(p)));
  CFT_TRY(cft_want_contiguous("adamw", "p", p));
  cft_dtype wide = cft_wide(p->dtype), narrow = p->dtype == CFT_F64 ? CFT_F64 : CFT_BF16;
  if (master) CFT_TRY(check_flat("master", master, p, wide, wide));
  CFT_TRY(check_flat("m", m, p, wide, narrow));
  CFT_TRY(check_flat("v", v, p, m->dtype, m->dtype));
  CFT_TRY(check_flat("g", g, p, wide, p->dtype));
  if (scale && (scale->dtype != CFT_F32 || scale->device != p->device ||
                cft_tensor_count(scale) < 1))
    return cft_fail(CFT_E_DTYPE, "adamw: scale is %s %s on %s; f32 on %s wanted",
                    cft_dtype_name(scale->dtype), cft_shape(scale), scale->device->name,
                    p->device->name);
  if (o->step < 1)
    return cft_fail(CFT_E_ARG, "adamw: step is %" PRId64 "; it counts from 1", o->step);
  if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->eps >= 0 &&
        o->decay >= 0 && o->lr >= 0))
    return cft_fail(CFT_E_ARG, "adamw: lr %g, betas %g and %g, eps %g, decay %g; betas in [0, 1), "
                    "the rest not negative", o->lr, o->beta1, o->beta2, o->eps, o->decay);
  cft_tensor_touch(p);
  return CFT_KERNEL(p, adamw, (&(cft_adamw_args){
    .p = p->data, .master = cft_data(master), .m = m->data, .v = v->data, .g = g->data,
    .grad_scale = cft_data(scale),
    .not_finite = scale && cft_tensor_count(scale) > 2 ? (float *)scale->data + 2 : NULL, .n = cft_tensor_count(p), .lr = o->lr, .beta1 = o->beta1,
    .beta2 = o->beta2, .eps = o->eps, .decay = o->decay, .step = o->step, .seed = o->seed,
    .dtype = p->dtype, .g_dtype = g->dtype, .state_dtype = m->dtype }));
}

static cft_status check_scalar(const char *op, const char *name, const cft_tensor *t,
                               cft_dtype dtype, int64_t count) {
  int64_t n = cft_tensor_count(t);
  if (t->dtype != dtype || (n != count && !(dtype == CFT_F32 && n == count + 1)))
    return cft_fail(CFT_E_SHAPE, "%s: %s is %s %s; %s (%" PRId64 ") wanted", op, name,
                    cft_dtype_name(t->dtype), cft_shape(t), cft_dtype_name(dtype), count);
  return CFT_OK;
}

cft_status cft_sum_squares(cft_tensor *sum, cft_tensor *x, double alpha) {
  CFT_TRY(cft_same_device("sum_squares", CFT_ALL(sum, x)));
  CFT_TRY(cft_same_float("sum_squares", CFT_ALL(x)));
  CFT_TRY(check_scalar("sum_squares", "sum", sum, CFT_F64, 1));
  CFT_TRY(cft_want_contiguous("sum_squares", "x", x));
  return CFT_KERNEL(x, sum_squares, (&(cft_sum_squares_args){
    .out = sum->data, .x = x->data, .n = cft_tensor_count(x), .alpha = alpha, .dtype = x->dtype }));
}

cft_status cft_clip_scale(cft_tensor *out, cft_tensor *sum, double scale, double max_norm) {
  CFT_TRY(cft_same_device("clip_scale", CFT_ALL(out, sum)));
  CFT_TRY(check_scalar("clip_scale", "sum", sum, CFT_F64, 1));
  CFT_TRY(check_scalar("clip_scale", "out", out, CFT_F32, 2));
  return CFT_KERNEL(out, clip_scale, (&(cft_clip_args){
    .out = out->data, .sum_squares = sum->data, .scale = scale, .max_norm = max_norm }));
}
