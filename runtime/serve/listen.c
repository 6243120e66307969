// listen.c - the address that is listened on, and when nobody is accepted.
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/serve_impl.h"
#include "util/file.h"

enum {
  RETRY_MS = 100,  // until connections are accepted again where a descriptor was missing
  QUEUE = 256      // of connections in the kernel
};

static cft_server *servers;  // that listen, to find one by its listener

void serve_rest(cft_server *s) {
  if (s->listener && !s->resting) s->ev->evconnlistener_disable(s->listener);
  s->resting = true;
}

// Descriptors or memory ran out: without a rest, accept would fail again and again. The argument is
// evhttp's.
static void on_accept_error(struct evconnlistener *listener, void *http) {
  (void)http;
  for (cft_server *s = servers; s; s = s->next) {
    if (s->listener != listener) continue;
    serve_rest(s);
    s->rests_until = serve_now_ms() + RETRY_MS;
  }
}

static bool is_loopback(const struct sockaddr *a) {
  if (a->sa_family == AF_INET)
    return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
  return a->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static cft_status bind_to(cft_server *s, int fd, const struct addrinfo *a) {
  const char *host = s->o.host;
  s->local = is_loopback(a->ai_addr);
  if (!s->local && !s->o.anywhere)
    return cft_fail(CFT_E_ARG,
                    "serve: other machines reach %s, and no key is wanted of them; give one by "
                    "--key-file or CFT_SERVE_KEY",
                    QUOTED(host));
  int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, QUEUE) != 0)
    return cft_fail(CFT_E_IO, "serve: cannot listen on %s, port %d: %s", QUOTED(host), s->o.port,
                    strerror(errno));
  struct sockaddr_storage at = {0};
  socklen_t bytes = sizeof at;
  getsockname(fd, (struct sockaddr *)&at, &bytes);
  s->port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                           : ((struct sockaddr_in *)&at)->sin_port);
  return CFT_OK;
}

static cft_status open_socket(cft_server *s, int *fd) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
  char port[16];
  snprintf(port, sizeof port, "%d", s->o.port);
  int why = getaddrinfo(s->o.host, port, &hints, &found);
  if (why == EAI_MEMORY) return cft_fail(CFT_E_OOM, "serve: out of memory");
  if (why != 0)
    return cft_fail(CFT_E_ARG, "serve: no address %s: %s", QUOTED(s->o.host), gai_strerror(why));
  *fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  cft_status st = *fd < 0 ? cft_fail(CFT_E_IO, "serve: no socket: %s", strerror(errno))
                          : bind_to(s, *fd, found);
  freeaddrinfo(found);
  return st;
}

static cft_status hand_to_http(cft_server *s, int *fd) {
  s->listener = s->ev->evconnlistener_new(s->base, NULL, NULL,
                                          LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, *fd);
  if (!s->listener) return cft_fail(CFT_E_OOM, "serve: out of memory");
  *fd = -1;  // the listener's
  s->bound = s->ev->evhttp_bind_listener(s->http, s->listener);
  if (!s->bound) {
    s->ev->evconnlistener_free(s->listener);
    s->listener = NULL;
    return cft_fail(CFT_E_OOM, "serve: out of memory");
  }
  s->ev->evconnlistener_set_error_cb(s->listener, on_accept_error);
  s->next = servers;
  servers = s;
  return CFT_OK;
}

cft_status serve_listen(cft_server *s) {
  int fd = -1;
  cft_status st = open_socket(s, &fd);
  if (st == CFT_OK) st = hand_to_http(s, &fd);
  if (fd >= 0) close(fd);
  return st;
}

int cft_server_port(const cft_server *s) { return s->port; }

bool cft_server_is_local(const cft_server *s) { return s->local; }

void cft_server_stop(cft_server *s) {
  if (!s->bound) return;
  for (cft_server **at = &servers; *at; at = &(*at)->next) {
    if (*at != s) continue;
    *at = s->next;
    break;
  }
  s->ev->evhttp_del_accept_socket(s->http, s->bound);  // frees the listener too
  s->bound = NULL;
  s->listener = NULL;
}
