// exchange.c - requests in our hands: from evhttp's callback to the last byte of their answers.
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "serve/serve_impl.h"
#include "util/file.h"

// ---- they come and go --------------------------------------------------------------------------

// evhttp frees a connection whose request we have. The request is ours where it was taken off the
// connection before.
static void on_close(struct evhttp_connection *evcon, void *arg) {
  (void)evcon;
  serve_exchange *e = arg;
  e->left = true;
  e->evcon = NULL;
  if (e->server->ev->evhttp_request_get_connection(e->request)) e->request = NULL;
}

static serve_connection *connection_of(const cft_server *s, struct evhttp_connection *evcon) {
  struct bufferevent *bev = s->ev->evhttp_connection_get_bufferevent(evcon);
  for (serve_connection *c = s->connections; c; c = c->next)
    if (c->bev == bev) return c;
  return NULL;
}

void serve_on_request(struct evhttp_request *request, void *server) {
  cft_server *s = server;
  struct evhttp_connection *evcon = s->ev->evhttp_request_get_connection(request);
  serve_connection *from = connection_of(s, evcon);
  serve_exchange *e = from ? calloc(1, sizeof *e) : NULL;
  if (!e) {  // no memory, now or when it was accepted
    struct evkeyvalq *headers = s->ev->evhttp_request_get_output_headers(request);
    s->ev->evhttp_add_header(headers, "Connection", "close");
    s->ev->evhttp_send_reply(request, 503, NULL, NULL);
    return;
  }
  *e = (serve_exchange){.id = ++s->last_id,
                        .from = from,
                        .request = request,
                        .evcon = evcon,
                        .server = s,
                        .fault = serve_fault(s->ev, request)};
  from->asked = true;
  from->brought = 0;
  s->ev->evhttp_connection_set_closecb(evcon, on_close, e);
  serve_exchange **end = &s->exchanges;
  while (*end) end = &(*end)->next;
  *end = e;
}

// Take an exchange off the list.
static void forget(cft_server *s, serve_exchange *e) {
  for (serve_exchange **at = &s->exchanges; *at; at = &(*at)->next) {
    if (*at != e) continue;
    *at = e->next;
    break;
  }
  if (e->evcon) s->ev->evhttp_connection_set_closecb(e->evcon, NULL, NULL);
  if (!e->evcon && e->request) s->ev->evhttp_request_free(e->request);
  if (e->from) {
    e->from->asked = false;
    e->from->since = serve_now_ms();
  }
  free(e);
}

// End the connection of a request that nobody waits for.
static void drop(cft_server *s, serve_exchange *e) {
  struct evhttp_connection *evcon = e->evcon;
  if (!evcon) return;
  s->ev->evhttp_connection_set_closecb(evcon, NULL, NULL);
  e->evcon = NULL;
  e->request = NULL;  // goes with it
  e->left = true;
  s->ev->evhttp_connection_free(evcon);
}

void serve_drop_exchanges(cft_server *s) {
  while (s->exchanges) {
    serve_exchange *e = s->exchanges;
    drop(s, e);
    forget(s, e);
  }
}

void serve_forget_connection(cft_server *s, const serve_connection *c) {
  for (serve_exchange *e = s->exchanges; e; e = e->next)
    if (e->from == c) e->from = NULL;
}

// Clients whose request is worked on, and that have closed their end or take nothing.
void serve_look_for_leavers(cft_server *s) {
  size_t n = 0;
  for (serve_exchange *e = s->exchanges; e; e = e->next) n += e->evcon && e->from;
  struct pollfd *fds = n ? calloc(n, sizeof *fds) : NULL;
  if (!fds) return;
  n = 0;
  for (serve_exchange *e = s->exchanges; e; e = e->next)
    if (e->evcon && e->from)
      fds[n++] = (struct pollfd){.fd = s->ev->bufferevent_getfd(e->from->bev), .events = POLLRDHUP};
  int found = poll(fds, n, 0);
  n = 0;
  for (serve_exchange *e = s->exchanges; e; e = e->next) {
    if (!e->evcon || !e->from) continue;
    bool gone = found > 0 && (fds[n].revents & (POLLRDHUP | POLLHUP | POLLERR));
    bool slow = e->begun && serve_unsent(s, e->from) > (size_t)s->o.unsent_bytes;
    if (gone || slow) drop(s, e);
    ++n;
  }
  free(fds);
}

// ---- what they ask -----------------------------------------------------------------------------

static cft_status find(cft_server *s, serve_exchange **out, int64_t id) {
  for (serve_exchange *e = s->exchanges; e; e = e->next) {
    if (e->id != id) continue;
    *out = e;
    return CFT_OK;
  }
  return cft_fail(CFT_E_STATE, "serve: there is no request %lld", (long long)id);
}

