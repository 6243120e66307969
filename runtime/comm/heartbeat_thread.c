// heartbeat_thread.c - beats to and from rank 0, and who is lost.
//
// Rank 0 hears all, and passes on what it hears, so that each rank can say what the others did when
// one was lost.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/heartbeat_impl.h"
#include "comm/socket.h"

void cft_beat_text(char *to, size_t room, const char *from) {
  snprintf(to, room, "%s", from);
  for (char *c = to; *c; ++c)
    if ((unsigned char)*c < ' ') *c = '?';
}

// ---- who is lost -------------------------------------------------------------------------------

void cft_beat_lose(cft_heartbeat *h, int rank, const char *reason) {
  pthread_mutex_lock(&h->lock);
  if (h->lost < 0) {
    h->lost = rank;
    cft_beat_text(h->reason, sizeof h->reason, reason);
  }
  pthread_mutex_unlock(&h->lock);
}

static bool is_lost(cft_heartbeat *h) { return cft_heartbeat_lost(h) >= 0; }

// ---- messages ----------------------------------------------------------------------------------

message cft_beat_own(cft_heartbeat *h, kind what) {
  pthread_mutex_lock(&h->lock);
  message m = h->last[h->how.rank];
  m.since = cft_now() - h->began[h->how.rank];
  pthread_mutex_unlock(&h->lock);
  m.kind = what;
  return m;
}

