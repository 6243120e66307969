// attention.cu - cuDNN's fused attention where it takes the call, our own kernels elsewhere.
//
// cuDNN (bf16, D up to 128; on any card but sm_90 only what agrees with our kernel on a small
// problem): a plan is compiled in half a second for a number of sequences and a longest one, and
// then runs any lengths that fit. So both are rounded up to powers of two, unused sequences
// have length 0, and plans are kept on disk. What decides between the two is known without asking
// the GPU: types, strides, whether positions are given.
//
// Deterministic backward: cuDNN stores dS whole, H * longest^2 * 2 bytes a sequence. Sequences are
// taken by groups that fit a bound, one group after the other in one workspace; where even one does
// not fit, our kernel, which is always deterministic, has it.
#include <stdio.h>
#include <stdlib.h>

#include <map>
#include <memory>
#include <string>

#include "attention.cuh"
#include "library.h"

#ifdef CFT_CUDNN
#include "cudnn_graph.h"
#endif

// ---- shared by all ways --------------------------------------------------------------------

constexpr int THREADS = 256;

// A warp has one row and head.
template <class T>
static __global__ void __launch_bounds__(THREADS)
    delta_kernel(float *delta, const T *g, const T *o, int64_t n, int H, int D, int64_t g_stride,
                 int64_t o_stride) {
  const int64_t at = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  if (at >= n * H) return;
  const int64_t row = at / H, head = at % H;
  g += row * g_stride + head * D;
  o += row * o_stride + head * D;
  float sum = 0;
  for (int d = threadIdx.x % 32; d < D; d += 32) sum += to_float(g[d]) * to_float(o[d]);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) delta[at] = sum;
}

template <class T>
static cft_status delta(const queue &q, float *to, const cft_attention_bwd_args *a) {
  return run(q, delta_kernel<T>, blocks_for(a->nq * a->H, THREADS / 32), THREADS, 0, to,
             (const T *)a->do_, (const T *)a->o, a->nq, (int)a->H, (int)a->D, a->do_stride,
             a->o_stride);
}

cft_status attention_delta(const queue &q, float *to, const cft_attention_bwd_args *a) {
  if (a->nq == 0) return CFT_OK;
  return BY_FLOAT(q, a->dtype, delta, to, a);
}

// A row of dk and dv: zero where it belongs to no sequence, or to one without queries, which cuDNN
// may leave as it is; else copied where there is a source.
template <class T, int N>
static __global__ void __launch_bounds__(256)
    finish_keys_kernel(T *dk, T *dv, const T *dk_from, const T *dv_from, packed p, int64_t width,
                       unsigned stretches, int64_t dk_stride, int64_t dv_stride) {
  const row_place at = place_in_rows<N>(stretches);
  const int64_t b = sequence_of(p.cu_k, p.B, at.row);
  const bool inside = b >= 0 && at.row - p.cu_k[b] < keys_of(p, b) && p.cu_q[b] < p.cu_q[b + 1];
  if (at.column >= width || (inside && !dk_from)) return;
  pack<T, N> k, v;
#pragma unroll
  for (int i = 0; i < N; i++) k.v[i] = v.v[i] = from_float<T>(0);
  if (inside) {
    k = load<N>(dk_from + at.row * width + at.column);
    v = load<N>(dv_from + at.row * width + at.column);
  }
  store<N>(dk + at.row * dk_stride + at.column, k);
  store<N>(dv + at.row * dv_stride + at.column, v);
}

template <class T>
static cft_status finish_keys(const queue &q, const cft_attention_bwd_args *a, const void *dk_from,
                              const void *dv_from) {
  constexpr int N = WIDTH<T>;
  const int64_t width = a->K * a->D;
  const bool wide = width % N == 0 && a->dk_stride % N == 0 && a->dv_stride % N == 0 &&
                    aligned16(a->dk, a->dv, dk_from, dv_from);
  const row_grid g(a->nk, width, wide ? N : 1);
  auto *kernel = wide ? finish_keys_kernel<T, N> : finish_keys_kernel<T, 1>;
  return run(q, kernel, g.blocks, g.threads, 0, (T *)a->dk, (T *)a->dv, (const T *)dk_from,
             (const T *)dv_from, packed_of(a), width, g.stretches, a->dk_stride, a->dv_stride);
}

cft_status attention_finish_keys(const queue &q, const cft_attention_bwd_args *a,
                                 const void *dk_from, const void *dv_from) {
  if (a->nk == 0) return CFT_OK;
  return BY_FLOAT(q, a->dtype, finish_keys, a, dk_from, dv_from);
}

