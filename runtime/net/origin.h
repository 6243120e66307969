// origin.h - where a URL leads: its scheme, host and port.
#ifndef CFT_NET_ORIGIN_H
#define CFT_NET_ORIGIN_H

#include <stdbool.h>

#include "net/library.h"

typedef struct cft_origin {
  char *scheme, *host, *port;  // libcurl's: cft_origin_clear
} cft_origin;

// Take a URL apart, down to a path (libcurl's) where one is wanted. E_ARG if it is not a URL.
cft_status cft_origin_of(const cft_curl *curl, cft_origin *o, char **path, const char *url);
bool cft_origin_same(const cft_origin *a, const cft_origin *b);
void cft_origin_clear(const cft_curl *curl, cft_origin *o);

// A URL as a message may show it: a query can be a signature, a user has a password. NULL if it is
// not a URL; free it.
char *cft_url_shown(const cft_curl *curl, const char *url);

#endif
