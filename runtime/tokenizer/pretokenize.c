// pretokenize.c - text to words: each stage splits the pieces of the one before, and a word goes on
// to its ids as soon as it is found. Nothing is stored but the stage's own position.
#include "tokenizer/tokenizer_impl.h"

// One stage at work: the pieces that a pattern makes, in order, and what its behavior does to them.
typedef struct splitter {
  encoder *e;
  const uint8_t *text;
  int which;
  behavior behavior;
  bool invert;
  bool held;  // a piece that the next one may still join
  bool held_match;
  size_t held_start, held_end;
} splitter;

static cft_status pass_on(splitter *s, size_t start, size_t end) {
  return pretokenize(s->e, s->which + 1, s->text, start, end);
}

static cft_status release_held(splitter *s) {
  if (!s->held) return CFT_OK;
  s->held = false;
  return pass_on(s, s->held_start, s->held_end);
}

// The next piece, a match or what lies between matches. As NormalizedString::split in Hugging Face
// tokenizers, where an empty match, too, is a piece.
static cft_status piece(splitter *s, size_t start, size_t end, bool match) {
  match ^= s->invert;
  bool joins = false;
  switch (s->behavior) {
    case BEHAVIOR_ISOLATED: return pass_on(s, start, end);
    case BEHAVIOR_REMOVED: return match ? CFT_OK : pass_on(s, start, end);
    case BEHAVIOR_CONTIGUOUS: joins = match == s->held_match; break;
    case BEHAVIOR_MERGED_WITH_PREVIOUS: joins = match && !s->held_match; break;
    case BEHAVIOR_MERGED_WITH_NEXT: joins = !match && s->held_match; break;
  }
  if (s->held && joins) {
    s->held_end = end;
    s->held_match = match;
    // With the next: a match takes one piece, not all that follow.
    return s->behavior == BEHAVIOR_MERGED_WITH_NEXT ? release_held(s) : CFT_OK;
  }
  CFT_TRY(release_held(s));
  s->held = true;
  s->held_match = match;
  s->held_start = start;
  s->held_end = end;
  return CFT_OK;
}

static cft_status split(encoder *e, int which, const uint8_t *text, size_t start, size_t end) {
  const split_stage *stage = &e->tk->stages[which];
  splitter s = {
      .e = e, .text = text, .which = which, .behavior = stage->behavior, .invert = stage->invert};
  const uint8_t *base = text + start;
  size_t n = end - start, done = 0, from = 0;
  bool matched = false;
  while (from <= n) {
    size_t at, stop = 0;
    CFT_TRY(regex_find(stage->pattern, e->scratch, base, n, from, &at, &stop));
    if (at > n) break;
    if (stop > at || !matched || at > done) {  // an empty match right behind a match does not count
      if (at > done) CFT_TRY(piece(&s, start + done, start + at, false));
      CFT_TRY(piece(&s, start + at, start + stop, true));
      matched = true;
      done = stop;
    }
    from = stop;
    if (stop == at) from += at < n ? (size_t)cft_utf8_length(base[at]) : 1;
  }
  if (done < n) CFT_TRY(piece(&s, start + done, end, false));
  return release_held(&s);
}

// The usual case at full speed: the last stage, isolated matches of a table.
static cft_status split_words(encoder *e, const regex *pattern, const uint8_t *text, size_t start,
                              size_t end) {
  const regex_table *t = regex_table_of(pattern);
  const uint8_t *base = text + start;
  size_t n = end - start, done = 0;  // done: where the text begins that is in no word yet
  for (size_t from = 0; from < n;) {
    size_t at = from, stop = (size_t)regex_table_match(t, base, n, from);
    if ((int64_t)stop == REGEX_NONE) {
      CFT_TRY(regex_find(pattern, e->scratch, base, n, from, &at, &stop));
      if (at >= n) break;
    }
    if (at > done) CFT_TRY(encode_word(e, text, start + done, start + at));
    CFT_TRY(encode_word(e, text, start + at, start + stop));
    done = from = stop;
    if (stop == at) from += (size_t)cft_utf8_length(base[at]);
  }
  return encode_word(e, text, start + done, end);
}

static cft_status no_memory(void) { return cft_fail(CFT_E_OOM, "encode: out of memory"); }

// Encode a piece with its spaces written as marks and maybe one in front of it, and move the spans
// back to what that was written for.
static cft_status rewrite(encoder *e, int which, const uint8_t *text, size_t start, size_t end) {
  const split_stage *stage = &e->tk->stages[which];
  edited_text *out = &e->rewritten[stage->rewrite];
  size_t mark = (size_t)stage->mark_bytes, n = end - start;
  bool begins = start == 0 && e->continues;
  bool wanted =
      stage->scheme == PREPEND_ALWAYS || (stage->scheme == PREPEND_FIRST && start == 0 && e->first);
  bool there = text[start] == ' ' || (n >= mark && !memcmp(text + start, stage->mark, mark));
  bool spaces = stage->mark[0] != ' ' && memchr(text + start, ' ', n);
  if (!spaces && (!wanted || there || begins)) return pretokenize(e, which + 1, text, start, end);

  normal_step step = {.pattern = (uint8_t *)" ",
                      .pattern_bytes = 1,
                      .content = (uint8_t *)stage->mark,
                      .content_bytes = mark};
  edited_begin(out);
  if (wanted && !there && !begins && !edited_write(out, stage->mark, mark, 0, 0))
    return no_memory();
  if (!(spaces ? edited_replace(out, &step, text + start, n) : edited_keep(out, text + start, n)))
    return no_memory();

  const uint8_t *readable_end = e->readable_end;
  bool was_first = e->first, continued = e->continues;
  int64_t first = e->out->n;
  e->readable_end = out->data + out->n;
  e->first &= start == 0;
  e->continues &= start == 0;
  cft_status st = pretokenize(e, which + 1, out->data, 0, out->n);
  e->readable_end = readable_end;
  e->first = was_first;
  e->continues = continued;
  if (!e->spans) return st;
  edited_unmap(out, e->out->spans + first, e->out->n - first);
  for (int64_t i = first; i < e->out->n; i++) {
    e->out->spans[i].start += (int64_t)start;
    e->out->spans[i].end += (int64_t)start;
  }
  return st;
}

cft_status pretokenize(encoder *e, int which, const uint8_t *text, size_t start, size_t end) {
  if (start == end) return CFT_OK;
  if (which == e->tk->stages_count)
    return e->tk->bpe.byte_level ? encode_word(e, text, start, end)
                                 : encode_words(e, text, start, end);
  const split_stage *stage = &e->tk->stages[which];
  if (!stage->pattern) return rewrite(e, which, text, start, end);
  if (which + 1 == e->tk->stages_count && stage->behavior == BEHAVIOR_ISOLATED &&
      regex_table_of(stage->pattern))
    return split_words(e, stage->pattern, text, start, end);
  return split(e, which, text, start, end);
}
