// cft_serve.h - a server of HTTP/1.1 for `cftrun serve`: requests are taken in whole and wait in a
// queue until they are asked for; answers are sent whole or piece by piece. What a request means is
// lua/cft/serve's.
//
// One loop, libevent's, which runs while cft_server_poll does and at no other time: nothing calls
// Lua. libevent is opened by the first cft_server_new of a process. One thread uses a server. TLS
// is left to a proxy.
#ifndef CFT_SERVE_H
#define CFT_SERVE_H

#include "base.h"

#ifndef CFT_CDEF
#include <stdbool.h>
#endif

typedef struct cft_server cft_server;

typedef struct cft_server_options {
  const char *host;  // an address or a name; the first address that it stands for is listened on
  int port;          // 0: one that is free
  bool anywhere;     // whether it may be an address that other machines reach
  int64_t header_bytes;  // of a request's first line and headers, at most; more are answered 400
  int64_t body_bytes;    // of its body, at most; more are answered 413
  int connections;       // open at once; more wait in the kernel's queue
  int idle_ms;  // a connection that brings no whole request for so long, or takes nothing of its
                // answer, is closed
  int64_t unsent_bytes;  // of an answer that is sent in pieces and that its client does not take,
                         // at most
} cft_server_options;

// Listen. SIGPIPE is ignored until the server is released: a client that leaves is no reason to
// end. E_UNSUPPORTED where libevent is missing; E_ARG for an address that does not exist or that
// other machines reach, where that is not allowed; E_IO where it cannot be listened on; E_OOM.
CFT_API cft_status cft_server_new(cft_server **out, const cft_server_options *o);

// Close it all; answers that are not on their way are lost. NULL is accepted.
CFT_API void cft_server_release(cft_server *s);

// The port that it listens on.
CFT_API int cft_server_port(const cft_server *s);

// Whether only this machine reaches it.
CFT_API bool cft_server_is_local(const cft_server *s);

// Let things happen: for `ms` milliseconds at most, or until something has. 0 does not wait.
CFT_API cft_status cft_server_poll(cft_server *s, int ms);

// Listen no longer. Connections that are open stay.
CFT_API void cft_server_stop(cft_server *s);

// Texts are the request's: valid until it is answered or its client has left; the body, until
// cft_server_drop_body.
typedef struct cft_server_request {
  int64_t id;          // > 0
  const char *method;  // "GET", "HEAD", "POST" or "OPTIONS"
  const char *path;    // of the URL, as it came, without a query
  const char *body;    // `bytes` of them, not terminated
  int64_t bytes;
  const char *fault;  // what makes another request of it for another reader, as "Content-Length is
                      // no number": it is to be refused, and its connection closed; NULL: nothing
} cft_server_request;

// The next request that came. False where there is none.
CFT_API bool cft_server_next(cft_server *s, cft_server_request *out);

// The body was read: its bytes are let go of before the request is answered. An id that is no more
// is none.
CFT_API void cft_server_drop_body(cft_server *s, int64_t id);

// A header of a request that is not answered yet, the first of this name; NULL where it has none.
CFT_API const char *cft_server_header(cft_server *s, int64_t id, const char *name);

// A request whose client has left, or takes nothing, before it was answered: each once, its id is
// no more. 0 for none.
CFT_API int64_t cft_server_left(cft_server *s);

// A header of the answer, before anything of it is sent. E_STATE for an id that is no more (as
// below), E_ARG for a value that no header can hold.
CFT_API cft_status cft_server_put(cft_server *s, int64_t id, const char *name, const char *value);

// Answer with one body, of `bytes`; the id is no more. Where the client has left nothing is sent.
CFT_API cft_status cft_server_reply(cft_server *s, int64_t id, int status, const char *body,
                                    int64_t bytes);

// Answer in pieces: begin, send as often as one likes, end, after which the id is no more.
CFT_API cft_status cft_server_begin(cft_server *s, int64_t id, int status);
CFT_API cft_status cft_server_send(cft_server *s, int64_t id, const char *piece, int64_t bytes);
CFT_API cft_status cft_server_end(cft_server *s, int64_t id);

typedef struct cft_server_view {
  int connections;  // open
  int requests;     // that came and are not answered
  int64_t unsent;   // bytes of answers that are not on their way
} cft_server_view;
CFT_API void cft_server_look(cft_server *s, cft_server_view *out);

// Whether two texts are equal, in a time that depends on the length of the first alone.
CFT_API bool cft_same_secret(const char *came, const char *wanted);

#endif
