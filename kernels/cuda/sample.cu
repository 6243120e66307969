// sample.cu - one token of each row of logits: a block a row.
//
// A row is read once for log sum exp (as cross_entropy reads it) and once for the largest; greedy
// is then done. A draw reads it twice more, and up to four times for each of top_k and top_p: a
// bound is the largest z' whose tokens add up to enough, found eight bits at a time in a table of
// sums, of which each lane of half a warp has its own copy, since most logits fall into few
// buckets. Rows are of some 600 kB and come from L2 after the first time. Weights are added up as
// whole numbers: any order of the threads gives the same sum, and the CPU the same token. The n
// largest are looked for one after the other. Any n, V, strides.
#include "philox.cuh"
#include "running_sum.cuh"

constexpr int BUCKETS = 256, COPIES = 16;
using units = unsigned long long;  // of a weight: multiples of 2^-44

// ---- a row ---------------------------------------------------------------------------------

// What is chosen from: z[j] where it was written, because of a penalty or a bias, else x[j]; times
// `scale`.
template <class T>
struct row_of {
  const T *x;
  const float *z;  // or NULL
  int64_t V;
  float scale;  // 1 / temperature; 1 for the largest

  __device__ float raw(int64_t j) const { return z ? z[j] : to_float(x[j]); }
  // As the CPU rounds it; no zero is negative.
  __device__ float at(int64_t j) const { return __fadd_rn(__fmul_rn(raw(j), scale), 0.0f); }
};

// exp(x), x <= 0, to the bit as exp_f32 of kernels/cpu/vmath.h where a processor fuses multiply and
// add.
static __device__ __forceinline__ float same_exp(float x) {
  const float magic = 12582912.0f;
  x = x < -87.5f ? -87.5f : x;
  const float shifted = __fmaf_rn(x, 1.44269504f, magic), n = __fadd_rn(shifted, -magic);
  const float r = __fmaf_rn(n, 2.12194440e-4f, __fmaf_rn(-n, 0.693359375f, x));
  float p = 1.9875691500e-4f;
  p = __fmaf_rn(p, r, 1.3981999507e-3f);
  p = __fmaf_rn(p, r, 8.3334519073e-3f);
  p = __fmaf_rn(p, r, 4.1665795894e-2f);
  p = __fmaf_rn(p, r, 1.6666665459e-1f);
  p = __fmaf_rn(p, r, 5.0000001201e-1f);
  p = __fadd_rn(__fmaf_rn(p, __fmul_rn(r, r), r), 1.0f);
  return __fmul_rn(__fadd_rn(p, p),
                   __uint_as_float((__float_as_uint(shifted) << 23) + (126u << 23)));
}

static __device__ __forceinline__ units units_of(float weight) {
  return __float2ull_rn(weight * 0x1p44f);
}

// Bits that are in the order of the numbers.
static __device__ __forceinline__ uint32_t ordered(float x) {
  const uint32_t u = __float_as_uint(x);
  return u ^ (u >> 31 ? 0xffffffffu : 0x80000000u);
}
static __device__ __forceinline__ float from_ordered(uint32_t u) {
  return __uint_as_float(u ^ (u >> 31 ? 0x80000000u : 0xffffffffu));
}

// ---- over a block --------------------------------------------------------------------------

static __device__ __forceinline__ units warp_most(units v) {
  for (int x = 16; x > 0; x /= 2) v = max(v, __shfl_xor_sync(ALL_LANES, v, x));
  return v;
}

// The largest of all threads' v, in every thread.
static __device__ __forceinline__ units block_most(units v) {
  __shared__ units part[32];
  v = warp_most(v);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  const unsigned lane = threadIdx.x % 32;
  v = warp_most(lane < blockDim.x / 32 ? part[lane] : 0);
  __syncthreads();  // part may be written again
  return v;
}

