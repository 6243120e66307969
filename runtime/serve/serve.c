// serve.c - connections and requests over libevent's evhttp, polled.
//
// evhttp reads a request whole and hands it over; it knows no bound on connections, times only the pause between two
// reads, and does not look at a client whose request is being worked on. These three are done here: each connection
// is noted when it is accepted, and looked at in each poll.
#include "cft_serve.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "serve/library.h"
#include "util/file.h"

enum {
  FOREVER = 10 * 1000 * 1000,  // seconds that evhttp may wait; we wait less
  RETRY_MS = 100,              // until connections are accepted again where a descriptor was missing
  QUEUE = 256                  // of connections in the kernel
};

typedef struct connection {
  struct connection *next;
  struct bufferevent *bev;  // we hold a reference: what evhttp has freed is seen by its callbacks, which are gone
  int64_t since;            // when it last came forward: accepted, answered, or took some of an answer
  size_t unsent;            // when it was last looked at
  bool asked;               // a request of it is in our hands
} connection;

typedef struct exchange {
  struct exchange *next;
  int64_t id;
  connection *from;
  struct evhttp_request *request;   // NULL when evhttp has freed it
  struct evhttp_connection *evcon;  // NULL when that is gone
  const cft_event *ev;
  bool taken, begun, left;
} exchange;

struct cft_server {
  cft_server *next;  // of those that listen
  const cft_event *ev;
  cft_server_options o;
  struct event_base *base;
  struct event *timer;
  struct evhttp *http;
  struct evconnlistener *listener;  // http's
  struct evhttp_bound_socket *bound;
  struct sigaction on_pipe;  // what was done before
  int port, count;
  bool local, resting;
  int64_t rests_until, last_id;
  connection *connections;
  exchange *first;
};

static cft_server *servers;  // that listen, to find one by its listener

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// ---- connections -------------------------------------------------------------------------------

static void rest(cft_server *s) {
  if (s->listener && !s->resting) s->ev->evconnlistener_disable(s->listener);
  s->resting = true;
}

// evhttp asks for the buffers of a connection that it has accepted.
static struct bufferevent *on_accept(struct event_base *base, void *server) {
  cft_server *s = server;
  struct bufferevent *bev = s->ev->bufferevent_socket_new(base, -1, 0);
  connection *c = bev ? calloc(1, sizeof *c) : NULL;
  if (!c) return bev;
  s->ev->bufferevent_incref(bev);
  // A client that goes on sending while it is answered fills no more than this.
  s->ev->bufferevent_setwatermark(bev, EV_READ, 0, (size_t)(s->o.body_bytes + s->o.header_bytes));
  *c = (connection){.next = s->connections, .bev = bev, .since = now_ms()};
  s->connections = c;
  if (++s->count >= s->o.connections) rest(s);
  return bev;
}

// Descriptors or memory ran out: without a rest, accept would fail again and again. The argument is evhttp's.
static void on_accept_error(struct evconnlistener *listener, void *http) {
  (void)http;
  for (cft_server *s = servers; s; s = s->next) {
    if (s->listener != listener) continue;
    rest(s);
    s->rests_until = now_ms() + RETRY_MS;
  }
}

static bool is_freed(const cft_server *s, const connection *c) {
  bufferevent_data_cb reads, writes;
  bufferevent_event_cb happens;
  void *arg;
  s->ev->bufferevent_getcb(c->bev, &reads, &writes, &happens, &arg);
  return !reads && !writes && !happens;
}

static size_t unsent(const cft_server *s, const connection *c) {
  return s->ev->evbuffer_get_length(s->ev->bufferevent_get_output(c->bev));
}

static void hang_up(const cft_server *s, const connection *c) {
  int fd = s->ev->bufferevent_getfd(c->bev);
  if (fd >= 0) shutdown(fd, SHUT_RDWR);  // evhttp reads the end of it, and frees it
}

static exchange *exchange_from(const cft_server *s, const connection *c) {
  for (exchange *e = s->first; e; e = e->next)
    if (e->from == c) return e;
  return NULL;
}

// Forget connections that are gone, and end those that do nothing.
static void look_at_connections(cft_server *s) {
  int64_t now = now_ms();
  for (connection **at = &s->connections; *at;) {
    connection *c = *at;
    if (is_freed(s, c)) {
      exchange *e = exchange_from(s, c);
      if (e) e->from = NULL;
      *at = c->next;
      s->ev->bufferevent_decref(c->bev);
      free(c);
      --s->count;
      continue;
    }
    size_t left = unsent(s, c);
    if (left < c->unsent || (c->asked && left == 0)) c->since = now;
    c->unsent = left;
    if (now - c->since > s->o.idle_ms) hang_up(s, c);
    at = &c->next;
  }
  if (s->resting && s->listener && s->count < s->o.connections && now >= s->rests_until) {
    s->resting = false;
    s->ev->evconnlistener_enable(s->listener);
  }
}

