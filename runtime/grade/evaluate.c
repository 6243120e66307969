// evaluate.c - the value of an expression at a point, in ball arithmetic. Sizes are bounded before
// each call, so that none takes long.
#include <math.h>
#include <stdlib.h>

#include "grade/balls.h"

static const double MOST_LOG2 = 1e6;  // of a value: 2^1000000
static const long MOST_DIGITS = 600, MOST_SCALE = 20000;

static bool no(struct balls *b, const char *why) {
  b->why = why;
  return false;
}

double balls_log2(struct balls *b, const ball *v) {
  ball_size s;
  b->f->size_init(&s);
  b->f->get_mag(&s, v);
  double log2 = b->f->size_log2(&s);
  b->f->size_clear(&s);
  return log2 < -1e18 ? -INFINITY : log2;  // theirs of 0 is a large number
}

static bool is_real(struct balls *b, const ball *v) { return b->f->is_zero(&v->im); }

static bool evaluate(struct balls *b, const expr *e, int at);

// ---- leaves -----------------------------------------------------------------------------------

static bool number(struct balls *b, const expr *e, ball *out) {
  if (e->name.n > (size_t)MOST_DIGITS || labs(e->scale) > MOST_SCALE)
    return no(b, "a number of too many digits");
  char digits[640];
  int n = 0;
  for (size_t i = 0; i < e->name.n; i++) digits[n++] = e->name.s[i];
  digits[n++] = 'e';
  int64_t scale = e->scale;
  if (scale < 0) digits[n++] = '-', scale = -scale;
  char reversed[24];
  int k = 0;
  do reversed[k++] = (char)('0' + scale % 10);
  while ((scale /= 10) != 0);
  while (k) digits[n++] = reversed[--k];
  digits[n] = 0;
  b->f->set_si(out, 0);
  return b->f->set_str(&out->re, digits, b->bits) == 0 || no(b, "a malformed number");
}

// Where a variable is at this point: the same for the same name, and no fraction that a formula
// would have. At the first point all are above 1, at the second all below, so that neither of
// x^1000 and x^-1000 hides the rest of an expression; then mixed.
static void variable(struct balls *b, text name, int spare, ball *out) {
  uint64_t h = 1469598103934665603u + 77u * (uint64_t)b->point;
  for (size_t i = 0; i < name.n; i++) h = (h ^ (uint8_t)name.s[i]) * 1099511628211u;
  h ^= h >> 29, h *= 0xbf58476d1ce4e5b9u, h ^= h >> 32;
  if (b->rounds) {
    b->f->set_si(out, (long)(h % 900001u) + 300007);
    b->f->set_si(&b->slot[spare], 1009);  // 297 to 1190
    b->f->div(out, out, &b->slot[spare], b->bits);
    return;
  }
  bool above = b->point == 0 || (b->point > 1 && (h >> 40) % 2);
  b->f->set_si(out, above ? (long)(h % 190027u) + 110017 : (long)(h % 49999u) + 50021);
  b->f->set_si(&b->slot[spare], 100003);
  b->f->div(out, out, &b->slot[spare], b->bits);
}

static bool constant(struct balls *b, const expr *e, ball *out) {
  b->f->set_si(out, 0);
  switch (e->op) {
    case C_PI: b->f->const_pi(out, b->bits); return true;
    case C_E: b->f->const_e(&out->re, b->bits); return true;
    case C_I: b->f->part_set_si(&out->im, 1); return true;
    default: return no(b, "infinity and sets are no numbers");
  }
}

// ---- powers and functions ---------------------------------------------------------------------

// A root of a real number: of odd index also below 0, where people mean the real one.
static bool root(struct balls *b, const expr *e, int at, fraction index) {
  ball *out = &b->slot[at];
  if (index.under != 1 || index.over < 2 || index.over > 1000) return no(b, "a root's index");
  if (!evaluate(b, e, at)) return false;
  bool below = index.over % 2 == 1 && is_real(b, out) && b->f->is_negative(&out->re);
  if (below) b->f->neg(out, out);
  b->f->root_ui(out, out, (unsigned long)index.over, b->bits);
  if (below) b->f->neg(out, out);
  return true;
}

