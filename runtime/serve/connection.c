// connection.c - clients: accepted, looked at in each poll, ended where they do nothing.
#include <string.h>
#include <sys/socket.h>

#include "serve/serve_impl.h"

// Requests that are on their way, all together, in bodies of the largest size: more is nobody's to
// send before it is known who asks.
enum { BODIES = 16 };

static void on_input(struct evbuffer *input, const struct evbuffer_cb_info *info,
                     void *connection) {
  (void)input;
  ((serve_connection *)connection)->brought += (int64_t)info->n_added;
}

// evhttp asks for the buffers of a connection that it has accepted. Where there is no memory it
// makes them itself, and a request of it is refused.
struct bufferevent *serve_on_accept(struct event_base *base, void *server) {
  cft_server *s = server;
  serve_connection *c = s->no;
  struct bufferevent *bev = c ? s->ev->bufferevent_socket_new(base, -1, 0) : NULL;
  if (!bev) return NULL;
  *c = (serve_connection){.next = c->next, .bev = bev, .since = serve_now_ms()};
  if (!s->ev->evbuffer_add_cb(s->ev->bufferevent_get_input(bev), on_input, c)) {
    s->ev->bufferevent_free(bev);
    return NULL;
  }
  s->ev->bufferevent_incref(bev);
  s->no = c->next;
  c->next = s->connections;
  s->connections = c;
  if (++s->count >= s->o.connections) serve_rest(s);
  return bev;
}

bool serve_is_gone(const cft_server *s, const serve_connection *c) {
  bufferevent_data_cb reads, writes;
  bufferevent_event_cb happens;
  void *arg;
  s->ev->bufferevent_getcb(c->bev, &reads, &writes, &happens, &arg);
  return !reads && !writes && !happens;
}

size_t serve_unsent(const cft_server *s, const serve_connection *c) {
  return s->ev->evbuffer_get_length(s->ev->bufferevent_get_output(c->bev));
}

static void hang_up(const cft_server *s, const serve_connection *c) {
  int fd = s->ev->bufferevent_getfd(c->bev);
  if (fd >= 0) shutdown(fd, SHUT_RDWR);  // evhttp reads the end of it, and frees it
}

// Forget connections that are gone.
static void sweep(cft_server *s) {
  for (serve_connection **at = &s->connections; *at;) {
    serve_connection *c = *at;
    if (!serve_is_gone(s, c)) {
      at = &c->next;
      continue;
    }
    serve_forget_connection(s, c);
    *at = c->next;
    s->ev->bufferevent_decref(c->bev);
    c->next = s->no;
    s->no = c;
    --s->count;
  }
}

// End those that do nothing, and where requests that are on their way hold too much, the largest.
// While a request is answered evhttp reads nothing of its client.
static void end_idle(cft_server *s) {
  int64_t now = serve_now_ms(), brought = 0;
  serve_connection *largest = NULL;
  for (serve_connection *c = s->connections; c; c = c->next) {
    size_t left = serve_unsent(s, c);
    if (left < c->unsent || (c->asked && left == 0)) c->since = now;
    c->unsent = left;
    if (now - c->since > s->o.idle_ms) hang_up(s, c);
    brought += c->brought;
    if (!largest || c->brought > largest->brought) largest = c;
  }
  if (brought / BODIES > s->o.body_bytes) hang_up(s, largest);
}

void serve_look_at_connections(cft_server *s) {
  sweep(s);
  end_idle(s);
  bool may = s->listener && s->count < s->o.connections && serve_now_ms() >= s->rests_until;
  if (!s->resting || !may) return;
  s->resting = false;
  s->ev->evconnlistener_enable(s->listener);
}
