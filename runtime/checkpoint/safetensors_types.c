// safetensors_types.c - the types of the format.
#include "checkpoint/safetensors_types.h"

#include <string.h>

// Every type of the format, in its order: a writer puts later ones first.
static const cft_safetensors_type types[] = {
    {"BOOL", 8, -1},      {"F4", 4, -1},          {"F6_E2M3", 6, -1},     {"F6_E3M2", 6, -1},
    {"U8", 8, CFT_U8},    {"I8", 8, -1},          {"F8_E5M2", 8, -1},     {"F8_E4M3", 8, -1},
    {"F8_E8M0", 8, -1},   {"F8_E4M3FNUZ", 8, -1}, {"F8_E5M2FNUZ", 8, -1}, {"I16", 16, -1},
    {"U16", 16, -1},      {"F16", 16, CFT_F16},   {"BF16", 16, CFT_BF16}, {"I32", 32, CFT_I32},
    {"U32", 32, -1},      {"F32", 32, CFT_F32},   {"C64", 64, -1},        {"F64", 64, CFT_F64},
    {"I64", 64, CFT_I64}, {"U64", 64, -1},
};
enum { TYPES = sizeof types / sizeof *types };

const cft_safetensors_type *cft_safetensors_type_named(const char *name) {
  for (int i = 0; i < TYPES; ++i)
    if (strcmp(types[i].name, name) == 0) return &types[i];
  return NULL;
}

const cft_safetensors_type *cft_safetensors_type_of(cft_dtype dtype) {
  for (int i = 0; i < TYPES; ++i)
    if (types[i].dtype == (int)dtype) return &types[i];
  return NULL;
}
