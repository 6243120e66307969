// ops.cpp - every kernel of the CUDA device against the CPU's, at sizes that divide by nothing,
// with strides, unaligned addresses and empty inputs.
//
//   ops [--module libcft_cuda.so] [--repeats N] [--section NAME] [quick] [FILTER ...]
//   ops --sections                                               their names
//
// Linked with the emulated device it tests that one, in four thread orders; given a module it tests
// what it opens: a real card, with repeats in place of orders.
#include <dlfcn.h>

#include "ops/cases.h"

world the_world;

extern "C" {
cft_status cft_cuda_open(cft_device **d, int index) __attribute__((weak));
void cuda_emu_set_order(unsigned) __attribute__((weak));
uint64_t cuda_emu_waits(void) __attribute__((weak));
void cuda_emu_set_module_bytes(uint64_t) __attribute__((weak));
}

cft_status (*open_cuda)(cft_device **, int) = cft_cuda_open;

int main(int argc, char **argv) {
  bool quick = false;
  const char *module = nullptr, *section = nullptr;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--module") && i + 1 < argc)
      module = argv[++i];
    else if (!strcmp(argv[i], "--repeats") && i + 1 < argc)
      the_world.orders = (unsigned)atoi(argv[++i]);
    else if (!strcmp(argv[i], "--section") && i + 1 < argc)
      section = argv[++i];
    else if (!strcmp(argv[i], "--sections")) {
      for (const cases &c : all_cases()) puts(c.name);
      return 0;
    } else if (!strcmp(argv[i], "quick"))
      quick = true;
    else
      the_world.filters.push_back(argv[i]);
  }
  the_world.set_order = cuda_emu_set_order;
  the_world.waits = cuda_emu_waits;
  the_world.set_module_bytes = cuda_emu_set_module_bytes;
  if (module) {
    void *m = dlopen(module, RTLD_NOW | RTLD_GLOBAL);
    if (!m) {
      printf("FAIL  %s\n", dlerror());
      return 1;
    }
    *(void **)&open_cuda = dlsym(m, CFT_CUDA_OPEN_SYMBOL);
    *(void **)&the_world.set_order = dlsym(m, "cuda_emu_set_order");
    *(void **)&the_world.waits = dlsym(m, "cuda_emu_waits");
    *(void **)&the_world.set_module_bytes = dlsym(m, "cuda_emu_set_module_bytes");
  }
  the_world.cpu = cft_cpu_device();
  if (!open_cuda || open_cuda(&the_world.gpu, 0) != CFT_OK) {
    printf("skip  no CUDA device: %s\n0 passed, 0 failed, 1 skipped\n", cft_last_error());
    return 0;
  }
  printf("%s: %s%s\n", the_world.gpu->name, the_world.gpu->description,
         the_world.set_order ? "; all that follows is emulated" : "");
  for (const cases &c : all_cases())
    if (!section || !strcmp(section, c.name)) c.run(quick);
  the_world.gpu->close(the_world.gpu);
  printf("%d passed, %d failed, %d skipped\n", the_world.passed, the_world.failed,
         the_world.skipped);
  return the_world.failed != 0;
}
