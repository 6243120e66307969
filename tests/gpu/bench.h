// bench.h - what the files of cuda_bench share: the device, memory with contents, rows of the
// report.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <string>
#include <vector>

extern "C" {
#include "device.h"
}

extern cft_device *d;
extern bool small;  // sizes for a dry run

// What ends a row, and no more.
struct failed_row {};

inline void must(cft_status st) {
  if (st == CFT_OK) return;
  fprintf(stderr, "cuda_bench: %s: %s\n", cft_status_name(st), cft_last_error());
  throw failed_row();
}

// Device memory with contents: normal numbers, since zeros draw less power and run faster.
class array {
 public:
  array(int64_t n, cft_dtype t, double scale = 1) : bytes_((size_t)n * cft_dtype_bytes(t)) {
    must(d->alloc(d, &p_, bytes_, CFT_MEM_OTHER));
    static uint64_t counter;
    if (t == CFT_F32 || t == CFT_BF16) {
      const cft_random_args a = {p_, n, 1, counter++, 0, scale, CFT_NORMAL, t};
      must(d->kernels->random(d, nullptr, &a));
    } else {
      must(d->zero(d, nullptr, p_, bytes_));
    }
  }
  explicit array(const std::vector<int32_t> &v) : bytes_(v.size() * 4) {
    must(d->alloc(d, &p_, bytes_, CFT_MEM_OTHER));
    must(d->upload(d, nullptr, p_, v.data(), bytes_));
  }
  ~array() { d->free(d, p_, bytes_, CFT_MEM_OTHER); }
  array(const array &) = delete;
  void *at(int64_t byte = 0) const { return (char *)p_ + byte; }
  template <class T>
  T *as() const {
    return (T *)p_;
  }

 private:
  void *p_ = nullptr;
  size_t bytes_;
};

// Run what makes rows; one that fails is counted, and whoever comes next is not the worse for it.
void try_rows(const std::function<void()> &f);

// Seconds a call: warmed up, then many in a row between two waits, the best of three rows; infinite
// where it fails.
double seconds_of(const std::function<cft_status()> &f);

// A row of the report. Its floor is `bytes` at the copy rate, or the FLOPs of attention at the best
// matmul's.
void row(const char *section, const std::string &name, double seconds, double bytes, double flops);

// Decoding, at the shapes of Qwen2.5-7B. (bench_generation.cpp)
void bench_generation();
