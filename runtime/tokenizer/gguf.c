// gguf.c - a GGUF file's metadata to a tokenizer.
#include <stdlib.h>

#include "tokenizer/load_impl.h"
#include "util/file.h"

// A list of strings of the metadata. The caller frees *out; its strings are borrowed.
static cft_status gguf_strings(const cft_gguf *g, const char *key, const cft_text **out,
                               int64_t *count) {
  cft_gguf_value list, item;
  if (!cft_gguf_find_value(g, key, &list) || list.kind != CFT_GGUF_LIST)
    return cft_fail(CFT_E_FORMAT, "%s is missing or no list", key);
  cft_text *texts = malloc(((size_t)list.count + 1) * sizeof *texts);
  if (!texts) return no_memory();
  *out = texts;
  *count = list.count;
  for (int64_t i = 0; i < list.count; i++) {
    CFT_TRY(cft_gguf_item(g, &list, i, &item));
    if (item.kind != CFT_GGUF_STRING)
      return cft_fail(CFT_E_FORMAT, "%s: item %lld is no string", key, (long long)i);
    texts[i] = (cft_text){item.string, item.bytes};
  }
  return CFT_OK;
}

// The scores of all tokens. The caller frees *out.
static cft_status gguf_scores(const cft_gguf *g, int64_t count, float **out) {
  static const char key[] = "tokenizer.ggml.scores";
  cft_gguf_value list, item;
  if (!cft_gguf_find_value(g, key, &list) || list.kind != CFT_GGUF_LIST || list.count != count)
    return cft_fail(CFT_E_FORMAT, "%s is no list of %lld scores", key, (long long)count);
  *out = malloc(((size_t)count + 1) * sizeof **out);
  if (!*out) return no_memory();
  for (int64_t i = 0; i < count; i++) {
    CFT_TRY(cft_gguf_item(g, &list, i, &item));
    if (item.kind != CFT_GGUF_FLOAT)
      return cft_fail(CFT_E_FORMAT, "%s: item %lld is no number", key, (long long)i);
    (*out)[i] = (float)item.number;
  }
  return CFT_OK;
}

// A token that is put around texts: its id if the flag says so.
static cft_status gguf_around(const cft_gguf *g, const char *flag_key, const char *id_key,
                              bool absent, int32_t *id) {
  cft_gguf_value flag, value;
  *id = NONE;
  bool wanted = cft_gguf_find_value(g, flag_key, &flag) ? flag.integer != 0 : absent;
  if (!wanted || !cft_gguf_find_value(g, id_key, &value)) return CFT_OK;
  if (value.kind != CFT_GGUF_INT || value.integer < 0 || value.integer >= VOCAB_MAX)
    return cft_fail(CFT_E_FORMAT, "%s is no token id", id_key);
  *id = (int32_t)value.integer;
  return CFT_OK;
}

cft_status cft_tokenizer_from_gguf(cft_tokenizer **out, const cft_gguf *g, const char *label) {
  cft_status st;
  cft_tokenizer_parts parts = {.label = label};
  cft_gguf_value value, item;
  int32_t *types = NULL;
  float *scores = NULL;
  char *pre = NULL;

  if (!cft_gguf_find_value(g, "tokenizer.ggml.model", &value) || value.kind != CFT_GGUF_STRING)
    return cft_fail(CFT_E_FORMAT, "%s: tokenizer.ggml.model is missing", label);
  bool spelled = value.bytes == 5 && !memcmp(value.string, "llama", 5);
  if (!spelled && (value.bytes != 4 || memcmp(value.string, "gpt2", 4)))
    return cft_fail(
        CFT_E_UNSUPPORTED,
        "%s: tokenizer.ggml.model %s is not implemented, only \"gpt2\" (byte-level BPE) "
        "and \"llama\" (SentencePiece) are",
        label, cft_quote(value.string, value.bytes).text);
  CFT_GO(gguf_strings(g, "tokenizer.ggml.tokens", &parts.tokens, &parts.tokens_count));
  if (spelled) {
    CFT_GO(gguf_scores(g, parts.tokens_count, &scores));
    parts.scores = scores;
    if (cft_gguf_find_value(g, "tokenizer.ggml.add_space_prefix", &value))
      parts.no_space_prefix = value.kind == CFT_GGUF_BOOL && !value.integer;
  } else {
    CFT_GO(gguf_strings(g, "tokenizer.ggml.merges", &parts.merges, &parts.merges_count));
  }
  if (cft_gguf_find_value(g, "tokenizer.ggml.pre", &value) && value.kind == CFT_GGUF_STRING) {
    pre = cft_format("%.*s", (int)value.bytes, value.string);
    CFT_GO(pre ? CFT_OK : no_memory());
    parts.pre = pre;
  }
  if (cft_gguf_find_value(g, "tokenizer.ggml.token_type", &value)) {
    if (value.kind != CFT_GGUF_LIST || value.count != parts.tokens_count)
      CFT_GO(cft_fail(CFT_E_FORMAT, "tokenizer.ggml.token_type is no list of %lld types",
                      (long long)parts.tokens_count));
    types = malloc(((size_t)value.count + 1) * sizeof *types);
    CFT_GO(types ? CFT_OK : no_memory());
    for (int64_t i = 0; i < value.count; i++) {
      CFT_GO(cft_gguf_item(g, &value, i, &item));
      bool fits = item.kind == CFT_GGUF_INT && item.integer == (int32_t)item.integer;
      types[i] = fits ? (int32_t)item.integer : NONE;  // which is refused by name
    }
    parts.types = types;
  }
  // llama.cpp puts bos in front for Llama 3 and SentencePiece unless the file says otherwise.
  CFT_GO(gguf_around(g, "tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id",
                     spelled || (pre && preset_ignores_merges(pre)), &parts.bos));
  CFT_GO(gguf_around(g, "tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", false,
                     &parts.eos));
  st = cft_tokenizer_new_parts(out, &parts);
  label = NULL;  // it is in the message
out:
  free((void *)parts.tokens);
  free((void *)parts.merges);
  free(types);
  free(scores);
  free(pre);
  return label ? cft_context(st, "%s", label) : st;
}
