// library_test.cpp - finding libraries: where the environment says, by the loader's path, in pip's
// folders; and what is said where there is nothing.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "library.h"

static int passed, failed;
static void expect(bool ok, const char *what) {
  printf("%s  %s\n", ok ? "ok  " : "FAIL", what);
  ok ? passed++ : failed++;
}

// A call that must fail, and what it must say.
static void refuses(cft_status st, const char *what, const char *says) {
  printf("%s  %s: %s\n", st && strstr(cft_last_error(), says) ? "ok  " : "FAIL", what,
         cft_last_error());
  st &&strstr(cft_last_error(), says) ? passed++ : failed++;
}

int main() {
  // A library that this process has not loaded yet stands for one of NVIDIA's.
  char folder[] = "/tmp/cft-library-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  const std::string root = folder, pip = root + "/lib/python3.99/site-packages/nvidia/some/lib";
  if (system(("mkdir -p " + pip).c_str())) return 1;
  void *libm = dlopen("libm.so.6", RTLD_NOW);
  Dl_info where;
  if (!libm || !dladdr(dlsym(libm, "cbrt"), &where)) return 1;
  std::ofstream(pip + "/libcft-odd.so.7", std::ios::binary)
      << std::ifstream(where.dli_fname, std::ios::binary).rdbuf();

  void *library = nullptr, *function = nullptr;
  unsetenv("CFT_CUDA_LIBRARIES");
  unsetenv("VIRTUAL_ENV");
  refuses(cuda_library(&library, "libcft-odd.so.7"), "a library that is nowhere",
          "libcft-odd.so.7 is not on this machine");
  setenv("VIRTUAL_ENV", folder, 1);
  expect(cuda_library(&library, "libcft-odd.so.7") == CFT_OK &&
             cuda_function(&function, library, "cbrt") == CFT_OK && function,
         "a library in pip's nvidia folders");
  unsetenv("VIRTUAL_ENV");
  setenv("CFT_CUDA_LIBRARIES", ("/nowhere:" + pip).c_str(), 1);
  expect(cuda_library(&library, "libcft-odd.so.7") == CFT_OK, "a library where we are told");
  expect(cuda_library(&library, "libm.so.6") == CFT_OK, "a library in the loader's path");
  refuses(cuda_function(&function, library, "no_such_function"), "a function that is not there",
          "has no no_such_function");
  if (system(("rm -r " + root).c_str())) return 1;

  if (cuda_library(&library, "libcudnn.so.9") == CFT_OK) {
    size_t (*version)() = nullptr;
    expect(cuda_function(&version, library, "cudnnGetVersion") == CFT_OK && version() >= 90000,
           "the real cuDNN, which needs no driver to say its version");
  }
  if (cuda_library(&library, "libnccl.so.2") == CFT_OK) {
    int (*version)(int *) = nullptr, number = 0;
    bool all = cuda_function(&version, library, "ncclGetVersion") == CFT_OK;
    for (const char *name :
         {"ncclGetUniqueId", "ncclCommInitRankConfig", "ncclAllReduce", "ncclBroadcast",
          "ncclCommGetAsyncError", "ncclCommFinalize", "ncclCommDestroy", "ncclCommAbort",
          "ncclGetErrorString", "ncclGetLastError"})
      all = all && cuda_function(&function, library, name) == CFT_OK;
    expect(all && version(&number) == 0 && number >= 21400,
           "the real NCCL has what we call, and says its version without a driver");
  }
  if (cuda_driver_check(0) == CFT_OK)
    refuses(cuda_driver_check(99), "a GPU too many", "no such GPU");
  else
    refuses(CFT_E_DEVICE, "without a GPU",
            strstr(cft_last_error(), "driver here") ? "no NVIDIA driver here" : "finds no GPU");
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed != 0;
}
