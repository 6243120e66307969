// net.c - transfers over libcurl's multi interface: one step at a time, never blocking for long.
//
// Redirects are followed here and not by libcurl, because each one is a decision: does the token go
// along, is it still HTTP, does the Hub say before the redirect that it has another file than the
// one we want.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cft_net.h"
#include "net/library.h"
#include "net/part.h"
#include "util/file.h"

enum {
  MOST_REDIRECTS = 10,
  MOST_HEADER_BYTES = 64 << 10,
  LOCK_MS = 100,             // between two tries to get a lock
  SLOWEST = 1000,            // bytes a second; slower for as long as a stall may last is one
  RECEIVE_BYTES = 512 << 10  // fewer, larger pieces; the most that libcurl takes
};

typedef struct origin {
  char *scheme, *host, *port;
} origin;

struct cft_net {
  int references;
  const cft_curl *curl;
  CURLM *multi;
  origin endpoint;
  struct curl_slist *authorization;  // NULL without a token
  int stall_seconds;
  cft_transfer *first;  // of those that have not ended
};

struct cft_transfer {
  cft_net *net;
  cft_transfer *next;
  cft_transfer_state state;
  CURL *easy;
  bool added;    // to the multi handle
  bool wanted;   // the body under way is what was asked for: it has been looked at
  bool ignored;  // it is that of a redirect or an error
  int redirects;
  char *url;  // of this hop
  char *message;
  int http;
  int64_t retry_after, received;
  char headers[MOST_HEADER_BYTES];  // of the last answer: lines that end in NUL
  size_t header_bytes;
  char error[CURL_ERROR_SIZE];
  cft_part *part;  // a download's; else the answer is kept here
  char *body;
  size_t bytes, room, limit;
};

// ---- URLs --------------------------------------------------------------------------------------

static void origin_clear(const cft_curl *curl, origin *o) {
  curl->free(o->scheme);
  curl->free(o->host);
  curl->free(o->port);
  *o = (origin){0};
}

