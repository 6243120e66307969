// load_impl.h - what the files that make a tokenizer share.
//
//   load.c         tokenizer.json: vocabulary, merges, added tokens
//   components.c   its normalizer, pre-tokenizer, decoder and post-processor
//   parts.c        the same from parts
//   gguf.c         the parts that a GGUF file has
#ifndef CFT_TOKENIZER_LOAD_IMPL_H
#define CFT_TOKENIZER_LOAD_IMPL_H

#include <jansson.h>

#include "tokenizer/tokenizer_impl.h"

static inline cft_status no_memory(void) { return cft_fail(CFT_E_OOM, "tokenizer: out of memory"); }

// ---- load.c --------------------------------------------------------------------------------

const char *json_type_name(const json_t *value);  // "an object", "nothing"
cft_status wrong_type(const char *what, const char *wanted, const json_t *value);
// A boolean field; absent or null: `absent`.
cft_status read_bool(bool *out, const json_t *object, const char *key, bool absent);
// Whether a field is there and says anything.
bool is_set(const json_t *object, const char *key);
// Where a name (NULL: none) stands in a list; n where it does not.
int place_of(const char *name, const char *const *names, int n);
cft_status read_id(int32_t *out, const json_t *value, const char *what);

// Give an id its spelling; E_FORMAT where either is in use.
cft_status put_token(cft_tokenizer *tk, int32_t id, const char *text, size_t bytes, uint32_t flags);
// An added token may stand in the vocabulary too, with the same id.
cft_status put_added(cft_tokenizer *tk, added_token a, const char *text, size_t bytes);
// Room for `count` merges, then one by one: "a b", exactly one space.
cft_status new_merges(cft_tokenizer *tk, size_t count);
cft_status put_spaced_merge(cft_tokenizer *tk, int64_t rank, const char *text, size_t bytes);

// ---- components.c --------------------------------------------------------------------------

cft_status unknown_component(const char *what, const char *type);
// What the components mean, once vocabulary and merges are there. Each may be NULL or null.
cft_status read_components(cft_tokenizer *tk, const json_t *normalizer, const json_t *pre_tokenizer,
                           const json_t *post_processor, const json_t *decoder);

// ---- parts.c -------------------------------------------------------------------------------

// Whether the pre-tokenizer that GGUF files call `name` takes a word that is a token as that token,
// as Llama 3's does, whose files put bos in front; false for names that are not known.
bool preset_ignores_merges(const char *name);

#endif
