// clean.c - the many ways of writing the same, made one. What it takes away never changes what is
// meant: sizes of brackets, spaces, fonts. What may (units, text) is kept in a form that parse.c
// sees.
#include "grade/expr.h"
#include "util/utf8.h"

// Characters above ASCII.
static const struct {
  const char *is, *as;
} signs[] = {
    {"−", "-"},
    {"–", "-"},
    {"—", "-"},
    {"×", "\\times "},
    {"·", "\\cdot "},
    {"⋅", "\\cdot "},
    {"÷", "/"},
    {"∕", "/"},
    {"⁄", "/"},
    {"π", "\\pi "},
    {"√", "\\sqrt "},
    {"∞", "\\infty "},
    {"≤", "\\le "},
    {"≥", "\\ge "},
    {"≠", "\\ne "},
    {"≈", "\\approx "},
    {"∈", "\\in "},
    {"∪", "\\cup "},
    {"∩", "\\cap "},
    {"±", "\\pm "},
    {"∓", "\\mp "},
    {"∅", "\\emptyset "},
    {"⁰", "^{0}"},
    {"¹", "^{1}"},
    {"²", "^{2}"},
    {"³", "^{3}"},
    {"⁴", "^{4}"},
    {"⁵", "^{5}"},
    {"⁶", "^{6}"},
    {"⁷", "^{7}"},
    {"⁸", "^{8}"},
    {"⁹", "^{9}"},
    {"⁻", "^-"},
    {"ⁿ", "^{n}"},
    {"₀", "_{0}"},
    {"₁", "_{1}"},
    {"₂", "_{2}"},
    {"₃", "_{3}"},
    {"₄", "_{4}"},
    {"₅", "_{5}"},
    {"₆", "_{6}"},
    {"₇", "_{7}"},
    {"₈", "_{8}"},
    {"₉", "_{9}"},
    {"½", "\\frac{1}{2}"},
    {"⅓", "\\frac{1}{3}"},
    {"⅔", "\\frac{2}{3}"},
    {"¼", "\\frac{1}{4}"},
    {"¾", "\\frac{3}{4}"},
    {"⅕", "\\frac{1}{5}"},
    {"⅛", "\\frac{1}{8}"},
    {"⅜", "\\frac{3}{8}"},
    {"⅝", "\\frac{5}{8}"},
    {"⅞", "\\frac{7}{8}"},
    {"⅙", "\\frac{1}{6}"},
    {"⅚", "\\frac{5}{6}"},
    {"°", "\003"},
    {"º", "\003"},
    {"€", "\004"},
    {"£", "\004"},
    {"¥", "\004"},
    {"￥", "\004"},
    {"，", ","},
    {"。", "."},
    {"；", ";"},
    {"：", ":"},
    {"（", "("},
    {"）", ")"},
    {"、", ","},
    {"“", "\""},
    {"”", "\""},
    {"‘", "'"},
    {"’", "'"},
    {"′", "'"},
    {"…", "\\ldots "},
    {"\u00a0", " "},
    {"\u2009", " "},
    {"\u202f", " "},
    {"\u3000", " "},
    {"\u200b", ""},
    {"α", "\\alpha "},
    {"β", "\\beta "},
    {"γ", "\\gamma "},
    {"δ", "\\delta "},
    {"θ", "\\theta "},
    {"λ", "\\lambda "},
    {"μ", "\\mu "},
    {"φ", "\\phi "},
    {"ω", "\\omega "},
    {"ε", "\\epsilon "},
    {"σ", "\\sigma "},
    {"τ", "\\tau "},
    {"ρ", "\\rho "},
    {"ℝ", "\\mathbb{R}"},
    {"→", "\\to "},
    {"＝", "="},
    {"％", "%"},
    {"＋", "+"},
    {"－", "-"},
    {"∖", "\\setminus "},
    {"∘", "\003"},
};

static bool is_ascii(text t) {
  for (size_t i = 0; i < t.n; i++)
    if (t.s[i] & 0x80) return false;
  return true;
}

// Signs above ASCII as above; bytes that cleaned text uses itself as spaces.
static text plain_signs(cft_grader *g, text t) {
  bool ascii = is_ascii(t);
  writer w = writer_new(g, ascii ? t.n : 12 * t.n);
  for (size_t i = 0; i < t.n;) {
    if ((unsigned char)t.s[i] < 0x80) {
      write_byte(&w, (unsigned char)t.s[i] < ' ' ? ' ' : t.s[i]);
      i++;
      continue;
    }
    size_t length = (size_t)cft_utf8_length((uint8_t)t.s[i]);
    text one = {t.s + i, length};
    const char *as = NULL;
    for (size_t k = 0; k < sizeof signs / sizeof *signs && !as; k++)
      if (strlen(signs[k].is) == length && memcmp(signs[k].is, one.s, length) == 0)
        as = signs[k].as;
    write_text(&w, as ? (text){as, strlen(as)} : one);
    i += length;
  }
  return written(&w);
}

