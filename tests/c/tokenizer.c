// tokenizer.c - what Lua cannot reach: parts, threads, the two engines against each other, files
// that were tampered with. Ids are compared in tests/text/tokenizer.lua.
#include "tokenizer.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "files.h"
#include "tokenizer/regex.h"
#include "util/utf8.h"

enum { ALL_FLAGS = CFT_ENCODE_PARSE_SPECIAL | CFT_ENCODE_ADD_SPECIAL | CFT_ENCODE_SPANS };

static cft_tokenizer *tiny(void) {
  size_t bytes;
  const char *json = tiny_json(&bytes);
  cft_tokenizer *tk = NULL;
  if (cft_tokenizer_parse(&tk, json, bytes, "tiny") != CFT_OK)
    fprintf(stderr, "  tiny: %s\n", cft_last_error());
  return tk;
}

TEST(everything_at_once) {
  cft_tokenizer *tk = tiny();
  EXPECT(tk);
  cft_encoding e = {0};
  EXPECT_OK(cft_tokenizer_encode(&e, tk, tiny_text, sizeof tiny_text - 1, ALL_FLAGS));
  EXPECT(e.n > 20);
  EXPECT_INT(e.ids[0], 300);  // the template's
  EXPECT_INT(e.spans[0].end, 0);
  for (int64_t i = 1; i < e.n; i++) EXPECT(e.spans[i].start <= e.spans[i].end);
  EXPECT_INT(e.spans[e.n - 1].end, sizeof tiny_text - 1);
  cft_encoding_free(&e);
  cft_encoding_free(&e);
  cft_encoding_free(NULL);
  cft_tokenizer_release(tk);
  cft_tokenizer_release(NULL);
}

// ---- parts ---------------------------------------------------------------------------------

static cft_text tokens[260];

// All bytes, "ab", and two tokens that stand for more than bytes.
static cft_tokenizer_parts byte_parts(void) {
  static int32_t types[259];
  static const cft_text merge = {"a b", 3};
  for (int i = 0; i < 256; i++) tokens[i] = (cft_text){byte_name(i), strlen(byte_name(i))};
  tokens[256] = (cft_text){"ab", 2};
  tokens[257] = (cft_text){"<s>", 3};
  tokens[258] = (cft_text){"<tool>", 6};
  for (int i = 0; i < 259; i++) types[i] = CFT_TOKEN_NORMAL;
  types[257] = CFT_TOKEN_CONTROL;
  types[258] = CFT_TOKEN_USER;
  return (cft_tokenizer_parts){.label = "parts",
                               .tokens = tokens,
                               .tokens_count = 259,
                               .merges = &merge,
                               .merges_count = 1,
                               .types = types,
                               .pre = "qwen2",
                               .bos = -1,
                               .eos = -1};
}

TEST(parts) {
  static const char *const names[] = {"smollm", "qwen2",    "deepseek-r1-qwen", "llama-bpe",
                                      "llama3", "llama-v3", "deepseek-llm",     "gpt-2"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    cft_tokenizer_parts p = byte_parts();
    cft_tokenizer *tk = NULL;
    cft_encoding e = {0};
    p.pre = names[i];
    p.bos = 257;
    p.eos = 258;
    EXPECT_OK(cft_tokenizer_new_parts(&tk, &p));
    EXPECT_INT(cft_tokenizer_size(tk), 259);
    EXPECT(cft_tokenizer_is_special(tk, 257) && !cft_tokenizer_is_special(tk, 258));
    EXPECT_OK(cft_tokenizer_encode(&e, tk, "ab<tool>b<s>", 12, CFT_ENCODE_ADD_SPECIAL));
    EXPECT_INT(e.n, 8);
    EXPECT_INT(e.ids[0], 257);
    EXPECT_INT(e.ids[1], 256);
    EXPECT_INT(e.ids[2], 258);
    EXPECT_INT(e.ids[4], '<');
    EXPECT_INT(e.ids[7], 258);
    cft_encoding_free(&e);
    cft_tokenizer_release(tk);
  }
}