// ---- cuDNN ---------------------------------------------------------------------------------

#ifdef CFT_CUDNN

struct cuda_attention {
  cudnn_calls calls;
  cudnnHandle_t handle;
  size_t version;
  bool usable;
  std::map<std::string, std::unique_ptr<cudnn_plan>> plans;  // no plan: it was declined
  std::map<std::string, bool> believed;                      // a kind of call
};

void cuda_attention_close(cuda_attention *c) {
  if (!c) return;
  for (auto &entry : c->plans)
    if (entry.second) cudnn_plan_free(entry.second.get());
  if (c->handle) c->calls.cudnnDestroy(c->handle);
  delete c;
}

static cft_status open_cudnn(cuda_attention *c) {
  void *library, *unused;
  // cuDNN compiles its kernels with NVRTC and looks for it by name, that of the CUDA it was built
  // for: have all that are here loaded. Where there is none cuDNN will say so itself.
  for (int major : CUDA_MAJORS)
    if (cuda_library(&unused, "libnvrtc", {major}) != CFT_OK) unused = nullptr;
  CFT_TRY(cuda_library(&library, "libcudnn", {CUDNN_MAJOR}));
#define XX(type, name, arguments) CFT_TRY(cuda_function(&c->calls.name, library, #name));
  CUDNN_CALLS(XX)
#undef XX
  c->version = c->calls.cudnnGetVersion();
  if (c->version < CUDNN_OLDEST)
    return cft_fail(CFT_E_UNSUPPORTED, "cuDNN %zu is older than %d", c->version, CUDNN_OLDEST);
  const cudnnStatus_t st = c->calls.cudnnCreate(&c->handle);
  if (st) return cft_fail(CFT_E_DEVICE, "cudnnCreate: %s", c->calls.cudnnGetErrorString(st));
  return CFT_OK;
}

// cuDNN, or NULL where it cannot be had; said once.
static cuda_attention *cudnn_of(const queue &q) {
  cuda_device *d = q.device;
  if (!d->attention) {
    d->attention = new cuda_attention{};
    const char *wanted = getenv("CFT_CUDNN");
    if (wanted && *wanted == '0') return nullptr;
    d->attention->usable = open_cudnn(d->attention) == CFT_OK;
    if (!d->attention->usable)
      cft_note("%s: attention runs on cft's own kernels: %s", d->name, cft_last_error());
  }
  return d->attention->usable ? d->attention : nullptr;
}

static int64_t power_of_2(int64_t n) {
  int64_t p = 1;
  while (p < n) p *= 2;
  return p;
}

static std::string name_of(const queue &q, const cuda_attention *c, const cudnn_shape &s) {
  char text[512];
  snprintf(text, sizeof text,
           "cudnn-%zu-%s-%s%s-B%lld-q%lld-k%lld-H%lld-K%lld-D%lld-mask%d-rows-%lld-%lld-%lld-%lld-"
           "%lld-%lld.json",
           c->version, q.device->gpu, s.backward ? "bwd" : "fwd", s.deterministic ? "-same" : "",
           (long long)s.sequences, (long long)s.longest_q, (long long)s.longest_k,
           (long long)s.heads, (long long)s.kv_heads, (long long)s.dim, (int)s.mask,
           (long long)s.q_stride, (long long)s.k_stride, (long long)s.v_stride,
           (long long)s.o_stride, (long long)s.do_stride, (long long)s.dq_stride);
  return text;
}

// The plan for a shape: from this run, from disk, or compiled now; NULL where cuDNN declines.
static cudnn_plan *plan_for(const queue &q, cuda_attention *c, const cudnn_shape &s) {
  const std::string name = name_of(q, c, s);
  const auto found = c->plans.find(name);
  if (found != c->plans.end()) return found->second.get();
  auto &kept = c->plans[name];
  auto plan = std::make_unique<cudnn_plan>();
  char path[1200];
  std::string text;
  const bool keeps = cache_path(path, sizeof path, name.c_str());
  if (keeps && cache_read(&text, path)) {
    if (cudnn_plan_load(plan.get(), &c->calls, &s, c->handle, nullptr, text.c_str()) ==
        CUDNN_STATUS_SUCCESS)
      return (kept = std::move(plan)).get();
    cudnn_plan_free(plan.get());
  }
  const cudnnStatus_t st = cudnn_plan_new(plan.get(), &c->calls, &s, c->handle, nullptr);
  if (st) {
    cft_note("%s: cuDNN declines %s; cft's own kernel has it: %s", q.device->name, name.c_str(),
             plan->why);
    cudnn_plan_free(plan.get());
    return nullptr;
  }
  cft_note("%s: compiled %s", q.device->name, name.c_str());
  if (char *made = keeps ? cudnn_plan_text(plan.get()) : nullptr) {
    cache_write(path, made);
    free(made);
  }
  return (kept = std::move(plan)).get();
}

