// extract.c - where a response says its answer: the last box; else what follows the last "answer
// is"; else, where a response says neither, the last formula or number of its end.
//
// Boxes are looked for in all of a response, the others in its last TAIL bytes: an answer stands at
// the end, and a response of megabytes is read once at the speed of memory.
#include "grade/extract.h"

enum {
  TAIL = 32 << 10,
  BETWEEN = 40  // bytes between two boxes that are one answer
};

static text tail_of(text t) {
  if (t.n <= TAIL) return t;
  size_t at = t.n - TAIL;
  while (at < t.n && ((unsigned char)t.s[at] & 0xC0) == 0x80) at++;
  return text_from(t, at);
}

// ---- boxes ------------------------------------------------------------------------------------

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

// ---- phrases ----------------------------------------------------------------------------------

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
bool extract_formula_at(text t, text *inside, size_t *end) {
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
    if (close > 0 && close <= EXTRACT_SHORT &&
        text_find(text_slice(bold, 2, 2 + (size_t)close), T("\n")) == NOWHERE)
      return text_trim(text_slice(bold, 2, 2 + (size_t)close));
  }
  t = without_head(t);
  text inside;
  size_t end;
  if (extract_formula_at(t, &inside, &end)) {
    text all = inside;
    for (int i = 0; i < 8; i++) {  // $1$ and $2$
      t = text_from(t, end);
      size_t gap = 0;
      while (gap < t.n && gap < BETWEEN && t.s[gap] != '$' && t.s[gap] != '\\') gap++;
      if (!only_joins((text){t.s, gap}) || !extract_formula_at(text_from(t, gap), &inside, &end))
        break;
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
  return extract_end(end_of, text_trim(reference), why);
}
