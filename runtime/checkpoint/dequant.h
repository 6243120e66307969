// dequant.h - the element types of GGUF files, and how to get f32 out of them.
#ifndef CFT_CHECKPOINT_DEQUANT_H
#define CFT_CHECKPOINT_DEQUANT_H

#include "base.h"

typedef struct cft_ggml_type {
  int id;  // in the file
  const char *name;
  int block;  // elements that are stored together
  int bytes;  // of a block
  // Decode `blocks` of them into blocks * block floats; NULL where cft cannot.
  void (*decode)(float *out, const uint8_t *from, int64_t blocks);
} cft_ggml_type;

// NULL for an id that is in no specification.
const cft_ggml_type *cft_ggml_type_of(uint32_t id);

#endif
