// cudnn.cpp - the part of cuDNN's graph API that cudnn_graph.c uses: descriptors are kept as they
// are filled, and a plan, when it runs, goes through the graph operation by operation on the host.
// So what the graph says is computed, not what we hope that it says: a mask the wrong way round, a
// forgotten scale, offsets of another tensor give wrong numbers here. cuDNN itself matches patterns
// and runs a fused kernel; what that computes, only a card shows.
#include <cudnn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda_emu.h"
#include "cudnn_graph.h"
#include "standins.h"

namespace {

// ---- descriptors ---------------------------------------------------------------------------

struct descriptor {
  cudnnBackendDescriptorType_t type;
  std::map<int, std::vector<char>> attributes;
  bool finished = false;
  std::shared_ptr<struct program> plan;  // of an execution plan
};

descriptor *of(void *d) { return (descriptor *)d; }

size_t width(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR: return 1;
    default: return 4;  // enums
  }
}

template <class T>
std::vector<T> list(const descriptor *d, int name) {
  const auto found = d->attributes.find(name);
  if (found == d->attributes.end()) return {};
  std::vector<T> out(found->second.size() / sizeof(T));
  memcpy(out.data(), found->second.data(), out.size() * sizeof(T));
  return out;
}

template <class T>
T one(const descriptor *d, int name, T otherwise = {}) {
  const auto found = d->attributes.find(name);
  if (found != d->attributes.end()) memcpy(&otherwise, found->second.data(), sizeof otherwise);
  return otherwise;
}

descriptor *child(const descriptor *d, int name) { return of(one<void *>(d, name, nullptr)); }

// ---- a graph, copied out of its descriptors ------------------------------------------------

struct tensor {
  int64_t uid = 0, dims[4] = {}, strides[4] = {}, ragged = 0;  // ragged: uid of its offsets
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  bool is_virtual = false, by_value = false;
  int64_t count() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

struct operation {
  cudnnBackendDescriptorType_t type;
  tensor x, b, t, y, m, n, k;  // m, n, k: lengths that cut a matmul short
  int mode = 0;
  int64_t axis = 0;
};

struct program {
  int id = 0;
  std::vector<operation> operations;
  int64_t workspace = 0;
};

// What a plan's text refers to: a program of this very process. A text of another one is refused,
// as cuDNN would refuse a text of another version.
std::map<int, std::shared_ptr<program>> compiled;
const long process = (long)getpid() << 32 | time(nullptr);

tensor tensor_of(const descriptor *d) {
  tensor t;
  if (!d) return t;
  const auto dims = list<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS),
             strides = list<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES);
  if (dims.size() != 4 || strides.size() != 4)
    cuda_emu::fail("cuDNN: a tensor without 4 dimensions");
  for (int i = 0; i < 4; i++) t.dims[i] = dims[i], t.strides[i] = strides[i];
  t.uid = one<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID);
  t.type = one<cudnnDataType_t>(d, CUDNN_ATTR_TENSOR_DATA_TYPE);
  t.is_virtual = one<bool>(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
  t.by_value = one<bool>(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE);
  if (const descriptor *r = child(d, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC))
    t.ragged = one<int64_t>(r, CUDNN_ATTR_TENSOR_UNIQUE_ID);
  return t;
}

