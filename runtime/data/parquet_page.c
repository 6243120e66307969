// parquet_page.c - a column's pages: found one behind the other, read and decoded when a row in one
// is asked for, and kept until memory is wanted for others.
//
// Where a page begins is told only by the header of the page before it, so the headers of a chunk
// are walked as far as the rows asked for, once. How many rows begin in a page is its number of
// values where nothing repeats; version 2 says it; a page of version 1 with repeated values must be
// decoded for it. Such a page may begin in the middle of a row.
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#include "parquet_impl.h"
#include "thrift.h"
#include "util/file.h"

enum { DATA_PAGE = 0, DICTIONARY_PAGE = 2, DATA_PAGE_V2 = 3 };
enum { PLAIN = 0, PLAIN_DICTIONARY = 2, RLE = 3, RLE_DICTIONARY = 8 };
enum { FIRST_LOOK = 1 << 10, LONGEST_HEADER = 1 << 24 };  // a header holds statistics, which vary

cft_status pq_fail(const pq_chunk *c, const char *format, ...) {
  char what[256];
  va_list args;
  va_start(args, format);
  vsnprintf(what, sizeof what, format, args);
  va_end(args);
  return cft_fail(CFT_E_FORMAT, "column %s, row group %lld: %s", QUOTED(c->node->path),
                  (long long)c->group, what);
}

static cft_status no_memory(const pq_chunk *c, size_t bytes) {
  return cft_fail(CFT_E_OOM, "column %s, row group %lld: no memory for %zu bytes of a page",
                  QUOTED(c->node->path), (long long)c->group, bytes);
}

cft_status pq_read(const cft_parquet *f, int64_t at, void *data, size_t n) {
  if (f->fd >= 0) return cft_file_read(f->fd, f->path, (uint64_t)at, data, n, NULL);
  if (n) memcpy(data, f->memory + at, n);
  return CFT_OK;
}

// ---- headers -----------------------------------------------------------------------------------

// A dictionary's header begins as a page's does, and ends with something else.
static void parse_data(cft_thrift *t, pq_header *h, bool dictionary) {
  cft_thrift_field f = {0};
  while (cft_thrift_next(t, &f)) {
    switch (dictionary && f.id > 2 ? 0 : f.id) {
      case 1: h->values = cft_thrift_int(t, f.type); break;
      case 2: h->encoding = (int)cft_thrift_int(t, f.type); break;
      case 3: h->def_encoding = (int)cft_thrift_int(t, f.type); break;
      case 4: h->rep_encoding = (int)cft_thrift_int(t, f.type); break;
      default: cft_thrift_skip(t, f.type);
    }
  }
}

static void parse_data_v2(cft_thrift *t, pq_header *h) {
  cft_thrift_field f = {0};
  while (cft_thrift_next(t, &f)) {
    switch (f.id) {
      case 1: h->values = cft_thrift_int(t, f.type); break;
      case 3: h->rows = cft_thrift_int(t, f.type); break;
      case 4: h->encoding = (int)cft_thrift_int(t, f.type); break;
      case 5: h->def_bytes = cft_thrift_int(t, f.type); break;
      case 6: h->rep_bytes = cft_thrift_int(t, f.type); break;
      case 7: h->is_compressed = cft_thrift_bool(t, f.type); break;
      default: cft_thrift_skip(t, f.type);
    }
  }
}

static void parse_header(cft_thrift *t, pq_header *h) {
  *h = (pq_header){.kind = -1,
                   .encoding = -1,
                   .compressed = -1,
                   .uncompressed = -1,
                   .is_compressed = true,
                   .def_encoding = RLE,
                   .rep_encoding = RLE};
  cft_thrift_field f = {0};
  while (cft_thrift_next(t, &f)) {
    bool nested = f.type == CFT_THRIFT_STRUCT;
    if (f.id == 1) {
      h->kind = (int)cft_thrift_int(t, f.type);
    } else if (f.id == 2) {
      h->uncompressed = cft_thrift_int(t, f.type);
    } else if (f.id == 3) {
      h->compressed = cft_thrift_int(t, f.type);
    } else if (f.id == 4) {
      h->crc = (uint32_t)cft_thrift_int(t, f.type);
      h->has_crc = true;
    } else if (nested && (f.id == 5 || f.id == 7)) {
      parse_data(t, h, f.id == 7);
    } else if (nested && f.id == 8) {
      parse_data_v2(t, h);
    } else {
      cft_thrift_skip(t, f.type);
    }
  }
  h->v2 = h->kind == DATA_PAGE_V2;
  if (!h->v2) h->def_bytes = h->rep_bytes = 0, h->is_compressed = true;
}

