// device.c - picks a table: the CPU's, or a GPU's from a module that is opened when asked for.
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tensor_impl.h"

enum { GPUS = 64 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cft_device *gpu[GPUS];
static cft_cuda_open_fn *cuda_open;
static char why_cpu[512];

const char *cft_device_why_cpu(void) { return why_cpu; }
const char *cft_device_name(const cft_device *d) { return d->name; }
const char *cft_device_description(const cft_device *d) { return d->description; }

// Whether a driver is there at all, found in a tenth of a millisecond: the module itself links
// cuBLASLt and takes far longer to load.
static cft_status driver_present(void) {
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver)
    return cft_fail(CFT_E_DEVICE, "cuda: no driver (libcuda.so.1 is not on this machine)");
  // From the driver API's reference: 0 is success; both calls work without a context.
  int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
  int (*count)(int *) = (int (*)(int *))dlsym(driver, "cuDeviceGetCount");
  int n = 0;
  int failed = !init || !count;
  int code = failed ? 0 : init(0);
  if (!failed && code == 0) code = count(&n);
  // It stays open: its threads outlive the handle, and the module wants it next.
  if (failed) return cft_fail(CFT_E_DEVICE, "cuda: libcuda.so.1 has no cuInit; not a driver");
  if (code != 0) return cft_fail(CFT_E_DEVICE, "cuda: the driver answers error %d", code);
  if (n == 0) return cft_fail(CFT_E_DEVICE, "cuda: a driver is here, but no GPU");
  return CFT_OK;
}

// CFT_CUDA_MODULE names the module, and is believed: it may be one that needs no driver. True if so.
static bool module_path(char *path, size_t bytes) {
  const char *named = getenv("CFT_CUDA_MODULE");
  if (named && *named) {
    snprintf(path, bytes, "%s", named);
    return true;
  }
  ssize_t n = readlink("/proc/self/exe", path, bytes - 32);
  char *slash = n > 0 ? (path[n] = 0, strrchr(path, '/')) : NULL;
  snprintf(slash ? slash + 1 : path, 32, "libcft_cuda.so");
  return false;
}

static cft_status load_module(void) {
  if (cuda_open) return CFT_OK;
  char path[4096];
  if (!module_path(path, sizeof path)) CFT_TRY(driver_present());
  void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!module) return cft_fail(CFT_E_DEVICE, "cuda: the module cannot be opened: %s", dlerror());
  *(void **)&cuda_open = dlsym(module, CFT_CUDA_OPEN_SYMBOL);
  if (!cuda_open) {
    dlclose(module);
    return cft_fail(CFT_E_DEVICE, "cuda: %s has no %s; it is another program's", path,
                    CFT_CUDA_OPEN_SYMBOL);
  }
  return CFT_OK;
}

static cft_status open_gpu(cft_device **d, int index) {
  if (!gpu[index]) {
    CFT_TRY(load_module());
    CFT_TRY(cuda_open(&gpu[index], index));
  }
  *d = gpu[index];
  return CFT_OK;
}

static cft_status open_locked(cft_device **d, const char *name) {
  int index = 0, used = 0;
  if (strcmp(name, "cpu") == 0) {
    *d = cft_cpu_device();
    return CFT_OK;
  }
  if (strcmp(name, "auto") == 0) {
    cft_status st = open_gpu(d, 0);
    snprintf(why_cpu, sizeof why_cpu, "%s", st == CFT_OK ? "" : cft_last_error());
    if (st == CFT_E_DEVICE) *d = cft_cpu_device(), st = CFT_OK;
    return st;
  }
  if (strcmp(name, "cuda") == 0) return open_gpu(d, 0);
  if (sscanf(name, "cuda:%d%n", &index, &used) == 1 && name[used] == 0 && index >= 0 &&
      index < GPUS)
    return open_gpu(d, index);
  return cft_fail(CFT_E_ARG, "device '%s'; known are cpu, cuda, cuda:N (N below %d) and auto", name,
                  GPUS);
}

cft_status cft_device_open(cft_device **d, const char *name) {
  pthread_mutex_lock(&lock);
  cft_status st = open_locked(d, name);
  pthread_mutex_unlock(&lock);
  return st;
}

size_t cft_device_report(char *text, size_t bytes) {
  char path[4096];
  module_path(path, sizeof path);
  size_t (*report)(char *, size_t) = NULL;
  void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (module) *(void **)&report = dlsym(module, CFT_CUDA_REPORT_SYMBOL);
  if (report) return report(text, bytes);
  const char *why = module ? "it is another program's" : dlerror();
  if (access(path, F_OK) != 0) why = "it was not built; ./run.sh builds it where nvcc and a driver are";
  int n = snprintf(text, bytes, "module\tmissing\t%s: %s\n", path, why);
  if (driver_present() != CFT_OK && n > 0 && (size_t)n < bytes)
    n += snprintf(text + n, bytes - (size_t)n, "driver\tmissing\t%s\n", cft_last_error());
  return n < 0 ? 0 : (size_t)n < bytes ? (size_t)n : bytes;
}

cft_status cft_device_memory(cft_device *d, cft_memory_use *use, int reset_peak) {
  d->memory(d, use, reset_peak);
  return CFT_OK;
}

void cft_device_set_autotune(cft_device *d, int on) {
  if (d->set_autotune) d->set_autotune(d, on);
}

int cft_device_set_rows_alone(cft_device *d, int on) { return d->set_rows_alone ? d->set_rows_alone(d, on) : 0; }

cft_status cft_device_sync(cft_device *d) { return d->sync(d); }

int cft_device_has_graphs(const cft_device *d) { return d->graph_begin != NULL; }

cft_status cft_graph_begin(cft_device *d, int record) {
  if (!d->graph_begin) return cft_fail(CFT_E_UNSUPPORTED, "%s has no graphs", d->name);
  return d->graph_begin(d, record);
}

cft_status cft_graph_end(cft_device *d, cft_graph **g) { return d->graph_end(d, g); }

cft_status cft_graph_launch(cft_device *d, cft_graph *g) { return d->graph_launch(d, g); }

void cft_graph_free(cft_device *d, cft_graph *g) { d->graph_free(d, g); }
