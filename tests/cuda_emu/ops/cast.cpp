// cast.cpp - casts and strided copies.
#include <cmath>

#include "cases.h"

static void cast(cft_dtype from, cft_dtype to, int64_t n, int64_t offset = 0) {
  kernel_case c(
      text("cast %s->%s %ld%s", name(from), name(to), (long)n, offset ? " unaligned" : ""));
  doubles x = values(n, 1, 1000);
  const double special[] = {0,     -0.0, 1e30, -1e30, 3e-8, 6e-5,   65519,
                            65520, 0.5,  1.5,  2.5,   -2.5, 1.0 / 3};
  for (size_t i = 0; i < sizeof special / sizeof *special && i < x.size(); i++) x[i] = special[i];
  if (from == CFT_F16)
    for (size_t i = 0; i < x.size(); i++)
      x[i] = (double)(i * 2657 % 0x7c00 + (i % 2 << 15));  // bits
  if (from == CFT_F64)  // just beside a tie of bf16: two roundings would be one too many
    for (size_t i = 20; i < x.size(); i += 7) x[i] = (1 + 0x1p-8) * (1 + 1e-13);
  const bool from_integer = from == CFT_I32 || from == CFT_I64;
  if (from_integer)
    for (double &v : x)
      v = fmin(fmax(v, from == CFT_I32 ? -2147483648.0 : -9e18),
               from == CFT_I32 ? 2147483647.0 : 9e18);
  const int in = c.in(x, from, offset), y = c.out(n, to, exact());
  c.check([&](device dev, const pointers &p) {
    const cft_cast_args a = {p(y), p(in), n, to, from};
    return dev->kernels->cast(dev, nullptr, &a);
  });
}

static void strided(std::vector<int64_t> dims, std::vector<int64_t> to, std::vector<int64_t> from,
                    cft_dtype t) {
  std::string shape;
  for (int64_t n : dims) shape += (shape.empty() ? "" : " x ") + std::to_string(n);
  int64_t y_size = 1, x_size = 1;
  cft_strided_args a = {};
  a.ndim = (int)dims.size();
  a.dtype = t;
  for (size_t i = 0; i < dims.size(); i++) {
    a.dims[i] = dims[i];
    a.y_strides[i] = to[i];
    a.x_strides[i] = from[i];
    y_size += (dims[i] - 1) * to[i];
    x_size += (dims[i] - 1) * from[i];
  }
  kernel_case c("strided_copy " + shape + " " + name(t));
  const int x = c.in(values(x_size, 1, 100), t), y = c.inout(values(y_size, 2, 100), t, exact());
  c.check([&](device dev, const pointers &p) {
    a.y = p(y);
    a.x = p(x);
    return dev->kernels->strided_copy(dev, nullptr, &a);
  });
}

CASES(cast) {
  const cft_dtype floats[] = {CFT_F32, CFT_BF16, CFT_F64, CFT_F16};
  const cft_dtype integers[] = {CFT_F32, CFT_I32, CFT_I64};
  for (cft_dtype from : floats)
    for (cft_dtype to : floats) cast(from, to, 203);
  for (cft_dtype from : integers)
    for (cft_dtype to : integers)
      if (from != to) cast(from, to, 203);
  cast(CFT_F32, CFT_BF16, 1000, 1);
  cast(CFT_F32, CFT_BF16, 0);
  for (cft_dtype t : {CFT_BF16, CFT_F32}) {
    strided({7, 5}, {5, 1}, {1, 7}, t);                 // a transpose
    strided({3, 4, 16}, {64, 16, 1}, {128, 32, 1}, t);  // rows of a wider buffer
    strided({2, 3, 2, 5}, {30, 10, 5, 1}, {6, 2, 1, 12}, t);
    strided({2, 1, 3, 1, 2, 2}, {12, 12, 4, 4, 2, 1}, {1, 7, 2, 9, 6, 12}, t);
    strided({9}, {3}, {2}, t);
    strided({3, 5}, {8, 1}, {16, 1}, t);  // odd rows that are evenly apart
  }
  strided({5, 6}, {6, 1}, {1, 5}, CFT_U8);
  strided({5, 6}, {6, 1}, {1, 5}, CFT_I64);
}
