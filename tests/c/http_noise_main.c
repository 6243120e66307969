// http_noise PORT SECONDS SEED: sends noise to `cftrun serve` on this machine, a dozen connections
// at once of which some are left before their answer, and looks at what comes back: HTTP, never a
// 500, and always somebody who listens. tests/serve/fuzz.sh runs it.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "http_noise.h"

enum { AT_ONCE = 12 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int open_to(int port) {
  struct sockaddr_in at = {.sin_family = AF_INET,
                           .sin_port = htons((uint16_t)port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0) return -1;
  return fd;
}

static void send_in_parts(uint64_t *state, int fd, const char *bytes, size_t n) {
  for (size_t at = 0; at < n;) {
    size_t part = noise_below(state, 3) ? n - at : 1 + noise_below(state, (unsigned)(n - at));
    ssize_t sent = send(fd, bytes + at, part, MSG_NOSIGNAL);
    if (sent <= 0) return;  // it was hung up on, as noise may be
    at += (size_t)sent;
  }
  if (noise_below(state, 8) == 0) shutdown(fd, SHUT_WR);
}

// The status of what came within `ms`; 0 for nothing, -1 for what is no HTTP.
static int status_of(int fd, int ms) {
  char got[65536];
  size_t n = 0;
  struct pollfd p = {.fd = fd, .events = POLLIN};
  while (n < sizeof got - 1 && poll(&p, 1, ms) > 0) {
    ssize_t more = recv(fd, got + n, sizeof got - 1 - n, 0);
    if (more <= 0) break;
    n += (size_t)more;
    ms = 1;  // for what comes behind it
  }
  got[n] = '\0';
  int status = 0;
  if (n == 0) return 0;
  return sscanf(got, "HTTP/%*d.%*d %d", &status) == 1 ? status : -1;
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: %s PORT SECONDS SEED\n", argv[0]), 2;
  int port = atoi(argv[1]), fds[AT_ONCE], statuses[600] = {0};
  uint64_t state = strtoull(argv[3], NULL, 10);
  double end = now() + atof(argv[2]);
  static char bytes[1 << 16];
  long rounds = 0;
  memset(fds, -1, sizeof fds);
  for (; now() < end; ++rounds) {
    int *fd = &fds[rounds % AT_ONCE];
    if (*fd >= 0) close(*fd);
    *fd = open_to(port);
    if (*fd < 0) return printf("round %ld: nobody listens: %s\n", rounds, strerror(errno)), 1;
    send_in_parts(&state, *fd, bytes, noise_make(&state, bytes, sizeof bytes));
    int status = noise_below(&state, 4) ? status_of(*fd, 40) : 0;
    if (status < 0 || status == 500 || status >= 600)
      return printf("round %ld was answered %d\n", rounds, status), 1;
    ++statuses[status];
  }
  for (int i = 0; i < AT_ONCE; ++i)
    if (fds[i] >= 0) close(fds[i]);
  printf("%ld rounds:", rounds);
  for (int i = 1; i < 600; ++i)
    if (statuses[i]) printf(" %d of %d", statuses[i], i);
  printf(", %d not waited for, or without an answer\n", statuses[0]);
  return rounds == 0 || statuses[200] == 0 || statuses[400] == 0;
}
