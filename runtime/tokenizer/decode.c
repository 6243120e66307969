// decode.c - ids to the text they stand for.
#include "tokenizer/tokenizer_impl.h"
#include "util/utf8.h"

// What is written, and counted whatever there is room for.
typedef struct sink {
  char *out;
  size_t capacity, n;
  char strip;    // goes from the beginning of the text,
  int64_t left;  // so many times still,
  size_t run;    // and how often it stands at the end
} sink;

static void put(sink *s, const void *data, size_t bytes) {
  const char *text = data;
  for (; bytes > 0 && s->n == 0 && s->left > 0; text++, bytes--, s->left--)
    if (*text != s->strip) {
      s->left = 0;
      break;
    }
  size_t room = s->capacity > s->n ? s->capacity - s->n : 0;
  if (room && bytes) memcpy(s->out + s->n, text, bytes < room ? bytes : room);
  s->n += bytes;
  size_t end = bytes;
  while (end > 0 && text[end - 1] == s->strip) end--;
  s->run = end == 0 ? s->run + bytes : bytes - end;
}

// A token spelled as bytes.
static void put_byte_level(sink *s, const char *text, size_t bytes) {
  for (size_t k = 0; k < bytes;) {
    int length;
    char byte = (char)byte_of_point(cft_utf8_decode((const uint8_t *)text + k, &length));
    put(s, &byte, 1);
    k += (size_t)length;
  }
}

// A token spelled as text. `texts`: memory for the steps.
static bool put_spelled(sink *s, const decoding *d, edited_text *texts, const uint8_t *text,
                        size_t bytes, bool first) {
  for (int i = 0; i < d->replace_count; i++) {
    edited_begin(&texts[i]);
    if (!edited_replace(&texts[i], &d->replace[i], text, bytes)) return false;
    text = texts[i].data;
    bytes = texts[i].n;
  }
  int byte = d->byte_fallback ? fallback_byte((const char *)text, bytes) : NONE;
  if (byte != NONE) {
    put(s, &(char){(char)byte}, 1);
    return true;
  }
  size_t mark = (size_t)d->mark_bytes;
  for (size_t i = 0; d->metaspace && i < bytes;) {
    if (bytes - i >= mark && !memcmp(text + i, d->mark, mark)) {
      if (!first || !d->strip_mark) put(s, " ", 1);
      i += mark;
    } else {
      size_t length = (size_t)cft_utf8_length(text[i]);
      put(s, text + i, length);
      i += length;
    }
  }
  if (!d->metaspace) put(s, text, bytes);
  return true;
}

cft_status cft_tokenizer_decode(char *out, size_t capacity, size_t *bytes, const cft_tokenizer *tk,
                                const int32_t *ids, int64_t n, unsigned flags) {
  const decoding *d = &tk->decoding;
  edited_text texts[MAX_STEPS] = {0};
  bool first = !(flags & CFT_DECODE_INSIDE), ok = true;
  sink s = {.out = out, .capacity = capacity, .strip = d->strip, .left = first ? d->strip_left : 0};
  int64_t i = 0;
  for (; i < n && ok; i++) {
    const vocab_entry *t = vocab_token(&tk->vocab, ids[i]);
    if (!t) break;
    if (t->flags & TOKEN_SPECIAL && flags & CFT_DECODE_SKIP_SPECIAL) continue;
    const char *text = tk->vocab.text + t->at;
    if (!tk->bpe.byte_level)
      ok = put_spelled(&s, d, texts, (const uint8_t *)text, t->bytes, first);
    else if (t->flags & TOKEN_ADDED || !(t->flags & TOKEN_BYTE_LEVEL))
      put(&s, text, t->bytes);
    else
      put_byte_level(&s, text, t->bytes);
    first = false;
  }
  for (int k = 0; k < d->replace_count; k++) edited_free(&texts[k]);
  if (!ok) return cft_fail(CFT_E_OOM, "decode: out of memory");
  if (i < n)
    return cft_fail(CFT_E_ARG, "decode: id %d at position %lld is not in the vocabulary", ids[i],
                    (long long)i);
  size_t gone = d->strip_right > 0 && s.run > 0 ? s.run : 0;
  if (gone > (size_t)d->strip_right) gone = (size_t)d->strip_right;
  *bytes = s.n - gone;
  return CFT_OK;
}
