// paper_words.c - numbers in words, as the package word2number reads them, its slips included:
// words that are no numbers are passed over, and "point" alone is 0.
#include "grade/paper.h"
#include "grade/python.h"
#include "util/utf8.h"

enum { WORDS = 64, POINT = -1 };

static const struct {
  const char *word;
  int64_t value;
} names[] = {
    {"zero", 0},      {"one", 1},         {"two", 2},           {"three", 3},
    {"four", 4},      {"five", 5},        {"six", 6},           {"seven", 7},
    {"eight", 8},     {"nine", 9},        {"ten", 10},          {"eleven", 11},
    {"twelve", 12},   {"thirteen", 13},   {"fourteen", 14},     {"fifteen", 15},
    {"sixteen", 16},  {"seventeen", 17},  {"eighteen", 18},     {"nineteen", 19},
    {"twenty", 20},   {"thirty", 30},     {"forty", 40},        {"fifty", 50},
    {"sixty", 60},    {"seventy", 70},    {"eighty", 80},       {"ninety", 90},
    {"hundred", 100}, {"thousand", 1000}, {"million", 1000000}, {"billion", 1000000000},
    {"point", POINT},
};

typedef struct numbers {
  int64_t at[WORDS];
  int n;
} numbers;

static bool word_value(text word, int64_t *out) {
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (!text_is_fold(word, (text){names[i].word, strlen(names[i].word)})) continue;
    *out = names[i].value;
    return true;
  }
  return false;
}

// The number words of t. False where there are more than are kept.
static bool collect(text t, numbers *out) {
  out->n = 0;
  for (size_t i = 0; i < t.n;) {
    size_t begin = i, length = 1;
    while (i < t.n && t.s[i] != '-') {
      int n = 0;
      uint32_t cp = cft_utf8_decode((const uint8_t *)t.s + i, &n);
      length = (size_t)n;
      if (python_is_space(cp)) break;
      i += length, length = 1;
    }
    int64_t value;
    if (word_value(text_slice(t, begin, i), &value)) {
      if (out->n == WORDS) return false;
      out->at[out->n++] = value;
    }
    i += i < t.n ? length : 0;
  }
  return true;
}

static int index_of(const numbers *l, int64_t value, int *count) {
  int at = -1;
  *count = 0;
  for (int i = 0; i < l->n; i++) {
    if (l->at[i] != value) continue;
    if (at < 0) at = i;
    ++*count;
  }
  return at;
}

typedef __int128 wide;

// Of at most four words; of more the first. False of none, where the package fails.
static bool formed(const int64_t *n, int count, wide *out) {
  bool hundred = count == 2 && (n[0] == 100 || n[1] == 100);
  if (count <= 0) return false;
  if (count == 4)
    *out = (wide)n[0] * n[1] + n[2] + n[3];
  else if (count == 3)
    *out = (wide)n[0] * n[1] + n[2];
  else if (count == 2)
    *out = hundred ? (wide)n[0] * n[1] : (wide)n[0] + n[1];
  else
    *out = n[0];
  return true;
}

// The whole part: billions, millions, thousands, the rest.
static bool whole_part(const numbers *l, wide *total) {
  static const int64_t sizes[] = {1000000000, 1000000, 1000};
  int at[3], count, from = 0, last = -1;
  for (int i = 0; i < 3; i++) at[i] = index_of(l, sizes[i], &count);
  *total = 0;
  if (l->n == 1) {
    *total = l->at[0];
    return true;
  }
  for (int i = 0; i < 3; i++) {
    wide times;
    if (at[i] < 0) continue;
    if (!formed(l->at + from, at[i] - from, &times)) return false;
    *total += times * sizes[i];
    from = at[i] + 1;
    last = i;
  }
  wide rest = 0;
  // The last size whose word is not the last one says where the rest begins.
  int begin = -1;
  for (int i = 2; i >= 0 && begin < 0; i--)
    if (at[i] >= 0 && at[i] != l->n - 1) begin = at[i] + 1;
  if (begin < 0 && last < 0) begin = 0;
  if (begin >= 0 && !formed(l->at + begin, l->n - begin, &rest)) return false;
  *total += rest;
  return true;
}

static text of_wide(cft_grader *g, wide v) {
  char *s = grade_alloc(g, 48), reversed[48];
  int n = 0, k = 0;
  do reversed[n++] = (char)('0' + (int)(v % 10));
  while ((v /= 10) != 0);
  while (n) s[k++] = reversed[--n];
  return (text){s, (size_t)k};
}

static bool all_digits(text t) {
  for (size_t i = 0; i < t.n; i++)
    if (!is_digit(t.s[i])) return false;
  return t.n > 0;
}

text paper_number_words(cft_grader *g, text t) {
  if (all_digits(t)) {  // as an integer is printed: without leading zeros
    while (t.n > 1 && t.s[0] == '0') t = text_from(t, 1);
    return t;
  }
  numbers l;
  int count, points, malformed = 0;
  if (!collect(t, &l) || l.n == 0) return t;
  int thousand = index_of(&l, 1000, &count);
  malformed |= count > 1;
  int million = index_of(&l, 1000000, &count);
  malformed |= count > 1;
  int billion = index_of(&l, 1000000000, &count);
  malformed |= count > 1;
  int point = index_of(&l, POINT, &points);
  if (malformed || points > 1) return t;
  numbers before = l;
  if (point >= 0) {
    before.n = point;  // what stands behind it is no part of the whole
    if (thousand > point) thousand = -1;
    if (million > point) million = -1;
    if (billion > point) billion = -1;
  }
  if ((thousand >= 0 && (thousand < million || thousand < billion)) ||
      (million >= 0 && million < billion))
    return t;
  wide total = 0;
  if (before.n > 0 && !whole_part(&before, &total)) return t;
  if (point < 0 || point + 1 == l.n) return of_wide(g, total);
  char decimals[WORDS + 3] = "0.";
  size_t n = 2;
  for (int i = point + 1; i < l.n; i++) {
    if (l.at[i] < 0 || l.at[i] > 9) return of_wide(g, total);
    decimals[n++] = (char)('0' + l.at[i]);
  }
  double part;
  python_float((text){decimals, n}, &part);
  return python_of_float(g, (double)total + part);
}