// ---- requests ----------------------------------------------------------------------------------

// evhttp frees a connection whose request we have. The request is ours where it was taken off the connection before.
static void on_close(struct evhttp_connection *evcon, void *arg) {
  (void)evcon;
  exchange *e = arg;
  e->left = true;
  e->evcon = NULL;
  if (e->ev->evhttp_request_get_connection(e->request)) e->request = NULL;
}

static void on_request(struct evhttp_request *request, void *server) {
  cft_server *s = server;
  struct evhttp_connection *evcon = s->ev->evhttp_request_get_connection(request);
  exchange *e = calloc(1, sizeof *e);
  if (!e) {
    s->ev->evhttp_send_reply(request, 503, NULL, NULL);
    return;
  }
  *e = (exchange){.id = ++s->last_id, .request = request, .evcon = evcon, .ev = s->ev};
  struct bufferevent *bev = s->ev->evhttp_connection_get_bufferevent(evcon);
  for (connection *c = s->connections; c; c = c->next)
    if (c->bev == bev) e->from = c;
  if (e->from) e->from->asked = true;
  s->ev->evhttp_connection_set_closecb(evcon, on_close, e);
  exchange **end = &s->first;
  while (*end) end = &(*end)->next;
  *end = e;
}

// Take an exchange off the list.
static void forget(cft_server *s, exchange *e) {
  for (exchange **at = &s->first; *at; at = &(*at)->next) {
    if (*at != e) continue;
    *at = e->next;
    break;
  }
  if (e->evcon) s->ev->evhttp_connection_set_closecb(e->evcon, NULL, NULL);
  if (!e->evcon && e->request) s->ev->evhttp_request_free(e->request);
  if (e->from) {
    e->from->asked = false;
    e->from->since = now_ms();
  }
  free(e);
}

// End the connection of a request that nobody waits for.
static void drop(cft_server *s, exchange *e) {
  struct evhttp_connection *evcon = e->evcon;
  if (!evcon) return;
  s->ev->evhttp_connection_set_closecb(evcon, NULL, NULL);
  e->evcon = NULL;
  e->request = NULL;  // goes with it
  e->left = true;
  s->ev->evhttp_connection_free(evcon);
}

// Clients whose request is worked on, and that have closed their end or take nothing.
static void look_for_leavers(cft_server *s) {
  size_t n = 0;
  for (exchange *e = s->first; e; e = e->next) n += e->evcon && e->from;
  struct pollfd *fds = n ? calloc(n, sizeof *fds) : NULL;
  if (!fds) return;
  n = 0;
  for (exchange *e = s->first; e; e = e->next)
    if (e->evcon && e->from)
      fds[n++] = (struct pollfd){.fd = s->ev->bufferevent_getfd(e->from->bev), .events = POLLRDHUP};
  int found = poll(fds, n, 0);
  n = 0;
  for (exchange *e = s->first; e; e = e->next) {
    if (!e->evcon || !e->from) continue;
    bool gone = found > 0 && (fds[n].revents & (POLLRDHUP | POLLHUP | POLLERR));
    bool slow = e->begun && unsent(s, e->from) > (size_t)s->o.unsent_bytes;
    if (gone || slow) drop(s, e);
    ++n;
  }
  free(fds);
}

static cft_status find(cft_server *s, exchange **out, int64_t id) {
  for (exchange *e = s->first; e; e = e->next) {
    if (e->id != id) continue;
    *out = e;
    return CFT_OK;
  }
  return cft_fail(CFT_E_STATE, "serve: there is no request %lld", (long long)id);
}

// ---- listening ---------------------------------------------------------------------------------

static bool is_loopback(const struct sockaddr *a) {
  if (a->sa_family == AF_INET)
    return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
  return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static cft_status bind_to(cft_server *s, int fd, const struct addrinfo *a) {
  const char *host = s->o.host;
  s->local = is_loopback(a->ai_addr);
  if (!s->local && !s->o.anywhere)
    return cft_fail(CFT_E_ARG, "serve: other machines reach %s, and no key is wanted of them; "
                    "give one by --key-file or CFT_SERVE_KEY", QUOTED(host));
  int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, QUEUE) != 0)
    return cft_fail(CFT_E_IO, "serve: cannot listen on %s, port %d: %s", QUOTED(host), s->o.port, strerror(errno));
  struct sockaddr_storage at = {0};
  socklen_t bytes = sizeof at;
  getsockname(fd, (struct sockaddr *)&at, &bytes);
  s->port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                           : ((struct sockaddr_in *)&at)->sin_port);
  return CFT_OK;
}

