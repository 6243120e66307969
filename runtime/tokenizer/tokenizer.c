// tokenizer.c - the pipeline from text to ids, and the threads that share a tokenizer.
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "tokenizer/tokenizer_impl.h"

static cft_status no_memory(void) { return cft_fail(CFT_E_OOM, "tokenizer: out of memory"); }

// ---- lifetime ------------------------------------------------------------------------------

cft_tokenizer *tokenizer_new(void) {
  cft_tokenizer *tk = calloc(1, sizeof *tk);
  if (!tk) return NULL;
  atomic_init(&tk->references, 1);
  tk->bpe.unk = NONE;
  pthread_mutex_init(&tk->lock, NULL);
  return tk;
}

cft_tokenizer *cft_tokenizer_retain(cft_tokenizer *tk) {
  atomic_fetch_add(&tk->references, 1);
  return tk;
}

static void encoder_free(encoder *e) {
  if (!e) return;
  regex_scratch_free(e->scratch);
  for (int i = 0; i < MAX_STEPS; i++) edited_free(&e->normal[i]);
  for (int i = 0; i < MAX_REWRITES; i++) edited_free(&e->rewritten[i]);
  free(e->short_words);
  free(e->long_words);
  free(e->arena);
  free(e->heap);
  free(e);
}

void cft_tokenizer_release(cft_tokenizer *tk) {
  if (!tk || atomic_fetch_sub(&tk->references, 1) > 1) return;
  while (tk->encoders) {
    encoder *next = tk->encoders->next;
    encoder_free(tk->encoders);
    tk->encoders = next;
  }
  for (int i = 0; i < tk->stages_count; i++) regex_free(tk->stages[i].pattern);
  for (int i = 0; i < tk->steps_count; i++) normal_step_free(&tk->steps[i]);
  for (int i = 0; i < tk->decoding.replace_count; i++) normal_step_free(&tk->decoding.replace[i]);
  matcher_free(&tk->raw);
  matcher_free(&tk->normalized);
  matcher_free(&tk->special);
  bpe_free(&tk->bpe);
  vocab_free(&tk->vocab);
  free(tk->added);
  free(tk->prefix);
  free(tk->suffix);
  free(tk->normalizer);
  free(tk->pre_tokenizer);
  free(tk->post_processor);
  free(tk->decoder);
  pthread_mutex_destroy(&tk->lock);
  free(tk);
}

// ---- tokens --------------------------------------------------------------------------------

int64_t cft_tokenizer_size(const cft_tokenizer *tk) { return tk->vocab.n; }

int32_t cft_tokenizer_id(const cft_tokenizer *tk, const char *token, size_t bytes) {
  return vocab_find(&tk->vocab, token, bytes);
}

const char *cft_tokenizer_token(const cft_tokenizer *tk, int32_t id, size_t *bytes) {
  const vocab_entry *t = vocab_token(&tk->vocab, id);
  if (!t) return NULL;
  *bytes = t->bytes;
  return tk->vocab.text + t->at;
}

bool cft_tokenizer_is_special(const cft_tokenizer *tk, int32_t id) {
  const vocab_entry *t = vocab_token(&tk->vocab, id);
  return t && t->flags & TOKEN_SPECIAL;
}

int64_t cft_tokenizer_prefix(const cft_tokenizer *tk) { return tk->prefix_count; }

static added_token *added_of(const cft_tokenizer *tk, int32_t id) {
  for (int i = 0; i < tk->added_count; i++)
    if (tk->added[i].id == id) return &tk->added[i];
  return NULL;
}

int cft_tokenizer_added(const cft_tokenizer *tk, int32_t id) {
  const vocab_entry *t = vocab_token(&tk->vocab, id);
  const added_token *a = t && t->flags & TOKEN_ADDED ? added_of(tk, id) : NULL;
  if (!a) return -1;
  return (a->special ? CFT_ADDED_SPECIAL : 0) | (a->single_word ? CFT_ADDED_SINGLE_WORD : 0) |
         (a->lstrip ? CFT_ADDED_LSTRIP : 0) | (a->rstrip ? CFT_ADDED_RSTRIP : 0) |
         (a->normalized ? CFT_ADDED_NORMALIZED : 0);
}

