// compare.c - an answer against the reference, in the modes `symbolic` and `strict`: equal texts,
// choices, words, then trees.
#include "grade/compare.h"

// ---- texts ------------------------------------------------------------------------------------

static text without_spaces(cft_grader *g, text t) {
  writer w = writer_new(g, t.n);
  for (size_t i = 0; i < t.n; i++)
    if (!is_space(t.s[i])) write_byte(&w, t.s[i]);
  return written(&w);
}

// Words in lower case, parted by single spaces, without punctuation and articles at their head.
static text plain_words(cft_grader *g, text t) {
  writer w = writer_new(g, t.n);
  for (size_t i = 0; i < t.n; i++) {
    char c = t.s[i];
    bool part = is_letter(c) || is_digit(c) || (c & 0x80);
    bool inside = (c == '-' || c == '.' || c == '/') && w.n && i + 1 < t.n && is_digit(t.s[i + 1]);
    if (part || inside)
      write_byte(&w, lower(c));
    else if (c == '\'')
      continue;
    else if (w.n && w.s[w.n - 1] != ' ')
      write_byte(&w, ' ');
  }
  text out = text_trim(written(&w));
  static const char *const articles[] = {"the ", "a ", "an "};
  for (int i = 0; i < 3; i++) {
    text article = {articles[i], strlen(articles[i])};
    if (text_begins(out, article)) return text_trim(text_from(out, article.n));
  }
  return out;
}

verdict compare_words(cft_grader *g, text answer, text reference) {
  text a = plain_words(g, answer), r = plain_words(g, reference);
  if (!r.n) return unknown("no words in the reference");
  return text_is(a, r) ? right("the same words") : wrong("other words");
}

// Whether a cleaned text is words alone, so that letters are no variables.
static bool is_words(text t) {
  size_t longest = 0, run = 0;
  bool in_text = false, any_text = false;
  for (size_t i = 0; i < t.n; i++) {
    char c = t.s[i];
    if (c == TEXT_BEGIN)
      in_text = any_text = true;
    else if (c == TEXT_END)
      in_text = false;
    else if (in_text)
      continue;
    else if (is_letter(c) || (c & 0x80))
      longest = ++run > longest ? run : longest;
    else if (is_space(c) || c == ',' || c == '.' || c == '\'' || c == '"' || c == '-' || c == ';')
      run = 0;
    else
      return false;
  }
  if (any_text) return true;
  text word = text_trim(t);
  return longest >= 3 && function_named(word) == F_NONE && constant_named(word) < 0;
}

// ---- choices ----------------------------------------------------------------------------------

static bool is_choice_letter(char c) { return c >= 'A' && c <= 'J'; }

// The letter that a reference is: C, (C), \text{(C)}; 0: it is no choice.
static char choice_of_reference(text t) {
  char letter = 0;
  for (size_t i = 0; i < t.n; i++) {
    char c = t.s[i];
    if (is_choice_letter(c) && !letter)
      letter = c;
    else if (c != '(' && c != ')' && c != '.' && c != TEXT_BEGIN && c != TEXT_END && !is_space(c))
      return 0;
  }
  return letter;
}

static bool is_edge(text t, size_t i) {
  return i >= t.n || !(is_letter(t.s[i]) || is_digit(t.s[i]) || t.s[i] == '\'' || (t.s[i] & 0x80));
}

// The letter that an answer names: at its head (C, (C), C. words, C: words), else the only one that
// stands alone behind "option", "choice" or "answer". 0 where there is none or more than one.
static char choice_of_answer(text t, const char **why) {
  size_t i = 0;
  *why = "no choice is named";
  while (i < t.n && (t.s[i] == '(' || t.s[i] == '[' || t.s[i] == '{' || t.s[i] == TEXT_BEGIN ||
                     t.s[i] == '*' || is_space(t.s[i])))
    i++;
  bool bracket = i > 0 && (t.s[i - 1] == '(' || t.s[i - 1] == '[' || t.s[i - 1] == '{');
  bool named = false;
  static const char *const heads[] = {"option", "choice", "answer", NULL};
  for (int k = 0; heads[k]; k++) {
    text head = {heads[k], strlen(heads[k])};
    text rest = text_from(t, i);
    if (rest.n > head.n && text_find_fold((text){rest.s, head.n}, head, false) == 0) {
      i += head.n, named = true;
      while (i < t.n && !is_letter(t.s[i])) i++;
      bracket = i > 0 && t.s[i - 1] == '(';
    }
  }
  if (i >= t.n) return 0;
  char letter = t.s[i];
  bool alone = is_edge(t, i + 1);
  char next = 0;
  for (size_t k = i + 1; k < t.n && !next; k++)
    if (!is_space(t.s[k]) && t.s[k] != TEXT_END) next = t.s[k];
  bool ended = named || !next || next == ')' || next == '.' || next == ':' || next == ']' ||
               next == '}' || next == '*' || next == '-' || next == '\\';
  if (!alone || !(ended || bracket)) return 0;
  if (!is_upper(letter)) letter = next && !bracket ? 0 : (char)(letter - 32);
  if (!is_choice_letter(letter)) return 0;
  for (size_t k = i + 1; k + 1 < t.n; k++)  // (A) and (B): two
    if (t.s[k] == '(' && is_choice_letter(t.s[k + 1]) && is_edge(t, k + 2) &&
        t.s[k + 1] != letter) {
      *why = "more than one choice is named";
      return 0;
    }
  for (size_t k = i + 1; k < t.n && k < i + 3; k++)  // A, B
    if ((t.s[k] == ',' || t.s[k] == '/') && k + 1 < t.n && !named) {
      *why = "more than one choice is named";
      return 0;
    }
  return letter;
}

