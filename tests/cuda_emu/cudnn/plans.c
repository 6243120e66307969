// plans.c - does cuDNN take our attention graphs on an H100 and an H200? Asked without either:
//   cuda_plans [quick] DEVICE.json ...
//   cuda_plans card      on a machine with a GPU: what cuDNN knows of it, as such a file
// A plan is finalised for every attention shape of the supported models, kernels compiled by NVRTC
// included, written down as text and made again from it. A test of structure: what the kernels
// compute, only a card shows. A shape that cuDNN declines fails, unless it is listed as ours.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cudnn_graph.h"

typedef struct model {
  const char *name;
  int64_t heads, kv_heads, dim;
} model;

// One line a different (H, K, D); models that share it share its plans.
static const model models[] = {
    {"Qwen2.5-0.5B", 14, 2, 64}, {"Qwen2.5-1.5B", 12, 2, 128}, {"Qwen2.5-7B", 28, 4, 128},
    {"Llama-3.2-1B", 32, 8, 64}, {"Llama-3.2-3B", 24, 8, 128}, {"SmolLM2-135M", 9, 3, 64},
    {"SmolLM2-360M", 15, 5, 64}, {"SmolLM2-1.7B", 32, 32, 64}, {"DeepSeek-Math-7B", 32, 32, 128},
};

typedef struct layout {
  const char *name;
  int64_t sequences, longest_q, longest_k;
  cudnn_mask mask;
  bool deterministic, quick;
} layout;

// Buckets as attention.cu makes them: powers of two.
static const layout layouts[] = {
    {"packed 4k", 16, 4096, 4096, CUDNN_FROM_FIRST, false, true},
    {"packed 1k", 4, 1024, 1024, CUDNN_FROM_FIRST, false, false},
    {"packed 64 sequences", 64, 512, 512, CUDNN_FROM_FIRST, false, false},
    {"last rows", 16, 1024, 4096, CUDNN_FROM_LAST, false, false},
    {"deterministic", 1, 2048, 2048, CUDNN_FROM_FIRST, true, false},
    {"deterministic, last rows", 1, 512, 2048, CUDNN_FROM_LAST, true, false},
};

static cudnn_shape shape_of(const model *m, const layout *l, bool backward) {
  const int64_t qkv = (m->heads + 2 * m->kv_heads) * m->dim, o = m->heads * m->dim;
  return (cudnn_shape){.sequences = l->sequences,
                       .longest_q = l->longest_q,
                       .longest_k = l->longest_k,
                       .heads = m->heads,
                       .kv_heads = m->kv_heads,
                       .dim = m->dim,
                       .q_stride = qkv,  // views of one buffer, as the qkv matmul leaves it
                       .k_stride = qkv,
                       .v_stride = qkv,
                       .o_stride = o,
                       .do_stride = o,
                       .dq_stride = qkv,
                       .mask = l->mask,
                       .backward = backward,
                       .deterministic = backward && l->deterministic};
}

