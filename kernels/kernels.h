// kernels.h - the arguments of every kernel, and the table of kernels that a device fills:
// the arithmetic of cft on a page.
//
// Conventions. Outputs first, inputs next, sizes and scalars last. Row-major. `n` tokens of a
// packed batch, B sequences in it, d width, H heads, K key/value heads, D head width, V vocabulary.
// `*_stride` is the distance of two rows in elements; a row itself is contiguous. Where a gradient
// output has a `*_beta`, 0 writes it (and never reads it), 1 adds to it. A gradient pointer that is
// NULL is not wanted. Sums are taken in f32 for f32 and bf16, in f64 for f64. Indices are i32.
// `n == 0` is not an error: nothing is done. No kernel allocates but through its device.
#ifndef CFT_KERNELS_H
#define CFT_KERNELS_H

#include "base.h"

typedef struct cft_stream cft_stream;  // a device's queue; the CPU's is NULL

// ---- matmul --------------------------------------------------------------------------------

// c (m, n) = op(a) op(b) [+ c if beta] [+ bias (n) to every row]
// op(a) is (m, k): a as stored, or its transpose if trans_a; op(b) is (k, n) likewise.
// y = x W^T is {trans_b}, dx = dy W is {}, dW = dy^T x is {trans_a}.
// Where a_sum is given, a_sum (m) = [a_sum +] sum over k of op(a): beside dW the bias gradient,
// from the same pass over dy where a device has one. Wants trans_a, rows of a without gaps, no
// bias; E_ARG otherwise.
typedef struct cft_matmul_args {
  void *c;
  const void *a, *b;
  const void *bias;  // (n), dtype; NULL = none
  int64_t m, n, k;
  int64_t c_stride, a_stride, b_stride;
  int trans_a, trans_b;
  int beta;
  cft_dtype dtype;    // of a, b, bias
  cft_dtype c_dtype;  // dtype, or f32 where dtype is bf16
  // Which weight b is, and which edition of its values: a device may keep a packed copy under
  // these. 0 = not a weight, keep nothing.
  uint64_t b_id, b_version;
  void *a_sum;  // (m), c_dtype; NULL = not wanted
  int a_sum_beta;
} cft_matmul_args;

// ---- rows ----------------------------------------------------------------------------------

// y[i] = table[ids[i]]; ids outside [0, rows) are the caller's to refuse.
typedef struct cft_embedding_args {
  void *y;
  const void *table;
  const int32_t *ids;
  int64_t n, d, rows;
  cft_dtype dtype;
} cft_embedding_args;

// dtable[ids[i]] += dy[i], in order of i for each row: equal for every thread count.
typedef struct cft_embedding_bwd_args {
  void *dtable;
  const void *dy;
  const int32_t *ids;
  int64_t n, d, rows;
  cft_dtype dtype;         // of dy
  cft_dtype dtable_dtype;  // dtype or f32
} cft_embedding_bwd_args;

// gather: y[i] = x[index[i]].  scatter: y[index[i]] = x[i], or += if add; rows of index are
// distinct, rows of y that no index names stay as they are. index NULL: row i is row i.
typedef struct cft_rows_args {
  void *y;
  const void *x;
  const int32_t *index;
  int64_t n, d;
  int64_t y_stride, x_stride;
  int add;
  cft_dtype dtype;
} cft_rows_args;

// ---- norm, position, activation ------------------------------------------------------------

// s = x + residual (s is x when residual is NULL, and is not written);
// y = w * s * rstd,  rstd = 1 / sqrt(mean(s^2) + eps) over each row.
typedef struct cft_rmsnorm_args {
  void *y;
  void *sum;    // (n, d) or NULL without residual
  void *rstd;   // (n): f32, f64 for f64
  const void *x, *residual, *w;
  int64_t n, d;
  double eps;
  cft_dtype dtype;
} cft_rmsnorm_args;

// ds = rstd * (w*dy - shat * mean(w*dy*shat)) [+ dsum], shat = s * rstd; it is the gradient of x
// and of residual alike.  dw = sum over rows of dy * shat.
typedef struct cft_rmsnorm_bwd_args {
  void *ds;            // (n, d)
  void *dw;            // (d) or NULL
  const void *dy, *s, *w;
  const void *rstd;
  const void *dsum;    // (n, d): gradient that reached the sum by the residual path, or NULL
  int64_t n, d;
  int ds_beta, dw_beta;
  cft_dtype dtype, dw_dtype;
} cft_rmsnorm_bwd_args;

