// split.c - where records start: lines of a file, elements of one JSON array, or rows of CSV.
//
// The scanner never parses. In an array it follows strings, escapes and brackets, and counts how
// deep it is; whether brackets match in kind is the parser's to say, so that one bad element leaves
// its neighbours whole. Two more choices keep damage local:
//   - a line break ends a string: JSON allows none inside one, and in files with a field a line
//   (what
//     most programs write) a missing quote then spoils one record instead of all that follow;
//   - a value that follows a closed value without a comma is a record of its own, marked bad.
#include <stdlib.h>
#include <string.h>

#include "data_impl.h"

enum state {
  BETWEEN,   // JSONL: no record on this line yet
  LINE,      // JSONL: inside a record
  START,     // JSON: before the array
  BEFORE,    // before an element
  IN,        // inside an element, or after it and before its comma
  AFTER,     // after the array
  REST,      // text after the array, marked already
  FIELD,     // CSV: before a field; a row that has not begun is BETWEEN
  PLAIN,     // inside a field without quotes
  QUOTED,    // inside one with quotes
  UNQUOTED,  // after a quote in it: the end, unless another follows
};

static const char text_after[] = "text after the closing ]";

void cft_split_init(cft_split *s, cft_records_format format) {
  *s = (cft_split){.format = format, .line = 1};
  s->state = format == CFT_RECORDS_JSON ? START : BETWEEN;
}

void cft_split_free(cft_split *s) {
  free(s->starts);
  free(s->lines);
  free(s->bad);
  *s = (cft_split){0};
}

// Make room for one more element of `size` bytes.
static cft_status grow(void *array, int64_t count, int64_t *capacity, size_t size) {
  if (count < *capacity) return CFT_OK;
  int64_t wanted = *capacity ? 2 * *capacity : 256;
  void *old, *bigger;
  memcpy(&old, array, sizeof old);
  bigger = realloc(old, (size_t)wanted * size);
  if (!bigger)
    return cft_fail(CFT_E_OOM, "no memory for an index of %lld records", (long long)wanted);
  memcpy(array, &bigger, sizeof bigger);
  *capacity = wanted;
  return CFT_OK;
}

static cft_status mark(cft_split *s, int64_t record, const char *reason) {
  if (s->bad_count && s->bad[s->bad_count - 1].record == record) return CFT_OK;  // the first counts
  if (s->bad_count == CFT_RECORDS_MALFORMED)
    return cft_fail(CFT_E_FORMAT,
                    "%d broken places up to byte %lld; is this a JSON array of records?",
                    CFT_RECORDS_MALFORMED, (long long)s->at);
  CFT_TRY(grow(&s->bad, s->bad_count, &s->bad_capacity, sizeof *s->bad));
  s->bad[s->bad_count++] = (struct cft_split_bad){record, reason};
  return CFT_OK;
}