static char *read_all(const char *path) {
  FILE *f = fopen(path, "rb");
  char *s = f ? calloc(1, 65536) : NULL;
  if (s && !fread(s, 1, 65535, f)) {
    free(s);
    s = NULL;
  }
  if (f) fclose(f);
  return s;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int check(const cudnn_calls *calls, cudnnBackendDescriptor_t device, const char *gpu,
                 const model *m, const layout *l, bool backward) {
  const cudnn_shape s = shape_of(m, l, backward);
  cudnn_plan made, loaded;
  char *text = NULL;
  const double start = now_ms();
  cudnnStatus_t st = cudnn_plan_new(&made, calls, &s, NULL, device);
  const double ms = now_ms() - start;
  const char *why = made.why;
  bool ok = !st && made.plan;
  if (ok) {
    text = cudnn_plan_text(&made);
    ok = text && !cudnn_plan_load(&loaded, calls, &s, NULL, device, text) &&
         loaded.workspace == made.workspace;
    why = !text ? "the plan cannot be written down" : loaded.why;
    if (text) cudnn_plan_free(&loaded);
  }
  printf("%s  %s %s, %s, %s: ", ok ? "ok  " : "FAIL", gpu, m->name, l->name,
         backward ? "backward" : "forward");
  if (ok)
    printf("workspace %.1f MB, %zu kB of text, %.0f ms\n", (double)made.workspace / 1e6,
           strlen(text) / 1000, ms);
  else
    printf("%s\n", why);
  free(text);
  cudnn_plan_free(&made);
  return !ok;
}

typedef struct tally {
  int passed, failed;
} tally;

static tally check_card(const cudnn_calls *calls, const char *path, bool quick) {
  tally sum = {0, 0};
  cudnnBackendDescriptor_t device = NULL;
  char *json = read_all(path), why[256] = "cannot be read";
  if (!json || cudnn_device(calls, json, &device)) {
    if (json) calls->cudnnGetLastErrorString(why, sizeof why);
    printf("FAIL  %s: %s\n", path, why);
    free(json);
    return (tally){0, 1};
  }
  const char *slash = strrchr(path, '/');
  char gpu[64];
  snprintf(gpu, sizeof gpu, "%s", slash ? slash + 1 : path);
  gpu[strcspn(gpu, ".")] = 0;
  for (size_t m = 0; m < sizeof models / sizeof *models; m++)
    for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++)
      for (int backward = layouts[l].deterministic; backward < 2; backward++)
        if (!quick || layouts[l].quick)
          *(check(calls, device, gpu, &models[m], &layouts[l], backward) ? &sum.failed
                                                                         : &sum.passed) += 1;
  calls->cudnnBackendDestroyDescriptor(device);
  free(json);
  return sum;
}

// The card that is here, as cuDNN describes it: what a file of devices/ should say.
static int print_card(const cudnn_calls *calls) {
  cudnnBackendDescriptor_t device = NULL;
  const int32_t id = 0;
  int64_t n = 0;
  char text[65536] = "";
  cudnnStatus_t st =
      calls->cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &device);
  if (!st)
    st = calls->cudnnBackendSetAttribute(device, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32,
                                         1, &id);
  if (!st) st = calls->cudnnBackendFinalize(device);
  if (!st)
    st = calls->cudnnBackendGetAttribute(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                         CUDNN_TYPE_CHAR, sizeof text - 1, &n, text);
  puts(st ? calls->cudnnGetErrorString(st) : text);
  return st != 0;
}

int main(int argc, char **argv) {
  const bool quick = argc > 1 && !strcmp(argv[1], "quick");
  void *library = dlopen("libcudnn.so.9", RTLD_NOW);
  if (!library) {
    printf("skip  cuDNN's plans: %s\n0 passed, 0 failed, 1 skipped\n", dlerror());
    return 0;
  }
  cudnn_calls calls;
#define XX(type, name, arguments)                         \
  if (!(*(void **)&calls.name = dlsym(library, #name))) { \
    printf("FAIL  cuDNN has no %s\n", #name);             \
    return 1;                                             \
  }
  CUDNN_CALLS(XX)
#undef XX
  if (argc == 2 && !strcmp(argv[1], "card")) return print_card(&calls);
  printf("cuDNN %zu\n", calls.cudnnGetVersion());
  if (calls.cudnnGetVersion() < CUDNN_OLDEST) {
    printf("skip  older than %d: not used\n0 passed, 0 failed, 1 skipped\n", CUDNN_OLDEST);
    return 0;
  }
  tally sum = {0, 0};
  int results[2];
  if (pipe(results)) return 2;
  fflush(stdout);
  for (int a = 1 + quick; a < argc; a++) {  // a process a card: compiling is all the work
    if (fork() != 0) continue;
    const tally one = check_card(&calls, argv[a], quick);
    fflush(stdout);
    _exit(write(results[1], &one, sizeof one) != sizeof one);
  }
  close(results[1]);
  int heard = 0;
  for (tally one; read(results[0], &one, sizeof one) == sizeof one; heard++) {
    sum.passed += one.passed;
    sum.failed += one.failed;
  }
  sum.failed += argc - 1 - quick - heard;  // a process that crashed
  printf("%d passed, %d failed, 0 skipped\n", sum.passed, sum.failed);
  return sum.failed != 0;
}