static cft_status listen_on(cft_server *s) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
  char port[16];
  snprintf(port, sizeof port, "%d", s->o.port);
  int why = getaddrinfo(s->o.host, port, &hints, &found);
  if (why != 0) return cft_fail(CFT_E_ARG, "serve: no address %s: %s", QUOTED(s->o.host), gai_strerror(why));
  int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  cft_status st = fd < 0 ? cft_fail(CFT_E_IO, "serve: no socket: %s", strerror(errno)) : bind_to(s, fd, found);
  freeaddrinfo(found);
  if (st == CFT_OK) {
    s->listener = s->ev->evconnlistener_new(s->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (!s->listener) st = cft_fail(CFT_E_OOM, "serve: out of memory");
  }
  if (st != CFT_OK) {
    if (fd >= 0) close(fd);
    return st;
  }
  s->bound = s->ev->evhttp_bind_listener(s->http, s->listener);
  if (s->bound) {
    s->ev->evconnlistener_set_error_cb(s->listener, on_accept_error);
    s->next = servers;
    servers = s;
    return CFT_OK;
  }
  s->ev->evconnlistener_free(s->listener);
  s->listener = NULL;
  return cft_fail(CFT_E_OOM, "serve: out of memory");
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
  (void)fd;
  (void)what;
  (void)arg;
}

static cft_status open_http(cft_server *s) {
  const cft_event *ev = s->ev;
  s->base = ev->event_base_new();
  if (s->base) s->timer = ev->event_new(s->base, -1, 0, on_timer, NULL);
  if (s->timer) s->http = ev->evhttp_new(s->base);
  if (!s->http) return cft_fail(CFT_E_OOM, "serve: out of memory");
  ev->evhttp_set_timeout(s->http, FOREVER);
  ev->evhttp_set_max_headers_size(s->http, (ssize_t)s->o.header_bytes);
  ev->evhttp_set_max_body_size(s->http, (ssize_t)s->o.body_bytes);
  ev->evhttp_set_allowed_methods(s->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_OPTIONS);
  ev->evhttp_set_default_content_type(s->http, "application/json");
  ev->evhttp_set_gencb(s->http, on_request, s);
  ev->evhttp_set_bevcb(s->http, on_accept, s);
  return listen_on(s);
}

cft_status cft_server_new(cft_server **out, const cft_server_options *o) {
  if (o->port < 0 || o->port > 65535 || o->header_bytes < 256 || o->body_bytes < 1 || o->connections < 1 ||
      o->idle_ms < 1 || o->unsent_bytes < 1)
    return cft_fail(CFT_E_ARG, "serve: a port is from 0 to 65535, and limits are more than 0");
  const cft_event *ev;
  CFT_TRY(cft_event_open(&ev));
  cft_server *s = calloc(1, sizeof *s);
  if (!s) return cft_fail(CFT_E_OOM, "serve: out of memory");
  *s = (cft_server){.ev = ev, .o = *o};
  sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, &s->on_pipe);
  cft_status st = open_http(s);
  s->o.host = NULL;  // it was borrowed
  if (st == CFT_OK)
    *out = s;
  else
    cft_server_release(s);
  return st;
}