// Take a URL apart, down to a path where one is wanted. E_ARG if it is not a URL.
static cft_status origin_of(const cft_curl *curl, origin *o, char **path, const char *url) {
  *o = (origin){0};
  CURLU *u = curl->url();
  if (!u) return cft_fail(CFT_E_OOM, "URL: out of memory");
  bool fits = curl->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl->url_get(u, CURLUPART_SCHEME, &o->scheme, 0) == CURLUE_OK &&
              curl->url_get(u, CURLUPART_HOST, &o->host, 0) == CURLUE_OK &&
              curl->url_get(u, CURLUPART_PORT, &o->port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              (!path || curl->url_get(u, CURLUPART_PATH, path, 0) == CURLUE_OK);
  curl->url_cleanup(u);
  if (fits && (strcmp(o->scheme, "https") == 0 || strcmp(o->scheme, "http") == 0)) return CFT_OK;
  origin_clear(curl, o);
  return cft_fail(CFT_E_ARG, "%s is no URL with http:// or https://", QUOTED(url));
}

static bool same_origin(const origin *a, const origin *b) {
  return strcmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 &&
         strcmp(a->port, b->port) == 0;
}

// A URL as a message may show it: a query can be a signature, a user has a password.
static char *shown(const cft_curl *curl, const char *url) {
  origin o;
  char *path = NULL, *text = NULL;
  if (origin_of(curl, &o, &path, url) == CFT_OK) {
    bool usual = strcmp(o.port, strcmp(o.scheme, "https") == 0 ? "443" : "80") == 0;
    text = cft_format("%s://%s%s%s%.200s", o.scheme, o.host, usual ? "" : ":", usual ? "" : o.port,
                      path);
    curl->free(path);
    origin_clear(curl, &o);
  }
  return text;
}

// ---- the endpoint ------------------------------------------------------------------------------

static bool fits_a_header(const char *token) {
  for (const char *p = token; *p; ++p)
    if (*p <= ' ' || *p > '~') return false;
  return *token != '\0';
}

static cft_status authorize(cft_net *net, const char *token) {
  if (!fits_a_header(token))
    return cft_fail(CFT_E_ARG, "the token has characters that no token has");
  char *line = cft_format("Authorization: Bearer %s", token);
  if (line) net->authorization = net->curl->slist_append(NULL, line);
  free(line);
  return net->authorization ? CFT_OK : cft_fail(CFT_E_OOM, "connect: out of memory");
}

cft_status cft_net_new(cft_net **out, const char *endpoint, const char *token, int stall_seconds) {
  const cft_curl *curl;
  CFT_TRY(cft_curl_open(&curl));
  const cft_crypto *crypto;
  CFT_TRY(cft_crypto_open(&crypto));  // better now than behind the first file
  if (stall_seconds < 1)
    return cft_fail(CFT_E_ARG, "connect: stalls of %d seconds; 1 or more", stall_seconds);
  cft_status st = CFT_OK;
  cft_net *net = calloc(1, sizeof *net);
  if (!net) return cft_fail(CFT_E_OOM, "connect: out of memory");
  *net = (cft_net){.references = 1, .curl = curl, .stall_seconds = stall_seconds};
  CFT_GO(origin_of(curl, &net->endpoint, NULL, endpoint));
  if (token) CFT_GO(authorize(net, token));
  net->multi = curl->multi_init();
  if (!net->multi) CFT_GO(cft_fail(CFT_E_OOM, "connect: out of memory"));
  *out = net;
  net = NULL;
out:
  cft_net_release(net);
  return st;
}

void cft_net_release(cft_net *net) {
  if (!net || --net->references > 0) return;
  if (net->multi) net->curl->multi_cleanup(net->multi);
  net->curl->slist_free_all(net->authorization);
  origin_clear(net->curl, &net->endpoint);
  free(net);
}

// ---- how a transfer ends -----------------------------------------------------------------------

static bool has_ended(const cft_transfer *t) { return t->state >= CFT_TRANSFER_DONE; }

// The message is that of the thread's last failure; `at_url` puts the URL in front of it.
static void end(cft_transfer *t, cft_transfer_state state, bool at_url) {
  if (has_ended(t)) return;
  t->state = state;
  if (state == CFT_TRANSFER_DONE) return;
  char *url =
      at_url ? shown(t->net->curl, t->url) : NULL;  // overwrites no message: it is no failure
  t->message =
      url ? cft_format("%s: %s", url, cft_last_error()) : cft_format("%s", cft_last_error());
  free(url);
}

#define END(t, state, ...) (cft_fail(CFT_E_IO, __VA_ARGS__), end(t, state, true))

// ---- what a server says ------------------------------------------------------------------------

const char *cft_transfer_header(const cft_transfer *t, const char *name) {
  size_t n = strlen(name);
  for (const char *line = t->headers; line < t->headers + t->header_bytes; line += strlen(line) + 1)
    if (strncasecmp(line, name, n) == 0 && line[n] == ':')
      return line + n + 1 + strspn(line + n + 1, " \t");
  return NULL;
}

static size_t on_header(char *data, size_t one, size_t bytes, void *transfer) {
  (void)one;
  cft_transfer *t = transfer;
  if (bytes >= 5 && strncmp(data, "HTTP/", 5) == 0) t->header_bytes = 0;  // behind a 100 Continue
  size_t n = bytes;
  while (n > 0 && strchr(" \t\r\n", data[n - 1])) --n;
  if (n == 0 || memchr(data, '\0', n)) return bytes;
  if (n + 1 > sizeof t->headers - t->header_bytes) {
    END(t, CFT_TRANSFER_WRONG, "the headers are more than %d bytes", MOST_HEADER_BYTES);
    return 0;
  }
  memcpy(t->headers + t->header_bytes, data, n);
  t->headers[t->header_bytes + n] = '\0';
  t->header_bytes += n + 1;
  return bytes;
}

static int status_of(cft_transfer *t) {
  long http = 0;
  t->net->curl->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &http);
  return (int)http;
}

