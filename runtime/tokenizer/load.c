// load.c - tokenizer.json, or the parts that a GGUF file has, to a tokenizer.
//
// Every component is looked at; one that is not implemented is an error that names it, since
// leaving it out would make wrong ids without a word. docs/tokenizer.md has the list.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "tokenizer/tokenizer_impl.h"
#include "util/file.h"

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static cft_status no_memory(void) { return cft_fail(CFT_E_OOM, "tokenizer: out of memory"); }

// ---- reading JSON --------------------------------------------------------------------------

static const char *type_name(const json_t *value) {
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

static cft_status wrong_type(const char *what, const char *wanted, const json_t *value) {
  return cft_fail(CFT_E_FORMAT, "%s is %s, not %s", what, type_name(value), wanted);
}

// A boolean field; absent or null: `absent`.
static cft_status read_bool(bool *out, const json_t *object, const char *key, bool absent) {
  const json_t *value = json_object_get(object, key);
  *out = absent;
  if (!value || json_is_null(value)) return CFT_OK;
  if (!json_is_boolean(value)) return wrong_type(key, "true or false", value);
  *out = json_is_true(value);
  return CFT_OK;
}

// Whether a field is there and says anything.
static bool is_set(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return value && !json_is_null(value) && !json_is_false(value) &&
         !(json_is_string(value) && json_string_length(value) == 0) &&
         !(json_is_number(value) && json_number_value(value) == 0);
}

// Where a name (NULL: none) stands in a list; n where it does not.
static int place_of(const char *name, const char *const *names, int n) {
  int i = 0;
  while (i < n && (!name || strcmp(name, names[i]))) i++;
  return i;
}

static cft_status read_id(int32_t *out, const json_t *value, const char *what) {
  if (!json_is_integer(value)) return wrong_type(what, "an id", value);
  json_int_t id = json_integer_value(value);
  if (id < 0 || id >= VOCAB_MAX)
    return cft_fail(CFT_E_FORMAT, "%s: id %" JSON_INTEGER_FORMAT " is not in 0..%d", what, id,
                    VOCAB_MAX - 1);
  *out = (int32_t)id;
  return CFT_OK;
}

// ---- normalizer and pre-tokenizer ----------------------------------------------------------

// The `type` of a component, or NULL with the failure set.
static const char *component_type(const json_t *component, const char *what, cft_status *st) {
  const json_t *type = json_object_get(component, "type");
  if (!json_is_object(component))
    *st = wrong_type(what, "an object", component);
  else if (!json_is_string(type))
    *st = cft_fail(CFT_E_FORMAT, "%s has no type", what);
  else
    return json_string_value(type);
  return NULL;
}

static cft_status unknown_component(const char *what, const char *type) {
  return cft_fail(CFT_E_UNSUPPORTED, "%s %s is not implemented", what, QUOTED(type));
}

// Read a component, or each of a Sequence's.
static cft_status for_each(cft_tokenizer *tk, const json_t *component, const char *what,
                           const char *items_key,
                           cft_status (*read)(cft_tokenizer *, const json_t *, const char *)) {
  if (!component || json_is_null(component)) return CFT_OK;
  cft_status st = CFT_OK;
  const char *type = component_type(component, what, &st);
  if (!type) return st;
  if (strcmp(type, "Sequence")) return read(tk, component, type);
  const json_t *items = json_object_get(component, items_key);
  if (!json_is_array(items)) return wrong_type(items_key, "an array", items);
  for (size_t i = 0; i < json_array_size(items); i++)
    CFT_TRY(for_each(tk, json_array_get(items, i), what, items_key, read));
  return CFT_OK;
}

// A string field, copied; *bytes may be 0.
static cft_status copy_string(uint8_t **out, size_t *bytes, const json_t *value, const char *what) {
  if (!json_is_string(value)) return wrong_type(what, "a string", value);
  *bytes = json_string_length(value);
  *out = malloc(*bytes + 1);
  if (!*out) return no_memory();
  memcpy(*out, json_string_value(value), *bytes + 1);
  return CFT_OK;
}

// Replace, as a normalizer or a decoder: step is the caller's to free.
static cft_status read_replace(normal_step *step, const json_t *component) {
  const json_t *pattern = json_object_get(component, "pattern");
  const json_t *text = json_object_get(pattern, "String");
  step->kind = NORMAL_REPLACE;
  if (json_object_get(pattern, "Regex"))
    return cft_fail(CFT_E_UNSUPPORTED, "Replace: a Regex is not implemented, only a String is");
  if (!json_is_string(text) || json_string_length(text) == 0)
    return cft_fail(CFT_E_FORMAT, "Replace: pattern is no {\"String\": ...} with a text");
  CFT_TRY(copy_string(&step->pattern, &step->pattern_bytes, text, "Replace: pattern"));
  return copy_string(&step->content, &step->content_bytes, json_object_get(component, "content"),
                     "Replace: content");
}

static cft_status read_normalizer(cft_tokenizer *tk, const json_t *component, const char *type) {
  if (tk->steps_count == MAX_STEPS)
    return cft_fail(CFT_E_UNSUPPORTED, "normalizer: more than %d steps", MAX_STEPS);
  normal_step *step = &tk->steps[tk->steps_count++];
  if (!strcmp(type, "Replace")) return read_replace(step, component);
  if (!strcmp(type, "Prepend")) {
    step->kind = NORMAL_PREPEND;
    return copy_string(&step->content, &step->content_bytes, json_object_get(component, "prepend"),
                       "Prepend: prepend");
  }
  step->kind = NORMAL_NFC;
  return strcmp(type, "NFC") ? unknown_component("normalizer", type) : CFT_OK;
}

static cft_status add_stage(cft_tokenizer *tk, const char *pattern, size_t bytes, behavior how,
                            bool invert) {
  if (tk->stages_count == MAX_STAGES)
    return cft_fail(CFT_E_UNSUPPORTED, "pre_tokenizer: more than %d steps", MAX_STAGES);
  split_stage made = {.behavior = how, .invert = invert};
  CFT_TRY(regex_new(&made.pattern, pattern, bytes, REGEX_ANY));
  tk->stages[tk->stages_count++] = made;
  return CFT_OK;
}

// Spaces are written as `mark`, and one is put in front.
static cft_status add_rewrite(cft_tokenizer *tk, const char *mark, size_t bytes,
                              prepending scheme) {
  if (tk->stages_count == MAX_STAGES || tk->rewrites_count == MAX_REWRITES)
    return cft_fail(CFT_E_UNSUPPORTED, "pre_tokenizer: more than %d steps, or %d that write",
                    MAX_STAGES, MAX_REWRITES);
  split_stage *made = &tk->stages[tk->stages_count++];
  *made =
      (split_stage){.mark_bytes = (int)bytes, .scheme = scheme, .rewrite = tk->rewrites_count++};
  memcpy(made->mark, mark, bytes);
  return CFT_OK;
}

// A Metaspace, pre-tokenizer or decoder: its mark (borrowed) and its scheme.
static cft_status read_metaspace(const json_t *component, const char **mark, size_t *bytes,
                                 prepending *scheme) {
  static const char *const names[] = {"always", "first", "never"};
  const json_t *replacement = json_object_get(component, "replacement");
  *mark = json_string_value(replacement);
  *bytes = json_string_length(replacement);
  if (!*mark || *bytes == 0 || *bytes != (size_t)cft_utf8_length((uint8_t) * *mark))
    return cft_fail(CFT_E_FORMAT, "Metaspace: replacement is not one character");
  const json_t *named = json_object_get(component, "prepend_scheme");
  bool add;
  CFT_TRY(read_bool(&add, component, "add_prefix_space", true));
  *scheme = PREPEND_ALWAYS;
  if (named) {
    const char *name = json_string_value(named);
    *scheme = (prepending)place_of(name, names, 3);
    if (*scheme > PREPEND_NEVER)
      return cft_fail(CFT_E_FORMAT, "Metaspace: prepend_scheme %s is none of always, first, never",
                      name ? QUOTED(name) : type_name(named));
  }
  if (!add && *scheme != PREPEND_NEVER)
    return cft_fail(CFT_E_FORMAT, "Metaspace: add_prefix_space does not match prepend_scheme");
  return CFT_OK;
}

static cft_status split_at(cft_tokenizer *tk, const char *text, size_t bytes, behavior how,
                           bool invert);

static cft_status read_metaspace_stage(cft_tokenizer *tk, const json_t *component) {
  const char *mark;
  size_t bytes;
  prepending scheme;
  bool split;
  CFT_TRY(read_metaspace(component, &mark, &bytes, &scheme));
  CFT_TRY(read_bool(&split, component, "split", true));
  CFT_TRY(add_rewrite(tk, mark, bytes, scheme));
  return split ? split_at(tk, mark, bytes, BEHAVIOR_MERGED_WITH_NEXT, false) : CFT_OK;
}

static cft_status read_split(cft_tokenizer *tk, const json_t *component) {
  static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                                      "MergedWithNext"};
  const char *name = json_string_value(json_object_get(component, "behavior"));
  int which = place_of(name, names, 5);
  if (which == 5)
    return cft_fail(CFT_E_FORMAT,
                    "Split: behavior %s is none of Isolated, Removed, Contiguous, "
                    "MergedWithPrevious, MergedWithNext",
                    name ? QUOTED(name) : "is missing and");
  bool invert;
  CFT_TRY(read_bool(&invert, component, "invert", false));

  const json_t *pattern = json_object_get(component, "pattern");
  const json_t *rule = json_object_get(pattern, "Regex"),
               *text = json_object_get(pattern, "String");
  if (json_is_string(rule))
    return cft_context(
        add_stage(tk, json_string_value(rule), json_string_length(rule), (behavior)which, invert),
        "Split");
  if (!json_is_string(text))
    return cft_fail(CFT_E_FORMAT,
                    "Split: pattern is neither {\"Regex\": ...} nor {\"String\": ...}");
  return cft_context(
      split_at(tk, json_string_value(text), json_string_length(text), (behavior)which, invert),
      "Split");
}

