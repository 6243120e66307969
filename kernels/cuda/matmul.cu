// matmul.cu - cuBLASLt, with an algorithm that was timed on this card.
//
// Row-major c (m, n) is column-major (n, m), so Lt is asked for c^T = op(b)^T op(a)^T: its A is our
// b. The bias of a row of c is then one of Lt's columns, which its epilogue adds.
//
// An algorithm is chosen once for shapes of about the same size: the heuristic's candidates run on
// the operands of the call that is the first of its kind, with warm clocks, and the fastest is kept
// in a file for the next run. Matmuls are five sixths of a step: nothing else is worth as much.
// Only algorithms that give equal bits in repeats take part. Without autotune the heuristic's first
// is taken, and no file is looked at. Without the library our own kernels have all products.
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>

#include <array>
#include <map>
#include <string>
#include <vector>

#include "cuda.cuh"
#include "library.h"
#include "matmul_alone.h"

// ---- the library ---------------------------------------------------------------------------

#define LT_CALLS(XX)                                                                       \
  XX(cublasLtCreate)                                                                       \
  XX(cublasLtDestroy)                                                                      \
  XX(cublasLtGetVersion)                                                                   \
  XX(cublasLtGetStatusName) XX(cublasLtMatmulDescCreate) XX(cublasLtMatmulDescDestroy)     \
      XX(cublasLtMatmulDescSetAttribute) XX(cublasLtMatrixLayoutCreate)                    \
          XX(cublasLtMatrixLayoutDestroy) XX(cublasLtMatmulPreferenceCreate)               \
              XX(cublasLtMatmulPreferenceDestroy) XX(cublasLtMatmulPreferenceSetAttribute) \
                  XX(cublasLtMatmulAlgoGetHeuristic) XX(cublasLtMatmulAlgoCheck)           \
                      XX(cublasLtMatmul)

struct lt_calls {
#define XX(name) decltype(&::name) name;
  LT_CALLS(XX)
#undef XX
};

// What an algorithm depends on. `bucket` has the same with sizes rounded up, so that packs of about
// the same length share one.
enum { KEY_M, KEY_N, KEY_K, KEY_A, KEY_B, KEY_C, KEY_KIND, KEY_ALIGN, KEY_FIELDS };
using matmul_key = std::array<int64_t, KEY_FIELDS>;

// A call as it goes to Lt. The epilogue is DEFAULT; BIAS, which reads the vector; or BGRADB, which
// writes there the sums of Lt's B, our a, in c's type.
struct lt_call {
  const cft_matmul_args *a;
  cublasLtEpilogue_t epilogue;
  const void *vector;
};

// The same as Lt wants it described.
struct prepared {
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, c;
  cublasLtMatmulAlgo_t algo;
  size_t workspace;
  bool apart;  // a's sums by a kernel of their own instead
};

struct cuda_matmul {
  lt_calls lt;
  cublasLtHandle_t handle;
  std::string file;  // of choices; empty: none is kept
  std::map<matmul_key, cublasLtMatmulAlgo_t> chosen;
  std::map<matmul_key, prepared> ready;
};

constexpr size_t WORKSPACE = 32 << 20;  // what NVIDIA advises for sm_90
constexpr int CANDIDATES = 8;
constexpr size_t MOST_READY = 4096;

static cft_status lt_failed(const queue &q, cuda_matmul *h, cublasStatus_t st, const char *what) {
  return cft_fail(st == CUBLAS_STATUS_ALLOC_FAILED ? CFT_E_OOM : CFT_E_DEVICE, "%s: %s: %s", q.op,
                  what, h->lt.cublasLtGetStatusName(st));
}

#define LT_TRY(q, h, call, what)                                               \
  do {                                                                         \
    const cublasStatus_t st_ = (call);                                         \
    if (st_ != CUBLAS_STATUS_SUCCESS) return lt_failed((q), (h), st_, (what)); \
  } while (0)

