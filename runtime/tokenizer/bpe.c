// bpe.c - byte-pair encoding of one word, and the words that were encoded before.
//
// Of all neighbours that have a merge, the pair of the lowest rank is replaced by its result, the
// leftmost first, until none has one. Short words scan for it; long ones keep a heap, so that a
// megabyte of one letter takes n log n.
#include <stdio.h>
#include <stdlib.h>

#include "tokenizer/tokenizer_impl.h"
#include "util/utf8.h"

// ---- the pairs that merge --------------------------------------------------------------------

static inline uint64_t pair_key(int32_t left, int32_t right) {
  return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline uint64_t hash_pair(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ key >> 32;
}

static inline uint32_t rank_of(const bpe *b, int32_t left, int32_t right) {
  uint64_t key = pair_key(left, right), hash = hash_pair(key);
  uint64_t bit = hash & (b->filter_bits - 1);
  if (!(b->filter[bit >> 6] >> (bit & 63) & 1)) return NO_RANK;
  for (size_t slot = hash >> 8;; slot++) {
    const pair *p = &b->pairs[slot & (b->pairs_count - 1)];
    if (p->rank == NO_RANK) return NO_RANK;
    if (p->key == key) return p->rank;
  }
}

static int32_t model_token(const vocab *v, const void *text, size_t bytes) {
  int32_t id = vocab_find(v, text, bytes);
  return id != NONE && v->tokens[id].flags & TOKEN_MODEL ? id : NONE;
}

static bool is_mark(const char *text, size_t at, size_t bytes) {
  return bytes - at >= SPACE_MARK_BYTES && !memcmp(text + at, SPACE_MARK, SPACE_MARK_BYTES);
}

// Where a text may be cut into words although no pre-tokenizer does: where no merge crosses. Only
// if every character becomes a token, or an unk that is pending would see the cut.
static void find_cuts(bpe *b, const vocab *v) {
  b->cuts_at_mark = b->plain_fallback;
  for (int c = 0; c < 128; c++) b->alone[c] = b->plain_fallback;
  for (int64_t rank = 0; rank < b->merges_count && b->plain_fallback; rank++) {
    const vocab_entry *t = &v->tokens[b->merges[rank].result];
    const char *text = v->text + t->at;
    for (uint32_t i = 0; i < t->bytes; i++) {
      if ((uint8_t)text[i] < 128) b->alone[(uint8_t)text[i]] = false;
      if (i > 0 && is_mark(text, i, t->bytes) &&
          !(i >= SPACE_MARK_BYTES && is_mark(text, i - SPACE_MARK_BYTES, t->bytes)))
        b->cuts_at_mark = false;
    }
  }
}

// Tokens that stand for characters: their lengths are those of their spellings, but for the tokens
// of single bytes if nothing is merged to or from them.
static void prepare_characters(bpe *b, vocab *v) {
  bool complete = b->byte_fallback;
  for (int byte = 0; byte < 256; byte++) {
    char text[8];
    snprintf(text, sizeof text, "<0x%02X>", byte);
    b->fallback[byte] = b->byte_fallback ? model_token(v, text, 6) : NONE;
    complete &= b->fallback[byte] != NONE;
    char letter = (char)byte;
    b->byte_id[byte] = byte < 128 ? model_token(v, &letter, 1) : NONE;
  }
  b->plain_fallback = complete && !b->ignore_merges;
  for (int64_t rank = 0; rank < b->merges_count; rank++) {
    const merge *m = &b->merges[rank];
    const int32_t ids[] = {m->left, m->right, m->result};
    for (int i = 0; i < 3; i++) {
      const vocab_entry *t = &v->tokens[ids[i]];
      if (fallback_byte(v->text + t->at, t->bytes) != NONE) b->plain_fallback = false;
    }
  }
  for (int64_t id = 0; id < v->n; id++) v->tokens[id].length = v->tokens[id].bytes;
  for (int byte = 0; byte < 256 && b->plain_fallback; byte++)
    v->tokens[b->fallback[byte]].length = 1;
  find_cuts(b, v);
}

bool bpe_prepare(bpe *b, vocab *v) {
  for (int byte = 0; byte < 256 && b->byte_level; byte++) {
    uint8_t spelling[4];
    int bytes = byte_spelling(spelling, (uint8_t)byte);
    b->byte_id[byte] = model_token(v, spelling, (size_t)bytes);
  }
  if (!b->byte_level) prepare_characters(b, v);

  size_t count = 1024;
  while (count < 2 * (size_t)b->merges_count) count *= 2;
  b->pairs_count = count;
  b->filter_bits = 8 * count;
  b->pairs = malloc(count * sizeof *b->pairs);
  b->filter = calloc(b->filter_bits / 64, sizeof *b->filter);
  b->byte_rank = malloc(256 * 256 * sizeof *b->byte_rank);
  if (!b->pairs || !b->filter || !b->byte_rank) return false;
  for (size_t i = 0; i < count; i++) b->pairs[i].rank = NO_RANK;

  for (int64_t rank = 0; rank < b->merges_count; rank++) {
    uint64_t key = pair_key(b->merges[rank].left, b->merges[rank].right), hash = hash_pair(key);
    size_t slot = (hash >> 8) & (count - 1);
    while (b->pairs[slot].rank != NO_RANK && b->pairs[slot].key != key)
      slot = (slot + 1) & (count - 1);
    b->pairs[slot] = (pair){.key = key, .rank = (uint32_t)rank};  // of two equal merges, the last
    uint64_t bit = hash & (b->filter_bits - 1);
    b->filter[bit >> 6] |= 1ull << (bit & 63);
  }
  for (int i = 0; i < 256 * 256; i++) {
    int32_t left = b->byte_id[i >> 8], right = b->byte_id[i & 255];
    b->byte_rank[i] = left == NONE || right == NONE ? NO_RANK : rank_of(b, left, right);
  }
  return true;
}

void bpe_free(bpe *b) {
  free(b->merges);
  free(b->pairs);
  free(b->filter);
  free(b->byte_rank);
  *b = (bpe){0};
}

// ---- merging -------------------------------------------------------------------------------

// Short words: scan for the lowest rank, close the gap. Returns how many symbols are left.
static size_t merge_scanning(const bpe *b, int32_t *symbols, uint32_t *ranks, uint32_t *ends,
                             size_t n) {
  while (n > 1) {
    uint32_t best = NO_RANK;
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; i++)
      if (ranks[i] < best) {
        best = ranks[i];
        at = i;
      }
    if (best == NO_RANK) break;
    symbols[at] = b->merges[best].result;
    ends[at] = ends[at + 1];
    n--;
    for (size_t i = at + 1; i < n; i++) {
      symbols[i] = symbols[i + 1];
      ends[i] = ends[i + 1];
      ranks[i] = ranks[i + 1];
    }
    ranks[at] = at + 1 < n ? rank_of(b, symbols[at], symbols[at + 1]) : NO_RANK;
    if (at > 0) ranks[at - 1] = rank_of(b, symbols[at - 1], symbols[at]);
  }
  return n;
}

