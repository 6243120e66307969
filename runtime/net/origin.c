// origin.c - URLs taken apart by libcurl's own parser.
#include "net/origin.h"

#include <string.h>
#include <strings.h>

#include "util/file.h"

void cft_origin_clear(const cft_curl *curl, cft_origin *o) {
  curl->free(o->scheme);
  curl->free(o->host);
  curl->free(o->port);
  *o = (cft_origin){0};
}

cft_status cft_origin_of(const cft_curl *curl, cft_origin *o, char **path, const char *url) {
  *o = (cft_origin){0};
  CURLU *u = curl->url();
  if (!u) return cft_fail(CFT_E_OOM, "URL: out of memory");
  bool fits = curl->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl->url_get(u, CURLUPART_SCHEME, &o->scheme, 0) == CURLUE_OK &&
              curl->url_get(u, CURLUPART_HOST, &o->host, 0) == CURLUE_OK &&
              curl->url_get(u, CURLUPART_PORT, &o->port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              (!path || curl->url_get(u, CURLUPART_PATH, path, 0) == CURLUE_OK);
  curl->url_cleanup(u);
  if (fits && (strcmp(o->scheme, "https") == 0 || strcmp(o->scheme, "http") == 0)) return CFT_OK;
  cft_origin_clear(curl, o);
  return cft_fail(CFT_E_ARG, "%s is no URL with http:// or https://", QUOTED(url));
}

bool cft_origin_same(const cft_origin *a, const cft_origin *b) {
  return strcmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 &&
         strcmp(a->port, b->port) == 0;
}

char *cft_url_shown(const cft_curl *curl, const char *url) {
  cft_origin o;
  char *path = NULL, *text = NULL;
  if (cft_origin_of(curl, &o, &path, url) == CFT_OK) {
    bool usual = strcmp(o.port, strcmp(o.scheme, "https") == 0 ? "443" : "80") == 0;
    text = cft_format("%s://%s%s%s%.200s", o.scheme, o.host, usual ? "" : ":", usual ? "" : o.port,
                      path);
    curl->free(path);
    cft_origin_clear(curl, &o);
  }
  return text;
}