// A plain string is a pattern in which every ASCII character that may mean something is escaped.
static cft_status split_at(cft_tokenizer *tk, const char *from, size_t bytes, behavior how,
                           bool invert) {
  size_t n = 0;
  char *escaped = malloc(2 * bytes + 1);
  if (!escaped) return no_memory();
  for (size_t i = 0; i < bytes; i++) {
    if (strchr("\\^$.|?*+()[]{}", from[i]) && from[i]) escaped[n++] = '\\';
    escaped[n++] = from[i];
  }
  cft_status st = add_stage(tk, escaped, n, how, invert);
  free(escaped);
  return st;
}

static cft_status read_byte_level(cft_tokenizer *tk, const json_t *component) {
  bool prefix, use_regex;
  CFT_TRY(read_bool(&prefix, component, "add_prefix_space", true));
  CFT_TRY(read_bool(&use_regex, component, "use_regex", true));
  if (prefix) CFT_TRY(add_rewrite(tk, " ", 1, PREPEND_ALWAYS));
  if (use_regex)
    CFT_TRY(add_stage(tk, gpt2_pattern, sizeof gpt2_pattern - 1, BEHAVIOR_ISOLATED, false));
  tk->bpe.byte_level = true;
  return CFT_OK;
}

static cft_status read_pre_tokenizer(cft_tokenizer *tk, const json_t *component, const char *type) {
  if (tk->bpe.byte_level)
    return cft_fail(CFT_E_UNSUPPORTED, "pre_tokenizer: %s behind ByteLevel is not implemented",
                    QUOTED(type));
  if (!strcmp(type, "Split")) return read_split(tk, component);
  if (!strcmp(type, "ByteLevel")) return read_byte_level(tk, component);
  if (!strcmp(type, "Metaspace")) return read_metaspace_stage(tk, component);
  if (!strcmp(type, "Digits")) {
    bool individual;
    CFT_TRY(read_bool(&individual, component, "individual_digits", false));
    // Rust's char::is_numeric: its Unicode is 17.0 where the regular expressions' is 16.0.
    static const char digits[] = "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]";
    return add_stage(tk, digits, sizeof digits - 1,
                     individual ? BEHAVIOR_ISOLATED : BEHAVIOR_CONTIGUOUS, false);
  }
  return unknown_component("pre_tokenizer", type);
}

