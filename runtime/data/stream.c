// stream.c - a file's bytes in order: as they are, from gzip members, or from zstd frames.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "data_impl.h"
#include "util/file.h"

enum { INPUT_BYTES = 1 << 18 };

typedef enum stream_kind { PLAIN, GZIP, ZSTD } stream_kind;

struct cft_stream {
  char *path;
  stream_kind kind;
  int fd;                 // -1: the bytes lie in memory
  const uint8_t *memory;  // what is left of them
  size_t memory_left;
  uint64_t at;  // bytes of the file taken so far
  uint8_t *input;
  size_t input_at, input_end;
  bool ended;   // the file has no more bytes
  bool inside;  // a member or frame has begun and not ended
  z_stream gzip;
  ZSTD_DStream *zstd;
};

// Bytes as they lie in the file.
static cft_status take(cft_stream *s, void *data, size_t n, size_t *got) {
  if (s->fd >= 0) {
    CFT_TRY(cft_file_read(s->fd, s->path, s->at, data, n, got));
  } else {
    *got = n < s->memory_left ? n : s->memory_left;
    if (*got) memcpy(data, s->memory, *got);
    s->memory += *got;
    s->memory_left -= *got;
  }
  s->at += *got;
  return CFT_OK;
}

static cft_status refill(cft_stream *s) {
  s->input_at = s->input_end = 0;
  CFT_TRY(take(s, s->input, INPUT_BYTES, &s->input_end));
  s->ended = s->input_end == 0;
  return CFT_OK;
}

static uint64_t position(const cft_stream *s) { return s->at - (s->input_end - s->input_at); }

