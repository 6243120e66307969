#include "library.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#ifndef CFT_CUDA_TOOLKIT_LIBRARIES
#define CFT_CUDA_TOOLKIT_LIBRARIES ""  // the toolkit's folder of libraries; set by CMake
#endif

// ---- the driver ----------------------------------------------------------------------------

static const char *const driver_library = "libcuda.so.1";

// The CUDA that a driver is for, as cuDriverGetVersion has it (13000); 0 where it does not say.
static int driver_version(void *driver) {
  int (*get)(int *) = nullptr;
  int version = 0;
  if (cuda_function(&get, driver, "cuDriverGetVersion") != CFT_OK || get(&version) != 0) return 0;
  return version;
}

// "580.65.06"; empty where the kernel module does not say.
static std::string driver_release() {
  std::string text;
  std::ifstream("/sys/module/nvidia/version") >> text;
  return text;
}

static bool too_old(int version) { return version && version / 1000 < CUDART_VERSION / 1000; }

cft_status cuda_driver_check(int index) {
  const char *const library = driver_library;
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
  const int version = driver_version(driver);
  if (too_old(version))
    return cft_fail(CFT_E_DEVICE,
                    "cuda:%d: the driver%s%s is for CUDA %d.%d; this module was built with CUDA "
                    "%d.%d and wants driver %d or newer",
                    index, driver_release().empty() ? "" : " ", driver_release().c_str(),
                    version / 1000, version % 1000 / 10, CUDART_VERSION / 1000,
                    CUDART_VERSION % 1000 / 10, CUDA_OLDEST_DRIVER);
  if (index < 0 || index >= n)
    return cft_fail(CFT_E_DEVICE, "cuda:%d: no such GPU; this machine has %d, counted from 0",
                    index, n);
  return CFT_OK;
}

// A GPU's row: "cuda:0\tok\tNVIDIA H200, sm_90, 139.80 GiB".
static void report_gpu(std::string *rows, void *driver, int index) {
  int (*get)(int *, int) = nullptr;
  int (*name_of)(char *, int, int) = nullptr;
  int (*memory_of)(size_t *, int) = nullptr;
  int (*attribute)(int *, int, int) = nullptr;
  if (cuda_function(&get, driver, "cuDeviceGet") ||
      cuda_function(&name_of, driver, "cuDeviceGetName") ||
      cuda_function(&memory_of, driver, "cuDeviceTotalMem_v2") ||
      cuda_function(&attribute, driver, "cuDeviceGetAttribute"))
    return;
  int device = 0, major = 0, minor = 0;
  size_t bytes = 0;
  char name[256] = "";
  if (get(&device, index)) return;
  name_of(name, sizeof name, device);
  memory_of(&bytes, device);
  attribute(&major, 75, device);  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
  attribute(&minor, 76, device);
  char row[400];
  snprintf(row, sizeof row, "cuda:%d\t%s\t%s, sm_%d%d, %.2f GiB%s\n", index,
           major >= 8 ? "ok" : "old", name, major, minor, (double)bytes / (1 << 30),
           major >= 8 ? "" : "; this build has code for sm_80 and newer");
  *rows += row;
}

void cuda_driver_report(std::string *rows) {
  void *driver = dlopen(driver_library, RTLD_NOW | RTLD_GLOBAL);
  int (*init)(unsigned) = nullptr;
  int (*count)(int *) = nullptr;
  if (!driver || cuda_function(&init, driver, "cuInit") ||
      cuda_function(&count, driver, "cuDeviceGetCount")) {
    *rows += "driver\tmissing\tno NVIDIA driver here (libcuda.so.1 cannot be loaded)\n";
    return;
  }
  const int status = init(0), version = driver_version(driver);
  int n = 0;
  if (status == 0) count(&n);
  char row[300];
  snprintf(row, sizeof row, "driver\t%s\t%s for CUDA %d.%d%s\n",
           too_old(version)               ? "old"
           : status == 0 || status == 100 ? "ok"
                                          : "missing",
           driver_release().empty() ? "one" : driver_release().c_str(), version / 1000,
           version % 1000 / 10, status == 0 || status == 100 ? "" : "; it does not start");
  *rows += row;
  for (int i = 0; i < n; i++) report_gpu(rows, driver, i);
  if (n == 0) *rows += "cuda:0\tmissing\tthe driver finds no GPU\n";
}

// ---- where libraries lie -------------------------------------------------------------------