static bool power(struct balls *b, const expr *e, int at) {
  ball *out = &b->slot[at], *exponent = &b->slot[at + 1];
  if (!evaluate(b, e->items[0], at)) return false;
  fraction f;
  if (expr_fraction(b->g, e->items[1], &f) && f.under == 1) {
    if (f.over > 1000000 || f.over < -1000000) return no(b, "an exponent beyond all bounds");
    b->f->pow_si(out, out, (long)f.over, b->bits);
    return true;
  }
  if (!evaluate(b, e->items[1], at + 1)) return false;
  if (balls_log2(b, exponent) > 20) return no(b, "an exponent beyond all bounds");
  if (expr_fraction(b->g, e->items[1], &f) && f.over == 1 && f.under == 2)
    b->f->sqrt(out, out, b->bits);
  else
    b->f->pow(out, out, exponent, b->bits);
  return true;
}

static bool whole(struct balls *b, const expr *e, long most, unsigned long *out) {
  fraction f;
  if (!expr_fraction(b->g, e, &f)) return no(b, "a number that is not exact where one is wanted");
  if (f.under != 1 || f.over < 0 || f.over > most) return no(b, "a whole number beyond the bounds");
  *out = (unsigned long)f.over;
  return true;
}

static bool of_whole(struct balls *b, const expr *e, ball *out) {
  unsigned long n, k;
  b->f->set_si(out, 0);
  if (e->op == F_FACTORIAL) {
    if (!whole(b, e->items[0], 5000, &n)) return false;
    b->f->fac_ui(&out->re, n, b->bits);
    return true;
  }
  if (e->n != 2) return no(b, "a function of two numbers with one");
  if (!whole(b, e->items[0], 100000, &n) || !whole(b, e->items[1], 5000, &k)) return false;
  if (e->op == F_BINOMIAL) {
    b->f->bin_uiui(&out->re, n, k, b->bits);
    return true;
  }
  unsigned long p = n, q = k;
  while (q) {
    unsigned long r = p % q;
    p = q, q = r;
  }
  unsigned long v = e->op == F_GCD   ? p
                    : e->op == F_LCM ? (p ? n / p * k : 0)
                    : e->op == F_MAX ? (n > k ? n : k)
                                     : (n < k ? n : k);
  b->f->set_si(out, (long)v);
  return true;
}

typedef void (*unary)(ball *out, const ball *a, long bits);

static unary unary_of(const flint *f, int function) {
  switch (function) {
    case F_SIN: return f->sin;
    case F_COS: return f->cos;
    case F_TAN: return f->tan;
    case F_COT: return f->cot;
    case F_SEC: return f->sec;
    case F_CSC: return f->csc;
    case F_ASIN: return f->asin;
    case F_ACOS: return f->acos;
    case F_ATAN: return f->atan;
    case F_SINH: return f->sinh;
    case F_COSH: return f->cosh;
    case F_TANH: return f->tanh;
    case F_EXP: return f->exp;
    case F_SQRT: return f->sqrt;
    case F_LN:
    case F_LOG:
    case F_LG: return f->log;
    default: return NULL;
  }
}

static bool real_only(struct balls *b, int function, ball *v) {
  if (!is_real(b, v)) return no(b, "the whole part of a complex number");
  ball_part *to = &b->slot[SLOTS + 1].re;
  (function == F_FLOOR ? b->f->floor : b->f->ceil)(to, &v->re, b->bits);
  b->f->set_si(v, 0);
  b->f->set(v, &b->slot[SLOTS + 1]);
  return true;
}

