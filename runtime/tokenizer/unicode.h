// unicode.h - sets of characters, and NFC. The versions of Unicode are those of Hugging Face
// tokenizers, whatever this machine's libraries know (tests/oracle/unicode_tables.py).
#ifndef CFT_TOKENIZER_UNICODE_H
#define CFT_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UNICODE_END = 0x110000 };

// A set of code points as the list of those where membership changes: in from at[0], out from
// at[1], in from at[2], ... Union and complement are then one merge.
typedef struct charset {
  uint32_t *at;
  int n, capacity;
  bool failed;  // memory ran out on the way; the set is not to be used
} charset;

void charset_free(charset *set);
void charset_range(charset *set, uint32_t first, uint32_t last);  // add [first, last]
void charset_add(charset *set, const charset *other);             // union
void charset_and(charset *set, const charset *other);             // intersection
void charset_negate(charset *set);
bool charset_has(const charset *set, uint32_t cp);
charset charset_copy(const charset *set);

// Add a general category ("L", "Lu"), "Any", or what \s and \w mean in the regular expressions of
// tokenizer.json: "White_Space", "Word". False for a name that is not known.
bool charset_property(charset *set, const char *name, size_t bytes);

// What \s and \w mean in Rust's regex, by which added tokens look at their surroundings.
bool unicode_is_space(uint32_t cp);
bool unicode_is_word(uint32_t cp);

// ---- text that was changed -------------------------------------------------------------------

// A changed text, and how its bytes lie in the original: edits[k] says that the bytes
// [to, to + to_bytes) were written for [from, from + from_bytes); between edits all bytes are
// equal. Start with zeros and end with edited_free; each change begins with edited_begin, and
// memory is kept from one to the next.
typedef struct text_edit {
  size_t from, from_bytes, to, to_bytes;
} text_edit;

typedef struct edited_text {
  uint8_t *data;
  size_t n, capacity;
  text_edit *edits;
  size_t edits_count, edits_capacity;
  uint32_t *points;  // scratch of NFC: one run of characters, decomposed
  size_t points_capacity;
} edited_text;

static inline void edited_begin(edited_text *out) { out->n = out->edits_count = 0; }
void edited_free(edited_text *out);

// Append bytes that are as they were; or bytes that stand for [from, from + from_bytes) of the
// original. False when memory ran out.
bool edited_keep(edited_text *out, const uint8_t *bytes, size_t n);
bool edited_write(edited_text *out, const uint8_t *bytes, size_t n, size_t from, size_t from_bytes);

// ---- NFC -----------------------------------------------------------------------------------

// The offset of the first character that NFC may change, or before which it may not be cut: mark,
// second part of a composition, singleton. n if there is none. Valid UTF-8.
size_t nfc_first_active(const uint8_t *text, size_t n);

// Put text in normal form C. False when memory ran out.
bool nfc_normalize(edited_text *out, const uint8_t *text, size_t n);

#endif
