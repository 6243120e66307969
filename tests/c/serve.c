// serve.c - cft_serve.h against clients of our own: whole, malformed, huge, slow, gone. What cftrun
// makes of requests is in tests/serve.
#include "serve.h"

#include "oom.h"

// ---- the other side ----------------------------------------------------------------------------

// Answer what came: what is to be refused with 400 and why, else with what was asked.
static int answer_all(cft_server *s) {
  cft_server_request r;
  int count = 0;
  while (cft_server_next(s, &r)) {
    char text[300];
    snprintf(text, sizeof text, "%s %s %d", r.method, r.path, (int)r.bytes);
    cft_server_drop_body(s, r.id);
    if (r.fault) {
      (void)cft_server_put(s, r.id, "Connection", "close");
      (void)cft_server_reply(s, r.id, 400, r.fault, (int64_t)strlen(r.fault));
    } else {
      (void)cft_server_reply(s, r.id, 200, text, (int64_t)strlen(text));
    }
    ++count;
  }
  while (cft_server_left(s)) continue;
  return count;
}

// Let the server go on until it has nothing to do for a moment, or a client's connection has ended.
static void settle(cft_server *s, client *c, bool answers) {
  for (int quiet = 0; quiet < 5;) {
    size_t before = c ? c->n : 0;
    (void)cft_server_poll(s, 1);
    int did = answers ? answer_all(s) : 0;
    if (c) client_read(c);
    if (c && c->ended) return;
    quiet = did || (c && c->n > before) ? 0 : quiet + 1;
  }
}

// What a client that sends `bytes` gets.
static void ask(cft_server *s, client *c, const char *bytes) {
  if (!client_open(c, s)) TEST_FAIL("no connection: %s", strerror(errno));
  client_send(c, bytes, strlen(bytes));
  settle(s, c, true);
}

// ---- one reading -------------------------------------------------------------------------------

#define GET "GET /a HTTP/1.1\r\nHost: localhost\r\n"
#define POST "POST /a HTTP/1.1\r\nHost: localhost\r\n"

