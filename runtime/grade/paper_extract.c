// paper_extract.c - how the evaluations of the paper and of Qwen2.5-Math take an answer out of a
// response, and what they do where the reference is a choice.
#include "grade/paper.h"
#include "grade/python.h"

// ---- extraction -------------------------------------------------------------------------------

static text boxed(text t) {
  t = behind_last(t, T("boxed"));
  if (!t.n || t.s[0] != '{') {
    int64_t dollar = text_find(t, T("$"));
    return python_strip((text){t.s, dollar == NOWHERE ? t.n : (size_t)dollar});
  }
  int64_t depth = 1;
  for (size_t i = 1; i < t.n; i++) {
    if (t.s[i] == '{') depth++;
    if (t.s[i] == '}' && --depth == 0) return text_slice(t, 1, i);
  }
  return text_from(t, 1);
}

// The last of -?\d*\.?\d+, commas aside.
static text last_number(cft_grader *g, text t) {
  text found = T("");
  if (has(t, T(","))) {
    enum { TAIL = 64 << 10 };  // the last number stands here if the text ends like one
    t = t.n > TAIL ? text_from(t, t.n - TAIL) : t;
    t = text_replace(g, t, T(","), T(""));
  }
  for (size_t i = 0; i < t.n;) {
    size_t at = i + (t.s[i] == '-'), end = at;
    while (end < t.n && is_digit(t.s[end])) end++;
    if (end + 1 < t.n && t.s[end] == '.' && is_digit(t.s[end + 1])) {
      end++;
      while (end < t.n && is_digit(t.s[end])) end++;
    }
    if (end > at) found = text_slice(t, i, end);
    i = end > at ? end : i + 1;
  }
  return found;
}

text paper_extract(cft_grader *g, text t) {
  text answer;
  if (has(t, T("\xd0\xba\xd0\xb8"))) {
    if (t.n > GRADE_MEMORY / 4) grade_stop(g, "the response is longer than is read");
    t = text_replace(g, t, T("\xd0\xba\xd0\xb8"), T(""));
  }
  if (has(t, T("final answer is $")) && has(t, T("$. I hope"))) {
    t = text_from(t, (size_t)text_find(t, T("final answer is $")) + 17);
    int64_t end = text_find(t, T("$. I hope"));
    answer = python_strip((text){t.s, end == NOWHERE ? t.n : (size_t)end});
  } else if (has(t, T("boxed"))) {
    answer = boxed(t);
    if (!behind_last(t, T("boxed")).n) return answer;
  } else if (has(t, T("he answer is"))) {
    answer = python_strip(behind_last(t, T("he answer is")));
  } else if (has(t, T("final answer is"))) {
    answer = python_strip(behind_last(t, T("final answer is")));
  } else if (has(t, T("答案是"))) {
    t = text_from(t, (size_t)text_find(t, T("答案是")) + 9);
    int64_t end = text_find(t, T("答案是"));
    if (end != NOWHERE) t.n = (size_t)end;
    t = python_strip(t);
    end = text_find(t, T("\n\n"));
    if (end != NOWHERE) t.n = (size_t)end;
    answer = python_strip(t);
  } else {
    answer = last_number(g, t);
  }
  if (answer.n > CFT_GRADE_ANSWER_BYTES) grade_stop(g, "the answer is longer than is read");
  writer w = writer_new(g, answer.n);
  for (size_t i = 0; i < answer.n; i++) {  // a new line and the blanks behind it
    write_byte(&w, answer.s[i]);
    if (answer.s[i] != '\n') continue;
    w.n--;
    text rest = text_from(answer, i + 1), left = rest;
    while (left.n && left.s[0] != '\n' && python_strip((text){left.s, 1}).n == 0)
      left = text_from(left, 1);
    i += rest.n - left.n;
  }
  answer = written(&w);
  if (text_begins(answer, T(":"))) answer = text_from(answer, 1);
  if (text_ends(answer, T("."))) answer.n--;
  if (text_ends(answer, T("/"))) answer.n--;
  return answer;
}

// ---- choices ----------------------------------------------------------------------------------

// A standalone letter A to E, whatever its case, the first or the last; 0 where there is none.
static char standalone(text t, bool last) {
  char found = 0;
  size_t length;
  for (size_t i = 0; i < t.n; i++) {
    char c = lower(t.s[i]);
    if (c < 'a' || c > 'e') continue;
    bool left = i == 0 || !word_before(t, i, &length),
         end = i + 1 == t.n || !word_at(t, i + 1, &length);
    if (!left || !end) continue;
    found = (char)(c - 32);
    if (!last) break;
  }
  return found;
}

static text one_letter(cft_grader *g, char c) {
  char *s = grade_alloc(g, 1);
  *s = c;
  return (text){s, 1};
}

static text edges(text t) {
  t = python_strip_of(t, "\n", true, true);
  t = python_strip_of(t, ".", false, true);
  t = python_strip_of(t, "/", false, true);
  t = python_strip_of(t, " ", true, true);
  return python_strip_of(t, ":", true, false);
}

static text of_letter(cft_grader *g, text t, char letter) {
  t = letter ? one_letter(g, letter) : python_strip_of(python_strip(t), ".", true, true);
  return python_strip_of(python_strip_of(t, ".", false, true), "/", false, true);
}

text paper_choice(cft_grader *g, text t) {
  t = edges(t);
  return of_letter(g, t, standalone(t, true));
}

// Of a whole response: behind the last "answer is" or "choice is" the first letter, else the last.
static text choice_of_response(cft_grader *g, text t) {
  text phrases[] = {T("choice is"), T("answer is")};
  t = python_strip_of(t, "\n", true, true);
  if (text_count(t, phrases[0]) > 1 || text_count(t, phrases[1]) > 1) {
    int64_t end = text_find(t, T("\n\n"));
    if (end != NOWHERE) t.n = (size_t)end;
  }
  int64_t a = text_find_last(t, phrases[0]), b = text_find_last(t, phrases[1]);
  bool said = a != NOWHERE || b != NOWHERE;
  if (said) t = text_from(t, (size_t)(a > b ? a : b) + 9);
  t = edges(t);
  text letter = of_letter(g, t, standalone(t, !said));
  return letter.n > CFT_GRADE_ANSWER_BYTES ? T("") : letter;
}

bool paper_all_choices(text t) {
  for (size_t i = 0; i < t.n; i++)
    if (t.s[i] < 'A' || t.s[i] > 'E') return false;
  return true;
}

text paper_choices(cft_grader *g, text answer, text reference, text response) {
  if (reference.n == 1 && paper_all_choices(reference))
    return answer.n == 1 && paper_all_choices(answer) ? answer : choice_of_response(g, response);
  if (!paper_all_choices(reference) || paper_all_choices(answer)) return answer;
  writer w = writer_new(g, answer.n);
  for (size_t i = 0; i < answer.n; i++)
    if (answer.s[i] >= 'A' && answer.s[i] <= 'E') write_byte(&w, answer.s[i]);
  return written(&w);
}
