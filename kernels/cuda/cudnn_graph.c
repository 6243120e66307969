#include "cudnn_graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef cudnnBackendDescriptor_t node;

// ---- a descriptor is made, filled and finished; the first failure sticks and ends the rest ------

static void fail(cudnn_plan *p, cudnnStatus_t st, const char *what) {
  char last[256] = "";
  if (p->status) return;
  p->status = st;
  p->calls->cudnnGetLastErrorString(last, sizeof last);
  snprintf(p->why, sizeof p->why, "%s: %s: %s", what, p->calls->cudnnGetErrorString(st), last);
}

static node make(cudnn_plan *p, cudnnBackendDescriptorType_t type) {
  node d = NULL;
  if (p->status) return NULL;
  cudnnStatus_t st = p->calls->cudnnBackendCreateDescriptor(type, &d);
  if (st) {
    fail(p, st, "create");
    return NULL;
  }
  if (p->count == (int)(sizeof p->owned / sizeof *p->owned)) {
    p->calls->cudnnBackendDestroyDescriptor(d);
    fail(p, CUDNN_STATUS_ALLOC_FAILED, "too many descriptors");
    return NULL;
  }
  return p->owned[p->count++] = d;
}

static void set(cudnn_plan *p, node d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *value) {
  char what[48];
  if (p->status) return;
  cudnnStatus_t st = p->calls->cudnnBackendSetAttribute(d, name, type, n, value);
  snprintf(what, sizeof what, "attribute %d", (int)name);
  if (st) fail(p, st, what);
}

