// transfer.h - a connection to an endpoint and its transfers, as the files of this folder see them.
#ifndef CFT_NET_TRANSFER_H
#define CFT_NET_TRANSFER_H

#include "cft_net.h"
#include "net/library.h"
#include "net/origin.h"
#include "net/part.h"

enum { CFT_NET_HEADER_BYTES = 64 << 10 };

struct cft_net {
  int references;
  const cft_curl *curl;
  CURLM *multi;
  cft_origin endpoint;
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
  char headers[CFT_NET_HEADER_BYTES];  // of the last answer: lines that end in NUL
  size_t header_bytes;
  char error[CURL_ERROR_SIZE];
  cft_part *part;  // a download's; else the answer is kept here
  char *body;
  size_t bytes, room, limit;
};

static inline bool cft_transfer_has_ended(const cft_transfer *t) {
  return t->state >= CFT_TRANSFER_DONE;
}

// End it, unless it has ended. The message is that of the thread's last failure; `at_url` puts the
// URL in front of it.
void cft_transfer_end(cft_transfer *t, cft_transfer_state state, bool at_url);

#define CFT_END_WITH(t, state, ...) \
  (cft_fail(CFT_E_IO, __VA_ARGS__), cft_transfer_end(t, state, true))

#endif
