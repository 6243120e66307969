// embedding.c - rows of a table by id, and their gradient.
#include "cpu.h"

cft_status CPU(embedding_fwd)(cft_device *d, cft_stream *s, const cft_embedding_args *a) {
  (void)d, (void)s;
  size_t bytes = (size_t)a->d * sizeof(real);
  PARALLEL(a->n * a->d)
  for (int64_t i = 0; i < a->n; i++)
    memcpy((real *)a->y + i * a->d, (const real *)a->table + a->ids[i] * a->d, bytes);
  return CFT_OK;
}

// Ids repeat, so threads cannot share the rows of dy; each owns some columns of the table instead
// and takes every row in order.
enum { COLUMNS = 64 };

cft_status CPU(embedding_bwd)(cft_device *d, cft_stream *s, const cft_embedding_bwd_args *a) {
  (void)d, (void)s;
  if (a->dtable_dtype != CFT_REAL && !(CFT_REAL == CFT_BF16 && a->dtable_dtype == CFT_F32))
    return cft_fail(CFT_E_UNSUPPORTED, "embedding_bwd: no cpu kernel for dy in %s and dtable in %s",
                    cft_dtype_name(a->dtype), cft_dtype_name(a->dtable_dtype));
  PARALLEL(a->n * a->d)
  for (int64_t from = 0; from < a->d; from += COLUMNS) {
    int64_t to = cpu_min(from + COLUMNS, a->d);
    for (int64_t i = 0; i < a->n; i++) {
      const real *dy = (const real *)a->dy + i * a->d;
      if (a->dtable_dtype == CFT_REAL) {
        real *row = (real *)a->dtable + a->ids[i] * a->d;
        SIMD for (int64_t j = from; j < to; j++) row[j] = STORE(LOAD(row[j]) + LOAD(dy[j]));
      } else {
        float *row = (float *)a->dtable + a->ids[i] * a->d;
        SIMD for (int64_t j = from; j < to; j++) row[j] += (float)LOAD(dy[j]);
      }
    }
  }
  return CFT_OK;
}
