// normalize.c - what a normalizer writes before words are looked for, and the way back from bytes
// of the written text to bytes of the text that was given.
#include <stdlib.h>

#include "tokenizer/tokenizer_impl.h"

void normal_step_free(normal_step *step) {
  free(step->pattern);
  free(step->content);
  *step = (normal_step){0};
}

// The next `pattern` in text[from, n); n if there is none.
static size_t find(const normal_step *step, const uint8_t *text, size_t n, size_t from) {
  while (n - from >= step->pattern_bytes) {
    const uint8_t *first =
        memchr(text + from, step->pattern[0], n - from - step->pattern_bytes + 1);
    if (!first) break;
    if (!memcmp(first, step->pattern, step->pattern_bytes)) return (size_t)(first - text);
    from = (size_t)(first - text) + 1;
  }
  return n;
}

bool edited_replace(edited_text *out, const normal_step *step, const uint8_t *text, size_t n) {
  for (size_t done = 0; done < n;) {
    size_t at = find(step, text, n, done);
    if (!edited_keep(out, text + done, at - done)) return false;
    if (at == n) break;
    if (!edited_write(out, step->content, step->content_bytes, at, step->pattern_bytes))
      return false;
    done = at + step->pattern_bytes;
  }
  return true;
}

// Rules that write more than they find may stand behind each other: six that make 1000 digits of one
// make 10^18. No normalizer of a real tokenizer comes near this, for texts of `bytes`.
static size_t most_bytes(size_t bytes) { return 64 * bytes + (1 << 16); }

// A failure where a replacement would make more than `most` bytes.
static cft_status check_growth(const normal_step *step, const uint8_t *text, size_t n, size_t most) {
  if (step->content_bytes <= step->pattern_bytes) return CFT_OK;
  size_t more = step->content_bytes - step->pattern_bytes, made = n;
  for (size_t at = 0; (at = find(step, text, n, at)) < n; at += step->pattern_bytes) {
    made += more;
    if (made > most)
      return cft_fail(CFT_E_UNSUPPORTED,
                      "tokenizer: its normalizer's Replace of %s makes more than %zu bytes of a "
                      "text, 64 times what was given",
                      cft_quote((const char *)step->pattern, step->pattern_bytes).text, most);
  }
  return CFT_OK;
}

static cft_status no_memory(void) { return cft_fail(CFT_E_OOM, "tokenizer: out of memory"); }

// One step, if it changes anything: *text and *n are then its result.
static cft_status apply(const normal_step *step, edited_text *out, const uint8_t **text, size_t *n,
                        size_t most) {
  edited_begin(out);
  switch (step->kind) {
    case NORMAL_NFC:
      if (nfc_first_active(*text, *n) == *n) return CFT_OK;
      if (!nfc_normalize(out, *text, *n)) return no_memory();
      break;
    case NORMAL_PREPEND:
      if (*n == 0 || step->content_bytes == 0) return CFT_OK;
      if (!edited_write(out, step->content, step->content_bytes, 0, 0) ||
          !edited_keep(out, *text, *n))
        return no_memory();
      break;
    case NORMAL_REPLACE:
      if (find(step, *text, *n, 0) == *n) return CFT_OK;
      CFT_TRY(check_growth(step, *text, *n, most));
      if (!edited_replace(out, step, *text, *n)) return no_memory();
      break;
  }
  *text = out->data;
  *n = out->n;
  return CFT_OK;
}

cft_status normalize(const cft_tokenizer *tk, edited_text texts[MAX_STEPS], bool continues,
                     const uint8_t **text, size_t *n) {
  size_t most = most_bytes(*n);
  for (int i = 0; i < tk->steps_count; i++) {
    if (continues && tk->steps[i].kind == NORMAL_PREPEND)
      edited_begin(&texts[i]);
    else
      CFT_TRY(apply(&tk->steps[i], &texts[i], text, n, most));
  }
  return CFT_OK;
}

// A span that touches an edit takes all of it.
void edited_unmap(const edited_text *edited, cft_span *spans, int64_t n) {
  if (edited->edits_count == 0) return;
  size_t k = 0;       // the first edit that ends behind the last start
  int64_t shift = 0;  // from the written text to the original, in front of that edit
  size_t last = 0;
  for (int64_t i = 0; i < n; i++) {
    size_t start = (size_t)spans[i].start, end = (size_t)spans[i].end;
    if (i > 0 && start < last) {  // an added token in the spaces that the one before took
      k = 0;
      shift = 0;
    }
    last = start;
    while (k < edited->edits_count && edited->edits[k].to + edited->edits[k].to_bytes <= start) {
      shift = (int64_t)(edited->edits[k].from + edited->edits[k].from_bytes) -
              (int64_t)(edited->edits[k].to + edited->edits[k].to_bytes);
      k++;
    }
    int64_t from = (int64_t)start + shift;
    if (k < edited->edits_count && edited->edits[k].to < start)
      from = (int64_t)edited->edits[k].from;

    int64_t to = (int64_t)end + shift;
    for (size_t j = k; j < edited->edits_count && edited->edits[j].to < end; j++) {
      const text_edit *edit = &edited->edits[j];
      int64_t behind = (int64_t)(edit->from + edit->from_bytes);
      to = end <= edit->to + edit->to_bytes
               ? behind
               : behind + (int64_t)end - (int64_t)(edit->to + edit->to_bytes);
    }
    spans[i] = (cft_span){from, to};
  }
}