static cft_status check_header(const pq_chunk *c, const pq_header *h, int64_t at) {
  if (h->compressed < 0 || h->compressed > c->end - at)
    return pq_fail(c, "the page at byte %lld has %lld bytes, its column ends at byte %lld",
                   (long long)at, (long long)h->compressed, (long long)c->end);
  if (h->uncompressed < 0 || h->uncompressed > PQ_PAGE_BYTES || h->values < 0 ||
      h->values > PQ_PAGE_VALUES)
    return pq_fail(c, "the page at byte %lld would have %lld bytes, %lld values; too many",
                   (long long)at, (long long)h->uncompressed, (long long)h->values);
  if (h->def_bytes < 0 || h->rep_bytes < 0 || h->def_bytes > h->compressed ||
      h->rep_bytes > h->compressed - h->def_bytes || h->def_bytes + h->rep_bytes > h->uncompressed)
    return pq_fail(c, "the page at byte %lld has levels of more bytes than its own, %lld",
                   (long long)at, (long long)h->compressed);
  return CFT_OK;
}

// Read the header at c->next; the page's bytes follow at p->at.
static cft_status read_header(const cft_parquet *f, const pq_chunk *c, pq_place *p) {
  uint8_t look[FIRST_LOOK];
  int64_t left = c->end - c->next;
  *p = (pq_place){0};
  for (size_t bytes = FIRST_LOOK;; bytes *= 8) {
    size_t n = (int64_t)bytes < left ? bytes : (size_t)left;
    uint8_t *text = n <= sizeof look ? look : malloc(n);
    if (!text) return no_memory(c, n);
    cft_status st = pq_read(f, c->next, text, n);
    cft_thrift t = {.at = text, .end = text + n};
    if (st == CFT_OK) parse_header(&t, &p->header);
    p->at = c->next + (t.at - text);
    if (text != look) free(text);
    if (st != CFT_OK) return st;
    if (!t.problem) return check_header(c, &p->header, p->at);
    if (!t.cut_short || (int64_t)n == left || bytes >= LONGEST_HEADER)
      return pq_fail(c, "the page header at byte %lld is damaged: %s", (long long)c->next,
                     t.problem);
  }
}

// ---- decompression -----------------------------------------------------------------------------

typedef struct span {
  const uint8_t *at;
  size_t n;
} span;

typedef enum outcome { GOOD, DAMAGED, NO_MEMORY } outcome;

static outcome inflate_all(const uint8_t *in, size_t n, uint8_t *out, size_t want) {
  z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
                .avail_in = (uInt)n,
                .next_out = out,
                .avail_out = (uInt)want};
  if (inflateInit2(&z, 32 + MAX_WBITS) != Z_OK) return NO_MEMORY;  // 32: gzip's header, or zlib's
  int rc = Z_OK;
  while (rc == Z_OK) {
    rc = inflate(&z, Z_FINISH);
    if (rc == Z_STREAM_END && z.avail_in && z.avail_out) rc = inflateReset(&z);  // another member
  }
  inflateEnd(&z);
  if (rc == Z_MEM_ERROR) return NO_MEMORY;
  return rc == Z_STREAM_END && z.avail_out == 0 ? GOOD : DAMAGED;
}

static outcome decompress(cft_parquet *f, pq_codec codec, span in, uint8_t *out, size_t want) {
  const char *text = (const char *)in.at;
  size_t got = want;
  switch (codec) {
    case PQ_SNAPPY:
      if (snappy_uncompressed_length(text, in.n, &got) != SNAPPY_OK || got != want) return DAMAGED;
      return snappy_uncompress(text, in.n, (char *)out, &got) == SNAPPY_OK ? GOOD : DAMAGED;
    case PQ_GZIP: return inflate_all(in.at, in.n, out, want);
    case PQ_ZSTD:
      if (!f->zstd && !(f->zstd = ZSTD_createDCtx())) return NO_MEMORY;
      return ZSTD_decompressDCtx(f->zstd, out, want, in.at, in.n) == want ? GOOD : DAMAGED;
    case PQ_PLAIN: break;
  }
  if (in.n != want) return DAMAGED;
  if (want) memcpy(out, in.at, want);
  return GOOD;
}