// Of numbers: the largest first, of equals the lowest id; 0 is nothing. A NaN is not looked at.
static __device__ __forceinline__ units rank_of(float x, int64_t id) {
  return x != x ? 0 : (units)ordered(x + 0.0f) << 32 | (0xffffffffu - (uint32_t)id);
}
static __device__ __forceinline__ int32_t id_of(units rank) {
  return (int32_t)(0xffffffffu - (uint32_t)rank);
}
static __device__ __forceinline__ float number_of(units rank) {
  return from_ordered((uint32_t)(rank >> 32));
}

// ---- the filters ---------------------------------------------------------------------------

struct found_bound {
  units above;      // what lies above the bucket
  uint32_t prefix;  // bits of the bound so far
  bool none;        // all together are not enough
};

// The bucket in which the sum from the top reaches `target`. For the first warp; each lane has
// eight of them.
static __device__ __forceinline__ void find_bucket(found_bound *b, const units *sums,
                                                   double target) {
  const int lane = threadIdx.x, each = BUCKETS / 32, first = BUCKETS - 1 - lane * each;
  units mine[each], sum = 0;
#pragma unroll
  for (int i = 0; i < each; i++) {
    mine[i] = 0;
    for (int c = 0; c < COPIES; c++) mine[i] += sums[(first - i) * COPIES + c];
    sum += mine[i];
  }
  units through = sum;  // of this lane and those before it
  for (int x = 1; x < 32; x *= 2) {
    const units other = __shfl_up_sync(ALL_LANES, through, (unsigned)x);
    if (lane >= x) through += other;
  }
  const unsigned enough = __ballot_sync(ALL_LANES, (double)(b->above + through) >= target);
  __syncwarp();  // all have read b
  if (enough == 0 && lane == 0) b->none = true;
  if (enough == 0 || lane != __ffs((int)enough) - 1) return;
  units above = b->above + through - sum;
  int i = 0;
#pragma unroll
  for (int k = 0; k < each - 1; k++)
    if (i == k && (double)(above + mine[k]) < target) above += mine[k], i++;
  b->above = above;
  b->prefix = b->prefix << 8 | (uint32_t)(first - i);
}

// The largest t such that the weights (1 each where not `weighted`) of the tokens with z >= t add
// up to `target`; `least`, below which none is looked at, where they never do.
template <class T>
static __device__ float bound_of(const row_of<T> &row, float top, bool weighted, float least,
                                 double target) {
  units *sums = dynamic_shared<units>();
  __shared__ found_bound b;
  if (threadIdx.x == 0) b = {0, 0, false};
  const uint32_t low = ordered(least);
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = (int)threadIdx.x; i < BUCKETS * COPIES; i += (int)blockDim.x) sums[i] = 0;
    __syncthreads();  // all are 0, and b is there
    const uint32_t prefix = b.prefix;
    for (int64_t j = threadIdx.x; j < row.V; j += blockDim.x) {
      const float z = row.at(j);
      const uint32_t u = ordered(z);
      if (u < low || (shift < 24 && u >> (shift + 8) != prefix)) continue;
      const units w = weighted ? units_of(same_exp(z - top)) : 1;
      if (w > 0) atomicAdd(&sums[(u >> shift & 255) * COPIES + threadIdx.x % COPIES], w);
    }
    __syncthreads();  // sums are complete
    if (threadIdx.x < 32) find_bucket(&b, sums, target);
    __syncthreads();  // b is complete, and sums were read
    if (b.none) break;
  }
  const float bound = b.none ? least : from_ordered(b.prefix);
  __syncthreads();  // b may be written again
  return bound;
}

// ---- the draw ------------------------------------------------------------------------------

// What the filters keep.
struct kept_tokens {
  float top, least, min_p;
  template <class T>
  __device__ units weight(const row_of<T> &row, int64_t j) const {
    const float z = row.at(j);
    if (!(z >= least)) return 0;
    const float w = same_exp(z - top);
    return w >= min_p ? units_of(w) : 0;
  }
};

// Each warp has a stretch of the row, of whole groups of 32.
static __device__ __forceinline__ int64_t stretch_of(int64_t V) {
  const int64_t warps = blockDim.x / 32;
  return (V + 32 * warps - 1) / (32 * warps) * 32;
}

