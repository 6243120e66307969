// cft_ops.h - every op: shapes, dtypes, formula, errors.
//
// Conventions. Inputs are borrowed and never changed. An output (`y`) is a new tensor that the caller
// owns. A gradient output (`dx`, a `cft_tensor **`) is one of three: NULL, not wanted; a pointer to
// NULL, a new tensor is made and written; a pointer to a tensor of the right shape, the gradient is
// added to it. Tensors of one call lie on one device. "float" is f32, bf16, or on the CPU f64; sums
// are taken in f32, or f64 for f64. Rows are the leading dimensions flattened; rows of a view may
// lie apart, elements of a row may not. Errors everywhere: E_SHAPE, E_DTYPE, E_DEVICE (devices
// mixed), E_UNSUPPORTED (no such kernel on this device), E_OOM; a failed call leaves no output.
#ifndef CFT_OPS_H
#define CFT_OPS_H

#include "cft_tensor.h"

// ---- linear --------------------------------------------------------------------------------

// y = x w^T + b
//   y (..., o) new; x (..., i), w (o, i), b (o) or NULL: float, one dtype
CFT_API cft_status cft_linear_fwd(cft_tensor **y, cft_tensor *x, cft_tensor *w, cft_tensor *b);

// The logits of a head: y = x w^T, in f32 where x is bf16, as linear_cross_entropy has them.
//   y (n, V) new, f32 (f64 for f64); x (n, d), w (V, d): float, one dtype
CFT_API cft_status cft_logits(cft_tensor **y, cft_tensor *x, cft_tensor *w);

// dx = dy w;  dw = dy^T x;  db = sum of dy over rows.
// A dw or db that is given may be f32 where the rest is bf16.
CFT_API cft_status cft_linear_bwd(cft_tensor **dx, cft_tensor **dw, cft_tensor **db, cft_tensor *dy,
                                  cft_tensor *x, cft_tensor *w);

// y = op(a) op(b), op = transpose where asked; a, b 2-D float. y (m, n) new.
CFT_API cft_status cft_matmul(cft_tensor **y, cft_tensor *a, cft_tensor *b, int trans_a,
                              int trans_b);

// ---- rows ----------------------------------------------------------------------------------

// y[i] = table[ids[i]]: table (V, d) float, ids (n) i32 within [0, V), y (n, d) new. On the CPU an id
// outside is E_ARG; elsewhere the caller answers for it.
CFT_API cft_status cft_embedding_fwd(cft_tensor **y, cft_tensor *table, cft_tensor *ids);

// dtable[ids[i]] += dy[i]. `rows` is V, for a dtable that is made here.
CFT_API cft_status cft_embedding_bwd(cft_tensor **dtable, cft_tensor *dy, cft_tensor *ids,
                                     int64_t rows);

// y[i] = x[index[i]]: x (n, d) float, index (m) i32 within [0, n), y (m, d) new.
CFT_API cft_status cft_gather_rows(cft_tensor **y, cft_tensor *x, cft_tensor *index);

// y[index[i]] = x[i], or += where add is not 0; y (n, d) is changed in place, entries of index are
// distinct. The gradient of gather_rows is this with add.
CFT_API cft_status cft_scatter_rows(cft_tensor *y, cft_tensor *x, cft_tensor *index, int add);

// ---- norm, position, activation ------------------------------------------------------------

// Scale each row to unit root mean square, then by w; optionally add a residual first.
//   s = x + residual (just x where residual is NULL);  y[j] = w[j] s[j] / sqrt(mean(s^2) + eps)
//   y (..., d) new; sum (..., d) new, s, or NULL without residual (pass NULL then)
//   rstd (n) new, f32 (f64 for f64), for the backward pass
//   x, residual (..., d), w (d): float, one dtype; d > 0; eps > 0
// Source: Zhang & Sennrich 2019 (arXiv 1910.07467); eps as in Llama.
CFT_API cft_status cft_rmsnorm_fwd(cft_tensor **y, cft_tensor **sum, cft_tensor **rstd,
                                   cft_tensor *x, cft_tensor *residual, cft_tensor *w, double eps);