static verdict choices(text answer, char reference) {
  const char *why;
  char letter = choice_of_answer(answer, &why);
  if (!letter) return wrong(why);
  return letter == reference ? right("the same choice") : wrong("another choice");
}

// ---- the whole --------------------------------------------------------------------------------

// The only number in a sentence that does not take it back: "Verna received $7.00 in change".
static bool only_number(text t, text *out) {
  static const char *const doubts[] = {
      "not",     "n't",    "less",      "more",     "greater", "least", "most", "between",
      "except",  " or ",   "no ",       "never",    "above",   "below", "over", "under",
      "neither", "cannot", "hundred",   "thousand", "illion",  "dozen", "half", "twice",
      "double",  "wrong",  "incorrect", "unless",   NULL};
  for (int i = 0; doubts[i]; i++)
    if (text_find_fold(t, (text){doubts[i], strlen(doubts[i])}, false) != NOWHERE) return false;
  int numbers = 0, words = 0;
  for (size_t i = 0; i < t.n;) {
    size_t begin = i;
    if (is_digit(t.s[i])) {
      while (i < t.n && (is_digit(t.s[i]) ||
                         ((t.s[i] == ',' || t.s[i] == '.') && i + 1 < t.n && is_digit(t.s[i + 1]))))
        i++;
      if (begin > 0 && t.s[begin - 1] == '-') begin--;
      *out = text_slice(t, begin, i);
      numbers++;
    } else if (is_letter(t.s[i])) {
      while (i < t.n && is_letter(t.s[i])) i++;
      words += i - begin >= 2;
    } else if (strchr("^_/\\{}=+", t.s[i])) {
      return false;  // more than a sentence
    } else {
      i++;
    }
  }
  return numbers == 1 && words >= 2;
}

// ---- the whole --------------------------------------------------------------------------------

// Both texts as trees, compared.
static verdict as_trees(cft_grader *g, text answer, text reference, bool commas_group) {
  const char *why;
  expr *r = parse_answer(g, reference, commas_group, &why);
  if (!r) return unknown(why);
  text number;
  const expr *plain = r->kind == X_NEGATE || r->kind == X_PERCENT ? r->items[0] : r;
  bool sentence = lenient(g) && plain->kind == X_NUMBER && only_number(answer, &number);
  expr *a = parse_answer(g, sentence ? number : answer, commas_group, &why);
  if (a && sentence) {
    verdict v = compare_trees(g, a, r);
    if (v.is == CFT_GRADE_RIGHT) v.why = "the only number of a sentence";
    return v;
  }
  return a ? compare_trees(g, a, r) : unknown(why);
}

static bool has_comma(text t) { return text_find(t, T(",")) != NOWHERE; }

verdict compare_answers(cft_grader *g, text answer, text reference) {
  if (!text_trim(reference).n) return unknown("there is no reference");
  text a = clean_latex(g, answer), r = clean_latex(g, reference);
  if (!text_trim(answer).n || !a.n) return wrong("the answer is empty");
  if (!r.n) return unknown("there is no reference");
  if (text_is(without_spaces(g, a), without_spaces(g, r))) return right("the same text");
  char choice = choice_of_reference(r);
  if (choice) return choices(a, choice);
  if (is_words(r)) {
    verdict v = compare_words(g, a, r);
    bool in_part = text_count(r, T("\001")) > 0 && !is_words(a);  // \text{Area} = 5
    if (v.is == CFT_GRADE_RIGHT || !in_part) return v;
  } else if (is_words(a) && !text_count(a, T("\001"))) {
    return wrong("words where the reference is mathematics");
  }
  verdict v = as_trees(g, a, r, true);
  if (v.is != CFT_GRADE_RIGHT && has_comma(a) && has_comma(r)) {
    verdict listed = as_trees(g, a, r, false);
    if (listed.is == CFT_GRADE_RIGHT) return listed;
  }
  return v;
}