// A record starts at byte `at`; with a reason it is a bad one.
static cft_status start(cft_split *s, int64_t at, const char *reason) {
  CFT_TRY(grow(&s->starts, s->count, &s->capacity, sizeof *s->starts));
  if (s->count % CFT_LINES_EVERY == 0) {
    CFT_TRY(grow(&s->lines, s->line_count, &s->line_capacity, sizeof *s->lines));
    s->lines[s->line_count++] = s->line;
  }
  if (reason) CFT_TRY(mark(s, s->count, reason));
  s->starts[s->count++] = at;
  return CFT_OK;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static cft_status feed_lines(cft_split *s, const char *text, size_t n) {
  for (size_t i = 0; i < n;) {
    if (s->state == LINE) {
      const char *end = memchr(text + i, '\n', n - i);
      if (!end) break;
      i = (size_t)(end - text);
      s->state = BETWEEN;
    }
    for (; i < n && is_space(text[i]); ++i) s->line += text[i] == '\n';
    if (i == n) break;
    CFT_TRY(start(s, s->at + (int64_t)i, NULL));
    s->state = LINE;
  }
  s->at += (int64_t)n;
  return CFT_OK;
}

// Go on inside a string; the index after what was eaten.
static size_t feed_string(cft_split *s, const char *text, size_t i, size_t n) {
  if (s->escaped && i < n) {  // a backslash ended the chunk before
    s->escaped = false;
    if (text[i] != '\n') ++i;
  }
  for (; i < n; ++i) {
    char c = text[i];
    if (c == '\\') {
      if (i + 1 == n) {
        s->escaped = true;
        return n;
      }
      if (text[i + 1] != '\n') ++i;
    } else if (c == '"' || c == '\n') {
      s->in_string = false;
      return c == '"' ? i + 1 : i;  // the line break is counted outside
    }
  }
  return i;
}

// A character of an element, outside strings.
static cft_status in_element(cft_split *s, char c, int64_t at) {
  bool top = s->depth == 1;  // only the array itself is open
  switch (c) {
    case ',':
      if (top) {
        s->state = BEFORE;
        s->after_comma = true;
      }
      return CFT_OK;
    case ']':
    case '}':
      if (top && c == ']') s->state = AFTER;
      if (!top) s->complete = --s->depth == 1;
      return CFT_OK;
    case '{':
    case '[':
      if (top && s->complete) CFT_TRY(start(s, at, "no comma before it"));
      s->complete = false;
      ++s->depth;
      return CFT_OK;
    case '"': s->in_string = true; return CFT_OK;
    default: return CFT_OK;
  }
}

static cft_status begin_element(cft_split *s, char c, int64_t at) {
  if (c == ']') {
    if (s->after_comma) CFT_TRY(start(s, at, "nothing between a comma and the closing ]"));
    s->state = AFTER;
    return CFT_OK;
  }
  if (c == ',') {
    s->after_comma = true;
    return start(s, at, "nothing before a comma");
  }
  CFT_TRY(start(s, at, NULL));
  s->state = IN;
  s->complete = false;
  return in_element(s, c, at);
}

static cft_status feed_array(cft_split *s, const char *text, size_t n) {
  for (size_t i = 0; i < n;) {
    if (s->in_string) {
      i = feed_string(s, text, i, n);
      continue;
    }
    char c = text[i];
    int64_t at = s->at + (int64_t)i;
    ++i;
    if (is_space(c)) {
      s->line += c == '\n';
      continue;
    }
    switch (s->state) {
      case START:
        if (c != '[')
          return cft_fail(CFT_E_FORMAT, "byte %lld: '[' wanted, which begins an array of records",
                          (long long)at);
        s->depth = 1;
        s->state = BEFORE;
        break;
      case BEFORE: CFT_TRY(begin_element(s, c, at)); break;
      case IN: CFT_TRY(in_element(s, c, at)); break;
      case AFTER:
        CFT_TRY(start(s, at, text_after));
        s->state = REST;
        return CFT_OK;
      default: return CFT_OK;
    }
  }
  s->at += (int64_t)n;
  return CFT_OK;
}

// A quote means something at a field's beginning and inside a quoted one only, so that a stray one
// spoils a row and not the file.
static int after_csv(int state, char c) {
  switch (state) {
    case QUOTED: return c == '"' ? UNQUOTED : QUOTED;
    case UNQUOTED:
      if (c == '"') return QUOTED;
      return c == ',' ? FIELD : UNQUOTED;
    case FIELD:
      if (c == '"') return QUOTED;
      return c == ',' ? FIELD : PLAIN;
    default: return c == ',' ? FIELD : PLAIN;
  }
}

bool cft_csv_ends_line(bool *after_cr, char c) {
  bool ends = c == '\r' || (c == '\n' && !*after_cr);
  *after_cr = c == '\r';
  return ends;
}

static cft_status feed_csv(cft_split *s, const char *text, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    char c = text[i];
    if ((c == '\n' || c == '\r') && s->state != QUOTED) {
      s->state = BETWEEN;
    } else {
      if (s->state == BETWEEN) {
        CFT_TRY(start(s, s->at + (int64_t)i, NULL));
        s->state = FIELD;
      }
      s->state = after_csv(s->state, c);
    }
    s->line += cft_csv_ends_line(&s->after_cr, c);
  }
  s->at += (int64_t)n;
  return CFT_OK;
}

cft_status cft_split_feed(cft_split *s, const char *text, size_t n) {
  if (s->format == CFT_RECORDS_CSV) return feed_csv(s, text, n);
  return s->format == CFT_RECORDS_JSON ? feed_array(s, text, n) : feed_lines(s, text, n);
}

cft_status cft_split_end(cft_split *s) {
  if (s->format == CFT_RECORDS_CSV && s->state == QUOTED)
    return mark(s, s->count - 1, "the file ends inside a quoted field of it");
  if (s->format != CFT_RECORDS_JSON) return CFT_OK;
  if (s->state == START) return cft_fail(CFT_E_FORMAT, "no array of records in it");
  if (s->state == IN && (s->in_string || s->depth > 1))
    return mark(s, s->count - 1, "the file ends inside it, or a bracket of it is not closed");
  if (s->state == IN || s->state == BEFORE) return start(s, s->at, "no ] closes the array");
  return CFT_OK;
}

const char *cft_split_reason(const cft_split *s, int64_t i) {
  int64_t lo = 0, hi = s->bad_count;
  while (lo < hi) {
    int64_t mid = lo + (hi - lo) / 2;
    if (s->bad[mid].record < i)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo < s->bad_count && s->bad[lo].record == i ? s->bad[lo].reason : NULL;
}

size_t cft_split_trim(const cft_split *s, int64_t i, const char *text, size_t n) {
  if (s->format == CFT_RECORDS_CSV) {
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r')) --n;
    return n;
  }
  if (s->format != CFT_RECORDS_JSON) {
    const char *end = memchr(text, '\n', n);
    if (end) n = (size_t)(end - text);
  }
  while (n && is_space(text[n - 1])) --n;
  if (s->format != CFT_RECORDS_JSON || !n || cft_split_reason(s, i)) return n;

  // An element's own last byte may be a ']' as well; only the array's is followed by no element.
  bool last = i + 1 == s->count || cft_split_reason(s, i + 1) == text_after;
  if (text[n - 1] == (last ? ']' : ',')) --n;
  while (n && is_space(text[n - 1])) --n;
  return n;
}