// ds is the gradient of x and of residual alike; dsum is what reached the sum by the residual path,
// or NULL. s is what was normalised.
CFT_API cft_status cft_rmsnorm_bwd(cft_tensor **ds, cft_tensor **dw, cft_tensor *dy,
                                   cft_tensor *dsum, cft_tensor *s, cft_tensor *w,
                                   cft_tensor *rstd);

// Rotary position embedding, the halves of a head paired as Hugging Face's Llama does:
//   y[j] = x[j] cos - x[j + D/2] sin,  y[j + D/2] = x[j + D/2] cos + x[j] sin
//   x (n, heads * D) float, changed in place; cos, sin (positions, D/2) f32 (f64 for f64)
//   position (n) i32, each below positions (checked on the CPU)
// inverse = 1 turns back: the gradient. Source: Su et al. 2021 (arXiv 2104.09864).
CFT_API cft_status cft_rope(cft_tensor *x, cft_tensor *cos, cft_tensor *sin, cft_tensor *position,
                            int64_t heads, int inverse);

// y = silu(gate) * up, gate and up the two halves of each row.
//   gate_up (..., 2 d) float; y (..., d) new. Source: Shazeer 2020 (arXiv 2002.05202).
CFT_API cft_status cft_swiglu_fwd(cft_tensor **y, cft_tensor *gate_up);
CFT_API cft_status cft_swiglu_bwd(cft_tensor **dgate_up, cft_tensor *dy, cft_tensor *gate_up);

// y = max(x, 0)^2, for an MLP without a gate.
//   x (...) contiguous float; y like x, new. NaN passes. Source: So et al. 2021 (arXiv 2109.08668).
CFT_API cft_status cft_relu2_fwd(cft_tensor **y, cft_tensor *x);

// dx = 2 max(x, 0) dy; dy of x's shape, contiguous.
CFT_API cft_status cft_relu2_bwd(cft_tensor **dx, cft_tensor *dy, cft_tensor *x);

// ---- attention -----------------------------------------------------------------------------

// A prefix that several sequences share is there once: its rows are a sequence of their own, and the
// sequences behind it hold what follows it. Prefixes are the first `keys` rows of k and v, one behind
// the other; the queries behind them stand together from row first_q on. Group g of these, queries
// [cu_q[g], cu_q[g+1]) counted from first_q, sees the keys [cu_k[g], cu_k[g+1]) whole besides those
// of its own sequences.
typedef struct cft_attention_prefix {
  cft_tensor *cu_q, *cu_k;  // (G + 1) from 0, i32; both NULL: nothing is shared
  int64_t first_q, queries, keys;
  int64_t longest_q, longest_k;  // of a group, of a prefix
  int64_t pairs;                 // of a query and a key of its prefix; 0 = nobody counted
} cft_attention_prefix;

// Where the sequences of a packed batch lie. Sequence b owns query rows [cu_q[b], cu_q[b+1]) and key
// rows from cu_k[b]: k_len[b] of them, or up to cu_k[b+1] where k_len is NULL. A query sees its
// sequence's keys up to its own place: q_position[row] where given, else counted so that the last
// query sees the last key. causal = 0: it sees them all. All i32, on the tensors' device.
typedef struct cft_attention_layout {
  cft_tensor *cu_q, *cu_k;  // (B + 1)
  cft_tensor *k_len;        // (B) or NULL
  cft_tensor *q_position;   // (nq) or NULL
  int64_t longest_q, longest_k;
  int64_t pairs;  // of a query and a key of its sequence that it sees; 0 = nobody counted
  int causal;
  int deterministic;  // backward: equal bits in repeats, where a device has a faster way without
  cft_attention_prefix prefix;
} cft_attention_layout;