cft_status cft_tokenizer_add_token(cft_tokenizer *tk, const char *text, size_t bytes,
                                   unsigned flags, int32_t *id) {
  if (bytes == 0) return cft_fail(CFT_E_ARG, "add_token: the token is empty");
  size_t bad = cft_utf8_check(text, bytes);
  if (bad < bytes) return cft_fail(CFT_E_ARG, "add_token: invalid UTF-8 at byte %zu", bad);
  int32_t known = vocab_find(&tk->vocab, text, bytes);
  if (known == NONE) {
    if (tk->vocab.n == VOCAB_MAX) return cft_fail(CFT_E_ARG, "add_token: %d tokens", VOCAB_MAX);
    known = (int32_t)tk->vocab.n;
    if (!vocab_put(&tk->vocab, known, text, bytes, 0)) return no_memory();
  }
  vocab_entry *t = &tk->vocab.tokens[known];
  added_token made = {.id = known,
                      .special = flags & CFT_ADDED_SPECIAL,
                      .single_word = flags & CFT_ADDED_SINGLE_WORD,
                      .lstrip = flags & CFT_ADDED_LSTRIP,
                      .rstrip = flags & CFT_ADDED_RSTRIP,
                      .normalized = flags & CFT_ADDED_NORMALIZED};
  if (t->flags & TOKEN_ADDED)
    *added_of(tk, known) = made;
  else if (!added_insert(tk, made))
    return no_memory();
  t->flags |= TOKEN_ADDED;
  t->flags = made.special ? t->flags | TOKEN_SPECIAL : t->flags & ~(uint32_t)TOKEN_SPECIAL;
  CFT_TRY(matchers_build(tk));
  *id = known;
  return CFT_OK;
}

// ---- encoders: what a call needs, kept for the next ------------------------------------------

static cft_status encoder_take(encoder **out, const cft_tokenizer *tk) {
  cft_tokenizer *shared =
      (cft_tokenizer *)tk;  // the list of encoders is not the tokenizer's meaning
  pthread_mutex_lock(&shared->lock);
  encoder *e = shared->encoders;
  if (e) shared->encoders = e->next;
  pthread_mutex_unlock(&shared->lock);
  if (!e) {
    e = calloc(1, sizeof *e);
    if (!e) return no_memory();
    e->short_words = calloc(SHORT_WORDS, sizeof *e->short_words);
    e->long_words = calloc(LONG_WORDS, sizeof *e->long_words);
    e->arena = malloc(WORD_ARENA);
    cft_status st = regex_scratch_new(&e->scratch);
    if (st != CFT_OK || !e->short_words || !e->long_words || !e->arena) {
      encoder_free(e);
      return no_memory();
    }
  }
  e->tk = tk;
  *out = e;
  return CFT_OK;
}

static void encoder_return(encoder *e) {
  cft_tokenizer *shared = (cft_tokenizer *)e->tk;
  pthread_mutex_lock(&shared->lock);
  e->next = shared->encoders;
  shared->encoders = e;
  pthread_mutex_unlock(&shared->lock);
}

// ---- encoding ------------------------------------------------------------------------------

cft_status encoding_reserve(cft_encoding *out, size_t more, bool spans) {
  int64_t need = out->n + (int64_t)more;
  if (need > out->capacity) {
    int64_t capacity = need + need / 2 + 64;
    int32_t *ids = realloc(out->ids, (size_t)capacity * sizeof *ids);
    if (!ids) return no_memory();
    out->ids = ids;
    out->capacity = capacity;
  }
  if (spans && need > out->span_capacity) {
    int64_t capacity = need + need / 2 + 64;
    cft_span *grown = realloc(out->spans, (size_t)capacity * sizeof *grown);
    if (!grown) return no_memory();
    out->spans = grown;
    out->span_capacity = capacity;
  }
  return CFT_OK;
}

void cft_encoding_free(cft_encoding *e) {
  if (!e) return;
  free(e->ids);
  free(e->spans);
  *e = (cft_encoding){0};
}