// A peer's socket takes thousands of messages; one that takes none has stood still for long, and is
// found by its silence.
static void send_to(peer *p, const message *m) {
  if (p->fd >= 0) (void)!send(p->fd, m, sizeof *m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void cft_beat_send(cft_heartbeat *h, const message *m, int but) {
  int peers = h->how.rank == 0 ? h->how.size : 1;
  for (int r = 0; r < peers; ++r)
    if (r != but) send_to(&h->peers[r], m);
}

void cft_beat_shut(peer *p) {
  if (p->fd >= 0) close(p->fd);
  p->fd = -1;
  p->got = 0;
}

// A message of a rank. Texts of others end where their fields do.
void cft_beat_take(cft_heartbeat *h, peer *p, message *m) {
  m->host[sizeof m->host - 1] = m->doing[sizeof m->doing - 1] = m->where[sizeof m->where - 1] = 0;
  if (m->rank < 0 || m->rank >= h->how.size) return;
  p->heard = cft_now();
  if (m->kind == LOST) {  // this rank itself, where it lives and never comes
    cft_beat_lose(h, m->rank, m->where);
    return;
  }
  if (m->rank == h->how.rank) return;
  pthread_mutex_lock(&h->lock);
  char where[sizeof m->where];
  memcpy(where, h->last[m->rank].where, sizeof where);
  h->last[m->rank] = *m;
  if (m->kind == BYE) memcpy(h->last[m->rank].where, where, sizeof where);
  h->heard[m->rank] = cft_now();
  pthread_mutex_unlock(&h->lock);
  if (m->kind == BYE) {
    p->left = m->where[0] == 0;
    if (!p->left) cft_beat_lose(h, m->rank, m->where);
  }
  if (h->how.rank == 0 && m->kind == BEAT && h->how.size <= PASSED_ON) cft_beat_send(h, m, m->rank);
}

// Read what has come. False where the peer is gone.
static bool receive(cft_heartbeat *h, peer *p, void (*on)(cft_heartbeat *, peer *, message *)) {
  for (;;) {
    ssize_t n = recv(p->fd, (char *)&p->coming + p->got, sizeof p->coming - p->got, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (n == 0) return false;
    p->got += (size_t)n;
    if (p->got < sizeof p->coming) continue;
    p->got = 0;
    if (p->coming.magic != MAGIC) return false;
    message m = p->coming;
    on(h, p, &m);
    if (p->fd < 0) return true;  // it has moved to its place
  }
}

// ---- rank 0: who comes --------------------------------------------------------------------------

static void welcome(cft_heartbeat *h, peer *stranger, message *m) {
  bool known = m->kind == HELLO && cft_same_bytes(m->secret, h->secret, CFT_SECRET_BYTES) &&
               m->rank > 0 && m->rank < h->how.size && h->peers[m->rank].fd < 0 &&
               !h->peers[m->rank].left;
  if (!known) {
    cft_beat_shut(stranger);
    return;
  }
  peer *p = &h->peers[m->rank];
  *p = *stranger;
  p->got = 0;
  stranger->fd = -1;
  message answer = cft_beat_own(h, BEAT);
  send_to(p, &answer);  // so that it knows who it has met
  cft_beat_take(h, p, m);
}

static void accept_one(cft_heartbeat *h) {
  int fd = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  peer *oldest = &h->strangers[0];
  for (int i = 0; i < STRANGERS; ++i) {
    peer *s = &h->strangers[i];
    if (s->fd < 0 || (oldest->fd >= 0 && s->heard < oldest->heard)) oldest = s;
  }
  cft_beat_shut(oldest);
  *oldest = (peer){.fd = fd, .heard = cft_now()};
}

// ---- the thread ---------------------------------------------------------------------------------

static void gone(cft_heartbeat *h, int rank) {
  peer *p = &h->peers[rank];
  if (!p->left) cft_beat_lose(h, rank, "its process is gone");
  cft_beat_shut(p);
}

static void look_for_silence(cft_heartbeat *h) {
  double late = cft_now() - h->how.patience_s;
  int peers = h->how.rank == 0 ? h->how.size : 1;
  for (int r = h->how.rank == 0 ? 1 : 0; r < peers; ++r) {
    peer *p = &h->peers[r];
    if (p->left || p->heard >= late) continue;
    char reason[64];
    snprintf(reason, sizeof reason, "nothing was heard of it for %.3g s", h->how.patience_s);
    cft_beat_lose(h, r, reason);
  }
}

// Of those that are left the first one prints the table; one that stood still itself and goes on
// has no news for anybody.
static bool speaks(const cft_heartbeat *h, bool stood_still) {
  return !stood_still && h->how.rank == (h->lost == 0 ? 1 : 0);
}

static const double LISTENERS_S = 0.75;  // that who prints nothing stays longer

// Seconds for NCCL's answer from the loss on: while the others, whose threads it asks in turn, are there.
static const double NCCL_S = 0.7;

static void *ask_nccl(void *arg) {
  cft_heartbeat *h = arg;
  ras_ask(h->answer, &h->nccl, NCCL_S);
  pthread_mutex_lock(&h->lock);
  h->answered = true;
  pthread_mutex_unlock(&h->lock);
  return NULL;
}

static void begin_to_ask(cft_heartbeat *h) {
  pthread_mutex_lock(&h->lock);
  bool there = h->nccl.count > 0;
  pthread_mutex_unlock(&h->lock);
  h->asks = there && pthread_create(&h->asking, NULL, ask_nccl, h) == 0;
}

// Tell the others once; and end a program that does not end by itself. Who prints goes first:
// mpirun ends all others when it sees the first one end, and the table may not be out by then.
static void after_loss(cft_heartbeat *h, double *since, bool stood_still) {
  if (*since == 0) {
    *since = cft_now();
    message m = cft_beat_own(h, LOST);
    pthread_mutex_lock(&h->lock);
    m.rank = h->lost;
    memcpy(m.where, h->reason, sizeof m.where - 1);
    pthread_mutex_unlock(&h->lock);
    if (h->how.rank == 0) cft_beat_send(h, &m, -1);
    if (speaks(h, stood_still)) begin_to_ask(h);
  }
  bool speaker = speaks(h, stood_still);
  double stays = h->how.grace_s + (speaker ? 0 : LISTENERS_S);
  pthread_mutex_lock(&h->lock);
  bool end = !h->taken && !h->leaving && cft_now() - *since > stays;
  bool answered = h->answered;
  pthread_mutex_unlock(&h->lock);
  if (!end) return;
  if (speaker && !h->said) fprintf(stderr, "\n%s", cft_heartbeat_table(h));
  h->said = true;
  if (h->asks && !answered) return;  // NCCL_S at most
  if (h->asks) fputs(h->answer, stderr);
  _exit(h->how.exit_code);
}

static int fill(cft_heartbeat *h, struct pollfd *fds, peer **of) {
  int n = 0;
  fds[n++] = (struct pollfd){.fd = h->wake, .events = POLLIN};
  fds[n++] = (struct pollfd){.fd = h->listener, .events = POLLIN};
  int peers = h->how.rank == 0 ? h->how.size : 1;
  for (int r = 0; r < peers; ++r)
    if (h->peers[r].fd >= 0) {
      of[n] = &h->peers[r];
      fds[n++] = (struct pollfd){.fd = h->peers[r].fd, .events = POLLIN};
    }
  for (int i = 0; i < STRANGERS; ++i)
    if (h->strangers[i].fd >= 0) {
      of[n] = &h->strangers[i];
      fds[n++] = (struct pollfd){.fd = h->strangers[i].fd, .events = POLLIN};
    }
  return n;
}

static void handle(cft_heartbeat *h, peer *p) {
  bool stranger = p >= h->strangers && p < h->strangers + STRANGERS;
  if (receive(h, p, stranger ? welcome : cft_beat_take)) return;
  if (stranger)
    cft_beat_shut(p);
  else
    gone(h, (int)(p - h->peers));
}

static bool leaving(cft_heartbeat *h) {
  pthread_mutex_lock(&h->lock);
  bool is = h->leaving;
  pthread_mutex_unlock(&h->lock);
  return is;
}

// Seconds between beats once a rank is lost: the table says what the others do then, not what they
// did a second before, and they end when they are to.
static const double SOON_S = 0.05;

void *cft_beat_thread(void *arg) {
  cft_heartbeat *h = arg;
  enum { MOST = 2 + STRANGERS };
  struct pollfd *fds = calloc((size_t)(MOST + h->how.size), sizeof *fds);
  peer **of = calloc((size_t)(MOST + h->how.size), sizeof *of);
  double interval = h->how.patience_s < 5 ? h->how.patience_s / 5 : 1, next = cft_now(),
         lost_at = 0;
  bool stood_still = false;
  while (fds && of && !leaving(h)) {
    double wait = next - cft_now();
    int n = fill(h, fds, of);
    if (poll(fds, (nfds_t)n, wait > 0 ? (int)(1000 * wait) + 1 : 0) > 0) {
      if (fds[1].revents) accept_one(h);
      for (int i = 2; i < n; ++i)
        if (fds[i].revents && of[i]->fd == fds[i].fd) handle(h, of[i]);
    }
    if (cft_now() - next > h->how.patience_s) stood_still = true;
    if (is_lost(h)) {
      after_loss(h, &lost_at, stood_still);
      if (next > cft_now() + SOON_S) next = cft_now() + SOON_S;
    }
    if (cft_now() < next) continue;
    next = cft_now() + interval;
    message m = cft_beat_own(h, BEAT);
    cft_beat_send(h, &m, -1);
    look_for_silence(h);
    if (h->how.rank == 0) cft_beat_look_for_stalls(h);
  }
  if (h->asks) pthread_join(h->asking, NULL);
  free(fds);
  free(of);
  return NULL;
}
