// graph.cpp - work that comes again and again, recorded as a CUDA graph: one call of the host queues
// all its kernels. What that is for is a token of a small model, whose launches take the host longer
// than they take the GPU.
//
// A graph has the addresses of its recording, so memory that is taken meanwhile must stay where it
// is. It comes from one stretch, laid out by a rehearsal of the same work. All graphs share it: they
// follow each other in one stream, and what one leaves there is read before the next is launched.
#include <algorithm>
#include <map>
#include <new>
#include <vector>

#include "host.h"

struct cft_graph {
  cudaGraphExec_t exec;
};

// Where blocks of a stretch of memory begin, and their bytes. Each is put into the first gap that
// takes it.
struct places {
  std::map<size_t, size_t> taken;
  size_t end = 0;  // of the highest that there was

  size_t take(size_t bytes) {
    bytes = (bytes + 255) / 256 * 256;
    size_t at = 0;
    for (const auto &block : taken) {
      if (block.first - at >= bytes) break;
      at = block.first + block.second;
    }
    taken[at] = bytes;
    end = std::max(end, at + bytes);
    return at;
  }
};

struct stretch {
  char *begin;
  size_t bytes;
};

struct freed_block {
  void *p;
  size_t bytes;
  cft_memory_class why;
};

struct cuda_graphs {
  enum { IDLE, REHEARSAL, RECORDING } state;
  places now;
  std::map<void *, size_t> rehearsed;  // a block of the device's own memory → its place in a recording
  size_t wanted;                       // by the largest rehearsal
  std::vector<stretch> memory;         // the last is the largest; others are of graphs that were made before
  std::vector<freed_block> late;       // of the device's own memory, freed while a recording was on
  std::string refused;                 // why the recording makes no graph
  int alive;
};

bool cuda_recording(const cuda_device *d) {
  return d->graphs && d->graphs->state == cuda_graphs::RECORDING;
}

cft_status cuda_not_recording(const queue &q) {
  if (!cuda_recording(q.device)) return CFT_OK;
  cuda_graphs *g = q.device->graphs;
  if (g->refused.empty()) g->refused = std::string(q.op) + " while a graph is recorded";
  return cft_fail(CFT_E_STATE, "%s: %s", q.device->name, g->refused.c_str());
}

// ---- memory --------------------------------------------------------------------------------

cft_status cuda_graph_take(cuda_device *d, void **p, size_t bytes) {
  cuda_graphs *g = d->graphs;
  const stretch &memory = g->memory.back();
  const size_t at = g->now.take(bytes);
  if (g->now.end > memory.bytes) {
    if (g->refused.empty()) g->refused = "it takes more memory than its rehearsal";
    return cft_fail(CFT_E_STATE, "%s: a graph is recorded, and %s", d->name, g->refused.c_str());
  }
  *p = memory.begin + at;
  return CFT_OK;
}

void cuda_graph_noted(cuda_device *d, void *p, size_t bytes) {
  cuda_graphs *g = d->graphs;
  if (g && g->state == cuda_graphs::REHEARSAL) g->rehearsed[p] = g->now.take(bytes);
}

static bool is_in(const stretch &memory, const void *p) {
  return (const char *)p >= memory.begin && (const char *)p < memory.begin + memory.bytes;
}

bool cuda_graph_freed(cuda_device *d, void *p, size_t bytes, cft_memory_class why) {
  cuda_graphs *g = d->graphs;
  if (!g) return false;
  const bool recording = g->state == cuda_graphs::RECORDING;
  for (const stretch &memory : g->memory)
    if (is_in(memory, p)) {
      if (recording && &memory == &g->memory.back()) g->now.taken.erase((size_t)((char *)p - memory.begin));
      return true;
    }
  if (recording) g->late.push_back({p, bytes, why});
  const auto found = g->state == cuda_graphs::REHEARSAL ? g->rehearsed.find(p) : g->rehearsed.end();
  if (found != g->rehearsed.end()) {
    g->now.taken.erase(found->second);
    g->rehearsed.erase(found);
  }
  return recording;
}

// A stretch that the largest rehearsal fits into. Where one is too small the next is twice as large,
// so all together are at most four times what is wanted; those that graphs have stay.
static cft_status make_room(cuda_device *d, cuda_graphs *g) {
  const size_t last = g->memory.empty() ? 0 : g->memory.back().bytes;
  if (last > 0 && last >= g->wanted) return CFT_OK;
  const size_t bytes = std::max<size_t>({g->wanted, 2 * last, 256});
  void *p;
  CFT_TRY(d->alloc(d, &p, bytes, CFT_MEM_WORKSPACE));
  g->memory.push_back({(char *)p, bytes});
  return CFT_OK;
}