TEST(bad_parts) {
  cft_tokenizer *tk = NULL;
  cft_tokenizer_parts p = byte_parts();
  p.pre = "qwen";
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_UNSUPPORTED,
               "pre-tokenizer \"qwen\" is not implemented");
  p.pre = "smollm  qwen2";
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_UNSUPPORTED, "known are smollm");
  p.pre = NULL;
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_UNSUPPORTED, "parts: pre-tokenizer (none)");
  p = byte_parts();
  p.bos = 300;
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_FORMAT,
               "bos token 300 is not in the vocabulary");
  p = byte_parts();
  p.merges_count = -1;
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_FORMAT, "-1 merges");
  p = byte_parts();
  p.tokens_count = (int64_t)1 << 40;
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_FORMAT, "1099511627776 tokens");
  p = byte_parts();
  tokens[7] = (cft_text){"\xFF", 1};
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_FORMAT,
               "token 7: invalid UTF-8 at its byte 0");
  p = byte_parts();
  tokens[7] = tokens[8];
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_FORMAT, "is there twice");
  p = byte_parts();
  tokens[256] = (cft_text){"ac", 2};
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_FORMAT,
               "merge 0: \"ab\" is not in the vocabulary");
  p = byte_parts();
  int32_t types[259] = {0};
  p.types = types;
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_FORMAT, "token 0: type 0");
  EXPECT(!tk);
}

TEST(scores) {
  static const cft_text pieces[] = {{"<unk>", 5},
                                    {"<s>", 3},
                                    {"<0x0A>", 6},
                                    {"\xE2\x96\x81", 3},
                                    {"a", 1},
                                    {"b", 1},
                                    {"ab", 2},
                                    {"bb", 2},
                                    {"\xE2\x96\x81"
                                     "a",
                                     4}};
  enum { N = sizeof pieces / sizeof *pieces };
  static const int32_t types[N] = {
      CFT_TOKEN_UNKNOWN, CFT_TOKEN_CONTROL, CFT_TOKEN_BYTE, 1, 1, 1, 1, 1, 1};
  float values[N] = {0, 0, 0, -5, -6, -7, -2, -1, -3};
  cft_tokenizer_parts p = {.label = "scores",
                           .tokens = pieces,
                           .tokens_count = N,
                           .types = types,
                           .scores = values,
                           .bos = 1,
                           .eos = -1};
  cft_tokenizer *tk = NULL;
  cft_encoding e = {0};
  EXPECT_OK(cft_tokenizer_new_parts(&tk, &p));
  EXPECT_OK(cft_tokenizer_encode(&e, tk, "abb ab\nz", 8, CFT_ENCODE_ADD_SPECIAL));
  static const int32_t want[] = {1, 8, 7, 3, 6, 2, 0};  // bb before ab before a space and a
  EXPECT_INT(e.n, 7);
  EXPECT(!memcmp(e.ids, want, sizeof want));
  cft_tokenizer_release(tk);
  tk = NULL;
  p.no_space_prefix = true;
  EXPECT_OK(cft_tokenizer_new_parts(&tk, &p));
  EXPECT_OK(cft_tokenizer_encode(&e, tk, "ab", 2, 0));
  EXPECT_INT(e.n, 1);
  EXPECT_INT(e.ids[0], 6);
  cft_tokenizer_release(tk);
  tk = NULL;
  values[4] = NAN;
  EXPECT_FAILS(cft_tokenizer_new_parts(&tk, &p), CFT_E_FORMAT,
               "scores: token 4: its score is not a number");
  cft_encoding_free(&e);
  EXPECT(!tk);
}

// ---- GGUF ----------------------------------------------------------------------------------

// A file of metadata alone, built by hand; the format is in gguf.md of the ggml repository.
typedef struct gguf_file {
  uint8_t data[16384];
  size_t n;
  uint64_t values;
} gguf_file;

enum { GGUF_INT32 = 5, GGUF_FLOAT32 = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9 };

static void put(gguf_file *f, const void *data, size_t bytes) {
  memcpy(f->data + f->n, data, bytes);
  f->n += bytes;
}

static void put_int(gguf_file *f, uint64_t value, size_t bytes) { put(f, &value, bytes); }

static void put_string(gguf_file *f, const char *text) {
  put_int(f, strlen(text), 8);
  put(f, text, strlen(text));
}

static void put_key(gguf_file *f, const char *key, uint32_t type) {
  put_string(f, key);
  put_int(f, type, 4);
  f->values++;
}

static void put_list(gguf_file *f, const char *key, uint32_t type, uint64_t count) {
  put_key(f, key, GGUF_ARRAY);
  put_int(f, type, 4);
  put_int(f, count, 8);
}