// Rotate pairs (j, j + D/2) of each head by the angle of its row's position:
//   y[j] = x[j] cos - x[j + D/2] sin,  y[j + D/2] = x[j + D/2] cos + x[j] sin
// `inverse` turns the other way, which is the gradient. y may be x. `cos`, `sin` are
// (positions, D/2): f32, f64 for f64.
typedef struct cft_rope_args {
  void *y;
  const void *x;
  const void *cos, *sin;
  const int32_t *position;  // (n), each < positions
  int64_t n, heads, d;      // d = D, even
  int64_t y_stride, x_stride;
  int inverse;
  cft_dtype dtype;
} cft_rope_args;

// y = gate * sigmoid(gate) * up
typedef struct cft_swiglu_args {
  void *y;
  const void *gate, *up;
  int64_t n, d;
  int64_t y_stride, x_stride;  // x_stride: of gate and of up
  cft_dtype dtype;
} cft_swiglu_args;

typedef struct cft_swiglu_bwd_args {
  void *dgate, *dup;  // may be gate and up themselves
  void *y;            // the forward's output again, for a dW that comes next; NULL = not wanted
  const void *dy, *gate, *up;
  int64_t n, d;
  int64_t dx_stride, dy_stride, x_stride, y_stride;
  cft_dtype dtype;
} cft_swiglu_bwd_args;

// y = max(x, 0)^2, NaN passes; backward dx = 2 max(x, 0) dy.
typedef struct cft_relu2_args {
  void *y;
  const void *x;
  int64_t n;
  cft_dtype dtype;
} cft_relu2_args;

typedef struct cft_relu2_bwd_args {
  void *dx;
  const void *dy, *x;
  int64_t n;
  int dx_beta;
  cft_dtype dtype;
} cft_relu2_bwd_args;

// ---- attention -----------------------------------------------------------------------------

// Causal grouped-query attention over packed sequences. Sequence b owns query rows
// [cu_q[b], cu_q[b+1]) and the k_len[b] key rows from cu_k[b] (k_len NULL: up to cu_k[b+1]).
// Query i of a sequence sees its keys 0..p, where p = q_position[row] if given, else
// k_len - q_len + i (the queries are the sequence's last rows). Not causal: sees all k_len.
//   o[i, h] = sum_j softmax_j(scale * q[i, h] . k[j, h / (H/K)]) v[j, h / (H/K)]
//   lse[i, h] = log sum_j exp(scale * q . k), natural log; -inf and o = 0 where no key is seen
typedef struct cft_attention_args {
  void *o;
  void *lse;  // (nq, H): f32, f64 for f64
  const void *q, *k, *v;
  const int32_t *cu_q, *cu_k;  // (B + 1)
  const int32_t *k_len;        // (B) or NULL
  const int32_t *q_position;   // (nq) or NULL; rising inside a sequence
  int64_t nq, nk, B, longest_q, longest_k;
  int64_t pairs;  // of a query and a key that it sees: how much work there is; 0 = nobody counted
  int64_t H, K, D;
  int64_t o_stride, q_stride, k_stride, v_stride;
  double scale;
  int causal;
  cft_dtype dtype;
} cft_attention_args;

// The same attention, causal, with keys and values in pages of `page` rows: key j of sequence b is row j % page of page
// pages[cu_pages[b] + j / page]. The queries are the last rows of the k_len[b] keys. Bits are those of attention_fwd.
typedef struct cft_attention_paged_args {
  void *o;
  const void *q, *k, *v;
  const int32_t *cu_q;      // (B + 1)
  const int32_t *cu_pages;  // (B + 1)
  const int32_t *pages;     // (cu_pages[B])
  const int32_t *k_len;     // (B)
  int64_t nq, B, page;      // page a multiple of 32
  int64_t longest_q, longest_k;
  int64_t keys;             // sum over queries of the keys of their sequence: how much work there is
  int64_t H, K, D;
  int64_t o_stride, q_stride, k_stride, v_stride;
  double scale;
  cft_dtype dtype;
} cft_attention_paged_args;

// dq, dk, dv are written (no beta). Key rows that belong to no sequence get zero.
typedef struct cft_attention_bwd_args {
  void *dq, *dk, *dv;
  const void *do_, *o, *lse;
  const void *q, *k, *v;
  const int32_t *cu_q, *cu_k, *k_len, *q_position;
  int64_t nq, nk, B, longest_q, longest_k;
  int64_t pairs;  // as forward
  int64_t H, K, D;
  int64_t dq_stride, dk_stride, dv_stride;
  int64_t do_stride, o_stride, q_stride, k_stride, v_stride;
  double scale;
  int causal;
  int deterministic;
  cft_dtype dtype;
} cft_attention_bwd_args;

