// rendezvous.c - processes of a run meet at an address that all know.
#include "cft_rendezvous.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "collectives.h"
#include "comm/socket.h"

enum {
  MAGIC = 0x72746663,  // "cftr"; another byte order does not fit
  STRANGERS = 16,      // connections that have not shown the secret yet
  ADDRESSES = 8,
  ANSWER_S = 2,  // in which rank 0 answers; another program may say nothing
};

// What comes first, and the answer to it.
typedef struct hello {
  uint32_t magic;
  int32_t rank;
  char secret[CFT_RENDEZVOUS_SECRET];
} hello;

typedef struct stranger {
  int fd;
  size_t got;
  double came;
  hello hello;
} stranger;

struct cft_rendezvous {
  int rank, size, listener;
  double seconds;
  int *peers;  // rank 0: of each rank; the others: peers[0] alone
  char address[64];
};

static hello hello_of(const cft_rendezvous *r, const char *secret) {
  hello h = {.magic = MAGIC, .rank = r->rank};
  snprintf(h.secret, sizeof h.secret, "%s", secret);
  return h;
}

// ---- bytes to and from a peer -------------------------------------------------------------------

// All of them until then; 0, or the reason.
static int send_all(int fd, const void *from, size_t bytes, double until) {
  for (size_t at = 0; at < bytes;) {
    ssize_t n = send(fd, (const char *)from + at, bytes - at, MSG_NOSIGNAL);
    if (n >= 0) {
      at += (size_t)n;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return errno;
    double wait = until - cft_now();
    if (wait <= 0) return ETIMEDOUT;
    poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, (int)(1000 * wait) + 1);
  }
  return 0;
}

static int receive_all(int fd, void *to, size_t bytes, double until) {
  for (size_t at = 0; at < bytes;) {
    ssize_t n = recv(fd, (char *)to + at, bytes - at, 0);
    if (n > 0) {
      at += (size_t)n;
      continue;
    }
    if (n == 0) return ECONNRESET;
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return errno;
    double wait = until - cft_now();
    if (wait <= 0) return ETIMEDOUT;
    poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, (int)(1000 * wait) + 1);
  }
  return 0;
}

// ---- rank 0 ------------------------------------------------------------------------------------

static void dismiss(stranger *s) {
  close(s->fd);
  s->fd = -1;
}

