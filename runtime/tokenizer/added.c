// added.c - added tokens found in text, as AddedVocabulary does it in Hugging Face tokenizers.
#include <stdlib.h>

#include "tokenizer/tokenizer_impl.h"

bool added_insert(cft_tokenizer *tk, added_token token) {
  if (tk->added_count == tk->added_capacity) {
    int capacity = 2 * tk->added_capacity + 32;
    added_token *grown = realloc(tk->added, (size_t)capacity * sizeof *grown);
    if (!grown) return false;
    tk->added = grown;
    tk->added_capacity = capacity;
  }
  int at = tk->added_count++;
  for (; at > 0 && tk->added[at - 1].id > token.id; at--) tk->added[at] = tk->added[at - 1];
  tk->added[at] = token;
  return true;
}

// ---- matchers ------------------------------------------------------------------------------

void matcher_free(matcher *m) {
  for (int i = 0; i < m->n; i++) free(m->needles[i].text);
  free(m->needles);
  *m = (matcher){0};
}

static int compare_needles(const void *a, const void *b) {
  const needle *x = a, *y = b;
  int order = memcmp(x->text, y->text, x->bytes < y->bytes ? x->bytes : y->bytes);
  if (order) return order;
  return x->bytes != y->bytes ? (x->bytes > y->bytes) - (x->bytes < y->bytes) : x->added - y->added;
}

static bool add_needle(matcher *m, const uint8_t *text, size_t bytes, int added, bool special) {
  needle *made = &m->needles[m->n];
  made->text = malloc(bytes);
  if (!made->text) return false;
  memcpy(made->text, text, bytes);
  made->bytes = bytes;
  made->added = added;
  if (m->n++ == 0) m->all_special = true;
  m->all_special &= special;
  m->first[text[0]] = 1;
  for (unsigned next = 0; next < 256; next++)
    if (bytes == 1 || text[1] == next) {
      unsigned two = (unsigned)text[0] << 8 | next;
      m->second[two >> 6] |= 1ull << (two & 63);
    }
  return true;
}

cft_status matchers_build(cft_tokenizer *tk) {
  matcher raw = {0}, normalized = {0}, special = {0};
  matcher *all[] = {&raw, &normalized, &special};
  edited_text texts[MAX_STEPS] = {0};
  cft_status st = CFT_OK;
  bool ok = true;
  for (int i = 0; i < 3 && tk->added_count > 0; i++) {
    all[i]->needles = malloc((size_t)tk->added_count * sizeof(needle));
    ok = ok && all[i]->needles;
  }
  for (int i = 0; ok && i < tk->added_count; i++) {
    const added_token *a = &tk->added[i];
    const vocab_entry *t = &tk->vocab.tokens[a->id];
    const uint8_t *text = (const uint8_t *)tk->vocab.text + t->at;
    size_t bytes = t->bytes;
    if (bytes == 0) continue;
    if (a->special) ok = add_needle(&special, text, bytes, i, true);
    if (ok && a->normalized) st = normalize(tk, texts, false, &text, &bytes);
    if (st != CFT_OK) break;
    if (bytes == 0) continue;  // the normalizer left nothing of it
    ok = ok && add_needle(a->normalized ? &normalized : &raw, text, bytes, i, a->special);
  }
  for (int i = 0; i < tk->steps_count; i++) edited_free(&texts[i]);
  if (!ok) st = cft_fail(CFT_E_OOM, "tokenizer: out of memory");
  if (st != CFT_OK) {
    for (int i = 0; i < 3; i++) matcher_free(all[i]);
    return st;
  }
  matcher *old[] = {&tk->raw, &tk->normalized, &tk->special};
  for (int i = 0; i < 3; i++) {
    if (all[i]->n) qsort(all[i]->needles, (size_t)all[i]->n, sizeof(needle), compare_needles);
    matcher_free(old[i]);
    *old[i] = *all[i];
  }
  return CFT_OK;
}