static void sift_up(uint64_t *heap, size_t at) {
  uint64_t item = heap[at];
  for (; at > 0 && heap[(at - 1) / 2] > item; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[at] = item;
}

static void sift_down(uint64_t *heap, size_t n, size_t at) {
  uint64_t item = heap[at];
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= n) break;
    if (child + 1 < n && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= item) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = item;
}

// Long words: a heap of rank << 32 | position. An item whose rank is no longer that of its position
// is left over from before a merge there. Each merge adds at most two items and removes a symbol,
// so 3n is enough.
static size_t merge_with_heap(encoder *e, const bpe *b, size_t n) {
  int32_t *symbols = e->symbols;
  uint32_t *ranks = e->ranks, *before = e->before, *after = e->after;
  uint64_t *heap = e->heap;
  size_t items = 0;
  for (size_t i = 0; i < n; i++) {
    before[i] = (uint32_t)i - 1;
    after[i] = (uint32_t)i + 1;
    if (ranks[i] != NO_RANK) heap[items++] = (uint64_t)ranks[i] << 32 | i;
  }
  for (size_t i = items / 2; i-- > 0;) sift_down(heap, items, i);

  while (items > 0) {
    uint32_t rank = (uint32_t)(heap[0] >> 32), at = (uint32_t)heap[0];
    heap[0] = heap[--items];
    if (items) sift_down(heap, items, 0);
    if (ranks[at] != rank) continue;

    uint32_t gone = after[at], next = after[gone];
    symbols[at] = b->merges[rank].result;
    e->ends[at] = e->ends[gone];
    ranks[gone] = NO_RANK;
    symbols[gone] = NONE;
    after[at] = next;
    if (next < n) before[next] = at;

    ranks[at] = next < n ? rank_of(b, symbols[at], symbols[next]) : NO_RANK;
    if (ranks[at] != NO_RANK) {
      heap[items] = (uint64_t)ranks[at] << 32 | at;
      sift_up(heap, items++);
    }
    if (at > 0) {
      uint32_t left = before[at];
      ranks[left] = rank_of(b, symbols[left], symbols[at]);
      if (ranks[left] != NO_RANK) {
        heap[items] = (uint64_t)ranks[left] << 32 | left;
        sift_up(heap, items++);
      }
    }
  }
  size_t kept = 0;
  for (size_t i = 0; i < n; i = after[i]) {
    symbols[kept] = symbols[i];
    e->ends[kept++] = e->ends[i];
  }
  return kept;
}

