// cudnn_graph.h - causal, grouped-query attention over packed sequences with cuDNN's graph API, in
// plain C.
//
//   q, o, dq, do   rows of (H, D) bf16      k, v, dk, dv   rows of (K, D) bf16      lse  (T, H) f32
//
// Rows hold up to B sequences end to end; a sequence is where its offsets say and as long as its
// lengths say. A plan is built once for a shape and run with any lengths that fit: unused sequences
// have length 0. Building needs no GPU if the card is described in JSON, so that CI can ask whether
// cuDNN takes our graphs. Engines match patterns: keep the graphs as they are, operation by
// operation.
#ifndef CFT_CUDNN_GRAPH_H
#define CFT_CUDNN_GRAPH_H

#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What is called of libcudnn, which is opened at run time.
#define CUDNN_CALLS(XX)                                                                            \
  XX(size_t, cudnnGetVersion, (void))                                                              \
  XX(const char *, cudnnGetErrorString, (cudnnStatus_t))                                           \
  XX(void, cudnnGetLastErrorString, (char *, size_t))                                              \
  XX(cudnnStatus_t, cudnnCreate, (cudnnHandle_t *))                                                \
  XX(cudnnStatus_t, cudnnDestroy, (cudnnHandle_t))                                                 \
  XX(cudnnStatus_t, cudnnSetStream, (cudnnHandle_t, cudaStream_t))                                 \
  XX(cudnnStatus_t, cudnnBackendCreateDescriptor,                                                  \
     (cudnnBackendDescriptorType_t, cudnnBackendDescriptor_t *))                                   \
  XX(cudnnStatus_t, cudnnBackendDestroyDescriptor, (cudnnBackendDescriptor_t))                     \
  XX(cudnnStatus_t, cudnnBackendFinalize, (cudnnBackendDescriptor_t))                              \
  XX(cudnnStatus_t, cudnnBackendSetAttribute,                                                      \
     (cudnnBackendDescriptor_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, int64_t, \
      const void *))                                                                               \
  XX(cudnnStatus_t, cudnnBackendGetAttribute,                                                      \
     (cudnnBackendDescriptor_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, int64_t, \
      int64_t *, void *))                                                                          \
  XX(cudnnStatus_t, cudnnBackendExecute,                                                           \
     (cudnnHandle_t, cudnnBackendDescriptor_t, cudnnBackendDescriptor_t))

typedef struct cudnn_calls {
#define XX(type, name, arguments) type(*name) arguments;
  CUDNN_CALLS(XX)
#undef XX
} cudnn_calls;

enum { CUDNN_OLDEST = 91501 };  // before it: wild reads, wrong lengths, no packing with groups

typedef enum cudnn_mask {
  CUDNN_WHOLE,       // every query sees all keys of its sequence
  CUDNN_FROM_FIRST,  // query i sees keys 0 .. i
  CUDNN_FROM_LAST,   // queries are a sequence's last rows
} cudnn_mask;

typedef struct cudnn_shape {
  int64_t sequences;                               // B, at most
  int64_t longest_q, longest_k;                    // rows of the longest sequence, at most
  int64_t heads, kv_heads, dim;                    // H, K (divides H), D
  int64_t q_stride, k_stride, v_stride, o_stride;  // elements from row to row
  int64_t do_stride, dq_stride;                    // backward; dk and dv have rows of K * D
  cudnn_mask mask;
  bool backward;
  bool deterministic;  // backward gives equal bits twice; costs B * H * longest^2 * 2 bytes
} cudnn_shape;

// What a plan reads and writes. Pointers to device memory, but for the last three, which are floats
// on the host and filled in by cudnn_run.
// clang-format off
enum cudnn_name {
  CUDNN_Q = 1, CUDNN_K, CUDNN_V, CUDNN_O, CUDNN_LSE,
  CUDNN_DO, CUDNN_DQ, CUDNN_DK, CUDNN_DV,
  CUDNN_LEN_Q, CUDNN_LEN_K,  // i32 (B): lengths
  // i32 (B + 1): the first element of each sequence, so its first row times the stride
  CUDNN_AT_Q, CUDNN_AT_K, CUDNN_AT_V, CUDNN_AT_O, CUDNN_AT_LSE,  // lse: times H
  CUDNN_AT_DO, CUDNN_AT_DQ, CUDNN_AT_DK, CUDNN_AT_SUM,           // dk: times K * D; sum: H * D
  CUDNN_DQ_SUM,                    // f32 (Tq, H, D) scratch, where not deterministic
  CUDNN_DK_HEADS, CUDNN_DV_HEADS,  // bf16 (Tk, H, D) scratch, where H > K
  CUDNN_DELTA,                     // f32 (Tq, H) scratch
  CUDNN_SCALE, CUDNN_MASKED, CUDNN_ONE,
  CUDNN_NAMES
};
// clang-format on

typedef struct cudnn_plan {
  const cudnn_calls *calls;
  cudnnBackendDescriptor_t owned[256];
  int count;
  cudnnBackendDescriptor_t plan;  // NULL when no engine took the graph
  bool uses[CUDNN_NAMES];         // which pointers cudnn_run wants
  int64_t workspace;              // bytes that cuDNN wants besides
  cudnnStatus_t status;           // the first failure, and where
  char why[400];
} cudnn_plan;

// Builds a plan for the current GPU (device NULL) or for a described one (handle NULL). After a
// failure too the plan is to be freed.
cudnnStatus_t cudnn_plan_new(cudnn_plan *p, const cudnn_calls *calls, const cudnn_shape *s,
                             cudnnHandle_t handle, cudnnBackendDescriptor_t device);

// Makes again a plan that cudnn_plan_text wrote, for the same shape, version and kind of card.
cudnnStatus_t cudnn_plan_load(cudnn_plan *p, const cudnn_calls *calls, const cudnn_shape *s,
                              cudnnHandle_t handle, cudnnBackendDescriptor_t device,
                              const char *text);

// The plan, kernel included, as about 100 to 200 kB of JSON; NULL on failure. The caller frees it.
char *cudnn_plan_text(cudnn_plan *p);

void cudnn_plan_free(cudnn_plan *p);

// Bytes of scratch that the caller provides under a name, 0 for any other: tq query and tk key
// rows.
int64_t cudnn_scratch(const cudnn_shape *s, enum cudnn_name name, int64_t tq, int64_t tk);

// Runs it. at[name] is the pointer for each used name.
cudnnStatus_t cudnn_run(cudnn_plan *p, cudnnHandle_t handle, void *const at[CUDNN_NAMES],
                        void *workspace, float scale);

// A GPU described by JSON instead of a driver.
cudnnStatus_t cudnn_device(const cudnn_calls *calls, const char *json,
                           cudnnBackendDescriptor_t *device);

#ifdef __cplusplus
}
#endif
#endif
