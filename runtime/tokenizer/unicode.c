// unicode.c - sets of characters from Unicode's categories, and normal form C (UAX #15).
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

#include "util/utf8.h"

struct decomposition {
  uint32_t from, first, second;
};
#include "tokenizer/unicode_tables.inc"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

// How many of the runs start at or below cp; a run's start stands above its `shift` low bits.
static size_t runs_up_to(const uint32_t *runs, size_t n, int shift, uint32_t cp) {
  size_t low = 0, high = n;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (runs[middle] >> shift <= cp)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// ---- sets ----------------------------------------------------------------------------------

void charset_free(charset *set) {
  free(set->at);
  *set = (charset){0};
}

static void put(charset *set, uint32_t cp) {
  if (set->n == set->capacity) {
    int capacity = set->capacity ? 2 * set->capacity : 16;
    uint32_t *at = realloc(set->at, (size_t)capacity * sizeof *at);
    if (!at) {
      set->failed = true;
      return;
    }
    set->at = at;
    set->capacity = capacity;
  }
  set->at[set->n++] = cp;
}

charset charset_copy(const charset *set) {
  charset copy = {.failed = set->failed};
  for (int i = 0; i < set->n; i++) put(&copy, set->at[i]);
  return copy;
}

// set = set op other, where op is a bit for each of (in set, in other).
static void combine(charset *set, const charset *other, bool (*op)(bool, bool)) {
  charset out = {.failed = set->failed || other->failed};
  bool in = false;
  for (int i = 0, j = 0; i < set->n || j < other->n;) {
    uint32_t a = i < set->n ? set->at[i] : UNICODE_END;
    uint32_t b = j < other->n ? other->at[j] : UNICODE_END;
    uint32_t cp = a < b ? a : b;
    if (a == cp && i < set->n) i++;
    if (b == cp && j < other->n) j++;
    bool now = op(i & 1, j & 1);
    if (now != in) put(&out, cp);
    in = now;
  }
  free(set->at);
  *set = out;
}

static bool either(bool a, bool b) { return a || b; }
static bool both(bool a, bool b) { return a && b; }
static bool not_first(bool a, bool b) { return !a && b; }

void charset_add(charset *set, const charset *other) { combine(set, other, either); }
void charset_and(charset *set, const charset *other) { combine(set, other, both); }

void charset_negate(charset *set) {
  uint32_t everything[] = {0, UNICODE_END};
  combine(set, &(charset){.at = everything, .n = 2}, not_first);
}

void charset_range(charset *set, uint32_t first, uint32_t last) {
  uint32_t range[] = {first, last + 1};
  if (first <= last) charset_add(set, &(charset){.at = range, .n = 2});
}

bool charset_has(const charset *set, uint32_t cp) {
  return runs_up_to(set->at, (size_t)set->n, 0, cp) & 1;
}

// In the order of the categories' numbers in category_runs.
static const char categories[][3] = {"Cn", "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu",
                                     "Mc", "Me", "Mn", "Nd", "Nl", "No", "Pc", "Pd", "Pe", "Pf",
                                     "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs"};

static const uint32_t white_space[] = {0x9,    0xE,    0x20,   0x21,   0x85,   0x86,   0xA0,
                                       0xA1,   0x1680, 0x1681, 0x2000, 0x200B, 0x2028, 0x202A,
                                       0x202F, 0x2030, 0x205F, 0x2060, 0x3000, 0x3001};

// Other_Alphabetic that is neither letter nor mark: circled and squared capitals.
static const uint32_t other_alphabetic[] = {0x24B6,  0x24EA,  0x1F130, 0x1F14A,
                                            0x1F150, 0x1F16A, 0x1F170, 0x1F18A};

// Superscripts and fractions of Latin-1, which Oniguruma counts as \w.
static const uint32_t latin1_numbers[] = {0xB2, 0xB4, 0xB9, 0xBA, 0xBC, 0xBF};

static void add_categories(charset *set, uint32_t mask) {
  charset out = {0};
  bool in = false;
  for (size_t i = 0; i < COUNT(category_runs); i++) {
    bool now = mask >> (category_runs[i] & 31) & 1;
    if (now != in) put(&out, category_runs[i] >> 5);
    in = now;
  }
  if (in) put(&out, UNICODE_END);
  charset_add(set, &out);
  charset_free(&out);
}

static bool is_word_category(const char *category) {
  return category[0] == 'L' || category[0] == 'M' || !strcmp(category, "Nd") ||
         !strcmp(category, "Nl") || !strcmp(category, "Pc");
}

bool charset_property(charset *set, const char *name, size_t bytes) {
#define IS(text) (bytes == sizeof(text) - 1 && !memcmp(name, text, bytes))
  if (IS("Any")) {
    charset_range(set, 0, UNICODE_END - 1);
    return true;
  }
  if (IS("White_Space")) {
    charset_add(set, &(charset){.at = (uint32_t *)white_space, .n = COUNT(white_space)});
    return true;
  }
  bool word = IS("Word");
#undef IS
  uint32_t mask = 0;
  for (size_t c = 0; c < COUNT(categories); c++) {
    const char *category = categories[c];
    bool in = word ? is_word_category(category)
                   : (bytes == 1 && name[0] == category[0]) ||
                         (bytes == 2 && name[0] == category[0] && name[1] == category[1]);
    if (in) mask |= 1u << c;
  }
  if (!mask) return false;
  add_categories(set, mask);
  if (word) {
    charset_add(set, &(charset){.at = (uint32_t *)other_alphabetic, .n = COUNT(other_alphabetic)});
    charset_add(set, &(charset){.at = (uint32_t *)latin1_numbers, .n = COUNT(latin1_numbers)});
  }
  return true;
}

bool unicode_is_space(uint32_t cp) {
  return charset_has(&(charset){.at = (uint32_t *)white_space, .n = COUNT(white_space)}, cp);
}

bool unicode_is_word(uint32_t cp) {
  if (cp == 0x200C || cp == 0x200D) return true;  // the joiners
  if (charset_has(&(charset){.at = (uint32_t *)other_alphabetic, .n = COUNT(other_alphabetic)}, cp))
    return true;
  size_t run = runs_up_to(category_runs, COUNT(category_runs), 5, cp) - 1;  // the first is at 0
  return is_word_category(categories[category_runs[run] & 31]);
}

// ---- NFC: what the tables say of one character ------------------------------------------------

enum {
  HANGUL_FIRST = 0xAC00,
  HANGUL_COUNT = 11172,
  LEAD = 0x1100,
  LEADS = 19,
  VOWEL = 0x1161,
  VOWELS = 21,
  TAIL = 0x11A7,
  TAILS = 28,
};

static bool is_active(uint32_t cp) {
  if (cp < 0x300 || (cp >= 0x3400 && cp < 0xA66F)) return false;  // Latin; most of CJK
  return runs_up_to(nfc_active_runs, COUNT(nfc_active_runs), 0, cp) & 1;
}

static uint8_t combining_class(uint32_t cp) {
  return (uint8_t)ccc_runs[runs_up_to(ccc_runs, COUNT(ccc_runs), 8, cp) - 1];  // the first is at 0
}

static const struct decomposition *decomposition_of(uint32_t cp) {
  size_t low = 0, high = COUNT(decompositions);
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (decompositions[middle].from < cp)
      low = middle + 1;
    else
      high = middle;
  }
  return low < COUNT(decompositions) && decompositions[low].from == cp ? &decompositions[low]
                                                                       : NULL;
}

