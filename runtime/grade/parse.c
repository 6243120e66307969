// parse.c - a cleaned answer becomes a tree, by recursive descent:
//
//   answer    = relation { (, | ; | and | or) relation }
//   relation  = union { (= | < | \in | ...) union }
//   union     = sum { (\cup | \cap) sum }
//   sum       = product { (+ | - | \pm) product }
//   product   = sign { (* | / | : | \cdot | nothing) power } [unit]
//   power     = postfix [ ^ group ]
//   postfix   = primary { ! | % | degree | _ group | ' }
//
// Depth is bounded, and every byte is read a bounded number of times.
#include <stdarg.h>

#include "grade/expr.h"
#include "grade/parse.h"

// ---- nodes ------------------------------------------------------------------------------------

expr *expr_new(cft_grader *g, expr_kind kind, int n, ...) {
  expr *e = grade_alloc(g, sizeof *e);
  *e = (expr){.kind = kind, .n = n};
  e->items = n ? grade_alloc(g, (size_t)n * sizeof *e->items) : NULL;
  va_list items;
  va_start(items, n);
  for (int i = 0; i < n; i++) e->items[i] = va_arg(items, expr *);
  va_end(items);
  return e;
}

expr *parse_fail(parser *p, const char *why) {
  if (!p->why) p->why = why;
  return NULL;
}

// A list of nodes that grows.
typedef struct nodes {
  expr **at;
  int n, room;
} nodes;

static void push(parser *p, nodes *list, expr *e) {
  if (list->n == list->room) {
    int room = list->room ? 2 * list->room : 4;
    expr **at = grade_alloc(p->g, (size_t)room * sizeof *at);
    if (list->n) memcpy(at, list->at, (size_t)list->n * sizeof *at);
    list->at = at, list->room = room;
  }
  list->at[list->n++] = e;
}

static expr *of_nodes(parser *p, expr_kind kind, nodes list) {
  if (list.n == 1) return list.at[0];
  expr *e = expr_new(p->g, kind, 0);
  e->items = list.at, e->n = list.n;
  return e;
}

// ---- reading ----------------------------------------------------------------------------------

void parse_skip(parser *p) {
  while (p->at < p->t.n && is_space(p->t.s[p->at])) p->at++;
}

char parse_peek(parser *p) {
  parse_skip(p);
  return p->at < p->t.n ? p->t.s[p->at] : 0;
}

bool parse_take(parser *p, char c) {
  if (parse_peek(p) != c) return false;
  p->at++;
  return true;
}

// The command at the reading place, without its backslash; empty where there is none.
text parse_command(parser *p) {
  if (parse_peek(p) != '\\') return T("");
  size_t end = p->at + 1;
  while (end < p->t.n && is_letter(p->t.s[end])) end++;
  if (end == p->at + 1 && end < p->t.n) end++;  // \{ \} \| and \\ itself
  return text_slice(p->t, p->at + 1, end);
}

bool parse_take_command(parser *p, text name) {
  text c = parse_command(p);
  if (!c.n || !text_is(c, name)) return false;
  p->at += 1 + c.n;
  return true;
}

text parse_letters_at(parser *p, size_t at) {
  size_t end = at;
  while (end < p->t.n && is_letter(p->t.s[end])) end++;
  return text_slice(p->t, at, end);
}

// ---- lists and relations ----------------------------------------------------------------------

// A word in \text or plain that parts elements: and, or.
bool parse_take_conjunction(parser *p) {
  size_t before = p->at;
  bool in_text = parse_take(p, TEXT_BEGIN);
  parse_skip(p);
  text word = parse_letters_at(p, p->at);
  if (text_is_fold(word, T("and")) || text_is_fold(word, T("or"))) {
    p->at += word.n;
    if (!in_text || parse_take(p, TEXT_END)) return true;
  }
  p->at = before;
  return false;
}

bool parse_take_separator(parser *p) {
  if (parse_take(p, ',') || parse_take(p, ';')) {
    parse_take_conjunction(p);
    return true;
  }
  return parse_take_conjunction(p);
}

static const struct {
  const char *sign;
  expr_relation is;
} relation_signs[] =
    {
        {"<=", R_LESS_EQUAL}, {">=", R_MORE_EQUAL}, {"!=", R_UNEQUAL}, {"==", R_EQUAL},
        {"=", R_EQUAL},       {"<", R_LESS},        {">", R_MORE},
},
  relation_commands[] = {
      {"le", R_LESS_EQUAL},    {"leq", R_LESS_EQUAL}, {"leqslant", R_LESS_EQUAL},
      {"ge", R_MORE_EQUAL},    {"geq", R_MORE_EQUAL}, {"geqslant", R_MORE_EQUAL},
      {"ne", R_UNEQUAL},       {"neq", R_UNEQUAL},    {"in", R_IN},
      {"lt", R_LESS},          {"gt", R_MORE},        {"approx", R_ABOUT},
      {"equiv", R_OTHER},      {"to", R_OTHER},       {"rightarrow", R_OTHER},
      {"sim", R_OTHER},        {"mapsto", R_OTHER},   {"subset", R_OTHER},
      {"Rightarrow", R_OTHER}, {"implies", R_OTHER},  {"mid", R_OTHER},
      {"subseteq", R_OTHER},   {"perp", R_OTHER},     {"parallel", R_OTHER},
};

