// csv.c - rows of a CSV file as JSON, by RFC 4180: fields between commas, in quotes where they hold
// commas, line breaks or quotes, which are then doubled. What the RFC does not allow is a bad row:
// programs disagree on what it means.
#include "csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cft_data.h"
#include "util/utf8.h"

struct cft_csv {
  char **names;
  int64_t count, capacity;
  cft_text field;  // the one that was read last
  char reason[128];
};

// Read a field into c->field, and step over the comma behind it. NULL, or what is wrong with it.
static const char *next_field(cft_csv *c, const char **at, const char *end, bool *more) {
  const char *p = *at;
  c->field.bytes = 0;
  if (p < end && *p == '"') {
    for (++p;; ++p) {
      const char *quote = memchr(p, '"', (size_t)(end - p));
      if (!quote) return "a quote is not closed";
      cft_text_add(&c->field, p, (size_t)(quote - p));
      p = quote + 1;
      if (p == end || *p != '"') break;
      cft_text_put(&c->field, '"');
    }
    if (p < end && *p != ',') return "there is text behind a closing quote";
  } else {
    const char *comma = memchr(p, ',', (size_t)(end - p));
    size_t n = (size_t)((comma ? comma : end) - p);
    if (memchr(p, '"', n)) return "there is a quote in a field that does not begin with one";
    cft_text_add(&c->field, p, n);
    p += n;
  }
  *more = p < end;
  *at = p + *more;
  return NULL;
}

static cft_status add_name(cft_csv *c) {
  for (int64_t i = 0; i < c->count; ++i)
    if (strlen(c->names[i]) == c->field.bytes &&
        (!c->field.bytes || memcmp(c->names[i], c->field.data, c->field.bytes) == 0))
      return cft_fail(CFT_E_FORMAT, "the header names %s twice",
                      cft_quote(c->names[i], c->field.bytes).text);
  if (c->field.bytes && memchr(c->field.data, 0, c->field.bytes))
    return cft_fail(CFT_E_FORMAT, "the header has a NUL in a name");
  if (c->count == c->capacity) {
    int64_t capacity = c->capacity ? 2 * c->capacity : 16;
    char **bigger = realloc(c->names, (size_t)capacity * sizeof *bigger);
    if (!bigger) return cft_fail(CFT_E_OOM, "no memory for the header's names");
    c->names = bigger;
    c->capacity = capacity;
  }
  char *name = strndup(c->field.bytes ? c->field.data : "", c->field.bytes);
  if (!name) return cft_fail(CFT_E_OOM, "no memory for the header's names");
  c->names[c->count++] = name;
  return CFT_OK;
}

// A header without a comma that has semicolons or tabs outside of quotes is another dialect's, as
// spreadsheets write it where the comma is the decimal point.
static cft_status check_separator(const char *header, size_t n) {
  bool quoted = false;
  char other = 0;
  for (size_t i = 0; i < n; ++i) {
    char c = header[i];
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    if (c == ',') return CFT_OK;
    if (!other && (c == ';' || c == '\t')) other = c;
  }
  if (!other) return CFT_OK;
  return cft_fail(CFT_E_FORMAT, "the header looks separated by %s, where commas are wanted: %s",
                  other == ';' ? "';'" : "tabs", cft_quote(header, n).text);
}

static cft_status read_header(cft_csv *c, const char *header, size_t n) {
  enum { MOST = 1 << 12 };
  if (cft_utf8_check(header, n) != n) return cft_fail(CFT_E_FORMAT, "the header is not UTF-8");
  CFT_TRY(check_separator(header, n));
  const char *end = header + n;
  for (bool more = true; more;) {
    const char *problem = next_field(c, &header, end, &more);
    if (problem) return cft_fail(CFT_E_FORMAT, "the header is broken: %s", problem);
    if (c->field.no_memory) return cft_fail(CFT_E_OOM, "no memory for the header");
    if (c->count == MOST) return cft_fail(CFT_E_FORMAT, "the header has more than %d names", MOST);
    CFT_TRY(add_name(c));
  }
  return CFT_OK;
}

cft_status cft_csv_new(cft_csv **out, const char *header, size_t n) {
  cft_csv *c = calloc(1, sizeof *c);
  if (!c) return cft_fail(CFT_E_OOM, "no memory for the header");
  c->field.limit = CFT_RECORD_BYTES;
  cft_status st = read_header(c, header, n);
  if (st != CFT_OK)
    cft_csv_release(c);
  else
    *out = c;
  return st;
}

void cft_csv_release(cft_csv *c) {
  if (!c) return;
  for (int64_t i = 0; i < c->count; ++i) free(c->names[i]);
  free(c->names);
  cft_text_free(&c->field);
  free(c);
}

cft_status cft_csv_record(cft_csv *c, const char *row, size_t n, cft_text *out,
                          const char **reason) {
  *reason = NULL;
  out->bytes = 0;
  size_t valid = cft_utf8_check(row, n);
  if (valid != n) {
    snprintf(c->reason, sizeof c->reason, "byte %zu of it is not UTF-8", valid);
    *reason = c->reason;
    return CFT_OK;
  }
  const char *end = row + n;
  int64_t fields = 0;
  cft_text_put(out, '{');
  for (bool more = true; more; ++fields) {
    if ((*reason = next_field(c, &row, end, &more))) return CFT_OK;
    if (fields >= c->count) continue;
    if (fields) cft_text_put(out, ',');
    cft_text_string(out, c->names[fields], strlen(c->names[fields]));
    cft_text_put(out, ':');
    cft_text_string(out, c->field.data, c->field.bytes);
  }
  cft_text_put(out, '}');
  if (c->field.no_memory) return cft_fail(CFT_E_OOM, "no memory for a row of %zu bytes", n);
  CFT_TRY(cft_text_end(out));
  if (out->too_long || c->field.too_long) {
    *reason = "longer than 256 MiB";
  } else if (fields != c->count) {
    snprintf(c->reason, sizeof c->reason, "it has %lld field%s where the header has %lld",
             (long long)fields, fields == 1 ? "" : "s", (long long)c->count);
    *reason = c->reason;
  }
  return CFT_OK;
}