typedef struct gguf_case {
  const char *model, *pre;
  int types;  // how many; negative: the first is 9
  bool no_merges, bos_far;
  int scores;  // how many; negative: they are integers
  bool no_space_prefix;
} gguf_case;

static cft_status from_gguf(cft_tokenizer **tk, gguf_case c) {
  static gguf_file f;
  f.n = f.values = 0;
  put(&f, "GGUF", 4);
  put_int(&f, 3, 4);
  put_int(&f, 0, 8);
  put_int(&f, 0, 8);  // the number of values, which is put in at the end
  if (c.model) {
    put_key(&f, "tokenizer.ggml.model", GGUF_STRING);
    put_string(&f, c.model);
  }
  if (c.pre) {
    put_key(&f, "tokenizer.ggml.pre", GGUF_STRING);
    put_string(&f, c.pre);
  }
  cft_tokenizer_parts p = byte_parts();
  put_list(&f, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)p.tokens_count);
  for (int64_t i = 0; i < p.tokens_count; i++) put_string(&f, p.tokens[i].data);
  if (!c.no_merges) {
    put_list(&f, "tokenizer.ggml.merges", GGUF_STRING, 1);
    put_string(&f, "a b");
  }
  if (c.types) {
    int count = c.types < 0 ? -c.types : c.types;
    put_list(&f, "tokenizer.ggml.token_type", GGUF_INT32, (uint64_t)count);
    for (int i = 0; i < count; i++) put_int(&f, c.types < 0 ? 9 : (uint64_t)p.types[i], 4);
  }
  if (c.scores) {
    int count = c.scores < 0 ? -c.scores : c.scores;
    put_list(&f, "tokenizer.ggml.scores", c.scores < 0 ? GGUF_INT32 : GGUF_FLOAT32,
             (uint64_t)count);
    for (int i = 0; i < count; i++) put(&f, &(float){(float)-i}, 4);
  }
  if (c.no_space_prefix) {
    put_key(&f, "tokenizer.ggml.add_space_prefix", GGUF_BOOL);
    put_int(&f, 0, 1);
  }
  put_key(&f, "tokenizer.ggml.add_bos_token", GGUF_BOOL);
  put_int(&f, 1, 1);
  put_key(&f, "tokenizer.ggml.bos_token_id", GGUF_INT32);
  put_int(&f, c.bos_far ? 99999999 : 257, 4);
  memcpy(f.data + 16, &f.values, 8);

  cft_gguf *g = NULL;
  cft_status st = cft_gguf_parse(&g, f.data, f.n, "tiny.gguf");
  if (st == CFT_OK) st = cft_tokenizer_from_gguf(tk, g, "tiny.gguf");
  cft_gguf_release(g);
  return st;
}

