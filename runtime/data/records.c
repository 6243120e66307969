// records.c - a file of records: indexed once, then read at any place.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "csv.h"
#include "data_impl.h"
#include "parquet.h"
#include "util/file.h"
#include "util/hash.h"

enum { CHUNK_BYTES = 1 << 18, LINE_CHUNK_BYTES = 1 << 14 };

struct cft_records {
  char *path;
  cft_split split;
  cft_mapping index;  // where split's arrays lie, if they are kept in a file
  char *note;         // what is to be said of that file
  int64_t bytes;      // decompressed
  uint8_t hash[16];
  // Where the decompressed bytes are: a file (the data's own, or a nameless one), or memory.
  int fd;
  const char *memory;
  char *owned;  // the memory, if it is ours
  size_t owned_capacity;
  char *text;  // the record read last
  size_t text_capacity;
  int watched;        // the file that records are read from as they are asked for; -1: none
  struct stat stamp;  // how it was when it was opened, or last found to have the same bytes
  cft_parquet *parquet;  // NULL in all other files; then nothing of the above but path and hash
  cft_csv *csv;          // NULL in all other files
  cft_text json;         // the record read last, of a CSV file
};

// ---- keeping what a compressed file holds ------------------------------------------------------

// A file without a name: it is gone when it is closed, whatever ends the process.
static cft_status nameless_file(int *fd) {
  const char *folders[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
  int reason = ENOENT;
  for (size_t i = 0; i < sizeof folders / sizeof *folders; ++i) {
    if (!folders[i] || !*folders[i]) continue;
    char *name = cft_format("%s/cft-records-XXXXXX", folders[i]);
    if (!name) return cft_fail(CFT_E_OOM, "no memory for the name of a temporary file");
    *fd = mkstemp(name);
    reason = errno;
    if (*fd >= 0) unlink(name);
    free(name);
    if (*fd >= 0) return CFT_OK;
  }
  return cft_fail(CFT_E_IO, "no temporary file in TMPDIR, /var/tmp or /tmp: %s", strerror(reason));
}

// Append n decompressed bytes to memory, or to the file once memory holds its share.
static cft_status keep(cft_records *r, const char *data, size_t n) {
  size_t used = (size_t)r->bytes;
  if (r->fd < 0 && used + n > CFT_RECORDS_IN_MEMORY) {
    CFT_TRY(nameless_file(&r->fd));
    CFT_TRY(cft_file_write_all(r->fd, "a temporary file", 0, r->owned, used));
    free(r->owned);
    r->owned = NULL;
    r->owned_capacity = 0;
  }
  if (r->fd >= 0) return cft_file_write_all(r->fd, "a temporary file", used, data, n);
  if (used + n > r->owned_capacity) {
    size_t capacity = 2 * (used + n);
    char *bigger = realloc(r->owned, capacity);
    if (!bigger) return cft_fail(CFT_E_OOM, "no memory for %zu decompressed bytes", capacity);
    r->owned = bigger;
    r->owned_capacity = capacity;
  }
  memcpy(r->owned + used, data, n);
  return CFT_OK;
}

// ---- which format ------------------------------------------------------------------------------

static bool ends_with(const char *text, size_t n, const char *end) {
  size_t m = strlen(end);
  return n >= m && memcmp(text + n - m, end, m) == 0;
}

static bool named(const char *path, const char *end) {
  size_t n = strlen(path);
  if (ends_with(path, n, ".gz")) n -= 3;
  if (ends_with(path, n, ".zst")) n -= 4;
  return ends_with(path, n, end);
}

// Whether a line holds whole JSON values, as far as brackets tell.
static bool line_is_whole(const char *line, size_t n) {
  cft_split s;
  cft_split_init(&s, CFT_RECORDS_JSON);
  bool whole = cft_split_feed(&s, "[", 1) == CFT_OK && cft_split_feed(&s, line, n) == CFT_OK &&
               s.depth == 1 && !s.in_string;
  cft_split_free(&s);
  return whole;
}

static cft_status format_of(cft_records_format *format, const char *path, const char *text,
                            size_t n) {
  while (n && strchr(" \t\r\n", *text) && *text) ++text, --n;
  if (named(path, ".csv")) {
    *format = CFT_RECORDS_CSV;
    return CFT_OK;
  }
  bool lines = named(path, ".jsonl") || named(path, ".ndjson");
  const char *end = n ? memchr(text, '\n', n) : NULL;
  size_t first = end ? (size_t)(end - text) : n;  // bytes of the first line
  *format = CFT_RECORDS_JSONL;
  if (n && *text == '[') {
    size_t i = 1;
    while (i < first && strchr(" \t\r", text[i]) && text[i]) ++i;
    // A line may be an array, and the first one may be longer than what is here.
    bool goes_on = i == first || (text[i] == '{' && end && !line_is_whole(text, first));
    if (!lines || goes_on) *format = CFT_RECORDS_JSON;
  } else if (n && *text == '{' && !lines && end && !line_is_whole(text, first)) {
    return cft_fail(CFT_E_FORMAT,
                    "the first line is no whole JSON value and the file is no array; wanted "
                    "[record, record, ...] or a record a line");
  }
  return CFT_OK;
}

// ---- opening -----------------------------------------------------------------------------------

// Bytes of the byte order mark of UTF-8; a failure for those of UTF-16.
static cft_status byte_order_mark(const char *text, size_t n, size_t *skip) {
  *skip = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
  if (n >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
    return cft_fail(CFT_E_FORMAT, "is UTF-16; UTF-8 is wanted");
  return CFT_OK;
}

// Read the stream to its end: index it, hash it, keep it if it is compressed.
static cft_status index_stream(cft_records *r, cft_stream *in, cft_records_format format) {
  cft_status st;
  bool compressed = cft_stream_compressed(in);
  char *chunk = malloc(CHUNK_BYTES);
  XXH3_state_t *hash = XXH3_createState();
  if (!chunk || !hash) CFT_GO(cft_fail(CFT_E_OOM, "no memory to read it"));
  XXH3_128bits_reset(hash);
  for (bool first = true;; first = false) {
    size_t n = 0, got = 0, skip = 0;
    do {  // the first chunk is filled up, so that the format is told from as much as there is
      CFT_GO(cft_stream_read(in, chunk + n, CHUNK_BYTES - n, &got));
      n += got;
    } while (first && got && n < CHUNK_BYTES);
    if (first) {
      CFT_GO(byte_order_mark(chunk, n, &skip));
      if (format == CFT_RECORDS_AUTO) CFT_GO(format_of(&format, r->path, chunk + skip, n - skip));
      cft_split_init(&r->split, format);
      r->split.at = (int64_t)skip;
    }
    if (!n) break;
    XXH3_128bits_update(hash, chunk, n);
    if (compressed) CFT_GO(keep(r, chunk, n));
    r->bytes += (int64_t)n;
    CFT_GO(cft_split_feed(&r->split, chunk + skip, n - skip));
  }
  cft_hash_write(r->hash, XXH3_128bits_digest(hash));
  st = cft_split_end(&r->split);
out:
  XXH3_freeState(hash);
  free(chunk);
  return st;
}

static cft_status header_of_csv(cft_records *r);
static cft_status array_in_a_line(cft_records *r);

static cft_status open_parquet(cft_records *r, cft_stream *in, const void *bytes, size_t n) {
  if (cft_stream_compressed(in))
    return cft_fail(CFT_E_UNSUPPORTED,
                    "a Parquet file inside of gzip or zstd is not read; its "
                    "pages are compressed already");
  r->split.format = CFT_RECORDS_PARQUET;
  int fd = cft_stream_fd(in);  // the parquet's from here on
  CFT_TRY(cft_parquet_open(&r->parquet, r->path, cft_stream_take_fd(in), bytes, n));
  r->bytes = cft_parquet_bytes(r->parquet);
  r->split.count = cft_parquet_rows(r->parquet);
  XXH128_hash_t hash;
  if (fd >= 0)
    CFT_TRY(cft_hash_fd(&hash, fd, r->path));
  else
    hash = XXH3_128bits(bytes, n);
  cft_hash_write(r->hash, hash);
  return CFT_OK;
}

static bool begins_parquet(const cft_stream *in) {
  size_t n;
  const void *first = cft_stream_peek(in, &n);
  return !cft_stream_compressed(in) && cft_parquet_begins(first, n);
}

// ---- an index that is kept ----------------------------------------------------------------------

typedef struct keeping {
  const char *folder;
  int64_t least_bytes;
} keeping;

// What is wrong with an index is said, and costs time alone.
static void take_note(cft_records *r, const char *index, const char *why) {
  free(r->note);
  r->note = cft_format("%s: left out: %s", index, why);
}

// Take the index of a plain file, if there is a good one.
static void take_index(cft_records *r, const char *index, int fd, const struct stat *now) {
  cft_index x;
  const char *why;
  if (cft_index_load(&x, index, r->path, fd, now, &why) != CFT_OK) why = cft_last_error();
  if (why) take_note(r, index, why);
  if (!x.map.data) return;
  r->split = x.split;
  r->index = x.map;
  r->bytes = (int64_t)now->st_size;
  memcpy(r->hash, x.hash, sizeof r->hash);
}

// Keep what was found, and go on with the file of it: its pages are the system's to drop.
static void keep_index(cft_records *r, const char *index, const struct stat *before) {
  const cft_split *s = &r->split;
  bool kind = s->format == CFT_RECORDS_JSONL || s->format == CFT_RECORDS_JSON;
  if (!kind || s->bad_count > 0) return;
  cft_index x = {0};
  const char *why = NULL;
  if (cft_index_save(index, r->path, r->fd, before, s, r->hash) != CFT_OK ||
      cft_index_map(&x, index, &why) != CFT_OK)
    why = cft_last_error();
  if (why) take_note(r, index, why);
  if (!x.map.data) return;
  cft_split_free(&r->split);
  r->split = x.split;
  r->index = x.map;
}

// Takes the stream.
static cft_status open_stream(cft_records **out, cft_stream *in, const char *path,
                              const char *bytes, size_t n, cft_records_format format,
                              const keeping *keep) {
  cft_status st;
  struct stat before;
  bool plain = !cft_stream_compressed(in) && fstat(cft_stream_fd(in), &before) == 0;
  bool kept = keep && plain && before.st_size >= keep->least_bytes;
  int watched = plain ? cft_stream_fd(in) : -1;
  char *index = NULL;
  cft_records *r = calloc(1, sizeof *r);
  if (r) *r = (cft_records){.fd = -1, .watched = -1, .path = strdup(path), .json.limit = CFT_RECORD_BYTES};
  if (!r || !r->path) {
    st = cft_fail(CFT_E_OOM, "no memory to open it");
  } else if (format == CFT_RECORDS_PARQUET || (format == CFT_RECORDS_AUTO && begins_parquet(in))) {
    st = open_parquet(r, in, bytes, n);
  } else {
    st = kept ? cft_index_path(&index, keep->folder, path, format) : CFT_OK;
    if (index) take_index(r, index, cft_stream_fd(in), &before);
    if (st == CFT_OK && !r->index.data) st = index_stream(r, in, format);
    if (!cft_stream_compressed(in)) {
      r->fd = cft_stream_take_fd(in);
      r->memory = bytes;
    } else {
      r->memory = r->owned;
    }
    if (st == CFT_OK && r->split.format == CFT_RECORDS_CSV) st = header_of_csv(r);
    if (st == CFT_OK && format == CFT_RECORDS_AUTO && !r->index.data) st = array_in_a_line(r);
    if (st == CFT_OK && index && !r->index.data) keep_index(r, index, &before);
  }
  free(index);
  cft_stream_close(in);
  if (st != CFT_OK) {
    cft_records_release(r);
    // Failures of reading have the path already.
    return strstr(cft_last_error(), path) ? st : cft_context(st, "%s", path);
  }
  if (watched >= 0) {
    r->watched = watched;
    r->stamp = before;
  }
  *out = r;
  return CFT_OK;
}

static cft_status check_format(cft_records_format format) {
  if ((unsigned)format <= CFT_RECORDS_PARQUET) return CFT_OK;
  return cft_fail(CFT_E_ARG,
                  "records: format is %d; 0 (auto), 1 (jsonl), 2 (json), 3 (csv) or 4 (parquet) is "
                  "wanted",
                  (int)format);
}

cft_status cft_records_open(cft_records **out, const char *path, cft_records_format format) {
  return cft_records_open_kept(out, path, format, NULL, 0);
}

cft_status cft_records_open_kept(cft_records **out, const char *path, cft_records_format format,
                                 const char *folder, int64_t least_bytes) {
  CFT_TRY(check_format(format));
  cft_stream *in;
  CFT_TRY(cft_stream_open(&in, path));
  keeping keep = {folder, least_bytes};
  return open_stream(out, in, path, NULL, 0, format, folder ? &keep : NULL);
}

cft_status cft_records_of_bytes(cft_records **out, const char *name, const void *bytes, size_t n,
                                cft_records_format format) {
  CFT_TRY(check_format(format));
  cft_stream *in;
  CFT_TRY(cft_stream_of_bytes(&in, name, bytes, n));
  return open_stream(out, in, name, bytes, n, format, NULL);
}

void cft_records_release(cft_records *r) {
  if (!r) return;
  if (r->fd >= 0) close(r->fd);
  if (!r->index.data) cft_split_free(&r->split);
  cft_file_unmap(&r->index);
  free(r->note);
  cft_parquet_release(r->parquet);
  cft_csv_release(r->csv);
  cft_text_free(&r->json);
  free(r->owned);
  free(r->text);
  free(r->path);
  free(r);
}

// The first row of a CSV file names the columns.
static int64_t headers(const cft_records *r) { return r->csv != NULL; }

int64_t cft_records_count(const cft_records *r) { return r->split.count - headers(r); }
int64_t cft_records_bytes(const cft_records *r) { return r->bytes; }

void cft_records_hash(const cft_records *r, uint8_t hash[16]) { memcpy(hash, r->hash, 16); }
const char *cft_records_note(const cft_records *r) { return r->note; }

// ---- reading -----------------------------------------------------------------------------------

static cft_status read_at(const cft_records *r, int64_t at, char *data, size_t n) {
  if (r->fd >= 0) return cft_file_read(r->fd, r->path, (uint64_t)at, data, n, NULL);
  memcpy(data, r->memory + at, n);
  return CFT_OK;
}

static bool same_time(struct timespec a, struct timespec b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

// A file that was written to while it is in use holds other records than those that were counted and
// checked. Its times tell at once; where they are others (a link, chmod, touch), its bytes decide.
static cft_status check_unchanged(cft_records *r) {
  struct stat now;
  if (r->watched < 0) return CFT_OK;
  if (fstat(r->watched, &now) != 0) return cft_file_fail("stat", r->path);
  if (now.st_size == r->stamp.st_size && same_time(now.st_mtim, r->stamp.st_mtim) &&
      same_time(now.st_ctim, r->stamp.st_ctim))
    return CFT_OK;
  XXH128_hash_t hash;
  uint8_t bytes[16];
  CFT_TRY(cft_hash_fd(&hash, r->watched, r->path));
  cft_hash_write(bytes, hash);
  if (memcmp(bytes, r->hash, sizeof bytes) != 0)
    return cft_fail(CFT_E_IO, "%s: was changed while it is in use; its records are not those that "
                    "were opened", r->path);
  r->stamp = now;
  return CFT_OK;
}

static cft_status check_index(const cft_records *r, int64_t i) {
  if (i >= 0 && i < cft_records_count(r)) return CFT_OK;
  return cft_fail(CFT_E_ARG, "%s: record %lld of %lld", r->path, (long long)i,
                  (long long)cft_records_count(r));
}

// What the file has between two starts.
static cft_status get_text(cft_records *r, int64_t i, cft_record *record) {
  const cft_split *s = &r->split;
  int64_t at = s->starts[i], end = i + 1 < s->count ? s->starts[i + 1] : r->bytes;
  const char *reason = cft_split_reason(s, i);
  size_t n = (size_t)(end - at);
  if (n > CFT_RECORD_BYTES) {
    n = 0;
    if (!reason) reason = "longer than 256 MiB";
  }
  if (n + 1 > r->text_capacity) {
    size_t capacity = n + 1 + n / 2;
    free(r->text);
    r->text = malloc(capacity);
    r->text_capacity = r->text ? capacity : 0;
    if (!r->text) return cft_fail(CFT_E_OOM, "%s: no memory for a record of %zu bytes", r->path, n);
  }
  CFT_TRY(read_at(r, at, r->text, n));
  n = cft_split_trim(s, i, r->text, n);
  r->text[n] = 0;
  *record = (cft_record){.text = r->text, .bytes = (int64_t)n, .byte = at, .reason = reason};
  return CFT_OK;
}

static cft_status header_of_csv(cft_records *r) {
  cft_record header;
  if (r->split.count == 0) return CFT_OK;
  CFT_TRY(get_text(r, 0, &header));
  if (header.reason) return cft_fail(CFT_E_FORMAT, "the header is broken: %s", header.reason);
  return cft_csv_new(&r->csv, header.text, (size_t)header.bytes);
}

// A file named .jsonl whose only line is an array of objects is that array: scan it again as one.
static cft_status array_in_a_line(cft_records *r) {
  cft_record line;
  if (r->split.format != CFT_RECORDS_JSONL || r->split.count != 1) return CFT_OK;
  CFT_TRY(get_text(r, 0, &line));
  if (line.bytes == 0 || *line.text != '[') return CFT_OK;
  if (line.text[1 + strspn(line.text + 1, " \t\r")] != '{') return CFT_OK;
  int64_t number = r->split.lines[0];
  cft_split_free(&r->split);
  cft_split_init(&r->split, CFT_RECORDS_JSON);
  r->split.at = line.byte;
  r->split.line = number;
  CFT_TRY(cft_split_feed(&r->split, line.text, (size_t)line.bytes));
  return cft_split_end(&r->split);
}

static cft_status get_row(cft_records *r, int64_t i, cft_record *record) {
  const char *text;
  size_t bytes;
  CFT_TRY(cft_parquet_get(r->parquet, i, &text, &bytes, &record->reason));
  *record =
      (cft_record){.text = text, .bytes = (int64_t)bytes, .byte = -1, .reason = record->reason};
  return CFT_OK;
}

cft_status cft_records_get(cft_records *r, int64_t i, cft_record *record) {
  CFT_TRY(check_index(r, i));
  CFT_TRY(r->parquet ? get_row(r, i, record) : get_text(r, i + headers(r), record));
  CFT_TRY(check_unchanged(r));  // behind the reading: what was read is what was opened
  if (!r->csv || record->reason) return CFT_OK;
  cft_status st =
      cft_csv_record(r->csv, record->text, (size_t)record->bytes, &r->json, &record->reason);
  if (st != CFT_OK) return cft_context(st, "%s", r->path);
  if (!record->reason) {
    record->text = r->json.data;
    record->bytes = (int64_t)r->json.bytes;
  }
  return CFT_OK;
}

cft_status cft_records_line(cft_records *r, int64_t i, int64_t *line) {
  CFT_TRY(check_index(r, i));
  *line = 0;
  if (r->parquet) return CFT_OK;
  i += headers(r);
  const cft_split *s = &r->split;
  int64_t known = i / CFT_LINES_EVERY;
  int64_t count = s->lines[known];
  char chunk[LINE_CHUNK_BYTES];
  bool after_cr = false;
  for (int64_t at = s->starts[known * CFT_LINES_EVERY]; at < s->starts[i];) {
    int64_t left = s->starts[i] - at;
    size_t n = left < LINE_CHUNK_BYTES ? (size_t)left : LINE_CHUNK_BYTES;
    CFT_TRY(read_at(r, at, chunk, n));
    for (size_t j = 0; j < n; ++j)
      count += r->csv ? cft_csv_ends_line(&after_cr, chunk[j]) : chunk[j] == '\n';
    at += (int64_t)n;
  }
  *line = count;
  return CFT_OK;
}