static cft_status grow_word(encoder *e, size_t bytes) {
  if (bytes <= e->word_capacity) return CFT_OK;
  if (bytes >= UINT32_MAX / 4)
    return cft_fail(CFT_E_UNSUPPORTED, "encode: a word of %zu bytes", bytes);
  size_t n = bytes + bytes / 2 + 64;
  free(e->heap);
  e->word_capacity = 0;
  e->heap = malloc(n * (3 * sizeof(uint64_t) + 5 * sizeof(uint32_t)));  // and all others behind it
  if (!e->heap) return cft_fail(CFT_E_OOM, "encode: out of memory for a word of %zu bytes", bytes);
  e->ranks = (uint32_t *)(e->heap + 3 * n);
  e->ends = e->ranks + n;
  e->before = e->ends + n;
  e->after = e->before + n;
  e->symbols = (int32_t *)(e->after + n);
  e->word_capacity = n;
  return CFT_OK;
}

enum { SCAN_MAX = 48 };  // symbols up to which scanning beats the heap

static size_t merge_symbols(encoder *e, size_t n) {
  return n <= SCAN_MAX ? merge_scanning(&e->tk->bpe, e->symbols, e->ranks, e->ends, n)
                       : merge_with_heap(e, &e->tk->bpe, n);
}

// Encode a word into e->symbols and e->ends; how many. *regular receives whether each symbol stands
// for as many bytes as its token has, so that spans follow from the ids.
static size_t encode_bytes(encoder *e, const uint8_t *word, size_t bytes, bool *regular) {
  const bpe *b = &e->tk->bpe;
  *regular = true;
  size_t n = 0;
  for (size_t i = 0; i < bytes; i++) {
    int32_t id = b->byte_id[word[i]];
    if (id == NONE) {
      *regular = false;
      if (b->unk == NONE) continue;
      id = b->unk;
      if (b->fuse_unk && n > 0 && i > 0 && b->byte_id[word[i - 1]] == NONE) {
        e->ends[n - 1] = (uint32_t)i + 1;
        continue;
      }
    }
    e->symbols[n] = id;
    e->ends[n++] = (uint32_t)i + 1;
  }
  if (n == 0) return 0;
  for (size_t i = 0; i + 1 < n; i++)
    e->ranks[i] = *regular ? b->byte_rank[word[i] << 8 | word[i + 1]]
                           : rank_of(b, e->symbols[i], e->symbols[i + 1]);
  e->ranks[n - 1] = NO_RANK;
  return merge_symbols(e, n);
}

// The tokens of a character's bytes, if all have one: their number.
static int fallback_ids(const bpe *b, const uint8_t *character, int bytes, int32_t out[4]) {
  for (int k = 0; k < bytes; k++) {
    out[k] = b->fallback[character[k]];
    if (out[k] == NONE) return 0;
  }
  return bytes;
}