TEST(gguf) {
  cft_tokenizer *tk = NULL;
  cft_encoding e = {0};
  EXPECT_OK(from_gguf(&tk, (gguf_case){.model = "gpt2", .pre = "smollm", .types = 259}));
  EXPECT_OK(cft_tokenizer_encode(&e, tk, "ab12<s>", 7,
                                 CFT_ENCODE_ADD_SPECIAL | CFT_ENCODE_PARSE_SPECIAL));
  static const int32_t want[] = {257, 256, '1', '2', 257};
  EXPECT_INT(e.n, 5);
  EXPECT(!memcmp(e.ids, want, sizeof want));
  cft_encoding_free(&e);
  cft_tokenizer *second = cft_tokenizer_retain(tk);
  cft_tokenizer_release(tk);
  EXPECT_INT(cft_tokenizer_size(second), 259);
  cft_tokenizer_release(second);

  // Characters with scores: a mark in front, of which this vocabulary has no token
  for (int no_prefix = 0; no_prefix < 2; no_prefix++) {
    tk = NULL;
    EXPECT_OK(from_gguf(
        &tk,
        (gguf_case){.model = "llama", .types = 259, .scores = 259, .no_space_prefix = no_prefix}));
    EXPECT_OK(
        cft_tokenizer_encode(&e, tk, "ab<tool>", 8, CFT_ENCODE_ADD_SPECIAL | CFT_ENCODE_SPANS));
    static const int32_t pieces[] = {257, 256, 258};
    EXPECT_INT(e.n, 3);
    EXPECT(!memcmp(e.ids, pieces, sizeof pieces));
    EXPECT_INT(e.spans[1].end, 2);
    char text[16];
    size_t length;
    EXPECT_OK(cft_tokenizer_decode(text, sizeof text, &length, tk, e.ids, e.n, 0));
    EXPECT_INT(length, 11);
    cft_tokenizer_release(tk);
  }
  cft_encoding_free(&e);

  tk = NULL;
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "llama", .scores = 3}), CFT_E_FORMAT,
               "tokenizer.ggml.scores is no list of 259 scores");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "llama", .scores = -259}), CFT_E_FORMAT,
               "tokenizer.ggml.scores: item 0 is no number");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.pre = "smollm"}), CFT_E_FORMAT,
               "tiny.gguf: tokenizer.ggml.model is missing");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "bert"}), CFT_E_UNSUPPORTED,
               "tiny.gguf: tokenizer.ggml.model \"bert\" is not implemented");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "llama"}), CFT_E_FORMAT,
               "tiny.gguf: tokenizer.ggml.scores is no list of 259 scores");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "gpt2"}), CFT_E_UNSUPPORTED,
               "tiny.gguf: pre-tokenizer (none) is not implemented");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "gpt2", .pre = "x"}), CFT_E_UNSUPPORTED,
               "tiny.gguf: pre-tokenizer \"x\" is not implemented");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "gpt2", .pre = "qwen2", .no_merges = true}),
               CFT_E_FORMAT, "tiny.gguf: tokenizer.ggml.merges is missing or no list");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "gpt2", .pre = "qwen2", .types = 7}),
               CFT_E_FORMAT, "tiny.gguf: tokenizer.ggml.token_type is no list of 259 types");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "gpt2", .pre = "qwen2", .types = -259}),
               CFT_E_FORMAT, "tiny.gguf: token 0: type 9");
  EXPECT_FAILS(from_gguf(&tk, (gguf_case){.model = "gpt2", .pre = "qwen2", .bos_far = true}),
               CFT_E_FORMAT, "tiny.gguf: tokenizer.ggml.bos_token_id is no token id");
  EXPECT(!tk);
}

// ---- threads -------------------------------------------------------------------------------

enum { TEXTS = 300 };

typedef struct job {
  const cft_tokenizer *tk;
  char text[TEXTS][64];
  cft_encoding want[TEXTS];
  atomic_int wrong;
} job;

static void *encode_all(void *argument) {
  job *j = argument;
  cft_encoding e = {0};
  for (int round = 0; round < 20; round++)
    for (int i = 0; i < TEXTS; i++) {
      cft_status st = cft_tokenizer_encode(&e, j->tk, j->text[i], strlen(j->text[i]), ALL_FLAGS);
      size_t n = (size_t)j->want[i].n;
      if (st != CFT_OK || e.n != j->want[i].n || memcmp(e.ids, j->want[i].ids, n * sizeof *e.ids) ||
          memcmp(e.spans, j->want[i].spans, n * sizeof *e.spans))
        j->wrong++;
    }
  cft_encoding_free(&e);
  return NULL;
}

TEST(threads_share_a_tokenizer) {
  cft_tokenizer *tk = tiny();
  job *j = calloc(1, sizeof *j);
  cft_text texts[TEXTS];
  uint64_t state = 3;
  j->tk = tk;
  for (int i = 0; i < TEXTS; i++) {
    for (int k = 0; k < 60; k++) j->text[i][k] = "abc 12\nx'sq<|e|>"[random_next(&state) % 16];
    texts[i] = (cft_text){j->text[i], 60};
  }
  EXPECT_OK(cft_tokenizer_encode_batch(j->want, tk, texts, TEXTS, ALL_FLAGS, 1));
  pthread_t thread[4];
  for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, encode_all, j);
  for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
  EXPECT_INT(j->wrong, 0);

  cft_encoding *got = calloc(TEXTS, sizeof *got);
  for (int threads = 0; threads < 5; threads++) {
    EXPECT_OK(cft_tokenizer_encode_batch(got, tk, texts, TEXTS, ALL_FLAGS, threads));
    for (int i = 0; i < TEXTS; i++)
      EXPECT(got[i].n == j->want[i].n && !memcmp(got[i].ids, j->want[i].ids, (size_t)got[i].n * 4));
  }
  EXPECT_OK(cft_tokenizer_encode_batch(got, tk, texts, 0, 0, 8));
  EXPECT_FAILS(cft_tokenizer_encode_batch(got, tk, texts, 1, 0, -1), CFT_E_ARG, "-1 threads");
  texts[200] = (cft_text){"a\xFF", 2};
  texts[100] = (cft_text){"\xFE", 1};
  for (int threads = 1; threads < 4; threads++)
    EXPECT_FAILS(cft_tokenizer_encode_batch(got, tk, texts, TEXTS, 0, threads), CFT_E_FORMAT,
                 "text 100: encode: invalid UTF-8 at byte 0 (0xfe)");
  for (int i = 0; i < TEXTS; i++) {
    cft_encoding_free(&got[i]);
    cft_encoding_free(&j->want[i]);
  }
  free(got);
  free(j);
  cft_tokenizer_release(tk);
}

