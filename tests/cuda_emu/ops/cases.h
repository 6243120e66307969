// cases.h - what a file of cases starts from. Each has the cases of one op, under CASES, and is
// known to nobody else: ops.cpp runs all that are linked.
#pragma once
#include "../harness.h"

using device = cft_device *;
using pointers = kernel_case::pointers;

inline const char *name(cft_dtype t) { return cft_dtype_name(t); }
constexpr cft_dtype FLOATS[] = {CFT_F32, CFT_BF16};

// Opens the device under test once more, as ops.cpp has found it.
extern cft_status (*open_cuda)(cft_device **, int);

struct cases {
  const char *name;
  void (*run)(bool quick);
};
inline std::vector<cases> &all_cases() {
  static std::vector<cases> all;
  return all;
}

#define CASES(op)                                                                  \
  static void op##_cases(bool quick);                                              \
  static const bool op##_known = (all_cases().push_back({#op, op##_cases}), true); \
  static void op##_cases([[maybe_unused]] bool quick)

inline std::vector<int32_t> ids_of(int64_t n, int64_t rows, uint64_t stream) {
  std::vector<int32_t> ids((size_t)n);
  for (int64_t i = 0; i < n; i++)
    ids[(size_t)i] = (int32_t)((uniform((uint64_t)i, stream) + 1) / 2 * (double)rows);
  return ids;
}
