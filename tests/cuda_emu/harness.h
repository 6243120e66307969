// harness.h - one kernel call on two devices, and what must be true of it: the CUDA device's answer
// is the CPU's to a tolerance, and the same to the bit in every thread order (on a card: in every
// repeat). Outputs that a kernel is to write begin as memory that nobody wrote, so that the check
// build finds a kernel that reads them or leaves some out.
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

// ---- the devices ---------------------------------------------------------------------------

struct world {
  cft_device *cpu = nullptr, *gpu = nullptr;
  void (*set_order)(unsigned) = nullptr;         // of the emulator; NULL on a card
  uint64_t (*waits)(void) = nullptr;             // of the host for the device, so far
  void (*set_module_bytes)(uint64_t) = nullptr;  // of a kernel's code at its first launch
  unsigned orders = 4;               // ascending, descending, two shuffles; on a card: repeats
  std::vector<std::string> filters;  // run a case whose name contains one of them
  int passed = 0, failed = 0, skipped = 0;
};
extern world the_world;

inline bool wanted(const std::string &name) {
  if (the_world.filters.empty()) return true;
  for (const std::string &f : the_world.filters)
    if (name.find(f) != std::string::npos) return true;
  return false;
}

inline void report(bool ok, const std::string &name, const std::string &why = "") {
  printf("%s  %s%s%s\n", ok ? "ok  " : "FAIL", name.c_str(), why.empty() ? "" : ": ", why.c_str());
  fflush(stdout);
  ok ? the_world.passed++ : the_world.failed++;
}

// ---- values --------------------------------------------------------------------------------

inline float bf16_to_float(uint16_t h) {
  const uint32_t bits = (uint32_t)h << 16;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}