// ---- the two engines -----------------------------------------------------------------------

// A text of characters whose class is the same in every Unicode that PCRE2 may have.
static size_t random_text(uint8_t *out, size_t characters, uint64_t *state) {
  static const char *const pool[] = {
      "a",  "b",  "c",  "d", "e",      "s", "t", "S", "L", "l", "'", " ", " ",      " ",
      "\n", "\r", "\t", "1", "2",      "9", ".", "!", "-", "_", "/", "é", "\u00a0", "\u3000",
      "漢", "字", "α",  "Ω", "\u0301", "½", "²", "😀", "٣", "ſ", "ǅ", "ʰ"};
  size_t n = 0;
  while (characters-- > 0) {
    const char *c = pool[random_next(state) % (sizeof pool / sizeof *pool)];
    memcpy(out + n, c, strlen(c));
    n += strlen(c);
  }
  return n;
}

TEST(table_and_pcre2_agree) {
  static const char *const patterns[] = {
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?"
      "i:'s|'t)?|\\s+",
      "\\s+$",
      "\\s+(?!\\S)",
      "a*b|a",
      "(a|ab)(c|bcd)?",
      "(?:a|b|ab)*?c",
      "a{2,4}b|a{0,2}",
      "x*",
      "(a*)*b|.",
      "[^a-c]+?(?=[ab])",
      ".$",
      "(?i)L+|s",
      "\\w+|\\W",
      "(|a)+b",
      "a??b??c",
      "\\d{2}|\\d",
      "[[:^]b]"};
  regex_scratch *scratch_space;
  EXPECT_OK(regex_scratch_new(&scratch_space));
  for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
    regex *table = NULL, *pcre2 = NULL;
    size_t length = strlen(patterns[p]);
    if (regex_new(&table, patterns[p], length, REGEX_TABLE) != CFT_OK) {
      EXPECT_STR(patterns[p], "[[:^]b]");  // a nested class: nothing that PCRE2 could be asked
      continue;
    }
    EXPECT_OK(regex_new(&pcre2, patterns[p], length, REGEX_PCRE2));
    EXPECT(regex_table_of(table) && !regex_table_of(pcre2));
    uint64_t state = 11;
    for (int round = 0; round < 2000; round++) {
      uint8_t text[256];
      size_t n = random_text(text, random_next(&state) % 40, &state);
      for (size_t from = 0; from <= n;) {
        size_t start[2], end[2] = {0, 0};
        EXPECT_OK(regex_find(table, scratch_space, text, n, from, &start[0], &end[0]));
        EXPECT_OK(regex_find(pcre2, scratch_space, text, n, from, &start[1], &end[1]));
        if (start[0] != start[1] || end[0] != end[1])
          TEST_FAIL("%s on \"%.*s\" from %zu: the table finds [%zu, %zu), PCRE2 [%zu, %zu)",
                    patterns[p], (int)n, (char *)text, from, start[0], end[0], start[1], end[1]);
        if (start[0] > n) break;
        from = end[0] > from ? end[0]
               : from < n    ? from + (size_t)cft_utf8_length(text[from])
                             : n + 1;
      }
    }
    regex_free(table);
    regex_free(pcre2);
  }
  regex_scratch_free(scratch_space);
}