// Softmax attention without a matrix of scores in memory. What stands behind a shared prefix takes
// two calls of the kernel, over its own keys and over the prefix, merged by their lse.
//   o (nq, H * D) new; lse (nq, H) new, f32 (f64 for f64): log of the softmax's denominator
//   q (nq, H * D); k, v (nk, K * D): float; H a multiple of K; D = width of q over heads
//   scale: usually 1 / sqrt(D)
// Source: Dao 2023 (arXiv 2307.08691). Derivation: docs/ops/attention.md.
CFT_API cft_status cft_attention_fwd(cft_tensor **o, cft_tensor **lse, cft_tensor *q, cft_tensor *k,
                                     cft_tensor *v, int64_t heads, int64_t kv_heads, double scale,
                                     const cft_attention_layout *layout);

// Where the keys of a generated batch lie. Key j of sequence b is row j % page of page pages[cu_pages[b] + j / page]; the
// sequence's queries, rows [cu_q[b], cu_q[b+1]) of q, are the last of its k_len[b] keys. All i32, on the tensors' device.
typedef struct cft_paged_layout {
  cft_tensor *cu_q, *cu_pages;  // (B + 1)
  cft_tensor *pages;            // (cu_pages[B])
  cft_tensor *k_len;            // (B)
  int64_t page;                 // rows of a page, a multiple of 32
  int64_t longest_q, longest_k;
} cft_paged_layout;

// Causal attention over keys and values in pages, forward only: the same bits as cft_attention_fwd on the CPU.
//   o (nq, H * D) new; q (nq, H * D); k, v (rows, K * D): float, rows a multiple of page
// E_ARG for a page or a length that leads outside of k, E_UNSUPPORTED where a device has no kernel for it.
CFT_API cft_status cft_attention_paged(cft_tensor **o, cft_tensor *q, cft_tensor *k, cft_tensor *v,
                                       int64_t heads, int64_t kv_heads, double scale,
                                       const cft_paged_layout *layout);

// A decoder block's weights, borrowed: RMSNorm, attention of `heads` over `kv_heads`, RMSNorm, SwiGLU.
typedef struct cft_block_weights {
  cft_tensor *norm1, *norm2;       // (d)
  cft_tensor *qkv, *qkv_bias;      // ((H + 2K) * D, d); ((H + 2K) * D) or NULL
  cft_tensor *o;                   // (d, H * D)
  cft_tensor *gate_up, *down;      // (2f, d); (d, f)
  int64_t heads, kv_heads;
  double eps;                      // of both norms
} cft_block_weights;

// What the blocks of one pass over n new tokens share, borrowed.
typedef struct cft_paged_step {
  cft_tensor *cos, *sin;           // (positions, D / 2), as cft_rope takes them
  cft_tensor *position, *place;    // (n) i32: in the sequence; the row of the cache that a token's key and value go to
  double scale;                    // of attention's scores
  const cft_paged_layout *layout;
} cft_paged_step;

// A whole block over keys and values in pages, forward only: cft_rmsnorm_fwd, cft_linear_fwd, cft_rope,
// cft_scatter_rows, cft_attention_paged and cft_swiglu_fwd, as a model calls them one by one, and their bits. Small steps
// are many calls: this is one.
//   y (n, d) new: what the block adds to the residual stream; sum (n, d) new: that stream without it
//   x (n, d); branch (n, d) or NULL: the stream is x + branch; cache (rows, 2K * D): written
// Errors of those ops; E_SHAPE where the cache's width is not that of keys and values.
CFT_API cft_status cft_block_paged(cft_tensor **y, cft_tensor **sum, cft_tensor *x, cft_tensor *branch,
                                   cft_tensor *cache, const cft_block_weights *weights,
                                   const cft_paged_step *step);

// dq, dk, dv exist already (they may be views of one buffer) and are written, not added to.
CFT_API cft_status cft_attention_bwd(cft_tensor *dq, cft_tensor *dk, cft_tensor *dv, cft_tensor *d_o,
                                     cft_tensor *o, cft_tensor *lse, cft_tensor *q, cft_tensor *k,
                                     cft_tensor *v, int64_t heads, int64_t kv_heads, double scale,
                                     const cft_attention_layout *layout);

// ---- loss ----------------------------------------------------------------------------------

