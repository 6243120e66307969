// heartbeat.c - the ranks of a run hear of each other: joining, leaving, and what a program asks.
//
// All messages have one form and one size. What the program and the thread share is below one lock.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/heartbeat_impl.h"
#include "comm/socket.h"

// ---- beginning and end --------------------------------------------------------------------------

static void free_all(cft_heartbeat *h) {
  for (int r = 0; h->peers && r < h->how.size; ++r) cft_beat_shut(&h->peers[r]);
  for (int i = 0; i < STRANGERS; ++i) cft_beat_shut(&h->strangers[i]);
  if (h->listener >= 0) close(h->listener);
  if (h->wake >= 0) close(h->wake);
  pthread_mutex_destroy(&h->lock);
  free(h->peers);
  free(h->last);
  free(h->heard);
  free(h->began);
  free(h->table);
  free(h);
}

static cft_status begin(cft_heartbeat **out, const cft_heartbeat_how *how, bool first) {
  if (how->size < 1 || how->rank < 0 || how->rank >= how->size || (how->rank == 0) != first)
    return cft_fail(CFT_E_ARG, "heartbeat: rank %d of %d", how->rank, how->size);
  if (!(how->patience_s > 0) || !(how->grace_s > 0))
    return cft_fail(CFT_E_ARG, "heartbeat: patience %g, grace %g; seconds above 0 wanted",
                    how->patience_s, how->grace_s);
  cft_heartbeat *h = calloc(1, sizeof *h);
  if (!h) return cft_fail(CFT_E_OOM, "heartbeat: out of memory");
  *h = (cft_heartbeat){.how = *how, .listener = -1, .wake = -1, .lost = -1};
  pthread_mutex_init(&h->lock, NULL);
  for (int i = 0; i < STRANGERS; ++i) h->strangers[i].fd = -1;
  size_t n = (size_t)how->size;
  h->peers = calloc(n, sizeof *h->peers);
  h->last = calloc(n, sizeof *h->last);
  h->heard = calloc(n, sizeof *h->heard);
  h->began = calloc(n, sizeof *h->began);
  h->wake = eventfd(0, EFD_CLOEXEC);
  if (!h->peers || !h->last || !h->heard || !h->began || h->wake < 0) {
    free_all(h);
    return cft_fail(CFT_E_OOM, "heartbeat: out of memory for %d ranks", how->size);
  }
  for (int r = 0; r < how->size; ++r) h->peers[r] = (peer){.fd = -1, .heard = cft_now() + COMING_S};
  message *m = &h->last[how->rank];
  *m = (message){.magic = MAGIC, .rank = how->rank, .pid = (int32_t)getpid()};
  gethostname(m->host, sizeof m->host - 1);
  h->began[how->rank] = cft_now();
  *out = h;
  return CFT_OK;
}

static cft_status start(cft_heartbeat **out, cft_heartbeat *h) {
  if (pthread_create(&h->thread, NULL, cft_beat_thread, h) != 0) {
    free_all(h);
    return cft_fail(CFT_E_OOM, "heartbeat: no thread can be started");
  }
  *out = h;
  return CFT_OK;
}

cft_status cft_heartbeat_listen(cft_heartbeat **out, cft_heartbeat_place *place,
                                const cft_heartbeat_how *how) {
  cft_heartbeat *h;
  CFT_TRY(begin(&h, how, true));
  *place = (cft_heartbeat_place){0};
  cft_own_addresses(place->addresses, sizeof place->addresses);
  cft_status st = cft_listen(&h->listener, &place->port);
  if (st == CFT_OK &&
      getrandom(place->secret, sizeof place->secret, 0) != (ssize_t)sizeof place->secret)
    st = cft_fail(CFT_E_IO, "heartbeat: no random bytes: %s", strerror(errno));
  if (st != CFT_OK) {
    free_all(h);
    return st;
  }
  memcpy(h->secret, place->secret, sizeof h->secret);
  return start(out, h);
}

// Show the secret to whoever is there, and wait for rank 0's answer: another program, or the rank 0
// of another run, sends none.
static bool meets_rank_0(cft_heartbeat *h, int fd, double until) {
  message hello = cft_beat_own(h, HELLO), answer;
  memcpy(hello.secret, h->secret, sizeof hello.secret);
  if (send(fd, &hello, sizeof hello, MSG_NOSIGNAL) != (ssize_t)sizeof hello) return false;
  size_t got = 0;
  while (got < sizeof answer) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    double wait = until - cft_now();
    if (wait <= 0 || poll(&p, 1, (int)(1000 * wait) + 1) <= 0) return false;
    ssize_t n = recv(fd, (char *)&answer + got, sizeof answer - got, 0);
    if (n <= 0) return false;
    got += (size_t)n;
  }
  if (answer.magic != MAGIC || answer.kind != BEAT || answer.rank != 0) return false;
  h->peers[0] = (peer){.fd = fd, .heard = cft_now()};
  cft_beat_take(h, &h->peers[0], &answer);
  return true;
}