// Two results of the same queries over two sets of keys, each with its lse, become the one over both:
//   lse' = log(exp(lse) + exp(lse2)),  o' = exp(lse - lse') o + exp(lse2 - lse') o2
// o and lse are read and written. What saw no key (lse -inf) leaves the other as it is.
typedef struct cft_attention_merge_args {
  void *o;    // (n, H, D)
  void *lse;  // (n, H): f32, f64 for f64
  const void *o2, *lse2;
  int64_t n, H, D;
  int64_t o_stride, o2_stride;
  cft_dtype dtype;
} cft_attention_merge_args;

// ---- loss ----------------------------------------------------------------------------------

// For each of n rows: nll[i] = logsumexp(logits[i]) - logits[i, target[i]];
// grad[i, j] = scale * weight[i] * (softmax(logits[i])[j] - [j == target[i]]).
// grad may be logits itself (same dtype) and may be NULL. Rows of weight 0 get nll and a zero
// gradient; a target outside [0, V) needs weight 0 and gets nll 0.
typedef struct cft_cross_entropy_args {
  void *nll;  // (n): f32, f64 for f64
  void *grad;
  const void *logits;
  const int32_t *target;
  const float *weight;
  int64_t n, V;
  int64_t logits_stride, grad_stride;
  double scale;
  cft_dtype dtype;       // of logits
  cft_dtype grad_dtype;  // dtype, or bf16 where dtype is f32
} cft_cross_entropy_args;

// One token of each of n rows of logits x, drawn or the largest.
//   a = x, divided by `penalty` where x > 0 and multiplied elsewhere, for the ids in `seen`;  a += bias
//   z = a times 1 / temperature, in f32; at temperature 0 the token is the first of the largest a
//   w = exp(z - max z) in f32; sums of w are of whole multiples of 2^-44, to which each is rounded
//   kept are the tokens with
//     z at least the top_k-th largest z (top_k 0: no bound);
//     z at least the largest z' such that softmax over those kept so far gives the tokens with z >= z' at least top_p
//     (1: no bound);
//     w at least min_p (0: no bound)
//   the token is the first at which the running sum of w over kept tokens, by rising id, exceeds u times the whole sum.
//   u = (w0 2^21 + w1 >> 11) / 2^53 of words 0 and 1 of Philox(key = seed, counter = (position, sequence)).
// Equal z are kept or dropped together, and nothing depends on the row or on the rows beside it. Sums of whole numbers are
// exact, so devices whose exp agrees to the bit draw the same token. V is at most 2^19.
// logprob = x[token] - logsumexp(x), top likewise: of the logits as they came, before all of the above.
typedef struct cft_sample_args {
  int32_t *token;     // (n); -1 where a row has a NaN, or nothing but -inf
  void *logprob;      // (n): f32, f64 for f64
  int32_t *top;       // (n, top_n): ids of the largest x, largest first, among equals the lowest id; top_n 0: NULL
  void *top_logprob;  // (n, top_n)
  const void *logits;
  const float *numbers;                    // (n, 4): temperature, top_p, min_p, penalty
  const int64_t *keys;                     // (n, 4): seed, sequence, position, top_k
  const int32_t *cu_seen, *seen;           // (n + 1), ids without repeats
  const int32_t *cu_bias, *bias_id;        // (n + 1), ids without repeats
  const float *bias;
  int64_t n, V, top_n, logits_stride;
  int64_t listed;  // ids in seen and bias_id together, as the host knows it
  cft_dtype dtype;
} cft_sample_args;

// y = softmax over each row; backward dx = y * (dy - sum(y * dy)).
typedef struct cft_softmax_args {
  void *y;
  const void *x;
  int64_t n, d;
  cft_dtype dtype;
} cft_softmax_args;

typedef struct cft_softmax_bwd_args {
  void *dx;
  const void *dy, *y;
  int64_t n, d;
  int dx_beta;
  cft_dtype dtype;
} cft_softmax_bwd_args;

// ---- elementwise, reductions, casts --------------------------------------------------------

typedef enum cft_unary {
  CFT_NEG = 0, CFT_EXP, CFT_LOG, CFT_SQRT, CFT_RSQRT, CFT_TANH, CFT_SIGMOID, CFT_RELU, CFT_SILU,
  CFT_ABS, CFT_SIN, CFT_COS, CFT_SQUARE, CFT_RECIPROCAL, CFT_STEP /* 1 where x > 0, else 0 */,
} cft_unary;