static cft_status read_count(int64_t *out, const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_integer(value) || json_integer_value(value) < 0)
    return wrong_type(key, "a count", value);
  *out = (int64_t)json_integer_value(value);
  return CFT_OK;
}

static cft_status read_strip(decoding *d, const json_t *component) {
  const json_t *content = json_object_get(component, "content");
  if (!d->fused)
    return cft_fail(CFT_E_UNSUPPORTED, "decoder: Strip is implemented behind Fuse only");
  if (d->strip) return cft_fail(CFT_E_UNSUPPORTED, "decoder: a second Strip is not implemented");
  if (json_string_length(content) != 1 || (uint8_t)*json_string_value(content) >= 128)
    return cft_fail(CFT_E_UNSUPPORTED, "Strip: content is implemented as one ASCII character only");
  d->strip = *json_string_value(content);
  CFT_TRY(read_count(&d->strip_left, component, "start"));
  return read_count(&d->strip_right, component, "stop");
}

// In the order in which SentencePiece's files have them: spaces, bytes, the whole.
static cft_status read_spelled_decoder(decoding *d, const json_t *component, const char *type) {
  bool late = d->byte_fallback || d->metaspace || d->fused;
  if (!strcmp(type, "Replace") && !late) {
    if (d->replace_count == MAX_STEPS)
      return cft_fail(CFT_E_UNSUPPORTED, "decoder: more than %d steps", MAX_STEPS);
    return read_replace(&d->replace[d->replace_count++], component);
  }
  if (!strcmp(type, "ByteFallback") && !late) {
    d->byte_fallback = true;
    return CFT_OK;
  }
  if (!strcmp(type, "Metaspace") && !late && d->replace_count == 0) {
    const char *mark;
    size_t bytes;
    prepending scheme;
    CFT_TRY(read_metaspace(component, &mark, &bytes, &scheme));
    memcpy(d->mark, mark, bytes);
    d->mark_bytes = (int)bytes;
    d->metaspace = true;
    d->strip_mark = scheme != PREPEND_NEVER;
    return CFT_OK;
  }
  if (!strcmp(type, "Fuse")) {
    d->fused = true;
    return CFT_OK;
  }
  if (!strcmp(type, "Strip")) return read_strip(d, component);
  if (!strcmp(type, "Replace") || !strcmp(type, "ByteFallback") || !strcmp(type, "Metaspace"))
    return cft_fail(CFT_E_UNSUPPORTED, "decoder: %s behind another step is not implemented", type);
  return unknown_component("decoder", type);
}

