// extract_end.c - the answer of a response that marks none: a choice, a formula, bold words or a
// number at its end.
#include "grade/extract.h"

enum { UNCLOSED = 200 };  // formulas, after which no more are looked for

static bool part_of_number(text t, size_t i) {
  char c = t.s[i];
  if (is_digit(c)) return true;
  bool between = i > 0 && i + 1 < t.n && is_digit(t.s[i - 1]) && is_digit(t.s[i + 1]);
  if (c == ',') return between && i + 3 < t.n && is_digit(t.s[i + 2]) && is_digit(t.s[i + 3]);
  if (c == '.') return i + 1 < t.n && is_digit(t.s[i + 1]);
  return c == '/' && between;
}

static text last_number(text t) {
  size_t end = t.n;
  while (end > 0 && !is_digit(t.s[end - 1])) end--;
  size_t begin = end;
  while (begin > 0 && part_of_number(t, begin - 1)) begin--;
  if (begin > 0 && end > begin && t.s[begin - 1] == '-' &&
      (begin == 1 || is_space(t.s[begin - 2]) || t.s[begin - 2] == '=' || t.s[begin - 2] == '$'))
    begin--;
  if (end > begin && end < t.n && t.s[end] == '%') end++;
  return text_slice(t, begin, end);
}

// The last line; where it closes a formula of several lines, from where that opens.
static text last_line(text t) {
  t = text_trim(t);
  bool square = text_ends(t, T("\\]")), dollars = text_ends(t, T("$$"));
  int64_t open = square    ? text_find_last(t, T("\\["))
                 : dollars ? text_find_last((text){t.s, t.n - 2}, T("$$"))
                           : NOWHERE;
  if (open != NOWHERE) return text_from(t, (size_t)open);
  int64_t at = text_find_last(t, T("\n"));
  return at == NOWHERE ? t : text_trim(text_from(t, (size_t)at + 1));
}

static bool says_something(text t) {
  for (size_t i = 0; i < t.n; i++)
    if (is_digit(t.s[i]) || t.s[i] == '=') return true;
  return false;
}

// The last formula of a line that holds one, if there is one the last with a digit or an equals
// sign; *end: the offset behind it.
static bool last_formula(text line, text *inside, size_t *end) {
  bool found = false;
  int failures = 0;
  for (size_t i = 0; i < line.n; i++) {
    text content;
    size_t length;
    if (line.s[i] != '$' && line.s[i] != '\\') continue;
    if (!extract_formula_at(text_from(line, i), &content, &length)) {
      if (++failures == UNCLOSED) break;
      i += line.s[i] == '\\';  // of \$ the second is no sign
      continue;
    }
    i += length - 1;
    if (!text_trim(content).n || (found && says_something(*inside) && !says_something(content)))
      continue;
    *inside = content, *end = i + 1, found = true;
  }
  return found;
}

// The last **bold** words of a line, without their signs.
static bool last_bold(text line, text *inside, size_t *end) {
  int64_t close = text_find_last(line, T("**"));
  if (close == NOWHERE) return false;
  int64_t open = text_find_last((text){line.s, (size_t)close}, T("**"));
  if (open == NOWHERE) return false;
  *inside = text_slice(line, (size_t)open + 2, (size_t)close);
  *end = (size_t)close + 2;
  while (inside->n && inside->s[inside->n - 1] == ':') inside->n--;
  bool digit = false;
  for (size_t i = 0; i < inside->n; i++) digit = digit || is_digit(inside->s[i]);
  return inside->n > 0 && inside->n <= EXTRACT_SHORT && digit;
}

// The last (C) or **C** of a text; the offset of its letter or NOWHERE.
static int64_t last_choice(text t) {
  for (size_t i = t.n; i-- > 1;) {
    char c = t.s[i], before = t.s[i - 1], after = i + 1 < t.n ? t.s[i + 1] : ' ';
    bool bracket = before == '(' && after == ')',
         bold = before == '*' && (after == '*' || after == '.' || after == ')' || after == ':');
    bool named = i > 7 && before == ' ' && !is_letter(after) &&
                 (text_find_fold(text_slice(t, i - 7, i), T("option"), true) != NOWHERE ||
                  text_find_fold(text_slice(t, i - 7, i), T("choice"), true) != NOWHERE);
    if (c >= 'A' && c <= 'J' && (bracket || bold || named)) return (int64_t)i;
  }
  return NOWHERE;
}

static bool wants_choice(text reference) {
  char letter = 0;
  for (size_t i = 0; i < reference.n; i++) {
    char c = reference.s[i];
    if (c >= 'A' && c <= 'J' && !letter)
      letter = c;
    else if (c != '(' && c != ')' && c != '.' && !is_space(c))
      return false;
  }
  return letter != 0;
}

static bool has_digit(text t) {
  for (size_t i = 0; i < t.n; i++)
    if (is_digit(t.s[i])) return true;
  return false;
}

// Words of two letters and more that are no commands and join nothing.
static int words_of(text t) {
  int words = 0;
  for (size_t i = 0; i < t.n; i++) {
    size_t begin = i;
    while (i < t.n && is_letter(t.s[i])) i++;
    text word = text_slice(t, begin, i);
    bool command = begin > 0 && t.s[begin - 1] == '\\';
    bool joins = text_is(word, T("and")) || text_is(word, T("or"));
    words += word.n >= 2 && !command && !joins;
  }
  return words;
}

text extract_end(text t, text reference, const char **why) {
  text line = last_line(t), inside;
  *why = "the response as a whole";
  if (wants_choice(reference)) {
    int64_t at = last_choice(t);
    *why = "the last choice that is named";
    if (at != NOWHERE) return text_slice(t, (size_t)at, (size_t)at + 1);
    return line;
  }
  size_t end = 0, behind = 0;
  bool formula = last_formula(line, &inside, &end);
  bool counts = has_digit(reference) && has_digit(t) && words_of(t) >= 2;
  if (t.n <= EXTRACT_SHORT && text_find(t, T("\n")) == NOWHERE && !formula && !counts) return t;
  text best = inside, bold, number = last_number(t);
  *why = "the last formula";
  if (last_bold(line, &bold, &behind) && (!formula || behind > end)) {
    formula = true, best = bold, end = behind;
    *why = "the last words in bold";
  }
  if (formula && !(number.n && number.s > line.s + end)) return best;
  *why = number.n ? "the last number" : "nothing in the response is an answer";
  return number;
}
