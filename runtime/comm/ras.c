// ras.c - a question to NCCL's RAS thread, and its answer as a terminal may see it.
//
// All processes of a host listen at one port, and the kernel chooses who gets a connection. It may be one
// that stands still, so whoever says nothing for a while is left for another one.
#include "comm/ras.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/socket.h"
#include "util/utf8.h"

cft_status ras_find(ras_place *place, const char *named) {
  *place = (ras_place){0};
  char host[sizeof place->named];
  const char *colon = strrchr(named, ':');
  bool fits = colon && strlen(named) < sizeof host;
  if (fits) {
    bool bracketed = named[0] == '[' && colon > named + 1 && colon[-1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(colon - named) - 2 * bracketed, named + bracketed);
    char *end;
    long port = strtol(colon + 1, &end, 10);
    fits = host[0] && end > colon + 1 && !*end && port > 0 && port < 65536;
    place->port = (int)port;
  }
  if (!fits) return cft_fail(CFT_E_ARG, "%s is no HOST:PORT", cft_quote(named, strlen(named)).text);
  snprintf(place->named, sizeof place->named, "%s", named);
  place->count = cft_addresses_of(host, place->addresses, RAS_ADDRESSES);
  if (place->count == 0) return cft_fail(CFT_E_ARG, "the host of '%s' has no address", named);
  return CFT_OK;
}

// ---- the question ------------------------------------------------------------------------------

static const double ANSWER_S = 0.2;  // for the greeting
static const char *const GREETING = "CLIENT PROTOCOL 2\n", *const GREETED = "SERVER PROTOCOL ",
                        *const QUESTION = "VERBOSE STATUS\n";

typedef struct answer {
  char bytes[2 * RAS_BYTES];
  size_t got;
  bool over, whole;  // the other end is gone; it has said all
} answer;

// Take what comes, until the other end closes, there is no more room, or time is up; or, where one line is
// wanted, that is there.
static void receive(answer *a, int fd, bool line, double until) {
  while (a->got < sizeof a->bytes && !(line && memchr(a->bytes, '\n', a->got))) {
    double wait = until - cft_now();
    if (wait <= 0 || poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, (int)(1000 * wait) + 1) <= 0) return;
    ssize_t n = recv(fd, a->bytes + a->got, sizeof a->bytes - a->got, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) {
      a->over = true;
      a->whole = n == 0;
      return;
    }
    a->got += (size_t)n;
  }
}

// A few bytes fit into an empty socket, or nobody is there.
static bool say(int fd, const char *text) {
  return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

typedef enum outcome { ANSWERED, SILENT, NOBODY } outcome;

static outcome ask_at(answer *a, const char *address, int port, double until) {
  double by = cft_now() + ANSWER_S < until ? cft_now() + ANSWER_S : until;
  int fd = cft_connect(address, port, by - cft_now());
  if (fd < 0) return errno == ETIMEDOUT ? SILENT : NOBODY;
  *a = (answer){0};
  outcome found = NOBODY;
  if (say(fd, GREETING)) {
    receive(a, fd, true, by);
    const char *end = memchr(a->bytes, '\n', a->got);
    if (a->got == 0 && !a->over) found = SILENT;
    if (end && strncmp(a->bytes, GREETED, strlen(GREETED)) == 0 && say(fd, QUESTION)) {
      a->got -= (size_t)(end + 1 - a->bytes);
      memmove(a->bytes, end + 1, a->got);
      receive(a, fd, false, until);
      found = ANSWERED;
    }
  }
  close(fd);
  return found;
}

// ---- the answer --------------------------------------------------------------------------------

// Append a line, indented, with '?' for what a terminal should not see; the rest of one that is long goes.
static size_t put_line(char *to, const char *line, size_t n) {
  size_t at = 2;
  memcpy(to, "  ", at);
  for (size_t i = 0; i < n && at < RAS_WIDTH - 5;) {
    size_t bytes = cft_utf8_printable(line + i, n - i);
    if (bytes == 0) to[at++] = '?';
    for (size_t k = 0; k < bytes; ++k) to[at++] = line[i + k];
    i += bytes ? bytes : 1;
  }
  to[at++] = '\n';
  return at;
}

static void show(char *to, const ras_place *place, const answer *a) {
  size_t at = (size_t)snprintf(to, RAS_WIDTH, "NCCL at %s:\n", place->named);
  const char *line = a->bytes, *end = a->bytes + a->got;
  int lines = 0;
  for (; line < end && lines < RAS_LINES && at + 2 * RAS_WIDTH < RAS_BYTES; ++line) {
    const char *stop = memchr(line, '\n', (size_t)(end - line));
    if (!stop) stop = end;
    const char *text_end = stop > line && stop[-1] == '\r' ? stop - 1 : stop;
    if (text_end > line) {  // empty ones would cut the table in pieces
      at += put_line(to + at, line, (size_t)(text_end - line));
      ++lines;
    }
    line = stop;
  }
  to[at] = 0;
  if (line < end || !a->whole)
    snprintf(to + at, RAS_BYTES - at, "  ... (%s)\n", line < end ? "more is left out" : "more did not come in time");
}

void ras_ask(char to[RAS_BYTES], const ras_place *place, double seconds) {
  double until = cft_now() + seconds;
  to[0] = 0;
  answer *a = malloc(sizeof *a);
  outcome found = SILENT;
  while (a && found == SILENT && cft_now() < until) {
    found = NOBODY;
    for (int i = 0; i < place->count && found != ANSWERED && cft_now() < until; ++i) {
      outcome here = ask_at(a, place->addresses[i], place->port, until);
      if (here != NOBODY) found = here;
    }
  }
  if (found == ANSWERED && a->got > 0) show(to, place, a);
  free(a);
}
