// load.c - tokenizer.json to a tokenizer: vocabulary, merges and added tokens; components.c reads
// the rest.
#include <jansson.h>
#include <stdlib.h>

#include "tokenizer/load_impl.h"
#include "util/file.h"

// ---- reading JSON --------------------------------------------------------------------------

const char *json_type_name(const json_t *value) {
  switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: break;
  }
  return value ? "null" : "nothing";
}

cft_status wrong_type(const char *what, const char *wanted, const json_t *value) {
  return cft_fail(CFT_E_FORMAT, "%s is %s, not %s", what, json_type_name(value), wanted);
}

// A boolean field; absent or null: `absent`.
cft_status read_bool(bool *out, const json_t *object, const char *key, bool absent) {
  const json_t *value = json_object_get(object, key);
  *out = absent;
  if (!value || json_is_null(value)) return CFT_OK;
  if (!json_is_boolean(value)) return wrong_type(key, "true or false", value);
  *out = json_is_true(value);
  return CFT_OK;
}

// Whether a field is there and says anything.
bool is_set(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return value && !json_is_null(value) && !json_is_false(value) &&
         !(json_is_string(value) && json_string_length(value) == 0) &&
         !(json_is_number(value) && json_number_value(value) == 0);
}

// Where a name (NULL: none) stands in a list; n where it does not.
int place_of(const char *name, const char *const *names, int n) {
  int i = 0;
  while (i < n && (!name || strcmp(name, names[i]))) i++;
  return i;
}

cft_status read_id(int32_t *out, const json_t *value, const char *what) {
  if (!json_is_integer(value)) return wrong_type(what, "an id", value);
  json_int_t id = json_integer_value(value);
  if (id < 0 || id >= VOCAB_MAX)
    return cft_fail(CFT_E_FORMAT, "%s: id %" JSON_INTEGER_FORMAT " is not in 0..%d", what, id,
                    VOCAB_MAX - 1);
  *out = (int32_t)id;
  return CFT_OK;
}

// ---- the model -----------------------------------------------------------------------------

cft_status put_token(cft_tokenizer *tk, int32_t id, const char *text, size_t bytes,
                     uint32_t flags) {
  const vocab_entry *other = vocab_token(&tk->vocab, id);
  if (other)
    return cft_fail(CFT_E_FORMAT, "tokens %s and %s have the same id %d",
                    cft_quote(tk->vocab.text + other->at, other->bytes).text,
                    cft_quote(text, bytes).text, id);
  if (vocab_find(&tk->vocab, text, bytes) != NONE)
    return cft_fail(CFT_E_FORMAT, "token %s is there twice", cft_quote(text, bytes).text);
  return vocab_put(&tk->vocab, id, text, bytes, flags) ? CFT_OK : no_memory();
}

static cft_status read_vocab(cft_tokenizer *tk, json_t *list) {
  if (!json_is_object(list)) return wrong_type("vocab", "an object", list);
  const char *text;
  size_t bytes;
  json_t *value;
  json_object_keylen_foreach(list, text, bytes, value) {
    int32_t id;
    if (!json_is_integer(value))
      return cft_fail(CFT_E_FORMAT, "token %s: its id is %s", cft_quote(text, bytes).text,
                      json_type_name(value));
    CFT_TRY(cft_context(read_id(&id, value, "token"), "%s", cft_quote(text, bytes).text));
    CFT_TRY(put_token(tk, id, text, bytes, TOKEN_MODEL));
  }
  return CFT_OK;
}

static cft_status merge_token(const cft_tokenizer *tk, int64_t rank, const char *text, size_t bytes,
                              int32_t *id) {
  *id = vocab_find(&tk->vocab, text, bytes);
  if (*id == NONE || !(tk->vocab.tokens[*id].flags & TOKEN_MODEL))
    return cft_fail(CFT_E_FORMAT, "merge %lld: %s is not in the vocabulary", (long long)rank,
                    cft_quote(text, bytes).text);
  return CFT_OK;
}

static cft_status put_merge(cft_tokenizer *tk, int64_t rank, const char *left, size_t left_bytes,
                            const char *right, size_t right_bytes) {
  merge *m = &tk->bpe.merges[rank];
  CFT_TRY(merge_token(tk, rank, left, left_bytes, &m->left));
  CFT_TRY(merge_token(tk, rank, right, right_bytes, &m->right));
  char small[256], *both = small;
  size_t bytes = left_bytes + right_bytes;
  if (bytes > sizeof small && !(both = malloc(bytes))) return no_memory();
  if (left_bytes) memcpy(both, left, left_bytes);
  if (right_bytes) memcpy(both + left_bytes, right, right_bytes);
  cft_status st = merge_token(tk, rank, both, bytes, &m->result);
  if (both != small) free(both);
  return st;
}