// The Hub says in front of a redirect which file is behind it. Learning here that it is another one
// saves its bytes.
static bool is_the_file(cft_transfer *t) {
  const char *size = cft_transfer_header(t, "X-Linked-Size"),
             *etag = cft_transfer_header(t, "X-Linked-Etag");
  int64_t wanted = cft_part_wanted(t->part);
  const char *digest = cft_part_digest(t->part);
  if (size && strtoll(size, NULL, 10) != wanted) {
    END(t, CFT_TRANSFER_WRONG, "the server has %s bytes of it, the repository lists %" PRId64,
        QUOTED(size), wanted);
    return false;
  }
  if (!etag) return true;
  if (strncmp(etag, "W/", 2) == 0) etag += 2;
  etag += *etag == '"';
  size_t digits = strspn(etag, "0123456789abcdef");
  if (digits == strlen(digest) && strncmp(etag, digest, digits) != 0) {
    END(t, CFT_TRANSFER_WRONG, "the server has %.64s, the repository lists %s", etag, digest);
    return false;
  }
  return true;
}

// Where the bytes of this answer belong: "bytes 100-199/200".
static bool begins_where_we_are(cft_transfer *t) {
  const char *range = cft_transfer_header(t, "Content-Range");
  int64_t at = cft_part_bytes(t->part), from = -1, total = cft_part_wanted(t->part);
  if (range && sscanf(range, "bytes %" SCNd64 "-%*[0-9]/%" SCNd64, &from, &total) >= 1 &&
      from == at && total == cft_part_wanted(t->part))
    return true;
  END(t, CFT_TRANSFER_WRONG, "asked for bytes from %" PRId64 " of %" PRId64 ", the server sends %s",
      at, cft_part_wanted(t->part), range ? QUOTED(range) : "no Content-Range");
  return false;
}

// The first look at an answer of success; false ends the transfer.
static bool admit(cft_transfer *t) {
  t->wanted = true;
  if (!t->part) return true;
  if (!is_the_file(t)) return false;
  if (status_of(t) == 206) {
    if (!begins_where_we_are(t)) return false;
  } else if (cft_part_bytes(t->part) > 0 && cft_part_restart(t->part) != CFT_OK) {
    end(t, CFT_TRANSFER_FAILED, false);
    return false;
  }
  curl_off_t length = -1;
  t->net->curl->easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
  int64_t wanted = cft_part_wanted(t->part), there = cft_part_bytes(t->part) + (int64_t)length;
  if (length < 0 || there == wanted) return true;
  END(t, CFT_TRANSFER_WRONG,
      "the server has %" PRId64 " bytes of it, the repository lists %" PRId64, there, wanted);
  return false;
}

static bool is_success(const cft_transfer *t, int http) {
  return http == 200 || (t->part && http == 206);
}

static bool keep(cft_transfer *t, const char *data, size_t bytes) {
  if (bytes > t->limit - t->bytes) {
    END(t, CFT_TRANSFER_WRONG, "the answer is more than %zu bytes", t->limit);
    return false;
  }
  if (bytes > t->room - t->bytes) {
    size_t room = t->room ? t->room : 16 << 10;
    while (room - t->bytes < bytes) room *= 2;
    char *body = realloc(t->body, room);
    if (!body) {
      cft_fail(CFT_E_OOM, "an answer of more than %zu bytes: out of memory", t->bytes);
      end(t, CFT_TRANSFER_FAILED, true);
      return false;
    }
    t->body = body;
    t->room = room;
  }
  memcpy(t->body + t->bytes, data, bytes);
  t->bytes += bytes;
  return true;
}

static bool write_part(cft_transfer *t, const char *data, size_t bytes) {
  if ((int64_t)bytes > cft_part_wanted(t->part) - cft_part_bytes(t->part)) {
    END(t, CFT_TRANSFER_WRONG, "more than the %" PRId64 " bytes come that the repository lists",
        cft_part_wanted(t->part));
    return false;
  }
  if (cft_part_put(t->part, data, bytes) == CFT_OK) return true;
  end(t, CFT_TRANSFER_FAILED, false);
  return false;
}

// Anything but `bytes` makes libcurl give the request up.
static size_t on_body(char *data, size_t one, size_t bytes, void *transfer) {
  (void)one;
  cft_transfer *t = transfer;
  if (has_ended(t)) return 0;
  if (!t->wanted && !t->ignored) {
    t->ignored = !is_success(t, status_of(t));
    if (!t->ignored && !admit(t)) return 0;
  }
  if (t->ignored) return bytes;
  t->received += (int64_t)bytes;
  return (t->part ? write_part(t, data, bytes) : keep(t, data, bytes)) ? bytes : 0;
}

