// parse_units.c - the words behind a value: its unit, and words of quantity.
#include "grade/parse.h"

// Units behind a value: \text{ cm}^2, square feet, dollars per day. NULL in *out where there are
// none.
bool parse_take_unit(parser *p, text *out) {
  parse_skip(p);
  size_t begin = p->at, end = begin;
  bool spaced = begin > 0 && p->t.s[begin - 1] == ' ';
  writer w = writer_new(p->g, p->t.n - begin + 1);
  for (bool first = true;; first = false) {
    while (end < p->t.n && p->t.s[end] == ' ') end++;
    char c = end < p->t.n ? p->t.s[end] : 0;
    if (c == TEXT_BEGIN) {
      size_t close = end + 1;
      while (close < p->t.n && p->t.s[close] != TEXT_END) close++;
      text words = text_trim(text_slice(p->t, end + 1, close));
      if (text_is(words, T("and")) || text_is(words, T("or"))) break;
      if (w.n) write_byte(&w, ' ');
      write_text(&w, words);
      end = close < p->t.n ? close + 1 : close;
    } else if (is_letter(c)) {
      text word = parse_letters_at(p, end);
      bool conjunction = text_is_fold(word, T("and")) || text_is_fold(word, T("or"));
      bool known = is_unit_word(word);
      bool foreign = (spaced || !first) && word.n >= 3 && constant_named(word) < 0;
      bool short_one = !first && word.n <= 2;  // of, a, m
      if (conjunction || function_named(word) != F_NONE || !(known || foreign || short_one)) break;
      if (w.n) write_byte(&w, ' ');
      write_text(&w, word);
      end += word.n;
    } else if (!first && (c == '/' || c == '.' || c == '-') && end + 1 < p->t.n &&
               (is_letter(p->t.s[end + 1]) || p->t.s[end + 1] == TEXT_BEGIN)) {
      write_byte(&w, c);
      end++;
    } else {
      break;
    }
    size_t hat = end;
    if (w.n && hat < p->t.n && p->t.s[hat] == '^') {  // cm^2, cm^{2}
      size_t stop = hat + 1;
      if (stop < p->t.n && p->t.s[stop] == '{') stop++;
      if (stop < p->t.n && is_digit(p->t.s[stop])) {
        write_byte(&w, '^');
        write_byte(&w, p->t.s[stop++]);
        if (stop < p->t.n && p->t.s[stop] == '}') stop++;
        end = stop;
      }
    }
  }
  if (!w.n) return false;
  p->at = end;
  *out = text_trim(written(&w));
  return out->n > 0;
}

// A word of quantity at the head of a unit: 5 million dollars. Its power of ten, 0 where there is
// none.
static int64_t quantity(text *unit) {
  static const struct {
    const char *word;
    int64_t power;
  } words[] = {{"hundred", 2}, {"thousand", 3}, {"million", 6}, {"billion", 9}, {"trillion", 12}};
  for (int i = 0; i < 5; i++) {
    size_t n = strlen(words[i].word);
    if (unit->n < n || !text_is_fold((text){unit->s, n}, (text){words[i].word, n})) continue;
    if (unit->n > n && unit->s[n] != ' ') continue;
    *unit = text_trim(text_from(*unit, n));
    return words[i].power;
  }
  return 0;
}

expr *parse_with_unit(parser *p, expr *e) {
  text unit;
  if (!parse_take_unit(p, &unit)) return e;
  int64_t power = quantity(&unit);
  if (power) {
    expr *ten = expr_new(p->g, X_NUMBER, 0);
    ten->name = T("1"), ten->scale = power;
    e = expr_new(p->g, X_MULTIPLY, 2, e, ten);
  }
  if (!unit.n) return e;
  if (text_is_fold(unit, T("degrees")) || text_is_fold(unit, T("degree")))
    return expr_new(p->g, X_DEGREE, 1, e);
  static const char *const percents[] = {"percent", "percentage", "pct", "per cent", "percents"};
  for (int i = 0; i < 5; i++)
    if (text_is_fold(unit, (text){percents[i], strlen(percents[i])}))
      return expr_new(p->g, X_PERCENT, 1, e);
  expr *u = expr_new(p->g, X_UNIT, 1, e);
  u->name = unit;
  return u;
}