// Bring a page's bytes into p->buffer as they were before compression. Version 2 leaves its levels
// as they are, in front.
static cft_status load_bytes(cft_parquet *f, const pq_chunk *c, const pq_place *place, pq_page *p) {
  const pq_header *h = &place->header;
  size_t n = (size_t)h->compressed, want = (size_t)h->uncompressed;
  size_t levels = (size_t)(h->def_bytes + h->rep_bytes);
  uint8_t *in = malloc(n + 1);
  if (!in) return no_memory(c, n);
  cft_status st = pq_read(f, place->at, in, n);
  if (st == CFT_OK && h->has_crc && (uint32_t)crc32(0, in, (uInt)n) != h->crc)
    st = pq_fail(c, "the page at byte %lld does not have its checksum: it is damaged",
                 (long long)place->at);
  if (st == CFT_OK && !(p->buffer = malloc(want + 1))) st = no_memory(c, want);
  if (st == CFT_OK) {
    pq_codec codec = h->is_compressed ? c->codec : PQ_PLAIN;
    // A page of nulls alone has nothing behind its levels, not even a compressed nothing.
    if (h->v2 && n == levels) codec = PQ_PLAIN;
    memcpy(p->buffer, in, levels);
    outcome end =
        decompress(f, codec, (span){in + levels, n - levels}, p->buffer + levels, want - levels);
    if (end == NO_MEMORY) st = no_memory(c, want);
    if (end == DAMAGED)
      st = pq_fail(c, "the page at byte %lld does not decompress to its %zu bytes",
                   (long long)place->at, want);
  }
  p->cost += want;
  free(in);
  return st;
}

// ---- runs --------------------------------------------------------------------------------------

// Decode `count` integers of `width` bits: runs of one value, and groups of eight packed ones.
static bool decode_runs(const uint8_t *at, size_t n, int width, int64_t count, uint32_t *out) {
  const uint8_t *end = at + n;
  uint64_t mask = (UINT64_C(1) << width) - 1;
  if (width == 0) memset(out, 0, (size_t)count * sizeof *out);
  for (int64_t i = width ? 0 : count; i < count;) {
    uint64_t head = 0;
    for (int shift = 0;; shift += 7) {
      if (at == end || shift > 28) return false;
      head |= (uint64_t)(*at & 0x7F) << shift;
      if (*at++ < 0x80) break;
    }
    if (head & 1) {
      uint64_t left = (uint64_t)(end - at), bytes = (head >> 1) * (uint64_t)width;
      if (bytes > left) bytes = left;  // some writers leave the padding of the last group out
      int64_t there = (int64_t)(bytes * 8 / (uint64_t)width);
      int64_t stop = there < count - i ? i + there : count;
      if (stop == i) return false;
      uint64_t word = 0;
      int bits = 0;
      for (const uint8_t *p = at; i < stop; ++i) {
        for (; bits < width; bits += 8) word |= (uint64_t)*p++ << bits;
        out[i] = (uint32_t)(word & mask);
        word >>= width;
        bits -= width;
      }
      at += bytes;
    } else {
      int bytes = (width + 7) / 8;
      int64_t run = (int64_t)(head >> 1);
      if (end - at < bytes || run == 0) return false;
      uint64_t value = 0;
      for (int b = 0; b < bytes; ++b) value |= (uint64_t)*at++ << 8 * b;
      if (value > mask) return false;
      for (int64_t stop = run < count - i ? i + run : count; i < stop; ++i)
        out[i] = (uint32_t)value;
    }
  }
  return true;
}

