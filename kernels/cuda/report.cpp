// report.cpp - what of NVIDIA's is on this machine, for `cftrun doctor`: driver, GPUs, libraries.
#include <stdio.h>

#include <string>

#include "host.h"
#include "library.h"

#ifndef CFT_CUDA_ARCHS
#define CFT_CUDA_ARCHS "no card: an emulator"
#endif

// A library's version in words; "" where it does not say.
typedef std::string version_of(void *library);

static std::string dotted(int major, int minor, int patch) {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

static std::string cublas_version(void *library) {
  size_t (*get)() = nullptr;
  if (cuda_function(&get, library, "cublasLtGetVersion") != CFT_OK) return "";
  const int v = (int)get();  // 130002 since 13, 120803 before
  return dotted(v / 10000, v / 100 % 100, v % 100);
}

static std::string cudnn_version(void *library) {
  size_t (*get)() = nullptr;
  if (cuda_function(&get, library, "cudnnGetVersion") != CFT_OK) return "";
  const int v = (int)get();
  return dotted(v / 10000, v / 100 % 100, v % 100);
}

static std::string nccl_version(void *library) {
  int (*get)(int *) = nullptr, v = 0;
  if (cuda_function(&get, library, "ncclGetVersion") != CFT_OK || get(&v) != 0) return "";
  return dotted(v / 10000, v / 100 % 100, v % 100) +
         (v < NCCL_OLDEST ? "; 2.14 or newer is wanted" : "");
}

static bool nccl_is_old(void *library) {
  int (*get)(int *) = nullptr, v = 0;
  return cuda_function(&get, library, "ncclGetVersion") != CFT_OK || get(&v) != 0 ||
         v < NCCL_OLDEST;
}

static std::string nvrtc_version(void *library) {
  int (*get)(int *, int *) = nullptr, major = 0, minor = 0;
  if (cuda_function(&get, library, "nvrtcVersion") != CFT_OK || get(&major, &minor) != 0) return "";
  return std::to_string(major) + "." + std::to_string(minor);
}

static void report_library(std::string *rows, const char *label, const char *name,
                           std::initializer_list<int> majors, version_of *version,
                           const char *without, bool (*is_old)(void *) = nullptr) {
  void *library = nullptr;
  *rows += label;
  if (cuda_library(&library, name, majors) != CFT_OK) {
    *rows += "\tmissing\t" + std::string(without) + "\n";
    return;
  }
  const std::string v = version(library), path = cuda_library_path(library);
  *rows += is_old && is_old(library) ? "\told\t" : "\tok\t";
  *rows += (v.empty() ? "of no version" : v) + (path.empty() ? "" : ", " + path) + "\n";
}

// Rows of three words between tabs: what it is; ok, missing or old; more of it. As many bytes as
// fit; their number.
extern "C" __attribute__((visibility("default"))) size_t cft_cuda_report(char *text, size_t bytes) {
  std::string rows = "module\tok\tbuilt with CUDA " + std::to_string(CUDART_VERSION / 1000) + "." +
                     std::to_string(CUDART_VERSION % 1000 / 10) +
                     " for " CFT_CUDA_ARCHS "; wants driver " + std::to_string(CUDA_OLDEST_DRIVER) +
                     " or newer\n";
  cuda_driver_report(&rows);
  report_library(
      &rows, "cuBLASLt", "libcublasLt", CUDA_MAJORS, cublas_version,
      "matrix products by our own kernels, slowly, without it: pip install nvidia-cublas (CUDA 13) or nvidia-cublas-cu12");
  report_library(
      &rows, "cuDNN", "libcudnn", {9}, cudnn_version,
      "attention by our own kernels, slower: pip install nvidia-cudnn-cu13 or nvidia-cudnn-cu12");
  report_library(&rows, "NVRTC", "libnvrtc", CUDA_MAJORS, nvrtc_version,
                 "cuDNN compiles with it: pip install nvidia-cuda-nvrtc or nvidia-cuda-nvrtc-cu12");
  report_library(&rows, "NCCL", "libnccl", {2}, nccl_version,
                 "one GPU alone without it: pip install nvidia-nccl-cu13 or nvidia-nccl-cu12, or "
                 "apt-get install libnccl2",
                 nccl_is_old);
  const size_t n = rows.size() < bytes ? rows.size() : bytes;
  rows.copy(text, n);
  return n;
}
