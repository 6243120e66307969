// parse_matrix.c - matrices and columns: \begin{pmatrix} a & b \\ c & d \end{pmatrix}.
#include "grade/parse.h"

static bool matrix_named(text name) {
  static const char *const names[] = {"pmatrix", "bmatrix", "matrix",      "vmatrix",
                                      "array",   "Bmatrix", "smallmatrix", NULL};
  for (int i = 0; names[i]; i++)
    if (text_is(name, (text){names[i], strlen(names[i])})) return true;
  return false;
}

// {name} behind \begin or \end.
static bool take_environment(parser *p, text *name) {
  if (!parse_take(p, '{')) return false;
  size_t begin = p->at;
  while (p->at < p->t.n && p->t.s[p->at] != '}') p->at++;
  *name = text_slice(p->t, begin, p->at);
  return parse_take(p, '}');
}

enum { MATRIX_CELLS = 256 };

expr *parse_matrix(parser *p) {
  text name, end;
  if (!take_environment(p, &name) || !matrix_named(name))
    return parse_fail(p, "an environment that is no matrix");
  if (text_is(name, T("array")) && parse_peek(p) == '{') {
    while (p->at < p->t.n && p->t.s[p->at] != '}') p->at++;
    parse_take(p, '}');
  }
  if (++p->depth > GRADE_DEPTH) return parse_fail(p, "brackets nested too deep");
  expr *e = expr_new(p->g, X_MATRIX, 0);
  e->items = grade_alloc(p->g, MATRIX_CELLS * sizeof *e->items);
  int columns = 0;
  for (;;) {
    if (parse_take_command(p, T("end"))) break;
    if (parse_take_command(p, T("hline"))) continue;
    if (e->n == MATRIX_CELLS) return parse_fail(p, "a matrix of too many cells");
    expr *cell = parse_list(p, 0);
    if (!cell) return NULL;
    e->items[e->n++] = cell;
    columns++;
    if (parse_take(p, '&')) continue;
    if (e->columns && columns != e->columns) return parse_fail(p, "rows of unequal length");
    e->columns = columns, columns = 0, e->rows++;
    if (parse_take_command(p, T("\\"))) continue;
    if (!parse_take_command(p, T("end"))) return parse_fail(p, "a matrix that does not end");
    break;
  }
  p->depth--;
  if (!take_environment(p, &end) || columns) return parse_fail(p, "a matrix that does not end");
  if (e->n == 0) return parse_fail(p, "an empty matrix");
  return e;
}
