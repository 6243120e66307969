// parse_primary.c - names, functions, brackets, matrices.
#include "grade/parse.h"

// ---- names ------------------------------------------------------------------------------------

static expr *constant(parser *p, int which) {
  expr *e = expr_new(p->g, X_CONSTANT, 0);
  e->op = which;
  return e;
}

static expr *variable(parser *p, text name) {
  if (text_is(name, T("e"))) return constant(p, C_E);
  if (text_is(name, T("i"))) return constant(p, C_I);
  expr *e = expr_new(p->g, X_VARIABLE, 0);
  e->name = name;
  return e;
}

expr *parse_group(parser *p) {
  char c = parse_peek(p);
  if (c == '{') {
    p->at++;
    expr *e = parse_list(p, 0);
    if (!e) return NULL;
    return parse_take(p, '}') ? e : parse_fail(p, "a brace that is not closed");
  }
  if (is_digit(c) &&
      (p->at == 0 || p->t.s[p->at - 1] != '*')) {  // x^12 is x^1 2 in LaTeX; nobody means that
    expr *e = parse_number(p);
    return e;
  }
  return parse_postfix(p);
}

// LaTeX's own habit in \frac12 and \sqrt2: one sign.
static expr *parse_argument(parser *p) {
  char c = parse_peek(p);
  if (!is_digit(c)) return c == '{' ? parse_group(p) : parse_postfix(p);
  expr *e = expr_new(p->g, X_NUMBER, 0);
  e->name = text_slice(p->t, p->at, p->at + 1);
  p->at++;
  return e;
}

static expr *call(parser *p, expr_function f, expr *a, expr *b) {
  expr *e = b ? expr_new(p->g, X_CALL, 2, a, b) : expr_new(p->g, X_CALL, 1, a);
  e->op = f;
  return e;
}

// The argument of a function without brackets: sin 2x, ln x; it ends before the next function.
static expr *bare_argument(parser *p) {
  expr *first = parse_power(p), *e = first;
  if (!first) return NULL;
  for (int i = 0; i < 8; i++) {
    char c = parse_peek(p);
    text name = parse_command(p);
    bool greek =
        name.n > 1 && function_named(name) == F_NONE &&
        (constant_named(name) == C_PI || text_is(name, T("theta")) || text_is(name, T("alpha")) ||
         text_is(name, T("beta")) || text_is(name, T("frac")));
    bool letter = is_letter(c) && !(p->at + 1 < p->t.n && is_letter(p->t.s[p->at + 1]));
    if (!greek && !letter) break;
    expr *next = parse_power(p);
    if (!next) return NULL;
    e = expr_new(p->g, X_MULTIPLY, 2, e, next);
  }
  return e;
}

static expr_function inverse_of(expr_function f) {
  return f == F_SIN ? F_ASIN : f == F_COS ? F_ACOS : f == F_TAN ? F_ATAN : F_NONE;
}

// Behind a function's name: an exponent, a base, an argument.
static expr *parse_call(parser *p, expr_function f) {
  expr *power = NULL, *base = NULL;
  if (++p->depth > 2 * GRADE_DEPTH) return parse_fail(p, "functions nested too deep");
  for (int i = 0; i < 2; i++) {
    if (parse_take(p, '^')) {
      bool minus = parse_take(p, '-');
      power = parse_group(p);
      if (!power) return NULL;
      if (minus) power = expr_new(p->g, X_NEGATE, 1, power);
    } else if (parse_take(p, '_')) {
      base = parse_argument(p);
      if (!base) return NULL;
    }
  }
  expr *a = NULL, *b = NULL;
  char c = parse_peek(p);
  if (c == '(' || c == '[' || (c == '{' && f != F_SQRT)) {
    p->at++;
    a = parse_list(p, 0);
    if (!a) return NULL;
    if (!parse_take(p, c == '(' ? ')' : c == '[' ? ']' : '}'))
      return parse_fail(p, "a bracket that is not closed");
    bool pair = f == F_GCD || f == F_LCM || f == F_MAX || f == F_MIN || f == F_BINOMIAL ||
                (f == F_LOG && !base);
    if (a->kind == X_LIST && a->n == 2 && pair) b = a->items[1], a = a->items[0];
    if (f == F_BINOMIAL && !b && parse_peek(p) == '{' && !(b = parse_group(p))) return NULL;
  } else if (f == F_SQRT && c == '{') {
    a = parse_group(p);
  } else {
    a = bare_argument(p);
  }
  if (!a) return NULL;
  p->depth--;
  if (f == F_LOG && base) b = base;
  bool inverse = power && power->kind == X_NEGATE && inverse_of(f) != F_NONE &&
                 power->items[0]->kind == X_NUMBER && text_is(power->items[0]->name, T("1"));
  if (inverse) return call(p, inverse_of(f), a, NULL);
  expr *e = call(p, f, a, b);
  return power ? expr_new(p->g, X_POWER, 2, e, power) : e;
}

