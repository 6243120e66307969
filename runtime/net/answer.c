// answer.c - what a server says: its headers, whether this is the file, and where the bytes go.
#include "net/answer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/file.h"

const char *cft_transfer_header(const cft_transfer *t, const char *name) {
  size_t n = strlen(name);
  for (const char *line = t->headers; line < t->headers + t->header_bytes; line += strlen(line) + 1)
    if (strncasecmp(line, name, n) == 0 && line[n] == ':')
      return line + n + 1 + strspn(line + n + 1, " \t");
  return NULL;
}

size_t cft_answer_on_header(char *data, size_t one, size_t bytes, void *transfer) {
  (void)one;
  cft_transfer *t = transfer;
  if (bytes >= 5 && strncmp(data, "HTTP/", 5) == 0) t->header_bytes = 0;  // behind a 100 Continue
  size_t n = bytes;
  while (n > 0 && strchr(" \t\r\n", data[n - 1])) --n;
  if (n == 0 || memchr(data, '\0', n)) return bytes;
  if (n + 1 > sizeof t->headers - t->header_bytes) {
    CFT_END_WITH(t, CFT_TRANSFER_WRONG, "the headers are more than %d bytes", CFT_NET_HEADER_BYTES);
    return 0;
  }
  memcpy(t->headers + t->header_bytes, data, n);
  t->headers[t->header_bytes + n] = '\0';
  t->header_bytes += n + 1;
  return bytes;
}

int cft_answer_status(cft_transfer *t) {
  long http = 0;
  t->net->curl->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &http);
  return (int)http;
}

bool cft_answer_is_the_file(cft_transfer *t) {
  const char *size = cft_transfer_header(t, "X-Linked-Size"),
             *etag = cft_transfer_header(t, "X-Linked-Etag");
  int64_t wanted = cft_part_wanted(t->part);
  const char *digest = cft_part_digest(t->part);
  if (size && strtoll(size, NULL, 10) != wanted) {
    CFT_END_WITH(t, CFT_TRANSFER_WRONG,
                 "the server has %s bytes of it, the repository lists %" PRId64, QUOTED(size),
                 wanted);
    return false;
  }
  if (!etag) return true;
  if (strncmp(etag, "W/", 2) == 0) etag += 2;
  etag += *etag == '"';
  size_t digits = strspn(etag, "0123456789abcdef");
  if (digits == strlen(digest) && strncmp(etag, digest, digits) != 0) {
    CFT_END_WITH(t, CFT_TRANSFER_WRONG, "the server has %.64s, the repository lists %s", etag,
                 digest);
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
  CFT_END_WITH(t, CFT_TRANSFER_WRONG,
               "asked for bytes from %" PRId64 " of %" PRId64 ", the server sends %s", at,
               cft_part_wanted(t->part), range ? QUOTED(range) : "no Content-Range");
  return false;
}

// The first look at an answer of success; false ends the transfer.
static bool admit(cft_transfer *t) {
  t->wanted = true;
  if (!t->part) return true;
  if (!cft_answer_is_the_file(t)) return false;
  if (cft_answer_status(t) == 206) {
    if (!begins_where_we_are(t)) return false;
  } else if (cft_part_bytes(t->part) > 0 && cft_part_restart(t->part) != CFT_OK) {
    cft_transfer_end(t, CFT_TRANSFER_FAILED, false);
    return false;
  }
  curl_off_t length = -1;
  t->net->curl->easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
  int64_t wanted = cft_part_wanted(t->part), there = cft_part_bytes(t->part) + (int64_t)length;
  if (length < 0 || there == wanted) return true;
  CFT_END_WITH(t, CFT_TRANSFER_WRONG,
               "the server has %" PRId64 " bytes of it, the repository lists %" PRId64, there,
               wanted);
  return false;
}

bool cft_answer_is_success(const cft_transfer *t, int http) {
  return http == 200 || (t->part && http == 206);
}

static bool keep(cft_transfer *t, const char *data, size_t bytes) {
  if (bytes > t->limit - t->bytes) {
    CFT_END_WITH(t, CFT_TRANSFER_WRONG, "the answer is more than %zu bytes", t->limit);
    return false;
  }
  if (bytes > t->room - t->bytes) {
    size_t room = t->room ? t->room : 16 << 10;
    while (room - t->bytes < bytes) room *= 2;
    char *body = realloc(t->body, room);
    if (!body) {
      cft_fail(CFT_E_OOM, "an answer of more than %zu bytes: out of memory", t->bytes);
      cft_transfer_end(t, CFT_TRANSFER_FAILED, true);
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
    CFT_END_WITH(t, CFT_TRANSFER_WRONG,
                 "more than the %" PRId64 " bytes come that the repository lists",
                 cft_part_wanted(t->part));
    return false;
  }
  if (cft_part_put(t->part, data, bytes) == CFT_OK) return true;
  cft_transfer_end(t, CFT_TRANSFER_FAILED, false);
  return false;
}

size_t cft_answer_on_body(char *data, size_t one, size_t bytes, void *transfer) {
  (void)one;
  cft_transfer *t = transfer;
  if (cft_transfer_has_ended(t)) return 0;
  if (!t->wanted && !t->ignored) {
    t->ignored = !cft_answer_is_success(t, cft_answer_status(t));
    if (!t->ignored && !admit(t)) return 0;
  }
  if (t->ignored) return bytes;
  t->received += (int64_t)bytes;
  return (t->part ? write_part(t, data, bytes) : keep(t, data, bytes)) ? bytes : 0;
}

void cft_answer_finish_file(cft_transfer *t) {
  bool right = false;
  const char *found = "";
  if (cft_part_finish(t->part, &right, &found) != CFT_OK) {
    cft_transfer_end(t, CFT_TRANSFER_FAILED, false);
  } else if (right) {
    cft_transfer_end(t, CFT_TRANSFER_DONE, false);
  } else {
    CFT_END_WITH(t, CFT_TRANSFER_CORRUPT, "the checksum is %s, the repository lists %s", found,
                 cft_part_digest(t->part));
  }
}

void cft_answer_finish(cft_transfer *t) {
  if (!t->wanted && !admit(t)) return;  // it had no body
  if (!t->part) {
    cft_transfer_end(t, CFT_TRANSFER_DONE, false);
  } else if (cft_part_bytes(t->part) < cft_part_wanted(t->part)) {
    CFT_END_WITH(t, CFT_TRANSFER_LOST, "the connection ended at byte %" PRId64 " of %" PRId64,
                 cft_part_bytes(t->part), cft_part_wanted(t->part));
  } else {
    cft_answer_finish_file(t);
  }
}
