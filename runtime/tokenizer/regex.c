// regex.c - which engine runs a pattern, and the search for the next match.
#include "tokenizer/regex_impl.h"

cft_status regex_new(regex **out, const char *pattern, size_t bytes, regex_engine engine) {
  size_t bad = cft_utf8_check(pattern, bytes);
  if (bad < bytes) return cft_fail(CFT_E_FORMAT, "pattern: invalid UTF-8 at byte %zu", bad);
  cft_status st = CFT_OK;
  regex *re = calloc(1, sizeof *re);
  parser p = {.pattern = pattern, .n = bytes, .nodes = malloc(MAX_NODES * sizeof *p.nodes)};
  if (!re || !p.nodes) {
    st = cft_fail(CFT_E_OOM, "pattern: out of memory");
    goto out;
  }
  if (engine != REGEX_PCRE2) {
    int root = parse_pattern(&p);
    if (p.verdict == PARSED) {
      p.verdict = regex_table_build(&re->table, &p, root);
      p.reason = "too large for a table";
    }
    if (p.verdict == NO_MEMORY) {
      st = cft_fail(CFT_E_OOM, "pattern: out of memory");
    } else if (p.verdict == MALFORMED) {
      st = cft_fail(CFT_E_FORMAT, "pattern %s, byte %zu: %s", cft_quote(pattern, bytes).text, p.at,
                    p.reason);
    } else if (p.verdict == UNSUPPORTED || (p.verdict == BEYOND && engine == REGEX_TABLE)) {
      st = cft_fail(CFT_E_UNSUPPORTED, "pattern %s, byte %zu: %s", cft_quote(pattern, bytes).text,
                    p.at, p.reason);
    }
  }
  if (st == CFT_OK && !re->table.cells) st = regex_pcre2_compile(&re->code, pattern, bytes);
out:
  for (int i = 0; i < p.sets_count; i++) charset_free(&p.sets[i]);
  free(p.nodes);
  if (st == CFT_OK)
    *out = re;
  else
    regex_free(re);
  return st;
}

void regex_free(regex *re) {
  if (!re) return;
  regex_table_free(&re->table);
  pcre2_code_free(re->code);
  free(re);
}

const regex_table *regex_table_of(const regex *re) { return re->code ? NULL : &re->table; }

// Search where attempts fail late: `\s+$` on a line of spaces that ends in a letter would be tried
// at each space and run to the letter each time. An attempt that enters a state in which an earlier
// one stood at the same place must fail as that one did; remembering where the last failure stood
// in its last state makes such runs linear.
static int64_t search_remembering(const regex_table *t, const uint8_t *text, size_t n, size_t from,
                                  size_t *start) {
  unsigned failed_state = 0;
  size_t failed_first = 0, failed_last = 0;  // where it stood in that state
  for (; from < n; from += (size_t)cft_utf8_length(text[from])) {
    unsigned state = (unsigned)t->start;
    int64_t match = REGEX_NONE;
    size_t i = from, entered = from;
    for (;;) {
      if (i == n) {
        if (t->match_at_end[state]) match = (int64_t)n;
        break;
      }
      if (state == failed_state && i >= failed_first && i <= failed_last) break;
      unsigned column = text[i];
      int length = 1;
      if (column >= 0x80) {
        uint32_t cp = cft_utf8_decode(text + i, &length);
        column = t->classes[t->block[cp >> 8]][cp & 0xFF];
      }
      unsigned cell = t->cells[state << 8 | column];
      if (cell & 1) match = (int64_t)i;
      if (!(cell >> 1)) break;
      i += (size_t)length;
      if (cell >> 1 != state) entered = i;
      state = cell >> 1;
    }
    if (match >= 0) {
      *start = from;
      return match;
    }
    bool joined = state == failed_state && i >= failed_first && i <= failed_last;
    if (!joined) {
      failed_state = state;
      failed_first = entered;
      failed_last = i;
    } else if (entered < failed_first) {
      failed_first = entered;
    }
  }
  return REGEX_NONE;
}

static int64_t search_table(const regex_table *t, const uint8_t *text, size_t n, size_t from,
                            size_t *start) {
  const uint16_t *first = t->cells + (size_t)t->start * 256;
  for (size_t tries = 0; from < n; from += (size_t)cft_utf8_length(text[from])) {
    if (text[from] < 0x80 && !first[text[from]]) continue;
    int64_t match = regex_table_match(t, text, n, from);
    if (match >= 0) {
      *start = from;
      return match;
    }
    if (++tries == 8) return search_remembering(t, text, n, from, start);
  }
  if (!t->match_at_end[t->start]) return REGEX_NONE;
  *start = n;  // the empty match at the very end
  return (int64_t)n;
}

cft_status regex_find(const regex *re, regex_scratch *scratch, const uint8_t *text, size_t n,
                      size_t from, size_t *start, size_t *end) {
  if (!re->code) {
    int64_t match = search_table(&re->table, text, n, from, start);
    if (match < 0)
      *start = n + 1;
    else
      *end = (size_t)match;
    return CFT_OK;
  }
  return regex_pcre2_find(re->code, scratch, text, n, from, start, end);
}
