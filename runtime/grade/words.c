// words.c - the words that answers use: functions, constants, units.
#include "grade/expr.h"

static const struct {
  const char *word;
  expr_function is;
} functions[] = {
    {"sin", F_SIN},        {"cos", F_COS},
    {"tan", F_TAN},        {"cot", F_COT},
    {"sec", F_SEC},        {"csc", F_CSC},
    {"arcsin", F_ASIN},    {"arccos", F_ACOS},
    {"arctan", F_ATAN},    {"asin", F_ASIN},
    {"acos", F_ACOS},      {"atan", F_ATAN},
    {"sinh", F_SINH},      {"cosh", F_COSH},
    {"tanh", F_TANH},      {"ln", F_LN},
    {"log", F_LOG},        {"lg", F_LG},
    {"exp", F_EXP},        {"sqrt", F_SQRT},
    {"cbrt", F_CBRT},      {"abs", F_ABS},
    {"floor", F_FLOOR},    {"ceil", F_CEIL},
    {"binom", F_BINOMIAL}, {"gcd", F_GCD},
    {"lcm", F_LCM},        {"max", F_MAX},
    {"min", F_MIN},        {"cosec", F_CSC},
    {"tg", F_TAN},         {"ctg", F_COT},
    {"ceiling", F_CEIL},   {"factorial", F_FACTORIAL},
};

static bool is_word(text a, const char *word) { return text_is(a, (text){word, strlen(word)}); }

expr_function function_named(text word) {
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
    if (is_word(word, functions[i].word)) return functions[i].is;
  return F_NONE;
}

int constant_named(text word) {
  static const struct {
    const char *word;
    expr_constant is;
  } constants[] = {
      {"pi", C_PI},
      {"infty", C_INFINITY},
      {"infinity", C_INFINITY},
      {"inf", C_INFINITY},
      {"oo", C_INFINITY},
      {"emptyset", C_EMPTY},
      {"varnothing", C_EMPTY},
      {"Pi", C_PI},
      {"Infinity", C_INFINITY},
  };
  for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
    if (is_word(word, constants[i].word)) return constants[i].is;
  return -1;
}

// Exact as decimals of doubles can be: a comparison of values allows for their last digits.
static const struct {
  const char *words;  // parted by spaces
  const char *dimension;
  double factor;
} units[] = {
    {"m meter meters metre metres", "length", 1},
    {"cm centimeter centimeters centimetre centimetres", "length", 0.01},
    {"mm millimeter millimeters millimetre millimetres", "length", 0.001},
    {"km kilometer kilometers kilometre kilometres kms", "length", 1000},
    {"in inch inches", "length", 0.0254},
    {"ft foot feet", "length", 0.3048},
    {"yd yard yards", "length", 0.9144},
    {"mi mile miles", "length", 1609.344},
    {"g gram grams gm", "mass", 1},
    {"kg kilogram kilograms", "mass", 1000},
    {"mg milligram milligrams", "mass", 0.001},
    {"lb lbs pound pounds", "mass", 453.59237},
    {"oz ounce ounces", "mass", 28.349523125},
    {"s sec secs second seconds", "time", 1},
    {"min mins minute minutes", "time", 60},
    {"h hr hrs hour hours", "time", 3600},
    {"day days", "time", 86400},
    {"week weeks", "time", 604800},
    {"L l liter liters litre litres", "volume", 1},
    {"ml mL milliliter milliliters", "volume", 0.001},
    {"$ dollar dollars usd USD", "money", 100},
    {"cent cents", "money", 1},
    {"mph", "speed", 0},
    {"km/h kmph", "speed", 0},
    {"unit units", 0, 0},
    {"year years yr yrs month months", 0, 0},
    {"euro euros", 0, 0},
    {"people person men women student students", 0, 0},
    {"times", 0, 0},
};

static bool among(text word, const char *words) {
  for (const char *p = words; *p;) {
    const char *end = strchrnul(p, ' ');
    if (text_is(word, (text){p, (size_t)(end - p)})) return true;
    p = *end ? end + 1 : end;
  }
  return false;
}

bool is_unit_word(text word) {
  if (word.n < 2) return false;
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (among(word, units[i].words)) return true;
  return is_word(word, "square") || is_word(word, "cubic") || is_word(word, "sq") ||
         is_word(word, "cu");
}

unit_meaning unit_named(cft_grader *g, text name) {
  unit_meaning m = {NULL, 1, 1};
  text t = text_trim(name);
  for (int i = 0; i < 2; i++) {  // square meters, sq. cm, cm^2, cm^{2}
    static const char *const before[] = {"square ", "sq ", "sq. ", "cubic ", "cu ", "cu. "};
    for (int k = 0; k < 6; k++) {
      text b = {before[k], strlen(before[k])};
      if (text_begins(t, b)) t = text_trim(text_from(t, b.n)), m.power = k < 3 ? 2 : 3;
    }
  }
  int64_t hat = text_find(t, T("^"));
  if (hat != NOWHERE) {
    text power = text_from(t, (size_t)hat + 1);
    for (size_t i = 0; i < power.n; i++)
      if (is_digit(power.s[i])) m.power = power.s[i] - '0';
    t = text_trim((text){t.s, (size_t)hat});
  }
  if (text_ends(t, T("."))) t.n--;
  writer w = writer_new(g, t.n);
  for (size_t i = 0; i < t.n; i++) write_byte(&w, t.n > 2 ? lower(t.s[i]) : t.s[i]);
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    if (!among(written(&w), units[i].words)) continue;
    m.dimension = units[i].dimension;
    m.factor = units[i].factor;
    break;
  }
  if (m.factor == 0) m.dimension = NULL;
  return m;
}