static const char *method_of(const cft_server *s, const serve_exchange *e) {
  switch (s->ev->evhttp_request_get_command(e->request)) {
    case EVHTTP_REQ_GET: return "GET";
    case EVHTTP_REQ_HEAD: return "HEAD";
    case EVHTTP_REQ_OPTIONS: return "OPTIONS";
    default: return "POST";  // evhttp lets no other through
  }
}

static void show_body(cft_server *s, serve_exchange *e, cft_server_request *out) {
  struct evbuffer *body = s->ev->evhttp_request_get_input_buffer(e->request);
  out->bytes = (int64_t)s->ev->evbuffer_get_length(body);
  out->body = out->bytes ? (const char *)s->ev->evbuffer_pullup(body, -1) : "";
  if (!out->body) out->body = "", out->bytes = 0;  // no memory: no JSON, and so refused
}

bool cft_server_next(cft_server *s, cft_server_request *out) {
  for (serve_exchange *e = s->exchanges; e; e = e->next) {
    if (e->taken || e->left) continue;
    e->taken = true;
    const char *path = s->ev->evhttp_uri_get_path(s->ev->evhttp_request_get_evhttp_uri(e->request));
    *out = (cft_server_request){
        .id = e->id, .method = method_of(s, e), .path = path ? path : "", .fault = e->fault};
    show_body(s, e, out);
    return true;
  }
  return false;
}

void cft_server_drop_body(cft_server *s, int64_t id) {
  serve_exchange *e;
  if (find(s, &e, id) != CFT_OK || !e->request || e->left) return;
  struct evbuffer *body = s->ev->evhttp_request_get_input_buffer(e->request);
  s->ev->evbuffer_drain(body, s->ev->evbuffer_get_length(body));
}

const char *cft_server_header(cft_server *s, int64_t id, const char *name) {
  serve_exchange *e;
  if (find(s, &e, id) != CFT_OK || !e->request || e->left) return NULL;
  return s->ev->evhttp_find_header(s->ev->evhttp_request_get_input_headers(e->request), name);
}

int64_t cft_server_left(cft_server *s) {
  for (serve_exchange *e = s->exchanges, *next; e; e = next) {
    next = e->next;
    if (!e->left) continue;
    int64_t id = e->taken ? e->id : 0;
    forget(s, e);
    if (id) return id;  // of a request that nobody has seen nobody need know
  }
  return 0;
}

// ---- answers -----------------------------------------------------------------------------------

cft_status cft_server_put(cft_server *s, int64_t id, const char *name, const char *value) {
  serve_exchange *e;
  CFT_TRY(find(s, &e, id));
  if (!e->request || e->left) return CFT_OK;
  struct evkeyvalq *headers = s->ev->evhttp_request_get_output_headers(e->request);
  if (s->ev->evhttp_add_header(headers, name, value) == 0) return CFT_OK;
  return cft_fail(CFT_E_ARG, "serve: no header: %s", QUOTED(value));
}

static cft_status buffer_of(cft_server *s, struct evbuffer **out, const char *text, int64_t bytes) {
  *out = s->ev->evbuffer_new();
  if (*out && s->ev->evbuffer_add(*out, text, (size_t)bytes) == 0) return CFT_OK;
  if (*out) s->ev->evbuffer_free(*out);
  return cft_fail(CFT_E_OOM, "serve: out of memory");
}

cft_status cft_server_reply(cft_server *s, int64_t id, int status, const char *body,
                            int64_t bytes) {
  serve_exchange *e;
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
  serve_exchange *e;
  CFT_TRY(find(s, &e, id));
  e->begun = true;
  if (e->left) return CFT_OK;
  // What HTTP/1.0 gets in pieces ends where the connection does, whatever the client would rather
  // have.
  if (e->request->major == 1 && e->request->minor == 0)
    s->ev->evhttp_remove_header(s->ev->evhttp_request_get_input_headers(e->request), "Connection");
  s->ev->evhttp_send_reply_start(e->request, status, NULL);
  return CFT_OK;
}

cft_status cft_server_send(cft_server *s, int64_t id, const char *piece, int64_t bytes) {
  serve_exchange *e;
  CFT_TRY(find(s, &e, id));
  if (e->left) return CFT_OK;
  struct evbuffer *text;
  CFT_TRY(buffer_of(s, &text, piece, bytes));
  s->ev->evhttp_send_reply_chunk(e->request, text);
  s->ev->evbuffer_free(text);
  return CFT_OK;
}

cft_status cft_server_end(cft_server *s, int64_t id) {
  serve_exchange *e;
  CFT_TRY(find(s, &e, id));
  struct evhttp_request *request = e->left ? NULL : e->request;
  forget(s, e);
  if (request) s->ev->evhttp_send_reply_end(request);
  return CFT_OK;
}