// The character that a pair composes to; 0 if it does not.
static uint32_t composition_of(uint32_t a, uint32_t b) {
  if (a - LEAD < LEADS && b - VOWEL < VOWELS)
    return HANGUL_FIRST + ((a - LEAD) * VOWELS + (b - VOWEL)) * TAILS;
  if (a - HANGUL_FIRST < HANGUL_COUNT && (a - HANGUL_FIRST) % TAILS == 0 && b > TAIL &&
      b < TAIL + TAILS)
    return a + (b - TAIL);
  size_t low = 0, high = COUNT(compositions);
  while (low < high) {
    size_t middle = (low + high) / 2;
    const struct decomposition *d = &decompositions[compositions[middle]];
    if (d->first < a || (d->first == a && d->second < b))
      low = middle + 1;
    else
      high = middle;
  }
  if (low == COUNT(compositions)) return 0;
  const struct decomposition *d = &decompositions[compositions[low]];
  return d->first == a && d->second == b ? d->from : 0;
}

// ---- NFC: a text -----------------------------------------------------------------------------

static size_t next_active(const uint8_t *text, size_t from, size_t n) {
  size_t i = from;
  while (i < n) {
    uint64_t eight;
    if (text[i] < 0x80) {
      i++;
      while (i + 8 <= n && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u))) i += 8;
      continue;
    }
    int length;
    if (is_active(cft_utf8_decode(text + i, &length))) return i;
    i += (size_t)length;
  }
  return n;
}