static uint32_t u32_at(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int width_of(int largest) {
  int width = 0;
  while (largest >> width) ++width;
  return width;
}

// Take what a length of four bytes says, which stands in front of it.
static bool take_sized(span *from, span *out) {
  if (from->n < 4) return false;
  size_t n = u32_at(from->at);
  if (n > from->n - 4) return false;
  *out = (span){from->at + 4, n};
  from->at += 4 + n;
  from->n -= 4 + n;
  return true;
}

static void *allocate(pq_page *p, int64_t count, size_t size) {
  size_t bytes = ((size_t)count + 1) * size;
  p->cost += bytes;
  return malloc(bytes);
}

// ---- levels and rows ---------------------------------------------------------------------------

static cft_status decode_levels(const pq_chunk *c, pq_page *p, span in, int largest,
                                uint8_t **out) {
  uint32_t *wide = malloc(((size_t)p->levels + 1) * sizeof *wide);
  *out = allocate(p, p->levels, 1);
  if (!wide || !*out) {
    free(wide);
    return no_memory(c, (size_t)p->levels * sizeof *wide);
  }
  bool good = decode_runs(in.at, in.n, width_of(largest), p->levels, wide);
  for (int64_t i = 0; good && i < p->levels; ++i) {
    good = wide[i] <= (uint32_t)largest;
    (*out)[i] = (uint8_t)wide[i];
  }
  free(wide);
  return good ? CFT_OK : pq_fail(c, "a page's levels are damaged");
}

static cft_status read_levels(const pq_chunk *c, const pq_header *h, pq_page *p, span *in) {
  int rep = c->node->rep, def = c->node->def;
  span reps = {in->at, (size_t)h->rep_bytes};
  span defs = {in->at + reps.n, (size_t)h->def_bytes};
  if (h->v2) {
    in->at += reps.n + defs.n;
    in->n -= reps.n + defs.n;
  } else {
    if ((rep && h->rep_encoding != RLE) || (def && h->def_encoding != RLE))
      return pq_fail(
          c, "a page's levels are encoded by %s, which is not read",
          pq_encoding_name(rep && h->rep_encoding != RLE ? h->rep_encoding : h->def_encoding));
    if ((rep && !take_sized(in, &reps)) || (def && !take_sized(in, &defs)))
      return pq_fail(c, "a page's levels are longer than the page");
  }
  if (rep) CFT_TRY(decode_levels(c, p, reps, rep, &p->rep));
  if (def) CFT_TRY(decode_levels(c, p, defs, def, &p->def));
  return CFT_OK;
}

// Find where rows begin, and count the values that are there.
static cft_status index_rows(const pq_chunk *c, pq_page *p) {
  p->rows = p->levels;
  p->values.count = p->levels;
  if (p->rep) {
    p->rows = 0;
    for (int64_t i = 0; i < p->levels; ++i) p->rows += p->rep[i] == 0;
    p->row_level = allocate(p, p->rows, sizeof *p->row_level);
    if (!p->row_level) return no_memory(c, (size_t)p->rows * sizeof *p->row_level);
  }
  if (!p->def) return CFT_OK;
  p->row_value = allocate(p, p->rows, sizeof *p->row_value);
  if (!p->row_value) return no_memory(c, (size_t)p->rows * sizeof *p->row_value);
  uint32_t row = 0, value = 0;
  for (int64_t i = 0; i < p->levels; ++i) {
    if (!p->rep || p->rep[i] == 0) {
      if (p->row_level) p->row_level[row] = (uint32_t)i;
      p->row_value[row++] = value;
    }
    value += p->def[i] == c->node->def;
  }
  p->values.count = value;
  return CFT_OK;
}

// ---- values ------------------------------------------------------------------------------------

static cft_status decode_plain(const pq_chunk *c, pq_page *p, span in) {
  pq_values *v = &p->values;
  v->raw = in.at;
  v->bytes = in.n;
  if (c->node->type == PQ_BOOLEAN || c->node->bytes) {
    uint64_t bits = c->node->bytes ? (uint64_t)c->node->bytes * 8 : 1;
    if ((uint64_t)v->count * bits > (uint64_t)in.n * 8)
      return pq_fail(c, "a page of %zu bytes ends before its %lld values", in.n,
                     (long long)v->count);
    return CFT_OK;
  }
  v->at = allocate(p, v->count, sizeof *v->at);
  if (!v->at) return no_memory(c, (size_t)v->count * sizeof *v->at);
  for (int64_t i = 0; i < v->count; ++i) {
    v->at[i] = (uint32_t)(in.at - v->raw);
    span one;
    if (!take_sized(&in, &one))
      return pq_fail(c, "value %lld of a page is longer than the page", (long long)i);
  }
  return CFT_OK;
}

static cft_status decode_indices(const pq_chunk *c, pq_page *p, span in) {
  pq_values *v = &p->values;
  v->at = allocate(p, v->count, sizeof *v->at);
  if (!v->at) return no_memory(c, (size_t)v->count * sizeof *v->at);
  if (!v->count) return CFT_OK;
  if (!in.n || in.at[0] > 32 || !decode_runs(in.at + 1, in.n - 1, in.at[0], v->count, v->at))
    return pq_fail(c, "a page's places in its dictionary are damaged");
  for (int64_t i = 0; i < v->count; ++i)
    if (v->at[i] >= p->dictionary->values.count)
      return pq_fail(c, "a page wants value %lu of a dictionary of %lld", (unsigned long)v->at[i],
                     (long long)p->dictionary->values.count);
  return CFT_OK;
}

static cft_status decode_booleans(const pq_chunk *c, pq_page *p, span in) {
  pq_values *v = &p->values;
  v->at = allocate(p, v->count, sizeof *v->at);
  if (!v->at) return no_memory(c, (size_t)v->count * sizeof *v->at);
  span runs;
  if (v->count && (!take_sized(&in, &runs) || !decode_runs(runs.at, runs.n, 1, v->count, v->at)))
    return pq_fail(c, "a page's booleans are damaged");
  return CFT_OK;
}

static cft_status page_load(cft_parquet *f, pq_chunk *c, pq_place *place);

static cft_status decode_page(cft_parquet *f, pq_chunk *c, const pq_header *h, pq_page *p) {
  span in = {p->buffer, (size_t)h->uncompressed};
  p->levels = h->values;
  if (h->kind == DICTIONARY_PAGE) {
    p->values.count = h->values;
    if (h->encoding != PLAIN && h->encoding != PLAIN_DICTIONARY)
      return pq_fail(c, "its dictionary is encoded by %s", pq_encoding_name(h->encoding));
    return decode_plain(c, p, in);
  }
  CFT_TRY(read_levels(c, h, p, &in));
  CFT_TRY(index_rows(c, p));
  if (h->encoding == PLAIN) return decode_plain(c, p, in);
  if (h->encoding == RLE && c->node->type == PQ_BOOLEAN) return decode_booleans(c, p, in);
  if (h->encoding == PLAIN_DICTIONARY || h->encoding == RLE_DICTIONARY) {
    if (!c->has_dictionary) return pq_fail(c, "a page wants a dictionary, and there is none");
    CFT_TRY(page_load(f, c, &c->dictionary));
    p->dictionary = c->dictionary.page;
    ++p->dictionary->holds;
    return decode_indices(c, p, in);
  }
  return cft_fail(CFT_E_UNSUPPORTED, "column %s is encoded by %s, which is not read",
                  QUOTED(c->node->path), pq_encoding_name(h->encoding));
}

// ---- what is kept ------------------------------------------------------------------------------

static atomic_size_t cached;  // bytes of all open files' pages

static void unlink_page(cft_parquet *f, pq_page *p) {
  *(p->newer ? &p->newer->older : &f->newest) = p->older;
  *(p->older ? &p->older->newer : &f->oldest) = p->newer;
  p->newer = p->older = NULL;
}

static void link_newest(cft_parquet *f, pq_page *p) {
  p->older = f->newest;
  *(f->newest ? &f->newest->newer : &f->oldest) = p;
  f->newest = p;
}

static void free_page(pq_page *p) {
  if (!p) return;
  if (p->dictionary) --p->dictionary->holds;
  free(p->buffer);
  free(p->def);
  free(p->rep);
  free(p->row_level);
  free(p->row_value);
  free(p->values.at);
  free(p);
}

static void let_go(cft_parquet *f, pq_page *p) {
  unlink_page(f, p);
  *p->home = NULL;
  atomic_fetch_sub(&cached, p->cost);
  free_page(p);
}

// Make room, from the page that was not used for longest on. Files share the space; each gives
// away only pages of its own, since nobody else may touch them.
static void make_room(cft_parquet *f) {
  for (pq_page *p = f->oldest; p && atomic_load(&cached) > PQ_CACHE_BYTES;) {
    pq_page *next = p->newer;
    if (!p->holds) let_go(f, p);
    p = next;
  }
}

void pq_cache_empty(cft_parquet *f) {
  // Pages hold dictionaries: those that hold go first.
  while (f->oldest)
    for (pq_page *p = f->oldest; p;) {
      pq_page *next = p->newer;
      if (!p->holds) let_go(f, p);
      p = next;
    }
}

void pq_page_drop(pq_page *page) {
  if (page) --page->holds;
}

// Bring a page into memory.
static cft_status page_load(cft_parquet *f, pq_chunk *c, pq_place *place) {
  if (place->page) {
    if (f->newest == place->page) return CFT_OK;
    unlink_page(f, place->page);
    link_newest(f, place->page);
    return CFT_OK;
  }
  pq_page *p = calloc(1, sizeof *p);
  if (!p) return no_memory(c, sizeof *p);
  p->cost = sizeof *p;
  p->home = &place->page;
  cft_status st = load_bytes(f, c, place, p);
  if (st == CFT_OK) st = decode_page(f, c, &place->header, p);
  if (st != CFT_OK) {
    free_page(p);
    return st;
  }
  place->page = p;
  link_newest(f, p);
  atomic_fetch_add(&cached, p->cost);
  ++p->holds;  // it must survive its own arrival
  make_room(f);
  --p->holds;
  return CFT_OK;
}

// ---- finding pages -----------------------------------------------------------------------------

static cft_status append(pq_chunk *c, const pq_place *place) {
  if (c->count == c->capacity) {
    int64_t capacity = c->capacity ? 2 * c->capacity : 4;
    pq_place *bigger = realloc(c->places, (size_t)capacity * sizeof *bigger);
    if (!bigger) return no_memory(c, (size_t)capacity * sizeof *bigger);
    c->places = bigger;
    c->capacity = capacity;
    for (int64_t i = 0; i < c->count; ++i)  // they moved
      if (bigger[i].page) bigger[i].page->home = &bigger[i].page;
  }
  c->places[c->count++] = *place;
  return CFT_OK;
}

static cft_status add_data_page(cft_parquet *f, pq_chunk *c, const pq_place *place) {
  int64_t values = place->header.values;
  if (values > c->values - c->next_value)
    return pq_fail(c, "its pages have more than its %lld values", (long long)c->values);
  CFT_TRY(append(c, place));
  pq_place *p = &c->places[c->count - 1];
  p->first_row = c->next_row;
  p->rows = p->header.v2 ? p->header.rows : values;
  cft_status st = CFT_OK;
  if (c->node->rep && !p->header.v2) {
    st = page_load(f, c, p);
    if (st == CFT_OK) p->rows = p->page->rows;
  }
  if (st == CFT_OK && (p->rows < 0 || p->rows > c->rows - c->next_row))
    st = pq_fail(c, "its pages have more than its %lld rows", (long long)c->rows);
  if (st != CFT_OK) {
    if (p->page) let_go(f, p->page);
    --c->count;
    return st;
  }
  c->next_row += p->rows;
  c->next_value += values;
  return CFT_OK;
}

// Look at the next page of a chunk. *more is false behind the last one.
static cft_status extend(cft_parquet *f, pq_chunk *c, bool *more) {
  *more = c->next_value < c->values;
  if (!*more) {
    if (c->next_row != c->rows)
      return pq_fail(c, "its pages have %lld rows, it should have %lld", (long long)c->next_row,
                     (long long)c->rows);
    return CFT_OK;
  }
  if (c->next == c->end)
    return pq_fail(c, "its pages have %lld values, it should have %lld", (long long)c->next_value,
                   (long long)c->values);
  pq_place place;
  CFT_TRY(read_header(f, c, &place));
  if (place.header.kind == DICTIONARY_PAGE) {
    if (c->has_dictionary || c->count) return pq_fail(c, "a dictionary is not its first page");
    c->dictionary = place;
    c->has_dictionary = true;
  } else if (place.header.kind == DATA_PAGE || place.header.kind == DATA_PAGE_V2) {
    CFT_TRY(add_data_page(f, c, &place));
  }
  c->next = place.at + place.header.compressed;
  return CFT_OK;
}

static cft_status hold(cft_parquet *f, pq_chunk *c, int64_t number, pq_page **out) {
  pq_place *place = &c->places[number];
  CFT_TRY(page_load(f, c, place));
  if (place->page->rows != place->rows)
    return pq_fail(c, "a page has %lld rows where its header says %lld",
                   (long long)place->page->rows, (long long)place->rows);
  *out = place->page;
  ++(*out)->holds;
  return CFT_OK;
}

cft_status pq_page_of_row(cft_parquet *f, pq_chunk *c, int64_t row, int64_t *place, pq_page **out) {
  while (c->next_row <= row) {
    bool more;
    CFT_TRY(extend(f, c, &more));
    if (!more) return pq_fail(c, "row %lld is in none of its pages", (long long)row);
  }
  int64_t lo = 0, hi = c->count - 1;  // the last page that begins at the row or before it
  while (lo < hi) {
    int64_t mid = lo + (hi - lo + 1) / 2;
    if (c->places[mid].first_row <= row)
      lo = mid;
    else
      hi = mid - 1;
  }
  *place = lo;
  return hold(f, c, lo, out);
}

cft_status pq_page_at(cft_parquet *f, pq_chunk *c, int64_t place, pq_page **out) {
  *out = NULL;
  for (bool more = true; place >= c->count;) {
    CFT_TRY(extend(f, c, &more));
    if (!more) return CFT_OK;
  }
  return hold(f, c, place, out);
}