static void destroy(cuda_matmul *h, prepared &p) {
  if (p.c) h->lt.cublasLtMatrixLayoutDestroy(p.c);
  if (p.b) h->lt.cublasLtMatrixLayoutDestroy(p.b);
  if (p.a) h->lt.cublasLtMatrixLayoutDestroy(p.a);
  if (p.desc) h->lt.cublasLtMatmulDescDestroy(p.desc);
  p = {};
}

static void forget_ready(cuda_matmul *h) {
  for (auto &entry : h->ready) destroy(h, entry.second);
  h->ready.clear();
}

void cuda_matmul_close(cuda_matmul *h) {
  if (!h) return;
  forget_ready(h);
  if (h->handle) h->lt.cublasLtDestroy(h->handle);
  delete h;
}

// ---- choices on disk -----------------------------------------------------------------------

// A line: the key's numbers, the 64 bytes of the algorithm in hex, microseconds of it and of the
// heuristic's first. What cannot be read is skipped, and timed again.
static std::string line_of(const matmul_key &key, const cublasLtMatmulAlgo_t &algo, double us,
                           double us_first) {
  std::string line;
  char text[64];
  for (int64_t field : key) line += std::to_string(field) + " ";
  for (size_t i = 0; i < sizeof algo; i++) {
    snprintf(text, sizeof text, "%02x", reinterpret_cast<const unsigned char *>(&algo)[i]);
    line += text;
  }
  snprintf(text, sizeof text, " %.1f %.1f\n", us, us_first);
  return line + text;
}

static bool read_line(const char *line, matmul_key *key, cublasLtMatmulAlgo_t *algo) {
  for (int64_t &field : *key) {
    char *end;
    field = strtoll(line, &end, 10);
    if (end == line || *end != ' ') return false;
    line = end + 1;
  }
  for (size_t i = 0; i < sizeof *algo; i++) {
    unsigned byte;
    if (sscanf(line + 2 * i, "%2x", &byte) != 1) return false;
    reinterpret_cast<unsigned char *>(algo)[i] = (unsigned char)byte;
  }
  return line[2 * sizeof *algo] == ' ';
}

static void read_choices(cuda_matmul *h) {
  std::string text;
  if (!cache_read(&text, h->file.c_str())) return;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    matmul_key key;
    cublasLtMatmulAlgo_t algo;
    if (read_line(text.substr(at, end - at).c_str(), &key, &algo)) h->chosen[key] = algo;
    at = end + 1;
  }
}

// NULL where the library is not there: said once, and our own kernels have all products then.
static cft_status open_lt(const queue &q, cuda_matmul **opened) {
  if ((*opened = q.device->matmul) || q.device->without_lt) return CFT_OK;
  void *library;
  if (cuda_library(&library, "libcublasLt", CUDA_MAJORS) != CFT_OK) {
    q.device->without_lt = true;
    cft_note("%s: matrix products run on cft's own kernels, at a small share of cuBLASLt's speed: %s", q.device->name,
             cft_last_error());
    return CFT_OK;
  }
  auto *h = new cuda_matmul{};
  q.device->matmul = h;  // closed with the device, whatever happens now
#define XX(name) CFT_TRY(cuda_function(&h->lt.name, library, #name));
  LT_CALLS(XX)
#undef XX
  LT_TRY(q, h, h->lt.cublasLtCreate(&h->handle), "cublasLtCreate");
  char name[400], path[1024];
  snprintf(name, sizeof name, "matmul-%zu-%s.txt", h->lt.cublasLtGetVersion(), q.device->gpu);
  if (q.device->tunes && cache_path(path, sizeof path, name)) {
    h->file = path;
    read_choices(h);
  }
  *opened = h;
  return CFT_OK;
}

// ---- from a call to a description ----------------------------------------------------------

static int alignment(const void *p) {
  int bytes = 256;
  while ((uintptr_t)p % (uintptr_t)bytes) bytes /= 2;
  return bytes;
}