// -1 where none stands here.
static int take_relation(parser *p) {
  parse_skip(p);
  text rest = text_from(p->t, p->at), name = parse_command(p);
  for (size_t i = 0; i < sizeof relation_signs / sizeof *relation_signs; i++) {
    text sign = {relation_signs[i].sign, strlen(relation_signs[i].sign)};
    if (!text_begins(rest, sign)) continue;
    p->at += sign.n;
    return relation_signs[i].is;
  }
  for (size_t i = 0; i < sizeof relation_commands / sizeof *relation_commands && name.n; i++) {
    text command = {relation_commands[i].sign, strlen(relation_commands[i].sign)};
    if (!text_is(name, command)) continue;
    p->at += 1 + name.n;
    return relation_commands[i].is;
  }
  return -1;
}

static expr *parse_union(parser *p) {
  nodes list = {0};
  int kind = -1;
  for (;;) {
    expr *e = parse_sum(p);
    if (!e) return NULL;
    push(p, &list, e);
    int next = parse_take_command(p, T("cup"))   ? X_UNION
               : parse_take_command(p, T("cap")) ? X_INTERSECT
                                                 : -1;
    if (next < 0) {
      // A U between intervals is a union.
      char last = p->at > 0 ? p->t.s[p->at - 1] : 0;
      if ((last == ')' || last == ']' || last == ' ') && parse_peek(p) == 'U' &&
          parse_letters_at(p, p->at).n == 1 && e->kind == X_LIST)
        p->at++, next = X_UNION;
    }
    if (next < 0) break;
    if (kind >= 0 && kind != next) return parse_fail(p, "unions and intersections mixed");
    kind = next;
  }
  return kind < 0 ? list.at[0] : of_nodes(p, (expr_kind)kind, list);
}

static expr *parse_relation(parser *p) {
  nodes list = {0};
  uint8_t ops[16];
  int count = 0;
  for (;;) {
    expr *e = parse_union(p);
    if (!e) return NULL;
    push(p, &list, e);
    int op = take_relation(p);
    if (op < 0) break;
    if (count == (int)sizeof ops) return parse_fail(p, "a chain of many relations");
    ops[count++] = (uint8_t)op;
  }
  if (!count) return list.at[0];
  expr *e = of_nodes(p, X_RELATION, list);
  e->ops = grade_alloc(p->g, (size_t)count);
  memcpy(e->ops, ops, (size_t)count);
  return e;
}

expr *parse_list(parser *p, char open) {
  grade_step(p->g);
  if (++p->depth > GRADE_DEPTH) return parse_fail(p, "brackets nested too deep");
  nodes list = {0};
  bool listed = false;
  for (;;) {
    expr *e = parse_relation(p);
    if (!e) return NULL;
    push(p, &list, e);
    if (!parse_take_separator(p)) break;
    listed = true;
    if (parse_peek(p) == 0 && !open) break;  // a comma at the very end
  }
  p->depth--;
  if (!listed) return list.at[0];
  expr *e = expr_new(p->g, X_LIST, 0);
  e->items = list.at, e->n = list.n, e->open = open;
  return e;
}

// ---- sums and products ------------------------------------------------------------------------

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
      expr *both = expr_new(p->g, X_PLUS_MINUS, 2, of_nodes(p, X_ADD, list), e);
      both->op = sign == 'p' ? '+' : '-';
      list = (nodes){0};
      push(p, &list, both);
    } else {
      push(p, &list, signed_by(p, sign, e));
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
  return of_nodes(p, X_ADD, list);
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
  bool relation = take_relation(p) >= 0;
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
  push(p, &over, first);
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
        expr *top = of_nodes(p, X_MULTIPLY, over);
        bool is_mix = side_by_side && top->n == 2 && is_whole(top->items[0]) &&
                      is_whole(top->items[1]) && is_whole(e);  // 1 4/5
        if (side_by_side && !is_mix) return parse_fail(p, "two numbers side by side");
        e = is_mix ? mixed(p, top->items[0], expr_new(p->g, X_DIVIDE, 2, top->items[1], e))
                   : expr_new(p->g, X_DIVIDE, 2, top, e);
        over = (nodes){0};
        side_by_side = false;
      }
      push(p, &over, e);
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
    push(p, &over, e);
  }
  if (side_by_side) return parse_fail(p, "two numbers side by side");
  expr *e = of_nodes(p, X_MULTIPLY, over);
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

// ---- the whole --------------------------------------------------------------------------------

expr *parse_answer(cft_grader *g, text cleaned, bool commas_group, const char **why) {
  parser p = {.g = g, .t = cleaned, .commas_group = commas_group, .units = true};
  expr *e = parse_list(&p, 0);
  if (e && parse_peek(&p) != 0) e = parse_fail(&p, "something follows that is no mathematics");
  *why = p.why;
  return e;
}

expr *parse_beginning(cft_grader *g, text cleaned, const char **why) {
  parser p = {.g = g, .t = cleaned, .commas_group = true};
  expr *e = parse_relation(&p);
  *why = p.why;
  return e;
}