// Read what has come of a hello; true where it is one of ours, which has its place then.
static bool hear(cft_rendezvous *r, stranger *s, const hello *own, double until) {
  ssize_t n = recv(s->fd, (char *)&s->hello + s->got, sizeof s->hello - s->got, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  s->got += n > 0 ? (size_t)n : 0;
  if (n > 0 && s->got < sizeof s->hello) return false;
  const hello *h = &s->hello;
  bool known = s->got == sizeof *h && h->magic == MAGIC &&
               cft_same_bytes(h->secret, own->secret, CFT_RENDEZVOUS_SECRET) && h->rank > 0 &&
               h->rank < r->size && r->peers[h->rank] < 0;
  bool answered = known && send_all(s->fd, own, sizeof *own, until) == 0;
  if (!answered) {
    dismiss(s);
    return false;
  }
  r->peers[h->rank] = s->fd;
  s->fd = -1;
  return true;
}

static void accept_one(cft_rendezvous *r, stranger *strangers) {
  int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  stranger *oldest = &strangers[0];
  for (int i = 0; i < STRANGERS; ++i) {
    stranger *s = &strangers[i];
    if (s->fd < 0 || (oldest->fd >= 0 && s->came < oldest->came)) oldest = s;
  }
  if (oldest->fd >= 0) dismiss(oldest);
  *oldest = (stranger){.fd = fd, .came = cft_now()};
}

// Who has not come, as far as there is room to say it.
static cft_status missing(const cft_rendezvous *r, const cft_rendezvous_how *how) {
  char names[200] = "";
  size_t at = 0;
  int count = 0;
  for (int p = 1; p < r->size; ++p) {
    if (r->peers[p] >= 0) continue;
    if (++count <= 8) at += (size_t)snprintf(names + at, sizeof names - at, " %d", p);
  }
  return cft_fail(
      CFT_E_IO, "rendezvous: %d of %d ranks have not come to %s, port %d, within %g s:%s%s", count,
      r->size, how->host, how->port, how->seconds, names, count > 8 ? " ..." : "");
}

static cft_status wait_for_all(cft_rendezvous *r, const cft_rendezvous_how *how, double until) {
  stranger strangers[STRANGERS];
  for (int i = 0; i < STRANGERS; ++i) strangers[i].fd = -1;
  const hello own = hello_of(r, how->secret);
  int come = 1;
  while (come < r->size && cft_now() < until) {
    struct pollfd fds[1 + STRANGERS] = {{.fd = r->listener, .events = POLLIN}};
    for (int i = 0; i < STRANGERS; ++i)
      fds[1 + i] = (struct pollfd){.fd = strangers[i].fd, .events = POLLIN};
    if (poll(fds, 1 + STRANGERS, (int)(1000 * (until - cft_now())) + 1) <= 0) continue;
    for (int i = 0; i < STRANGERS; ++i)
      if (fds[1 + i].revents) come += hear(r, &strangers[i], &own, until);
    if (fds[0].revents) accept_one(r, strangers);
  }
  for (int i = 0; i < STRANGERS; ++i)
    if (strangers[i].fd >= 0) dismiss(&strangers[i]);
  return come == r->size ? CFT_OK : missing(r, how);
}

static cft_status be_first(cft_rendezvous *r, const cft_rendezvous_how *how, double until) {
  char list[ADDRESSES][64];
  int count = cft_addresses_of(how->host, list, ADDRESSES);
  const char *own = count > 0 && cft_is_loopback(list[0]) ? list[0] : NULL;
  cft_status st = CFT_OK;
  for (int i = 0; i < CFT_RENDEZVOUS_PORTS && r->listener < 0; ++i)
    st = cft_listen_at(&r->listener, own, how->port + i);
  if (r->listener < 0)
    return cft_context(st, "rendezvous: port %d and %d more", how->port, CFT_RENDEZVOUS_PORTS - 1);
  CFT_TRY(wait_for_all(r, how, until));
  close(r->listener);
  r->listener = -1;
  cft_local_address(r->peers[1], r->address, sizeof r->address);
  return CFT_OK;
}

// ---- the others --------------------------------------------------------------------------------

// Is rank 0 there? 0 if so; the reason else.
static int knock(cft_rendezvous *r, const char *address, int port, const hello *own, double until) {
  double by = cft_now() + ANSWER_S < until ? cft_now() + ANSWER_S : until;
  int fd = cft_connect(address, port, by - cft_now());
  if (fd < 0) return errno;
  hello answer;
  int reason = send_all(fd, own, sizeof *own, by);
  if (reason == 0) reason = receive_all(fd, &answer, sizeof answer, by);
  if (reason == 0 && answer.magic == MAGIC && answer.rank == 0 &&
      cft_same_bytes(answer.secret, own->secret, CFT_RENDEZVOUS_SECRET)) {
    r->peers[0] = fd;
    cft_local_address(fd, r->address, sizeof r->address);
    return 0;
  }
  close(fd);
  return EPROTO;
}

static cft_status come(cft_rendezvous *r, const cft_rendezvous_how *how, double until) {
  const hello own = hello_of(r, how->secret);
  int reason = 0, other = 0;
  do {
    char list[ADDRESSES][64];
    int count = cft_addresses_of(how->host, list, ADDRESSES);
    if (count == 0) reason = EHOSTUNREACH;
    for (int p = 0; p < CFT_RENDEZVOUS_PORTS; ++p)
      for (int i = 0; i < count && cft_now() < until; ++i) {
        int e = knock(r, list[i], how->port + p, &own, until);
        if (e == 0) return CFT_OK;
        if (e == EPROTO) other = e;
        reason = e;
      }
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
  } while (cft_now() < until);
  return cft_fail(
      CFT_E_IO, "rendezvous: rank %d cannot reach rank 0 at %s, port %d to %d, within %g s: %s",
      how->rank, how->host, how->port, how->port + CFT_RENDEZVOUS_PORTS - 1, how->seconds,
      other ? "whoever is there does not know this run" : strerror(reason));
}

// ---- what a program asks -----------------------------------------------------------------------

void cft_rendezvous_close(cft_rendezvous *r) {
  if (!r) return;
  for (int p = 0; r->peers && p < r->size; ++p)
    if (r->peers[p] >= 0) close(r->peers[p]);
  if (r->listener >= 0) close(r->listener);
  free(r->peers);
  free(r);
}

cft_status cft_rendezvous_open(cft_rendezvous **out, const cft_rendezvous_how *how) {
  if (how->size < 2 || how->rank < 0 || how->rank >= how->size)
    return cft_fail(CFT_E_ARG, "rendezvous: rank %d of %d", how->rank, how->size);
  if (how->port < 1 || how->port > 65535 - CFT_RENDEZVOUS_PORTS)
    return cft_fail(CFT_E_ARG, "rendezvous: port %d; 1 to %d wanted", how->port,
                    65535 - CFT_RENDEZVOUS_PORTS);
  if (strlen(how->secret) >= CFT_RENDEZVOUS_SECRET)
    return cft_fail(CFT_E_ARG, "rendezvous: a secret of %zu bytes; %d at most", strlen(how->secret),
                    CFT_RENDEZVOUS_SECRET - 1);
  if (!(how->seconds > 0)) return cft_fail(CFT_E_ARG, "rendezvous: within %g s", how->seconds);
  cft_rendezvous *r = calloc(1, sizeof *r);
  if (!r || !(r->peers = malloc((size_t)how->size * sizeof *r->peers))) {
    free(r);
    return cft_fail(CFT_E_OOM, "rendezvous: out of memory");
  }
  r->rank = how->rank;
  r->size = how->size;
  r->seconds = how->seconds;
  r->listener = -1;
  for (int p = 0; p < r->size; ++p) r->peers[p] = -1;
  double until = cft_now() + how->seconds;
  cft_status st = how->rank == 0 ? be_first(r, how, until) : come(r, how, until);
  if (st != CFT_OK) {
    cft_rendezvous_close(r);
    return st;
  }
  *out = r;
  return CFT_OK;
}

static cft_status gone(const cft_rendezvous *r, int rank, int reason) {
  return cft_fail(CFT_E_IO, "rendezvous: rank %d of %d has lost rank %d: %s", r->rank, r->size,
                  rank, strerror(reason));
}

cft_status cft_rendezvous_gather(cft_rendezvous *r, const void *own, size_t bytes, void *all) {
  double until = cft_now() + r->seconds;
  int e = 0;
  if (r->rank > 0) {
    e = send_all(r->peers[0], own, bytes, until);
    if (e == 0) e = receive_all(r->peers[0], all, bytes * (size_t)r->size, until);
    return e == 0 ? CFT_OK : gone(r, 0, e);
  }
  memcpy(all, own, bytes);
  for (int p = 1; p < r->size; ++p)
    if ((e = receive_all(r->peers[p], (char *)all + (size_t)p * bytes, bytes, until)) != 0)
      return gone(r, p, e);
  for (int p = 1; p < r->size; ++p)
    if ((e = send_all(r->peers[p], all, bytes * (size_t)r->size, until)) != 0) return gone(r, p, e);
  return CFT_OK;
}

static cft_status gather(void *with, const void *own, size_t bytes, void *all) {
  return cft_rendezvous_gather(with, own, bytes, all);
}

cft_status cft_rendezvous_comm(cft_comm **c, cft_device *d, cft_rendezvous *r, double timeout_s) {
  if (d->host_memory != 1)
    return cft_fail(CFT_E_UNSUPPORTED, "rendezvous: the device %s is no CPU", d->name);
  const cft_meeting meeting = {r->rank, r->size, r->address, gather, r};
  const cft_comm_id none = {{0}};
  cft_cpu_meet_by(&meeting);
  cft_status st = cft_comm_open(c, d, &none, r->rank, r->size, timeout_s);
  cft_cpu_meet_by(NULL);
  return st;
}