static stream_kind kind_of(const uint8_t *b, size_t n) {
  if (n >= 3 && b[0] == 0x1f && b[1] == 0x8b && b[2] == 8) return GZIP;
  if (n < 4) return PLAIN;
  uint32_t magic =
      (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
  bool skippable = (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
  return magic == ZSTD_MAGICNUMBER || skippable ? ZSTD : PLAIN;
}

// Look at the first bytes, and set up the decompressor they ask for.
static cft_status begin(cft_stream *s) {
  CFT_TRY(refill(s));
  s->kind = kind_of(s->input, s->input_end);
  if (s->kind == GZIP && inflateInit2(&s->gzip, 16 + MAX_WBITS) != Z_OK) {
    s->kind = PLAIN;  // nothing to end
    return cft_fail(CFT_E_OOM, "%s: no memory for gzip's window", s->path);
  }
  if (s->kind == ZSTD && !(s->zstd = ZSTD_createDStream()))
    return cft_fail(CFT_E_OOM, "%s: no memory for a zstd stream", s->path);
  return CFT_OK;
}

static cft_status stream_new(cft_stream **out, const char *path, int fd, const void *bytes,
                             size_t n) {
  cft_stream *s = calloc(1, sizeof *s);
  if (s) *s = (cft_stream){.fd = fd, .memory = bytes, .memory_left = n, .path = strdup(path)};
  if (s) s->input = malloc(INPUT_BYTES);
  cft_status st = CFT_OK;
  if (!s || !s->path || !s->input)
    st = cft_fail(CFT_E_OOM, "%s: no memory to read it", path);
  else
    st = begin(s);
  if (st != CFT_OK) {
    if (s)
      cft_stream_close(s);
    else if (fd >= 0)
      close(fd);
    return st;
  }
  *out = s;
  return CFT_OK;
}

cft_status cft_stream_open(cft_stream **out, const char *path) {
  int fd;
  CFT_TRY(cft_file_open(&fd, path, NULL));
  return stream_new(out, path, fd, NULL, 0);
}

cft_status cft_stream_of_bytes(cft_stream **out, const char *name, const void *bytes, size_t n) {
  return stream_new(out, name, -1, bytes, n);
}

void cft_stream_close(cft_stream *s) {
  if (!s) return;
  if (s->kind == GZIP) inflateEnd(&s->gzip);
  ZSTD_freeDStream(s->zstd);
  if (s->fd >= 0) close(s->fd);
  free(s->input);
  free(s->path);
  free(s);
}

bool cft_stream_compressed(const cft_stream *s) { return s->kind != PLAIN; }

const void *cft_stream_peek(const cft_stream *s, size_t *n) {
  *n = s->input_end - s->input_at;
  return s->input + s->input_at;
}

int cft_stream_fd(const cft_stream *s) { return s->fd; }

int cft_stream_take_fd(cft_stream *s) {
  int fd = s->fd;
  s->fd = -1;
  return fd;
}

static cft_status read_plain(cft_stream *s, void *data, size_t n, size_t *got) {
  size_t left = s->input_end - s->input_at;  // of the first bytes, which told the kind
  if (!left) return take(s, data, n, got);
  *got = n < left ? n : left;
  memcpy(data, s->input + s->input_at, *got);
  s->input_at += *got;
  return CFT_OK;
}

// Each of the two fills as much of data as one call gives, and says when its member or frame ended.

static cft_status step_gzip(cft_stream *s, void *data, size_t n, size_t *got) {
  if (!s->inside) inflateReset(&s->gzip);
  s->gzip.next_in = s->input + s->input_at;
  s->gzip.avail_in = (uInt)(s->input_end - s->input_at);
  s->gzip.next_out = data;
  s->gzip.avail_out = n < 1u << 30 ? (uInt)n : 1u << 30;
  uInt room = s->gzip.avail_out;
  int rc = inflate(&s->gzip, Z_NO_FLUSH);
  s->input_at = s->input_end - s->gzip.avail_in;
  *got = room - s->gzip.avail_out;
  s->inside = rc != Z_STREAM_END;
  if (rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR) return CFT_OK;  // BUF: wants input
  if (rc == Z_MEM_ERROR) return cft_fail(CFT_E_OOM, "%s: no memory to decompress it", s->path);
  return cft_fail(CFT_E_FORMAT, "%s: damaged gzip data before byte %" PRIu64 ": %s", s->path,
                  position(s), s->gzip.msg ? s->gzip.msg : "no reason given");
}

static cft_status step_zstd(cft_stream *s, void *data, size_t n, size_t *got) {
  ZSTD_inBuffer in = {s->input, s->input_end, s->input_at};
  ZSTD_outBuffer out = {data, n, 0};
  size_t rc = ZSTD_decompressStream(s->zstd, &out, &in);
  s->input_at = in.pos;
  *got = out.pos;
  s->inside = rc != 0;
  if (!ZSTD_isError(rc)) return CFT_OK;
  return cft_fail(CFT_E_FORMAT, "%s: damaged zstd data before byte %" PRIu64 ": %s", s->path,
                  position(s), ZSTD_getErrorName(rc));
}

cft_status cft_stream_read(cft_stream *s, void *data, size_t n, size_t *got) {
  if (s->kind == PLAIN) return read_plain(s, data, n, got);
  const char *name = s->kind == GZIP ? "gzip" : "zstd";
  for (*got = 0; *got == 0;) {
    if (s->input_at == s->input_end && !s->ended) CFT_TRY(refill(s));
    if (s->ended && !s->inside) return CFT_OK;
    bool starved = s->ended;
    if (!s->inside && kind_of(s->input + s->input_at, s->input_end - s->input_at) != s->kind &&
        s->input_end - s->input_at >= 4)
      return cft_fail(CFT_E_FORMAT, "%s: bytes after the %s data, from byte %" PRIu64, s->path,
                      name, position(s));
    CFT_TRY(s->kind == GZIP ? step_gzip(s, data, n, got) : step_zstd(s, data, n, got));
    if (starved && *got == 0 && s->inside)
      return cft_fail(CFT_E_FORMAT, "%s: the %s data is cut short at byte %" PRIu64, s->path, name,
                      position(s));
  }
  return CFT_OK;
}