// Lengths and first elements of the sequences, as cuDNN wants them, for groups of `each` sequences:
// each array of a group begins at a multiple of 16 bytes.
constexpr int FIRST_AT = CUDNN_AT_Q, ARRAYS = CUDNN_AT_SUM - CUDNN_LEN_Q + 1;
struct row_strides {
  int64_t of[CUDNN_AT_SUM - FIRST_AT + 1];
};

static __global__ void __launch_bounds__(THREADS)
    layout_kernel(int32_t *to, packed p, row_strides strides, int each, int groups, int pitch) {
  const int t = (int)(blockIdx.x * THREADS + threadIdx.x);
  if (t >= groups * (each + 1)) return;
  const int group = t / (each + 1), i = t % (each + 1);
  const int64_t b = (int64_t)group * each + i, row = min(b, p.B);
  const int32_t start_q = p.cu_q[row], start_k = p.cu_k[row];
  const bool is = i < each && b < p.B;
  const auto array = [=](int name) {
    return to + ((int64_t)(name - CUDNN_LEN_Q) * groups + group) * pitch;
  };
  if (i < each) {
    array(CUDNN_LEN_Q)[i] = is ? p.cu_q[b + 1] - start_q : 0;
    array(CUDNN_LEN_K)[i] = is ? keys_of(p, b) : 0;
  }
  for (int name = FIRST_AT; name <= CUDNN_AT_SUM; name++) {
    const bool of_keys = name == CUDNN_AT_K || name == CUDNN_AT_V || name == CUDNN_AT_DK;
    array(name)[i] = (int32_t)((of_keys ? start_k : start_q) * strides.of[name - FIRST_AT]);
  }
}

constexpr int64_t MOST_OF_DS = (int64_t)1 << 30;  // bytes that a deterministic backward may store

// Does this kind of call go to cuDNN? And as which shape.
template <class A>
static bool cudnn_takes(const A *a, cudnn_shape *s) {
  const bool fits = a->dtype == CFT_BF16 && a->D % 8 == 0 && a->D <= 128 && !a->q_position &&
                    a->B > 0 && a->nq > 0 && a->longest_q > 0 && a->longest_k > 0 &&
                    all_of_8(a->q_stride, a->k_stride, a->v_stride, a->o_stride) &&
                    aligned16(a->q, a->k, a->v, a->o, a->lse);
  // Offsets are i32, in elements.
  const int64_t widest = std::max({a->q_stride, a->k_stride, a->v_stride, a->o_stride});
  if (!fits || std::max(a->nq, a->nk) * widest > INT32_MAX) return false;
  *s = cudnn_shape{};
  s->sequences = power_of_2(a->B);
  s->longest_q = std::max<int64_t>(64, power_of_2(a->longest_q));
  s->longest_k = std::max<int64_t>(64, power_of_2(a->longest_k));
  s->heads = a->H, s->kv_heads = a->K, s->dim = a->D;
  s->q_stride = a->q_stride, s->k_stride = a->k_stride, s->v_stride = a->v_stride;
  s->o_stride = a->o_stride;
  s->mask = !a->causal                        ? CUDNN_WHOLE
            : a->cu_q == a->cu_k && !a->k_len ? CUDNN_FROM_FIRST
                                              : CUDNN_FROM_LAST;
  return true;
}

static bool cudnn_takes(const cft_attention_bwd_args *a, cudnn_shape *s) {
  if (!cudnn_takes<cft_attention_bwd_args>(a, s)) return false;
  s->backward = true;
  s->deterministic = a->deterministic;
  s->do_stride = a->do_stride, s->dq_stride = a->dq_stride;
  // Up to about 9.30 the Hopper kernel gives NaN in dq without a causal mask (cudnn-frontend #628).
  if (s->mask == CUDNN_WHOLE || !all_of_8(a->do_stride, a->dq_stride) ||
      !aligned16(a->do_, a->dq) ||
      std::max({a->do_stride, a->dq_stride, a->H * a->D}) * std::max(a->nq, a->nk) > INT32_MAX)
    return false;
  if (!s->deterministic) return true;
  const int64_t one = s->heads * s->longest_q * s->longest_k * 2;
  while (s->sequences > 1 && s->sequences * one > MOST_OF_DS) s->sequences /= 2;
  return s->sequences * one <= MOST_OF_DS;
}

