#include "library.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>

#ifndef CFT_CUDA_TOOLKIT_LIBRARIES
#define CFT_CUDA_TOOLKIT_LIBRARIES ""  // the toolkit's folder of libraries; set by CMake
#endif

// ---- the driver ----------------------------------------------------------------------------

cft_status cuda_driver_check(int index) {
  static const char *const library = "libcuda.so.1";
  void *driver = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
  if (!driver)
    return cft_fail(CFT_E_DEVICE, "cuda:%d: no NVIDIA driver here (%s cannot be loaded)", index,
                    library);
  int (*init)(unsigned) = nullptr;
  int (*count)(int *) = nullptr;
  CFT_TRY(cuda_function(&init, driver, "cuInit"));
  CFT_TRY(cuda_function(&count, driver, "cuDeviceGetCount"));
  const int status = init(0);
  int n = 0;  // a driver without GPU leaves it as it is
  if (status == 0) count(&n);
  if (n == 0 && (status == 0 || status == 100))  // CUDA_ERROR_NO_DEVICE
    return cft_fail(CFT_E_DEVICE, "cuda:%d: the NVIDIA driver is here, but it finds no GPU", index);
  if (status != 0)
    return cft_fail(CFT_E_DEVICE, "cuda:%d: the NVIDIA driver does not start (cuInit answers %d)",
                    index, status);
  if (index < 0 || index >= n)
    return cft_fail(CFT_E_DEVICE, "cuda:%d: no such GPU; this machine has %d, counted from 0",
                    index, n);
  return CFT_OK;
}

// ---- libraries -----------------------------------------------------------------------------

static std::string folder_of_this_module() {
  Dl_info where;
  if (!dladdr((const void *)&cuda_library, &where) || !where.dli_fname) return "";
  const std::string path = where.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

// Patterns for glob, in the order in which they are tried.
static std::string search_path() {
  std::string path;
  const auto add = [&path](const char *folder, const char *below) {
    if (folder && *folder) path += std::string(path.empty() ? "" : ":") + folder + below;
  };
  const char *const pip[] = {"/lib/python3*/site-packages/nvidia/*/lib",
                             "/lib/python3*/dist-packages/nvidia/*/lib",
                             "/lib/python3/dist-packages/nvidia/*/lib"};
  const char *home = getenv("HOME");
  const std::string local = home ? std::string(home) + "/.local" : "";
  add(CFT_CUDA_TOOLKIT_LIBRARIES, "");
  add(getenv("CUDA_HOME"), "/lib64");
  add("/usr/local/cuda", "/lib64");
  add("/usr/local/cuda-*", "/lib64");
  for (const char *below : pip)
    for (const char *root :
         {(const char *)getenv("VIRTUAL_ENV"), (const char *)getenv("CONDA_PREFIX"), local.c_str(),
          "/usr/local", "/usr", "/opt/conda"})
      add(root, below);
  return path;
}

static void *open_in(const std::string &patterns, const char *file) {
  for (size_t at = 0; at < patterns.size();) {
    size_t end = patterns.find(':', at);
    if (end == std::string::npos) end = patterns.size();
    const std::string pattern = patterns.substr(at, end - at) + "/" + file;
    at = end + 1;
    glob_t found;
    void *library = nullptr;
    if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
      for (size_t i = 0; i < found.gl_pathc && !library; i++)
        library = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL);
    globfree(&found);
    if (library) return library;
  }
  return nullptr;
}

cft_status cuda_library(void **library, const char *file) {
  const char *wanted = getenv("CFT_CUDA_LIBRARIES");
  if (wanted && (*library = open_in(wanted, file))) return CFT_OK;
  const std::string here = folder_of_this_module();
  if (!here.empty() && (*library = open_in(here, file))) return CFT_OK;
  if ((*library = dlopen(file, RTLD_NOW | RTLD_GLOBAL))) return CFT_OK;
  if ((*library = open_in(search_path(), file))) return CFT_OK;
  return cft_fail(CFT_E_DEVICE,
                  "%s is not on this machine: it is neither in $CFT_CUDA_LIBRARIES, nor where the "
                  "loader looks, nor in /usr/local/cuda*/lib64, nor in nvidia/*/lib of pip's "
                  "site-packages",
                  file);
}

cft_status cuda_function(void *function, void *library, const char *name) {
  void *address = dlsym(library, name);
  if (!address) return cft_fail(CFT_E_DEVICE, "the library that was found has no %s", name);
  memcpy(function, &address, sizeof address);
  return CFT_OK;
}