TEST(large_patterns) {
  regex *re = NULL;
  const char *nested = "((((((((((a{9}){9}){9}){9}){9}){9}){9}){9}){9}){9})";
  EXPECT_FAILS(regex_new(&re, nested, strlen(nested), REGEX_TABLE), CFT_E_UNSUPPORTED,
               "too large for a table");
  const char *empty =
      "((((((((((((){999}){999}){999}){999}){999}){999}){999}){999}){999}){999}){999})";
  EXPECT_FAILS(regex_new(&re, empty, strlen(empty), REGEX_TABLE), CFT_E_UNSUPPORTED,
               "too large for a table");
  const char *states = "(a|b)*a(a|b){12}c";  // 2^13 of them
  EXPECT_FAILS(regex_new(&re, states, strlen(states), REGEX_TABLE), CFT_E_UNSUPPORTED,
               "too large for a table");
  char deep[400];
  memset(deep, '(', sizeof deep);
  EXPECT_FAILS(regex_new(&re, deep, sizeof deep, REGEX_TABLE), CFT_E_UNSUPPORTED, "too deep");
  memset(deep, '[', sizeof deep);
  EXPECT_FAILS(regex_new(&re, deep, sizeof deep, REGEX_TABLE), CFT_E_UNSUPPORTED, "too deep");
  EXPECT_FAILS(regex_new(&re, "a\xFF", 2, REGEX_ANY), CFT_E_FORMAT,
               "pattern: invalid UTF-8 at byte 1");
  EXPECT(!re);
}

// ---- UTF-8 ---------------------------------------------------------------------------------

// Whether s starts with a character, by trying them all: what cft_utf8_encode writes is right.
static size_t character_at(const uint8_t *s, size_t n) {
  for (uint32_t length = 1; length <= 4 && length <= n; length++) {
    uint32_t cp = length == 1 ? s[0] : s[0] & (0x7Fu >> length);
    for (uint32_t k = 1; k < length; k++) cp = cp << 6 | (s[k] & 0x3F);
    uint8_t again[4];
    if (cp < 0x110000 && (cp < 0xD800 || cp >= 0xE000) &&
        (uint32_t)cft_utf8_encode(again, cp) == length && !memcmp(again, s, length))
      return length;
  }
  return 0;
}

TEST(utf8) {
  static const uint8_t bytes[] = {'a',  0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                  0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                  0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
  enum { N = sizeof bytes };
  for (int i = 0; i < N * N * N * N; i++) {
    uint8_t s[13] = "aaaaaaaaa";  // so that the fast way over ASCII is taken, too
    for (int k = 0, rest = i; k < 4; k++, rest /= N) s[9 + k] = bytes[rest % N];
    size_t want = 9;
    for (size_t step; want < sizeof s && (step = character_at(s + want, sizeof s - want)) > 0;)
      want += step;
    size_t got = cft_utf8_check(s, sizeof s);
    if (got != want)
      TEST_FAIL("%02x %02x %02x %02x: %zu, expected %zu", s[9], s[10], s[11], s[12], got, want);
  }
}

// ---- tampered files ------------------------------------------------------------------------

static void parse_and_use(const uint8_t *json, size_t bytes) {
  cft_tokenizer *tk = NULL;
  if (cft_tokenizer_parse(&tk, (const char *)json, bytes, "mutant") != CFT_OK) {
    if (!strstr(cft_last_error(), "mutant")) TEST_FAIL("no label in \"%s\"", cft_last_error());
    return;
  }
  cft_encoding e = {0};
  EXPECT_OK(cft_tokenizer_encode(&e, tk, tiny_text, sizeof tiny_text - 1, ALL_FLAGS));
  touch(e.ids, (size_t)e.n * sizeof *e.ids);
  for (int64_t i = 0; i < e.n; i++)
    EXPECT(e.spans[i].start <= e.spans[i].end && e.spans[i].end <= (int64_t)sizeof tiny_text - 1);
  char text[64];
  size_t length;
  EXPECT_OK(cft_tokenizer_decode(text, sizeof text, &length, tk, e.ids, e.n, 0));
  cft_encoding_free(&e);
  cft_tokenizer_release(tk);
}

TEST(tampered_files) {
  size_t bytes;
  const char *json = tiny_json(&bytes), *path = join(scratch("mutants"), "tokenizer.json");
  EXPECT_OK(cft_file_write(NULL, path, json, bytes));
  mutate(path, 1500, parse_and_use);
  json = characters_json(&bytes);
  EXPECT_OK(cft_file_write(NULL, path, json, bytes));
  mutate(path, 1500, parse_and_use);
}

TEST_MAIN()