// The sum of what is kept, and of each warp's stretch in part.
template <class T>
static __device__ units sum_kept(const row_of<T> &row, const kept_tokens &kept, units *part) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t from = warp * stretch_of(row.V), to = min(row.V, from + stretch_of(row.V));
  units sum = 0;
  for (int64_t j = from + lane; j < to; j += 32) sum += kept.weight(row, j);
  sum = warp_sum(sum);
  __syncthreads();  // part was read
  if (lane == 0) part[warp] = sum;
  __syncthreads();  // part is complete
  units all = 0;
  for (unsigned w = 0; w < blockDim.x / 32; w++) all += part[w];
  return all;
}

// The first token at which the running sum exceeds `goal`; the last that has a weight where
// rounding keeps it from that. For the warp in whose stretch that is.
template <class T>
static __device__ int32_t first_beyond(const row_of<T> &row, const kept_tokens &kept, units before,
                                       double goal) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t from = warp * stretch_of(row.V), to = min(row.V, from + stretch_of(row.V));
  int32_t last = 0;
  for (int64_t j0 = from; j0 < to; j0 += 32) {
    const units w = j0 + lane < to ? kept.weight(row, j0 + lane) : 0;
    units through = w;
    for (int x = 1; x < 32; x *= 2) {
      const units other = __shfl_up_sync(ALL_LANES, through, (unsigned)x);
      if (lane >= x) through += other;
    }
    const unsigned beyond = __ballot_sync(ALL_LANES, (double)(before + through) > goal);
    if (beyond) return (int32_t)(j0 + __ffs((int)beyond) - 1);
    const unsigned some = __ballot_sync(ALL_LANES, w > 0);
    if (some) last = (int32_t)(j0 + 31 - __clz((int)some));
    before += __shfl_sync(ALL_LANES, through, 31);
  }
  return last;
}

static __device__ __forceinline__ double uniform(const int64_t *key) {
  const random_words w = philox((uint64_t)key[0], (uint64_t)key[2], (uint64_t)key[1]);
  return ((double)w.v[0] * 0x1p21 + (double)(w.v[1] >> 11)) * 0x1p-53;
}

template <class T>
static __device__ void draw(int32_t *token, const row_of<T> &row, const float *number,
                            const int64_t *key, float top) {
  __shared__ units part[32];
  kept_tokens kept = {top, -INFINITY, 0};
  if (key[3] > 0 && key[3] < row.V)
    kept.least = bound_of(row, top, false, kept.least, (double)key[3]);
  if (number[1] < 1) {
    const double all = (double)sum_kept(row, kept, part);
    kept.least = bound_of(row, top, true, kept.least, (double)number[1] * all);
  }
  kept.min_p = number[2];
  const double goal = uniform(key) * (double)sum_kept(row, kept, part);
  // The warp whose stretch takes the sum beyond the goal; where none does, the last that has a
  // weight.
  int chosen = -1, last = 0;
  units before = 0, sum = 0;
  for (int w = 0; w < (int)blockDim.x / 32 && chosen < 0; w++) {
    if (part[w] > 0) last = w, before = sum;
    sum += part[w];
    if ((double)sum > goal) chosen = w;
  }
  if (chosen < 0) chosen = last;
  if ((int)threadIdx.x / 32 != chosen) return;  // whole warps; no barrier follows
  const int32_t id = first_beyond(row, kept, before, goal);
  if (threadIdx.x % 32 == 0) *token = id;
}

// ---- the kernel ----------------------------------------------------------------------------

struct row_lists {
  const int32_t *cu_seen, *seen, *cu_bias, *bias_id;
  const float *bias;
};