static cft_status read_decoder(cft_tokenizer *tk, const json_t *component, const char *type) {
  if (!tk->bpe.byte_level) return read_spelled_decoder(&tk->decoding, component, type);
  return strcmp(type, "ByteLevel") ? unknown_component("decoder", type) : CFT_OK;
}

// ---- post-processor: what ADD_SPECIAL puts around the ids ------------------------------------

// Put `id` before or behind what is there, on the outside.
static cft_status wrap(cft_tokenizer *tk, bool front, const int32_t *ids, size_t n) {
  int32_t **list = front ? &tk->prefix : &tk->suffix;
  int *count = front ? &tk->prefix_count : &tk->suffix_count;
  for (size_t i = 0; i < n; i++)
    if (!vocab_token(&tk->vocab, ids[i]))
      return cft_fail(CFT_E_FORMAT, "post_processor: id %d is not in the vocabulary", ids[i]);
  if (n == 0) return CFT_OK;
  int32_t *grown = realloc(*list, ((size_t)*count + n) * sizeof *grown);
  if (!grown) return no_memory();
  *list = grown;
  if (front) memmove(grown + n, grown, (size_t)*count * sizeof *grown);
  memcpy(front ? grown : grown + *count, ids, n * sizeof *ids);
  *count += (int)n;
  return CFT_OK;
}

// The ids of one special token of a template, appended to ids.
static cft_status template_ids(const json_t *specials, const json_t *piece, int32_t *ids, size_t *n,
                               size_t most) {
  const char *name = json_string_value(json_object_get(piece, "id"));
  const json_t *list = name ? json_object_get(json_object_get(specials, name), "ids") : NULL;
  if (!json_is_array(list))
    return cft_fail(CFT_E_FORMAT, "post_processor: special token %s has no ids",
                    name ? QUOTED(name) : "without id");
  for (size_t i = 0; i < json_array_size(list); i++) {
    if (*n == most) return cft_fail(CFT_E_UNSUPPORTED, "post_processor: more than %zu ids", most);
    CFT_TRY(read_id(&ids[(*n)++], json_array_get(list, i), "post_processor"));
  }
  return CFT_OK;
}

