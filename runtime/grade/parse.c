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

void nodes_push(parser *p, nodes *list, expr *e) {
  if (list->n == list->room) {
    int room = list->room ? 2 * list->room : 4;
    expr **at = grade_alloc(p->g, (size_t)room * sizeof *at);
    if (list->n) memcpy(at, list->at, (size_t)list->n * sizeof *at);
    list->at = at, list->room = room;
  }
  list->at[list->n++] = e;
}

expr *nodes_joined(parser *p, expr_kind kind, nodes list) {
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

int parse_take_relation(parser *p) {
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
    nodes_push(p, &list, e);
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
  return kind < 0 ? list.at[0] : nodes_joined(p, (expr_kind)kind, list);
}

static expr *parse_relation(parser *p) {
  nodes list = {0};
  uint8_t ops[16];
  int count = 0;
  for (;;) {
    expr *e = parse_union(p);
    if (!e) return NULL;
    nodes_push(p, &list, e);
    int op = parse_take_relation(p);
    if (op < 0) break;
    if (count == (int)sizeof ops) return parse_fail(p, "a chain of many relations");
    ops[count++] = (uint8_t)op;
  }
  if (!count) return list.at[0];
  expr *e = nodes_joined(p, X_RELATION, list);
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
    nodes_push(p, &list, e);
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
  // A point is no formula to the first of their parsers; the next, which is Python's own, passes over nothing.
  if (e && e->kind == X_LIST && e->open == '(' && parse_peek(&p) == ',') p.at = 0, e = parse_list(&p, 0);
  *why = p.why;
  return e;
}