size_t nfc_first_active(const uint8_t *text, size_t n) { return next_active(text, 0, n); }

// Make room for `more` items behind the `used` ones.
static bool reserve(void **data, size_t *capacity, size_t used, size_t more, size_t item_bytes) {
  if (more <= *capacity - used) return true;
  size_t want = used + more + (used + more) / 2 + 64;
  void *grown = realloc(*data, want * item_bytes);
  if (!grown) return false;
  *data = grown;
  *capacity = want;
  return true;
}

// ---- text that was changed -------------------------------------------------------------------

bool edited_keep(edited_text *out, const uint8_t *bytes, size_t n) {
  if (!reserve((void **)&out->data, &out->capacity, out->n, n, 1)) return false;
  if (n) memcpy(out->data + out->n, bytes, n);
  out->n += n;
  return true;
}

static bool add_edit(edited_text *out, size_t from, size_t from_bytes, size_t to, size_t to_bytes) {
  if (!reserve((void **)&out->edits, &out->edits_capacity, out->edits_count, 1, sizeof *out->edits))
    return false;
  out->edits[out->edits_count++] = (text_edit){from, from_bytes, to, to_bytes};
  return true;
}

bool edited_write(edited_text *out, const uint8_t *bytes, size_t n, size_t from,
                  size_t from_bytes) {
  return add_edit(out, from, from_bytes, out->n, n) && edited_keep(out, bytes, n);
}

void edited_free(edited_text *out) {
  free(out->data);
  free(out->edits);
  free(out->points);
  *out = (edited_text){0};
}

// ---- composing -------------------------------------------------------------------------------

// A point is class << 21 | code point.
enum { POINT_BITS = 21, POINT_MASK = (1 << POINT_BITS) - 1 };

static size_t decompose(uint32_t *points, size_t count, uint32_t cp) {
  if (cp - HANGUL_FIRST < HANGUL_COUNT) {
    uint32_t syllable = cp - HANGUL_FIRST, tail = syllable % TAILS;
    points[count++] = LEAD + syllable / (VOWELS * TAILS);
    points[count++] = VOWEL + syllable % (VOWELS * TAILS) / TAILS;
    if (tail) points[count++] = TAIL + tail;
    return count;
  }
  const struct decomposition *d = decomposition_of(cp);
  if (!d) {
    points[count++] = (uint32_t)combining_class(cp) << POINT_BITS | cp;
    return count;
  }
  count = decompose(points, count, d->first);
  return d->second ? decompose(points, count, d->second) : count;
}
enum { LONGEST_DECOMPOSITION = 4 };

