// library.cpp - in place of kernels/cuda/library.cpp: the libraries are our stand-ins, and the GPUs
// the emulator's. CUDA_EMU_WITHOUT=cudnn,cublasLt leaves libraries out.
#include "library.h"

#include <stdlib.h>
#include <string.h>

#include "standins.h"

cft_status cuda_driver_check(int index) {
  int n = 0;
  cudaGetDeviceCount(&n);
  if (index < 0 || index >= n)
    return cft_fail(CFT_E_DEVICE, "cuda:%d: no such GPU; the emulator has %d, counted from 0",
                    index, n);
  return CFT_OK;
}

void cuda_driver_report(std::string *rows) {
  int n = 0;
  cudaGetDeviceCount(&n);
  *rows += "driver\tok\tnone: the emulator\n";
  for (int i = 0; i < n; i++)
    *rows += "cuda:" + std::to_string(i) + "\tok\tan emulated GPU, sm_90\n";
}

struct standin_library {
  const char *name;
  const standin_function *functions;
};

static const standin_library libraries[] = {
    {"cublasLt", standin_cublaslt},
    {"cudnn", standin_cudnn},
    {"nccl", standin_nccl},
    {"nvrtc", standin_nothing},
};

cft_status cuda_library(void **library, const char *name, std::initializer_list<int> majors) {
  const char *without = getenv("CUDA_EMU_WITHOUT");
  for (const standin_library &l : libraries) {
    if (strcmp(name + 3, l.name)) continue;
    if (without && strstr(without, l.name)) break;
    *library = (void *)&l;
    return CFT_OK;
  }
  return cft_fail(CFT_E_DEVICE,
                  "%s.so.%d is not on this machine: the emulator has no stand-in for it", name,
                  *majors.begin());
}

std::string cuda_library_path(void *library) { return ((standin_library *)library)->name; }

cft_status cuda_function(void *function, void *library, const char *name) {
  for (const standin_function *f = ((standin_library *)library)->functions; f->name; f++)
    if (!strcmp(f->name, name)) {
      memcpy(function, &f->address, sizeof f->address);
      return CFT_OK;
    }
  return cft_fail(CFT_E_DEVICE, "the emulator's %s has no %s", ((standin_library *)library)->name,
                  name);
}