// ---- a request, from hop to hop ----------------------------------------------------------------

static cft_status set_options(cft_transfer *t, bool with_token) {
  const cft_curl *curl = t->net->curl;
  char range[32];
  snprintf(range, sizeof range, "%" PRId64 "-", t->part ? cft_part_bytes(t->part) : 0);
  bool from_there = t->part && cft_part_bytes(t->part) > 0;
  long stall = t->net->stall_seconds;
  const char *certificates = getenv("SSL_CERT_FILE");
  CURLcode code = CURLE_OK;
#define SET(option, value) \
  if (code == CURLE_OK) code = curl->easy_setopt(t->easy, CURLOPT_##option, value)
  SET(URL, t->url);
  SET(HTTPHEADER, with_token ? t->net->authorization : NULL);
  SET(RANGE, from_there ? range : NULL);
  SET(USERAGENT, "cft");
  // Connections of their own: streams of one HTTP/2 connection share its window and its fate.
  SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  SET(WRITEFUNCTION, on_body);
  SET(WRITEDATA, (void *)t);
  SET(HEADERFUNCTION, on_header);
  SET(HEADERDATA, (void *)t);
  SET(SUPPRESS_CONNECT_HEADERS, 1L);  // a proxy's
  SET(ERRORBUFFER, t->error);
  SET(PRIVATE, (void *)t);
  SET(BUFFERSIZE, (long)RECEIVE_BYTES);
  SET(CONNECTTIMEOUT, stall);
  SET(LOW_SPEED_LIMIT, (long)SLOWEST);  // a byte each half second is no transfer
  SET(LOW_SPEED_TIME, stall);
  if (certificates && *certificates) SET(CAINFO, certificates);
#undef SET
  if (code == CURLE_OK) return CFT_OK;
  return cft_fail(code == CURLE_OUT_OF_MEMORY ? CFT_E_OOM : CFT_E_INTERNAL, "libcurl: %s",
                  curl->easy_strerror(code));
}

// Ask at t->url.
static void request(cft_transfer *t) {
  cft_net *net = t->net;
  origin there;
  if (origin_of(net->curl, &there, NULL, t->url) != CFT_OK) {
    end(t, CFT_TRANSFER_WRONG, false);
    return;
  }
  bool ours = same_origin(&there, &net->endpoint);
  origin_clear(net->curl, &there);
  t->state = CFT_TRANSFER_RUNNING;
  t->wanted = t->ignored = false;
  t->header_bytes = 0;
  t->error[0] = '\0';
  if (set_options(t, ours) != CFT_OK) {
    end(t, CFT_TRANSFER_FAILED, true);
    return;
  }
  CURLMcode code = net->curl->multi_add_handle(net->multi, t->easy);
  t->added = code == CURLM_OK;
  if (t->added) return;
  cft_fail(CFT_E_INTERNAL, "libcurl: %s", net->curl->multi_strerror(code));
  end(t, CFT_TRANSFER_FAILED, true);
}

static void redirect(cft_transfer *t, const char *to) {
  char *next = cft_format("%s", to), *where = shown(t->net->curl, to);
  if (!next) {
    cft_fail(CFT_E_OOM, "a redirect: out of memory");
    end(t, CFT_TRANSFER_FAILED, true);
  } else if (!where) {
    END(t, CFT_TRANSFER_WRONG, "is redirected to what is no HTTP: %s", QUOTED(next));
  } else if (strncmp(where, "http:", 5) == 0 && strncasecmp(t->url, "https:", 6) == 0) {
    END(t, CFT_TRANSFER_WRONG, "is redirected from https to %s", where);
  } else if (++t->redirects > MOST_REDIRECTS) {
    END(t, CFT_TRANSFER_WRONG, "more than %d redirects", MOST_REDIRECTS);
  } else {
    free(t->url);
    t->url = next;
    next = NULL;
    request(t);
  }
  free(next);
  free(where);
}

static void finish_file(cft_transfer *t) {
  bool right = false;
  const char *found = "";
  if (cft_part_finish(t->part, &right, &found) != CFT_OK) {
    end(t, CFT_TRANSFER_FAILED, false);
  } else if (right) {
    end(t, CFT_TRANSFER_DONE, false);
  } else {
    END(t, CFT_TRANSFER_CORRUPT, "the checksum is %s, the repository lists %s", found,
        cft_part_digest(t->part));
  }
}

// A whole answer of success has come.
static void finish(cft_transfer *t) {
  if (!t->wanted && !admit(t)) return;  // it had no body
  if (!t->part) {
    end(t, CFT_TRANSFER_DONE, false);
  } else if (cft_part_bytes(t->part) < cft_part_wanted(t->part)) {
    END(t, CFT_TRANSFER_LOST, "the connection ended at byte %" PRId64 " of %" PRId64,
        cft_part_bytes(t->part), cft_part_wanted(t->part));
  } else {
    finish_file(t);
  }
}

// libcurl gave up.
static void lose(cft_transfer *t, CURLcode code) {
  const char *why = *t->error ? t->error : t->net->curl->easy_strerror(code);
  cft_transfer_state state;
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT: state = CFT_TRANSFER_UNREACHED; break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT: state = CFT_TRANSFER_WRONG; break;
    case CURLE_OPERATION_TIMEDOUT: {
      curl_off_t connected = 0;  // microseconds until then
      t->net->curl->easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected);
      state = connected > 0 ? CFT_TRANSFER_LOST : CFT_TRANSFER_UNREACHED;
      break;
    }
    case CURLE_OUT_OF_MEMORY: state = CFT_TRANSFER_FAILED; break;
    default: state = CFT_TRANSFER_LOST;
  }
  END(t, state, "%s", why);
}

