// parts.c - a tokenizer from its parts, as a GGUF file has them.
//
// What tokenizer.json says of components is written here by the name of the pre-tokenizer.
#include <jansson.h>
#include <stdlib.h>

#include "tokenizer/load_impl.h"

// What the names of `tokenizer.ggml.pre` stand for, in the words of tokenizer.json. Sources: the
// models' own tokenizer.json, and llama-vocab.cpp in llama.cpp for the names.
#define SPLIT(pattern)                                    \
  "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern \
  "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define BYTE_LEVEL(use_regex)                                                       \
  "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_" \
  "regex\":" use_regex "}"
#define SEQUENCE(items) "{\"type\":\"Sequence\",\"pretokenizers\":[" items "]}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true}"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORDS_AND(numbers)                            \
  CONTRACTIONS                                        \
  "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" numbers \
  "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
// Where a character has a canonical twin it is written as an escape, so that no editor changes it.
// clang-format off
#define CASED_LETTERS \
  "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-" \
  "ὗὙὛὝὟ-\\u1F7Dᾀ-ᾴᾶ-ᾼ\\u1FBEῂ-ῄῆ-ῌῐ-\\u1FD3ῖ-\\u1FDBῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\\u2126ℨ\\u212A-ℭℯ-ℴℹℼ-" \
  "ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
// clang-format on

typedef struct preset {
  const char *names;  // each between spaces
  const char *normalizer, *pre_tokenizer;
  bool ignore_merges;
} preset;

// What the scores of SentencePiece go with: a space is put in front, or not.
#define SPACE_MARKS \
  "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE_MARK "\"}"
#define SPACES \
  "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" SPACE_MARK "\"},\"content\":\" \"}"
static const char *const spelled_normalizers[] = {
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" SPACE_MARK
    "\"}," SPACE_MARKS "]}",
    SPACE_MARKS};
static const char *const spelled_decoders[] = {
    "{\"type\":\"Sequence\",\"decoders\":[" SPACES
    ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}",
    "{\"type\":\"Sequence\",\"decoders\":[" SPACES
    ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}"};

// clang-format off
#define DEEPSEEK                                                                              \
  SPLIT("[\\r\\n]") "," SPLIT("\\\\s?[" CASED_LETTERS "]+") ","                                 \
  SPLIT("\\\\s?[!-/:-~！-／：-～‘-‟　-。]+") "," SPLIT("\\\\s+$") "," SPLIT("[一-龥ࠀ-一가-퟿]+")

static const preset presets[] = {
    {" smollm ", "null", SEQUENCE(DIGITS "," BYTE_LEVEL("true")), false},
    {" qwen2 deepseek-r1-qwen ", "{\"type\":\"NFC\"}",
     SEQUENCE(SPLIT(WORDS_AND("\\\\p{N}")) "," BYTE_LEVEL("false")), false},
    {" llama-bpe llama3 llama-v3 ", "null",
     SEQUENCE(SPLIT(WORDS_AND("\\\\p{N}{1,3}")) "," BYTE_LEVEL("false")), true},
    {" deepseek-llm ", "null", SEQUENCE(DEEPSEEK "," DIGITS "," BYTE_LEVEL("false")), false},
    {" gpt-2 ", "null", BYTE_LEVEL("true"), false},
};
// clang-format on

static const preset *find_preset(const char *name) {
  size_t bytes = strlen(name);
  for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
    for (const char *at = presets[i].names; (at = strstr(at, name)) != NULL; at++)
      if (bytes && at > presets[i].names && at[-1] == ' ' && at[bytes] == ' ' &&
          !memchr(name, ' ', bytes))
        return &presets[i];
  return NULL;
}

bool preset_ignores_merges(const char *name) {
  const preset *known = find_preset(name);
  return known && known->ignore_merges;
}

