// cft_optim.h - AdamW over flat groups, the global gradient norm and its clip.
#ifndef CFT_OPTIM_H
#define CFT_OPTIM_H

#include "cft_tensor.h"

typedef struct cft_adamw_options {
  double lr, beta1, beta2, eps, decay;
  int64_t step;   // of this optimizer step, from 1: for the bias corrections
  uint64_t seed;  // for stochastic rounding, where there is no master
} cft_adamw_options;

// One AdamW step of a flat group, in place.
//   p (n)       f32, bf16, or on the CPU f64
//   master (n)  f32 or NULL. Where given, it holds the weights, and p is its rounded copy. Where NULL,
//               p is updated itself, and if it is bf16, rounded up or down at random by distance.
//   m, v (n)    moments: f32; f64 with f64; or bf16, rounded at random
//   g (n)       gradient: p's dtype or f32; not changed
//   scale       NULL, or f32 (1 to 3) on the device: g is multiplied by its first element (the clip); where
//               that is NaN nothing is updated, so a step need not wait for the norm to be read. A third
//               element becomes 1 where a weight or a moment that comes out is no finite number of its
//               dtype, and stays as it is where all are: one pass does both
// Source: Loshchilov & Hutter 2019 (arXiv 1711.05101), in PyTorch's order of operations.
CFT_API cft_status cft_adamw_step(cft_tensor *p, cft_tensor *master, cft_tensor *m, cft_tensor *v,
                                  cft_tensor *g, cft_tensor *scale, const cft_adamw_options *o);

// sum[0] += alpha * sum(x^2). sum is f64 (1), x contiguous float; in f64, equal for any thread count.
CFT_API cft_status cft_sum_squares(cft_tensor *sum, cft_tensor *x, double alpha);

// From the sum of squares of a gradient that is still to be multiplied by `scale`:
//   norm = sqrt(sum) * scale;  out[0] = scale * min(1, max_norm / (norm + 1e-6));  out[1] = norm
// out is f32 (2, or 3: the third stays as it is), sum f64 (1). max_norm <= 0: no clip. As torch.nn.utils.clip_grad_norm_, but where the
// norm is NaN or infinite out[0] is NaN: cft_adamw_step leaves weights and moments alone.
CFT_API cft_status cft_clip_scale(cft_tensor *out, cft_tensor *sum, double scale, double max_norm);

#endif
