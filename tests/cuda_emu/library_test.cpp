// library_test.cpp - finding libraries in each layout of a machine: where the environment says, by
// the loader's path, in toolkits, in environments of pip and conda; and what is said where there is
// nothing.
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

static std::string root;

static void shell(const std::string &command) {
  if (system(command.c_str())) exit(1);
}

// Lay a copy of the C library's mathematics, which this process has not loaded under that name, as
// one of NVIDIA's below the folder; its path.
static std::string lay(const std::string &folder, const std::string &name) {
  static const std::string libm = [] {
    void *opened = dlopen("libm.so.6", RTLD_NOW);
    Dl_info where;
    return opened && dladdr(dlsym(opened, "cbrt"), &where) ? std::string(where.dli_fname) : "";
  }();
  shell("mkdir -p " + root + folder);
  const std::string path = root + folder + "/" + name;
  std::ofstream(path, std::ios::binary) << std::ifstream(libm, std::ios::binary).rdbuf();
  return path;
}

// An environment in which nothing says where anything lies.
static void forget() {
  for (const char *name :
       {"CFT_CUDA_LIBRARIES", "VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_HOME", "CUDA_PATH"})
    unsetenv(name);
  setenv("PATH", "/usr/bin:/bin", 1);
  setenv("HOME", (root + "/nobody").c_str(), 1);
}

// A library that must be found, and where.
static void finds(const char *name, std::initializer_list<int> majors, const std::string &path,
                  const char *what) {
  void *library = nullptr;
  const bool ok =
      cuda_library(&library, name, majors) == CFT_OK && cuda_library_path(library) == path;
  expect(ok, what);
  if (!ok) printf("      %s\n", library ? cuda_library_path(library).c_str() : cft_last_error());
}

static const char *const pip = "/lib/python3.99/site-packages/nvidia/some/lib";

// Each layout has a name of its own: what was opened once stays.
static void layouts() {
  void *library = nullptr;
  refuses(cuda_library(&library, "libcft-none", {13, 12}), "a library that is nowhere",
          "libcft-none.so.13 or libcft-none.so.12 is not on this machine");

  std::string path = lay(std::string("/venv") + pip, "libcft-venv.so.7");
  setenv("VIRTUAL_ENV", (root + "/venv").c_str(), 1);
  finds("libcft-venv", {7}, path, "an environment that is activated");
  forget();

  path = lay(std::string("/quiet") + pip, "libcft-path.so.7");
  shell("mkdir -p " + root + "/quiet/bin");
  setenv("PATH", ("/usr/bin:" + root + "/quiet/bin/:/bin").c_str(), 1);
  finds("libcft-path", {7}, path, "an environment that is on PATH alone");
  forget();

  path = lay("/packages/nvidia/some/lib", "libcft-python.so.7");
  shell("mkdir -p " + root + "/shims; printf '#!/bin/sh\necho " + root + "/packages\n' > " + root +
        "/shims/python3; chmod +x " + root + "/shims/python3");
  setenv("PATH", (root + "/shims:/usr/bin:/bin").c_str(), 1);
  finds("libcft-python", {7}, path, "an environment that python3 alone knows");
  forget();

  path = lay("/conda/lib", "libcft-conda.so.7");
  setenv("CONDA_PREFIX", (root + "/conda").c_str(), 1);
  finds("libcft-conda", {7}, path, "an environment of conda");
  forget();

  path = lay("/toolkit/lib64", "libcft-toolkit.so.7");
  shell("mkdir -p " + root + "/toolkit/bin");
  setenv("PATH", ("/usr/bin:/bin:" + root + "/toolkit/bin").c_str(), 1);
  finds("libcft-toolkit", {7}, path, "a toolkit that is on PATH");
  forget();

  // Two majors at once: the one that is liked best, wherever it lies; but who is told where takes
  // that.
  const std::string old = lay("/both/lib64", "libcft-both.so.12");
  path = lay(std::string("/both") + pip, "libcft-both.so.13");
  setenv("CUDA_HOME", (root + "/both").c_str(), 1);
  setenv("VIRTUAL_ENV", (root + "/both").c_str(), 1);
  finds("libcft-both", {13, 12}, path, "of two majors the first that was asked for");
  finds("libcft-both", {11, 12}, old, "another major where that one is not here");
  setenv("CFT_CUDA_LIBRARIES", ("/nowhere:" + root + "/both/lib64").c_str(), 1);
  finds("libcft-both", {13, 12}, old, "the major that is where we are told");
  forget();
}

int main() {
  char folder[] = "/tmp/cft-library-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  root = folder;
  forget();
  layouts();
  void *library = nullptr, *function = nullptr;
  expect(cuda_library(&library, "libm", {6}) == CFT_OK, "a library in the loader's path");
  expect(cuda_function(&function, library, "cbrt") == CFT_OK && function, "a function of it");
  refuses(cuda_function(&function, library, "no_such_function"), "a function that is not there",
          "has no no_such_function");
  shell("rm -r " + root);

  if (cuda_library(&library, "libcudnn", {9}) == CFT_OK) {
    size_t (*version)() = nullptr;
    expect(cuda_function(&version, library, "cudnnGetVersion") == CFT_OK && version() >= 90000,
           "the real cuDNN, which needs no driver to say its version");
  }
  if (cuda_library(&library, "libnccl", {2}) == CFT_OK) {
    int (*version)(int *) = nullptr, number = 0;
    bool all = cuda_function(&version, library, "ncclGetVersion") == CFT_OK;
    for (const char *name :
         {"ncclGetUniqueId", "ncclCommInitRankConfig", "ncclAllReduce", "ncclBroadcast",
          "ncclReduceScatter", "ncclAllGather", "ncclGroupStart", "ncclGroupEnd",
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
  std::string rows;
  cuda_driver_report(&rows);
  expect(rows.find("driver\t") == 0 && rows.back() == '\n', "the driver's row");
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed != 0;
}