TEST(requests_are_read_in_one_way_or_refused_and_the_connection_closed) {
  static const struct {
    const char *bytes;
    int status;
    const char *says;
    bool stays;
  } cases[] = {
      {GET "\r\n", 200, "GET /a 0", true},
      {GET "Connection: close\r\n\r\n", 200, "GET /a 0", false},
      {"GET /a?b=c HTTP/1.1\nHost: x\n\n", 200, "GET /a 0", true},
      {"GET /%61 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "GET /%61 0", true},
      {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 200, "OPTIONS * 0", true},
      {POST "Content-Length: 3\r\n\r\nabc", 200, "POST /a 3", true},
      {POST "Content-Length: 0\r\n\r\n", 200, "POST /a 0", true},
      {POST "\r\n", 200, "POST /a 0", true},
      {POST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200, "POST /a 3",
       true},
      {"GET http://localhost/a HTTP/1.1\r\nHost: localhost:80\r\n\r\n", 200, "GET /a 0", false},
      {"GET /a HTTP/1.0\r\n\r\n", 200, "GET /a 0", false},
      {POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx", 200, "POST /a 1", true},
      // lengths
      {POST "Content-Length: 1\r\nContent-Length: 3\r\n\r\nabc", 400, "twice", false},
      {POST "Content-Length: +3\r\n\r\nabc", 400, "Content-Length is no number", false},
      {POST "Content-Length: 3 \r\n\r\nabc", 200, "POST /a 3", true},
      {POST "Content-Length : 3\r\n\r\nGET", 400, "no valid name", false},
      {POST "Content-Length: 0x3\r\n\r\nabc", 400, "", false},
      {POST "Content-Length: -3\r\n\r\nabc", 400, "", false},
      {POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "", false},
      {POST "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", 400, "", false},
      {POST "Transfer-Encoding: gzip\r\n\r\n", 400, "Transfer-Encoding", false},
      {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400, "",
       false},
      {"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding",
       false},
      {GET "Content-Length: 3\r\n\r\nabc", 400, "only POST has a body", false},
      {"HEAD /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400, "", false},
      {"OPTIONS /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400,
       "only POST has a body", false},
      // headers
      {GET "Host: evil\r\n\r\n", 400, "twice", false},
      {GET "origin: a\r\nOrigin: b\r\n\r\n", 400, "twice", false},
      {GET ": x\r\n\r\n", 400, "no valid name", false},
      {GET "a b: x\r\n\r\n", 400, "no valid name", false},
      {GET "X: a\x01\r\n\r\n", 400, "control characters", false},
      {GET "nothing\r\n\r\n", 400, "", false},
      {POST "Expect: tea\r\nContent-Length: 1\r\n\r\nx", 417, "", false},
      // first lines
      {"GET http://evil/a HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "two machines", false},
      {"GET http://localhos/a HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "two machines", false},
      {"GET /a HTTP/1.9\r\nHost: x\r\n\r\n", 400, "speaks HTTP/1.0 and HTTP/1.1", false},
      {"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", 400, "", false},
      {"GET /a\r\n\r\n", 400, "", false},
      {"NONSENSE\r\n\r\n", 400, "", false},
      {"DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n", 501, "", false},
      // bodies in pieces that are none
      {POST "Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n", 413, "", false},
      {POST "Transfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n0\r\n\r\n", 413, "", false},
      {POST "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab\r\n0\r\n\r\n", 413, "",
       false},
  };
  cft_server *s;
  EXPECT_OK(cft_server_new(&s, &usual));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    client c;
    ask(s, &c, cases[i].bytes);
    client_close(&c);
    if (status_of(&c) != cases[i].status || !strstr(c.got, cases[i].says) ||
        c.ended == cases[i].stays)
      TEST_FAIL("\"%s\" got \"%s\"%s", cases[i].bytes, c.got,
                c.ended ? ", and the connection ended" : "");
  }
  settle(s, NULL, true);
  EXPECT_INT(look(s).connections, 0);
  cft_server_release(s);
}

TEST(requests_behind_each_other_are_answered_in_turn_and_a_body_is_none_of_them) {
  cft_server *s;
  client c;
  EXPECT_OK(cft_server_new(&s, &usual));
  ask(s, &c, GET "\r\n" POST "Content-Length: 2\r\n\r\nabGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  client_close(&c);
  const char *first = strstr(c.got, "GET /a 0"),
             *second = first ? strstr(first, "POST /a 2") : NULL;
  EXPECT(second && strstr(second, "GET /b 0"));
  ask(s, &c, GET "Content-Length: 34\r\n\r\nGET /b HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client_close(&c);
  EXPECT(status_of(&c) == 400 && !strstr(c.got, "GET /b"));
  cft_server_release(s);
}

// ---- bounds ------------------------------------------------------------------------------------

TEST(headers_and_bodies_that_are_too_large) {
  cft_server *s;
  client c;
  char *large = malloc(30000);
  EXPECT_OK(cft_server_new(&s, &usual));
  for (int lines = 0; lines < 2; ++lines) {
    int n = sprintf(large, GET "X: ");
    for (int i = n; i < 6000; ++i)
      large[i] = lines && i % 40 == 0 ? '\n' : lines && i % 40 == 2 ? ':' : 'x';
    strcpy(large + 6000, "\r\n\r\n");
    ask(s, &c, large);
    client_close(&c);
    EXPECT_INT(status_of(&c), 400);
  }
  sprintf(large, POST "Content-Length: 10001\r\n\r\n");
  ask(s, &c, large);
  client_close(&c);
  EXPECT_INT(status_of(&c), 413);
  int n = sprintf(large, POST "Transfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 6; ++i) {
    n += sprintf(large + n, "7d0\r\n");
    memset(large + n, 'x', 2000);
    n += 2000;
    n += sprintf(large + n, "\r\n");
  }
  ask(s, &c, large);
  client_close(&c);
  EXPECT_INT(status_of(&c), 413);
  free(large);
  cft_server_release(s);
}

TEST(more_connections_than_may_be_wait_and_the_idle_are_closed) {
  cft_server_options o = usual;
  o.connections = 2;
  o.idle_ms = 300;
  cft_server *s;
  client c[3];
  EXPECT_OK(cft_server_new(&s, &o));
  for (int i = 0; i < 3; ++i) {
    EXPECT(client_open(&c[i], s));
    client_send(&c[i], GET, strlen(GET));  // half a request
    settle(s, NULL, true);
  }
  EXPECT_INT(look(s).connections, 2);
  client_send(&c[2], "\r\n", 2);
  double end = test_now() + 5;
  while (!c[2].n && test_now() < end) settle(s, &c[2], true);
  EXPECT_INT(status_of(&c[2]), 200);
  for (int i = 0; i < 2; ++i) {
    client_read(&c[i]);
    EXPECT(c[i].ended && c[i].n == 0);
  }
  for (int i = 0; i < 3; ++i) client_close(&c[i]);
  cft_server_release(s);
}

TEST(a_client_that_trickles_its_request_has_no_more_time) {
  cft_server_options o = usual;
  o.idle_ms = 200;
  cft_server *s;
  client c;
  EXPECT_OK(cft_server_new(&s, &o));
  EXPECT(client_open(&c, s));
  double began = test_now();
  while (!c.ended && test_now() < began + 5) {
    client_send(&c, "G", 1);
    usleep(5000);
    (void)cft_server_poll(s, 0);
    client_read(&c);
  }
  EXPECT(c.ended && test_now() > began + 0.19);
  client_close(&c);
  cft_server_release(s);
}

TEST(bodies_that_do_not_end_hold_no_more_than_sixteen_of_the_largest) {
  cft_server *s;
  client c[20];
  char *part = calloc(1, 9000);
  EXPECT_OK(cft_server_new(&s, &usual));
  const char *head = POST "Content-Length: 10000\r\n\r\n";
  for (int i = 0; i < 20; ++i) {
    EXPECT(client_open(&c[i], s));
    client_send(&c[i], head, strlen(head));
    client_send(&c[i], part, 9000);
    settle(s, NULL, true);
  }
  settle(s, NULL, true);
  int open = look(s).connections;
  EXPECT(open == 16 || open == 17);  // 160,000 bytes with their headers
  for (int i = 0; i < 20; ++i) client_close(&c[i]);
  free(part);
  cft_server_release(s);
}

// ---- answers -----------------------------------------------------------------------------------

// The next request of a client that sent one.
static int64_t next_of(cft_server *s) {
  cft_server_request r;
  for (int i = 0; i < 200; ++i) {
    (void)cft_server_poll(s, 5);
    if (cft_server_next(s, &r)) return r.id;
  }
  return 0;
}

TEST(an_answer_in_pieces) {
  static const struct {
    const char *asks, *wanted, *unwanted;
    bool ends;
  } cases[] = {
      {GET "\r\n", "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", "Content-Length", false},
      {"GET /a HTTP/1.0\r\n\r\n", "\r\n\r\nonetwo", "Content-Length", true},
      {"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "\r\n\r\nonetwo", "Content-Length",
       true},
  };
  cft_server *s;
  EXPECT_OK(cft_server_new(&s, &usual));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    client c;
    EXPECT(client_open(&c, s));
    client_send(&c, cases[i].asks, strlen(cases[i].asks));
    int64_t id = next_of(s);
    EXPECT_OK(cft_server_put(s, id, "X-A", "b"));
    EXPECT_FAILS(cft_server_put(s, id, "X-A", "b\r\nX-Injected: c"), CFT_E_ARG, "no header");
    EXPECT_OK(cft_server_begin(s, id, 200));
    EXPECT_OK(cft_server_send(s, id, "one", 3));
    EXPECT_OK(cft_server_send(s, id, "two", 3));
    EXPECT_OK(cft_server_end(s, id));
    EXPECT_FAILS(cft_server_send(s, id, "three", 5), CFT_E_STATE, "no request");
    EXPECT_FAILS(cft_server_reply(s, id, 200, "", 0), CFT_E_STATE, "no request");
    EXPECT(!cft_server_header(s, id, "Host"));
    settle(s, &c, true);
    client_close(&c);
    if (!strstr(c.got, cases[i].wanted) || strstr(c.got, cases[i].unwanted) ||
        !strstr(c.got, "X-A: b") || strstr(c.got, "Injected") || c.ended != cases[i].ends)
      TEST_FAIL("\"%s\" got \"%s\"", cases[i].asks, c.got);
  }
  cft_server_release(s);
}

TEST(clients_that_leave_before_within_and_behind_their_answer) {
  cft_server *s;
  EXPECT_OK(cft_server_new(&s, &usual));
  for (int when = 0; when < 4; ++when) {
    client c;
    EXPECT(client_open(&c, s));
    client_send(&c, GET "\r\n", strlen(GET "\r\n"));
    int64_t id = 0;
    if (when > 0) id = next_of(s);
    if (when == 2) EXPECT_OK(cft_server_begin(s, id, 200));
    if (when == 2) EXPECT_OK(cft_server_send(s, id, "x", 1));
    if (when == 3) EXPECT_OK(cft_server_reply(s, id, 200, "x", 1));
    if (when == 0) (void)cft_server_poll(s, 5);  // it came, and nobody has seen it
    client_close(&c);
    settle(s, NULL, false);
    if (when == 1 || when == 2) {
      EXPECT_OK(cft_server_send(s, id, "y", 1));  // nobody is there to get it
      EXPECT_INT(cft_server_left(s), id);
    }
    EXPECT_INT(cft_server_left(s), 0);
    EXPECT_INT(look(s).requests, 0);
    settle(s, NULL, false);
    EXPECT_INT(look(s).connections, 0);
  }
  cft_server_release(s);
}

TEST(what_a_client_sends_on_while_it_is_answered_waits_in_the_kernel) {
  cft_server *s;
  client c;
  char *more = calloc(1, 1 << 20);
  size_t sent = 0;
  EXPECT_OK(cft_server_new(&s, &usual));
  EXPECT(client_open(&c, s));
  client_send(&c, GET "\r\n", strlen(GET "\r\n"));
  int64_t id = next_of(s);
  for (int i = 0; i < 100; ++i) {  // until the kernel takes no more, for the server does not
    sent += client_send(&c, more, 1 << 20);
    (void)cft_server_poll(s, 1);
  }
  EXPECT(sent < (size_t)20 << 20);
  client_read(&c);
  EXPECT(!c.ended);
  EXPECT_OK(cft_server_reply(s, id, 200, "x", 1));
  settle(s, &c, true);
  EXPECT_INT(status_of(&c), 200);
  EXPECT(c.ended && strstr(c.got, "400 Bad Request"));
  client_close(&c);
  free(more);
  cft_server_release(s);
}

TEST(a_client_that_takes_nothing_of_a_stream_is_dropped) {
  cft_server *s;
  client c;
  char *piece = calloc(1, 50000);
  EXPECT_OK(cft_server_new(&s, &usual));
  EXPECT(client_open(&c, s));
  client_send(&c, GET "\r\n", strlen(GET "\r\n"));
  int64_t id = next_of(s), left = 0;
  EXPECT_OK(cft_server_begin(s, id, 200));
  int sent = 0;
  for (; sent < 1000 && !left; ++sent) {  // the kernel takes some megabytes
    EXPECT_OK(cft_server_send(s, id, piece, 50000));
    EXPECT(look(s).unsent < 200000);
    (void)cft_server_poll(s, 0);
    left = cft_server_left(s);
  }
  EXPECT_INT(left, id);
  client_close(&c);
  free(piece);
  cft_server_release(s);
}

TEST(listening) {
  cft_server *s, *other;
  cft_server_options o = usual;
  EXPECT_OK(cft_server_new(&s, &usual));
  EXPECT(cft_server_is_local(s));
  o.port = cft_server_port(s);
  EXPECT_FAILS(cft_server_new(&other, &o), CFT_E_IO, "cannot listen on \"127.0.0.1\"");
  cft_server_stop(s);
  cft_server_stop(s);
  client c;
  EXPECT(!client_open(&c, s));
  client_close(&c);
  EXPECT_OK(cft_server_new(&other, &o));
  cft_server_release(other);
  cft_server_release(s);
  o.port = 0;
  o.host = "0.0.0.0";
  EXPECT_FAILS(cft_server_new(&s, &o), CFT_E_ARG, "no key is wanted");
  o.anywhere = true;
  EXPECT_OK(cft_server_new(&s, &o));
  EXPECT(!cft_server_is_local(s));
  cft_server_release(s);
  o.host = "no.such.host.invalid";
  EXPECT_FAILS(cft_server_new(&s, &o), CFT_E_ARG, "no address");
  o.connections = 0;
  EXPECT_FAILS(cft_server_new(&s, &o), CFT_E_ARG, "limits");
  cft_server_release(NULL);
}

TEST(secrets) {
  EXPECT(cft_same_secret("secret-key", "secret-key"));
  const char *others[] = {"", "s", "secret-ke", "secret-kez", "secret-keyy", "Secret-key"};
  for (size_t i = 0; i < sizeof others / sizeof *others; ++i)
    EXPECT(!cft_same_secret(others[i], "secret-key"));
}

// ---- memory ------------------------------------------------------------------------------------

#ifdef CFT_TEST_OOM
static int64_t left;  // allocations until one fails, among those of `within`

// Only what we call counts: evhttp of libevent 2.1 loses memory, or its way, where it has none for
// a connection.
#define within(call) (countdown = left, (call), left = countdown, countdown = -1)

static void answer(cft_server *s, bool whole) {
  cft_server_request r;
  while (cft_server_next(s, &r)) {
    cft_server_drop_body(s, r.id);
    within((void)cft_server_put(s, r.id, "X-A", "b"));
    if (whole) {
      cft_status st;
      within(st = cft_server_reply(s, r.id, 200, "whole", 5));
      if (st != CFT_OK) (void)cft_server_reply(s, r.id, 503, "", 0);  // it is there still
    } else {
      within((void)cft_server_begin(s, r.id, 200));
      within((void)cft_server_send(s, r.id, "piece", 5));
      within((void)cft_server_end(s, r.id));
    }
  }
}

// A request that is answered whole and one that is answered in pieces.
static cft_status two_requests(void) {
  cft_server *s;
  cft_status st;
  within(st = cft_server_new(&s, &usual));
  if (st != CFT_OK) return st;
  static client c;
  for (int whole = 0; whole < 2; ++whole) {
    if (!client_open(&c, s)) continue;
    client_send(&c, POST "Content-Length: 3\r\n\r\nabc",
                strlen(POST "Content-Length: 3\r\n\r\nabc"));
    for (int turn = 0; turn < 4; ++turn) {
      (void)cft_server_poll(s, 0);
      answer(s, whole);
      while (cft_server_left(s)) continue;
      client_read(&c);
    }
    client_close(&c);
    (void)cft_server_poll(s, 0);
  }
  cft_server_release(s);
  return CFT_OK;
}

TEST(memory_that_runs_out) {
  left = -1;
  if (two_requests() != CFT_OK)
    TEST_FAIL("%s", cft_last_error());  // the library is open from here on
  for (int64_t n = 0;; ++n) {
    int64_t before = alive;
    left = n;
    cft_status st = two_requests();
    if (alive != before)
      TEST_FAIL("allocation %" PRId64 " fails: %" PRId64 " leak", n, alive - before);
    if (st != CFT_OK && st != CFT_E_OOM)
      TEST_FAIL("allocation %" PRId64 " fails: %s, \"%s\"", n, cft_status_name(st),
                cft_last_error());
    if (left >= 0) break;
  }
}
#endif

TEST_MAIN()
