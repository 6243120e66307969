// cublaslt.cpp - the part of cuBLASLt that matmul.cu uses, on the host: products in f32, in stream
// order, with every byte that is touched declared to the emulator. Three algorithms are offered, so
// that there is something to choose from: one that is slow, one that wants a workspace, one that is
// never valid.
#include <cublasLt.h>
#include <string.h>
#include <unistd.h>

#include <vector>

#include "cuda_emu.h"
#include "standins.h"

namespace {

struct matmul_desc {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void *vector = nullptr;  // BIAS reads it, BGRADA and BGRADB write it
};

struct matrix {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t ld;
};

struct preference {
  uint64_t workspace = 0;
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK, align[4] = {256, 256, 256, 256};
};

constexpr uint64_t MAGIC = 0x63667420656d7531;  // in an algorithm: it is one of ours
enum { SLOW, WITH_WORKSPACE, NEVER, ALGORITHMS };
constexpr size_t WORKSPACE = 4096;

size_t width(cudaDataType type) { return type == CUDA_R_16BF ? 2 : 4; }

float at(const void *p, cudaDataType type, uint64_t i) {
  return type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)p)[i])
                             : ((const float *)p)[i];
}

void put(void *p, cudaDataType type, uint64_t i, float v) {
  if (type == CUDA_R_16BF)
    ((__nv_bfloat16 *)p)[i] = __float2bfloat16(v);
  else
    ((float *)p)[i] = v;
}

// The columns of a matrix are the pieces that lie together.
void declare(const void *p, const matrix &m, bool write) {
  for (uint64_t j = 0; j < m.columns; j++)
    cuda_emu::will_access((const char *)p + j * (uint64_t)m.ld * width(m.type),
                          m.rows * width(m.type), write);
}

// op(x) as floats, column-major without gaps.
std::vector<float> unpacked(const void *p, const matrix &x, cublasOperation_t op) {
  std::vector<float> out(x.rows * x.columns);
  const uint64_t rows = op == CUBLAS_OP_T ? x.columns : x.rows;
  for (uint64_t j = 0; j < x.columns; j++)
    for (uint64_t i = 0; i < x.rows; i++)
      out[op == CUBLAS_OP_T ? i * rows + j : j * rows + i] = at(p, x.type, j * (uint64_t)x.ld + i);
  return out;
}

// sum (m) += a (m, k) b (k): four columns of a at a time.
void add_product(float *sum, const float *a, const float *b, uint64_t m, uint64_t k) {
  uint64_t l = 0;
  for (; l + 4 <= k; l += 4) {
    const float *c = a + l * m;
    for (uint64_t i = 0; i < m; i++)
      sum[i] +=
          c[i] * b[l] + c[m + i] * b[l + 1] + c[2 * m + i] * b[l + 2] + c[3 * m + i] * b[l + 3];
  }
  for (; l < k; l++)
    for (uint64_t i = 0; i < m; i++) sum[i] += a[l * m + i] * b[l];
}

uint64_t rows_of(const matrix &x, cublasOperation_t op) {
  return op == CUBLAS_OP_T ? x.columns : x.rows;
}
uint64_t columns_of(const matrix &x, cublasOperation_t op) {
  return op == CUBLAS_OP_T ? x.rows : x.columns;
}