cft_status cft_heartbeat_join(cft_heartbeat **out, const cft_heartbeat_place *place,
                              const cft_heartbeat_how *how) {
  cft_heartbeat *h;
  CFT_TRY(begin(&h, how, false));
  memcpy(h->secret, place->secret, sizeof h->secret);
  char list[sizeof place->addresses], *rest = list;
  snprintf(list, sizeof list, "%s", place->addresses);
  double until = cft_now() + how->patience_s, each = how->patience_s / 4;
  int reason = ECONNREFUSED;
  for (char *address; (address = strtok_r(rest, " ", &rest)) && cft_now() < until;) {
    double by = cft_now() + each < until ? cft_now() + each : until;
    int fd = cft_connect(address, place->port, by - cft_now());
    if (fd < 0) {
      reason = errno;
      continue;
    }
    if (meets_rank_0(h, fd, by)) return start(out, h);
    reason = EPROTO;
    close(fd);
  }
  free_all(h);
  return cft_fail(CFT_E_IO, "heartbeat: rank %d cannot reach rank 0 at %s, port %d: %s", how->rank,
                  place->addresses, place->port,
                  reason == EPROTO ? "whoever is there does not know this run" : strerror(reason));
}

void cft_heartbeat_leave(cft_heartbeat *h, const char *why) {
  if (!h) return;
  pthread_mutex_lock(&h->lock);
  h->leaving = true;
  pthread_mutex_unlock(&h->lock);
  (void)!write(h->wake, &(uint64_t){1}, sizeof(uint64_t));
  pthread_join(h->thread, NULL);
  message m = cft_beat_own(h, BYE);
  cft_beat_text(m.where, sizeof m.where, why ? why : "");
  cft_beat_send(h, &m, -1);
  for (int r = 0; r < h->how.size;
       ++r)  // what a socket closes upon unread is cut off, the last message too
    for (peer *p = &h->peers[r];
         p->fd >= 0 && recv(p->fd, &p->coming, sizeof m, MSG_DONTWAIT) > 0;) {
    }
  free_all(h);
}

// ---- what a program asks ------------------------------------------------------------------------

void cft_heartbeat_at(cft_heartbeat *h, int64_t step, int64_t calls, cft_rank_state state,
                      const char *doing, const char *where) {
  pthread_mutex_lock(&h->lock);
  message *m = &h->last[h->how.rank];
  m->step = step;
  m->calls = calls;
  m->state = (int32_t)state;
  cft_beat_text(m->doing, sizeof m->doing, doing);
  if (where) cft_beat_text(m->where, sizeof m->where, where);
  h->began[h->how.rank] = cft_now();
  pthread_mutex_unlock(&h->lock);
}

int cft_heartbeat_lost(cft_heartbeat *h) {
  pthread_mutex_lock(&h->lock);
  int lost = h->lost;
  pthread_mutex_unlock(&h->lock);
  return lost;
}

cft_status cft_heartbeat_ask_nccl(cft_heartbeat *h, const char *address) {
  ras_place place;
  CFT_TRY(ras_find(&place, address));
  pthread_mutex_lock(&h->lock);
  h->nccl = place;
  pthread_mutex_unlock(&h->lock);
  return CFT_OK;
}

void cft_heartbeat_take(cft_heartbeat *h) {
  pthread_mutex_lock(&h->lock);
  h->taken = true;
  pthread_mutex_unlock(&h->lock);
}

// The ranks that this one waits for: those that have begun fewer collectives, and one that is lost
// in the same.
static size_t waits_for(char *to, size_t room, const cft_heartbeat *h, const message *m) {
  enum { NAMED = 4 };
  size_t at = 0;
  int count = 0;
  for (int r = 0; r < h->how.size; ++r) {
    if (r == m->rank || h->last[r].calls >= m->calls + (r == h->lost)) continue;
    if (++count <= NAMED)
      at +=
          (size_t)snprintf(to + at, room - at, "%s%d", count == 1 ? ", waits for rank " : ", ", r);
  }
  if (count > NAMED) at += (size_t)snprintf(to + at, room - at, " and %d more", count - NAMED);
  return at;
}

double cft_beat_since(const cft_heartbeat *h, int r) {
  if (r == h->how.rank) return cft_now() - h->began[r];
  return h->heard[r] == 0 ? 0 : h->last[r].since + cft_now() - h->heard[r];
}

static size_t line(char *to, const cft_heartbeat *h, int r) {
  const message *m = &h->last[r];
  char waits[128] = "";
  if (h->lost != r) waits_for(waits, sizeof waits, h, m);
  if (m->magic != MAGIC)
    return (size_t)snprintf(to, LINE, "  rank %d: nothing is known of it\n", r);
  return (size_t)snprintf(to, LINE, "  rank %d on %s, process %d: step %lld, %s for %.1f s%s%s%s\n",
                          r, m->host, m->pid, (long long)m->step,
                          m->doing[0] ? m->doing : "beginning", cft_beat_since(h, r),
                          m->where[0] ? ", " : "", m->where, waits);
}

size_t cft_beat_lines(char *to, const cft_heartbeat *h, int but) {
  size_t at = 0;
  for (int r = 0; r < h->how.size; ++r)
    if (r != but) at += line(to + at, h, r);
  return at;
}

const char *cft_heartbeat_table(cft_heartbeat *h) {
  pthread_mutex_lock(&h->lock);
  size_t room = (size_t)(h->how.size + 2) * LINE, at = 0;
  if (!h->table) h->table = malloc(room);
  if (h->table) {
    if (h->lost >= 0) {
      at += (size_t)snprintf(h->table, LINE, "rank %d of %d is lost: %s\n", h->lost, h->how.size,
                             h->reason);
      at += line(h->table + at, h, h->lost);
    }
    at += cft_beat_lines(h->table + at, h, h->lost);
    h->table[at] = 0;
  }
  const char *table = h->table ? h->table : "a rank is lost\n";
  pthread_mutex_unlock(&h->lock);
  return table;
}
