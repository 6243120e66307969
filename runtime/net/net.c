// net.c - transfers over libcurl's multi interface: one step at a time, never blocking for long.
//
// Redirects are followed here and not by libcurl, because each one is a decision: does the token go
// along, is it still HTTP, does the Hub say before the redirect that it has another file than the
// one we want.
#include "cft_net.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/answer.h"
#include "util/file.h"

enum {
  MOST_REDIRECTS = 10,
  LOCK_MS = 100,             // between two tries to get a lock
  SLOWEST = 1000,            // bytes a second; slower for as long as a stall may last is one
  RECEIVE_BYTES = 512 << 10  // fewer, larger pieces; the most that libcurl takes
};

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
  CFT_GO(cft_origin_of(curl, &net->endpoint, NULL, endpoint));
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
  cft_origin_clear(net->curl, &net->endpoint);
  free(net);
}

// ---- how a transfer ends -----------------------------------------------------------------------

void cft_transfer_end(cft_transfer *t, cft_transfer_state state, bool at_url) {
  if (cft_transfer_has_ended(t)) return;
  t->state = state;
  if (state == CFT_TRANSFER_DONE) return;
  // Overwrites no message: it is no failure.
  char *url = at_url ? cft_url_shown(t->net->curl, t->url) : NULL;
  t->message =
      url ? cft_format("%s: %s", url, cft_last_error()) : cft_format("%s", cft_last_error());
  free(url);
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
  SET(WRITEFUNCTION, cft_answer_on_body);
  SET(WRITEDATA, (void *)t);
  SET(HEADERFUNCTION, cft_answer_on_header);
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
  cft_origin there;
  if (cft_origin_of(net->curl, &there, NULL, t->url) != CFT_OK) {
    cft_transfer_end(t, CFT_TRANSFER_WRONG, false);
    return;
  }
  bool ours = cft_origin_same(&there, &net->endpoint);
  cft_origin_clear(net->curl, &there);
  t->state = CFT_TRANSFER_RUNNING;
  t->wanted = t->ignored = false;
  t->header_bytes = 0;
  t->error[0] = '\0';
  if (set_options(t, ours) != CFT_OK) {
    cft_transfer_end(t, CFT_TRANSFER_FAILED, true);
    return;
  }
  CURLMcode code = net->curl->multi_add_handle(net->multi, t->easy);
  t->added = code == CURLM_OK;
  if (t->added) return;
  cft_fail(CFT_E_INTERNAL, "libcurl: %s", net->curl->multi_strerror(code));
  cft_transfer_end(t, CFT_TRANSFER_FAILED, true);
}

static void redirect(cft_transfer *t, const char *to) {
  char *next = cft_format("%s", to), *where = cft_url_shown(t->net->curl, to);
  if (!next) {
    cft_fail(CFT_E_OOM, "a redirect: out of memory");
    cft_transfer_end(t, CFT_TRANSFER_FAILED, true);
  } else if (!where) {
    CFT_END_WITH(t, CFT_TRANSFER_WRONG, "is redirected to what is no HTTP: %s", QUOTED(next));
  } else if (strncmp(where, "http:", 5) == 0 && strncasecmp(t->url, "https:", 6) == 0) {
    CFT_END_WITH(t, CFT_TRANSFER_WRONG, "is redirected from https to %s", where);
  } else if (++t->redirects > MOST_REDIRECTS) {
    CFT_END_WITH(t, CFT_TRANSFER_WRONG, "more than %d redirects", MOST_REDIRECTS);
  } else {
    free(t->url);
    t->url = next;
    next = NULL;
    request(t);
  }
  free(next);
  free(where);
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
  CFT_END_WITH(t, state, "%s", why);
}

static void on_done(cft_transfer *t, CURLcode code) {
  const cft_curl *curl = t->net->curl;
  curl->multi_remove_handle(t->net->multi, t->easy);
  t->added = false;
  if (cft_transfer_has_ended(t)) return;  // by a callback
  t->http = cft_answer_status(t);
  curl_off_t retry_after = 0;
  curl->easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
  t->retry_after = (int64_t)retry_after;
  char *to = NULL;
  if (t->http / 100 == 3) curl->easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &to);
  if (to && t->part && !cft_answer_is_the_file(t)) return;
  if (to) {
    redirect(t, to);
  } else if (t->http == 416 && t->part && cft_part_bytes(t->part) > 0) {
    if (cft_part_restart(t->part) != CFT_OK) cft_transfer_end(t, CFT_TRANSFER_FAILED, false);
    CFT_END_WITH(t, CFT_TRANSFER_LOST,
                 "the server does not go on where the file ends; it begins anew");
  } else if (t->http >= 300) {
    CFT_END_WITH(t, CFT_TRANSFER_REFUSED, "status %d", t->http);
  } else if (code != CURLE_OK) {
    lose(t, code);
  } else if (cft_answer_is_success(t, t->http)) {
    cft_answer_finish(t);
  } else {
    CFT_END_WITH(t, CFT_TRANSFER_REFUSED, "status %d", t->http);
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
    if (cft_part_lock(t->part, &locked, &whole) != CFT_OK)
      cft_transfer_end(t, CFT_TRANSFER_FAILED, false);
    if (!locked) return;
    if (whole) cft_transfer_end(t, CFT_TRANSFER_DONE, false);
    if (cft_transfer_has_ended(t)) return;
    t->state = CFT_TRANSFER_READING;
  }
  if (cft_part_read(t->part, &more) != CFT_OK) {
    cft_transfer_end(t, CFT_TRANSFER_FAILED, false);
  } else if (!more && cft_part_bytes(t->part) == cft_part_wanted(t->part)) {
    cft_answer_finish_file(t);
  } else if (!more) {
    request(t);
  }
}

// What has ended leaves the list, and its file and lock are let go.
static void sweep(cft_net *net) {
  for (cft_transfer **p = &net->first; *p;) {
    cft_transfer *t = *p;
    if (!cft_transfer_has_ended(t)) {
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
    at_once = at_once || t->state == CFT_TRANSFER_READING || cft_transfer_has_ended(t);
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