// Sort each run of marks by class, stably: by insertion where the run is short, by counting where
// somebody has piled up thousands. scratch has room for count points.
static void order_marks(uint32_t *points, size_t count, uint32_t *scratch) {
  for (size_t i = 0; i < count;) {
    size_t end = i;
    while (end < count && points[end] >> POINT_BITS) end++;
    if (end - i > 32) {
      size_t at[257] = {0};
      for (size_t k = i; k < end; k++) at[(points[k] >> POINT_BITS) + 1]++;
      for (int c = 1; c < 257; c++) at[c] += at[c - 1];
      for (size_t k = i; k < end; k++) scratch[at[points[k] >> POINT_BITS]++] = points[k];
      memcpy(points + i, scratch, (end - i) * sizeof *points);
    } else {
      for (size_t k = i + 1; k < end; k++) {
        uint32_t point = points[k];
        size_t to = k;
        for (; to > i && points[to - 1] >> POINT_BITS > point >> POINT_BITS; to--)
          points[to] = points[to - 1];
        points[to] = point;
      }
    }
    i = end + 1;
  }
}

// Compose in place; the points that are left. A mark composes with the last starter unless a mark
// of its own or a higher class stands between them.
static size_t compose(uint32_t *points, size_t count) {
  size_t kept = 0, starter = 0;
  bool have_starter = false, adjacent = false;
  uint32_t last_class = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t cp = points[i] & POINT_MASK, class = points[i] >> POINT_BITS;
    if (have_starter && (adjacent || last_class < class)) {
      uint32_t composed = composition_of(points[starter], cp);
      if (composed) {
        points[starter] = composed;
        continue;
      }
    }
    if (class == 0) {
      starter = kept;
      have_starter = true;
    }
    adjacent = class == 0;
    last_class = class;
    points[kept++] = cp;
  }
  return kept;
}

// Normalise the run [from, to): a starter and the active characters behind it.
static bool normalize_run(edited_text *out, const uint8_t *text, size_t from, size_t to) {
  size_t most = (to - from) * LONGEST_DECOMPOSITION;
  if (!reserve((void **)&out->points, &out->points_capacity, 0, 2 * most, sizeof *out->points))
    return false;
  uint32_t *points = out->points;
  size_t count = 0;
  for (size_t i = from; i < to;) {
    int length;
    count = decompose(points, count, cft_utf8_decode(text + i, &length));
    i += (size_t)length;
  }
  order_marks(points, count, points + most);
  count = compose(points, count);

  size_t start = out->n;
  for (size_t i = 0; i < count; i++) {
    uint8_t bytes[4];
    if (!edited_keep(out, bytes, (size_t)cft_utf8_encode(bytes, points[i]))) return false;
  }
  if (out->n - start == to - from && !memcmp(out->data + start, text + from, to - from))
    return true;
  // Whole characters at the beginning that are as they were are no part of the edit: the starter
  // where nothing composed with it.
  size_t kept = 0;
  while (from + kept < to) {
    size_t length = (size_t)cft_utf8_length(text[from + kept]);
    if (start + kept + length > out->n ||
        memcmp(text + from + kept, out->data + start + kept, length))
      break;
    kept += length;
  }
  return add_edit(out, from + kept, to - from - kept, start + kept, out->n - start - kept);
}

// Whether what stands before may still compose with cp, or with what cp decomposes to.
static bool continues_run(uint32_t cp) {
  for (const struct decomposition *d; is_active(cp); cp = d->first)
    if (!(d = decomposition_of(cp))) return true;
  return false;
}

bool nfc_normalize(edited_text *out, const uint8_t *text, size_t n) {
  edited_begin(out);
  size_t done = 0;
  while (done < n) {
    size_t active = next_active(text, done, n), run = active;
    // The starter before belongs to the run.
    if (active < n && active > done)
      for (run--; run > done && (text[run] & 0xC0) == 0x80;) run--;
    if (!edited_keep(out, text + done, run - done)) return false;
    if (active == n) break;
    size_t end = active;
    int length;
    do {
      cft_utf8_decode(text + end, &length);
      end += (size_t)length;
    } while (end < n && continues_run(cft_utf8_decode(text + end, &length)));
    if (!normalize_run(out, text, run, end)) return false;
    done = end;
  }
  return true;
}