void cft_server_release(cft_server *s) {
  if (!s) return;
  cft_server_stop(s);
  while (s->first) {
    exchange *e = s->first;
    drop(s, e);
    forget(s, e);
  }
  if (s->http) s->ev->evhttp_free(s->http);
  while (s->connections) {
    connection *c = s->connections;
    s->connections = c->next;
    s->ev->bufferevent_decref(c->bev);
    free(c);
  }
  if (s->timer) s->ev->event_free(s->timer);
  if (s->base) s->ev->event_base_free(s->base);
  sigaction(SIGPIPE, &s->on_pipe, NULL);
  free(s);
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

cft_status cft_server_poll(cft_server *s, int ms) {
  struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
  if (ms > 0) s->ev->event_add(s->timer, &wait);
  int failed = s->ev->event_base_loop(s->base, ms > 0 ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
  if (ms > 0) s->ev->event_del(s->timer);
  look_at_connections(s);
  look_for_leavers(s);
  return failed < 0 ? cft_fail(CFT_E_IO, "serve: the loop of events failed: %s", strerror(errno)) : CFT_OK;
}

// ---- what Lua asks and says --------------------------------------------------------------------

static const char *method_of(const cft_server *s, const exchange *e) {
  switch (s->ev->evhttp_request_get_command(e->request)) {
    case EVHTTP_REQ_GET: return "GET";
    case EVHTTP_REQ_HEAD: return "HEAD";
    case EVHTTP_REQ_OPTIONS: return "OPTIONS";
    default: return "POST";  // evhttp lets no other through
  }
}

bool cft_server_next(cft_server *s, cft_server_request *out) {
  for (exchange *e = s->first; e; e = e->next) {
    if (e->taken || e->left) continue;
    e->taken = true;
    struct evbuffer *body = s->ev->evhttp_request_get_input_buffer(e->request);
    const char *path = s->ev->evhttp_uri_get_path(s->ev->evhttp_request_get_evhttp_uri(e->request));
    *out = (cft_server_request){.id = e->id, .method = method_of(s, e), .path = path ? path : "",
                                .bytes = (int64_t)s->ev->evbuffer_get_length(body)};
    out->body = out->bytes ? (const char *)s->ev->evbuffer_pullup(body, -1) : "";
    if (!out->body) out->body = "", out->bytes = 0;  // no memory: no JSON, and so refused
    return true;
  }
  return false;
}

const char *cft_server_header(cft_server *s, int64_t id, const char *name) {
  exchange *e;
  if (find(s, &e, id) != CFT_OK || !e->request) return NULL;
  return s->ev->evhttp_find_header(s->ev->evhttp_request_get_input_headers(e->request), name);
}

int64_t cft_server_left(cft_server *s) {
  for (exchange *e = s->first, *next; e; e = next) {
    next = e->next;
    if (!e->left) continue;
    int64_t id = e->taken ? e->id : 0;
    forget(s, e);
    if (id) return id;  // of a request that nobody has seen nobody need know
  }
  return 0;
}

cft_status cft_server_put(cft_server *s, int64_t id, const char *name, const char *value) {
  exchange *e;
  CFT_TRY(find(s, &e, id));
  if (!e->request || e->left) return CFT_OK;
  if (s->ev->evhttp_add_header(s->ev->evhttp_request_get_output_headers(e->request), name, value) == 0) return CFT_OK;
  return cft_fail(CFT_E_ARG, "serve: no header: %s", QUOTED(value));
}

static cft_status buffer_of(cft_server *s, struct evbuffer **out, const char *text, int64_t bytes) {
  *out = s->ev->evbuffer_new();
  if (*out && s->ev->evbuffer_add(*out, text, (size_t)bytes) == 0) return CFT_OK;
  if (*out) s->ev->evbuffer_free(*out);
  return cft_fail(CFT_E_OOM, "serve: out of memory");
}

cft_status cft_server_reply(cft_server *s, int64_t id, int status, const char *body, int64_t bytes) {
  exchange *e;
  CFT_TRY(find(s, &e, id));
  struct evhttp_request *request = e->left ? NULL : e->request;
  struct evbuffer *text = NULL;
  if (request) CFT_TRY(buffer_of(s, &text, body, bytes));
  forget(s, e);
  if (request) {
    s->ev->evhttp_send_reply(request, status, NULL, text);
    s->ev->evbuffer_free(text);
  }
  return CFT_OK;
}

cft_status cft_server_begin(cft_server *s, int64_t id, int status) {
  exchange *e;
  CFT_TRY(find(s, &e, id));
  e->begun = true;
  if (!e->left) s->ev->evhttp_send_reply_start(e->request, status, NULL);
  return CFT_OK;
}

cft_status cft_server_send(cft_server *s, int64_t id, const char *piece, int64_t bytes) {
  exchange *e;
  CFT_TRY(find(s, &e, id));
  if (e->left) return CFT_OK;
  struct evbuffer *text;
  CFT_TRY(buffer_of(s, &text, piece, bytes));
  s->ev->evhttp_send_reply_chunk(e->request, text);
  s->ev->evbuffer_free(text);
  return CFT_OK;
}

cft_status cft_server_end(cft_server *s, int64_t id) {
  exchange *e;
  CFT_TRY(find(s, &e, id));
  struct evhttp_request *request = e->left ? NULL : e->request;
  forget(s, e);
  if (request) s->ev->evhttp_send_reply_end(request);
  return CFT_OK;
}

void cft_server_look(cft_server *s, cft_server_view *out) {
  *out = (cft_server_view){.connections = s->count};
  for (exchange *e = s->first; e; e = e->next) ++out->requests;
  for (connection *c = s->connections; c; c = c->next)
    if (!is_freed(s, c)) out->unsent += (int64_t)unsent(s, c);
}

bool cft_same_secret(const char *came, const char *wanted) {
  size_t n = strlen(came), m = strlen(wanted);
  unsigned differs = n != m;
  for (size_t i = 0; i < n; ++i) differs |= (unsigned char)came[i] ^ (unsigned char)wanted[i < m ? i : m];
  return !differs;
}
