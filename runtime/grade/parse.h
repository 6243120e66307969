// parse.h - between parse.c (lists and relations), parse_sum.c (sums, products, powers) and
// parse_primary.c (what stands in them).
#ifndef CFT_GRADE_PARSE_H
#define CFT_GRADE_PARSE_H

#include "grade/expr.h"

typedef struct parser {
  cft_grader *g;
  text t;
  size_t at;
  int depth;           // of nested calls
  int brackets, bars;  // that are open
  bool commas_group;   // 1,234 is one number, outside of brackets
  bool units;          // words behind a value are its unit; plain words may be functions
  const char *why;     // the first reason of a failure
} parser;

// A list of nodes that grows, in the grader's memory.
typedef struct nodes {
  expr **at;
  int n, room;
} nodes;
void nodes_push(parser *p, nodes *list, expr *e);
expr *nodes_joined(parser *p, expr_kind kind, nodes list);  // the only one, or one of this kind

expr *parse_fail(parser *p, const char *why);  // NULL
void parse_skip(parser *p);
char parse_peek(parser *p);  // behind spaces; 0 at the end
bool parse_take(parser *p, char c);
text parse_command(parser *p);
bool parse_take_command(parser *p, text name);
bool parse_take_separator(parser *p);
int parse_take_relation(parser *p);  // -1 where none stands here

bool parse_take_conjunction(parser *p);  // "and" or "or", plain or in \\text
text parse_letters_at(parser *p, size_t at);

bool parse_take_unit(parser *p, text *out);  // the words of a unit, if there are some
expr *parse_with_unit(parser *p, expr *e);   // e, or e with what follows it

bool parse_digits_at(text t, size_t at, size_t n);  // n digits stand there
expr *parse_number(parser *p);

expr *parse_list(parser *p, char open);
expr *parse_sum(parser *p);
expr *parse_product(parser *p);
expr *parse_power(parser *p);
expr *parse_postfix(parser *p);
expr *parse_matrix(parser *p);  // behind \\begin
expr *parse_group(parser *p);   // {...}, or one sign as LaTeX takes it

#endif
