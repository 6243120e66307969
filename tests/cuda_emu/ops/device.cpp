// device.cpp - the CUDA device itself: memory, copies, failures, waits.
#include "cases.h"

// Kernels are loaded when they are first launched, into memory that is not the pool's: what the
// pool keeps unused makes room for them, and where it is all in use the launch says what fills the
// device.
static void launches_without_room(cft_device *d) {
  cft_memory_use use;
  constexpr size_t SOME = 1 << 20;
  void *x = nullptr, *some = nullptr;
  cft_status st = d->alloc(d, &x, 4096, CFT_MEM_OTHER);
  if (!st) st = d->zero(d, nullptr, x, 4096);
  if (!st) st = d->sync(d);
  d->trim(d);
  d->memory(d, &use, 0);
  const cft_softmax_args softmax = {x, x, 4, 32, CFT_F32};
  const auto launch = [&] { return d->kernels->softmax_fwd(d, nullptr, &softmax); };
  // Code as large as all that is left, but for less than what is taken now.
  if (!st) st = d->alloc(d, &some, SOME, CFT_MEM_ACTIVATION);
  the_world.set_module_bytes((uint64_t)(use.limit - use.reserved) - SOME / 2);
  const cft_status full = st ? st : launch();
  const std::string said = cft_last_error();
  report(full == CFT_E_OOM && said.find("softmax_fwd: ") == 0 &&
             said.find("has no memory left beside what is reserved") != std::string::npos &&
             said.find("activations") != std::string::npos,
         "device: a launch without room for its code says what fills the device", said.c_str());
  d->free(d, some, SOME, CFT_MEM_ACTIVATION);
  st = launch();
  if (!st) st = d->sync(d);
  report(!st, "device: what the pool keeps makes room for a kernel's code", cft_last_error());
  the_world.set_module_bytes(0);
  d->free(d, x, 4096, CFT_MEM_OTHER);
  d->trim(d);
}

// With CFT_CUDA_LIMIT a device has no more than that, whatever the card has; what is kept unused is given back before an
// allocation is refused.
static void limited() {
  constexpr size_t MIB = 1 << 20;
  the_world.gpu->trim(the_world.gpu);
  cft_memory_use use;
  the_world.gpu->memory(the_world.gpu, &use, 0);
  setenv("CFT_CUDA_LIMIT", text("%lldB", (long long)(use.reserved + 6 * (int64_t)MIB)).c_str(), 1);
  cft_device *d = nullptr;
  void *p = nullptr, *q = nullptr;
  cft_status st = open_cuda(&d, 0);
  const int64_t limit = use.reserved + 6 * (int64_t)MIB;
  if (!st) d->memory(d, &use, 0);
  report(!st && use.limit == limit, "device: a limit is the device's", cft_last_error());
  if (st) return;
  st = d->alloc(d, &p, 3 * MIB, CFT_MEM_PARAM);
  report(!st && d->alloc(d, &q, (size_t)limit, CFT_MEM_GRAD) == CFT_E_OOM && !q &&
             strstr(cft_last_error(), "no room for") && strstr(cft_last_error(), "of gradients"),
         "device: beyond the limit nothing is taken", cft_last_error());
  d->free(d, p, 3 * MIB, CFT_MEM_PARAM);
  st = d->alloc(d, &q, 5 * MIB, CFT_MEM_GRAD);
  report(!st, "device: below the limit what was freed is taken again", cft_last_error());
  if (!st) d->free(d, q, 5 * MIB, CFT_MEM_GRAD);
  d->close(d);
  setenv("CFT_CUDA_LIMIT", "much", 1);
  report(open_cuda(&d, 0) == CFT_E_ARG && strstr(cft_last_error(), "'much' is no size"), "device: a limit that is no size",
         cft_last_error());
  unsetenv("CFT_CUDA_LIMIT");
}