typedef enum cft_binary {
  CFT_ADD = 0, CFT_SUB, CFT_MUL, CFT_DIV, CFT_MAX, CFT_MIN, CFT_POW,
} cft_binary;

// y = alpha * f(x)
typedef struct cft_unary_args {
  void *y;
  const void *x;
  int64_t n;
  cft_unary f;
  double alpha;
  int y_beta;
  cft_dtype dtype;
} cft_unary_args;

// y[i, j] = f(a[i, j], b), b read at i * b_rows + j * b_cols: (d, 1) is elementwise, (0, 1)
// a row for all, (1, 0) a number for each row, (0, 0) one number.
typedef struct cft_binary_args {
  void *y;
  const void *a, *b;
  int64_t n, d;
  int64_t b_rows, b_cols;
  cft_binary f;
  int y_beta;
  cft_dtype dtype;
} cft_binary_args;

// y = alpha * x + beta * y: beta 0 never reads y.
typedef struct cft_axpby_args {
  void *y;
  const void *x;
  int64_t n;
  double alpha, beta;
  cft_dtype dtype;    // of x
  cft_dtype y_dtype;  // dtype, or f32 where dtype is bf16
} cft_axpby_args;

typedef enum cft_reduction { CFT_SUM = 0, CFT_MAXIMUM, CFT_ARGMAX, CFT_SUM_SQUARES } cft_reduction;

// x seen as (outer, mid, inner), reduced over mid: y (outer, inner). ARGMAX writes i32 (the first
// of equals) and refuses nothing: a row of NaN answers 0.
typedef struct cft_reduce_args {
  void *y;
  const void *x;
  int64_t outer, mid, inner;
  double alpha;  // y = alpha * reduction (not for ARGMAX)
  cft_reduction f;
  int y_beta;
  cft_dtype dtype;
  cft_dtype y_dtype;  // dtype, or f32 where dtype is bf16; i32 for ARGMAX
} cft_reduce_args;

// y = x in another dtype; any pair of f32, bf16, f64, f16, and i32 <-> i64 <-> f32. To bf16 by
// round to nearest even; NaN stays NaN.
typedef struct cft_cast_args {
  void *y;
  const void *x;
  int64_t n;
  cft_dtype y_dtype, x_dtype;
} cft_cast_args;

// y (contiguous) = x with dims and strides in elements; moves bytes, any dtype.
enum { CFT_MAX_DIMS = 6 };
typedef struct cft_strided_args {
  void *y;
  const void *x;
  int ndim;
  int64_t dims[CFT_MAX_DIMS], y_strides[CFT_MAX_DIMS], x_strides[CFT_MAX_DIMS];
  cft_dtype dtype;
} cft_strided_args;

typedef struct cft_fill_args {
  void *y;
  int64_t n;
  double value;
  cft_dtype dtype;
} cft_fill_args;

typedef enum cft_distribution { CFT_UNIFORM = 0, CFT_NORMAL = 1 } cft_distribution;

// Philox4x32-10: element i is made of word i % 4 of block i / 4, which is philox(key = seed, counter
// = (i / 4, counter), low 64 bits first): a pure function of (seed, counter, i), equal on every
// device to rounding. UNIFORM: a + (b-a) u, u = the word's upper 24 bits / 2^24, in [0, 1). NORMAL:
// mean a, standard deviation b; words 0 and 1, 2 and 3 make two each by Box-Muller, radius from
// (first + 1/2) / 2^32, angle 2 pi u of the second, cosine before sine.
typedef struct cft_random_args {
  void *y;
  int64_t n;
  uint64_t seed, counter;
  double a, b;
  cft_distribution f;
  cft_dtype dtype;
} cft_random_args;

// ---- optimizer -----------------------------------------------------------------------------

// out[0] += alpha * sum(x^2), f64, in blocks of fixed size and order: equal for any thread count.
typedef struct cft_sum_squares_args {
  double *out;
  const void *x;
  int64_t n;
  double alpha;
  cft_dtype dtype;
} cft_sum_squares_args;

// norm = sqrt(sum_squares[0]) * scale;  out[0] = scale * min(1, max_norm / (norm + 1e-6)), f32,
// as torch.nn.utils.clip_grad_norm_; max_norm <= 0: out[0] = scale. out[1] = norm. Where that is NaN or
// infinite out[0] is NaN, for which adamw leaves everything as it is.
typedef struct cft_clip_args {
  float *out;  // (2) on the device
  const double *sum_squares;
  double scale, max_norm;
} cft_clip_args;

