// work.c - the FLOPs and bytes in a call of each kernel, and its shape as a text.
//
// FLOPs are those of products and attention, as docs/performance.md counts them. Bytes are what has
// to pass: each operand read once and each result written once, and read before where it is added
// to. What a kernel reads twice because it does not fit a cache is not in them, so that a share of
// the floor shows it.
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "trace_impl.h"

static double size_of(cft_dtype dtype) { return (double)cft_dtype_bytes(dtype); }
static double wide(cft_dtype dtype) { return dtype == CFT_F64 ? 8 : 4; }  // of statistics

__attribute__((format(printf, 5, 6))) static void note(cft_traced *c, cft_dtype dtype, double flops,
                                                       double bytes, const char *shape, ...) {
  c->dtype = (int32_t)dtype, c->flops = flops, c->bytes = bytes;
  va_list list;
  va_start(list, shape);
  vsnprintf(c->shape, sizeof c->shape, shape, list);
  va_end(list);
}

// Rows of d numbers, of which `passes` arrays are read or written.
static void rows(cft_traced *c, cft_dtype dtype, int64_t n, int64_t d, double passes) {
  note(c, dtype, 0, passes * (double)n * (double)d * size_of(dtype), "%" PRId64 " x %" PRId64, n,
       d);
}

// The same of a flat array.
static void flat(cft_traced *c, cft_dtype dtype, int64_t n, double bytes_each) {
  note(c, dtype, 0, bytes_each * (double)n, "%" PRId64, n);
}

#define WORK(name, args) void cft_work_##name(cft_traced *c, const args *a)

WORK(matmul, cft_matmul_args) {
  const double m = (double)a->m, n = (double)a->n, k = (double)a->k;
  const double passes = a->beta ? 2 : 1;
  note(c, a->dtype, 2 * m * n * k,
       (m * k + k * n) * size_of(a->dtype) + passes * m * n * size_of(a->c_dtype),
       "%" PRId64 " x %" PRId64 " x %" PRId64 " %c%c%s", a->m, a->n, a->k, a->trans_a ? 't' : 'n',
       a->trans_b ? 't' : 'n', a->beta ? " +" : "");
}

WORK(embedding_fwd, cft_embedding_args) { rows(c, a->dtype, a->n, a->d, 2); }

WORK(embedding_bwd, cft_embedding_bwd_args) {
  rows(c, a->dtype, a->n, a->d, 1);
  c->bytes += 2 * (double)a->n * (double)a->d * size_of(a->dtable_dtype);
}

static void moved_rows(cft_traced *c, const cft_rows_args *a) {
  rows(c, a->dtype, a->n, a->d, a->add ? 3 : 2);
}
WORK(gather_rows, cft_rows_args) { moved_rows(c, a); }
WORK(scatter_rows, cft_rows_args) { moved_rows(c, a); }

WORK(rmsnorm_fwd, cft_rmsnorm_args) { rows(c, a->dtype, a->n, a->d, a->residual ? 4 : 2); }
WORK(rmsnorm_bwd, cft_rmsnorm_bwd_args) {
  rows(c, a->dtype, a->n, a->d, 3 + (a->dsum != NULL) + (a->ds_beta != 0));
}

WORK(rope, cft_rope_args) {
  rows(c, a->dtype, a->n, a->heads * a->d, 2);
  c->bytes += (double)a->n * (double)a->d * wide(a->dtype);
}

WORK(swiglu_fwd, cft_swiglu_args) { rows(c, a->dtype, a->n, a->d, 3); }
WORK(swiglu_bwd, cft_swiglu_bwd_args) { rows(c, a->dtype, a->n, a->d, 5 + (a->y != NULL)); }

WORK(relu2_fwd, cft_relu2_args) { flat(c, a->dtype, a->n, 2 * size_of(a->dtype)); }
WORK(relu2_bwd, cft_relu2_bwd_args) {
  flat(c, a->dtype, a->n, (a->dx_beta ? 4 : 3) * size_of(a->dtype));
}

