// reading.c - requests that two readers take for two different ones, and are refused therefore.
//
// A proxy in front of us and evhttp must agree on where a request ends: where they do not, what one
// client sends as a body is another one's request ("smuggling"). evhttp takes the first of two
// headers of a name and a Content-Length that begins with a plus, and knows no header whose name
// has a space behind it. Source: RFC 9112, sections 2.3, 3.2, 5.1 and 6.3.
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "serve/serve_impl.h"

static bool is_name(const char *text) {
  if (!*text) return false;
  for (; *text; ++text)
    if (!isalnum((unsigned char)*text) && !strchr("!#$%&'*+-.^_`|~", *text)) return false;
  return true;
}

static bool is_value(const char *text) {
  for (; *text; ++text)
    if ((unsigned char)*text < ' ' && *text != '\t') return false;
  return true;
}

static bool is_count(const char *text) {
  size_t n = strlen(text);
  return n > 0 && n <= 18 && strspn(text, "0123456789") == n;
}

// Headers that say who asks, of whom, and how much follows: one of each at most.
static int single_number(const char *name) {
  static const char *const names[] = {"Host",         "Content-Length", "Transfer-Encoding",
                                      "Content-Type", "Authorization",  "Origin",
                                      "Expect"};
  for (int i = 0; i < (int)(sizeof names / sizeof *names); ++i)
    if (strcasecmp(name, names[i]) == 0) return i;
  return -1;
}

static const char *fault_of_headers(const struct evkeyvalq *headers) {
  unsigned seen = 0;
  for (const struct evkeyval *h = headers->tqh_first; h; h = h->next.tqe_next) {
    if (!is_name(h->key)) return "a header has no valid name";
    if (!is_value(h->value)) return "a header's value has control characters";
    int number = single_number(h->key);
    if (number < 0) continue;
    if (seen & 1u << number) return "a header that says one thing came twice";
    seen |= 1u << number;
  }
  return NULL;
}

static const char *fault_of_length(const char *length, const char *coding, bool has_body,
                                   bool in_pieces) {
  if (length && !is_count(length)) return "Content-Length is no number";
  if (length && coding) return "a body has Content-Length or Transfer-Encoding, and not both";
  if (coding && (strcasecmp(coding, "chunked") != 0 || !in_pieces))
    return "Transfer-Encoding is chunked, of HTTP/1.1, or nothing";
  if (!has_body && (coding || (length && strspn(length, "0") < strlen(length))))
    return "only POST has a body";
  return NULL;
}

// A whole URL in the first line takes the place of Host.
static const char *fault_of_host(const char *of_url, const char *host) {
  if (!of_url || !*of_url) return NULL;
  size_t n = strlen(of_url);
  bool same = host && strncasecmp(host, of_url, n) == 0 && (host[n] == '\0' || host[n] == ':');
  return same ? NULL : "the first line and the header Host name two machines";
}

const char *serve_fault(const cft_event *ev, struct evhttp_request *request) {
  struct evkeyvalq *headers = ev->evhttp_request_get_input_headers(request);
  if (request->major != 1 || request->minor < 0 || request->minor > 1)
    return "this server speaks HTTP/1.0 and HTTP/1.1";
  const char *fault = fault_of_headers(headers);
  if (!fault)
    fault = fault_of_length(ev->evhttp_find_header(headers, "Content-Length"),
                            ev->evhttp_find_header(headers, "Transfer-Encoding"),
                            ev->evhttp_request_get_command(request) == EVHTTP_REQ_POST,
                            request->minor == 1);
  if (!fault)
    fault = fault_of_host(ev->evhttp_uri_get_host(ev->evhttp_request_get_evhttp_uri(request)),
                          ev->evhttp_find_header(headers, "Host"));
  return fault;
}