static void on_done(cft_transfer *t, CURLcode code) {
  const cft_curl *curl = t->net->curl;
  curl->multi_remove_handle(t->net->multi, t->easy);
  t->added = false;
  if (has_ended(t)) return;  // by a callback
  t->http = status_of(t);
  curl_off_t retry_after = 0;
  curl->easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
  t->retry_after = (int64_t)retry_after;
  char *to = NULL;
  if (t->http / 100 == 3) curl->easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &to);
  if (to && t->part && !is_the_file(t)) return;
  if (to) {
    redirect(t, to);
  } else if (t->http == 416 && t->part && cft_part_bytes(t->part) > 0) {
    if (cft_part_restart(t->part) != CFT_OK) end(t, CFT_TRANSFER_FAILED, false);
    END(t, CFT_TRANSFER_LOST, "the server does not go on where the file ends; it begins anew");
  } else if (t->http >= 300) {
    END(t, CFT_TRANSFER_REFUSED, "status %d", t->http);
  } else if (code != CURLE_OK) {
    lose(t, code);
  } else if (is_success(t, t->http)) {
    finish(t);
  } else {
    END(t, CFT_TRANSFER_REFUSED, "status %d", t->http);
  }
}

// ---- transfers ---------------------------------------------------------------------------------

static cft_status transfer_new(cft_transfer **out, cft_net *net, const char *url) {
  cft_status st = CFT_OK;
  cft_transfer *t = calloc(1, sizeof *t);
  if (!t) return cft_fail(CFT_E_OOM, "GET: out of memory");
  t->net = net;
  ++net->references;
  t->url = cft_format("%s", url);
  t->easy = net->curl->easy_init();
  if (!t->url || !t->easy) CFT_GO(cft_fail(CFT_E_OOM, "GET: out of memory"));
  *out = t;
  t = NULL;
out:
  cft_transfer_release(t);
  return st;
}

static void into_list(cft_transfer *t) {
  t->next = t->net->first;
  t->net->first = t;
}

cft_status cft_net_get(cft_transfer **out, cft_net *net, const char *url, int64_t limit) {
  cft_transfer *t;
  CFT_TRY(transfer_new(&t, net, url));
  t->limit = limit > 0 ? (size_t)limit : 0;
  into_list(t);
  request(t);
  *out = t;
  return CFT_OK;
}

