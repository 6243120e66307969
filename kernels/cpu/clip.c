// clip.c - from the sum of squares of a gradient to the factor that it is scaled by.
#include "cpu.h"

cft_status CPU(clip_scale)(cft_device *d, cft_stream *s, const cft_clip_args *a) {
  (void)d, (void)s;
  double norm = sqrt(a->sum_squares[0]) * a->scale;
  double shrink = a->max_norm / (norm + 1e-6);
  if (a->max_norm <= 0 || shrink > 1) shrink = 1;
  a->out[1] = (float)norm;
  a->out[0] = isfinite(a->out[1]) ? (float)(a->scale * shrink) : NAN;  // adamw sees that, and waits
  return CFT_OK;
}