inline uint16_t float_to_bf16(float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  if (v != v) return 0x7fc0;
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline double uniform(uint64_t i, uint64_t stream) {  // -1 .. 1; splitmix64
  uint64_t z = (i + 1) * 0x9e3779b97f4a7c15 + stream * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return (double)(int64_t)(z ^ z >> 31) * 0x1p-63;
}

using doubles = std::vector<double>;
inline doubles values(int64_t n, uint64_t stream, double scale = 1) {
  doubles v((size_t)n);
  for (size_t i = 0; i < v.size(); i++) v[i] = uniform(i, stream) * scale;
  return v;
}

inline std::vector<char> stored(const doubles &v, cft_dtype t) {
  std::vector<char> out(v.size() * cft_dtype_bytes(t));
  for (size_t i = 0; i < v.size(); i++) switch (t) {
      case CFT_F32: ((float *)out.data())[i] = (float)v[i]; break;
      case CFT_F64: ((double *)out.data())[i] = v[i]; break;
      case CFT_BF16: ((uint16_t *)out.data())[i] = float_to_bf16((float)v[i]); break;
      case CFT_F16: ((uint16_t *)out.data())[i] = (uint16_t)v[i]; break;  // bits
      case CFT_I32: ((int32_t *)out.data())[i] = (int32_t)v[i]; break;
      case CFT_I64: ((int64_t *)out.data())[i] = (int64_t)v[i]; break;
      case CFT_U8: ((uint8_t *)out.data())[i] = (uint8_t)v[i]; break;
    }
  return out;
}

inline doubles loaded(const std::vector<char> &b, cft_dtype t) {
  doubles out(b.size() / cft_dtype_bytes(t));
  for (size_t i = 0; i < out.size(); i++) switch (t) {
      case CFT_F32: out[i] = ((const float *)b.data())[i]; break;
      case CFT_F64: out[i] = ((const double *)b.data())[i]; break;
      case CFT_BF16: out[i] = bf16_to_float(((const uint16_t *)b.data())[i]); break;
      case CFT_F16: out[i] = ((const uint16_t *)b.data())[i]; break;  // bits
      case CFT_I32: out[i] = ((const int32_t *)b.data())[i]; break;
      case CFT_I64: out[i] = (double)((const int64_t *)b.data())[i]; break;
      case CFT_U8: out[i] = ((const uint8_t *)b.data())[i]; break;
    }
  return out;
}

// ---- a case --------------------------------------------------------------------------------

// Elementwise: |got - want| <= relative * |want| + absolute. Or, with norm, both as a share of the
// whole: the root mean square of the differences, and the largest of them against the largest
// value.
struct tolerance {
  double relative, absolute;
  bool norm = false;
};
inline tolerance exact() { return {0, 0}; }
// One rounding of the storage type, and a little for sums in another order.
inline tolerance rounding(cft_dtype t, double absolute = 0) {
  return t == CFT_BF16 ? tolerance{0x1p-7, absolute} : tolerance{1e-5, absolute};
}
inline tolerance share(double of_all) { return {of_all, 0, true}; }

class kernel_case {
 public:
  explicit kernel_case(std::string name) : name_(std::move(name)) {}

  // Arrays; what comes back names one. offset: elements after an aligned address.
  int in(const doubles &v, cft_dtype t, int64_t offset = 0) { return add(v, t, offset, false, {}); }
  int ints(const std::vector<int32_t> &v) { return in(doubles(v.begin(), v.end()), CFT_I32); }
  int out(int64_t n, cft_dtype t, tolerance tol, int64_t offset = 0) {
    const int i = add(doubles((size_t)n), t, offset, true, tol);
    arrays_[(size_t)i].fresh = true;
    return i;
  }
  int inout(const doubles &v, cft_dtype t, tolerance tol, int64_t offset = 0) {
    return add(v, t, offset, true, tol);
  }

  using pointers = std::function<void *(int)>;  // negative: NULL
  using call = std::function<cft_status(cft_device *, const pointers &)>;

  // Runs f on the CPU and, in each order, on the GPU (or another one), and reports.
  void check(const call &f, cft_device *gpu = nullptr) {
    if (!wanted(name_)) return;
    std::string why;
    std::vector<std::vector<char>> want, first, again;
    bool ok = run(the_world.cpu, f, &want, &why);
    for (unsigned order = 0; ok && order < the_world.orders; order++) {
      if (the_world.set_order) the_world.set_order(order);
      ok = run(gpu ? gpu : the_world.gpu, f, order ? &again : &first, &why) &&
           (order ? equal(first, again, order, &why) : agree(first, want, &why));
    }
    if (the_world.set_order) the_world.set_order(0);
    report(ok, name_, why);
  }

  // The CPU's answer for an array, after a check or by itself.
  doubles on_cpu(const call &f, int array) {
    std::string why;
    std::vector<std::vector<char>> got;
    if (!run(the_world.cpu, f, &got, &why)) {
      report(false, name_, why);
      return doubles((size_t)arrays_[(size_t)array].count);
    }
    return loaded(got[(size_t)array], arrays_[(size_t)array].dtype);
  }

 private:
  struct array {
    cft_dtype dtype;
    int64_t count, offset;
    bool output, fresh;
    tolerance tol;
    std::vector<char> bytes;
  };

  int add(const doubles &v, cft_dtype t, int64_t offset, bool output, tolerance tol) {
    arrays_.push_back({t, (int64_t)v.size(), offset, output, false, tol, stored(v, t)});
    return (int)arrays_.size() - 1;
  }

  bool run(cft_device *d, const call &f, std::vector<std::vector<char>> *got, std::string *why) {
    std::vector<void *> base(arrays_.size());
    std::vector<size_t> bytes(arrays_.size());
    cft_status st = CFT_OK;
    for (size_t i = 0; i < arrays_.size() && !st; i++) {
      const array &a = arrays_[i];
      const size_t shift = (size_t)a.offset * cft_dtype_bytes(a.dtype);
      bytes[i] = shift + a.bytes.size();
      st = d->alloc(d, &base[i], bytes[i], CFT_MEM_OTHER);
      if (!st && !a.fresh && !a.bytes.empty())
        st = d->upload(d, nullptr, (char *)base[i] + shift, a.bytes.data(), a.bytes.size());
    }
    if (!st)
      st = f(d, [&](int i) -> void * {
        if (i < 0) return nullptr;
        const array &a = arrays_[(size_t)i];
        return (char *)base[(size_t)i] + (size_t)a.offset * cft_dtype_bytes(a.dtype);
      });
    if (!st) st = d->sync(d);
    got->assign(arrays_.size(), {});
    for (size_t i = 0; i < arrays_.size(); i++) {
      const array &a = arrays_[i];
      const size_t shift = (size_t)a.offset * cft_dtype_bytes(a.dtype);
      if (!st && a.output && !a.bytes.empty()) {
        (*got)[i].resize(a.bytes.size());
        st = d->download(d, nullptr, (*got)[i].data(), (char *)base[i] + shift, a.bytes.size());
      }
      if (base[i]) d->free(d, base[i], bytes[i], CFT_MEM_OTHER);
    }
    if (st) *why = std::string(d->name) + ": " + cft_status_name(st) + ": " + cft_last_error();
    return st == CFT_OK;
  }

  bool agree(const std::vector<std::vector<char>> &got, const std::vector<std::vector<char>> &want,
             std::string *why) {
    for (size_t i = 0; i < arrays_.size(); i++)
      if (arrays_[i].output && !agree(arrays_[i], i, got[i], want[i], why)) return false;
    return true;
  }

  static bool agree(const array &a, size_t index, const std::vector<char> &got_bytes,
                    const std::vector<char> &want_bytes, std::string *why) {
    const doubles got = loaded(got_bytes, a.dtype), want = loaded(want_bytes, a.dtype);
    double differences = 0, all = 0, largest = 0, top = 0;
    char text[160];
    for (size_t i = 0; i < got.size(); i++) {
      const bool same = got[i] == want[i] || (got[i] != got[i] && want[i] != want[i]);
      if (same) {
        if (a.tol.norm && !isinf(want[i]) && want[i] == want[i])
          all += want[i] * want[i], top = fmax(top, fabs(want[i]));
        continue;
      }
      const double d = fabs(got[i] - want[i]);
      if (a.tol.norm && d == d && !isinf(d)) {
        differences += d * d;
        if (!isinf(want[i])) all += want[i] * want[i], top = fmax(top, fabs(want[i]));
        largest = fmax(largest, d);
      } else if (!(d <= a.tol.relative * fabs(want[i]) + a.tol.absolute)) {
        snprintf(text, sizeof text, "array %zu, element %zu of %zu: %.9g, want %.9g", index, i,
                 got.size(), got[i], want[i]);
        *why = text;
        return false;
      }
    }
    if (a.tol.norm && (sqrt(differences) > a.tol.relative * sqrt(all) + 1e-12 ||
                       largest > 5 * a.tol.relative * top + 1e-12)) {
      snprintf(text, sizeof text, "array %zu: off by %.2g of the whole, %.2g of the largest", index,
               sqrt(differences / all), largest / top);
      *why = text;
      return false;
    }
    return true;
  }

  bool equal(const std::vector<std::vector<char>> &first,
             const std::vector<std::vector<char>> &again, unsigned order, std::string *why) {
    for (size_t i = 0; i < arrays_.size(); i++)
      if (arrays_[i].output && first[i] != again[i]) {
        *why = "array " + std::to_string(i) + " is another in order " + std::to_string(order);
        return false;
      }
    return true;
  }

  std::string name_;
  std::vector<array> arrays_;
};

template <class... A>
std::string text(const char *format, A... args) {
  char s[256];
  snprintf(s, sizeof s, format, args...);
  return s;
}