cft_status cft_net_download(cft_transfer **out, cft_net *net, const cft_download *what) {
  cft_transfer *t;
  CFT_TRY(transfer_new(&t, net, what->url));
  cft_status st = cft_part_new(&t->part, what);
  if (st != CFT_OK) {
    cft_transfer_release(t);
    return st;
  }
  into_list(t);
  *out = t;  // the lock is tried by the first wait
  return CFT_OK;
}

void cft_transfer_release(cft_transfer *t) {
  if (!t) return;
  cft_net *net = t->net;
  for (cft_transfer **p = &net->first; *p; p = &(*p)->next)
    if (*p == t) {
      *p = t->next;
      break;
    }
  if (t->added) net->curl->multi_remove_handle(net->multi, t->easy);
  if (t->easy) net->curl->easy_cleanup(t->easy);
  cft_part_release(t->part);
  free(t->url);
  free(t->message);
  free(t->body);
  free(t);
  cft_net_release(net);
}

void cft_transfer_look(const cft_transfer *t, cft_transfer_view *out) {
  *out = (cft_transfer_view){
      .state = t->state,
      .http = t->http,
      .retry_after = t->retry_after,
      .bytes = t->part ? cft_part_bytes(t->part) : (int64_t)t->bytes,
      .received = t->received,
      .body = t->part   ? NULL
              : t->body ? t->body
                        : "",
      .message = t->message                      ? t->message
                 : t->state <= CFT_TRANSFER_DONE ? ""
                                                 : "out of memory",
  };
}

// ---- the wheel ---------------------------------------------------------------------------------

// What goes before the request: the lock, and the checksum of what is there.
static void prepare(cft_transfer *t) {
  bool more = false;
  if (t->state == CFT_TRANSFER_LOCKED) {
    bool locked, whole;
    if (cft_part_lock(t->part, &locked, &whole) != CFT_OK) end(t, CFT_TRANSFER_FAILED, false);
    if (!locked) return;
    if (whole) end(t, CFT_TRANSFER_DONE, false);
    if (has_ended(t)) return;
    t->state = CFT_TRANSFER_READING;
  }
  if (cft_part_read(t->part, &more) != CFT_OK) {
    end(t, CFT_TRANSFER_FAILED, false);
  } else if (!more && cft_part_bytes(t->part) == cft_part_wanted(t->part)) {
    finish_file(t);
  } else if (!more) {
    request(t);
  }
}

// What has ended leaves the list, and its file and lock are let go.
static void sweep(cft_net *net) {
  for (cft_transfer **p = &net->first; *p;) {
    cft_transfer *t = *p;
    if (!has_ended(t)) {
      p = &t->next;
      continue;
    }
    *p = t->next;
    if (t->part) cft_part_close(t->part);
  }
}

cft_status cft_net_wait(cft_net *net, int ms) {
  const cft_curl *curl = net->curl;
  bool at_once = false;
  for (cft_transfer *t = net->first; t; t = t->next) {
    if (t->state < CFT_TRANSFER_RUNNING) prepare(t);
    at_once = at_once || t->state == CFT_TRANSFER_READING || has_ended(t);
    if (t->state == CFT_TRANSFER_LOCKED && ms > LOCK_MS) ms = LOCK_MS;
  }
  int running = 0;
  CURLMcode code = curl->multi_perform(net->multi, &running);
  if (code == CURLM_OK && !at_once) {
    code = curl->multi_poll(net->multi, NULL, 0, ms, NULL);
    if (code == CURLM_OK) code = curl->multi_perform(net->multi, &running);
  }
  int queued;
  for (CURLMsg *m; (m = curl->multi_info_read(net->multi, &queued));) {
    if (m->msg != CURLMSG_DONE) continue;
    CURLcode result = m->data.result;  // m is gone when its handle is removed
    char *transfer = NULL;
    curl->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &transfer);
    on_done((cft_transfer *)(void *)transfer, result);
  }
  sweep(net);
  if (code == CURLM_OK) return CFT_OK;
  return cft_fail(code == CURLM_OUT_OF_MEMORY ? CFT_E_OOM : CFT_E_INTERNAL, "libcurl: %s",
                  curl->multi_strerror(code));
}
