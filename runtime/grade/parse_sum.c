// parse_sum.c - sums, products and powers: what stands between the parts of parse_primary.c.
#include "grade/parse.h"

static int take_sum_sign(parser *p) {
  char c = parse_peek(p);
  if (c == '+' || c == '-') {
    p->at++;
    return c;
  }
  if (parse_take_command(p, T("pm"))) return 'p';
  if (parse_take_command(p, T("mp"))) return 'm';
  return 0;
}

static expr *signed_by(parser *p, int sign, expr *e) {
  if (sign == '-') return expr_new(p->g, X_NEGATE, 1, e);
  if (sign != 'p' && sign != 'm') return e;
  expr *both = expr_new(p->g, X_PLUS_MINUS, 1, e);
  both->op = sign == 'p' ? '+' : '-';
  return both;
}

expr *parse_sum(parser *p) {
  nodes list = {0};
  grade_step(p->g);
  if (++p->depth > 2 * GRADE_DEPTH) return parse_fail(p, "brackets nested too deep");
  int sign = take_sum_sign(p);
  for (int signs = 0;; signs++) {
    for (int more; (more = take_sum_sign(p)) != 0;) {  // - -3
      if (++signs > 8) return parse_fail(p, "a row of signs");
      sign = more == '-' ? (sign == '-' ? '+' : '-') : more == '+' ? sign : more;
    }
    expr *e = parse_product(p);
    if (!e) return NULL;
    if ((sign == 'p' || sign == 'm') && list.n) {
      expr *both = expr_new(p->g, X_PLUS_MINUS, 2, nodes_joined(p, X_ADD, list), e);
      both->op = sign == 'p' ? '+' : '-';
      list = (nodes){0};
      nodes_push(p, &list, both);
    } else {
      nodes_push(p, &list, signed_by(p, sign, e));
    }
    size_t before = p->at;
    sign = take_sum_sign(p);
    if (!sign) {
      p->at = before;
      break;
    }
    grade_step(p->g);
  }
  p->depth--;
  return nodes_joined(p, X_ADD, list);
}

// Whether a factor may follow without a sign: 2x, 3\sqrt 2, (a)(b).
static bool begins_factor(parser *p) {
  char c = parse_peek(p);
  size_t here = p->at;
  bool conjunction = is_letter(c) && parse_take_conjunction(p);
  p->at = here;
  if (!c || conjunction) return false;
  if (is_digit(c) || is_letter(c) || c == '(' || c == '{' || c == '[') return true;
  if (c == '.') return p->at + 1 < p->t.n && is_digit(p->t.s[p->at + 1]);
  if (c == '|') return p->bars == 0;
  if (c != '\\') return false;
  static const char *const enders[] = {
      "}",   "|",     "\\",     "cup",   "cap",   "pm",    "mp",    "rangle", "rfloor", "rceil",
      "end", "rvert", "right",  "times", "cdot",  "div",   "ldots", "cdots",  "dots",   "setminus",
      "mod", "pmod",  "rbrace", "bmod",  "hline", "qquad", "over",  NULL};
  text name = parse_command(p);
  for (int i = 0; enders[i]; i++)
    if (text_is(name, (text){enders[i], strlen(enders[i])})) return false;
  size_t before = p->at;
  bool relation = parse_take_relation(p) >= 0;
  p->at = before;
  return !relation;
}

static bool is_whole(const expr *e) { return e->kind == X_NUMBER && e->scale == 0; }

// 1 4/5 and 1\frac{4}{5}: a whole number, then a fraction of whole numbers.
static bool is_mixed(const expr *whole, const expr *part) {
  return is_whole(whole) && part->kind == X_DIVIDE && is_whole(part->items[0]) &&
         is_whole(part->items[1]);
}

static expr *mixed(parser *p, expr *whole, expr *part) {
  expr *e = expr_new(p->g, X_ADD, 2, whole, part);
  e->mixed = true;
  return e;
}

static int take_product_sign(parser *p) {
  if (parse_take(p, '*')) return '*';
  if (parse_take(p, '/') || parse_take(p, ':') || parse_take_command(p, T("div"))) return '/';
  if (parse_take_command(p, T("times")) || parse_take_command(p, T("cdot")) ||
      parse_take_command(p, T("ast")))
    return '*';
  return 0;
}

expr *parse_product(parser *p) {
  nodes over = {0};
  expr *first = parse_power(p);
  if (!first) return NULL;
  nodes_push(p, &over, first);
  bool side_by_side = false;  // the last two are numbers with nothing between them
  for (;;) {
    grade_step(p->g);
    int sign = take_product_sign(p);
    if (sign) {
      int minus = take_sum_sign(p);
      if (minus == 'p' || minus == 'm') return parse_fail(p, "a sign that has no place");
      expr *e = parse_power(p);
      if (!e) return NULL;
      if (minus == '-') e = expr_new(p->g, X_NEGATE, 1, e);
      if (sign == '/') {
        expr *top = nodes_joined(p, X_MULTIPLY, over);
        bool is_mix = side_by_side && top->n == 2 && is_whole(top->items[0]) &&
                      is_whole(top->items[1]) && is_whole(e);  // 1 4/5
        if (side_by_side && !is_mix) return parse_fail(p, "two numbers side by side");
        e = is_mix ? mixed(p, top->items[0], expr_new(p->g, X_DIVIDE, 2, top->items[1], e))
                   : expr_new(p->g, X_DIVIDE, 2, top, e);
        over = (nodes){0};
        side_by_side = false;
      }
      nodes_push(p, &over, e);
      continue;
    }
    if (side_by_side) return parse_fail(p, "two numbers side by side");
    text unit;
    size_t before = p->at;
    if (p->units && parse_take_unit(p, &unit)) {
      p->at = before;
      break;
    }
    if (!begins_factor(p)) break;
    expr *last = over.at[over.n - 1];
    bool after_number = last->kind == X_NUMBER;
    expr *e = parse_power(p);
    if (!e) return NULL;
    side_by_side = after_number && e->kind == X_NUMBER;
    if (after_number && over.n == 1 && is_mixed(last, e)) {
      over.at[0] = mixed(p, last, e);
      continue;
    }
    nodes_push(p, &over, e);
  }
  if (side_by_side) return parse_fail(p, "two numbers side by side");
  expr *e = nodes_joined(p, X_MULTIPLY, over);
  return p->units ? parse_with_unit(p, e) : e;
}

expr *parse_power(parser *p) {
  expr *base = parse_postfix(p);
  if (!base) return NULL;
  parse_skip(p);
  bool stars = text_begins(text_from(p->t, p->at), T("**"));
  if (!stars && parse_peek(p) != '^') return base;
  p->at += stars ? 2 : 1;
  if (++p->depth > 2 * GRADE_DEPTH) return parse_fail(p, "powers nested too deep");
  int minus = take_sum_sign(p);
  expr *exponent = parse_group(p);
  if (!exponent) return NULL;
  if (stars && parse_peek(p) == '^') return parse_fail(p, "a power of a power");
  p->depth--;
  if (minus == '-') exponent = expr_new(p->g, X_NEGATE, 1, exponent);
  return expr_new(p->g, X_POWER, 2, base, exponent);
}
