// gloo.cpp - collectives by Gloo, between processes that no MPI has started.
//
// Each rank listens at a port for each other one; what these are the ranks tell each other by the
// meeting that they have when this starts. Gloo's calls sleep while they wait. Sums go around the
// ring of ranks, in the same order each time.
#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
#include "collectives.h"
}

namespace {

enum { FAILED = 1 };

// Never destroyed but by `finish`: a process that leaves at once may have a thread in a call.
std::shared_ptr<gloo::Context> *context;
std::string *why = new std::string;

// No exception leaves this module.
template <class F>
int guarded(F call) {
  try {
    call();
    return 0;
  } catch (const std::exception &e) {
    *why = e.what();
  } catch (...) {
    *why = "an error without a name";
  }
  return FAILED;
}

// What Gloo calls a store: each rank sets its host's name and its addresses, and gets those of the
// others. All set as often, so that each time the ranks meet, and all get all.
class Addresses : public gloo::rendezvous::Store {
 public:
  explicit Addresses(const cft_meeting &m) : meeting(m) {}

  void set(const std::string &key, const std::vector<char> &value) override {
    const std::string own = key + '\0' + std::string(value.begin(), value.end());
    const size_t bytes = own.size(), ranks = (size_t)meeting.size;
    std::vector<size_t> lengths(ranks);
    gather(&bytes, sizeof bytes, lengths.data());
    const size_t longest = *std::max_element(lengths.begin(), lengths.end());
    std::vector<char> padded(longest), all(longest * ranks);
    std::copy(own.begin(), own.end(), padded.begin());
    gather(padded.data(), longest, all.data());
    for (size_t r = 0; r < ranks; ++r) {
      const char *from = all.data() + r * longest;
      const size_t name = strnlen(from, lengths[r]);
      if (name < lengths[r])
        values[std::string(from, name)].assign(from + name + 1, from + lengths[r]);
    }
  }
  std::vector<char> get(const std::string &key) override { return values.at(key); }
  void wait(const std::vector<std::string> &) override {}  // all came with set
  void wait(const std::vector<std::string> &, const std::chrono::milliseconds &) override {}

 private:
  void gather(const void *own, size_t bytes, void *all) {
    if (meeting.gather(meeting.with, own, bytes, all) != CFT_OK)
      throw std::runtime_error(cft_last_error());
  }

  const cft_meeting &meeting;
  std::map<std::string, std::vector<char>> values;
};

int start(const cft_meeting *meeting, double timeout_s, int *rank, int *size) {
  return guarded([&] {
    gloo::transport::tcp::attr at(meeting->address);
    auto device = gloo::transport::tcp::CreateDevice(at);
    auto mesh = std::make_shared<gloo::rendezvous::Context>(meeting->rank, meeting->size);
    mesh->setTimeout(std::chrono::seconds(60));  // all are here, and are to connect
    Addresses addresses(*meeting);
    mesh->connectFullMesh(addresses, device);
    const int64_t longest = 1000000000;  // the nanoseconds of more seconds do not fit
    mesh->setTimeout(std::chrono::seconds(std::min((int64_t)timeout_s + 1, longest)));
    context = new std::shared_ptr<gloo::Context>(mesh);
    *rank = meeting->rank;
    *size = meeting->size;
  });
}

int finish() {
  return guarded([] {
    gloo::BarrierOptions options(*context);
    gloo::barrier(options);
    delete context;
    context = nullptr;
  });
}

void text(int, char *to, size_t bytes) { snprintf(to, bytes, "%s", why->c_str()); }

int arrive() { return 0; }
int arrived(int *done) {
  *done = 1;
  return 0;
}

template <class T>
int sum_of(T *to, T *from, int n) {
  return guarded([&] {
    gloo::AllreduceOptions options(*context);
    if (from != to) options.setInput(from, (size_t)n);
    options.setOutput(to, (size_t)n);
    options.setAlgorithm(gloo::AllreduceOptions::Algorithm::RING);
    options.setReduceFunction(
        [](void *c, const void *a, const void *b, size_t m) { gloo::sum<T>(c, a, b, m); });
    gloo::allreduce(options);
  });
}

int sum_to(void *to, void *from, int n, cft_dtype dtype) {
  switch (dtype) {
    case CFT_F32: return sum_of((float *)to, (float *)from, n);
    case CFT_F64: return sum_of((double *)to, (double *)from, n);
    default: return sum_of((int32_t *)to, (int32_t *)from, n);
  }
}

int sum(void *x, int n, cft_dtype dtype) { return sum_to(x, x, n, dtype); }

// Gloo has no reduce-scatter over one buffer: all of the sum comes, and this rank's row is taken.
int sum_part(void *part, const void *x, int n, cft_dtype dtype) {
  const size_t row = (size_t)n * cft_dtype_bytes(dtype);
  static std::vector<char> *whole = new std::vector<char>;
  whole->resize(row * (size_t)(*context)->size);
  const int failed = sum_to(whole->data(), const_cast<void *>(x), n * (*context)->size, dtype);
  if (!failed) memcpy(part, whole->data() + row * (size_t)(*context)->rank, row);
  return failed;
}

int gather(void *x, const void *part, int bytes) {
  return guarded([&] {
    gloo::AllgatherOptions options(*context);
    options.setInput((char *)const_cast<void *>(part), (size_t)bytes);
    options.setOutput((char *)x, (size_t)bytes * (size_t)(*context)->size);
    gloo::allgather(options);
  });
}

int broadcast(void *x, int bytes, int from) {
  return guarded([&] {
    gloo::BroadcastOptions options(*context);
    options.setOutput((char *)x, (size_t)bytes);
    options.setRoot(from);
    gloo::broadcast(options);
  });
}

}  // namespace

extern "C" CFT_API const cft_collectives cft_gloo_table;
const cft_collectives cft_gloo_table = {start, finish,   text,   arrive,   arrived,
                                        sum,   sum_part, gather, broadcast};
