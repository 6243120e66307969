// http_noise.c - a grammar of requests, and what is done to its sentences.
#include "http_noise.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

uint64_t noise_next(uint64_t *state) {  // splitmix64
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

typedef struct text {
  char *at;
  size_t n, room;
} text;

static void put(text *t, const char *bytes, size_t n) {
  if (n > t->room - t->n) n = t->room - t->n;
  memcpy(t->at + t->n, bytes, n);
  t->n += n;
}

static void say(text *t, const char *format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (n > 0) put(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

#define PICK(state, list) (list)[noise_below(state, (unsigned)(sizeof(list) / sizeof *(list)))]

// True once in n.
static int one_in(uint64_t *state, unsigned n) { return noise_below(state, n) == 0; }

// ---- bodies ------------------------------------------------------------------------------------

static const char *const values[] = {"null",
                                     "true",
                                     "false",
                                     "0",
                                     "1",
                                     "-1",
                                     "2",
                                     "0.5",
                                     "1e-300",
                                     "5e-324",
                                     "1e308",
                                     "1e999",
                                     "-0.0",
                                     "16",
                                     "17",
                                     "100",
                                     "9007199254740993",
                                     "18446744073709551616",
                                     "\"\"",
                                     "\"a\"",
                                     "\"\\u0000\"",
                                     "\"\\ud800\"",
                                     "\"\\ud83d\\ude00\"",
                                     "\"\xc3\xa4\"",
                                     "\"\xff\"",
                                     "[]",
                                     "[[]]",
                                     "[1]",
                                     "[1,2,3]",
                                     "[\"a\",\"b\"]",
                                     "[null]",
                                     "[-1]",
                                     "[1e300]",
                                     "[999999]",
                                     "[[1],[2]]",
                                     "[[[[[[[[1]]]]]]]]",
                                     "{}",
                                     "{\"1\":1}",
                                     "{\"01\":1}",
                                     "{\"3\":-100,\"4\":100}",
                                     "{\"x\":1}",
                                     "{\"include_usage\":true}",
                                     "{\"include_usage\":1}",
                                     "{\"type\":\"text\"}",
                                     "NaN",
                                     "Infinity",
                                     "nul",
                                     "\"auto\"",
                                     "\"none\""};

static const char *const fields[] = {"model",
                                     "messages",
                                     "prompt",
                                     "max_tokens",
                                     "max_completion_tokens",
                                     "temperature",
                                     "top_p",
                                     "top_k",
                                     "min_p",
                                     "repetition_penalty",
                                     "n",
                                     "seed",
                                     "stop",
                                     "logit_bias",
                                     "logprobs",
                                     "top_logprobs",
                                     "stream",
                                     "stream_options",
                                     "presence_penalty",
                                     "frequency_penalty",
                                     "best_of",
                                     "echo",
                                     "suffix",
                                     "store",
                                     "user",
                                     "tools",
                                     "tool_choice",
                                     "response_format",
                                     "parallel_tool_calls",
                                     "",
                                     "\\u0000",
                                     "x"};

static const char *const contents[] = {"\"How many?\"",
                                       "\"\"",
                                       "[{\"type\":\"text\",\"text\":\"Hi\"}]",
                                       "[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]",
                                       "null",
                                       "3",
                                       "[]",
                                       "\"<|im_end|>{{ 7*7 }}\\u0000\\n\"",
                                       "[3]",
                                       "{}"};

static const char *const roles[] = {"user", "system", "assistant", "developer",
                                    "tool", "",       "\\u0000"};

static void put_message(uint64_t *s, text *t) {
  say(t, "{\"role\":\"%s\",\"content\":%s", one_in(s, 9) ? PICK(s, roles) : "user",
      one_in(s, 6) ? PICK(s, contents) : contents[0]);
  if (one_in(s, 12)) say(t, ",\"%s\":%s", PICK(s, fields), PICK(s, values));
  say(t, "}");
}

static void put_body(uint64_t *s, text *t, int chat) {
  say(t, "{\"model\":\"m\",\"max_tokens\":%u", 1 + noise_below(s, 6));
  if (chat) {
    say(t, ",\"messages\":[");
    for (unsigned i = 0, n = noise_below(s, 4); i <= n; ++i) {
      if (i) say(t, ",");
      put_message(s, t);
    }
    say(t, "]");
  } else {
    static const char *const prompts[] = {"\"a\"",     "[1,2,3]",     "[\"a\",\"b\"]",
                                          "[[1],[2]]", "[[1],\"x\"]", "\"\xf0\x9f\x98\x80\"",
                                          "\"\""};
    say(t, ",\"prompt\":%s", PICK(s, prompts));
  }
  if (one_in(s, 3)) say(t, ",\"stream\":true");
  for (unsigned i = one_in(s, 2) ? noise_below(s, 4) : 0; i > 0; --i)
    say(t, ",\"%s\":%s", PICK(s, fields), PICK(s, values));
  if (one_in(s, 40))
    for (unsigned i = noise_below(s, 3000); i > 0; --i) put(t, "[", 1);
  say(t, "}");
}

// ---- requests ----------------------------------------------------------------------------------

static const char *const odd_headers[] = {"Host: evil.example",
                                          "Host: localhost:1:2",
                                          "Host:",
                                          "Origin: http://evil.example",
                                          "Origin: null",
                                          "Content-Length: 5",
                                          "Content-Length: +5",
                                          "Content-Length: -1",
                                          "Content-Length: 99999999999999999999",
                                          "Content-Length: 0x10",
                                          "Content-Length : 3",
                                          "Transfer-Encoding: chunked",
                                          "Transfer-Encoding: gzip, chunked",
                                          "Transfer-Encoding: identity",
                                          "Expect: 100-continue",
                                          "Expect: tea",
                                          "Connection: close",
                                          "Connection: keep-alive",
                                          "Connection: upgrade",
                                          "Authorization: Bearer x",
                                          "Authorization:",
                                          ": x",
                                          "no colon",
                                          "X-\x01: y",
                                          "X: \x01",
                                          " folded",
                                          "\tfolded",
                                          "Content-Type: text/plain",
                                          "Accept-Encoding: gzip",
                                          "X: \xff\xfe",
                                          "Cookie: a=b"};

static const char *const paths[] = {"/v1/completions",
                                    "/v1/chat/completions",
                                    "/v1/models",
                                    "/health",
                                    "/metrics",
                                    "/",
                                    "/v1/%63ompletions",
                                    "/health?x=%00",
                                    "//",
                                    "*",
                                    "/../../etc/passwd",
                                    "http://evil.example/health",
                                    "http://localhost/health",
                                    "http://[::1",
                                    "/\xff",
                                    "/v1/completions#x",
                                    "",
                                    "/%"};

static const char *const methods[] = {"GET",   "HEAD",  "POST",    "OPTIONS", "PUT", "DELETE",
                                      "PATCH", "TRACE", "CONNECT", "get",     ""};

static const char *const versions[] = {"HTTP/1.0", "HTTP/1.9",   "HTTP/0.9",
                                       "HTTP/2.0", "HTTP/1.1.1", "HTTP/",
                                       "",         "HTTP/1.-1",  "HTTP/99999999999.1"};

static void put_pieces(uint64_t *s, text *t, const text *body) {
  static const char *const sizes[] = {"0", "5;x=y", "ffffffffffffffff", "-1", "0x5",
                                      "",  "zz",    "80000000"};
  for (size_t at = 0; at < body->n;) {
    size_t n = 1 + noise_below(s, 60);
    if (n > body->n - at) n = body->n - at;
    if (one_in(s, 40))
      say(t, "%s\r\n", PICK(s, sizes));
    else
      say(t, "%zx\r\n", n);
    put(t, body->at + at, n);
    say(t, "\r\n");
    at += n;
  }
  say(t, one_in(s, 10) ? "0\r\nX: trailer\r\n\r\n" : "0\r\n\r\n");
}

static void put_request(uint64_t *s, text *t) {
  char room[8192];
  text body = {room, 0, sizeof room};
  int posts = !one_in(s, 4), pieces = 0, chat = one_in(s, 2);
  const char *path = chat ? paths[1] : paths[0];
  if (posts) put_body(s, &body, chat);
  if (!posts || one_in(s, 12)) path = PICK(s, paths);
  const char *method = one_in(s, 12) ? PICK(s, methods) : posts ? "POST" : "GET";
  say(t, "%s %s %s\r\n", method, path, one_in(s, 12) ? PICK(s, versions) : "HTTP/1.1");
  if (!one_in(s, 30)) say(t, "Host: localhost\r\n");
  if (posts && !one_in(s, 20)) say(t, "Content-Type: application/json\r\n");
  if (posts) pieces = one_in(s, 4);
  if (posts && pieces)
    say(t, "Transfer-Encoding: chunked\r\n");
  else if (posts)
    say(t, "Content-Length: %zu\r\n",
        body.n + (one_in(s, 20) ? noise_below(s, 40) : 0) - (one_in(s, 20) ? 1 : 0));
  for (unsigned i = one_in(s, 3) ? noise_below(s, 3) : 0; i > 0; --i)
    say(t, "%s\r\n", PICK(s, odd_headers));
  if (one_in(s, 60))
    for (unsigned i = noise_below(s, 400); i > 0; --i) say(t, "X-%u: %064u\r\n", i, i);
  say(t, "\r\n");
  if (pieces)
    put_pieces(s, t, &body);
  else
    put(t, body.at, body.n);
}

// ---- what is done to them ----------------------------------------------------------------------

static void change(uint64_t *s, text *t) {
  if (t->n == 0) return;
  size_t at = noise_below(s, (unsigned)t->n), left = t->n - at, n = 1 + noise_below(s, 16);
  if (n > left) n = left;
  switch (noise_below(s, 6)) {
    case 0: t->at[at] = (char)noise_below(s, 256); break;
    case 1: t->at[at] ^= (char)(1u << noise_below(s, 8)); break;
    case 2: memmove(t->at + at, t->at + at + n, left - n), t->n -= n; break;
    case 3: t->n = at; break;
    case 4: memset(t->at + at, "\0\r\n \"{"[noise_below(s, 6)], n); break;
    default:  // once more
      if (n > t->room - t->n) n = t->room - t->n;
      memmove(t->at + at + n, t->at + at, left);
      t->n += n;
  }
}

size_t noise_make(uint64_t *s, char *out, size_t room) {
  text t = {out, 0, room};
  for (unsigned i = one_in(s, 4) ? noise_below(s, 4) : 0;; --i) {
    put_request(s, &t);
    if (i == 0) break;
  }
  for (unsigned i = one_in(s, 2) ? noise_below(s, 4) : 0; i > 0; --i) change(s, &t);
  return t.n;
}