static bool among(text word, const char *const *words) {
  for (; *words; words++)
    if (text_is(word, (text){*words, strlen(*words)})) return true;
  return false;
}

static const char *const nothing[] = {  // commands that change looks only
    "left",        "right",  "big",    "Big",    "bigg",  "Bigg",         "bigl",
    "bigr",        "Bigl",   "Bigr",   "biggl",  "biggr", "displaystyle", "textstyle",
    "scriptstyle", "limits", "mathbf", "mathit", "bm",    "boldsymbol",   "mathsf",
    "bf",          "it",     "rm",     "boxed",  "fbox",  "nonumber",     "mathnormal",
    "middle",      "tiny",   "small",  "large",  "Large", "mathcal",      NULL};
static const char *const spaces[] = {"quad", "qquad", "enspace", "thinspace", "hspace", NULL};
static const char *const texts[] = {"text",   "mbox",   "textrm",       "textbf",
                                    "textit", "mathrm", "operatorname", "textnormal",
                                    "hbox",   "textsf", "texttt",       NULL};
static const char *const fractions[] = {"dfrac", "tfrac", "cfrac", NULL};
static const char *const binomials[] = {"dbinom", "tbinom", "choose", NULL};

// The end of the group that `{` at t.s[at] opens: behind its brace, or the end of the text.
static size_t group_end(text t, size_t at) {
  int depth = 0;
  for (size_t i = at; i < t.n; i++) {
    if (t.s[i] == '\\') {
      i++;
      continue;
    }
    if (t.s[i] == '{') depth++;
    if (t.s[i] == '}' && --depth == 0) return i + 1;
  }
  return t.n;
}

static bool behind_value(const writer *w) {
  size_t n = w->n;
  while (n && w->s[n - 1] == ' ') n--;
  return n && (is_digit(w->s[n - 1]) || w->s[n - 1] == '}' || w->s[n - 1] == ')');
}

// \text{...} at the `{`: its words between TEXT_BEGIN and TEXT_END; a letter (but behind a value,
// where it is a unit), a number or a function's name in it is mathematics all the same. Returns
// where it ends.
static size_t write_words(writer *w, text t, size_t at, bool upright) {
  size_t end = group_end(t, at);
  text inside = text_slice(t, at + 1, end > at + 1 && t.s[end - 1] == '}' ? end - 1 : end);
  text word = text_trim(inside);
  bool math = (word.n == 1 && (upright || !behind_value(w))) || function_named(word) != F_NONE;
  bool digits = word.n > 0;
  for (size_t i = 0; i < word.n; i++) digits = digits && (is_digit(word.s[i]) || word.s[i] == '.');
  if (math && word.n > 1) write_byte(w, '\\');
  if (math || digits) {
    write_text(w, word);
    write_byte(w, ' ');
  } else {
    write_byte(w, TEXT_BEGIN);
    for (size_t i = 0; i < inside.n; i++) {
      char c = inside.s[i];
      if (c == '\\' || c == '{' || c == '}' || c == '$') continue;
      write_byte(w, c == TEXT_BEGIN || c == TEXT_END ? ' ' : c);
    }
    write_byte(w, TEXT_END);
  }
  return end;
}

// A command at t.s[at], which is `\` with a letter behind it. Returns where it ends.
static size_t write_command(writer *w, text t, size_t at) {
  size_t end = at + 1;
  while (end < t.n && is_letter(t.s[end])) end++;
  text name = text_slice(t, at + 1, end);
  size_t open = end;
  while (open < t.n && t.s[open] == ' ') open++;
  bool group = open < t.n && t.s[open] == '{';
  if (among(name, nothing)) {
    bool sized = text_is(name, T("left")) || text_is(name, T("right"));
    return sized && end < t.n && t.s[end] == '.' ? end + 1 : end;
  }
  if (among(name, spaces)) {
    write_byte(w, ' ');
    return text_is(name, T("hspace")) && group ? group_end(t, open) : end;
  }
  if (among(name, texts) && group)  // 2\mathrm{i} is no unit
    return write_words(w, t, open, text_is(name, T("mathrm")) || text_is(name, T("operatorname")));
  if (among(name, fractions)) name = T("frac");
  if (among(name, binomials) && !text_is(name, T("choose"))) name = T("binom");
  if (text_is(name, T("circ")) || text_is(name, T("degree"))) {
    write_byte(w, DEGREE_SIGN);
    return end;
  }
  write_byte(w, '\\');
  write_text(w, name);
  return end;
}

