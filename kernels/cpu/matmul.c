// matmul.c - what stands before the products of gemm.c: checks, sums beside, empty sums.
#include <stdbool.h>

#include "cpu.h"

// c = [c] + [bias]: all of a product over no k.
static void no_k(const cft_matmul_args *a) {
  size_t size = cft_dtype_bytes(a->c_dtype);
  for (int64_t i = 0; i < a->m; i++) {
    char *c = (char *)a->c + (size_t)(i * a->c_stride) * size;
    if (!a->beta) memset(c, 0, (size_t)a->n * size);
    for (int64_t j = 0; a->bias && j < a->n; j++) {
      if (a->dtype == CFT_F64)
        ((double *)c)[j] += ((const double *)a->bias)[j];
      else if (a->dtype == CFT_F32)
        ((float *)c)[j] += ((const float *)a->bias)[j];
      else if (a->c_dtype == CFT_F32)
        ((float *)c)[j] += bf16_f32(((const bf16 *)a->bias)[j]);
      else
        ((bf16 *)c)[j] = f32_bf16(bf16_f32(((bf16 *)c)[j]) + bf16_f32(((const bf16 *)a->bias)[j]));
    }
  }
}

cft_status cft_cpu_matmul(cft_device *d, cft_stream *s, const cft_matmul_args *a) {
  const cft_kernels *own = cft_cpu_kernels_of(a->dtype);
  bool mixed = a->dtype == CFT_BF16 && a->c_dtype == CFT_F32;
  if (own == NULL || (a->c_dtype != a->dtype && !mixed))
    return cft_fail(CFT_E_UNSUPPORTED, "no cpu kernel for matmul of %s into %s",
                    cft_dtype_name(a->dtype), cft_dtype_name(a->c_dtype));
  if (a->a_sum && (!a->trans_a || a->a_stride != a->m || a->bias))
    return cft_fail(CFT_E_ARG, "matmul: a_sum wants trans_a, rows of a without gaps, no bias");
  if (a->a_sum)
    CFT_TRY(own->reduce(d, s, &(cft_reduce_args){
      .y = a->a_sum, .x = a->a, .outer = 1, .mid = a->k, .inner = a->m, .alpha = 1, .f = CFT_SUM,
      .y_beta = a->a_sum_beta, .dtype = a->dtype, .y_dtype = a->c_dtype }));
  if (a->m == 0 || a->n == 0) return CFT_OK;
  if (a->k == 0) return no_k(a), CFT_OK;
  return own->matmul(d, s, a);
}