// What a plan runs on: tensors by name, and the distance of their rows.
struct operands {
  void *at[CUDNN_NAMES] = {};
  row_strides strides = {};

  template <class A>
  explicit operands(const A *a) {
    put(CUDNN_Q, a->q, CUDNN_AT_Q, a->q_stride);
    put(CUDNN_K, a->k, CUDNN_AT_K, a->k_stride);
    put(CUDNN_V, a->v, CUDNN_AT_V, a->v_stride);
    put(CUDNN_O, a->o, CUDNN_AT_O, a->o_stride);
    put(CUDNN_LSE, a->lse, CUDNN_AT_LSE, a->H);
  }
  void put(int name, const void *tensor, int rows, int64_t stride) {
    at[name] = const_cast<void *>(tensor);
    strides.of[rows - FIRST_AT] = stride;
  }
};

// Runs the plan over all groups of sequences.
static cft_status run_groups(const queue &q, cuda_attention *c, cudnn_plan *plan,
                             const cudnn_shape &s, const packed &p, operands *on, double scale) {
  const int each = (int)s.sequences, groups = (int)((p.B + each - 1) / each);
  const int pitch = (each + 1 + 3) / 4 * 4;
  scratch layout, workspace;
  CFT_TRY(layout.take(q, (size_t)(ARRAYS * groups * pitch) * sizeof(int32_t)));
  CFT_TRY(run(q, layout_kernel, blocks_for(groups * (each + 1), THREADS), THREADS, 0,
              layout.as<int32_t>(), p, on->strides, each, groups, pitch));
  CFT_TRY(workspace.take(q, (size_t)plan->workspace));
  cudnnStatus_t st = c->calls.cudnnSetStream(c->handle, q.stream);
  for (int group = 0; group < groups && !st; group++) {
    for (int name = CUDNN_LEN_Q; name <= CUDNN_AT_SUM; name++)
      on->at[name] = layout.as<int32_t>() + ((name - CUDNN_LEN_Q) * groups + group) * pitch;
    st = cudnn_run(plan, c->handle, on->at, workspace.as<void>(), (float)scale);
    if (st == CUDNN_STATUS_SUCCESS) continue;
    q.make_room();  // the code of a plan is loaded when it first runs
    st = cudnn_run(plan, c->handle, on->at, workspace.as<void>(), (float)scale);
  }
  if (st) return cft_fail(CFT_E_DEVICE, "%s: cuDNN: %s", q.op, c->calls.cudnnGetErrorString(st));
  return q.check(cudaSuccess);
}

static cft_status run_plan(const queue &q, cuda_attention *c, cudnn_plan *plan,
                           const cudnn_shape &s, const cft_attention_args *a) {
  operands on(a);
  return run_groups(q, c, plan, s, packed_of(a), &on, a->scale);
}

static cft_status run_plan(const queue &q, cuda_attention *c, cudnn_plan *plan,
                           const cudnn_shape &s, const cft_attention_bwd_args *a) {
  // dk and dv have rows of their own here: in a wider buffer cuDNN's parts of each query head would
  // take as many times its stride.
  const int64_t width = a->K * a->D;
  const bool direct = a->dk_stride == width && a->dv_stride == width && aligned16(a->dk, a->dv);
  scratch dk, dv, delta, sum, dk_heads, dv_heads;
  const size_t bytes = (size_t)(a->nk * width) * sizeof(bf16);
  if (!direct) {
    CFT_TRY(dk.take(q, bytes));
    CFT_TRY(dv.take(q, bytes));
  }
  operands on(a);
  on.put(CUDNN_DO, a->do_, CUDNN_AT_DO, a->do_stride);
  on.put(CUDNN_DQ, a->dq, CUDNN_AT_DQ, a->dq_stride);
  on.put(CUDNN_DK, direct ? a->dk : dk.as<void>(), CUDNN_AT_DK, width);
  on.at[CUDNN_DV] = direct ? a->dv : dv.as<void>();
  on.strides.of[CUDNN_AT_SUM - FIRST_AT] = a->H * a->D;
  const struct {
    enum cudnn_name name;
    scratch *memory;
  } wanted[] = {{CUDNN_DELTA, &delta},
                {CUDNN_DQ_SUM, &sum},
                {CUDNN_DK_HEADS, &dk_heads},
                {CUDNN_DV_HEADS, &dv_heads}};
  for (const auto &w : wanted) {
    if (!plan->uses[w.name]) continue;
    CFT_TRY(w.memory->take(q, (size_t)cudnn_scratch(&s, w.name, a->nq, a->nk)));
    on.at[w.name] = w.memory->as<void>();
  }
  CFT_TRY(run_groups(q, c, plan, s, packed_of(a), &on, a->scale));
  return attention_finish_keys(q, a, dk.as<void>(), dv.as<void>());
}

