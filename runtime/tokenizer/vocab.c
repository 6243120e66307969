// vocab.c - token strings and ids, and the alphabet in which byte-level tokens are spelled.
#include <stdlib.h>

#include "tokenizer/tokenizer_impl.h"

// ---- the alphabet of bytes -----------------------------------------------------------------
//
// GPT-2 spells a byte as a printable character: itself where it is one, else the next free one from
// U+0100 on. Source: bytes_to_unicode() in openai/gpt-2, encoder.py.

static bool is_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

enum { MOVED = 68 };  // bytes that are not themselves: 0-32, 127-160, 173

int byte_of_point(uint32_t cp) {
  if (cp < 256) return is_itself(cp) ? (int)cp : NONE;
  uint32_t k = cp - 256;
  if (k >= MOVED) return NONE;
  return (int)(k < 33 ? k : k < 67 ? k - 33 + 127 : 173);
}

int byte_spelling(uint8_t out[4], uint8_t byte) {
  uint32_t cp = byte;
  if (!is_itself(byte)) cp = 256u + (byte < 33 ? byte : byte < 173 ? byte - 127u + 33u : 67u);
  return cft_utf8_encode(out, cp);
}

size_t byte_level_decode(uint8_t *out, const char *text, size_t bytes) {
  size_t n = 0;
  for (size_t i = 0; i < bytes;) {
    int length;
    out[n++] = (uint8_t)byte_of_point(cft_utf8_decode((const uint8_t *)text + i, &length));
    i += (size_t)length;
  }
  return n;
}

int fallback_byte(const char *text, size_t bytes) {
  if (bytes != 6 || memcmp(text, "<0x", 3) || text[5] != '>') return NONE;
  int byte = 0;
  for (int i = 3; i < 5; i++) {
    char c = text[i];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : NONE;
    if (digit == NONE) return NONE;
    byte = 16 * byte + digit;
  }
  return byte;
}

// ---- strings and ids -----------------------------------------------------------------------

uint64_t hash_bytes(const void *data, size_t bytes) {
  const uint8_t *s = data;
  uint64_t h = 0x9E3779B97F4A7C15u ^ bytes;
  while (bytes > 0) {
    uint64_t word = 0;
    size_t take = bytes < 8 ? bytes : 8;
    memcpy(&word, s, take);
    unsigned __int128 product = (unsigned __int128)(h ^ word) * 0xD6E8FEB86659FD93u;
    h = (uint64_t)product ^ (uint64_t)(product >> 64);
    s += take;
    bytes -= take;
  }
  return h ^ h >> 29;
}

void vocab_free(vocab *v) {
  free(v->text);
  free(v->tokens);
  free(v->slots);
  *v = (vocab){0};
}

static bool same(const vocab *v, int32_t id, const char *text, size_t bytes) {
  const vocab_entry *t = &v->tokens[id];
  return t->bytes == bytes && (bytes == 0 || !memcmp(v->text + t->at, text, bytes));
}

int32_t vocab_find(const vocab *v, const char *text, size_t bytes) {
  if (v->slots_count == 0) return NONE;
  for (size_t slot = hash_bytes(text, bytes);; slot++) {
    int32_t id = v->slots[slot & (v->slots_count - 1)];
    if (id == NONE || same(v, id, text, bytes)) return id;
  }
}

static void insert(int32_t *slots, size_t count, uint64_t hash, int32_t id) {
  size_t slot = hash;
  while (slots[slot & (count - 1)] != NONE) slot++;
  slots[slot & (count - 1)] = id;
}

static bool grow_slots(vocab *v) {
  size_t count = v->slots_count ? 2 * v->slots_count : 1024;
  int32_t *slots = malloc(count * sizeof *slots);
  if (!slots) return false;
  memset(slots, 0xFF, count * sizeof *slots);  // NONE
  for (int64_t id = 0; id < v->n; id++) {
    const vocab_entry *t = &v->tokens[id];
    if (t->flags & TOKEN_USED)
      insert(slots, count, hash_bytes(v->text + t->at, t->bytes), (int32_t)id);
  }
  free(v->slots);
  v->slots = slots;
  v->slots_count = count;
  return true;
}

bool vocab_put(vocab *v, int32_t id, const char *text, size_t bytes, uint32_t flags) {
  if (2 * (v->used + 1) > v->slots_count && !grow_slots(v)) return false;
  if (v->text_capacity - v->text_bytes < bytes) {
    size_t capacity = 2 * (v->text_bytes + bytes) + 4096;
    char *grown = capacity <= UINT32_MAX ? realloc(v->text, capacity) : NULL;
    if (!grown) return false;
    v->text = grown;
    v->text_capacity = capacity;
  }
  if (id >= v->capacity) {
    int64_t capacity = 2 * (int64_t)id + 1024;
    vocab_entry *grown = realloc(v->tokens, (size_t)capacity * sizeof *grown);
    if (!grown) return false;
    memset(grown + v->capacity, 0, (size_t)(capacity - v->capacity) * sizeof *grown);
    v->tokens = grown;
    v->capacity = capacity;
  }
  if (id >= v->n) v->n = id + 1;

  vocab_entry *t = &v->tokens[id];
  *t = (vocab_entry){
      .at = (uint32_t)v->text_bytes, .bytes = (uint32_t)bytes, .flags = flags | TOKEN_USED};
  if (bytes) memcpy(v->text + v->text_bytes, text, bytes);
  v->text_bytes += bytes;
  bool byte_level = true;
  for (size_t i = 0; i < bytes && byte_level;) {
    int length;
    byte_level = byte_of_point(cft_utf8_decode((const uint8_t *)text + i, &length)) != NONE;
    i += (size_t)length;
    t->length++;
  }
  if (byte_level)
    t->flags |= TOKEN_BYTE_LEVEL;
  else
    t->length = (uint32_t)bytes;
  insert(v->slots, v->slots_count, hash_bytes(text, bytes), id);
  v->used++;
  return true;
}
