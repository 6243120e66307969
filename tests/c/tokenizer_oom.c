// tokenizer_oom.c - memory runs out at every single allocation while a tokenizer is made, used,
// changed and written. jansson's allocations are counted, but do not fail: 2.14 loses a block or a
// character where one in its lexer does.
#include "tokenizer.h"

#include <jansson.h>

#include "files.h"
#include "oom.h"

#ifdef CFT_TEST_OOM

static const char *path;

static void *json_malloc(size_t n) {
  int64_t kept = countdown;
  countdown = -1;
  void *p = malloc(n);
  countdown = kept;
  return p;
}

static cft_status make_and_use(const char *json, size_t bytes) {
  size_t length;
  cft_tokenizer *tk = NULL;
  cft_encoding e = {0};
  int32_t id;
  cft_status st;
  CFT_GO(cft_tokenizer_parse(&tk, json, bytes, "tiny"));
  CFT_GO(
      cft_tokenizer_encode(&e, tk, tiny_text, sizeof tiny_text - 1,
                           CFT_ENCODE_PARSE_SPECIAL | CFT_ENCODE_ADD_SPECIAL | CFT_ENCODE_SPANS));
  CFT_GO(cft_tokenizer_add_token(tk, "<new>", 5, true, &id));
  CFT_GO(cft_tokenizer_decode(NULL, 0, &length, tk, e.ids, e.n, 0));
  CFT_GO(cft_tokenizer_save(tk, NULL, path, cft_tokenizer_size(tk)));
out:
  cft_encoding_free(&e);
  cft_tokenizer_release(tk);
  return st;
}

static cft_status of_bytes(void) {
  size_t bytes;
  const char *json = tiny_json(&bytes);
  return make_and_use(json, bytes);
}

static cft_status of_characters(void) {
  size_t bytes;
  const char *json = characters_json(&bytes);
  return make_and_use(json, bytes);
}

static cft_status of_scores(void) {
  static const cft_text tokens[] = {{"a", 1}, {"b", 1}, {"ab", 2}};
  static const float scores[] = {-2, -3, -1};
  cft_tokenizer_parts p = {.label = "scores",
                           .tokens = tokens,
                           .tokens_count = 3,
                           .scores = scores,
                           .bos = 0,
                           .eos = -1};
  cft_tokenizer *tk = NULL;
  cft_status st = cft_tokenizer_new_parts(&tk, &p);
  cft_tokenizer_release(tk);
  return st;
}

TEST(make_and_use) {
  json_set_alloc_funcs(json_malloc, free);
  path = join(scratch("oom"), "tokenizer.json");
  exhaust("tokenizer of scores", of_scores, NULL, false);
  exhaust("tokenizer of characters", of_characters, NULL, false);
  exhaust("tokenizer", of_bytes, NULL, false);
  cft_tokenizer *tk = NULL;
  EXPECT_OK(cft_tokenizer_load(&tk, path));
  EXPECT_INT(cft_tokenizer_id(tk, "<new>", 5), 302);
  cft_tokenizer_release(tk);
}

#else
TEST(sanitizer) { EXPECT_INT(entries_in(scratch("none")), 0); }
#endif

TEST_MAIN()