// Plain letters: a function, a constant, or a product of variables.
static expr *parse_letters(parser *p) {
  size_t end = p->at;
  while (end < p->t.n && is_letter(p->t.s[end])) end++;
  text run = text_slice(p->t, p->at, end);
  if (run.n > 1 && p->units) {
    for (size_t n = run.n; n >= 2; n--) {  // the longest known word at its start
      text word = {run.s, n};
      if (function_named(word) != F_NONE && n >= 2) {
        p->at += n;
        return parse_call(p, function_named(word));
      }
      if (constant_named(word) >= 0 && n == run.n) {
        p->at += n;
        return constant(p, constant_named(word));
      }
    }
  }
  p->at++;
  return variable(p, (text){run.s, 1});
}

// ---- commands ---------------------------------------------------------------------------------

static expr *parse_fraction(parser *p) {
  expr *over = parse_argument(p);
  if (!over) return NULL;
  expr *under = parse_argument(p);
  return under ? expr_new(p->g, X_DIVIDE, 2, over, under) : NULL;
}

static expr *parse_root(parser *p) {
  expr *index = NULL;
  if (parse_take(p, '[')) {
    index = parse_sum(p);
    if (!index) return NULL;
    if (!parse_take(p, ']')) return parse_fail(p, "a root's index that is not closed");
  }
  char c = parse_peek(p);
  expr *of = c == '(' ? parse_postfix(p) : is_digit(c) ? parse_number(p) : parse_argument(p);
  if (!of) return NULL;
  return index ? call(p, F_ROOT, of, index) : call(p, F_SQRT, of, NULL);
}

static expr *parse_between(parser *p, expr_function f, text close) {
  expr *e = parse_list(p, 0);
  if (!e) return NULL;
  if (!parse_take_command(p, close)) return parse_fail(p, "a bracket that is not closed");
  return call(p, f, e, NULL);
}

// The letters of \mathbb and so on: R is the reals, any other a name.
static expr *parse_blackboard(parser *p) {
  bool brace = parse_take(p, '{');
  char c = parse_peek(p);
  if (!is_letter(c)) return parse_fail(p, "a letter is missing");
  text name = text_slice(p->t, p->at, p->at + 1);
  p->at++;
  if (brace && !parse_take(p, '}')) return parse_fail(p, "a brace that is not closed");
  if (c == 'R') return constant(p, C_REALS);
  expr *e = expr_new(p->g, X_VARIABLE, 0);
  e->name = text_join(p->g, T("bb"), name, T(""));
  return e;
}

static expr *parse_braces(parser *p) {  // \{ ... \}
  if (parse_take_command(p, T("}"))) return constant(p, C_EMPTY);
  p->brackets++;
  expr *e = parse_list(p, '{');
  p->brackets--;
  if (!e) return NULL;
  if (!parse_take_command(p, T("}"))) return parse_fail(p, "a brace that is not closed");
  if (e->kind == X_LIST && e->open == '{') {
    e->kind = X_SET;
    return e;
  }
  return expr_new(p->g, X_SET, 1, e);
}

