// heartbeat_stall.c - a rank that lives and never comes to a collective: the others wait for it.
//
// A rank that computes for long looks the same, so that only time tells them apart: how long the
// others have waited, or how long that rank has done what it does, whichever is less. Ranks say
// what they do for each micro-batch and each hook of a step, so that what is long is made of
// short parts.
#include <stdio.h>
#include <stdlib.h>

#include "comm/heartbeat_impl.h"

typedef struct stall {
  int rank;        // who is waited for
  double seconds;  // for how long, at least
  bool together;   // all are in the same collective, and none comes out of it
  bool saves;      // it waits for a disk, as long as that takes
} stall;

// Who is waited for: of the ranks that have begun the fewest collectives the one that has done
// nothing new for longest.
static int last_to_come(const cft_heartbeat *h) {
  int last = 0;
  for (int r = 1; r < h->how.size; ++r) {
    int64_t calls = h->last[r].calls, fewest = h->last[last].calls;
    if (calls < fewest || (calls == fewest && cft_beat_since(h, r) > cft_beat_since(h, last)))
      last = r;
  }
  return last;
}

// Below the lock.
static stall find(const cft_heartbeat *h) {
  stall s = {.rank = last_to_come(h), .together = true};
  const message *its = &h->last[s.rank];
  s.saves = its->state == CFT_RANK_SAVES;
  double waited = 0, shortest = cft_beat_since(h, s.rank);
  for (int r = 0; r < h->how.size; ++r) {
    const message *m = &h->last[r];
    double since = cft_beat_since(h, r);
    bool waits = m->magic == MAGIC && m->state == CFT_RANK_WAITS;
    if (!waits || m->calls != its->calls) s.together = false;
    if (waits && m->calls > its->calls && since > waited) waited = since;
    if (since < shortest) shortest = since;
  }
  double own = cft_beat_since(h, s.rank);
  s.seconds = s.together ? shortest : waited < own ? waited : own;
  return s;
}

static void warn(cft_heartbeat *h, const stall *s) {
  pthread_mutex_lock(&h->lock);
  char *text = malloc((size_t)(h->how.size + 1) * LINE);
  if (text) cft_beat_lines(text, h, -1);
  pthread_mutex_unlock(&h->lock);
  char end[64] = "";
  if (h->how.stall_s > 0 && !s->saves)
    snprintf(end, sizeof end, "; after %.3g s all will end", h->how.stall_s);
  if (s->together)
    fprintf(stderr, "\ncftrun: for %.3g s no rank has come out of a collective%s\n%s", s->seconds,
            end, text ? text : "");
  else
    fprintf(stderr, "\ncftrun: the ranks have waited %.3g s for rank %d%s\n%s", s->seconds, s->rank,
            end, text ? text : "");
  free(text);
}

void cft_beat_look_for_stalls(cft_heartbeat *h) {
  if (!(h->how.warn_s > 0) || cft_heartbeat_lost(h) >= 0) return;
  pthread_mutex_lock(&h->lock);
  stall s = find(h);
  char reason[96], doing[sizeof h->last->doing];
  snprintf(doing, sizeof doing, "%s", h->last[s.rank].doing);
  pthread_mutex_unlock(&h->lock);
  if (s.seconds < h->how.warn_s) h->warned = 0;
  if (s.seconds >= (h->warned > 0 ? 2 * h->warned : h->how.warn_s)) {
    h->warned = s.seconds;
    warn(h, &s);
  }
  if (!(h->how.stall_s > 0) || s.seconds < h->how.stall_s || s.saves) return;
  snprintf(reason, sizeof reason,
           s.together ? "like all, it does not come out of %s in %.3g s"
                      : "it is at '%s', and the others waited %.3g s",
           doing, s.seconds);
  cft_beat_lose(h, s.rank, reason);
}
