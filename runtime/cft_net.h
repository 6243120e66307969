// cft_net.h - files and answers over HTTP and HTTPS, many at once. What is asked for, in which
// order and how often it is tried again is lua/cft/io/fetch/init.lua's; here one request is carried out:
// its redirects, its bytes, the checksum, the file that appears whole.
//
// libcurl and libcrypto are opened by the first cft_net_new of a process, so that a program which
// fetches nothing does not pay for them (20 ms). One thread uses a cft_net and its transfers.
#ifndef CFT_NET_H
#define CFT_NET_H

#include "base.h"

#ifndef CFT_CDEF
#include <stdbool.h>
#endif

typedef struct cft_net cft_net;  // an endpoint, and connections that are kept between requests
typedef struct cft_transfer cft_transfer;  // one request

// Prepare to talk to an endpoint.
//   endpoint       the URL that the others start with: "https://huggingface.co"
//   token          goes as "Authorization: Bearer TOKEN" to the endpoint's scheme, host and port
//   and
//                  to no other, redirects included; NULL for none
//   stall_seconds  a connection that brings nothing for so long counts as lost; so does one that is
//                  not made in that time; > 0
// Proxies are those of http_proxy, https_proxy and no_proxy; SSL_CERT_FILE replaces the system's
// certificates. E_UNSUPPORTED where libcurl or libcrypto is missing; E_ARG for an endpoint that is
// no HTTP URL or a token with characters that no header can hold (the message does not show it);
// E_OOM.
CFT_API cft_status cft_net_new(cft_net **out, const char *endpoint, const char *token,
                               int stall_seconds);

// Transfers of it keep what they need: releases may come in any order. NULL is accepted.
CFT_API void cft_net_release(cft_net *net);

typedef enum cft_transfer_state {
  CFT_TRANSFER_LOCKED = 0,   // waits: another process holds the lock
  CFT_TRANSFER_READING = 1,  // takes the checksum of what an earlier try has left
  CFT_TRANSFER_RUNNING = 2,  // talks to a server
  CFT_TRANSFER_DONE = 3,     // all is here; a file stands in its place, checksum and size are right
  CFT_TRANSFER_REFUSED = 4,  // the last answer's status is no success: see `http`
  CFT_TRANSFER_UNREACHED = 5,  // no connection was made
  CFT_TRANSFER_LOST = 6,       // the connection broke or stalled; what came of a file is kept
  CFT_TRANSFER_CORRUPT = 7,    // the checksum is wrong; what came was removed
  CFT_TRANSFER_WRONG = 8,   // the server says what cannot be: another size, endless redirects, ...
  CFT_TRANSFER_FAILED = 9,  // the trouble is here: a disk is full, memory ran out
} cft_transfer_state;

typedef struct cft_transfer_view {
  cft_transfer_state state;
  int http;             // status of the last answer; 0 before there is one
  int64_t retry_after;  // seconds that this answer asks to wait; 0 if it does not
  int64_t bytes;        // that are here: of a file those of earlier tries too
  int64_t received;     // that came through the network for this transfer
  const char *body;     // of cft_net_get, `bytes` of them; NULL of cft_net_download
  const char *message;  // from REFUSED on: what went wrong and at which URL (without its query and
                        // user, which may hold secrets). "" before that.
} cft_transfer_view;    // body and message are the transfer's, and change with cft_net_wait

// Ask for what is at a URL, to be kept in memory. More than `limit` bytes are WRONG.
// Status codes other than 200 are REFUSED. E_OOM.
CFT_API cft_status cft_net_get(cft_transfer **out, cft_net *net, const char *url, int64_t limit);

typedef struct cft_download {
  const char *url;
  const char *path;  // where the file will stand; its folder exists
  const char *lock;  // a file that this process locks (flock) until the transfer has ended
  const char
      *digest;    // lower-case hex. 64 digits: the file's SHA-256; 40: the SHA-1 that git gives it
  int64_t bytes;  // its size
} cft_download;

// Get a file. It grows as PATH.incomplete, and what an earlier try has left of that is taken over:
// its digest is read again, and the server is asked for the rest (Range). The name of the file is
// all that ties the parts together, so a path should be made of the digest; the checksum over the
// whole finds out if they did not belong together. When size and digest are right, the file is
// synced and renamed. Where a file of that size is at PATH when the lock is taken, nothing is asked
// for. A server that ignores Range sends it all again; one that refuses it makes the transfer LOST,
// with nothing kept. E_ARG for a malformed digest, a negative size; E_OOM.
CFT_API cft_status cft_net_download(cft_transfer **out, cft_net *net, const cft_download *what);

// Move every transfer of `net` on. Returns when something has happened, or after `ms` milliseconds.
// How each one fares is in its view: E_OOM and E_INTERNAL are libcurl's own troubles.
CFT_API cft_status cft_net_wait(cft_net *net, int ms);

CFT_API void cft_transfer_look(const cft_transfer *t, cft_transfer_view *out);

// A header of the last answer, without white space around it; NULL where it has none. The
// transfer's, until the next cft_net_wait.
CFT_API const char *cft_transfer_header(const cft_transfer *t, const char *name);

// Ends it if it still runs; what came of a file stays for the next try. NULL is accepted.
CFT_API void cft_transfer_release(cft_transfer *t);

// The size of a file as it is before it is whole: PATH.incomplete; 0 where there is none.
CFT_API int64_t cft_download_begun(const char *path);

#endif
