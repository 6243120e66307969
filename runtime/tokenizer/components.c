// components.c - normalizer, pre-tokenizer, decoder and post-processor, from tokenizer.json's
// words.
//
// Every component is looked at; one that is not implemented is an error that names it, since
// leaving it out would make wrong ids without a word. docs/tokenizer.md has the list.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "tokenizer/load_impl.h"
#include "util/file.h"

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

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

cft_status unknown_component(const char *what, const char *type) {
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
      return cft_fail(CFT_E_FORMAT, "Metaspace: prepend_scheme %s is not always, first or never",
                      name ? QUOTED(name) : json_type_name(named));
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
                    "Split: behavior %s is not one of Isolated, Removed, Contiguous, "
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

// ---- the whole -----------------------------------------------------------------------------

// A component as JSON again, for save; NULL if it is absent.
static cft_status keep(char **out, const json_t *component) {
  *out = json_dumps(component ? component : json_null(), JSON_COMPACT | JSON_ENCODE_ANY);
  return *out ? CFT_OK : no_memory();
}

// What the components mean, once vocabulary and merges are there.
cft_status read_components(cft_tokenizer *tk, const json_t *normalizer, const json_t *pre_tokenizer,
                           const json_t *post_processor, const json_t *decoder) {
  CFT_TRY(for_each(tk, normalizer, "normalizer", "normalizers", read_normalizer));
  CFT_TRY(for_each(tk, pre_tokenizer, "pre_tokenizer", "pretokenizers", read_pre_tokenizer));
  CFT_TRY(for_each(tk, decoder, "decoder", "decoders", read_decoder));
  CFT_TRY(for_each(tk, post_processor, "post_processor", "processors", read_post_processor));
  CFT_TRY(keep(&tk->normalizer, normalizer));
  CFT_TRY(keep(&tk->pre_tokenizer, pre_tokenizer));
  CFT_TRY(keep(&tk->post_processor, post_processor));
  CFT_TRY(keep(&tk->decoder, decoder));
  if (!bpe_prepare(&tk->bpe, &tk->vocab)) return no_memory();
  CFT_TRY(matchers_build(tk));
  for (int byte = 0; byte < 256 && tk->bpe.byte_level && tk->bpe.byte_fallback; byte++)
    if (tk->bpe.byte_id[byte] == NONE)
      return cft_fail(CFT_E_UNSUPPORTED,
                      "model: byte_fallback under ByteLevel is not implemented, and byte %d has no "
                      "token",
                      byte);
  return CFT_OK;
}
