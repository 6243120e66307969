// extract.c - where a response says its answer: the last box; else what follows the last "answer
// is"; else, where a response says neither, the last formula or number of its end.
//
// Boxes are looked for in all of a response, the others in its last TAIL bytes: an answer stands at
// the end, and a response of megabytes is read once at the speed of memory.
#include "grade/grade_impl.h"

enum {
  TAIL = 32 << 10,
  SHORT = 120,    // bytes of a response that may be an answer as it is
  BETWEEN = 40,   // two boxes that are one answer
  UNCLOSED = 200  // formulas, after which no more are looked for
};

static text tail_of(text t) {
  if (t.n <= TAIL) return t;
  size_t at = t.n - TAIL;
  while (at < t.n && ((unsigned char)t.s[at] & 0xC0) == 0x80) at++;
  return text_from(t, at);
}

// ---- boxes
// --------------------------------------------------------------------------------------------

// The end of the group that begins at `{`: the offset of its brace, or NOWHERE.
static int64_t closing(text t, size_t at) {
  int64_t depth = 0;
  for (size_t i = at; i < t.n; i++) {
    if (t.s[i] == '\\') {
      i++;
      continue;
    }
    if (t.s[i] == '{') depth++;
    if (t.s[i] == '}' && --depth == 0) return (int64_t)i;
  }
  return NOWHERE;
}

// The last \boxed or \fbox of t; the offset of its backslash, *behind: of what follows the word.
static int64_t last_box(text t, size_t *behind) {
  int64_t boxed = text_find_last(t, T("\\boxed")), fbox = text_find_last(t, T("\\fbox"));
  int64_t at = boxed > fbox ? boxed : fbox;
  if (at != NOWHERE) *behind = (size_t)at + (at == boxed ? 6 : 5);
  return at;
}

// What a box holds, `behind` its word. *end: the offset behind it. False where it does not close.
static bool box_content(text t, size_t behind, text *content, size_t *end) {
  while (behind < t.n && t.s[behind] == ' ') behind++;
  if (behind < t.n && t.s[behind] == '{') {
    int64_t close = closing(t, behind);
    if (close == NOWHERE) return false;
    *content = text_slice(t, behind + 1, (size_t)close);
    *end = (size_t)close + 1;
    return true;
  }
  size_t stop = behind;  // \boxed 7, without braces
  while (stop < t.n && stop < behind + 40 && t.s[stop] != '$' && !is_space(t.s[stop])) stop++;
  *content = text_slice(t, behind, stop), *end = stop;
  return true;
}

// Whether only signs and the words "and", "or" stand between two boxes, so that they are one
// answer.
static bool only_joins(text t) {
  if (t.n > BETWEEN) return false;
  bool joined = false;
  for (size_t i = 0; i < t.n;) {
    text rest = text_from(t, i);
    static const char *const parts[] = {"\\text{and}", "\\text{ and }",
                                        "\\text{or}",  "\\text{ or }",
                                        "and",         "or",
                                        "\\quad",      "\\,",
                                        "\\;",         ",",
                                        ";",           "\\)",
                                        "\\(",         "\\]",
                                        "\\[",         "$",
                                        " ",           "\n",
                                        NULL};
    int k = 0;
    for (; parts[k]; k++)
      if (text_begins(rest, (text){parts[k], strlen(parts[k])})) break;
    if (!parts[k]) return false;
    joined = joined || k <= 5 || parts[k][0] == ',' || parts[k][0] == ';';
    i += strlen(parts[k]);
  }
  return joined;
}

// The boxes before the one at `at`, as long as only "and" parts them, in front of its content.
static text with_boxes_before(cft_grader *g, text t, size_t at, text content) {
  for (int i = 0; i < 8; i++) {
    size_t behind, end;
    text before = {t.s, at}, inside;
    int64_t previous = last_box(before, &behind);
    if (previous == NOWHERE || !box_content(before, behind, &inside, &end)) break;
    if (!only_joins(text_slice(before, end, at)) || inside.n + content.n > CFT_GRADE_ANSWER_BYTES)
      break;
    content = text_join(g, inside, T(", "), content);
    at = (size_t)previous;
  }
  return content;
}

// ---- phrases
// ------------------------------------------------------------------------------------------

static const char *const phrases[] = {
    "answer is",  "answer:",     "answers are", "answer to this problem is",
    "####",       "答案是",      "答案为",      "答案：",
    "answer is:", "answer**:",   "choice is",   "answer:**",
    "solution:",  "solution is", "answers:",    "answer to the question is",
    NULL};

static int64_t last_phrase(text t, size_t *behind) {
  int64_t best = NOWHERE;
  for (int i = 0; phrases[i]; i++) {
    text phrase = {phrases[i], strlen(phrases[i])};
    int64_t at = text_find_fold(t, phrase, true);
    if (at == NOWHERE || (best != NOWHERE && at + (int64_t)phrase.n <= (int64_t)*behind)) continue;
    best = at;
    *behind = (size_t)at + phrase.n;
  }
  return best;
}

// Whether a text between two dollar signs is what stands between two prices: a number at its head,
// and a word of four letters that is no command and in no braces.
static bool is_prose(text t) {
  size_t run = 0;
  int depth = 0;
  if (!t.n || !is_digit(t.s[0])) return false;
  for (size_t i = 0; i < t.n; i++) {
    char c = t.s[i];
    depth += (c == '{') - (c == '}');
    if (c == '\\') {
      while (i + 1 < t.n && is_letter(t.s[i + 1])) i++;
      run = 0;
    } else if (is_letter(c) && depth <= 0) {
      if (++run == 4) return true;
    } else {
      run = 0;
    }
  }
  return false;
}