static cft_status read_template(cft_tokenizer *tk, const json_t *component) {
  const json_t *single = json_object_get(component, "single");
  const json_t *specials = json_object_get(component, "special_tokens");
  if (!json_is_array(single)) return wrong_type("post_processor: single", "an array", single);
  int32_t front[64], back[64];
  size_t fronts = 0, backs = 0;
  bool behind = false;
  for (size_t i = 0; i < json_array_size(single); i++) {
    const json_t *item = json_array_get(single, i);
    const json_t *special = json_object_get(item, "SpecialToken");
    if (special) {
      CFT_TRY(behind ? template_ids(specials, special, back, &backs, 64)
                     : template_ids(specials, special, front, &fronts, 64));
    } else if (json_object_get(item, "Sequence") && !behind) {
      behind = true;
    } else {
      return cft_fail(CFT_E_UNSUPPORTED,
                      "post_processor: item %zu of single is neither a special "
                      "token nor the one sequence",
                      i);
    }
  }
  if (!behind) return cft_fail(CFT_E_UNSUPPORTED, "post_processor: a template without the text");
  CFT_TRY(wrap(tk, true, front, fronts));
  return wrap(tk, false, back, backs);
}

static cft_status read_post_processor(cft_tokenizer *tk, const json_t *component,
                                      const char *type) {
  if (!strcmp(type, "ByteLevel")) return CFT_OK;  // trims offsets; ours are never trimmed
  if (!strcmp(type, "TemplateProcessing")) return read_template(tk, component);
  if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing")) {
    int32_t cls, sep;
    CFT_TRY(
        read_id(&cls, json_array_get(json_object_get(component, "cls"), 1), "post_processor: cls"));
    CFT_TRY(
        read_id(&sep, json_array_get(json_object_get(component, "sep"), 1), "post_processor: sep"));
    CFT_TRY(wrap(tk, true, &cls, 1));
    return wrap(tk, false, &sep, 1);
  }
  return unknown_component("post_processor", type);
}

// ---- the model -----------------------------------------------------------------------------

static cft_status put_token(cft_tokenizer *tk, int32_t id, const char *text, size_t bytes,
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
                      type_name(value));
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
static cft_status put_spaced_merge(cft_tokenizer *tk, int64_t rank, const char *text,
                                   size_t bytes) {
  const char *space = bytes ? memchr(text, ' ', bytes) : NULL;
  size_t left = space ? (size_t)(space - text) : 0;
  if (!space || memchr(space + 1, ' ', bytes - left - 1))
    return cft_fail(CFT_E_FORMAT, "merge %lld: %s is not two tokens with a space between",
                    (long long)rank, cft_quote(text, bytes).text);
  return put_merge(tk, rank, text, left, space + 1, bytes - left - 1);
}

static cft_status new_merges(cft_tokenizer *tk, size_t count) {
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
static cft_status put_added(cft_tokenizer *tk, added_token a, const char *text, size_t bytes) {
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

// A component as JSON again, for save; NULL if it is absent.
static cft_status keep(char **out, const json_t *component) {
  *out = json_dumps(component ? component : json_null(), JSON_COMPACT | JSON_ENCODE_ANY);
  return *out ? CFT_OK : no_memory();
}

// What the components mean, once vocabulary and merges are there.
static cft_status read_components(cft_tokenizer *tk, const json_t *normalizer,
                                  const json_t *pre_tokenizer, const json_t *post_processor,
                                  const json_t *decoder) {
  CFT_TRY(for_each(tk, normalizer, "normalizer", "normalizers", read_normalizer));
  CFT_TRY(for_each(tk, pre_tokenizer, "pre_tokenizer", "pretokenizers", read_pre_tokenizer));
  CFT_TRY(for_each(tk, decoder, "decoder", "decoders", read_decoder));
  CFT_TRY(for_each(tk, post_processor, "post_processor", "processors", read_post_processor));
  CFT_TRY(keep(&tk->normalizer, normalizer));
  CFT_TRY(keep(&tk->pre_tokenizer, pre_tokenizer));
  CFT_TRY(keep(&tk->post_processor, post_processor));
  CFT_TRY(keep(&tk->decoder, decoder));
  if (!bpe_prepare(&tk->bpe, &tk->vocab) || !matchers_build(tk)) return no_memory();
  for (int byte = 0; byte < 256 && tk->bpe.byte_level && tk->bpe.byte_fallback; byte++)
    if (tk->bpe.byte_id[byte] == NONE)
      return cft_fail(CFT_E_UNSUPPORTED,
                      "model: byte_fallback under ByteLevel is not implemented, and byte %d has no "
                      "token",
                      byte);
  return CFT_OK;
}

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

// ---- from parts ----------------------------------------------------------------------------

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

// ---- from GGUF -----------------------------------------------------------------------------

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
  const preset *known = pre && !spelled ? find_preset(pre) : NULL;
  CFT_GO(gguf_around(g, "tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id",
                     spelled || (known && known->ignore_merges), &parts.bos));
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
