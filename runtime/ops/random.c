// random.c - checks and dispatch of random contents; see cft_ops.h.
#include "ops_impl.h"

cft_status cft_tensor_random(cft_tensor *t, cft_distribution f, uint64_t seed, uint64_t counter,
                             double a, double b) {
  CFT_TRY(cft_same_float("random", CFT_ALL(t)));
  CFT_TRY(cft_want_contiguous("random", "t", t));
  cft_tensor_touch(t);
  return CFT_KERNEL(t, random, (&(cft_random_args){
    .y = t->data, .n = cft_tensor_count(t), .seed = seed, .counter = counter, .a = a, .b = b,
    .f = f, .dtype = t->dtype }));
}