// The longest needle that text[at, n) starts with. The needles that agree with the text so far are
// neighbours; each further byte narrows them down.
static const needle *longest(const matcher *m, const uint8_t *text, size_t n, size_t at) {
  const needle *best = NULL;
  int low = 0, high = m->n;
  for (size_t depth = 0; low < high; depth++) {
    if (m->needles[low].bytes == depth) {  // before its continuations
      best = &m->needles[low];
      while (low < high && m->needles[low].bytes == depth) low++;  // equal ones: the first counts
    }
    if (at + depth == n) break;
    uint8_t byte = text[at + depth];
    int end = high;
    for (int top = end; low < top;) {  // the first with this byte or a higher one
      int middle = (low + top) / 2;
      if (m->needles[middle].text[depth] < byte)
        low = middle + 1;
      else
        top = middle;
    }
    for (int bottom = low; bottom < high;) {  // the first with a higher one
      int middle = (bottom + high) / 2;
      if (m->needles[middle].text[depth] <= byte)
        bottom = middle + 1;
      else
        high = middle;
    }
  }
  return best;
}

bool matcher_find(const matcher *m, const uint8_t *text, size_t n, size_t from, added_match *out) {
  for (size_t i = from; i < n; i++) {
    if (!m->first[text[i]]) continue;
    if (i + 1 < n) {
      unsigned two = (unsigned)text[i] << 8 | text[i + 1];
      if (!(m->second[two >> 6] >> (two & 63) & 1)) continue;
    }
    const needle *found = longest(m, text, n, i);
    if (!found) continue;
    *out = (added_match){i, i + found->bytes, found->added};
    return true;
  }
  return false;
}

// ---- their flags ---------------------------------------------------------------------------

static uint32_t point_before(const uint8_t *text, size_t at, size_t *start) {
  do at--;
  while ((text[at] & 0xC0) == 0x80);
  *start = at;
  int length;
  return cft_utf8_decode(text + at, &length);
}

void added_strip(const uint8_t *text, size_t *start, size_t *end, unsigned flags) {
  size_t from = *start, to = *end, before;
  int length;
  if (flags & CFT_ENCODE_STRIP_LEFT)
    while (from < to && unicode_is_space(cft_utf8_decode(text + from, &length)))
      from += (size_t)length;
  if (flags & CFT_ENCODE_STRIP_RIGHT)
    while (to > from && unicode_is_space(point_before(text, to, &before))) to = before;
  *start = from;
  *end = to;
}

static bool is_text(const encoder *e, int32_t id) {
  for (int64_t i = 0; i < e->as_text_n; i++)
    if (e->as_text[i] == id) return true;
  return false;
}

// Where the white space from `from` on ends. One run of it is remembered: tokens that take it may
// stand in it by the thousand.
static size_t space_end(added_cursor *c, const uint8_t *text, size_t n, size_t from) {
  if (from >= c->white_from && from < c->white_to) return c->white_to;
  size_t end = from;
  added_strip(text, &end, &n, CFT_ENCODE_STRIP_LEFT);
  c->white_from = from;
  c->white_to = end;
  return end;
}

bool added_next(const encoder *e, const matcher *m, bool parse_special, const uint8_t *text,
                size_t n, added_cursor *c, added_match *out) {
  const cft_tokenizer *tk = e->tk;
  if (m->n == 0 || (m->all_special && !parse_special)) return false;
  added_match found;
  while (matcher_find(m, text, n, c->at, &found)) {
    c->at = found.end;
    const added_token *a = &tk->added[found.added];
    if ((a->special && !parse_special) || is_text(e, a->id)) continue;
    size_t start;
    int length;
    if (a->single_word) {
      if (found.start > 0 && unicode_is_word(point_before(text, found.start, &start))) continue;
      if (found.end < n && unicode_is_word(cft_utf8_decode(text + found.end, &length))) continue;
    }
    if (a->rstrip) found.end = space_end(c, text, n, found.end);
    // In the white space that the one before took it stands all the same, and text goes on behind
    // it; but nothing of it is left where lstrip moves its start behind that.
    if (a->lstrip && found.start < c->done) found.start = c->done;
    if (found.start >= found.end) continue;
    while (a->lstrip && found.start > c->done &&
           unicode_is_space(point_before(text, found.start, &start)))
      found.start = start;
    c->done = found.end;
    *out = found;
    return true;
  }
  return false;
}