static void put(cudnn_plan *p, node d, cudnnBackendAttributeName_t name, node value) {
  if (value) set(p, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static node done(cudnn_plan *p, node d, const char *what) {
  if (p->status) return NULL;
  cudnnStatus_t st = p->calls->cudnnBackendFinalize(d);
  if (st) fail(p, st, what);
  return st ? NULL : d;
}

// ---- tensors -----------------------------------------------------------------------------------

typedef struct four {
  int64_t n[4];
} four;

static const cudnnDataType_t F32 = CUDNN_DATA_FLOAT, BF16 = CUDNN_DATA_BFLOAT16,
                             I32 = CUDNN_DATA_INT32, BOOL = CUDNN_DATA_BOOLEAN;

static node tensor(cudnn_plan *p, int64_t name, cudnnDataType_t type, four dim, four stride,
                   bool virtual, bool by_value, node ragged) {
  const int64_t align = 16;
  node t = make(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  set(p, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  set(p, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim.n);
  set(p, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride.n);
  set(p, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &name);
  set(p, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
  set(p, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &virtual);
  set(p, t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
  put(p, t, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, ragged);
  return done(p, t, "tensor");
}

static four row_major(four d) {
  return (four){{d.n[1] * d.n[2] * d.n[3], d.n[2] * d.n[3], d.n[3], 1}};
}

static node inner(cudnn_plan *p, cudnnDataType_t type, four dim, four stride) {
  return tensor(p, CUDNN_NAMES + p->count, type, dim, stride, true, false, NULL);
}

static node inner_row_major(cudnn_plan *p, cudnnDataType_t type, four dim) {
  return inner(p, type, dim, row_major(dim));
}

static node number(cudnn_plan *p, int name) {
  const four one = {{1, 1, 1, 1}};
  return tensor(p, name, F32, one, one, false, true, NULL);
}

static node integers(cudnn_plan *p, int name, int64_t n) {
  return tensor(p, name, I32, (four){{n, 1, 1, 1}}, (four){{1, 1, 1, 1}}, false, false, NULL);
}

// Rows of (heads, D), `stride` elements apart, seen as n = (B, heads, longest, D).
static node rows(cudnn_plan *p, int name, cudnnDataType_t type, four n, int64_t stride, node ragged,
                 bool transposed) {
  four st = {{n.n[2] * stride, n.n[3], stride, 1}};
  if (transposed) {
    n = (four){{n.n[0], n.n[1], n.n[3], n.n[2]}};
    st = (four){{st.n[0], st.n[1], st.n[3], st.n[2]}};
  }
  return tensor(p, name, type, n, st, false, false, ragged);
}

// ---- operations --------------------------------------------------------------------------------

typedef struct operations {
  node all[40];
  int n;
} operations;

static node keep(operations *ops, node op) { return op ? ops->all[ops->n++] = op : NULL; }

static void pointwise(cudnn_plan *p, operations *ops, cudnnPointwiseMode_t mode, cudnnDataType_t in,
                      node x, node b, node t, node y, int64_t axis) {
  node how = make(p, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  set(p, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  set(p, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &in);
  if (axis >= 0) set(p, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
  done(p, how, "pointwise");
  node op = make(p, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  put(p, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  put(p, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  put(p, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
  put(p, op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t);
  put(p, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
  keep(ops, done(p, op, "pointwise operation"));
}

static void matmul(cudnn_plan *p, operations *ops, node a, node b, node c, node m, node n, node k) {
  node how = make(p, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  set(p, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &F32);
  done(p, how, "matmul");
  node op = make(p, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  put(p, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
  put(p, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
  put(p, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
  put(p, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
  put(p, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, m);
  put(p, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, n);
  put(p, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, k);
  keep(ops, done(p, op, "matmul operation"));
}

static void reduce(cudnn_plan *p, operations *ops, cudnnReduceTensorOp_t mode, node x, node y) {
  node how = make(p, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  set(p, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &mode);
  set(p, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &F32);
  done(p, how, "reduction");
  node op = make(p, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  put(p, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
  put(p, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
  put(p, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
  keep(ops, done(p, op, "reduction operation"));
}

static void reshape(cudnn_plan *p, operations *ops, node x, node y) {
  node op = make(p, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  put(p, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
  put(p, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
  keep(ops, done(p, op, "reshape operation"));
}

// ---- the two graphs ----------------------------------------------------------------------------

typedef struct common {
  const cudnn_shape *s;
  node at_q, at_k, at_v, at_o, at_lse, len_q, len_k, scale, masked;
  four q, k;    // (B, H, longest_q, D), (B, K, longest_k, D)
  four scores;  // (B, H, longest_q, longest_k): virtual, never stored
  four column;  // (B, H, longest_q, 1)
  four packed;  // strides of (T, H) seen as a column
} common;

static common common_of(cudnn_plan *p, const cudnn_shape *s) {
  const int64_t B = s->sequences;
  common c = {.s = s};
  c.at_q = integers(p, CUDNN_AT_Q, B + 1);
  c.at_k = integers(p, CUDNN_AT_K, B + 1);
  c.at_v = integers(p, CUDNN_AT_V, B + 1);
  c.at_o = integers(p, CUDNN_AT_O, B + 1);
  c.at_lse = integers(p, CUDNN_AT_LSE, B + 1);
  c.len_q = integers(p, CUDNN_LEN_Q, B);
  c.len_k = integers(p, CUDNN_LEN_K, B);
  c.scale = number(p, CUDNN_SCALE);
  c.masked = number(p, CUDNN_MASKED);
  c.q = (four){{B, s->heads, s->longest_q, s->dim}};
  c.k = (four){{B, s->kv_heads, s->longest_k, s->dim}};
  c.scores = (four){{B, s->heads, s->longest_q, s->longest_k}};
  c.column = (four){{B, s->heads, s->longest_q, 1}};
  c.packed = (four){{s->longest_q * s->heads, 1, s->heads, 1}};
  return c;
}

static node lse(cudnn_plan *p, common *c) {
  return tensor(p, CUDNN_LSE, F32, c->column, c->packed, false, false, c->at_lse);
}

static node combine(cudnn_plan *p, operations *ops, cudnnPointwiseMode_t mode, node x, node b,
                    four n) {
  node y = inner_row_major(p, F32, n);
  pointwise(p, ops, mode, F32, x, b, NULL, y, -1);
  return y;
}

static node index_of(cudnn_plan *p, operations *ops, node x, four n, int64_t axis,
                     cudnnDataType_t in) {
  node y = inner_row_major(p, I32, n);
  pointwise(p, ops, CUDNN_POINTWISE_GEN_INDEX, in, x, NULL, NULL, y, axis);
  return y;
}

static node compare(cudnn_plan *p, operations *ops, cudnnPointwiseMode_t mode, node x, node b,
                    four n) {
  node y = inner_row_major(p, BOOL, n);
  pointwise(p, ops, mode, BOOL, x, b, NULL, y, -1);
  return y;
}

static node select_where(cudnn_plan *p, operations *ops, node x, node other, node where, four n) {
  node y = inner_row_major(p, F32, n);
  pointwise(p, ops, CUDNN_POINTWISE_BINARY_SELECT, F32, x, other, where, y, -1);
  return y;
}

// x where row < len_q and column < len_k, else masked
static node mask_padding(cudnn_plan *p, operations *ops, common *c, node x) {
  node row = index_of(p, ops, x, c->scores, 2, I32), col = index_of(p, ops, x, c->scores, 3, I32);
  node in_q = compare(p, ops, CUDNN_POINTWISE_CMP_LT, row, c->len_q, c->scores);
  node in_k = compare(p, ops, CUDNN_POINTWISE_CMP_LT, col, c->len_k, c->scores);
  node in = compare(p, ops, CUDNN_POINTWISE_LOGICAL_AND, in_q, in_k, c->scores);
  return select_where(p, ops, x, c->masked, in, c->scores);
}

// x where row >= column, else masked; counted from the last row if queries are a sequence's last
static node mask_causal(cudnn_plan *p, operations *ops, common *c, node x) {
  if (c->s->mask == CUDNN_WHOLE) return x;
  node row = index_of(p, ops, x, c->scores, 2, F32), col = index_of(p, ops, x, c->scores, 3, F32);
  if (c->s->mask == CUDNN_FROM_LAST) {
    node plus = inner_row_major(p, I32, c->scores), minus = inner_row_major(p, I32, c->scores);
    pointwise(p, ops, CUDNN_POINTWISE_ADD, I32, row, c->len_k, NULL, plus, 3);
    pointwise(p, ops, CUDNN_POINTWISE_SUB, I32, plus, c->len_q, NULL, minus, 3);
    row = minus;
  }
  node seen = compare(p, ops, CUDNN_POINTWISE_CMP_GE, row, col, c->scores);
  return select_where(p, ops, x, c->masked, seen, c->scores);
}

// o = softmax(mask(scale * q k^T)) v, and lse = log of the sum of exponentials
static void forward(cudnn_plan *p, operations *ops, const cudnn_shape *s) {
  common c = common_of(p, s);
  node q = rows(p, CUDNN_Q, BF16, c.q, s->q_stride, c.at_q, false);
  node kt = rows(p, CUDNN_K, BF16, c.k, s->k_stride, c.at_k, true);
  node v = rows(p, CUDNN_V, BF16, c.k, s->v_stride, c.at_v, false);
  node o = rows(p, CUDNN_O, BF16, c.q, s->o_stride, c.at_o, false);

  node x = inner_row_major(p, F32, c.scores);
  matmul(p, ops, q, kt, x, c.len_q, c.len_k, NULL);
  x = combine(p, ops, CUDNN_POINTWISE_MUL, x, c.scale, c.scores);
  x = mask_padding(p, ops, &c, x);
  x = mask_causal(p, ops, &c, x);

  node top = inner_row_major(p, F32, c.column), sum = inner_row_major(p, F32, c.column);
  reduce(p, ops, CUDNN_REDUCE_TENSOR_MAX, x, top);
  x = combine(p, ops, CUDNN_POINTWISE_SUB, x, top, c.scores);
  x = combine(p, ops, CUDNN_POINTWISE_EXP, x, NULL, c.scores);
  reduce(p, ops, CUDNN_REDUCE_TENSOR_ADD, x, sum);
  node log = combine(p, ops, CUDNN_POINTWISE_LOG, sum, NULL, c.column);
  pointwise(p, ops, CUDNN_POINTWISE_ADD, F32, top, log, NULL, lse(p, &c), -1);

  node prob = inner_row_major(p, BF16, c.scores);
  pointwise(p, ops, CUDNN_POINTWISE_DIV, F32, x, sum, NULL, prob, -1);
  matmul(p, ops, prob, v, o, c.len_q, NULL, c.len_k);
}

// A gradient of k or v: one part per query head, then the sum over the heads that share a kv head.
static void to_kv_heads(cudnn_plan *p, operations *ops, common *c, node at, node a, node b,
                        int name, int parts_name) {
  const cudnn_shape *s = c->s;
  node out = rows(p, name, BF16, c->k, s->kv_heads * s->dim, at, false);
  if (s->heads == s->kv_heads) {
    matmul(p, ops, a, b, out, c->len_k, NULL, c->len_q);
    return;
  }
  // In (T, H, D); cuDNN multiplies dk's offsets by H / K, the ratio of the strides.
  const four each = {{s->sequences, s->heads, s->longest_k, s->dim}};
  node parts = rows(p, parts_name, BF16, each, s->heads * s->dim, at, false);
  matmul(p, ops, a, b, parts, c->len_k, NULL, c->len_q);
  reduce(p, ops, CUDNN_REDUCE_TENSOR_ADD, parts, out);
}

static node transposed(cudnn_plan *p, operations *ops, common *c, node x) {
  const four n = c->scores, st = row_major(n);
  node y = inner(p, BF16, (four){{n.n[0], n.n[1], n.n[3], n.n[2]}},
                 (four){{st.n[0], st.n[1], st.n[3], st.n[2]}});
  reshape(p, ops, x, y);
  return y;
}

// P = exp(mask(scale * q k^T) - lse); delta = sum(do * o); dS = P * (do v^T - delta) * scale;
// dv = P^T do, dk = dS^T q, dq = dS k
static void backward(cudnn_plan *p, operations *ops, const cudnn_shape *s) {
  common c = common_of(p, s);
  node at_do = integers(p, CUDNN_AT_DO, s->sequences + 1);
  node at_dq = integers(p, CUDNN_AT_DQ, s->sequences + 1);
  node at_dk = integers(p, CUDNN_AT_DK, s->sequences + 1);
  node q = rows(p, CUDNN_Q, BF16, c.q, s->q_stride, c.at_q, false);
  node kt = rows(p, CUDNN_K, BF16, c.k, s->k_stride, c.at_k, true);
  node vt = rows(p, CUDNN_V, BF16, c.k, s->v_stride, c.at_v, true);
  node o = rows(p, CUDNN_O, BF16, c.q, s->o_stride, c.at_o, false);
  node dout = rows(p, CUDNN_DO, BF16, c.q, s->do_stride, at_do, false);
  node stats = lse(p, &c), one = number(p, CUDNN_ONE);

  four st = row_major(c.q);
  st.n[2] = s->heads * s->dim;
  node x = inner(p, F32, c.q, st);
  pointwise(p, ops, CUDNN_POINTWISE_MUL, F32, dout, o, NULL, x, -1);
  node sum = inner_row_major(p, F32, c.column);
  reduce(p, ops, CUDNN_REDUCE_TENSOR_ADD, x, sum);
  node delta = tensor(p, CUDNN_DELTA, F32, c.column, c.packed, false, false, c.at_lse);
  pointwise(p, ops, CUDNN_POINTWISE_MUL, F32, sum, one, NULL, delta, -1);

  x = inner_row_major(p, F32, c.scores);
  matmul(p, ops, q, kt, x, c.len_q, c.len_k, NULL);
  x = combine(p, ops, CUDNN_POINTWISE_MUL, x, c.scale, c.scores);
  x = mask_padding(p, ops, &c, x);
  x = combine(p, ops, CUDNN_POINTWISE_SUB, x, stats, c.scores);
  x = mask_causal(p, ops, &c, x);
  node prob = combine(p, ops, CUDNN_POINTWISE_EXP, x, NULL, c.scores);
  node prob_t = transposed(p, ops, &c, prob);
  to_kv_heads(p, ops, &c, at_dk, prob_t, dout, CUDNN_DV, CUDNN_DV_HEADS);

  x = inner_row_major(p, F32, c.scores);
  matmul(p, ops, dout, vt, x, c.len_q, c.len_k, NULL);
  x = combine(p, ops, CUDNN_POINTWISE_SUB, x, delta, c.scores);
  x = combine(p, ops, CUDNN_POINTWISE_MUL, x, prob, c.scores);
  node ds = combine(p, ops, CUDNN_POINTWISE_MUL, x, c.scale, c.scores);
  node ds_t = transposed(p, ops, &c, ds);
  to_kv_heads(p, ops, &c, at_dk, ds_t, q, CUDNN_DK, CUDNN_DK_HEADS);

  node k =
      tensor(p, CUDNN_NAMES + p->count, F32, c.k,
             (four){{s->longest_k * s->k_stride, s->dim, s->k_stride, 1}}, true, false, c.at_k);
  reshape(p, ops, kt, k);
  node dq = rows(p, CUDNN_DQ, BF16, c.q, s->dq_stride, at_dq, false);
  if (s->deterministic) {  // dS is stored whole, and dq comes from one more matmul
    matmul(p, ops, ds, k, dq, c.len_q, NULL, c.len_k);
    return;
  }
  // dq is summed in f32 by atomics
  node at_sum = integers(p, CUDNN_AT_SUM, s->sequences + 1);
  node acc = rows(p, CUDNN_DQ_SUM, F32, c.q, s->heads * s->dim, at_sum, false);
  matmul(p, ops, ds, k, acc, c.len_q, NULL, c.len_k);
  pointwise(p, ops, CUDNN_POINTWISE_IDENTITY, F32, acc, NULL, NULL, dq, -1);
}

static void set_uses(cudnn_plan *p, const cudnn_shape *s) {
  static const int always[] = {CUDNN_Q,     CUDNN_K,     CUDNN_V,     CUDNN_O,     CUDNN_LSE,
                               CUDNN_AT_Q,  CUDNN_AT_K,  CUDNN_AT_V,  CUDNN_AT_O,  CUDNN_AT_LSE,
                               CUDNN_LEN_Q, CUDNN_LEN_K, CUDNN_SCALE, CUDNN_MASKED};
  static const int backwards[] = {CUDNN_DO,    CUDNN_DQ,    CUDNN_DK,    CUDNN_DV, CUDNN_AT_DO,
                                  CUDNN_AT_DQ, CUDNN_AT_DK, CUDNN_DELTA, CUDNN_ONE};
  for (size_t i = 0; i < sizeof always / sizeof *always; i++) p->uses[always[i]] = true;
  if (!s->backward) return;
  for (size_t i = 0; i < sizeof backwards / sizeof *backwards; i++) p->uses[backwards[i]] = true;
  p->uses[CUDNN_DQ_SUM] = p->uses[CUDNN_AT_SUM] = !s->deterministic;
  p->uses[CUDNN_DK_HEADS] = p->uses[CUDNN_DV_HEADS] = s->heads != s->kv_heads;
}

int64_t cudnn_scratch(const cudnn_shape *s, enum cudnn_name name, int64_t tq, int64_t tk) {
  if (!s->backward) return 0;
  switch (name) {
    case CUDNN_DELTA: return tq * s->heads * 4;
    case CUDNN_DQ_SUM: return s->deterministic ? 0 : tq * s->heads * s->dim * 4;
    case CUDNN_DK_HEADS:
    case CUDNN_DV_HEADS: return s->heads == s->kv_heads ? 0 : tk * s->heads * s->dim * 2;
    default: return 0;
  }
}

// ---- from a graph to a plan ---------------------------------------------------------------------

enum { TRIES = 8 };

static void read_workspace(cudnn_plan *p) {
  int64_t got = 0;
  cudnnStatus_t st = p->calls->cudnnBackendGetAttribute(
      p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &got, &p->workspace);
  if (st) fail(p, st, "workspace size");
}

static void choose(cudnn_plan *p, operations *ops, cudnnHandle_t handle, node device) {
  const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
  int64_t n = 0;
  node graph = make(p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  set(p, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ops->n, ops->all);
  if (handle) set(p, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  done(p, graph, "operation graph");

  node heur = make(p, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  put(p, heur, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  set(p, heur, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  put(p, heur, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
  done(p, heur, "heuristics");

  node configs[TRIES] = {0};
  for (int i = 0; i < TRIES; i++) configs[i] = make(p, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  if (p->status) return;
  cudnnStatus_t st = p->calls->cudnnBackendGetAttribute(
      heur, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, TRIES, &n, configs);
  if (st || n == 0) {
    fail(p, st ? st : CUDNN_STATUS_NOT_SUPPORTED, st ? "heuristics" : "no engine for this graph");
    return;
  }
  // n says how many there are, which may be more than were asked for.
  for (int64_t i = 0; i < n && i < TRIES && !p->plan; i++) {  // best first; the first that compiles is taken
    p->status = CUDNN_STATUS_SUCCESS;
    node plan = make(p, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (handle) set(p, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    put(p, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configs[i]);
    put(p, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
    p->plan = done(p, plan, "plan");
  }
  if (p->plan) read_workspace(p);
}

static void begin(cudnn_plan *p, const cudnn_calls *calls, const cudnn_shape *s) {
  memset(p, 0, sizeof *p);
  p->calls = calls;
  set_uses(p, s);
}

cudnnStatus_t cudnn_plan_new(cudnn_plan *p, const cudnn_calls *calls, const cudnn_shape *s,
                             cudnnHandle_t handle, cudnnBackendDescriptor_t device) {
  operations ops = {.n = 0};
  begin(p, calls, s);
  if (s->backward)
    backward(p, &ops, s);
  else
    forward(p, &ops, s);
  if (!p->status) choose(p, &ops, handle, device);
  return p->status;
}

cudnnStatus_t cudnn_plan_load(cudnn_plan *p, const cudnn_calls *calls, const cudnn_shape *s,
                              cudnnHandle_t handle, cudnnBackendDescriptor_t device,
                              const char *text) {
  begin(p, calls, s);
  node plan = make(p, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  // First: without a handle or a device cuDNN 9.19 crashes on the text.
  if (handle) set(p, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  put(p, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
  set(p, plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
      (int64_t)strlen(text), text);
  p->plan = done(p, plan, "plan from a file");
  if (p->plan) read_workspace(p);
  return p->status;
}

char *cudnn_plan_text(cudnn_plan *p) {
  int64_t n = 0;
  if (!p->plan ||
      p->calls->cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                         CUDNN_TYPE_CHAR, 0, &n, NULL) ||
      n <= 0)
    return NULL;
  char *text = calloc(1, (size_t)n + 1);
  if (text &&
      p->calls->cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                         CUDNN_TYPE_CHAR, n, &n, text)) {
    free(text);
    text = NULL;
  }
  return text;
}

void cudnn_plan_free(cudnn_plan *p) {
  while (p->count) p->calls->cudnnBackendDestroyDescriptor(p->owned[--p->count]);
  p->plan = NULL;
}

cudnnStatus_t cudnn_run(cudnn_plan *p, cudnnHandle_t handle, void *const at[CUDNN_NAMES],
                        void *workspace, float scale) {
  const cudnn_calls *calls = p->calls;
  float masked = -INFINITY, one = 1;
  int64_t names[CUDNN_NAMES], n = 0;
  void *pointers[CUDNN_NAMES];
  for (int i = 1; i < CUDNN_NAMES; i++) {
    if (!p->uses[i]) continue;
    names[n] = i;
    pointers[n++] = i == CUDNN_SCALE    ? &scale
                    : i == CUDNN_MASKED ? &masked
                    : i == CUDNN_ONE    ? &one
                                        : at[i];
  }
  node pack = NULL;
  cudnnStatus_t st =
      calls->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
  if (st) return st;
  if (!(st = calls->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                             CUDNN_TYPE_INT64, n, names)) &&
      !(st = calls->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                             CUDNN_TYPE_VOID_PTR, n, pointers)) &&
      !(st = calls->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                                             CUDNN_TYPE_VOID_PTR, 1, &workspace)) &&
      !(st = calls->cudnnBackendFinalize(pack)))
    st = calls->cudnnBackendExecute(handle, p->plan, pack);
  calls->cudnnBackendDestroyDescriptor(pack);
  return st;
}

cudnnStatus_t cudnn_device(const cudnn_calls *calls, const char *json,
                           cudnnBackendDescriptor_t *device) {
  cudnnStatus_t st =
      calls->cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, device);
  if (!st)
    st = calls->cudnnBackendSetAttribute(*device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                         CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
  if (!st) st = calls->cudnnBackendFinalize(*device);
  return st;
}
