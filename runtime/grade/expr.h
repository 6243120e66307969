// expr.h - an answer as a tree.
#ifndef CFT_GRADE_EXPR_H
#define CFT_GRADE_EXPR_H

#include "grade/grade_impl.h"

// Bytes below the space that cleaned text uses (clean.c); others of them become spaces there.
enum { TEXT_BEGIN = 1, TEXT_END = 2, DEGREE_SIGN = 3, MONEY_SIGN = 4, GROUP_COMMA = 5 };

typedef enum expr_kind {
  X_NUMBER,      // name: its digits, without point and leading zeros; scale: times 10^scale
  X_VARIABLE,    // name
  X_CONSTANT,    // op: expr_constant
  X_ADD,         // items
  X_MULTIPLY,    // items
  X_DIVIDE,      // items: 2
  X_POWER,       // items: 2
  X_NEGATE,      // items: 1
  X_PLUS_MINUS,  // items: 2, or 1; op: '+' for \pm, '-' for \mp
  X_CALL,        // op: expr_function; items: 1, or 2 where it has a base, an index, a pair
  X_PERCENT,     // items: 1
  X_DEGREE,      // items: 1
  X_UNIT,        // items: 1; name: the unit as written, "$" for money
  X_BASE,        // name: digits; items: 1, the base
  X_LIST,        // items; open, close: its brackets, 0 where there are none
  X_SET,         // items
  X_MATRIX,      // items, rows, columns
  X_RELATION,    // items; ops: one between two of them
  X_UNION,       // items
  X_INTERSECT,   // items
  X_TEXT,        // name: words
} expr_kind;

typedef enum expr_constant { C_PI, C_E, C_I, C_INFINITY, C_EMPTY, C_REALS } expr_constant;

typedef enum expr_function {
  F_SIN,
  F_COS,
  F_TAN,
  F_COT,
  F_SEC,
  F_CSC,
  F_ASIN,
  F_ACOS,
  F_ATAN,
  F_SINH,
  F_COSH,
  F_TANH,
  F_LN,
  F_LOG,
  F_LG,
  F_EXP,
  F_SQRT,
  F_CBRT,
  F_ROOT,
  F_ABS,
  F_FLOOR,
  F_CEIL,
  F_FACTORIAL,
  F_BINOMIAL,
  F_GCD,
  F_LCM,
  F_MAX,
  F_MIN,
  F_NONE,
} expr_function;

typedef enum expr_relation {
  R_EQUAL,
  R_LESS,
  R_MORE,
  R_LESS_EQUAL,
  R_MORE_EQUAL,
  R_UNEQUAL,
  R_IN,
  R_ABOUT,
  R_OTHER
} expr_relation;

typedef struct expr {
  expr_kind kind;
  int op, n, rows, columns;
  char open, close;
  bool mixed;  // X_ADD: a whole number and a fraction behind it, 1 4/5
  int64_t scale;
  text name;
  struct expr **items;
  uint8_t *ops;
} expr;

// LaTeX, Unicode and plain writing made one: spacing, sizes and fonts gone, \dfrac as \frac, signs
// as LaTeX or ASCII, text in TEXT_BEGIN..TEXT_END.
text clean_latex(cft_grader *g, text t);

// The tree of a cleaned text, or NULL with *why where it has none.
//   commas_group  1,234 is one number; else it is two
expr *parse_answer(cft_grader *g, text cleaned, bool commas_group, const char **why);

// The same of the first relation of a text, whatever follows it; words are products of letters.
expr *parse_beginning(cft_grader *g, text cleaned, const char **why);

expr *expr_new(cft_grader *g, expr_kind kind, int n, ...);  // n items

// Words: a function's name; a constant's (-1: none); a unit that we know. Plain words, no
// backslash.
expr_function function_named(text word);
int constant_named(text word);
bool is_unit_word(text word);

// What a unit is: its dimension ("length", NULL: unknown) and how many of the dimension's first
// unit it is. `power` multiplies dimensions: cm^2.
typedef struct unit_meaning {
  const char *dimension;
  double factor;
  int power;
} unit_meaning;
unit_meaning unit_named(cft_grader *g, text name);

// ---- exact fractions --------------------------------------------------------------------------

typedef __int128 wide;
typedef struct fraction {
  wide over, under;  // lowest terms, under > 0
} fraction;

// The value of a tree without variables, roots and functions. False where it has some, or where
// 127 bits are too few.
bool expr_fraction(cft_grader *g, const expr *e, fraction *out);
bool fraction_equal(fraction a, fraction b);
// a - b, a / b and so on for those that know both; false on overflow or division by 0.
bool fraction_subtract(fraction *out, fraction a, fraction b);
bool fraction_multiply(fraction *out, fraction a, fraction b);
bool fraction_divide(fraction *out, fraction a, fraction b);
int fraction_sign(fraction a);

// ---- balls ------------------------------------------------------------------------------------

// Is a - b zero wherever both are defined? Right if it is so at points drawn by a fixed rule, to 24
// digits; wrong if it is proven at one that it is not; else unknown, as where the library is
// missing.
verdict balls_equal(cft_grader *g, const expr *a, const expr *b);

// Is a / b one constant, not 0? So it is where a = 0 and b = 0 are the same equation.
verdict balls_proportional(cft_grader *g, const expr *a, const expr *b);

// The value of a tree without variables, to a double's precision. False and *why where it has none.
bool balls_value(cft_grader *g, const expr *e, double *re, double *im, const char **why);
void balls_release(struct balls *b);

#endif