// The bias gradient is what real ones have it for; that it is declined for f32 operands is ours, so
// that the way without it is walked too.
bool has_epilogue(const matmul_desc &d, const matrix &a) {
  if (d.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return true;
  if (!d.vector) return false;
  if (d.epilogue == CUBLASLT_EPILOGUE_BIAS) return true;
  return (d.epilogue == CUBLASLT_EPILOGUE_BGRADA || d.epilogue == CUBLASLT_EPILOGUE_BGRADB) &&
         a.type == CUDA_R_16BF;
}

uint64_t lowest_bit(const void *p) {  // what an address is a multiple of, up to 256
  uint64_t bytes = 256;
  while ((uintptr_t)p % bytes) bytes /= 2;
  return bytes;
}

bool fit(const matmul_desc &d, const matrix &a, const matrix &b, const matrix &c) {
  return rows_of(a, d.a) == c.rows && columns_of(b, d.b) == c.columns &&
         columns_of(a, d.a) == rows_of(b, d.b) && a.type == b.type && a.ld >= (int64_t)a.rows &&
         b.ld >= (int64_t)b.rows && c.ld >= (int64_t)c.rows &&
         (c.type == a.type || c.type == CUDA_R_32F);
}

template <class T>
T take(const void *value, size_t bytes) {
  T v;
  if (bytes != sizeof v)
    cuda_emu::fail("a cuBLASLt attribute of %zu bytes, wanted %zu", bytes, sizeof v);
  memcpy(&v, value, sizeof v);
  return v;
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion(void) { return 1; }
const char *cublasLtGetStatusName(cublasStatus_t st) {
  return st == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                           : "a status of the stand-in";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) {
  *h = (cublasLtHandle_t) new int;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
  delete (int *)h;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *d = (cublasLtMatmulDesc_t) new matmul_desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
  delete (matmul_desc *)d;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes) {
  auto *d = (matmul_desc *)desc;
  switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: d->a = take<cublasOperation_t>(value, bytes); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: d->b = take<cublasOperation_t>(value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: d->epilogue = take<cublasLtEpilogue_t>(value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: d->vector = take<void *>(value, bytes); break;
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *m, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
  if (type != CUDA_R_16BF && type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *m = (cublasLtMatrixLayout_t) new matrix{type, rows, columns, ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t m) {
  delete (matrix *)m;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
  *p = (cublasLtMatmulPreference_t) new preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  delete (preference *)p;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t bytes) {
  auto *p = (preference *)pref;
  switch (name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      p->workspace = take<uint64_t>(value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      p->schemes = take<uint32_t>(value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      p->align[0] = take<uint32_t>(value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      p->align[1] = take<uint32_t>(value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      p->align[2] = take<uint32_t>(value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      p->align[3] = take<uint32_t>(value, bytes);
      break;
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

// The promised alignment goes into the algorithm, and is held to when it runs. That of an
// epilogue's vector is read off the pointer that the description has when the heuristic is asked.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t pref, int most,
                                              cublasLtMatmulHeuristicResult_t *found, int *count) {
  const auto *p = (preference *)pref;
  *count = 0;
  if (p->schemes & ~(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE))
    cuda_emu::fail("cuBLASLt may answer with an algorithm that does not repeat its bits");
  if (!fit(*(matmul_desc *)desc, *(matrix *)a, *(matrix *)b, *(matrix *)c))
    return CUBLAS_STATUS_INVALID_VALUE;
  const matmul_desc &wanted = *(matmul_desc *)desc;
  if (!has_epilogue(wanted, *(matrix *)a)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const uint64_t shape = ((matrix *)a)->rows * 31 + ((matrix *)a)->columns * 37 +
                         ((matrix *)c)->rows * 41 + (uint64_t)wanted.epilogue * 1009;
  if (wanted.epilogue != CUBLASLT_EPILOGUE_DEFAULT && standin_declines(shape, 3))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  for (int i = 0; i < ALGORITHMS && *count < most; i++) {
    if (i == WITH_WORKSPACE && p->workspace < WORKSPACE) continue;
    cublasLtMatmulHeuristicResult_t &f = found[(*count)++];
    f = {};
    f.algo.data[0] = MAGIC;
    f.algo.data[1] = (uint64_t)i;
    f.algo.data[2] = p->align[0] | (uint64_t)p->align[1] << 32;
    f.algo.data[3] = p->align[2] | (uint64_t)p->align[3] << 32;
    f.algo.data[4] = lowest_bit(((matmul_desc *)desc)->vector);
    f.workspaceSize = i == WITH_WORKSPACE ? WORKSPACE : 0;
    f.state = i == SLOW && standin_declines(shape, 3) ? CUBLAS_STATUS_NOT_SUPPORTED
                                                      : CUBLAS_STATUS_SUCCESS;
    if (f.state != CUBLAS_STATUS_SUCCESS) f.algo.data[0] = 0;  // it must not be tried
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result) {
  if (algo->data[0] != MAGIC || algo->data[1] >= NEVER ||
      !fit(*(matmul_desc *)desc, *(matrix *)a, *(matrix *)b, *(matrix *)c) ||
      !has_epilogue(*(matmul_desc *)desc, *(matrix *)a))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  *result = {};
  result->algo = *algo;
  result->workspaceSize = algo->data[1] == WITH_WORKSPACE ? WORKSPACE : 0;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t,
                              const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  const matmul_desc m = *(matmul_desc *)desc;
  const matrix A = *(matrix *)a_layout, B = *(matrix *)b_layout, C = *(matrix *)c_layout;
  const bool wants = algo->data[1] == WITH_WORKSPACE;
  const uint64_t algo_of_call = algo->data[1];
  const float factor = *(const float *)alpha, keep = *(const float *)beta;
  if (algo->data[0] != MAGIC || algo->data[1] >= NEVER || !fit(m, A, B, C) || !has_epilogue(m, A))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (wants && (!workspace || workspace_bytes < WORKSPACE)) return CUBLAS_STATUS_INVALID_VALUE;
  if (c != d) return CUBLAS_STATUS_NOT_SUPPORTED;
  if ((uintptr_t)a % (uint32_t)algo->data[2] || (uintptr_t)b % (algo->data[2] >> 32) ||
      (uintptr_t)d % (algo->data[3] >> 32) || (uintptr_t)m.vector % algo->data[4])
    cuda_emu::fail("matmul: an operand is less aligned than the algorithm was asked for");
  // Seen on cards: kernels read a bias 16 bytes at a time, whatever the heuristic was told.
  if (m.epilogue == CUBLASLT_EPILOGUE_BIAS && (uintptr_t)m.vector % 16)
    cuda_emu::fail("matmul: misaligned address: a bias that is not a multiple of 16 bytes");
  cuda_emu::enqueue(stream, "cublasLtMatmul (stand-in)", [=] {
    if (algo_of_call == SLOW) usleep(30);
    declare(a, A, false);
    declare(b, B, false);
    if (keep != 0) declare(d, C, false);
    declare(d, C, true);
    const bool bgrad_a = m.epilogue == CUBLASLT_EPILOGUE_BGRADA,
               bgrad_b = m.epilogue == CUBLASLT_EPILOGUE_BGRADB;
    if (m.epilogue == CUBLASLT_EPILOGUE_BIAS)
      cuda_emu::will_access(m.vector, C.rows * width(C.type), false);
    if (bgrad_a || bgrad_b)
      cuda_emu::will_access(m.vector, (bgrad_a ? C.rows : C.columns) * width(C.type), true);
    if (wants) {
      cuda_emu::will_access(workspace, WORKSPACE, true);
      memset(workspace, 0, WORKSPACE);
    }
    const std::vector<float> fa = unpacked(a, A, m.a), fb = unpacked(b, B, m.b);
    const uint64_t k = columns_of(A, m.a);
    std::vector<float> sum(C.rows);
    for (uint64_t j = 0; j < C.columns; j++) {
      sum.assign(C.rows, 0);
      add_product(sum.data(), fa.data(), fb.data() + j * k, C.rows, k);
      for (uint64_t i = 0; i < C.rows; i++) {
        const uint64_t to = j * (uint64_t)C.ld + i;
        float v = factor * sum[i];
        if (keep != 0) v += keep * at(d, C.type, to);
        if (m.epilogue == CUBLASLT_EPILOGUE_BIAS) v += at(m.vector, C.type, i);
        put(d, C.type, to, v);
      }
    }
    for (uint64_t j = 0; bgrad_b && j < C.columns; j++) {  // op(B) is (k, columns)
      float v = 0;
      for (uint64_t l = 0; l < k; l++) v += fb[j * k + l];
      put(m.vector, C.type, j, v);
    }
    for (uint64_t i = 0; bgrad_a && i < C.rows; i++) {  // op(A) is (rows, k)
      float v = 0;
      for (uint64_t l = 0; l < k; l++) v += fa[l * C.rows + i];
      put(m.vector, C.type, i, v);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"

const standin_function standin_cublaslt[] = {
    STANDIN(cublasLtGetVersion),
    STANDIN(cublasLtGetStatusName),
    STANDIN(cublasLtCreate),
    STANDIN(cublasLtDestroy),
    STANDIN(cublasLtMatmulDescCreate),
    STANDIN(cublasLtMatmulDescDestroy),
    STANDIN(cublasLtMatmulDescSetAttribute),
    STANDIN(cublasLtMatrixLayoutCreate),
    STANDIN(cublasLtMatrixLayoutDestroy),
    STANDIN(cublasLtMatmulPreferenceCreate),
    STANDIN(cublasLtMatmulPreferenceDestroy),
    STANDIN(cublasLtMatmulPreferenceSetAttribute),
    STANDIN(cublasLtMatmulAlgoGetHeuristic),
    STANDIN(cublasLtMatmulAlgoCheck),
    STANDIN(cublasLtMatmul),
    {nullptr, nullptr},
};
const standin_function standin_nothing[] = {{nullptr, nullptr}};