// `\` with no letter behind it.
static size_t write_escape(writer *w, text t, size_t at) {
  if (at + 1 >= t.n) return at + 1;
  switch (t.s[at + 1]) {
    case '!': break;
    case ',':
    case ';':
    case ':':
    case ' ':
    case '>': write_byte(w, ' '); break;
    case '$': write_byte(w, MONEY_SIGN); break;
    case '%':
    case '#':
    case '&':
    case '_': write_byte(w, t.s[at + 1]); break;
    case '(':
    case ')':
    case '[':
    case ']':  // of \( x \), inside of an answer
      break;
    default: write_text(w, text_slice(t, at, at + 2));  // \{ \} \| \\ and what is none
  }
  return at + 2;
}

// 12{,}345 and 12,\!345 are one number whatever follows them.
static size_t group_comma(text t, size_t at) {
  static const char *const forms[] = {"{,}", ",\\!", "{,}\\!", NULL};
  if (at == 0 || !is_digit(t.s[at - 1])) return 0;
  for (int k = 2; k >= 0; k--) {
    text form = {forms[k], strlen(forms[k])};
    size_t end = at + form.n;
    if (!text_begins(text_from(t, at), form)) continue;
    while (end < t.n && t.s[end] == ' ') end++;
    if (end < t.n && is_digit(t.s[end])) return end;
  }
  return 0;
}

// \\frac with two backslashes, of a text that was escaped once too often. Behind a row of a matrix
// such a word would have a backslash of its own.
static bool escaped_twice(text t, size_t at) {
  static const char *const words[] = {"frac", "dfrac", "tfrac", "sqrt", "left",  "right",  "text",
                                      "le",   "ge",    "leq",   "geq",  "times", "cdot",   "infty",
                                      "pi",   "cup",   "cap",   "in",   "pm",    "mathbb", "boxed",
                                      "circ", "sin",   "cos",   "tan",  "log",   "ln",     NULL};
  if (at + 2 >= t.n || t.s[at + 1] != '\\' || !is_letter(t.s[at + 2])) return false;
  if (at > 0 && t.s[at - 1] == '\\') return false;
  size_t end = at + 2;
  while (end < t.n && is_letter(t.s[end])) end++;
  return among(text_slice(t, at + 2, end), words);
}

static text without_commands(cft_grader *g, text t) {
  writer w = writer_new(g, 2 * t.n + 8);
  for (size_t i = 0; i < t.n;) {
    grade_step(g);
    size_t comma = group_comma(t, i);
    if (comma) {
      write_byte(&w, GROUP_COMMA);
      i = comma;
    } else if (t.s[i] == '\\') {
      i += escaped_twice(t, i);
      bool named = i + 1 < t.n && is_letter(t.s[i + 1]);
      i = named ? write_command(&w, t, i) : write_escape(&w, t, i);
    } else if (t.s[i] == '$') {  // money before a number, else the edge of a formula
      bool money = i + 1 < t.n && is_digit(t.s[i + 1]) && text_count(t, T("$")) % 2 == 1;
      if (money) write_byte(&w, MONEY_SIGN);
      i++;
    } else if (t.s[i] == '~') {
      write_byte(&w, ' ');
      i++;
    } else {
      write_byte(&w, t.s[i++]);
    }
  }
  return written(&w);
}

// Whether brackets of a kind stand around all of t: (x)(y) has none.
static bool wrapped(text t, text open, text close) {
  return t.n > open.n + close.n && text_begins(t, open) && text_ends(t, close) &&
         text_find(text_slice(t, open.n, t.n - close.n), close) == NOWHERE;
}

static text unwrapped(text t) {
  for (int i = 0; i < 8; i++) {
    size_t before = t.n;
    t = text_trim(t);
    if (wrapped(t, T("$$"), T("$$")))
      t = text_slice(t, 2, t.n - 2);
    else if (wrapped(t, T("$"), T("$")))
      t = text_slice(t, 1, t.n - 1);
    else if (wrapped(t, T("\\("), T("\\)")))
      t = text_slice(t, 2, t.n - 2);
    else if (wrapped(t, T("\\["), T("\\]")))
      t = text_slice(t, 2, t.n - 2);
    else if (wrapped(t, T("**"), T("**")))
      t = text_slice(t, 2, t.n - 2);
    else if (wrapped(t, T("`"), T("`")))
      t = text_slice(t, 1, t.n - 1);
    bool dot = text_ends(t, T(".")) && !text_ends(t, T("\\right.")) && !text_ends(t, T(".."));
    if (dot) t.n--;
    if (text_begins(t, T(":"))) t = text_from(t, 1);
    if (t.n == before) break;
  }
  return t;
}

text clean_latex(cft_grader *g, text t) {
  t = unwrapped(t);
  t = without_commands(g, plain_signs(g, t));
  t = text_replace(g, t, T("^{\003}"), T("\003"));
  t = text_replace(g, t, T("^\003"), T("\003"));
  t = text_replace(g, t, T("^{ \003}"), T("\003"));
  return text_trim(t);
}