// The template that puts bos in front and eos behind.
static json_t *template_of(const cft_tokenizer_parts *p) {
  json_t *single = json_array(), *two = json_array(), *specials = json_object();
  for (int i = 0; i < 3; i++) {
    int32_t id = i == 0 ? p->bos : p->eos;
    if (i == 1) {
      json_array_append_new(single,
                            json_pack("{s:{s:s,s:i}}", "Sequence", "id", "A", "type_id", 0));
    } else if (id >= 0) {
      json_t *text = json_stringn(p->tokens[id].data, p->tokens[id].bytes);
      json_array_append_new(single,
                            json_pack("{s:{s:O,s:i}}", "SpecialToken", "id", text, "type_id", 0));
      json_object_setn_new(specials, p->tokens[id].data, p->tokens[id].bytes,
                           json_pack("{s:O,s:[i],s:[O]}", "id", text, "ids", id, "tokens", text));
      json_decref(text);
    }
  }
  // Hugging Face tokenizers wants a template for pairs, too.
  json_array_extend(two, single);
  for (size_t i = 0; i < json_array_size(single); i++) {
    json_t *copy = json_deep_copy(json_array_get(single, i));
    json_t *sequence = json_object_get(copy, "Sequence");
    if (sequence) json_object_set_new(sequence, "id", json_string("B"));
    json_array_append_new(two, copy);
  }
  return json_pack("{s:s,s:o,s:o,s:o}", "type", "TemplateProcessing", "single", single, "pair", two,
                   "special_tokens", specials);
}

typedef struct scored {
  float score;
  uint32_t left, right;  // characters
  merge merge;
} scored;

static int by_score(const void *a, const void *b) {
  const scored *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  if (x->left != y->left) return x->left > y->left ? -1 : 1;
  if (x->right != y->right) return x->right > y->right ? -1 : 1;
  return (x->merge.result > y->merge.result) - (x->merge.result < y->merge.result);
}

static uint32_t characters(const char *text, size_t bytes) {
  uint32_t n = 0;
  for (size_t i = 0; i < bytes; i++) n += (text[i] & 0xC0) != 0x80;
  return n;
}

// Every way to cut a token in two tokens is a merge, that of the highest score first; of equal ones
// that of the longest parts, as in transformers' generate_merges.
static cft_status merges_of_scores(cft_tokenizer *tk, const cft_tokenizer_parts *p) {
  scored *list = NULL;
  size_t count = 0, capacity = 0;
  cft_status st = CFT_OK;
  for (int64_t id = 0; id < p->tokens_count; id++) {
    const cft_text *t = &p->tokens[id];
    if (!(p->scores[id] == p->scores[id]))
      CFT_GO(cft_fail(CFT_E_FORMAT, "token %lld: its score is not a number", (long long)id));
    for (size_t cut = 1; cut < t->bytes; cut++) {
      int32_t left = vocab_find(&tk->vocab, t->data, cut);
      int32_t right = left == NONE ? NONE : vocab_find(&tk->vocab, t->data + cut, t->bytes - cut);
      if (right == NONE) continue;
      if (count == capacity) {
        capacity = 2 * capacity + 1024;
        scored *grown = realloc(list, capacity * sizeof *grown);
        CFT_GO(grown ? CFT_OK : no_memory());
        list = grown;
      }
      list[count++] = (scored){p->scores[id],
                               characters(t->data, cut),
                               characters(t->data + cut, t->bytes - cut),
                               {left, right, (int32_t)id}};
    }
  }
  CFT_GO(new_merges(tk, count));
  if (count) qsort(list, count, sizeof *list, by_score);
  for (size_t i = 0; i < count; i++) tk->bpe.merges[i] = list[i].merge;
out:
  free(list);
  return st;
}