static matmul_key key_of(const lt_call &call) {
  const cft_matmul_args *a = call.a;
  const int64_t kind = a->trans_a | a->trans_b << 1 | (a->beta != 0) << 2 | (int64_t)a->dtype << 4 |
                       (int64_t)a->c_dtype << 8 | (int64_t)call.epilogue << 12;
  const int64_t align = alignment(a->a) | (int64_t)alignment(a->b) << 16 |
                        (int64_t)alignment(a->c) << 32 | (int64_t)alignment(call.vector) << 48;
  return {a->m, a->n, a->k, a->a_stride, a->b_stride, a->c_stride, kind, align};
}

// Up to the next of eight steps between two powers of two.
static int64_t rounded(int64_t n) {
  int64_t step = 16;
  while (step * 16 <= n) step *= 2;
  return (n + step - 1) / step * step;
}

static matmul_key bucket_of(matmul_key key) {
  for (int field : {KEY_M, KEY_N, KEY_K}) key[field] = rounded(key[field]);
  for (int field : {KEY_A, KEY_B, KEY_C})  // what a stride allows, not how long it is
    key[field] = alignment((const void *)(uintptr_t)key[field]);
  return key;
}

static cudaDataType type_of(cft_dtype dtype) {
  return dtype == CFT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cft_status describe(const queue &q, cuda_matmul *h, const lt_call &call, prepared *p) {
  const cft_matmul_args *a = call.a;
  const cudaDataType ab = type_of(a->dtype), c = type_of(a->c_dtype);
  const cublasOperation_t op_a = a->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                          op_b = a->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const uint64_t m = (uint64_t)a->m, n = (uint64_t)a->n, k = (uint64_t)a->k;
  const auto attribute = [&](cublasLtMatmulDescAttributes_t name, const auto &value) {
    return h->lt.cublasLtMatmulDescSetAttribute(p->desc, name, &value, sizeof value);
  };
  *p = {};
  LT_TRY(q, h, h->lt.cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "desc");
  LT_TRY(q, h, attribute(CUBLASLT_MATMUL_DESC_TRANSA, op_a), "transpose");
  LT_TRY(q, h, attribute(CUBLASLT_MATMUL_DESC_TRANSB, op_b), "transpose");
  if (call.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
    LT_TRY(q, h, attribute(CUBLASLT_MATMUL_DESC_EPILOGUE, call.epilogue), "epilogue");
    LT_TRY(q, h, attribute(CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.vector), "its vector");
  }
  LT_TRY(q, h,
         h->lt.cublasLtMatrixLayoutCreate(&p->a, ab, a->trans_b ? k : n, a->trans_b ? n : k,
                                          a->b_stride),
         "layout");
  LT_TRY(q, h,
         h->lt.cublasLtMatrixLayoutCreate(&p->b, ab, a->trans_a ? m : k, a->trans_a ? k : m,
                                          a->a_stride),
         "layout");
  LT_TRY(q, h, h->lt.cublasLtMatrixLayoutCreate(&p->c, c, n, m, a->c_stride), "layout");
  return CFT_OK;
}

static cublasStatus_t multiply(const queue &q, cuda_matmul *h, const prepared &p,
                               const cft_matmul_args *a, const cublasLtMatmulAlgo_t &algo, void *c,
                               void *workspace, size_t bytes) {
  const float alpha = 1, beta = a->beta ? 1 : 0;
  return h->lt.cublasLtMatmul(h->handle, p.desc, &alpha, a->b, p.a, a->a, p.b, &beta, c, p.c, c,
                              p.c, &algo, workspace, bytes, q.stream);
}

// a_sum = [a_sum +] the sum over k of op(a), by a kernel that reads a once more.
static cft_status sum_apart(const queue &q, const cft_matmul_args *a, void *sum, int beta) {
  cft_stream stream{q.stream};
  const cft_reduce_args r = {sum, a->a, 1, a->k, a->m, 1, CFT_SUM, beta, a->dtype, a->c_dtype};
  return cft_cuda_reduce(q.device, &stream, &r);
}

// a_sum = [a_sum +] what the epilogue, which cannot add, left in a vector of its own.
static cft_status take_sum(const queue &q, const cft_matmul_args *a, void *sum, const void *made,
                           int beta) {
  cft_stream stream{q.stream};
  const cft_axpby_args r = {sum, made, a->m, 1, (double)beta, a->c_dtype, a->c_dtype};
  return cft_cuda_axpby(q.device, &stream, &r);
}

// ---- choosing ------------------------------------------------------------------------------

using candidates = std::vector<cublasLtMatmulHeuristicResult_t>;

static cft_status ask(const queue &q, cuda_matmul *h, const cft_matmul_args *a, const prepared &p,
                      candidates *found) {
  cublasLtMatmulPreference_t preference = nullptr;
  const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  const uint32_t align_a = (uint32_t)alignment(a->b), align_b = (uint32_t)alignment(a->a),
                 align_c = (uint32_t)alignment(a->c);
  const auto attribute = [&](cublasLtMatmulPreferenceAttributes_t name, const auto &value) {
    return h->lt.cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value);
  };
  LT_TRY(q, h, h->lt.cublasLtMatmulPreferenceCreate(&preference), "preference");
  attribute(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE);
  attribute(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
  attribute(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align_a);
  attribute(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align_b);
  attribute(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align_c);
  attribute(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align_c);
  int count = 0;
  found->resize(CANDIDATES);
  const cublasStatus_t st = h->lt.cublasLtMatmulAlgoGetHeuristic(
      h->handle, p.desc, p.a, p.b, p.c, p.c, preference, CANDIDATES, found->data(), &count);
  h->lt.cublasLtMatmulPreferenceDestroy(preference);
  found->resize((size_t)std::clamp(count, 0, CANDIDATES));
  // A result may say of itself that it does not work.
  found->erase(std::remove_if(found->begin(), found->end(),
                              [](const auto &r) { return r.state != CUBLAS_STATUS_SUCCESS; }),
               found->end());
  if (st != CUBLAS_STATUS_SUCCESS || found->empty())
    return lt_failed(q, h, st ? st : CUBLAS_STATUS_NOT_SUPPORTED, "no algorithm for this shape");
  return CFT_OK;
}

// A stopwatch in the stream.
struct stopwatch {
  cudaEvent_t begin = nullptr, end = nullptr;
  stopwatch() {
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
  }
  ~stopwatch() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  template <class F>
  double microseconds(cudaStream_t s, F f) {
    float ms = 0;
    cudaEventRecord(begin, s);
    f();
    cudaEventRecord(end, s);
    cudaEventSynchronize(end);
    cudaEventElapsedTime(&ms, begin, end);
    return (double)ms * 1e3;
  }
};

constexpr double WARM_UP = 5000, ROUND = 1000;  // microseconds
constexpr int ROUNDS = 3;

// The fastest candidate, on the call's own operands, which are data as the training has them. Where
// the call adds to c they write to a copy, else to c itself, which the call writes next: a copy of a
// head's logits is a gigabyte. Candidates take turns, so that a change of clocks hits all.
// `plain`: the call without its sums of a, which are then made apart; this is the last candidate,
// and those with the epilogue have to add its vector to a_sum.
static bool time_candidates(const queue &q, cuda_matmul *h, const cft_matmul_args *a,
                            const prepared &p, const candidates &found, const prepared *plain,
                            size_t *best, double *us, double *us_first) {
  scratch c, workspace, sums;
  size_t room = plain ? plain->workspace : 0;
  for (const auto &f : found) room = std::max(room, f.workspaceSize);
  const size_t vector = plain ? (size_t)a->m * cft_dtype_bytes(a->c_dtype) : 0;
  const size_t bytes = ((size_t)((a->m - 1) * a->c_stride + a->n)) * cft_dtype_bytes(a->c_dtype);
  if ((a->beta && c.take(q, bytes) != CFT_OK) || workspace.take(q, room) != CFT_OK ||
      sums.take(q, vector) != CFT_OK)
    return false;
  void *const to = a->beta ? c.as<void>() : a->c;
  if (a->beta) cudaMemsetAsync(to, 0, bytes, q.stream);
  cudaMemsetAsync(sums.as<void>(), 0, vector, q.stream);
  if (cuda_comms_wait(q) != CFT_OK) return false;  // the next sync says why
  stopwatch watch;
  const size_t ways = found.size() + (plain != nullptr);
  std::vector<double> least(ways, INFINITY);
  const auto run_once = [&](size_t i) {
    const bool apart = i == found.size();
    const prepared &way = apart ? *plain : p;
    bool ran = multiply(q, h, way, a, apart ? way.algo : found[i].algo, to,
                        workspace.as<void>(), room) == CUBLAS_STATUS_SUCCESS;
    if (ran && apart) ran = sum_apart(q, a, sums.as<void>(), 1) == CFT_OK;
    if (ran && plain && !apart) ran = take_sum(q, a, sums.as<void>(), sums.as<void>(), 1) == CFT_OK;
    if (!ran) least[i] = -1;  // takes no part
  };
  double once = 1;
  for (double spent = 0; spent < WARM_UP; spent += once)
    once = std::max(1.0, watch.microseconds(q.stream, [&] { run_once(0); }));
  const int repeats = (int)std::max(1.0, std::min(20.0, ROUND / once));
  for (int round = 0; round < ROUNDS; round++)
    for (size_t i = 0; i < ways; i++) {
      if (least[i] < 0) continue;
      const double t = watch.microseconds(q.stream, [&] {
        for (int r = 0; r < repeats; r++) run_once(i);
      });
      if (least[i] >= 0) least[i] = std::min(least[i], t / repeats);
    }
  *best = ways;
  for (size_t i = 0; i < ways; i++)
    if (least[i] >= 0 && (*best == ways || least[i] < least[*best])) *best = i;
  if (*best == ways) return false;
  *us = least[*best];
  *us_first = least[0];
  cudaGetLastError();
  return true;
}

static cft_status prepare(const queue &q, cuda_matmul *h, const lt_call &call, prepared **p);

// What stands in the place of an algorithm where a's sums are faster apart.
constexpr cublasLtMatmulAlgo_t APART = {};
static bool is_apart(const cublasLtMatmulAlgo_t &algo) {
  return memcmp(&algo, &APART, sizeof algo) == 0;
}

// The algorithm for calls like this one: chosen before, or now.
static cft_status choose(const queue &q, cuda_matmul *h, const lt_call &call, const matmul_key &key,
                         prepared *p) {
  const cft_matmul_args *a = call.a;
  const bool sums = call.epilogue == CUBLASLT_EPILOGUE_BGRADB;
  const bool plain_call = call.epilogue == CUBLASLT_EPILOGUE_DEFAULT;
  const matmul_key bucket = bucket_of(key);
  cublasLtMatmulHeuristicResult_t checked;
  const auto fits = [&](const cublasLtMatmulAlgo_t &algo) {
    return h->lt.cublasLtMatmulAlgoCheck(h->handle, p->desc, p->a, p->b, p->c, p->c, &algo,
                                         &checked) == CUBLAS_STATUS_SUCCESS &&
           checked.workspaceSize <= WORKSPACE;
  };
  const auto known = h->chosen.find(bucket);
  p->apart = known != h->chosen.end() && is_apart(known->second);
  if (p->apart) return CFT_OK;
  if (known != h->chosen.end() && fits(known->second)) {
    p->algo = known->second;
    p->workspace = checked.workspaceSize;
    return CFT_OK;
  }
  CFT_TRY(cuda_not_recording(q));  // what is chosen without a clock would stay
  candidates found;
  const cft_status asked = ask(q, h, a, *p, &found);
  p->apart = !plain_call && asked != CFT_OK;  // a library that has no such epilogue here
  if (p->apart) return CFT_OK;
  CFT_TRY(asked);
  prepared *plain = nullptr;
  if (sums) CFT_TRY(prepare(q, h, {a, CUBLASLT_EPILOGUE_DEFAULT, nullptr}, &plain));
  size_t best = 0;
  double us = 0, us_first = 0;
  // Where an algorithm is known, but not for this very shape, the heuristic's word is good enough.
  if (q.device->tunes && known == h->chosen.end() && (sums || found.size() > 1) &&
      time_candidates(q, h, a, *p, found, plain, &best, &us, &us_first)) {
    p->apart = best == found.size();
    const cublasLtMatmulAlgo_t algo = p->apart ? APART : found[best].algo;
    h->chosen[bucket] = algo;
    if (!h->file.empty()) cache_append(h->file.c_str(), line_of(bucket, algo, us, us_first));
    if (p->apart) return CFT_OK;
  } else if (sums && known == h->chosen.end()) {
    p->apart = true;  // an epilogue that nobody timed may cost more than it saves
    return CFT_OK;
  } else {
    best = 0;
    h->chosen.insert({bucket, found[0].algo});
  }
  p->algo = found[best].algo;
  p->workspace = found[best].workspaceSize;
  return CFT_OK;
}

static cft_status prepare(const queue &q, cuda_matmul *h, const lt_call &call, prepared **p) {
  const matmul_key key = key_of(call);
  const auto found = h->ready.find(key);
  if (found != h->ready.end()) {
    *p = &found->second;
    return CFT_OK;
  }
  if (h->ready.size() >= MOST_READY) forget_ready(h);
  prepared made;
  cft_status st = describe(q, h, call, &made);
  if (st == CFT_OK) st = choose(q, h, call, key, &made);
  if (st != CFT_OK) {
    destroy(h, made);
    return st;
  }
  *p = &(h->ready[key] = made);
  return CFT_OK;
}

// ---- the op --------------------------------------------------------------------------------

// c = [c] + bias: what Lt's epilogue does not do.
template <class C, class B>
static __global__ void __launch_bounds__(256)
    add_bias_kernel(C *c, const B *bias, int64_t n, unsigned stretches, int64_t c_stride,
                    bool keeps_c) {
  const row_place at = place_in_rows<1>(stretches);
  if (at.column >= n) return;
  C *to = c + at.row * c_stride + at.column;
  const float old = keeps_c ? to_float(*to) : 0;
  *to = from_float<C>(old + (bias ? to_float(bias[at.column]) : 0));
}

static cft_status add_bias(const queue &q, const cft_matmul_args *a, bool keeps_c) {
  const row_grid g(a->m, a->n, 1);
  if (a->dtype == CFT_F32)
    return run(q, add_bias_kernel<float, float>, g.blocks, g.threads, 0, (float *)a->c,
               (const float *)a->bias, a->n, g.stretches, a->c_stride, keeps_c);
  if (a->c_dtype == CFT_F32)
    return run(q, add_bias_kernel<float, bf16>, g.blocks, g.threads, 0, (float *)a->c,
               (const bf16 *)a->bias, a->n, g.stretches, a->c_stride, keeps_c);
  return run(q, add_bias_kernel<bf16, bf16>, g.blocks, g.threads, 0, (bf16 *)a->c,
             (const bf16 *)a->bias, a->n, g.stretches, a->c_stride, keeps_c);
}

static cft_status multiply_by(const queue &q, cuda_matmul *h, const lt_call &call,
                              const prepared &p) {
  if (call.epilogue != CUBLASLT_EPILOGUE_DEFAULT)
    LT_TRY(q, h,
           h->lt.cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                &call.vector, sizeof call.vector),
           "its vector");
  scratch workspace;
  if (p.workspace > 0) CFT_TRY(workspace.take(q, p.workspace));
  const auto call_it = [&] {
    return multiply(q, h, p, call.a, p.algo, call.a->c, workspace.as<void>(), p.workspace);
  };
  cublasStatus_t st = call_it();
  if (st == CUBLAS_STATUS_ALLOC_FAILED) {
    q.make_room();
    st = call_it();
  }
  LT_TRY(q, h, st, "cublasLt");
  return q.check(cudaSuccess);  // waits where CFT_SYNC says so
}