// The same of a word of characters. As in Hugging Face tokenizers, an unk waits for the next that
// it may be fused with, until a character has a token; tokens of bytes overtake it.
static size_t encode_characters(encoder *e, const uint8_t *word, size_t bytes, bool *regular) {
  const bpe *b = &e->tk->bpe;
  size_t n = 0, waiting_end = 0;
  bool waiting = false;
  *regular = true;
  for (size_t i = 0; i < bytes;) {
    int length = cft_utf8_length(word[i]);
    int32_t ids[4] = {length == 1 ? b->byte_id[word[i]]
                                  : model_token(&e->tk->vocab, word + i, (size_t)length)};
    bool known = ids[0] != NONE;
    int count = known ? 1 : fallback_ids(b, word + i, length, ids);
    if (!known && !b->plain_fallback) *regular = false;
    bool unknown = count == 0 && b->unk != NONE;
    if (waiting && (known || (unknown && !b->fuse_unk))) {
      e->symbols[n] = b->unk;
      e->ends[n++] = (uint32_t)waiting_end;
      waiting = false;
    }
    for (int k = 0; k < count; k++) {
      e->symbols[n] = ids[k];
      e->ends[n++] = (uint32_t)(known ? i + (size_t)length : i + (size_t)k + 1);
    }
    i += (size_t)length;
    if (unknown) {
      waiting = true;
      waiting_end = i;
    }
  }
  if (waiting) {
    e->symbols[n] = b->unk;
    e->ends[n++] = (uint32_t)bytes;
  }
  if (n == 0) return 0;
  for (size_t i = 1; i < n; i++)  // behind an unk that was overtaken
    if (e->ends[i] < e->ends[i - 1]) e->ends[i] = e->ends[i - 1];
  for (size_t i = 0; i + 1 < n; i++) e->ranks[i] = rank_of(b, e->symbols[i], e->symbols[i + 1]);
  e->ranks[n - 1] = NO_RANK;
  return merge_symbols(e, n);
}

// The token that the whole word is; NONE.
static int32_t whole_token(encoder *e, const uint8_t *word, size_t bytes) {
  if (!e->tk->bpe.byte_level) return model_token(&e->tk->vocab, word, bytes);
  uint8_t *spelling = (uint8_t *)e->heap;  // room for 24 bytes a byte
  size_t n = 0;
  for (size_t i = 0; i < bytes; i++) n += (size_t)byte_spelling(spelling + n, word[i]);
  return model_token(&e->tk->vocab, spelling, n);
}

// ---- words seen before -----------------------------------------------------------------------

static void append_ids(encoder *e, const int32_t *ids, size_t n, size_t start) {
  cft_encoding *out = e->out;
  for (size_t i = 0; i < n; i++) out->ids[out->n + (int64_t)i] = ids[i];
  if (e->spans) {
    int64_t at = (int64_t)start;
    for (size_t i = 0; i < n; i++) {
      int64_t end = at + e->tk->vocab.tokens[ids[i]].length;
      out->spans[out->n + (int64_t)i] = (cft_span){at, end};
      at = end;
    }
  }
  out->n += (int64_t)n;
}

static void remember_long(encoder *e, const uint8_t *word, size_t bytes, uint64_t hash,
                          const int32_t *ids, size_t n) {
  size_t need = n * sizeof *ids + (bytes + 3) / 4 * 4;
  if (e->arena_bytes + need > WORD_ARENA) {  // full: start again, empty
    e->arena_bytes = 0;
    memset(e->long_words, 0, LONG_WORDS * sizeof *e->long_words);
  }
  memcpy(e->arena + e->arena_bytes, ids, n * sizeof *ids);
  memcpy(e->arena + e->arena_bytes + n * sizeof *ids, word, bytes);
  e->long_words[hash % LONG_WORDS] = (long_word){
      .hash = hash, .at = (uint32_t)e->arena_bytes, .bytes = (uint16_t)bytes, .n = (uint16_t)n};
  e->arena_bytes += need;
}