static expr *parse_named_command(parser *p) {
  text name = parse_command(p);
  p->at += 1 + name.n;
  expr_function f = function_named(name);
  if (text_is(name, T("sqrt"))) return parse_root(p);
  if (text_is(name, T("frac"))) return parse_fraction(p);
  if (text_is(name, T("binom"))) {
    expr *over = parse_argument(p), *under = over ? parse_argument(p) : NULL;
    return under ? call(p, F_BINOMIAL, over, under) : NULL;
  }
  if (f != F_NONE) return parse_call(p, f);
  if (constant_named(name) >= 0) return constant(p, constant_named(name));
  if (text_is(name, T("{")) || text_is(name, T("lbrace"))) return parse_braces(p);
  if (text_is(name, T("lfloor"))) return parse_between(p, F_FLOOR, T("rfloor"));
  if (text_is(name, T("lceil"))) return parse_between(p, F_CEIL, T("rceil"));
  if (text_is(name, T("lvert"))) return parse_between(p, F_ABS, T("rvert"));
  if (text_is(name, T("|"))) return parse_between(p, F_ABS, T("|"));
  if (text_is(name, T("begin"))) return parse_matrix(p);
  if (text_is(name, T("mathbb"))) return parse_blackboard(p);
  if (text_is(name, T("langle"))) {
    expr *e = parse_list(p, '(');
    if (!e) return NULL;
    if (!parse_take_command(p, T("rangle"))) return parse_fail(p, "a bracket that is not closed");
    if (e->kind == X_LIST) e->close = ')';
    return e;
  }
  static const char *const accents[] = {
      "overline", "hat", "bar", "vec", "tilde", "widehat", "overrightarrow", "underline", NULL};
  for (int i = 0; accents[i]; i++)
    if (text_is(name, (text){accents[i], strlen(accents[i])}))
      return parse_fail(p, "an accent, which may mean anything");
  static const char *const unknown_ones[] = {
      "int", "sum", "prod", "lim", "ldots",  "cdots",  "dots", "partial", "nabla", "end", "cup",
      "cap", "}",   "\\",   "&",   "forall", "exists", "text", "mod",     "pmod",  NULL};
  for (int i = 0; unknown_ones[i]; i++)
    if (text_is(name, (text){unknown_ones[i], strlen(unknown_ones[i])}))
      return parse_fail(p, "a command that this grader does not read");
  if (name.n == 0 || !is_letter(name.s[0])) return parse_fail(p, "a backslash without a command");
  expr *e = expr_new(p->g, X_VARIABLE, 0);  // \alpha, \theta, ...
  e->name = text_is(name, T("varphi"))       ? T("phi")
            : text_is(name, T("varepsilon")) ? T("epsilon")
                                             : name;
  if (name.n == 1) e->name = text_join(p->g, T("\\"), name, T(""));
  return e;
}

// ---- brackets ---------------------------------------------------------------------------------

static expr *parse_brackets(parser *p, char open) {
  p->at++;
  if (open == '{' && parse_take(p, '}')) return constant(p, C_EMPTY);
  p->brackets++;
  expr *e = parse_list(p, open);
  p->brackets--;
  if (!e) return NULL;
  char close = parse_peek(p);
  bool fits = open == '{' ? close == '}' : close == ')' || close == ']';
  if (!fits) return parse_fail(p, "a bracket that is not closed");
  p->at++;
  if (e->kind != X_LIST || e->open != open || e->close) return e;  // (x): brackets that group
  if (open == '{') e->kind = X_SET;
  e->close = close;
  return e;
}

static expr *parse_bars(parser *p) {
  p->at++;
  p->bars++;
  expr *e = parse_sum(p);
  p->bars--;
  if (!e) return NULL;
  return parse_take(p, '|') ? call(p, F_ABS, e, NULL) : parse_fail(p, "a bar that is not closed");
}

