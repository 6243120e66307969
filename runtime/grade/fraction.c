// fraction.c - exact values: what whole numbers, decimals and fractions of them say.
#include "grade/expr.h"

enum { DIGITS = 36, POWER = 120 };

static wide gcd(wide a, wide b) {
  if (a < 0) a = -a;
  while (b) {
    wide r = a % b;
    a = b, b = r < 0 ? -r : r;
  }
  return a;
}

static bool lowest(fraction *f) {
  if (f->under == 0) return false;
  wide most = (wide)1 << 126;
  if (f->over > most || f->over < -most || f->under > most || f->under < -most) return false;
  wide d = gcd(f->over, f->under);
  if (d > 1) f->over /= d, f->under /= d;
  if (f->under < 0) f->over = -f->over, f->under = -f->under;
  return true;
}

bool fraction_equal(fraction a, fraction b) { return a.over == b.over && a.under == b.under; }
int fraction_sign(fraction a) { return (a.over > 0) - (a.over < 0); }

bool fraction_multiply(fraction *out, fraction a, fraction b) {
  fraction x = {a.over, b.under}, y = {b.over, a.under};  // crosswise, so that less overflows
  if (!lowest(&x) || !lowest(&y)) return false;
  if (__builtin_mul_overflow(x.over, y.over, &out->over)) return false;
  if (__builtin_mul_overflow(x.under, y.under, &out->under)) return false;
  return lowest(out);
}

bool fraction_divide(fraction *out, fraction a, fraction b) {
  if (b.over == 0) return false;
  fraction inverse = {b.under, b.over};
  return lowest(&inverse) && fraction_multiply(out, a, inverse);
}

static bool add(fraction *out, fraction a, fraction b) {
  wide x, y, d = gcd(a.under, b.under);
  if (__builtin_mul_overflow(a.over, b.under / d, &x)) return false;
  if (__builtin_mul_overflow(b.over, a.under / d, &y)) return false;
  if (__builtin_add_overflow(x, y, &out->over)) return false;
  if (__builtin_mul_overflow(a.under, b.under / d, &out->under)) return false;
  return lowest(out);
}

bool fraction_subtract(fraction *out, fraction a, fraction b) {
  b.over = -b.over;
  return add(out, a, b);
}

static bool ten_to(int64_t n, wide *out) {
  if (n > DIGITS) return false;
  for (*out = 1; n > 0; n--) *out *= 10;
  return true;
}

static bool of_number(const expr *e, fraction *out) {
  if (e->name.n > DIGITS) return false;
  *out = (fraction){0, 1};
  for (size_t i = 0; i < e->name.n; i++) out->over = 10 * out->over + (e->name.s[i] - '0');
  if (out->over == 0) return true;
  wide ten;
  if (!ten_to(e->scale < 0 ? -e->scale : e->scale, &ten)) return false;
  if (e->scale < 0)
    out->under = ten;
  else if (__builtin_mul_overflow(out->over, ten, &out->over))
    return false;
  return lowest(out);
}

static bool power(fraction *out, fraction base, fraction exponent) {
  if (exponent.under != 1 || exponent.over > POWER || exponent.over < -POWER) return false;
  int n = (int)exponent.over;
  if (n <= 0 && base.over == 0) return false;
  *out = (fraction){1, 1};
  for (int i = 0; i < (n < 0 ? -n : n); i++)
    if (!fraction_multiply(out, *out, base)) return false;
  return n >= 0 || fraction_divide(out, (fraction){1, 1}, *out);
}

// sqrt of a square: \sqrt{49/4}.
static bool square_root(wide v, wide *out) {
  wide low = 0, high = (wide)1 << 62;
  if (v < 0 || v > high) return false;
  while (low < high) {
    wide mid = (low + high + 1) / 2;
    if (mid <= v / mid)
      low = mid;
    else
      high = mid - 1;
  }
  *out = low;
  return low * low == v;
}

// 52_8: digits of a base up to 36.
static bool of_base(const expr *e, fraction base, fraction *out) {
  if (base.under != 1 || base.over < 2 || base.over > 36) return false;
  *out = (fraction){0, 1};
  for (size_t i = 0; i < e->name.n; i++) {
    wide digit = e->name.s[i] - '0';
    if (digit >= base.over || __builtin_mul_overflow(out->over, base.over, &out->over))
      return false;
    if (__builtin_add_overflow(out->over, digit, &out->over)) return false;
  }
  fraction shift = {1, 1};
  for (int64_t k = e->scale; k < 0; k++)  // 0.0011_2
    if (k < -DIGITS || !fraction_multiply(&shift, shift, base)) return false;
  return lowest(out) && fraction_divide(out, *out, shift);
}

static bool of_call(const expr *e, fraction a, fraction *out) {
  switch (e->op) {
    case F_ABS: *out = (fraction){a.over < 0 ? -a.over : a.over, a.under}; return true;
    case F_SQRT:
      return square_root(a.over, &out->over) && square_root(a.under, &out->under) && lowest(out);
    case F_FACTORIAL:
      if (a.under != 1 || a.over < 0 || a.over > 33) return false;
      *out = (fraction){1, 1};
      for (wide k = 2; k <= a.over; k++) out->over *= k;
      return true;
    default: return false;
  }
}

bool expr_fraction(cft_grader *g, const expr *e, fraction *out) {
  fraction a, b;
  grade_step(g);
  switch (e->kind) {
    case X_NUMBER: return of_number(e, out);
    case X_ADD:
    case X_MULTIPLY:
      if (!expr_fraction(g, e->items[0], out)) return false;
      for (int i = 1; i < e->n; i++) {
        if (!expr_fraction(g, e->items[i], &b)) return false;
        if (!(e->kind == X_ADD ? add(out, *out, b) : fraction_multiply(out, *out, b))) return false;
      }
      return true;
    case X_DIVIDE:
      return expr_fraction(g, e->items[0], &a) && expr_fraction(g, e->items[1], &b) &&
             fraction_divide(out, a, b);
    case X_POWER:
      return expr_fraction(g, e->items[0], &a) && expr_fraction(g, e->items[1], &b) &&
             power(out, a, b);
    case X_NEGATE:
      if (!expr_fraction(g, e->items[0], out)) return false;
      out->over = -out->over;
      return true;
    case X_PERCENT:
      return expr_fraction(g, e->items[0], &a) && fraction_divide(out, a, (fraction){100, 1});
    case X_BASE: return expr_fraction(g, e->items[0], &a) && of_base(e, a, out);
    case X_CALL: return e->n == 1 && expr_fraction(g, e->items[0], &a) && of_call(e, a, out);
    default: return false;
  }
}