static cft_status put_id(encoder *e, int32_t id, size_t start, size_t end) {
  CFT_TRY(encoding_reserve(e->out, 1, e->spans));
  e->out->ids[e->out->n] = id;
  if (e->spans) e->out->spans[e->out->n] = (cft_span){(int64_t)start, (int64_t)end};
  e->out->n++;
  return CFT_OK;
}

// A piece between added tokens of the raw text: normalise it, find the added tokens that are
// matched then, and encode what is between those.
static cft_status encode_piece(encoder *e, const uint8_t *text, size_t start, size_t end,
                               unsigned flags) {
  const cft_tokenizer *tk = e->tk;
  const uint8_t *piece = text + start, *readable_end = e->readable_end;
  size_t n = end - start;
  bool parse_special = flags & CFT_ENCODE_PARSE_SPECIAL;
  int64_t first = e->out->n;
  e->first = start == 0 && !(flags & (CFT_ENCODE_INSIDE | CFT_ENCODE_CONTINUES));
  e->continues = start == 0 && flags & CFT_ENCODE_CONTINUES;
  CFT_TRY(normalize(tk, e->normal, e->continues, &piece, &n));
  if (piece != text + start) e->readable_end = piece + n;
  cft_status st = CFT_OK;
  size_t done = 0;
  added_cursor cursor = {0};
  added_match found;
  while (st == CFT_OK && added_next(e, &tk->normalized, parse_special, piece, n, &cursor, &found)) {
    if (found.start > done) st = pretokenize(e, 0, piece, done, found.start);
    if (st == CFT_OK) st = put_id(e, tk->added[found.added].id, found.start, found.end);
    done = found.end;
  }
  if (st == CFT_OK) st = pretokenize(e, 0, piece, done, n);
  e->readable_end = readable_end;
  if (!e->spans) return st;
  for (int i = tk->steps_count; i-- > 0;)
    edited_unmap(&e->normal[i], e->out->spans + first, e->out->n - first);
  for (int64_t i = first; i < e->out->n; i++) {
    e->out->spans[i].start += (int64_t)start;
    e->out->spans[i].end += (int64_t)start;
  }
  return st;
}

static cft_status encode_text(encoder *e, const uint8_t *text, size_t n, unsigned flags) {
  const cft_tokenizer *tk = e->tk;
  size_t done = 0, end = n;
  added_strip(text, &done, &end, flags);
  bool parse_special = flags & CFT_ENCODE_PARSE_SPECIAL;
  if (flags & CFT_ENCODE_ADD_SPECIAL)
    for (int i = 0; i < tk->prefix_count; i++) CFT_TRY(put_id(e, tk->prefix[i], 0, 0));
  added_cursor cursor = {.at = done, .done = done};
  added_match found;
  while (added_next(e, &tk->raw, parse_special, text, end, &cursor, &found)) {
    if (found.start > done) CFT_TRY(encode_piece(e, text, done, found.start, flags));
    CFT_TRY(put_id(e, tk->added[found.added].id, found.start, found.end));
    done = found.end;
  }
  if (end > done) CFT_TRY(encode_piece(e, text, done, end, flags));
  if (flags & CFT_ENCODE_ADD_SPECIAL)
    for (int i = 0; i < tk->suffix_count; i++) CFT_TRY(put_id(e, tk->suffix[i], n, n));
  return CFT_OK;
}

static cft_status encode_with(encoder *e, cft_encoding *out, const char *text, size_t bytes,
                              unsigned flags) {
  out->n = 0;
  size_t bad = cft_utf8_check(text, bytes);
  if (bad < bytes)
    return cft_fail(CFT_E_FORMAT, "encode: invalid UTF-8 at byte %zu (0x%02x)", bad,
                    (uint8_t)text[bad]);
  e->out = out;
  e->spans = flags & CFT_ENCODE_SPANS;
  e->readable_end = (const uint8_t *)text + bytes;
  cft_status st = encode_text(e, (const uint8_t *)text, bytes, flags);
  if (st != CFT_OK) out->n = 0;
  return st;
}