CASES(device) {
  if (!wanted("device")) return;
  cft_device *d = the_world.gpu;
  cft_memory_use before, during, after;
  void *p = nullptr, *q = nullptr;
  d->memory(d, &before, 1);
  cft_status st = d->alloc(d, &p, 3000000, CFT_MEM_GRAD);
  d->memory(d, &during, 0);
  d->free(d, p, 3000000, CFT_MEM_GRAD);
  d->memory(d, &after, 0);
  report(!st && during.bytes[CFT_MEM_GRAD] == before.bytes[CFT_MEM_GRAD] + 3000000 &&
             during.total == before.total + 3000000 && after.total == before.total &&
             after.bytes[CFT_MEM_GRAD] == before.bytes[CFT_MEM_GRAD] &&
             after.peak == during.total && during.reserved >= during.total &&
             (uintptr_t)p % 256 == 0,
         "device: memory is counted by class, with its peak");
  st = d->sync(d);
  d->trim(d);
  d->memory(d, &after, 1);
  report(!st && after.peak == after.total && after.reserved <= during.reserved,
         "device: trim gives back what is not in use");

  st = d->alloc(d, &p, 0, CFT_MEM_OTHER);
  report(!st && p, "device: no bytes give a pointer that may be freed");
  d->free(d, p, 0, CFT_MEM_OTHER);

  st = d->alloc(d, &p, (size_t)1 << 50, CFT_MEM_ACTIVATION);
  report(st == CFT_E_OOM && !p && strstr(cft_last_error(), "of activations"),
         "device: out of memory says what for, and what is there", cft_last_error());
  report(d->sync(d) == CFT_OK, "device: a failure is answered once");

  std::vector<char> big(5 << 20), back(big.size());  // more than the staging slots hold at once
  for (size_t i = 0; i < big.size(); i++) big[i] = (char)(i * 2654435761u >> 13);
  const std::vector<char> kept = big;
  st = d->alloc(d, &p, big.size(), CFT_MEM_OTHER);
  if (!st) st = d->alloc(d, &q, big.size(), CFT_MEM_OTHER);
  for (int i = 0; i < 3 && !st; i++) st = d->upload(d, nullptr, p, big.data(), big.size());
  memset(big.data(), 7, big.size());  // upload has read it
  if (!st) st = d->copy(d, nullptr, q, p, big.size());
  if (!st) st = d->zero(d, nullptr, p, big.size());
  if (!st) st = d->download(d, nullptr, back.data(), q, back.size());
  report(!st && back == kept, "device: upload, copy, zero, download, in order");
  if (!st) st = d->download(d, nullptr, back.data(), p, back.size());
  report(!st && back == std::vector<char>(big.size(), 0), "device: zero");
  d->free(d, p, big.size(), CFT_MEM_OTHER);
  d->free(d, q, big.size(), CFT_MEM_OTHER);

  const cft_cast_args u8 = {nullptr, nullptr, 1, CFT_F32, CFT_U8};
  report(d->kernels->cast(d, nullptr, &u8) == CFT_E_UNSUPPORTED, "device: a cast from u8");
  const cft_softmax_args f64 = {nullptr, nullptr, 1, 1, CFT_F64};
  st = d->kernels->softmax_fwd(d, nullptr, &f64);
  report(
      st == CFT_E_UNSUPPORTED && strstr(cft_last_error(), "no cuda kernel for softmax_fwd in f64"),
      "device: f64 is the CPU's alone", cft_last_error());

  if (the_world.set_module_bytes) launches_without_room(d);
  limited();

  // What a step is made of, but for the loss: nothing of it waits for the device.
  if (the_world.waits) {
    const uint64_t waits = the_world.waits();
    st = d->alloc(d, &p, 4096, CFT_MEM_OTHER);
    const std::vector<char> ids(4096, 1);
    for (int i = 0; i < 40 && !st; i++) {  // more than there are staging slots
      st = d->upload(d, nullptr, p, ids.data(), ids.size());
      const cft_unary_args u = {p, p, 1024, CFT_NEG, 1, 0, CFT_F32};
      if (!st) st = d->kernels->unary(d, nullptr, &u);
    }
    d->free(d, p, 4096, CFT_MEM_OTHER);
    report(!st && the_world.waits() == waits, "device: uploads, kernels, memory: without a wait");
    d->sync(d);
  }
}