// z = x, penalty and bias in it.
template <class T>
static __device__ void change_row(float *z, const T *x, int64_t V, const row_lists &l, int64_t i,
                                  float penalty) {
  for (int64_t j = threadIdx.x; j < V; j += blockDim.x) z[j] = to_float(x[j]);
  __syncthreads();  // z is there
  for (int32_t s = l.cu_seen[i] + (int32_t)threadIdx.x; s < l.cu_seen[i + 1];
       s += (int)blockDim.x) {
    const float v = z[l.seen[s]];
    z[l.seen[s]] = v > 0 ? __fdiv_rn(v, penalty) : __fmul_rn(v, penalty);
  }
  __syncthreads();  // an id may be in both lists
  for (int32_t b = l.cu_bias[i] + (int32_t)threadIdx.x; b < l.cu_bias[i + 1]; b += (int)blockDim.x)
    z[l.bias_id[b]] += l.bias[b];
  __syncthreads();  // z is complete
}

template <class T, int N>
static __global__ void __launch_bounds__(1024)
    sample_kernel(int32_t *token, float *logprob, int32_t *top_id, float *top_logprob,
                  const T *logits, const float *numbers, const int64_t *keys, row_lists lists,
                  float *changed, int64_t V, int64_t top_n, int64_t stride) {
  __shared__ int32_t drawn;
  const int64_t i = blockIdx.x;
  const T *x = logits + i * stride;
  const float *number = numbers + 4 * i;
  const float lse =
      sum_of_row<N>((V + N - 1) / N, [&](int64_t p) { return load_floats<N>(x + p * N); }).lse;

  units before = ~(units)0;
  for (int64_t t = 0; t < top_n; t++) {  // the largest behind the one before
    units most = 0;
    for (int64_t j = threadIdx.x; j < V; j += blockDim.x) {
      const units rank = rank_of(to_float(x[j]), j);
      if (rank < before) most = max(most, rank);
    }
    before = block_most(most);
    if (threadIdx.x == 0) {
      top_id[i * top_n + t] = before ? id_of(before) : -1;
      top_logprob[i * top_n + t] = before ? number_of(before) - lse : -INFINITY;
    }
  }

  row_of<T> row = {x, nullptr, V, 1};
  if (lists.cu_seen[i] < lists.cu_seen[i + 1] || lists.cu_bias[i] < lists.cu_bias[i + 1]) {
    change_row(changed + i * V, x, V, lists, i, number[3]);
    row.z = changed + i * V;
  }
  units most = 0;
  for (int64_t j = threadIdx.x; j < V; j += blockDim.x) most = max(most, rank_of(row.raw(j), j));
  most = block_most(most);
  const bool finite =
      isfinite(lse) && most != 0 && isfinite(number_of(most));  // of a block, as one
  if (threadIdx.x == 0) drawn = finite ? id_of(most) : -1;
  __syncthreads();  // before a draw overwrites it
  if (finite && number[0] != 0) {
    row.scale = __fdiv_rn(1, number[0]);
    draw(&drawn, row, number, keys + 4 * i, row.at(id_of(most)));
  }
  __syncthreads();  // a draw's own warp has written it
  if (threadIdx.x > 0) return;
  token[i] = drawn;
  logprob[i] = drawn < 0 ? NAN : to_float(x[drawn]) - lse;
}

template <class T>
static cft_status sample(const queue &q, const cft_sample_args *a) {
  constexpr int N = WIDTH<T>;
  const bool wide = a->V % N == 0 && a->logits_stride % N == 0 && aligned16(a->logits);
  const unsigned threads = threads_of_row(wide ? a->V / N : a->V);
  const row_lists lists = {a->cu_seen, a->seen, a->cu_bias, a->bias_id, a->bias};
  scratch changed;
  if (a->listed > 0) CFT_TRY(changed.take(q, (size_t)(a->n * a->V) * sizeof(float)));
  auto *kernel = wide ? sample_kernel<T, N> : sample_kernel<T, 1>;
  return run(q, kernel, (unsigned)a->n, threads, BUCKETS * COPIES * sizeof(units), a->token,
             (float *)a->logprob, a->top, (float *)a->top_logprob, (const T *)a->logits, a->numbers,
             a->keys, lists, changed.as<float>(), a->V, a->top_n, a->logits_stride);
}

FLOAT_OP(sample, cft_sample_args, a->n == 0, sample)
