// regex.h - the regular expressions of pre-tokenizers.
//
// Two engines. A pattern of classes, groups, alternatives, repetitions, `$` and one-character
// lookaheads, which is what tokenizers use, becomes a table: one lookup a character, and the same
// leftmost, first-alternative match that a backtracking engine finds. Anything else runs on PCRE2.
// The syntax and its meaning are Oniguruma's, which is what Hugging Face tokenizers uses: `$` is
// the end of a line, \h a hex digit, \s Unicode's White_Space.
#ifndef CFT_TOKENIZER_REGEX_H
#define CFT_TOKENIZER_REGEX_H

#include <stdbool.h>

#include "base.h"
#include "util/utf8.h"

typedef struct regex regex;
typedef struct regex_scratch regex_scratch;  // what one thread needs to run PCRE2 patterns

typedef enum regex_engine {
  REGEX_ANY,    // a table if the pattern allows, else PCRE2
  REGEX_TABLE,  // E_UNSUPPORTED if it does not
  REGEX_PCRE2,
} regex_engine;

// Compile. E_FORMAT with pattern and place if it is malformed, E_UNSUPPORTED if it says something
// that neither engine does, E_OOM.
cft_status regex_new(regex **out, const char *pattern, size_t bytes, regex_engine engine);
void regex_free(regex *re);

cft_status regex_scratch_new(regex_scratch **out);
void regex_scratch_free(regex_scratch *scratch);

// Find the first match in text[from, n), where text is valid UTF-8 and `from` a character's start;
// what stands before `from` is not looked at. *start == n + 1 if there is none.
cft_status regex_find(const regex *re, regex_scratch *scratch, const uint8_t *text, size_t n,
                      size_t from, size_t *start, size_t *end);

// ---- the table -----------------------------------------------------------------------------

// One row of 256 cells a state: 128 for ASCII, then one for each class of other characters. A cell
// is the next row's number, twice, plus 1 if a match ends before the character. Row 0 is dead.
typedef struct regex_table {
  uint16_t *cells;
  uint8_t *match_at_end;  // by state: whether the end of the text ends a match
  uint8_t *block;         // by code point >> 8: which 256 classes
  uint8_t (*classes)[256];
  int states;
  int start;
} regex_table;

// The table of a pattern that has one; else NULL.
const regex_table *regex_table_of(const regex *re);

enum { REGEX_NONE = -1 };

// The end of the match that starts at `from`, or REGEX_NONE.
static inline int64_t regex_table_match(const regex_table *t, const uint8_t *text, size_t n,
                                        size_t from) {
  const uint16_t *cells = t->cells;
  unsigned state = (unsigned)t->start;
  int64_t match = REGEX_NONE;
  for (size_t i = from; i < n;) {
    unsigned column = text[i];
    int length = 1;
    if (column >= 0x80) {
      uint32_t cp = cft_utf8_decode(text + i, &length);
      column = t->classes[t->block[cp >> 8]][cp & 0xFF];
    }
    unsigned cell = cells[state << 8 | column];
    if (cell & 1) match = (int64_t)i;
    state = cell >> 1;
    if (!state) return match;
    i += (size_t)length;
  }
  return t->match_at_end[state] ? (int64_t)n : match;
}

#endif
