// serve_noise.c - cft_serve.h against requests that nobody should make, 3,000 connections of them
// or as many as CFT_FUZZ says.
#include "http_noise.h"
#include "serve.h"

// One turn of whoever answers: whole, in pieces, or not yet.
static void answer_somehow(cft_server *s, uint64_t *state) {
  static int64_t begun[64];
  static int n;
  cft_server_request r;
  while (cft_server_next(s, &r)) {
    if (noise_below(state, 2)) cft_server_drop_body(s, r.id);
    (void)cft_server_header(s, r.id, "Authorization");
    if (noise_below(state, 2) || n == 64) {
      (void)cft_server_reply(s, r.id, r.fault ? 400 : 200, "whole", 5);
    } else {
      (void)cft_server_begin(s, r.id, 200);
      begun[n++] = r.id;
    }
  }
  for (int i = n - 1; i >= 0; --i) {
    if (noise_below(state, 2)) {
      (void)cft_server_send(s, begun[i], "piece", 5);
    } else {
      (void)cft_server_end(s, begun[i]);  // of a client that has left too
      begun[i] = begun[--n];
    }
  }
  while (cft_server_left(s)) continue;
}

TEST(noise_breaks_nothing) {
  const char *asked = getenv("CFT_FUZZ");
  long rounds = asked ? atol(asked) : 3000;
  cft_server_options o = usual;
  o.idle_ms = 60000;
  cft_server *s;
  static char bytes[1 << 16];
  static client c[4];
  uint64_t state = 1;
  int answered = 0;
  EXPECT_OK(cft_server_new(&s, &o));
  for (int i = 0; i < 4; ++i) c[i].fd = -1;
  for (long round = 0; round < rounds; ++round) {
    client *one = &c[round % 4];
    client_close(one);
    EXPECT(client_open(one, s));
    size_t n = noise_make(&state, bytes, sizeof bytes);
    for (size_t at = 0; at < n;) {
      size_t part = noise_below(&state, 3) ? n - at : 1 + noise_below(&state, (unsigned)(n - at));
      size_t sent = client_send(one, bytes + at, part);
      at += sent ? sent : part;
      EXPECT_OK(cft_server_poll(s, 0));
      answer_somehow(s, &state);
    }
    client_read(one);
    if (noise_below(&state, 8) == 0) shutdown(one->fd, SHUT_WR);
    EXPECT_OK(cft_server_poll(s, 0));
    answer_somehow(s, &state);
    client_read(one);
    if (one->n > 0 && !status_of(one)) TEST_FAIL("round %ld got \"%s\"", round, one->got);
    answered += one->n > 0;
  }
  for (int i = 0; i < 4; ++i) client_close(&c[i]);
  double end = test_now() + 5;
  while (look(s).connections > 0 && test_now() < end) {
    EXPECT_OK(cft_server_poll(s, 1));
    answer_somehow(s, &state);
  }
  EXPECT_INT(look(s).connections, 0);
  EXPECT_INT(look(s).requests, 0);
  EXPECT(answered > rounds / 4);
  cft_server_release(s);
}

TEST_MAIN()
