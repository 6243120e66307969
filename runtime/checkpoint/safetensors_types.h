// safetensors_types.h - what reader and writer of Hugging Face's files share: their limits and
// types.
//
// A file is: u64 length of the header, the header (JSON, padded with spaces), the data.
#ifndef CFT_CHECKPOINT_SAFETENSORS_TYPES_H
#define CFT_CHECKPOINT_SAFETENSORS_TYPES_H

#include "cft_checkpoint.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors lie in files as in memory");

enum {
  CFT_SAFETENSORS_LENGTH = 8,                // bytes, of the header's length
  CFT_SAFETENSORS_HEADER_LIMIT = 100000000,  // as in the reference reader
};

typedef struct cft_safetensors_type {
  const char *name;
  int bits;
  int dtype;  // cft_dtype, or -1
} cft_safetensors_type;

// NULL where the format has none. Of two, a writer puts the one that is later in memory first.
const cft_safetensors_type *cft_safetensors_type_named(const char *name);
const cft_safetensors_type *cft_safetensors_type_of(cft_dtype dtype);

#endif