// AdamW with decoupled decay (Loshchilov & Hutter 2019) over a flat group, step t from 1:
//   g = grad * grad_scale[0];  p *= 1 - lr * decay;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   p -= lr / (1-b1^t) * m / (sqrt(v / (1-b2^t)) + eps)
// master f32 (f64 where p is f64): p is its copy, rounded to nearest. master NULL: p itself is
// updated, and where it is bf16 rounded stochastically: 16 bits of Philox are added under the last
// place kept, the low ones of word i % 4 of block (seed; i / 4, step). Moments in bf16 likewise, m by
// the low and v by the high bits of block (seed; i / 4, step + 2^63).
typedef struct cft_adamw_args {
  void *p;
  void *master, *m, *v;
  const void *g;
  const float *grad_scale;  // (1) on the device; NULL = 1; where it is NaN, nothing is updated
  int64_t n;
  double lr, beta1, beta2, eps, decay;
  int64_t step;
  uint64_t seed;
  cft_dtype dtype, g_dtype;  // of p; of g
  cft_dtype state_dtype;  // of m and v: f32; f64 with f64; bf16 = rounded stochastically
  float *not_finite;      // (1) on the device, or NULL: becomes 1 where a weight or a moment that comes
                          // out is no finite number, or too large for the dtype that it is stored in
} cft_adamw_args;

// ---- the table -----------------------------------------------------------------------------

// Every slot: its name, its arguments, and how a device compiled for each dtype finds the kernel.
//   BY_DTYPE   one for each float dtype, found by args.dtype
//   ANY_DTYPE  one that looks at the dtypes itself
#define CFT_KERNEL_MAP(XX)                         \
  XX(matmul, cft_matmul_args, BY_DTYPE)                   \
  XX(embedding_fwd, cft_embedding_args, BY_DTYPE)         \
  XX(embedding_bwd, cft_embedding_bwd_args, BY_DTYPE)     \
  XX(gather_rows, cft_rows_args, ANY_DTYPE)               \
  XX(scatter_rows, cft_rows_args, ANY_DTYPE)              \
  XX(rmsnorm_fwd, cft_rmsnorm_args, BY_DTYPE)             \
  XX(rmsnorm_bwd, cft_rmsnorm_bwd_args, BY_DTYPE)         \
  XX(rope, cft_rope_args, BY_DTYPE)                       \
  XX(swiglu_fwd, cft_swiglu_args, BY_DTYPE)               \
  XX(swiglu_bwd, cft_swiglu_bwd_args, BY_DTYPE)           \
  XX(relu2_fwd, cft_relu2_args, BY_DTYPE)                 \
  XX(relu2_bwd, cft_relu2_bwd_args, BY_DTYPE)             \
  XX(attention_fwd, cft_attention_args, BY_DTYPE)         \
  XX(attention_bwd, cft_attention_bwd_args, BY_DTYPE)     \
  XX(attention_merge, cft_attention_merge_args, BY_DTYPE) \
  XX(cross_entropy, cft_cross_entropy_args, BY_DTYPE)     \
  XX(softmax_fwd, cft_softmax_args, BY_DTYPE)             \
  XX(softmax_bwd, cft_softmax_bwd_args, BY_DTYPE)         \
  XX(unary, cft_unary_args, BY_DTYPE)                     \
  XX(binary, cft_binary_args, BY_DTYPE)                   \
  XX(axpby, cft_axpby_args, BY_DTYPE)                     \
  XX(reduce, cft_reduce_args, BY_DTYPE)                   \
  XX(cast, cft_cast_args, ANY_DTYPE)                      \
  XX(strided_copy, cft_strided_args, ANY_DTYPE)           \
  XX(fill, cft_fill_args, ANY_DTYPE)                      \
  XX(random, cft_random_args, BY_DTYPE)                   \
  XX(sum_squares, cft_sum_squares_args, BY_DTYPE)         \
  XX(clip_scale, cft_clip_args, ANY_DTYPE)                \
  XX(adamw, cft_adamw_args, BY_DTYPE)                     \
  XX(attention_paged, cft_attention_paged_args, BY_DTYPE) \
  XX(sample, cft_sample_args, BY_DTYPE)

// A device's kernels. An empty slot, or E_UNSUPPORTED for a dtype, is answered by the runtime with
// "no cuda kernel for rmsnorm in f64".
typedef struct cft_device cft_device;
typedef struct cft_kernels {
#define XX(name, args, kind) \
  cft_status (*name)(cft_device * device, cft_stream *stream, const args *a);
  CFT_KERNEL_MAP(XX)
#undef XX
} cft_kernels;

#endif
