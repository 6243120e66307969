// serve.h - what the suites of cft_serve.h share: the usual options, and clients that are in the
// server's own thread: between two looks at what one got, the server is polled.
#ifndef CFT_TEST_SERVE_H
#define CFT_TEST_SERVE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cft_serve.h"
#include "test.h"

static const cft_server_options usual = {.host = "127.0.0.1",
                                         .header_bytes = 4096,
                                         .body_bytes = 10000,
                                         .connections = 20,
                                         .idle_ms = 20000,
                                         .unsent_bytes = 100000};

typedef struct client {
  int fd;
  char got[1 << 16];  // the first of it, and a zero
  size_t n, all;
  bool ended;
} client;

static inline bool client_open(client *c, const cft_server *s) {
  struct sockaddr_in at = {.sin_family = AF_INET,
                           .sin_port = htons((uint16_t)cft_server_port(s)),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  *c = (client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&at, sizeof at) != 0) return false;
  return fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0;
}

static inline void client_close(client *c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
}

static inline void client_read(client *c) {
  char rest[4096];
  while (!c->ended) {
    size_t room = sizeof c->got - 1 - c->n;
    ssize_t n = room ? recv(c->fd, c->got + c->n, room, 0) : recv(c->fd, rest, sizeof rest, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) c->ended = true;
    if (n > 0 && room) c->n += (size_t)n;
    if (n > 0) c->all += (size_t)n;
  }
}

static inline size_t client_send(client *c, const char *bytes, size_t n) {
  ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);
  return sent > 0 ? (size_t)sent : 0;
}

static inline int status_of(const client *c) {
  int status = 0;
  return sscanf(c->got, "HTTP/%*d.%*d %d", &status) == 1 ? status : 0;
}

static inline cft_server_view look(cft_server *s) {
  cft_server_view v;
  cft_server_look(s, &v);
  return v;
}

#endif