static expr *parse_text(parser *p) {
  p->at++;
  size_t begin = p->at;
  while (p->at < p->t.n && p->t.s[p->at] != TEXT_END) p->at++;
  expr *e = expr_new(p->g, X_TEXT, 0);
  e->name = text_trim(text_slice(p->t, begin, p->at));
  parse_take(p, TEXT_END);
  return e;
}

static expr *parse_primary(parser *p) {
  grade_step(p->g);
  char c = parse_peek(p);
  if (is_digit(c) || c == '.') return parse_number(p);
  if (is_letter(c)) return parse_letters(p);
  if (c == '(' || c == '[' || c == '{') return parse_brackets(p, c);
  if (c == '\\') return parse_named_command(p);
  if (c == '|') return parse_bars(p);
  if (c == TEXT_BEGIN) return parse_text(p);
  if (c == MONEY_SIGN) {
    p->at++;
    bool minus = parse_take(p, '-');
    expr *e = parse_power(p);
    if (!e) return NULL;
    if (minus) e = expr_new(p->g, X_NEGATE, 1, e);
    e = expr_new(p->g, X_UNIT, 1, e);
    e->name = T("$");
    return e;
  }
  return parse_fail(p, c ? "a sign that has no place" : "something is missing at the end");
}

// x_1, x_{12}; 52_8 is a number in base 8.
static expr *parse_subscript(parser *p, expr *e) {
  size_t begin = p->at;
  if (parse_peek(p) == '{') {
    int depth = 0;
    for (; p->at < p->t.n; p->at++) {
      if (p->t.s[p->at] == '{') depth++;
      if (p->t.s[p->at] == '}' && --depth == 0) break;
    }
    if (!parse_take(p, '}')) return parse_fail(p, "a brace that is not closed");
  } else if (e->kind == X_NUMBER) {
    while (parse_digits_at(p->t, p->at, 1)) p->at++;
  } else if (p->at < p->t.n) {
    p->at++;
  }
  text sub = text_trim(text_slice(p->t, begin, p->at));
  if (text_begins(sub, T("{")) && text_ends(sub, T("}")) && sub.n > 1)
    sub = text_trim(text_slice(sub, 1, sub.n - 1));
  if (!sub.n) return parse_fail(p, "an empty subscript");
  if (e->kind == X_NUMBER) {
    if (e->scale > 0 || !parse_digits_at(sub, 0, sub.n))
      return parse_fail(p, "a subscript of a number");
    expr *base = expr_new(p->g, X_NUMBER, 0), *number = expr_new(p->g, X_BASE, 1, base);
    base->name = sub, number->name = e->name, number->scale = e->scale;
    return number;
  }
  if (e->kind != X_VARIABLE && e->kind != X_CONSTANT) return parse_fail(p, "a subscript");
  expr *v = expr_new(p->g, X_VARIABLE, 0);
  v->name = text_join(p->g, e->kind == X_VARIABLE ? e->name : T("const"), T("_"), sub);
  return v;
}

expr *parse_postfix(parser *p) {
  expr *e = parse_primary(p);
  for (int i = 0; e && i < 16; i++) {
    char c = parse_peek(p);
    text rest = text_from(p->t, p->at);
    if (c == '!' && !text_begins(rest, T("!="))) {
      p->at++;
      e = call(p, F_FACTORIAL, e, NULL);
    } else if (c == '%') {
      p->at++;
      e = expr_new(p->g, X_PERCENT, 1, e);
    } else if (c == DEGREE_SIGN) {
      p->at++;
      e = expr_new(p->g, X_DEGREE, 1, e);
    } else if (c == '_') {
      p->at++;
      e = parse_subscript(p, e);
    } else if (c == '\'' && e->kind == X_VARIABLE) {
      p->at++;
      expr *v = expr_new(p->g, X_VARIABLE, 0);
      v->name = text_join(p->g, e->name, T("'"), T(""));
      e = v;
    } else {
      break;
    }
  }
  return e;
}
