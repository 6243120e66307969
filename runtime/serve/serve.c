// serve.c - a server over libevent's evhttp, polled: opened, let go on, closed.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve/serve_impl.h"

enum { FOREVER = 10 * 1000 * 1000 };  // seconds that evhttp may wait; we wait less

int64_t serve_now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
  (void)fd;
  (void)what;
  (void)arg;
}

static cft_status open_http(cft_server *s) {
  const cft_event *ev = s->ev;
  s->pool = calloc((size_t)s->o.connections, sizeof *s->pool);
  for (int i = 0; s->pool && i < s->o.connections; ++i) {
    s->pool[i].next = s->no;
    s->no = &s->pool[i];
  }
  if (s->pool) s->base = ev->event_base_new();
  if (s->base) s->timer = ev->event_new(s->base, -1, 0, on_timer, NULL);
  if (s->timer) s->http = ev->evhttp_new(s->base);
  if (!s->http) return cft_fail(CFT_E_OOM, "serve: out of memory");
  ev->evhttp_set_timeout(s->http, FOREVER);
  ev->evhttp_set_max_headers_size(s->http, (ssize_t)s->o.header_bytes);
  ev->evhttp_set_max_body_size(s->http, (ssize_t)s->o.body_bytes);
  ev->evhttp_set_allowed_methods(
      s->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_OPTIONS);
  ev->evhttp_set_default_content_type(s->http, "application/json");
  ev->evhttp_set_gencb(s->http, serve_on_request, s);
  ev->evhttp_set_bevcb(s->http, serve_on_accept, s);
  return serve_listen(s);
}

cft_status cft_server_new(cft_server **out, const cft_server_options *o) {
  if (o->port < 0 || o->port > 65535 || o->header_bytes < 256 || o->body_bytes < 1 ||
      o->connections < 1 || o->idle_ms < 1 || o->unsent_bytes < 1)
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
  serve_drop_exchanges(s);
  if (s->http) s->ev->evhttp_free(s->http);
  for (serve_connection *c = s->connections; c; c = c->next) s->ev->bufferevent_decref(c->bev);
  free(s->pool);
  if (s->timer) s->ev->event_free(s->timer);
  if (s->base) s->ev->event_base_free(s->base);
  sigaction(SIGPIPE, &s->on_pipe, NULL);
  free(s);
}

cft_status cft_server_poll(cft_server *s, int ms) {
  struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
  if (ms > 0) s->ev->event_add(s->timer, &wait);
  int failed = s->ev->event_base_loop(s->base, ms > 0 ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
  if (ms > 0) s->ev->event_del(s->timer);
  serve_look_at_connections(s);
  serve_look_for_leavers(s);
  if (failed >= 0) return CFT_OK;
  return cft_fail(CFT_E_IO, "serve: the loop of events failed: %s", strerror(errno));
}

void cft_server_look(cft_server *s, cft_server_view *out) {
  *out = (cft_server_view){.connections = s->count};
  for (serve_exchange *e = s->exchanges; e; e = e->next) ++out->requests;
  for (serve_connection *c = s->connections; c; c = c->next)
    if (!serve_is_gone(s, c)) out->unsent += (int64_t)serve_unsent(s, c);
}

bool cft_same_secret(const char *came, const char *wanted) {
  size_t n = strlen(came), m = strlen(wanted);
  unsigned differs = n != m;
  for (size_t i = 0; i < n; ++i)
    differs |= (unsigned char)came[i] ^ (unsigned char)wanted[i < m ? i : m];
  return !differs;
}