static cft_status read_parts(cft_tokenizer *tk, const cft_tokenizer_parts *p) {
  const preset *known = p->pre && !p->scores ? find_preset(p->pre) : NULL;
  if (!known && !p->scores)
    return cft_fail(CFT_E_UNSUPPORTED, "pre-tokenizer %s is not implemented; known are%s%s%s%s%s",
                    p->pre ? cft_quote(p->pre, strlen(p->pre)).text : "(none)", presets[0].names,
                    presets[1].names, presets[2].names, presets[3].names, presets[4].names);
  if (p->tokens_count < 0 || p->tokens_count > VOCAB_MAX)
    return cft_fail(CFT_E_FORMAT, "%lld tokens", (long long)p->tokens_count);
  for (int64_t i = 0; i < p->tokens_count; i++) {
    const cft_text *text = &p->tokens[i];
    size_t bad = cft_utf8_check(text->data, text->bytes);
    if (bad < text->bytes)
      return cft_fail(CFT_E_FORMAT, "token %lld: invalid UTF-8 at its byte %zu", (long long)i, bad);
    CFT_TRY(put_token(tk, (int32_t)i, text->data, text->bytes, TOKEN_MODEL));
    int32_t type = p->types ? p->types[i] : CFT_TOKEN_NORMAL;
    if (type < CFT_TOKEN_NORMAL || type > CFT_TOKEN_BYTE)
      return cft_fail(CFT_E_FORMAT, "token %lld: type %d", (long long)i, type);
    if (type == CFT_TOKEN_CONTROL || type == CFT_TOKEN_USER)
      CFT_TRY(put_added(tk, (added_token){.id = (int32_t)i, .special = type == CFT_TOKEN_CONTROL},
                        text->data, text->bytes));
    if (type == CFT_TOKEN_UNKNOWN && p->scores) tk->bpe.unk = (int32_t)i;
  }
  if (p->scores) {
    CFT_TRY(merges_of_scores(tk, p));
    tk->bpe.fuse_unk = tk->bpe.byte_fallback = true;
  } else {
    if (p->merges_count < 0)
      return cft_fail(CFT_E_FORMAT, "%lld merges", (long long)p->merges_count);
    CFT_TRY(new_merges(tk, (size_t)p->merges_count));
    for (int64_t i = 0; i < p->merges_count; i++)
      CFT_TRY(put_spaced_merge(tk, i, p->merges[i].data, p->merges[i].bytes));
    tk->bpe.ignore_merges = known->ignore_merges;
  }

  for (int i = 0; i < 2; i++) {
    int32_t id = i ? p->eos : p->bos;
    if (id != NONE && !vocab_token(&tk->vocab, id))
      return cft_fail(CFT_E_FORMAT, "%s token %d is not in the vocabulary", i ? "eos" : "bos", id);
  }
  const char *written = known ? known->normalizer : spelled_normalizers[p->no_space_prefix];
  const char *read = known ? BYTE_LEVEL("true") : spelled_decoders[p->no_space_prefix];
  json_t *normalizer = json_loads(written, JSON_DECODE_ANY, NULL);
  json_t *pre_tokenizer = known ? json_loads(known->pre_tokenizer, 0, NULL) : json_null();
  json_t *decoder = json_loads(read, 0, NULL);
  bool plain = p->bos == NONE && p->eos == NONE;
  json_t *post_processor = !plain  ? template_of(p)
                           : known ? json_loads(BYTE_LEVEL("true"), 0, NULL)
                                   : json_null();
  cft_status st = normalizer && pre_tokenizer && decoder && post_processor
                      ? read_components(tk, normalizer, pre_tokenizer, post_processor, decoder)
                      : no_memory();
  json_decref(normalizer);
  json_decref(pre_tokenizer);
  json_decref(post_processor);
  json_decref(decoder);
  return st;
}

cft_status cft_tokenizer_new_parts(cft_tokenizer **out, const cft_tokenizer_parts *parts) {
  cft_tokenizer *tk = tokenizer_new();
  cft_status st = tk ? read_parts(tk, parts) : no_memory();
  if (st == CFT_OK)
    *out = tk;
  else
    cft_tokenizer_release(tk);
  return cft_context(st, "%s", parts->label);
}