static bool call(struct balls *b, const expr *e, int at) {
  ball *out = &b->slot[at];
  switch (e->op) {
    case F_FACTORIAL:
    case F_BINOMIAL:
    case F_GCD:
    case F_LCM:
    case F_MAX:
    case F_MIN: return of_whole(b, e, out);
    case F_CBRT: return root(b, e->items[0], at, (fraction){3, 1});
    case F_ROOT: {
      fraction index;
      if (!expr_fraction(b->g, e->items[1], &index)) return no(b, "a root's index");
      return root(b, e->items[0], at, index);
    }
    default: break;
  }
  if (!evaluate(b, e->items[0], at)) return false;
  double size = balls_log2(b, out);
  if (e->op == F_ABS) {
    b->f->set_si(&b->slot[SLOTS + 1], 0);
    b->f->abs(&b->slot[SLOTS + 1].re, out, b->bits);
    b->f->set(out, &b->slot[SLOTS + 1]);
    return true;
  }
  if (e->op == F_FLOOR || e->op == F_CEIL)
    return size < 60 ? real_only(b, e->op, out) : no(b, "a number too large to round");
  bool grows = e->op == F_EXP || e->op == F_SINH || e->op == F_COSH || e->op == F_TANH;
  if (size > (grows ? 19 : 200) && e->op != F_LN && e->op != F_LOG && e->op != F_LG &&
      e->op != F_SQRT)
    return no(b, "a function's argument beyond all bounds");
  unary f = unary_of(b->f, e->op);
  if (!f) return no(b, "a function that is not evaluated");
  f(out, out, b->bits);
  if (e->n == 2 || e->op == F_LG) {  // a logarithm's base
    ball *base = &b->slot[at + 1];
    if (e->n == 2 && !evaluate(b, e->items[1], at + 1)) return false;
    if (e->n != 2) b->f->set_si(base, 10);
    b->f->log(base, base, b->bits);
    b->f->div(out, out, base, b->bits);
  }
  return true;
}

// ---- the tree ---------------------------------------------------------------------------------

static bool combine(struct balls *b, const expr *e, int at) {
  ball *out = &b->slot[at], *next = &b->slot[at + 1];
  if (!evaluate(b, e->items[0], at)) return false;
  for (int i = 1; i < e->n; i++) {
    if (!evaluate(b, e->items[i], at + 1)) return false;
    if (e->kind == X_ADD)
      b->f->add(out, out, next, b->bits);
    else if (e->kind == X_MULTIPLY)
      b->f->mul(out, out, next, b->bits);
    else
      b->f->div(out, out, next, b->bits);
  }
  return true;
}

static bool node(struct balls *b, const expr *e, int at) {
  ball *out = &b->slot[at], *next = &b->slot[at + 1];
  fraction f;
  switch (e->kind) {
    case X_NUMBER: return number(b, e, out);
    case X_VARIABLE: variable(b, e->name, at + 1, out); return true;
    case X_CONSTANT: return constant(b, e, out);
    case X_ADD:
    case X_MULTIPLY:
    case X_DIVIDE: return combine(b, e, at);
    case X_POWER: return power(b, e, at);
    case X_NEGATE:
      if (!evaluate(b, e->items[0], at)) return false;
      b->f->neg(out, out);
      return true;
    case X_CALL: return call(b, e, at);
    case X_BASE:
      if (!expr_fraction(b->g, e, &f) || f.over > INT64_MAX || f.under > INT64_MAX)
        return no(b, "digits of another base");
      b->f->set_si(out, (long)f.over);
      b->f->set_si(next, (long)f.under);
      b->f->div(out, out, next, b->bits);
      return true;
    case X_PERCENT:
    case X_DEGREE:
      if (!evaluate(b, e->items[0], at)) return false;
      b->f->set_si(next, e->kind == X_PERCENT ? 100 : 180);
      b->f->div(out, out, next, b->bits);
      if (e->kind == X_PERCENT) return true;
      b->f->const_pi(next, b->bits);
      b->f->mul(out, out, next, b->bits);
      return true;
    case X_UNIT: return no(b, "a unit inside of an expression");
    case X_TEXT: return no(b, "words inside of an expression");
    default: return no(b, "a list, set or relation where a number is wanted");
  }
}

static bool evaluate(struct balls *b, const expr *e, int at) {
  grade_step(b->g);
  if (at >= SLOTS - 2) return no(b, "an expression nested too deep");
  if (!node(b, e, at)) return false;
  if (!b->f->is_finite(&b->slot[at])) return no(b, "not defined at the points tried");
  double size = balls_log2(b, &b->slot[at]);
  if (size > MOST_LOG2 || (size < -MOST_LOG2 && !isinf(size)))
    return no(b, "a number beyond all bounds");
  return true;
}

bool balls_evaluate(struct balls *b, const expr *e) { return evaluate(b, e, 0); }