template <class A>
static cft_status run_small(const queue &q, cuda_attention *c, const A *a) {
  cudnn_shape s;
  cudnn_plan *plan = cudnn_takes(a, &s) ? plan_for(q, c, s) : nullptr;
  return plan ? run_plan(q, c, plan, s, a) : cft_fail(CFT_E_UNSUPPORTED, "cuDNN declines it");
}

constexpr int TRUSTED = 90;    // the graphs were made for its engines
constexpr double NEAR = 0.02;  // attention_probe.cu says why

// Is cuDNN right about this kind of call? Asked once; where it is not, a line says so.
static bool believed(const queue &q, cuda_attention *c, const cudnn_shape &s) {
  if (q.device->arch == TRUSTED) return true;
  char what[160];
  snprintf(what, sizeof what, "attention %s%s, %lld over %lld heads of %lld, mask %d",
           s.backward ? "backward" : "forward", s.deterministic ? ", deterministic" : "",
           (long long)s.heads, (long long)s.kv_heads, (long long)s.dim, (int)s.mask);
  const auto found = c->believed.find(what);
  if (found != c->believed.end()) return found->second;
  const attention_kind kind = {
      s.heads,    s.kv_heads,     s.dim, s.mask != CUDNN_WHOLE, s.mask == CUDNN_FROM_FIRST,
      s.backward, s.deterministic};
  const attention_way theirs = {
      [&](const cft_attention_args *a) { return run_small(q, c, a); },
      [&](const cft_attention_bwd_args *a) { return run_small(q, c, a); }};
  double by = 0;
  const cft_status st = attention_differs(q, kind, theirs, &by);
  const bool same = st == CFT_OK && by <= NEAR;
  if (st == CFT_OK && !same)
    cft_note(
        "%s: cuDNN %zu is wrong here: %s differs from cft's own kernel by %.2g of its norm; "
        "cft's own has it",
        q.device->name, c->version, what, by);
  else if (st != CFT_OK && st != CFT_E_UNSUPPORTED)
    cft_note("%s: cft's own kernel has %s, since cuDNN's could not be tried: %s", q.device->name,
             what, cft_last_error());
  return c->believed[what] = same;
}

template <class A>
static cft_status try_cudnn(const queue &q, const A *a, bool *taken) {
  cudnn_shape s;
  cuda_attention *c = cudnn_takes(a, &s) ? cudnn_of(q) : nullptr;
  if (c && !believed(q, c, s)) c = nullptr;
  cudnn_plan *plan = c ? plan_for(q, c, s) : nullptr;
  *taken = plan != nullptr;
  return plan ? run_plan(q, c, plan, s, a) : CFT_OK;
}

#else  // built where there is no cuDNN

void cuda_attention_close(cuda_attention *) {}

template <class A>
static cft_status try_cudnn(const queue &, const A *, bool *taken) {
  *taken = false;
  return CFT_OK;
}

#endif

// ---- the op --------------------------------------------------------------------------------

cft_status cft_cuda_attention_fwd(cft_device *d, cft_stream *s, const cft_attention_args *a) {
  if (a->nq == 0) return CFT_OK;
  const queue q(d, s, "attention_fwd");
  if (q.device->rows_alone)
    return flash_takes(a->dtype, a->D) ? split_keys_fwd(q, a) : plain_fwd(q, a);
  bool taken;
  CFT_TRY(try_cudnn(q, a, &taken));
  if (taken) return CFT_OK;
  return flash_takes(a->dtype, a->D) ? flash_fwd(q, a) : plain_fwd(q, a);
}

cft_status cft_cuda_attention_bwd(cft_device *d, cft_stream *s, const cft_attention_bwd_args *a) {
  if (a->nq == 0 && a->nk == 0) return CFT_OK;
  const queue q(d, s, "attention_bwd");
  bool taken;
  CFT_TRY(try_cudnn(q, a, &taken));
  if (taken) return CFT_OK;
  return flash_takes(a->dtype, a->D) ? flash_bwd(q, a) : plain_bwd(q, a);
}