// A word that is not among the short ones; `place`, where it has one, is where it may be put.
static cft_status encode_rare(encoder *e, const uint8_t *text, size_t start, size_t end,
                              short_word *place, const uint64_t key[2]) {
  const uint8_t *word = text + start;
  size_t bytes = end - start;
  uint64_t hash = 0;
  if (bytes <= LONG_BYTES) {
    hash = hash_bytes(word, bytes);
    const long_word *w = &e->long_words[hash % LONG_WORDS];
    const uint8_t *at = e->arena + w->at;
    if (w->hash == hash && w->bytes == bytes && !memcmp(at + w->n * sizeof(int32_t), word, bytes)) {
      append_ids(e, (const int32_t *)at, w->n, start);
      return CFT_OK;
    }
  }
  CFT_TRY(grow_word(e, bytes));
  bool regular = true;
  size_t n = 1;
  int32_t whole = e->tk->bpe.ignore_merges ? whole_token(e, word, bytes) : NONE;
  if (whole != NONE) {
    e->symbols[0] = whole;
    e->ends[0] = (uint32_t)bytes;
  } else {
    n = e->tk->bpe.byte_level ? encode_bytes(e, word, bytes, &regular)
                              : encode_characters(e, word, bytes, &regular);
  }

  if (!regular) {  // spans do not follow from the ids: not remembered
    int64_t at = (int64_t)start;
    for (size_t i = 0; i < n; i++) {
      int64_t stop = (int64_t)(start + e->ends[i]);
      if (e->spans) e->out->spans[e->out->n] = (cft_span){at, stop};
      e->out->ids[e->out->n++] = e->symbols[i];
      at = stop;
    }
    return CFT_OK;
  }
  append_ids(e, e->symbols, n, start);
  if (place && n <= 3) {
    *place = (short_word){.key = {key[0], key[1]}, .n = (uint32_t)n + 1};
    memcpy(place->ids, e->symbols, n * sizeof *place->ids);
  } else if (bytes <= LONG_BYTES) {
    remember_long(e, word, bytes, hash, e->symbols, n);
  }
  return CFT_OK;
}

cft_status encode_word(encoder *e, const uint8_t *text, size_t start, size_t end) {
  size_t bytes = end - start;
  if (bytes == 0) return CFT_OK;
  cft_encoding *out = e->out;
  // A word has at most one token a byte; three are copied from the table whatever there are.
  if (out->n + (int64_t)bytes + 3 > out->capacity ||
      (e->spans && out->n + (int64_t)bytes + 3 > out->span_capacity))
    CFT_TRY(encoding_reserve(out, bytes + 3, e->spans));
  if (bytes > SHORT_BYTES) return encode_rare(e, text, start, end, NULL, NULL);

  const uint8_t *word = text + start;
  uint64_t key[2] = {0, 0};
  if (e->readable_end - word >= 16) {
    memcpy(key, word, 16);
    if (bytes < 8) {
      key[0] &= (1ull << 8 * bytes) - 1;
      key[1] = 0;
    } else {
      key[1] &= (1ull << 8 * (bytes - 8)) - 1;
    }
  } else {
    memcpy(key, word, bytes);
  }
  key[1] |= (uint64_t)bytes << 56;
  unsigned __int128 product =
      (unsigned __int128)(key[0] ^ 0x9E3779B97F4A7C15u) * (key[1] ^ 0xD6E8FEB86659FD93u);
  uint64_t hash = (uint64_t)product ^ (uint64_t)(product >> 64);
  short_word *w = &e->short_words[hash % SHORT_WORDS];
  if (w->key[0] != key[0] || w->key[1] != key[1] || w->n == 0)
    return encode_rare(e, text, start, end, w, key);
  if (e->spans) {
    append_ids(e, w->ids, w->n - 1, start);
  } else {
    memcpy(out->ids + out->n, w->ids, sizeof w->ids);
    out->n += w->n - 1;
  }
  return CFT_OK;
}

cft_status encode_words(encoder *e, const uint8_t *text, size_t start, size_t end) {
  const bpe *b = &e->tk->bpe;
  if (!b->plain_fallback) return encode_word(e, text, start, end);
  size_t done = start;  // where the text begins that is in no word yet
  bool in_marks = true;
  for (size_t i = start; i < end;) {
    uint8_t c = text[i];
    if (c < 128) {
      if (b->alone[c]) {
        CFT_TRY(encode_word(e, text, done, i));
        CFT_TRY(encode_word(e, text, i, i + 1));
        done = i + 1;
      }
      in_marks = false;
      i++;
    } else if (c == 0xE2 && !memcmp(text + i, SPACE_MARK, SPACE_MARK_BYTES)) {
      if (!in_marks && b->cuts_at_mark) {
        CFT_TRY(encode_word(e, text, done, i));
        done = i;
      }
      in_marks = true;
      i += SPACE_MARK_BYTES;
    } else {
      in_marks = false;
      i += (size_t)cft_utf8_length(c);
    }
  }
  return encode_word(e, text, done, end);
}