// The end of a formula that begins at t.s[0] with `open`; the content without its signs.
static bool formula_at(text t, text *inside, size_t *end) {
  static const struct {
    text open, close;
  } kinds[] = {{T("$$"), T("$$")}, {T("$"), T("$")}, {T("\\("), T("\\)")}, {T("\\["), T("\\]")}};
  if (t.n > CFT_GRADE_ANSWER_BYTES) t.n = CFT_GRADE_ANSWER_BYTES;  // many that do not close
  for (int i = 0; i < 4; i++) {
    if (!text_begins(t, kinds[i].open)) continue;
    int64_t close = text_find(text_from(t, kinds[i].open.n), kinds[i].close);
    if (close == NOWHERE) return false;
    *inside = text_slice(t, kinds[i].open.n, kinds[i].open.n + (size_t)close);
    if (i == 1 && is_prose(*inside)) return false;
    *end = 2 * kinds[i].open.n + (size_t)close;
    return true;
  }
  return false;
}

// A sentence's end: a stop before a space or the end that is no part of a number, or a new line.
static size_t sentence_end(text t) {
  for (size_t i = 0; i < t.n; i++) {
    char c = t.s[i];
    if (c == '\n') return i;
    bool last = i + 1 == t.n || is_space(t.s[i + 1]) || t.s[i + 1] == '*';
    if (c == '.' && last) return i;
    if (i + 2 < t.n && memcmp(t.s + i, "。", 3) == 0) return i;
  }
  return t.n;
}

static text without_head(text t) {
  static const char *const heads[] = {"approximately ",
                                      "\\\"",
                                      "\"",
                                      "about ",
                                      "therefore ",
                                      "indeed ",
                                      "simply ",
                                      "equal to ",
                                      "given by ",
                                      "just ",
                                      ":",
                                      "**",
                                      "*",
                                      "is ",
                                      "：",
                                      "choice ",
                                      "option ",
                                      "the ",
                                      "thus ",
                                      "\\boxed",
                                      "=",
                                      NULL};
  for (int i = 0; i < 6; i++) {
    size_t before = t.n;
    t = text_trim(t);
    for (int k = 0; heads[k]; k++) {
      text head = {heads[k], strlen(heads[k])};
      if (t.n >= head.n && text_find_fold((text){t.s, head.n}, head, false) == 0)
        t = text_from(t, head.n);
    }
    if (t.n == before) break;
  }
  return text_trim(t);
}

// What follows a phrase, up to the end of the sentence; formulas without their signs.
static text behind_phrase(cft_grader *g, text t) {
  text bold = text_trim(text_begins(text_trim(t), T(":")) ? text_from(text_trim(t), 1) : t);
  if (text_begins(bold, T("**"))) {
    int64_t close = text_find(text_from(bold, 2), T("**"));
    if (close > 0 && close <= SHORT &&
        text_find(text_slice(bold, 2, 2 + (size_t)close), T("\n")) == NOWHERE)
      return text_trim(text_slice(bold, 2, 2 + (size_t)close));
  }
  t = without_head(t);
  text inside;
  size_t end;
  if (formula_at(t, &inside, &end)) {
    text all = inside;
    for (int i = 0; i < 8; i++) {  // $1$ and $2$
      t = text_from(t, end);
      size_t gap = 0;
      while (gap < t.n && gap < BETWEEN && t.s[gap] != '$' && t.s[gap] != '\\') gap++;
      if (!only_joins((text){t.s, gap}) || !formula_at(text_from(t, gap), &inside, &end)) break;
      if (all.n + inside.n > CFT_GRADE_ANSWER_BYTES) break;
      all = text_join(g, all, T(", "), inside);
      end += gap;
    }
    return all;
  }
  t.n = sentence_end(t);
  static const char *const ends[] = {", so ",     " because ", " since ",   ", which ", ", as ",
                                     " (because", ", where ",  ", because", " when ",   NULL};
  for (int i = 0; ends[i]; i++) {
    int64_t at = text_find(t, (text){ends[i], strlen(ends[i])});
    if (at > 0) t.n = (size_t)at;
  }
  while (t.n && (strchr("*,;", t.s[t.n - 1]) || is_space(t.s[t.n - 1]))) t.n--;
  return t;
}

// ---- neither
// ------------------------------------------------------------------------------------------

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
    if (!formula_at(text_from(line, i), &content, &length)) {
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
  return inside->n > 0 && inside->n <= SHORT && digit;
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

static text of_the_end(text t, text reference, const char **why) {
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
  if (t.n <= SHORT && text_find(t, T("\n")) == NOWHERE && !formula && !counts) return t;
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

text extract_answer(cft_grader *g, text response, text reference, const char **why) {
  text content, end_of = text_trim(tail_of(response));
  size_t behind, end;
  int64_t at = last_box(response, &behind);
  int64_t final = text_find_fold(end_of, T("final answer is"), true);
  bool later = final != NOWHERE && (at == NOWHERE || end_of.s + final > response.s + at);
  if (at != NOWHERE && !later) {
    *why = "the last box";
    if (!box_content(response, behind, &content, &end)) {
      *why = "the last box is not closed";
      return T("");
    }
    if (!text_trim(content).n) *why = "the last box is empty";
    return with_boxes_before(g, response, (size_t)at, content);
  }
  if (last_phrase(end_of, &behind) != NOWHERE) {
    *why = "what follows \"answer is\"";
    content = behind_phrase(g, text_from(end_of, behind));
    if (content.n) return content;
  }
  return of_the_end(end_of, text_trim(reference), why);
}