operation operation_of(const descriptor *d) {
  operation o;
  o.type = d->type;
  const auto t = [d](int name) { return tensor_of(child(d, name)); };
  switch (d->type) {
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: {
      const descriptor *how = child(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
      o.mode = one<cudnnPointwiseMode_t>(how, CUDNN_ATTR_POINTWISE_MODE);
      o.axis = one<int64_t>(how, CUDNN_ATTR_POINTWISE_AXIS, -1);
      o.x = t(CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
      o.b = t(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
      o.t = t(CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
      o.y = t(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
      break;
    }
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      o.x = t(CUDNN_ATTR_OPERATION_MATMUL_ADESC);
      o.b = t(CUDNN_ATTR_OPERATION_MATMUL_BDESC);
      o.y = t(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
      o.m = t(CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC);
      o.n = t(CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC);
      o.k = t(CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC);
      break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: {
      const descriptor *how = child(d, CUDNN_ATTR_OPERATION_REDUCTION_DESC);
      o.mode = one<cudnnReduceTensorOp_t>(how, CUDNN_ATTR_REDUCTION_OPERATOR);
      o.x = t(CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
      o.y = t(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
      break;
    }
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      o.x = t(CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
      o.y = t(CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
      break;
    default: cuda_emu::fail("cuDNN: the stand-in has no operation of type %d", (int)d->type);
  }
  return o;
}

// ---- running it ----------------------------------------------------------------------------

// Values of one tensor, (B, H, rows, columns) without gaps, whatever its strides.
struct values {
  int64_t dims[4];
  std::vector<float> v;
  float get(int64_t b, int64_t h, int64_t i, int64_t j) const {  // dimensions of 1 are stretched
    return v[(size_t)((((dims[0] > 1 ? b : 0) * dims[1] + (dims[1] > 1 ? h : 0)) * dims[2] +
                       (dims[2] > 1 ? i : 0)) *
                          dims[3] +
                      (dims[3] > 1 ? j : 0))];
  }
  float &at(int64_t b, int64_t h, int64_t i, int64_t j) {
    return v[(size_t)(((b * dims[1] + h) * dims[2] + i) * dims[3] + j)];
  }
};

float rounded(float v, cudnnDataType_t type) {
  return type == CUDNN_DATA_BFLOAT16 ? __bfloat162float(__float2bfloat16(v)) : v;
}

size_t bytes_of(cudnnDataType_t type) { return type == CUDNN_DATA_BFLOAT16 ? 2 : 4; }

class run {
 public:
  run(const program &p, const std::map<int64_t, void *> &pointers,
      const std::map<int64_t, float> &numbers)
      : program_(p), pointers_(pointers), numbers_(numbers) {}

  void all() {
    for (const operation &o : program_.operations) switch (o.type) {
        case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: pointwise(o); break;
        case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: matmul(o); break;
        case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: reduce(o); break;
        default: reshape(o); break;
      }
  }

 private:
  void *pointer(int64_t uid) const {
    const auto found = pointers_.find(uid);
    if (found == pointers_.end() || !found->second)
      cuda_emu::fail("cuDNN: the variant pack has no pointer for tensor %lld", (long long)uid);
    if ((uintptr_t)found->second % 16)
      cuda_emu::fail("cuDNN: tensor %lld is not 16-byte aligned", (long long)uid);
    return found->second;
  }

  const int32_t *integers(int64_t uid, int64_t n) const {
    const auto *p = (const int32_t *)pointer(uid);
    cuda_emu::will_access(p, (size_t)n * 4, false);
    return p;
  }

  // Where sequence b of a tensor begins, and how many rows it has there.
  struct place {
    int64_t first, rows;
  };
  std::vector<place> places(const tensor &t) const {
    std::vector<place> out((size_t)t.dims[0]);
    const bool transposed = t.strides[2] == 1 && t.strides[3] != 1;
    const int64_t longest = transposed ? t.dims[3] : t.dims[2],
                  stride = transposed ? t.strides[3] : t.strides[2];
    if (!t.ragged) {
      for (int64_t b = 0; b < t.dims[0]; b++) out[(size_t)b] = {b * t.strides[0], longest};
      return out;
    }
    // Parts of each query head take the offsets of their sum times the ratio of their strides.
    const bool parts = t.uid == CUDNN_DK_HEADS || t.uid == CUDNN_DV_HEADS;
    const int64_t ratio = parts ? t.dims[1] / kv_heads_ : 1;
    const int32_t *at = integers(t.ragged, t.dims[0] + 1);
    for (int64_t b = 0; b < t.dims[0]; b++) {
      const int64_t rows = (at[b + 1] - at[b]) * ratio / stride;
      if (rows < 0 || rows > longest)
        cuda_emu::fail("cuDNN: sequence %lld of tensor %lld has %lld rows, the plan is for %lld",
                       (long long)b, (long long)t.uid, (long long)rows, (long long)longest);
      out[(size_t)b] = {at[b] * ratio, rows};
    }
    return out;
  }

  template <class F>
  void for_rows(const tensor &t, F f) const {  // f(b, h, row, first element)
    const bool transposed = t.strides[2] == 1 && t.strides[3] != 1;
    const int64_t stride = transposed ? t.strides[3] : t.strides[2];
    const auto at = places(t);
    for (int64_t b = 0; b < t.dims[0]; b++)
      for (int64_t h = 0; h < t.dims[1]; h++)
        for (int64_t i = 0; i < at[(size_t)b].rows; i++)
          f(b, h, i, at[(size_t)b].first + h * t.strides[1] + i * stride);
  }

  const values &read(const tensor &t) {
    const auto made = made_.find(t.uid);
    if (made != made_.end()) return made->second;
    if (t.is_virtual)
      cuda_emu::fail("cuDNN: tensor %lld is read before it is made", (long long)t.uid);
    values &v = made_[t.uid];
    memcpy(v.dims, t.dims, sizeof v.dims);
    v.v.assign((size_t)t.count(), 0);
    if (t.by_value) {
      v.v[0] = numbers_.at(t.uid);
      return v;
    }
    if (t.type == CUDNN_DATA_INT32) {
      const int32_t *p = integers(t.uid, t.dims[0]);
      for (int64_t b = 0; b < t.dims[0]; b++) v.v[(size_t)b] = (float)p[b];
      return v;
    }
    const bool transposed = t.strides[2] == 1 && t.strides[3] != 1;
    const int64_t columns = transposed ? t.dims[2] : t.dims[3];
    const char *p = (const char *)pointer(t.uid);
    const size_t size = bytes_of(t.type);
    for_rows(t, [&](int64_t b, int64_t h, int64_t i, int64_t first) {
      cuda_emu::will_access(p + first * (int64_t)size, (size_t)columns * size, false);
      for (int64_t j = 0; j < columns; j++) {
        const float x = t.type == CUDNN_DATA_BFLOAT16
                            ? __bfloat162float(((const __nv_bfloat16 *)p)[first + j])
                            : ((const float *)p)[first + j];
        (transposed ? v.at(b, h, j, i) : v.at(b, h, i, j)) = x;
      }
    });
    return v;
  }

  // Keeps what was made of y, and puts it in memory if it is not virtual.
  void keep(const tensor &t, std::vector<float> &&made) {
    for (float &x : made) x = rounded(x, t.type);
    values &v = made_[t.uid];
    memcpy(v.dims, t.dims, sizeof v.dims);
    v.v = std::move(made);
    if (t.is_virtual) return;
    char *p = (char *)pointer(t.uid);
    const size_t size = bytes_of(t.type);
    for_rows(t, [&](int64_t b, int64_t h, int64_t i, int64_t first) {
      cuda_emu::will_access(p + first * (int64_t)size, (size_t)t.dims[3] * size, true);
      for (int64_t j = 0; j < t.dims[3]; j++) {
        const float x = v.at(b, h, i, j);
        if (t.type == CUDNN_DATA_BFLOAT16)
          ((__nv_bfloat16 *)p)[first + j] = __float2bfloat16(x);
        else
          ((float *)p)[first + j] = x;
      }
    });
  }

  void pointwise(const operation &o) {
    const values x = read(o.x);
    const values *b = o.b.uid ? &read(o.b) : nullptr, *t = o.t.uid ? &read(o.t) : nullptr;
    std::vector<float> y((size_t)o.y.count());
    size_t at = 0;
    for (int64_t n = 0; n < o.y.dims[0]; n++)
      for (int64_t h = 0; h < o.y.dims[1]; h++)
        for (int64_t i = 0; i < o.y.dims[2]; i++)
          for (int64_t j = 0; j < o.y.dims[3]; j++) {
            const float u = x.get(n, h, i, j), v = b ? b->get(n, h, i, j) : 0;
            float &r = y[at++];
            switch (o.mode) {
              case CUDNN_POINTWISE_ADD: r = u + v; break;
              case CUDNN_POINTWISE_SUB: r = u - v; break;
              case CUDNN_POINTWISE_MUL: r = u * v; break;
              case CUDNN_POINTWISE_DIV: r = u / v; break;
              case CUDNN_POINTWISE_EXP: r = expf(u); break;
              case CUDNN_POINTWISE_LOG: r = logf(u); break;
              case CUDNN_POINTWISE_IDENTITY: r = u; break;
              case CUDNN_POINTWISE_CMP_LT: r = u < v; break;
              case CUDNN_POINTWISE_CMP_GE: r = u >= v; break;
              case CUDNN_POINTWISE_LOGICAL_AND: r = u != 0 && v != 0; break;
              case CUDNN_POINTWISE_BINARY_SELECT: r = t->get(n, h, i, j) != 0 ? u : v; break;
              case CUDNN_POINTWISE_GEN_INDEX: r = (float)(o.axis == 2 ? i : j); break;
              default: cuda_emu::fail("cuDNN: the stand-in has no pointwise mode %d", o.mode);
            }
          }
    keep(o.y, std::move(y));
  }

  int64_t length(const tensor &t, int64_t b, int64_t otherwise) {
    return t.uid ? (int64_t)read(t).v[(size_t)b] : otherwise;
  }

  // Rows beyond a length are not made, nor sums over a length of 0: NaN, so that who relies on them
  // is found out.
  void matmul(const operation &o) {
    if (o.b.uid == CUDNN_K) kv_heads_ = o.b.dims[1];
    const values a = read(o.x), b = read(o.b);
    const int64_t M = o.y.dims[2], N = o.y.dims[3], depth = o.x.dims[3], H = o.y.dims[1];
    std::vector<float> y((size_t)o.y.count(), NAN);
    for (int64_t n = 0; n < o.y.dims[0]; n++) {
      const int64_t m_end = length(o.m, n, M), n_end = length(o.n, n, N),
                    k_end = length(o.k, n, depth);
      for (int64_t h = 0; h < H && k_end > 0; h++) {
        const int64_t ha = h * o.x.dims[1] / H, hb = h * o.b.dims[1] / H;
        for (int64_t i = 0; i < m_end; i++) {
          float *row = &y[(size_t)(((n * H + h) * M + i) * N)];
          for (int64_t j = 0; j < n_end; j++) row[j] = 0;
          for (int64_t k = 0; k < k_end; k++) {
            const float x = a.get(n, ha, i, k);
            const float *from = &b.v[(size_t)(((n * b.dims[1] + hb) * b.dims[2] + k) * b.dims[3])];
            for (int64_t j = 0; j < n_end; j++) row[j] += x * from[j];
          }
        }
      }
    }
    keep(o.y, std::move(y));
  }

  // A dimension that is r times shorter in y has groups of r reduced.
  void reduce(const operation &o) {
    const values x = read(o.x);
    int64_t r[4];
    for (int d = 0; d < 4; d++) r[d] = o.x.dims[d] / o.y.dims[d];
    const bool top = o.mode == CUDNN_REDUCE_TENSOR_MAX;
    if (!top && o.mode != CUDNN_REDUCE_TENSOR_ADD)
      cuda_emu::fail("cuDNN: the stand-in has no reduction %d", o.mode);
    std::vector<float> y((size_t)o.y.count(), top ? -INFINITY : 0);
    size_t at = 0;
    for (int64_t n = 0; n < o.x.dims[0]; n++)
      for (int64_t h = 0; h < o.x.dims[1]; h++)
        for (int64_t i = 0; i < o.x.dims[2]; i++)
          for (int64_t j = 0; j < o.x.dims[3]; j++) {
            float &sum = y[(size_t)(((n / r[0] * o.y.dims[1] + h / r[1]) * o.y.dims[2] + i / r[2]) *
                                        o.y.dims[3] +
                                    j / r[3])];
            const float v = x.v[at++];
            sum = top ? fmaxf(sum, v) : sum + v;
          }
    keep(o.y, std::move(y));
  }

  // The same memory with its last two dimensions exchanged.
  void reshape(const operation &o) {
    if (o.x.dims[2] != o.y.dims[3] || o.x.dims[3] != o.y.dims[2] ||
        o.x.strides[2] != o.y.strides[3] || o.x.strides[3] != o.y.strides[2])
      cuda_emu::fail("cuDNN: a reshape that is no transposition");
    const values x = read(o.x);
    std::vector<float> y;
    y.reserve((size_t)o.y.count());
    for (int64_t n = 0; n < o.y.dims[0]; n++)
      for (int64_t h = 0; h < o.y.dims[1]; h++)
        for (int64_t i = 0; i < o.y.dims[2]; i++)
          for (int64_t j = 0; j < o.y.dims[3]; j++) y.push_back(x.get(n, h, j, i));
    keep(o.y, std::move(y));
  }

  const program &program_;
  const std::map<int64_t, void *> &pointers_;
  const std::map<int64_t, float> &numbers_;
  std::map<int64_t, values> made_;
  int64_t kv_heads_ = 1;
};

// ---- plans ---------------------------------------------------------------------------------

cudnnStatus_t compile(descriptor *plan) {
  if (plan->attributes.count(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION)) {
    const auto &text = plan->attributes[CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION];
    int id = 0;
    long of_process = 0;
    if (sscanf(std::string(text.begin(), text.end()).c_str(), "{\"standin\": [%ld, %d]}",
               &of_process, &id) != 2 ||
        of_process != process || !compiled.count(id))
      return CUDNN_STATUS_NOT_SUPPORTED;
    plan->plan = compiled[id];
    return CUDNN_STATUS_SUCCESS;
  }
  static uint64_t asked;
  if (standin_declines(1000003 * asked++, 3)) return CUDNN_STATUS_NOT_SUPPORTED;
  const descriptor *config = child(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  const descriptor *graph = child(config, CUDNN_ATTR_ENGINECFG_ENGINE);
  auto made = std::make_shared<program>();
  bool sums_dq = false;
  int64_t scores = 0;
  for (void *op : list<void *>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
    made->operations.push_back(operation_of(of(op)));
    const operation &o = made->operations.back();
    sums_dq = sums_dq || o.y.uid == CUDNN_DQ_SUM;
    if (o.type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR && o.b.uid == CUDNN_K)
      scores = o.y.count();
  }
  const bool backward = made->operations.size() > 22;
  made->workspace = backward && !sums_dq ? scores * 2 : 0;  // dS, stored whole
  made->id = (int)compiled.size() + 1;
  compiled[made->id] = made;
  plan->plan = made;
  return CUDNN_STATUS_SUCCESS;
}

struct handle {
  cudaStream_t stream = nullptr;
};

}  // namespace

extern "C" {

size_t cudnnGetVersion(void) { return 91900; }
const char *cudnnGetErrorString(cudnnStatus_t st) { return st ? "a status of the stand-in" : "ok"; }
void cudnnGetLastErrorString(char *text, size_t bytes) {
  if (bytes) *text = 0;
}
cudnnStatus_t cudnnCreate(cudnnHandle_t *h) {
  *h = (cudnnHandle_t) new handle;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t h) {
  delete (handle *)h;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s) {
  ((handle *)h)->stream = s;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *d) {
  *d = new descriptor{type, {}, false, nullptr};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
  delete of(d);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t n,
                                       const void *value) {
  if (of(d)->finished) return CUDNN_STATUS_BAD_PARAM;
  const char *from = (const char *)value;
  of(d)->attributes[name].assign(from, from + (size_t)n * width(type));
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
  if (of(d)->finished) return CUDNN_STATUS_BAD_PARAM;
  of(d)->finished = true;
  return of(d)->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? compile(of(d))
                                                                : CUDNN_STATUS_SUCCESS;
}

// Of all there is to ask: the heuristic's one engine, a plan's workspace and its text.
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t n, int64_t *got,
                                       void *value) {
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      // With a seed all that are asked for, and the count says that there are more.
      const int64_t given = getenv("CUDA_EMU_SEED") ? n : 1;
      for (int64_t i = 0; i < given; i++) {
        descriptor *config = of(((cudnnBackendDescriptor_t *)value)[i]);
        config->attributes[CUDNN_ATTR_ENGINECFG_ENGINE] =
            of(d)->attributes[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH];
        config->finished = true;
      }
      *got = given == 1 ? 1 : given + 3;
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      *(int64_t *)value = of(d)->plan->workspace;
      *got = 1;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION: {
      char text[60];
      *got = snprintf(text, sizeof text, "{\"standin\": [%ld, %d]}", process, of(d)->plan->id);
      if (n) memcpy(value, text, (size_t)(n < *got ? n : *got));
      return CUDNN_STATUS_SUCCESS;
    }
    default: return CUDNN_STATUS_NOT_SUPPORTED;
  }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  const std::shared_ptr<program> p = of(plan)->plan;
  const auto names = list<int64_t>(of(pack), CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = list<void *>(of(pack), CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  char *workspace = (char *)one<void *>(of(pack), CUDNN_ATTR_VARIANT_PACK_WORKSPACE, nullptr);
  std::map<int64_t, void *> at;
  std::map<int64_t, float> numbers;  // read now, as cuDNN does: they lie on the caller's stack
  for (size_t i = 0; i < names.size(); i++) {
    if (names[i] >= CUDNN_SCALE)
      numbers[names[i]] = *(float *)pointers[i];
    else
      at[names[i]] = pointers[i];
  }
  static const bool wrong = getenv("CUDA_EMU_CUDNN_WRONG") != nullptr;
  if (wrong) numbers[CUDNN_SCALE] *= 1.5f;
  cuda_emu::enqueue(((handle *)h)->stream, "cuDNN attention (stand-in)", [=] {
    if (p->workspace) {
      cuda_emu::will_access(workspace, (size_t)p->workspace, true);
      memset(workspace, 0xff, (size_t)p->workspace);
    }
    run(*p, at, numbers).all();
  });
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"

const standin_function standin_cudnn[] = {
#define XX(type, name, arguments) STANDIN(name),
    CUDNN_CALLS(XX)
#undef XX
        {nullptr, nullptr},
};