// Attention reads or writes `of_queries` arrays of H heads and `of_keys` of K.
static void attention(cft_traced *c, cft_dtype dtype, int64_t nq, int64_t nk, int64_t H, int64_t K,
                      int64_t D, double flops, double arrays) {
  const double queries = (double)nq * (double)(H * D), keys = (double)nk * (double)(K * D);
  note(c, dtype, flops, arrays * (queries + keys) * size_of(dtype) + (double)(nq * H) * wide(dtype),
       "%" PRId64 " over %" PRId64 ", H%" PRId64 " K%" PRId64 " D%" PRId64, nq, nk, H, K, D);
}

WORK(attention_fwd, cft_attention_args) {
  attention(c, a->dtype, a->nq, a->nk, a->H, a->K, a->D,
            4 * (double)a->pairs * (double)(a->H * a->D), 2);
}
WORK(attention_bwd, cft_attention_bwd_args) {
  attention(c, a->dtype, a->nq, a->nk, a->H, a->K, a->D,
            10 * (double)a->pairs * (double)(a->H * a->D), 4);
}
WORK(attention_paged, cft_attention_paged_args) {
  attention(c, a->dtype, a->nq, a->B * a->longest_k, a->H, a->K, a->D,
            4 * (double)a->keys * (double)(a->H * a->D), 2);
}
WORK(attention_merge, cft_attention_merge_args) { rows(c, a->dtype, a->n, a->H * a->D, 3); }

WORK(cross_entropy, cft_cross_entropy_args) {
  rows(c, a->dtype, a->n, a->V, 1);
  if (a->grad) c->bytes += (double)a->n * (double)a->V * size_of(a->grad_dtype);
}
WORK(sample, cft_sample_args) { rows(c, a->dtype, a->n, a->V, 1); }
WORK(softmax_fwd, cft_softmax_args) { rows(c, a->dtype, a->n, a->d, 2); }
WORK(softmax_bwd, cft_softmax_bwd_args) { rows(c, a->dtype, a->n, a->d, a->dx_beta ? 4 : 3); }

WORK(unary, cft_unary_args) { flat(c, a->dtype, a->n, (a->y_beta ? 3 : 2) * size_of(a->dtype)); }
WORK(binary, cft_binary_args) {
  rows(c, a->dtype, a->n, a->d, a->y_beta ? 3 : 2);
  const double of_b = (a->b_rows ? (double)a->n : 1) * (a->b_cols ? (double)a->d : 1);
  c->bytes += of_b * size_of(a->dtype);
}
WORK(axpby, cft_axpby_args) {
  flat(c, a->dtype, a->n, size_of(a->dtype) + (a->beta != 0 ? 2 : 1) * size_of(a->y_dtype));
}
WORK(reduce, cft_reduce_args) {
  const double kept = (double)a->outer * (double)a->inner;
  note(c, a->dtype, 0, kept * ((double)a->mid * size_of(a->dtype) + size_of(a->y_dtype)),
       "%" PRId64 " x %" PRId64 " x %" PRId64, a->outer, a->mid, a->inner);
}
WORK(cast, cft_cast_args) { flat(c, a->x_dtype, a->n, size_of(a->x_dtype) + size_of(a->y_dtype)); }

WORK(strided_copy, cft_strided_args) {
  double count = 1;
  char shape[sizeof c->shape] = "";
  int at = 0;
  for (int i = 0; i < a->ndim; i++) {
    count *= (double)a->dims[i];
    if (at < (int)sizeof shape)
      at +=
          snprintf(shape + at, sizeof shape - (size_t)at, "%s%" PRId64, i ? " x " : "", a->dims[i]);
  }
  note(c, a->dtype, 0, 2 * count * size_of(a->dtype), "%s", shape);
}
WORK(fill, cft_fill_args) { flat(c, a->dtype, a->n, size_of(a->dtype)); }
WORK(random, cft_random_args) { flat(c, a->dtype, a->n, size_of(a->dtype)); }
WORK(sum_squares, cft_sum_squares_args) { flat(c, a->dtype, a->n, size_of(a->dtype)); }
WORK(clip_scale, cft_clip_args) {
  (void)a;
  note(c, CFT_F32, 0, 16, "1");
}
WORK(adamw, cft_adamw_args) {
  const double weights = a->master ? size_of(a->dtype) + 2 * wide(a->dtype) : 2 * size_of(a->dtype);
  flat(c, a->dtype, a->n, size_of(a->g_dtype) + weights + 4 * size_of(a->state_dtype));
}