// "a b": exactly one space.
cft_status put_spaced_merge(cft_tokenizer *tk, int64_t rank, const char *text, size_t bytes) {
  const char *space = bytes ? memchr(text, ' ', bytes) : NULL;
  size_t left = space ? (size_t)(space - text) : 0;
  if (!space || memchr(space + 1, ' ', bytes - left - 1))
    return cft_fail(CFT_E_FORMAT, "merge %lld: %s is not two tokens with a space between",
                    (long long)rank, cft_quote(text, bytes).text);
  return put_merge(tk, rank, text, left, space + 1, bytes - left - 1);
}

cft_status new_merges(cft_tokenizer *tk, size_t count) {
  if (count >= UINT32_MAX) return cft_fail(CFT_E_FORMAT, "%zu merges", count);
  tk->bpe.merges = calloc(count + 1, sizeof *tk->bpe.merges);
  if (!tk->bpe.merges) return no_memory();
  tk->bpe.merges_count = (int64_t)count;
  return CFT_OK;
}

static cft_status read_merges(cft_tokenizer *tk, const json_t *merges) {
  if (!json_is_array(merges)) return wrong_type("merges", "an array", merges);
  size_t count = json_array_size(merges);
  CFT_TRY(new_merges(tk, count));
  for (size_t i = 0; i < count; i++) {
    const json_t *item = json_array_get(merges, i);
    const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
    if (json_is_string(item)) {
      CFT_TRY(put_spaced_merge(tk, (int64_t)i, json_string_value(item), json_string_length(item)));
    } else if (json_array_size(item) == 2 && json_is_string(left) && json_is_string(right)) {
      CFT_TRY(put_merge(tk, (int64_t)i, json_string_value(left), json_string_length(left),
                        json_string_value(right), json_string_length(right)));
    } else {
      return cft_fail(CFT_E_FORMAT, "merge %zu is neither \"a b\" nor [\"a\", \"b\"]", i);
    }
  }
  return CFT_OK;
}

