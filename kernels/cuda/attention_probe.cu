// attention_probe.cu - another's attention beside ours, on a small problem: is it to be believed on
// this card?
//
// Two sequences of odd lengths, more than a tile of keys, random numbers; both ways get the same o
// and lse backward. What is compared is the norm of the difference, of each output: a wrong row,
// mask, scale or head is more than 2% of it, and what bf16 rounds is less than 1%. It waits for the
// device, once a kind of call.
#include <math.h>

#include <vector>

#include "attention.cuh"

namespace {

constexpr int32_t LENGTHS[] = {131, 37},
                  LAST[] = {50, 37};  // keys; queries that are a sequence's last rows
constexpr int64_t ROWS = LENGTHS[0] + LENGTHS[1];

// Arrays of a small problem, `ways` times what each way makes.
struct problem {
  const queue &q;
  std::vector<scratch *> taken;

  explicit problem(const queue &on) : q(on) {}
  problem(const problem &) = delete;
  ~problem() {
    for (scratch *s : taken) delete s;
  }
  cft_status take(void **p, size_t bytes) {
    taken.push_back(new scratch);
    CFT_TRY(taken.back()->take(q, bytes));
    *p = taken.back()->as<void>();
    return CFT_OK;
  }
  cft_status random(void **p, int64_t n, uint64_t seed) {
    CFT_TRY(take(p, (size_t)n * sizeof(bf16)));
    cft_random_args a = {};
    a.y = *p, a.n = n, a.seed = seed, a.b = 1, a.f = CFT_NORMAL, a.dtype = CFT_BF16;
    cft_stream s = {q.stream};
    return cft_cuda_random(q.device, &s, &a);
  }
  cft_status starts(void **p, const int32_t *lengths) {
    const int32_t cu[] = {0, lengths[0], lengths[0] + lengths[1]};
    CFT_TRY(take(p, sizeof cu));
    cft_stream s = {q.stream};
    return q.device->upload(q.device, &s, *p, cu, sizeof cu);
  }
};

// |x - y| / |y|; infinite where x has what is no finite number.
cft_status relative(const queue &q, const void *x, const void *y, int64_t n, bool wide,
                    double *by) {
  const size_t size = wide ? 4 : 2;
  std::vector<char> a((size_t)n * size), b((size_t)n * size);
  cft_stream s = {q.stream};
  CFT_TRY(q.device->download(q.device, &s, a.data(), x, a.size()));
  CFT_TRY(q.device->download(q.device, &s, b.data(), y, b.size()));
  const auto at = [=](const std::vector<char> &v, int64_t i) {
    uint32_t bits = 0;
    memcpy((char *)&bits + 4 - size, v.data() + (size_t)i * size, size);  // bf16 is the upper half
    float f;
    memcpy(&f, &bits, 4);
    return (double)f;
  };
  double apart = 0, norm = 0;
  for (int64_t i = 0; i < n; i++) {
    const double u = at(a, i), v = at(b, i);
    apart += (u - v) * (u - v), norm += v * v;
  }
  const double r = sqrt(apart / fmax(norm, 1e-30));
  *by = isfinite(r) ? fmax(*by, r) : HUGE_VAL;
  return CFT_OK;
}

}  // namespace

cft_status attention_differs(const queue &q, const attention_kind &kind,
                             const attention_way &theirs, double *by) {
  *by = 0;
  problem p(q);
  const bool last = kind.causal && !kind.from_first;
  const int64_t nq = last ? LAST[0] + LAST[1] : ROWS, nk = ROWS;
  const int64_t wq = kind.H * kind.D, wk = kind.K * kind.D;
  cft_attention_args a = {};
  void *at_q, *at_k, *x[3], *o[2], *lse[2];
  CFT_TRY(p.starts(&at_k, LENGTHS));
  at_q = at_k;
  if (last) CFT_TRY(p.starts(&at_q, LAST));
  CFT_TRY(p.random(&x[0], nq * wq, 1));
  CFT_TRY(p.random(&x[1], nk * wk, 2));
  CFT_TRY(p.random(&x[2], nk * wk, 3));
  for (int i = 0; i < 2; i++) {
    CFT_TRY(p.take(&o[i], (size_t)(nq * wq) * sizeof(bf16)));
    CFT_TRY(p.take(&lse[i], (size_t)(nq * kind.H) * sizeof(float)));
  }
  a.q = x[0], a.k = x[1], a.v = x[2];
  a.cu_q = (int32_t *)at_q, a.cu_k = (int32_t *)at_k;
  a.nq = nq, a.nk = nk, a.B = 2, a.longest_q = last ? LAST[0] : LENGTHS[0],
  a.longest_k = LENGTHS[0];
  a.H = kind.H, a.K = kind.K, a.D = kind.D;
  a.o_stride = a.q_stride = wq, a.k_stride = a.v_stride = wk;
  a.scale = 1 / sqrt((double)kind.D), a.causal = kind.causal, a.dtype = CFT_BF16;
  a.o = o[0], a.lse = lse[0];
  CFT_TRY(flash_fwd(q, &a));
  if (!kind.backward) {
    a.o = o[1], a.lse = lse[1];
    CFT_TRY(theirs.forward(&a));
    CFT_TRY(relative(q, o[1], o[0], nq * wq, false, by));
    return relative(q, lse[1], lse[0], nq * kind.H, true, by);
  }

  cft_attention_bwd_args b = {};
  void *g, *made[2][3];
  CFT_TRY(p.random(&g, nq * wq, 4));
  const int64_t counts[] = {nq * wq, nk * wk, nk * wk};
  for (auto &way : made)
    for (int i = 0; i < 3; i++) CFT_TRY(p.take(&way[i], (size_t)counts[i] * sizeof(bf16)));
  b.do_ = g, b.o = o[0], b.lse = lse[0], b.q = a.q, b.k = a.k, b.v = a.v, b.cu_q = a.cu_q,
  b.cu_k = a.cu_k;
  b.nq = a.nq, b.nk = a.nk, b.B = a.B, b.longest_q = a.longest_q, b.longest_k = a.longest_k;
  b.H = a.H, b.K = a.K, b.D = a.D, b.scale = a.scale, b.causal = a.causal;
  b.deterministic = kind.deterministic, b.dtype = CFT_BF16;
  b.do_stride = b.o_stride = b.dq_stride = b.q_stride = wq;
  b.dk_stride = b.dv_stride = b.k_stride = b.v_stride = wk;
  b.dq = made[0][0], b.dk = made[0][1], b.dv = made[0][2];
  CFT_TRY(flash_bwd(q, &b));
  b.dq = made[1][0], b.dk = made[1][1], b.dv = made[1][2];
  CFT_TRY(theirs.backward(&b));
  for (int i = 0; i < 3; i++) CFT_TRY(relative(q, made[1][i], made[0][i], counts[i], false, by));
  return CFT_OK;
}
