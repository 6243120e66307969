// save.c - a tokenizer as a tokenizer.json that Hugging Face tokenizers reads: the components as
// they were read, the vocabulary in the order of ids.
#include <stdarg.h>
#include <stdio.h>

#include "tokenizer/tokenizer_impl.h"

// What goes to the file; the first failure stays and makes the rest do nothing.
typedef struct sink {
  cft_writer *writer;
  cft_status st;
} sink;

static void put_bytes(sink *s, const char *data, size_t bytes) {
  if (s->st == CFT_OK) s->st = cft_writer_put(s->writer, data, bytes);
}

static void put_text(sink *s, const char *text) { put_bytes(s, text, strlen(text)); }

CFT_PRINTF(2, 3) static void put(sink *s, const char *format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  put_text(s, text);
}

// The inside of a JSON string.
static void put_escaped(sink *s, const char *text, size_t bytes) {
  size_t done = 0;
  for (size_t i = 0; i < bytes; i++) {
    uint8_t c = (uint8_t)text[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    put_bytes(s, text + done, i - done);
    put(s, c < 0x20 ? "\\u%04x" : "\\%c", c);
    done = i + 1;
  }
  put_bytes(s, text + done, bytes - done);
}

static void put_token_text(sink *s, const vocab *v, int32_t id) {
  const vocab_entry *t = &v->tokens[id];
  put_escaped(s, v->text + t->at, t->bytes);
}

static const char *truth(bool value) { return value ? "true" : "false"; }

static void put_added_tokens(sink *s, const cft_tokenizer *tk, int64_t rows) {
  put_text(s, "  \"added_tokens\": [");
  for (int i = 0; i < tk->added_count && tk->added[i].id < rows; i++) {
    const added_token *a = &tk->added[i];
    put(s, "%s\n    {\"id\": %d, \"content\": \"", i ? "," : "", a->id);
    put_token_text(s, &tk->vocab, a->id);
    put(s,
        "\", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, "
        "\"special\": %s}",
        truth(a->single_word), truth(a->lstrip), truth(a->rstrip), truth(a->normalized),
        truth(a->special));
  }
  put_text(s, "\n  ],\n");
}

// Hugging Face tokenizers does not read the ids of added tokens: those that are not in the model's
// vocabulary get the next free ids. Whether that gives the ids they have.
static bool ids_follow(const cft_tokenizer *tk) {
  int64_t next = 0;
  for (int64_t id = 0; id < tk->vocab.n; id++)
    if (tk->vocab.tokens[id].flags & TOKEN_MODEL) next++;
  for (int i = 0; i < tk->added_count; i++) {
    int32_t id = tk->added[i].id;
    if (tk->vocab.tokens[id].flags & TOKEN_MODEL) {
      if (id >= next) return false;  // versions differ in what is free behind it
    } else if (id != next++) {
      return false;
    }
  }
  return true;
}

static void put_model(sink *s, const cft_tokenizer *tk, int64_t rows) {
  const vocab *v = &tk->vocab;
  put_text(s, "  \"model\": {\n    \"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
  if (tk->bpe.unk == NONE) {
    put_text(s, "null");
  } else {
    put_text(s, "\"");
    put_token_text(s, v, tk->bpe.unk);
    put_text(s, "\"");
  }
  put(s,
      ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": %s, "
      "\"byte_fallback\": %s, \"ignore_merges\": %s,\n    \"vocab\": {",
      truth(tk->bpe.fuse_unk), truth(tk->bpe.byte_fallback), truth(tk->bpe.ignore_merges));
  uint32_t wanted = ids_follow(tk) ? TOKEN_MODEL : TOKEN_USED;  // else all stand in the vocabulary
  bool first = true;
  for (int64_t id = 0; id < v->n && id < rows; id++) {
    if (!(v->tokens[id].flags & wanted)) continue;
    put_text(s, first ? "\n      \"" : ",\n      \"");
    put_token_text(s, v, (int32_t)id);
    put(s, "\": %lld", (long long)id);
    first = false;
  }
  put_text(s, "\n    },\n    \"merges\": [");
  for (int64_t rank = 0; rank < tk->bpe.merges_count; rank++) {
    const merge *m = &tk->bpe.merges[rank];
    put_text(s, rank ? ",\n      [\"" : "\n      [\"");
    put_token_text(s, v, m->left);
    put_text(s, "\", \"");
    put_token_text(s, v, m->right);
    put_text(s, "\"]");
  }
  put_text(s, "\n    ]\n  }\n}\n");
}

static void put_component(sink *s, const char *name, const char *json) {
  put(s, "  \"%s\": ", name);
  put_text(s, json);
  put_text(s, ",\n");
}

cft_status cft_tokenizer_save(const cft_tokenizer *tk, cft_save *save, const char *path,
                              int64_t rows) {
  sink s = {0};
  s.st = cft_writer_new(&s.writer, save, path);
  put_text(&s, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
  put_added_tokens(&s, tk, rows);
  put_component(&s, "normalizer", tk->normalizer);
  put_component(&s, "pre_tokenizer", tk->pre_tokenizer);
  put_component(&s, "post_processor", tk->post_processor);
  put_component(&s, "decoder", tk->decoder);
  put_model(&s, tk, rows);
  if (s.st == CFT_OK) s.st = cft_writer_commit(s.writer);
  cft_writer_release(s.writer);
  return s.st;
}