// One token of each row of logits; kernels.h has the formula (cft_sample_args).
//   token (n) new, i32, -1 where a row has a NaN or nothing but -inf; logprob (n) new, f32 (f64 for f64)
//   top (n, top_n) new, i32; top_logprob (n, top_n) new: of the logits as they came
//   logits (n, V); numbers (n, 4) f32: temperature >= 0, top_p in (0, 1], min_p in [0, 1], penalty > 0
//   keys (n, 4) i64: seed, sequence, position, top_k >= 0
//   cu_seen (n + 1), seen: the ids whose logits `penalty` changes, without repeats in a row
//   cu_bias (n + 1), bias_id, bias: what is added to logits; bias f32
CFT_API cft_status cft_sample(cft_tensor **token, cft_tensor **logprob, cft_tensor **top,
                              cft_tensor **top_logprob, cft_tensor *logits, cft_tensor *numbers,
                              cft_tensor *keys, cft_tensor *cu_seen, cft_tensor *seen,
                              cft_tensor *cu_bias, cft_tensor *bias_id, cft_tensor *bias,
                              int64_t top_n);

// Weighted cross-entropy of a linear head, by chunks of rows: the logits of the whole batch never
// exist.  logits = x w^T;  nll[i] = logsumexp(logits[i]) - logits[i, target[i]]
//   nll (n) new, f32 (f64 for f64)
//   x (n, d), w (V, d) float; target (n) i32 within [0, V), or anything where weight is 0
//   weight (n) f32
//   dx, dw: gradients of scale * sum(weight[i] * nll[i]), from the same pass; both NULL: nll alone
//   chunk: rows at a time; 0 = as cft_head_chunk says
// E_ARG for a target outside [0, V) with a weight (CPU).
CFT_API cft_status cft_linear_cross_entropy(cft_tensor **nll, cft_tensor **dx, cft_tensor **dw,
                                            cft_tensor *x, cft_tensor *w, cft_tensor *target,
                                            cft_tensor *weight, double scale, int64_t chunk);

// How many of n rows (at least one, or none of none) that takes at a time, for a vocabulary of V: logits
// of 128 MiB in f32 where the device's memory is the host's (host_memory 1, as of the device), 1 GiB on
// a GPU, in steps of 64 rows and not below 256.
CFT_API int64_t cft_head_chunk(int host_memory, int64_t n, int64_t V);

// The same loss from logits that exist: logits (n, V) float; dlogits is written, not added to.
CFT_API cft_status cft_cross_entropy(cft_tensor **nll, cft_tensor **dlogits, cft_tensor *logits,
                                     cft_tensor *target, cft_tensor *weight, double scale);

// Softmax over the last dimension; x (..., d) contiguous float.
CFT_API cft_status cft_softmax_fwd(cft_tensor **y, cft_tensor *x);
CFT_API cft_status cft_softmax_bwd(cft_tensor **dx, cft_tensor *dy, cft_tensor *y);

// ---- elementwise, reductions, random --------------------------------------------------------

// y = alpha * f(x); contiguous float.
CFT_API cft_status cft_unary_op(cft_tensor **y, cft_tensor *x, cft_unary f, double alpha);

// y = f(a, b); b has a's shape, or is a row (d), a number for each row (..., 1), or one number.
CFT_API cft_status cft_binary_op(cft_tensor **y, cft_tensor *a, cft_tensor *b, cft_binary f);

// y = alpha * x + beta * y, in place; y may be f32 where x is bf16. Same shape, contiguous.
CFT_API cft_status cft_axpby(cft_tensor *y, cft_tensor *x, double alpha, double beta);

// Reduce one dimension away; dim -1: all of them, y is a scalar (). ARGMAX gives i32.
CFT_API cft_status cft_reduce(cft_tensor **y, cft_tensor *x, int dim, cft_reduction f,
                              double alpha);

// Random contents, a pure function of (seed, counter): uniform in [a, b), or normal with mean a and
// standard deviation b. Contiguous f32, bf16 or f64. Philox4x32-10 (Salmon et al. 2011).
CFT_API cft_status cft_tensor_random(cft_tensor *t, cft_distribution f, uint64_t seed,
                                     uint64_t counter, double a, double b);

#endif
