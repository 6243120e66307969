// text.c - borrowed texts, and the grader's memory.
#include <stdlib.h>

#include "grade/grade_impl.h"

void grade_stop(cft_grader *g, const char *reason) {
  g->stop_reason = reason;
  longjmp(g->stop, 1);
}

void *grade_alloc(cft_grader *g, size_t n) {
  size_t want = (n + 15) & ~(size_t)15;
  if (want < n || want > GRADE_MEMORY - g->used) grade_stop(g, "more text than a grading may make");
  char *p = g->memory + g->used;
  g->used += want;
  return p;
}

int64_t text_find(text a, text what) {
  if (what.n > a.n) return NOWHERE;
  const char *p = memmem(a.s, a.n, what.s, what.n);
  return p ? p - a.s : NOWHERE;
}

int64_t text_find_last(text a, text what) {
  if (what.n == 0 || what.n > a.n) return NOWHERE;
  for (size_t i = a.n - what.n + 1; i-- > 0;)
    if (a.s[i] == what.s[0] && memcmp(a.s + i, what.s, what.n) == 0) return (int64_t)i;
  return NOWHERE;
}

static bool begins_fold(const char *s, text what) {
  for (size_t i = 0; i < what.n; i++)
    if (lower(s[i]) != what.s[i]) return false;
  return true;
}

int64_t text_find_fold(text a, text what, bool last) {
  if (what.n > a.n) return NOWHERE;
  size_t places = a.n - what.n + 1;
  for (size_t k = 0; k < places; k++) {
    size_t i = last ? places - 1 - k : k;
    if (lower(a.s[i]) == what.s[0] && begins_fold(a.s + i, what)) return (int64_t)i;
  }
  return NOWHERE;
}

text text_trim(text a) {
  while (a.n && is_space(a.s[0])) a = text_from(a, 1);
  while (a.n && is_space(a.s[a.n - 1])) a.n--;
  return a;
}

bool text_is_fold(text a, text b) {
  if (a.n != b.n) return false;
  for (size_t i = 0; i < a.n; i++)
    if (lower(a.s[i]) != lower(b.s[i])) return false;
  return true;
}

size_t text_count(text a, text what) {
  size_t count = 0;
  for (int64_t at; (at = text_find(a, what)) != NOWHERE; a = text_from(a, (size_t)at + what.n))
    count++;
  return count;
}

writer writer_new(cft_grader *g, size_t room) {
  return (writer){g, grade_alloc(g, room + 1), 0, room};
}

void write_text(writer *w, text t) {
  if (t.n > w->room - w->n) grade_stop(w->g, "more text than a grading may make");
  if (t.n) memcpy(w->s + w->n, t.s, t.n);
  w->n += t.n;
}

void write_byte(writer *w, char c) { write_text(w, (text){&c, 1}); }

text text_replace(cft_grader *g, text a, text what, text with) {
  size_t count = text_count(a, what);
  if (count == 0) return a;
  writer w = writer_new(g, a.n + count * with.n);
  for (int64_t at; (at = text_find(a, what)) != NOWHERE; a = text_from(a, (size_t)at + what.n)) {
    write_text(&w, (text){a.s, (size_t)at});
    write_text(&w, with);
  }
  write_text(&w, a);
  return written(&w);
}

text text_join(cft_grader *g, text a, text b, text c) {
  writer w = writer_new(g, a.n + b.n + c.n);
  write_text(&w, a);
  write_text(&w, b);
  write_text(&w, c);
  return written(&w);
}

// Blocks above ASCII that hold punctuation, symbols, spaces, controls or private use.
static const uint32_t not_words[][2] = {
    {0x80, 0xA9},       {0xAB, 0xB1},       {0xB4, 0xB4},        {0xB6, 0xB8},     {0xBB, 0xBB},
    {0xBF, 0xBF},       {0xD7, 0xD7},       {0xF7, 0xF7},        {0x2C2, 0x2C5},   {0x2D2, 0x2DF},
    {0x300, 0x36F},     {0x37E, 0x37E},     {0x2000, 0x206F},    {0x207A, 0x207E}, {0x208A, 0x208E},
    {0x20A0, 0x2101},   {0x2190, 0x245F},   {0x249C, 0x24E9},    {0x2500, 0x2775}, {0x2794, 0x2BFF},
    {0x3000, 0x3004},   {0x3008, 0x3020},   {0x3030, 0x3030},    {0xD800, 0xF8FF}, {0xFE10, 0xFE6F},
    {0xFF01, 0xFF0F},   {0xFF1A, 0xFF20},   {0xFF3B, 0xFF40},    {0xFF5B, 0xFF65}, {0xFFE0, 0xFFFF},
    {0x1F000, 0x1F0FF}, {0x1F110, 0x1FBEF}, {0xE0000, 0x10FFFF},
};

bool is_word_point(uint32_t cp) {
  for (size_t i = 0; i < sizeof not_words / sizeof *not_words; i++)
    if (cp >= not_words[i][0] && cp <= not_words[i][1]) return false;
  return true;
}
