// moments.cpp - moments of the stream, by which a trace learns how long work took: an event each,
// made when it is first wanted and used again.
#include <new>
#include <vector>

#include "host.h"

struct cuda_moments {
  std::vector<cudaEvent_t> events;
};

cft_status cuda_moment(cft_device *d, cft_stream *s, int64_t i) {
  const queue q(d, s, "trace");
  if (!q.device->moments) q.device->moments = new (std::nothrow) cuda_moments{};
  if (!q.device->moments) return cft_fail(CFT_E_OOM, "%s: no memory for events", d->name);
  auto &events = q.device->moments->events;
  if (i < 0 || i > (int64_t)events.size())
    return cft_fail(CFT_E_ARG, "%s: moment %lld; %zu are there", d->name, (long long)i,
                    events.size());
  if (i == (int64_t)events.size()) {
    cudaEvent_t made;
    CFT_TRY(q.check(cudaEventCreate(&made)));
    events.push_back(made);
  }
  return q.check(cudaEventRecord(events[(size_t)i], q.stream));
}

cft_status cuda_moment_at(cft_device *d, int64_t i, double *seconds) {
  const queue q(d, nullptr, "trace");
  const int64_t noted = q.device->moments ? (int64_t)q.device->moments->events.size() : 0;
  if (i < 0 || i >= noted)
    return cft_fail(CFT_E_ARG, "%s: moment %lld; %lld are there", d->name, (long long)i,
                    (long long)noted);
  const auto &events = q.device->moments->events;
  float ms = 0;
  CFT_TRY(q.check(cudaEventElapsedTime(&ms, events[0], events[(size_t)i])));
  *seconds = 1e-3 * (double)ms;
  return CFT_OK;
}

void cuda_moments_close(cuda_moments *m) {
  if (!m) return;
  for (cudaEvent_t e : m->events) cudaEventDestroy(e);
  delete m;
}