static void give_back(cuda_device *d, cuda_graphs *g) {
  std::vector<stretch> memory;
  memory.swap(g->memory);  // from here on it is the device's
  for (const stretch &s : memory) d->free(d, s.begin, s.bytes, CFT_MEM_WORKSPACE);
}

// ---- recording -----------------------------------------------------------------------------

static cft_status told(cft_status st) {
  if (st != CFT_OK) cft_note("a step is not recorded as a graph: %s", cft_last_error());
  return st;
}

cft_status cuda_graph_begin(cft_device *device, int record) {
  const queue q(device, nullptr, "graph");
  cuda_device *d = q.device;
  if (!d->graphs) d->graphs = new (std::nothrow) cuda_graphs{};
  cuda_graphs *g = d->graphs;
  if (!g) return cft_fail(CFT_E_OOM, "%s: no memory for graphs", d->name);
  if (g->state != cuda_graphs::IDLE)
    return cft_fail(CFT_E_STATE, "%s: a graph is being recorded or rehearsed already", d->name);
  g->now = {};
  g->refused.clear();
  if (record) {
    CFT_TRY(told(make_room(d, g)));
    // Other threads may go on with what a recording must not do.
    CFT_TRY(told(q.check(cudaStreamBeginCapture(q.stream, cudaStreamCaptureModeThreadLocal))));
  }
  g->state = record ? cuda_graphs::RECORDING : cuda_graphs::REHEARSAL;
  return CFT_OK;
}

static cft_status make_graph(const queue &q, cft_graph **made) {
  cudaGraph_t graph = nullptr;
  cft_status st = q.check(cudaStreamEndCapture(q.stream, &graph));
  if (st != CFT_OK) return st;
  cft_graph *g = new (std::nothrow) cft_graph{};
  st = g ? q.check(cudaGraphInstantiate(&g->exec, graph, 0))
         : cft_fail(CFT_E_OOM, "%s: no memory for a graph", q.device->name);
  cudaGraphDestroy(graph);
  if (st == CFT_OK)
    *made = g;
  else
    delete g;
  return st;
}

cft_status cuda_graph_end(cft_device *device, cft_graph **made) {
  const queue q(device, nullptr, "graph");
  cuda_graphs *g = q.device->graphs;
  *made = nullptr;
  if (!g || g->state == cuda_graphs::IDLE)
    return cft_fail(CFT_E_STATE, "%s: no graph is being recorded or rehearsed", device->name);
  const bool recording = g->state == cuda_graphs::RECORDING;
  cft_status st = recording ? make_graph(q, made) : CFT_OK;
  g->state = cuda_graphs::IDLE;
  g->rehearsed.clear();
  if (!recording) {
    g->wanted = std::max(g->wanted, g->now.end);
    return CFT_OK;
  }
  g->alive += *made != nullptr;
  if (!g->refused.empty()) {
    if (*made) {  // its memory stays, for what was made meanwhile and is still to be freed
      cudaGraphExecDestroy((*made)->exec);
      delete *made;
      g->alive--;
    }
    *made = nullptr;
    st = cft_fail(CFT_E_STATE, "%s: %s", device->name, g->refused.c_str());
  }
  for (const freed_block &b : g->late) device->free(device, b.p, b.bytes, b.why);
  g->late.clear();
  return told(st);
}

cft_status cuda_graph_launch(cft_device *d, cft_graph *g) {
  const queue q(d, nullptr, "graph");
  CFT_TRY(cuda_not_recording(q));
  return q.check(cudaGraphLaunch(g->exec, q.stream));
}

void cuda_graph_free(cft_device *device, cft_graph *g) {
  const queue q(device, nullptr, "graph");
  cuda_graphs *all = q.device->graphs;
  if (!all) return;
  if (g) {
    if (cudaGraphExecDestroy(g->exec) != cudaSuccess) cudaGetLastError();
    delete g;
    all->alive--;
  }
  if (all->alive == 0) give_back(q.device, all);
}

void cuda_graphs_close(cuda_device *d) {
  if (!d->graphs) return;
  give_back(d, d->graphs);
  delete d->graphs;
  d->graphs = nullptr;
}
