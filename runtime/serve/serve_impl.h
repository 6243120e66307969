// serve_impl.h - a server, for the files that make one.
//
// evhttp reads a request whole and hands it over; it knows no bound on connections, times only the
// pause between two reads, does not look at a client whose request is being worked on, and takes a
// request that can be read in two ways in one of them. These four are done here.
#ifndef CFT_SERVE_IMPL_H
#define CFT_SERVE_IMPL_H

#include <signal.h>
#include <stdbool.h>

#include "cft_serve.h"
#include "serve/library.h"

// connection.c: a client.
typedef struct serve_connection {
  struct serve_connection *next;
  struct bufferevent *bev;  // we hold a reference: what evhttp has freed is seen by its callbacks,
                            // which are gone
  int64_t since;            // when it last came forward: accepted, answered, or took some of an
                            // answer; milliseconds
  size_t unsent;            // bytes of answers when it was last looked at
  int64_t brought;          // bytes of a request that is not in our hands yet
  bool asked;               // a request of it is in our hands
} serve_connection;

// exchange.c: a request in our hands, until it is answered.
typedef struct serve_exchange {
  struct serve_exchange *next;
  int64_t id;
  serve_connection *from;           // NULL when that is gone
  struct evhttp_request *request;   // NULL when evhttp has freed it
  struct evhttp_connection *evcon;  // NULL when that is gone
  cft_server *server;
  const char *fault;  // why it has no single reading, NULL where it has
  bool taken;         // somebody knows of it
  bool begun;         // an answer in pieces
  bool left;          // nobody waits for an answer
} serve_exchange;

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
  int port;
  bool local;                          // only this machine reaches it
  bool resting;                        // it accepts nobody
  int64_t rests_until;                 // at least
  serve_connection *pool;              // room for all that may be open
  serve_connection *connections, *no;  // those that are, and those that are not
  int count;                           // of the former
  serve_exchange *exchanges;           // in the order they came
  int64_t last_id;
};

int64_t serve_now_ms(void);

// listen.c. Accept nobody for a while.
void serve_rest(cft_server *s);
cft_status serve_listen(cft_server *s);

// connection.c. What evhttp calls for the buffers of a client that it accepts; look at them all.
struct bufferevent *serve_on_accept(struct event_base *base, void *server);
bool serve_is_gone(const cft_server *s, const serve_connection *c);
size_t serve_unsent(const cft_server *s, const serve_connection *c);
void serve_look_at_connections(cft_server *s);

// exchange.c. What evhttp calls with a request; end what nobody waits for; let go of all.
void serve_on_request(struct evhttp_request *request, void *server);
void serve_look_for_leavers(cft_server *s);
void serve_drop_exchanges(cft_server *s);
void serve_forget_connection(cft_server *s, const serve_connection *c);

// reading.c. Why a request could be read in another way than evhttp has, as by a proxy in front of
// us; NULL where it could not.
const char *serve_fault(const cft_event *ev, struct evhttp_request *request);

#endif