static cft_status read_model(cft_tokenizer *tk, const json_t *model) {
  if (!json_is_object(model)) return wrong_type("model", "an object", model);
  const json_t *type = json_object_get(model, "type");
  // Old files have no type; vocabulary and merges together are BPE's.
  if (type && !json_is_string(type)) return wrong_type("model: type", "a string", type);
  if (type && strcmp(json_string_value(type), "BPE"))
    return unknown_component("model", json_string_value(type));
  static const char *const others[] = {"dropout", "continuing_subword_prefix",
                                       "end_of_word_suffix"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (is_set(model, others[i]))
      return cft_fail(CFT_E_UNSUPPORTED, "model: %s is not implemented", others[i]);
  CFT_TRY(read_bool(&tk->bpe.fuse_unk, model, "fuse_unk", false));
  CFT_TRY(read_bool(&tk->bpe.byte_fallback, model, "byte_fallback", false));
  CFT_TRY(read_bool(&tk->bpe.ignore_merges, model, "ignore_merges", false));
  CFT_TRY(read_vocab(tk, json_object_get(model, "vocab")));
  CFT_TRY(read_merges(tk, json_object_get(model, "merges")));

  const json_t *unk = json_object_get(model, "unk_token");
  if (!unk || json_is_null(unk)) return CFT_OK;
  if (!json_is_string(unk)) return wrong_type("model: unk_token", "a string", unk);
  tk->bpe.unk = vocab_find(&tk->vocab, json_string_value(unk), json_string_length(unk));
  if (tk->bpe.unk == NONE)
    return cft_fail(CFT_E_FORMAT, "model: unk_token %s is not in the vocabulary",
                    cft_quote(json_string_value(unk), json_string_length(unk)).text);
  return CFT_OK;
}

// ---- added tokens --------------------------------------------------------------------------

// An added token may stand in the vocabulary too, with the same id.
cft_status put_added(cft_tokenizer *tk, added_token a, const char *text, size_t bytes) {
  if (bytes == 0) return CFT_OK;  // as Hugging Face tokenizers: ignored
  int32_t known = vocab_find(&tk->vocab, text, bytes);
  if (known == NONE) {
    CFT_TRY(put_token(tk, a.id, text, bytes, 0));
  } else if (known != a.id) {
    return cft_fail(CFT_E_FORMAT, "has id %d, but the vocabulary has it as %d", a.id, known);
  }
  vocab_entry *t = &tk->vocab.tokens[a.id];
  if (t->flags & TOKEN_ADDED) return cft_fail(CFT_E_FORMAT, "is there twice");
  t->flags |= TOKEN_ADDED | (a.special ? TOKEN_SPECIAL : 0u);
  return added_insert(tk, a) ? CFT_OK : no_memory();
}

// Hugging Face tokenizers does not read the ids of added tokens: one that is not in the vocabulary
// gets the next free id. Where the file says another, one of the two is not the model's row.
static cft_status read_added_token(cft_tokenizer *tk, const json_t *item, const char *text,
                                   size_t bytes, int32_t *next) {
  added_token a;
  CFT_TRY(read_id(&a.id, json_object_get(item, "id"), "id"));
  if (bytes && vocab_find(&tk->vocab, text, bytes) == NONE && !vocab_token(&tk->vocab, a.id) &&
      a.id != (*next)++)
    return cft_fail(CFT_E_FORMAT,
                    "has id %d, but Hugging Face tokenizers gives it %d, the next free one; write "
                    "the id that the model was trained with, in the vocabulary as well",
                    a.id, *next - 1);
  CFT_TRY(read_bool(&a.special, item, "special", false));
  CFT_TRY(read_bool(&a.single_word, item, "single_word", false));
  CFT_TRY(read_bool(&a.lstrip, item, "lstrip", false));
  CFT_TRY(read_bool(&a.rstrip, item, "rstrip", false));
  CFT_TRY(read_bool(&a.normalized, item, "normalized", !a.special));
  return put_added(tk, a, text, bytes);
}

static cft_status read_added(cft_tokenizer *tk, const json_t *list) {
  if (!list || json_is_null(list)) return CFT_OK;
  if (!json_is_array(list)) return wrong_type("added_tokens", "an array", list);
  int32_t next = (int32_t)tk->vocab.used;
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *item = json_array_get(list, i), *content = json_object_get(item, "content");
    if (!json_is_string(content))
      return cft_fail(CFT_E_FORMAT, "added token %zu has no content", i);
    const char *text = json_string_value(content);
    size_t bytes = json_string_length(content);
    CFT_TRY(cft_context(read_added_token(tk, item, text, bytes, &next), "added token %s",
                        cft_quote(text, bytes).text));
  }
  return CFT_OK;
}

// ---- the whole -----------------------------------------------------------------------------

cft_status cft_tokenizer_parse(cft_tokenizer **out, const char *json, size_t bytes,
                               const char *label) {
  json_error_t error;
  json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &error);
  if (!root) {
    if (json_error_code(&error) == json_error_out_of_memory) return no_memory();
    return cft_fail(CFT_E_FORMAT, "%s, line %d (byte %d): %s", label, error.line, error.position,
                    QUOTED(error.text));
  }
  cft_status st;
  cft_tokenizer *tk = tokenizer_new();
  CFT_GO(tk ? CFT_OK : no_memory());
  CFT_GO(json_is_object(root) ? CFT_OK : wrong_type("tokenizer.json", "an object", root));
  CFT_GO(read_model(tk, json_object_get(root, "model")));
  CFT_GO(read_added(tk, json_object_get(root, "added_tokens")));
  CFT_GO(read_components(
      tk, json_object_get(root, "normalizer"), json_object_get(root, "pre_tokenizer"),
      json_object_get(root, "post_processor"), json_object_get(root, "decoder")));
  *out = tk;
  tk = NULL;
out:
  cft_tokenizer_release(tk);
  json_decref(root);
  return cft_context(st, "%s", label);
}

cft_status cft_tokenizer_load(cft_tokenizer **out, const char *path) {
  int64_t size;
  char *inside = NULL;
  if (cft_path_look(path, &size) == CFT_PATH_FOLDER) {
    inside = cft_format("%s/tokenizer.json", path);
    if (!inside) return no_memory();
    path = inside;
  }
  cft_mapping file;
  cft_status st = cft_file_map(&file, path);
  if (st == CFT_OK) st = cft_tokenizer_parse(out, file.data ? file.data : "", file.bytes, path);
  cft_file_unmap(&file);
  free(inside);
  return st;
}