cft_status cft_tokenizer_encode_part(cft_encoding *out, const cft_tokenizer *tk, const char *text,
                                     size_t bytes, unsigned flags, const int32_t *as_text,
                                     int64_t as_text_n) {
  encoder *e;
  out->n = 0;
  CFT_TRY(encoder_take(&e, tk));
  e->as_text = as_text;
  e->as_text_n = as_text_n;
  cft_status st = encode_with(e, out, text, bytes, flags);
  e->as_text_n = 0;
  encoder_return(e);
  return st;
}

cft_status cft_tokenizer_encode(cft_encoding *out, const cft_tokenizer *tk, const char *text,
                                size_t bytes, unsigned flags) {
  return cft_tokenizer_encode_part(out, tk, text, bytes, flags, NULL, 0);
}

// ---- batches -------------------------------------------------------------------------------

typedef struct batch {
  cft_encoding *out;
  const cft_tokenizer *tk;
  const cft_text *texts;
  int64_t n;
  unsigned flags;
  atomic_llong next;  // the first text that no thread has taken
  pthread_mutex_t lock;
  int64_t failed;  // the first text that failed, n for none; its status and message
  cft_status st;
  char message[512];
} batch;

static void batch_fail(batch *b, int64_t which, cft_status st) {
  pthread_mutex_lock(&b->lock);
  if (which < b->failed) {
    b->failed = which;
    b->st = st;
    snprintf(b->message, sizeof b->message, "%s", cft_last_error());
  }
  pthread_mutex_unlock(&b->lock);
}

static void *batch_work(void *argument) {
  batch *b = argument;
  encoder *e;
  cft_status st = encoder_take(&e, b->tk);
  if (st != CFT_OK) {
    batch_fail(b, 0, st);
    return NULL;
  }
  for (;;) {
    int64_t i = atomic_fetch_add(&b->next, 1);
    if (i >= b->n) break;
    st = encode_with(e, &b->out[i], b->texts[i].data, b->texts[i].bytes, b->flags);
    if (st == CFT_OK) continue;
    batch_fail(b, i, st);
    atomic_store(&b->next, b->n);  // texts before i are taken already: one of them may fail, too
  }
  encoder_return(e);
  return NULL;
}

cft_status cft_tokenizer_encode_batch(cft_encoding *out, const cft_tokenizer *tk,
                                      const cft_text *texts, int64_t n, unsigned flags,
                                      int threads) {
  enum { MAX_THREADS = 256 };
  if (threads < 0 || threads > MAX_THREADS)
    return cft_fail(CFT_E_ARG, "encode_batch: %d threads, not 0 to %d", threads, MAX_THREADS);
  if (threads == 0) {
    cpu_set_t allowed;
    threads = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
  }
  if (threads > n) threads = n > 0 ? (int)n : 1;

  batch b = {.out = out, .tk = tk, .texts = texts, .n = n, .flags = flags, .failed = n};
  atomic_init(&b.next, 0);
  pthread_mutex_init(&b.lock, NULL);
  pthread_t helpers[MAX_THREADS];
  int started = 0;
  while (started < threads - 1 && !pthread_create(&helpers[started], NULL, batch_work, &b))
    started++;
  batch_work(&b);  // this thread works, too: whatever could not be started is not needed
  for (int i = 0; i < started; i++) pthread_join(helpers[i], NULL);
  pthread_mutex_destroy(&b.lock);
  return b.st == CFT_OK ? CFT_OK : cft_fail(b.st, "text %lld: %s", (long long)b.failed, b.message);
}

// ---- special tokens in data ----------------------------------------------------------------

cft_status cft_tokenizer_find_special(const cft_tokenizer *tk, const char *text, size_t bytes,
                                      cft_token_match *out, int64_t capacity, int64_t *count) {
  if (capacity < 0) return cft_fail(CFT_E_ARG, "find_special: capacity %lld", (long long)capacity);
  added_match found;
  *count = 0;
  for (size_t at = 0; matcher_find(&tk->special, (const uint8_t *)text, bytes, at, &found);
       at = found.end) {
    if (*count < capacity)
      out[*count] =
          (cft_token_match){(int64_t)found.start, (int64_t)found.end, tk->added[found.added].id};
    ++*count;
  }
  return CFT_OK;
}