// c and a's sums by one matmul; `done` is false where they are faster apart, or nobody may time it.
static cft_status with_sums(const queue &q, cuda_matmul *h, const cft_matmul_args *a, bool *done) {
  *done = false;
  if (!q.device->tunes) return CFT_OK;
  scratch sum;
  CFT_TRY(sum.take(q, (size_t)a->m * cft_dtype_bytes(a->c_dtype)));
  const lt_call call = {a, CUBLASLT_EPILOGUE_BGRADB, sum.as<void>()};
  prepared *p;
  CFT_TRY(prepare(q, h, call, &p));
  if (p->apart) return CFT_OK;
  *done = true;
  CFT_TRY(multiply_by(q, h, call, *p));
  return take_sum(q, a, a->a_sum, sum.as<void>(), a->a_sum_beta);
}

cft_status cft_cuda_matmul(cft_device *d, cft_stream *s, const cft_matmul_args *a) {
  const queue q(d, s, "matmul");
  const bool known = (a->dtype == CFT_F32 && a->c_dtype == CFT_F32) ||
                     (a->dtype == CFT_BF16 && (a->c_dtype == CFT_BF16 || a->c_dtype == CFT_F32));
  if (!known)
    return no_kernel(q, a->dtype == CFT_F32 || a->dtype == CFT_BF16 ? a->c_dtype : a->dtype);
  if (a->a_sum && (!a->trans_a || a->a_stride != a->m || a->bias))
    return cft_fail(CFT_E_ARG, "%s: a_sum wants trans_a, rows of a without gaps, no bias", q.op);
  const bool empty = a->m == 0 || a->n == 0 || a->k == 0;
  cuda_matmul *h = nullptr;
  bool done = false;
  if (!empty && q.device->rows_alone) return matmul_alone(q, a);
  if (!empty) CFT_TRY(open_lt(q, &h));
  if (a->a_sum && h) CFT_TRY(with_sums(q, h, a, &done));
  if (a->a_sum && !done) CFT_TRY(sum_apart(q, a, a->a_sum, a->a_sum_beta));
  if (done || a->m == 0 || a->n == 0) return CFT_OK;
  if (a->k == 0) return a->bias || !a->beta ? add_bias(q, a, a->beta != 0) : CFT_OK;
  if (!h) return matmul_own(q, a);

  // Lt's bias has the type of c. Its kernels read it 16 bytes at a time, and no preference tells
  // the heuristic where it lies: a fault of theirs would be the process's last word.
  bool biased = a->bias && a->c_dtype == a->dtype && alignment(a->bias) >= 16;
  prepared *p;
  if (biased) {
    const lt_call call = {a, CUBLASLT_EPILOGUE_BIAS, a->bias};
    CFT_TRY(prepare(q, h, call, &p));
    biased = !p->apart;
    if (biased) return multiply_by(q, h, call, *p);
  }
  // Elsewhere the bias is there first and the product is added to it, in f32 and rounded once.
  cft_matmul_args on_bias = *a;
  if (a->bias) {
    CFT_TRY(add_bias(q, a, a->beta != 0));
    on_bias.beta = 1;
  }
  const lt_call call = {&on_bias, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
  CFT_TRY(prepare(q, h, call, &p));
  return multiply_by(q, h, call, *p);
}