static std::string folder_of_this_module() {
  Dl_info where;
  if (!dladdr((const void *)&cuda_library, &where) || !where.dli_fname) return "";
  const std::string path = where.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

// A list of folders, as patterns for glob.
struct places {
  std::vector<std::string> list;
  void add(const std::string &root, const char *below) {
    if (!root.empty()) list.push_back(root + below);
  }
  // What pip puts below a prefix, and what conda and a toolkit do.
  void add_prefix(const std::string &root) {
    add(root, "/lib/python3*/site-packages/nvidia/*/lib");
    add(root, "/lib/python3*/dist-packages/nvidia/*/lib");
    add(root, "/lib/python3/dist-packages/nvidia/*/lib");
  }
};

static std::string text_of(const char *value) { return value ? value : ""; }

static std::vector<std::string> split(const std::string &text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(':', at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

// /here/bin on PATH: /here may be a virtual environment that nobody activated, or a toolkit.
static std::vector<std::string> prefixes_on_path() {
  std::vector<std::string> list;
  for (const std::string &folder : split(text_of(getenv("PATH")))) {
    const size_t slash = folder.find_last_not_of('/') == std::string::npos
                             ? std::string::npos
                             : folder.rfind('/', folder.find_last_not_of('/'));
    if (slash != std::string::npos && slash > 0) list.push_back(folder.substr(0, slash));
  }
  return list;
}

static places usual_places() {
  places p;
  p.add(CFT_CUDA_TOOLKIT_LIBRARIES, "");
  for (const char *toolkit : {getenv("CUDA_HOME"), getenv("CUDA_PATH")})
    p.add(text_of(toolkit), "/lib64");
  p.add("/usr/local/cuda", "/lib64");
  p.add("/usr/local/cuda-*", "/lib64");
  const std::string conda = text_of(getenv("CONDA_PREFIX")), home = text_of(getenv("HOME"));
  p.add_prefix(text_of(getenv("VIRTUAL_ENV")));
  p.add_prefix(conda);
  p.add(conda, "/lib");
  for (const std::string &prefix : prefixes_on_path()) {
    p.add_prefix(prefix);
    p.add(prefix, "/lib64");
  }
  if (!home.empty()) p.add_prefix(home + "/.local");
  for (const char *root : {"/usr/local", "/usr", "/opt/conda"}) p.add_prefix(root);
  return p;
}

// Where `python3` has its packages, by its own word: a shim on PATH has its prefix elsewhere. Asked
// only when a library is nowhere else.
static places of_python() {
  places p;
  FILE *answer = popen(
      "timeout 5 python3 -c 'import site, sysconfig; "
      "print(sysconfig.get_path(\"purelib\"), site.getusersitepackages(), sep=\"\\n\")' "
      "2>/dev/null </dev/null",
      "re");
  char line[4096];
  while (answer && fgets(line, sizeof line, answer)) {
    line[strcspn(line, "\n")] = 0;
    p.add(line, "/nvidia/*/lib");
  }
  if (answer) pclose(answer);
  return p;
}

// ---- opening -------------------------------------------------------------------------------

// Never closed again: NVIDIA's libraries start threads and keep tables that outlive a handle.
static void *open_file(const std::string &path) {
  return dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
}

static void *open_in(const places &p, const std::string &file) {
  for (const std::string &folder : p.list) {
    glob_t found;
    void *library = nullptr;
    if (glob((folder + "/" + file).c_str(), 0, nullptr, &found) == 0)
      for (size_t i = 0; i < found.gl_pathc && !library; i++)
        library = open_file(found.gl_pathv[i]);
    globfree(&found);
    if (library) return library;
  }
  return nullptr;
}

static std::vector<std::string> files_of(const char *name, std::initializer_list<int> majors) {
  std::vector<std::string> files;
  for (int major : majors) files.push_back(std::string(name) + ".so." + std::to_string(major));
  return files;
}

cft_status cuda_library(void **library, const char *name, std::initializer_list<int> majors) {
  const std::vector<std::string> files = files_of(name, majors);
  places told;
  told.list = split(text_of(getenv("CFT_CUDA_LIBRARIES")));
  for (const std::string &file : files)  // who says where is believed before any newer one
    if ((*library = open_in(told, file))) return CFT_OK;
  places here;
  here.add(folder_of_this_module(), "");
  const places usual = usual_places();
  for (const std::string &file : files) {
    if ((*library = open_in(here, file))) return CFT_OK;
    if ((*library = open_file(file))) return CFT_OK;
    if ((*library = open_in(usual, file))) return CFT_OK;
  }
  const places python = of_python();
  for (const std::string &file : files)
    if ((*library = open_in(python, file))) return CFT_OK;
  std::string names;
  for (const std::string &file : files) names += (names.empty() ? "" : " or ") + file;
  return cft_fail(
      CFT_E_DEVICE,
      "%s is not on this machine: it is neither in $CFT_CUDA_LIBRARIES, nor where the "
      "loader looks, nor in a toolkit's lib64, nor in nvidia/*/lib of the site-packages "
      "of pip, of an environment on PATH or of python3",
      names.c_str());
}

std::string cuda_library_path(void *library) {
  struct link_map *map = nullptr;
  if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || !map || !map->l_name) return "";
  return map->l_name;
}

cft_status cuda_function(void *function, void *library, const char *name) {
  void *address = dlsym(library, name);
  if (!address) return cft_fail(CFT_E_DEVICE, "the library that was found has no %s", name);
  memcpy(function, &address, sizeof address);
  return CFT_OK;
}
