// regex_parse.c - a pattern as a tree of classes, groups, alternatives and repetitions.
#include "tokenizer/regex_impl.h"

static int refuse(parser *p, verdict v, const char *reason) {
  if (p->verdict == PARSED) {
    p->verdict = v;
    p->reason = reason;
  }
  return 0;
}

static int new_node(parser *p, node made) {
  if (p->verdict != PARSED) return 0;
  if (p->nodes_count == MAX_NODES) return refuse(p, BEYOND, "too long");
  p->nodes[p->nodes_count] = made;
  return p->nodes_count++;
}

// Takes the set over.
static int new_set(parser *p, charset *set) {
  if (set->failed) {
    charset_free(set);
    return refuse(p, NO_MEMORY, "");
  }
  for (int i = 0; i < p->sets_count; i++) {
    const charset *old = &p->sets[i];
    if (old->n == set->n &&
        (set->n == 0 || !memcmp(old->at, set->at, (size_t)set->n * sizeof *set->at))) {
      charset_free(set);
      return i;
    }
  }
  if (p->sets_count == MAX_SETS) {
    charset_free(set);
    return refuse(p, BEYOND, "too many classes");
  }
  p->sets[p->sets_count] = *set;
  return p->sets_count++;
}

static bool more(const parser *p) { return p->verdict == PARSED && p->at < p->n; }

static bool accept(parser *p, const char *text) {
  size_t bytes = strlen(text);
  if (p->n - p->at < bytes || memcmp(p->pattern + p->at, text, bytes)) return false;
  p->at += bytes;
  return true;
}

static uint32_t next_point(parser *p) {
  int length;
  uint32_t cp = cft_utf8_decode((const uint8_t *)p->pattern + p->at, &length);
  p->at += (size_t)length;
  return cp;
}

// Add cp and, where case does not count, its other cases. Only ASCII letters have them here; the
// long s and the Kelvin sign are the non-ASCII characters that fold to one.
static void add_point(parser *p, charset *set, uint32_t cp) {
  charset_range(set, cp, cp);
  if (!p->ignore_case) return;
  if (cp >= 0x80) {
    refuse(p, BEYOND, "case of a character beyond ASCII");
    return;
  }
  uint32_t lower = cp | 0x20;
  if (lower < 'a' || lower > 'z') return;
  charset_range(set, lower, lower);
  charset_range(set, lower - 0x20, lower - 0x20);
  if (lower == 's') charset_range(set, 0x17F, 0x17F);
  if (lower == 'k') charset_range(set, 0x212A, 0x212A);
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  char lower = (char)(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// The number of an escape: {hex digits}, or exactly `digits` of them.
static uint32_t escaped_number(parser *p, int digits) {
  bool braces = accept(p, "{");
  uint32_t value = 0;
  int count = 0;
  for (; p->at < p->n && (braces || count < digits); p->at++, count++) {
    int digit = hex_digit(p->pattern[p->at]);
    if (digit < 0) break;
    if (value >= UNICODE_END) break;
    value = value * 16 + (uint32_t)digit;
  }
  if (!braces && digits == 2 && value >= 0x80) {
    refuse(p, UNSUPPORTED, "\\x of a byte that is no character");
    return 0;
  }
  bool complete = braces ? count > 0 && accept(p, "}") : count == digits;
  if (!complete || value >= UNICODE_END || (value >= 0xD800 && value < 0xE000)) {
    refuse(p, MALFORMED, "not a hexadecimal code point");
    return 0;
  }
  return value;
}

// One escape, behind its backslash: either a class, put into *set, or a single character.
static bool parse_escape(parser *p, charset *set, uint32_t *cp) {
  if (p->at == p->n) {
    refuse(p, MALFORMED, "ends in a backslash");
    return false;
  }
  char c = p->pattern[p->at];
  const char *property = NULL;
  switch (c) {
    case 's':
    case 'S': property = "White_Space"; break;
    case 'd':
    case 'D': property = "Nd"; break;
    case 'w':
    case 'W': property = "Word"; break;
    case 'h':
    case 'H':
      charset_range(set, '0', '9');
      charset_range(set, 'a', 'f');
      charset_range(set, 'A', 'F');
      break;
    case 'p':
    case 'P': break;
    case 'n': p->at++; return *cp = '\n', false;
    case 'r': p->at++; return *cp = '\r', false;
    case 't': p->at++; return *cp = '\t', false;
    case 'f': p->at++; return *cp = '\f', false;
    case 'v': p->at++; return *cp = '\v', false;
    case 'x': p->at++; return *cp = escaped_number(p, 2), false;
    case 'u': p->at++; return *cp = escaped_number(p, 4), false;
    default:
      if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')) {
        refuse(p, BEYOND, "an escape");
        return false;
      }
      *cp = next_point(p);
      return false;
  }
  p->at++;
  bool negated = c >= 'A' && c <= 'Z';
  if ((c | 0x20) == 'p') {
    if (!accept(p, "{")) return refuse(p, UNSUPPORTED, "\\p without braces"), true;
    if (accept(p, "^")) negated = !negated;
    const char *name = p->pattern + p->at, *end = memchr(name, '}', p->n - p->at);
    if (!end) return refuse(p, MALFORMED, "\\p{ without its }"), true;
    p->at += (size_t)(end - name) + 1;
    if (!charset_property(set, name, (size_t)(end - name)))
      return refuse(p, BEYOND, "a property that is no general category"), true;
  } else if (property) {
    charset_property(set, property, strlen(property));
  }
  if (negated) charset_negate(set);
  return true;
}

// [...], behind the opening bracket. Nested classes and && as in Oniguruma.
static charset parse_class(parser *p) {
  charset out = {0}, part = {0};
  if (++p->depth > MAX_DEPTH) refuse(p, BEYOND, "too deep");
  bool negated = accept(p, "^"), intersect = false, first = true;
  for (;; first = false) {
    if (!more(p)) {
      refuse(p, MALFORMED, "a class without its ]");
      break;
    }
    if (accept(p, "&&")) {
      if (intersect)
        charset_and(&out, &part);
      else
        charset_add(&out, &part);
      charset_free(&part);
      intersect = true;
      continue;
    }
    if (!first && accept(p, "]")) break;

    charset item = {0};
    uint32_t cp = 0;
    bool is_class = false;
    if (p->pattern[p->at] == '[') {
      if (p->n - p->at > 1 && p->pattern[p->at + 1] == ':') {
        refuse(p, BEYOND, "a POSIX class");
        break;
      }
      p->at++;
      charset nested = parse_class(p);
      charset_add(&item, &nested);
      charset_free(&nested);
      is_class = true;
    } else if (accept(p, "\\")) {
      is_class = parse_escape(p, &item, &cp);
    } else {
      cp = next_point(p);
    }
    bool range =
        !is_class && p->n - p->at >= 2 && p->pattern[p->at] == '-' && p->pattern[p->at + 1] != ']';
    if (range) {
      p->at++;
      uint32_t last = 0;
      if (p->pattern[p->at] == '[') {
        refuse(p, UNSUPPORTED, "a range that ends in a class");
      } else if (accept(p, "\\")) {
        charset none = {0};
        if (parse_escape(p, &none, &last)) refuse(p, MALFORMED, "a range that ends in a class");
        charset_free(&none);
      } else {
        last = next_point(p);
      }
      if (last < cp) refuse(p, MALFORMED, "a range that runs backwards");
      if (p->ignore_case && (cp >= 0x80 || last >= 0x80))
        refuse(p, BEYOND, "case of a character beyond ASCII");
      if (!p->ignore_case) charset_range(&item, cp, last);
      for (uint32_t c = cp; p->ignore_case && p->verdict == PARSED && c <= last; c++)
        add_point(p, &item, c);
    } else if (!is_class) {
      add_point(p, &item, cp);
    }
    charset_add(&part, &item);
    charset_free(&item);
  }
  if (intersect)
    charset_and(&out, &part);
  else
    charset_add(&out, &part);
  charset_free(&part);
  if (negated) charset_negate(&out);
  p->depth--;
  return out;
}

static int parse_alternatives(parser *p);

// A group, behind its opening parenthesis.
static int parse_group(parser *p) {
  bool ignore_case = p->ignore_case, lookahead = false, negative = false;
  if (++p->depth > MAX_DEPTH) return refuse(p, BEYOND, "too deep");
  if (accept(p, "?")) {
    if (accept(p, "=")) {
      lookahead = true;
    } else if (accept(p, "!")) {
      lookahead = negative = true;
    } else if (accept(p, "i:")) {
      p->ignore_case = true;
    } else if (accept(p, "-i:")) {
      p->ignore_case = false;
    } else if (accept(p, "i)")) {
      // To the end of the enclosing group, which is where the alternatives end as well.
      p->ignore_case = true;
      int rest = parse_alternatives(p);
      p->ignore_case = ignore_case;
      p->depth--;
      return rest;
    } else if (!accept(p, ":")) {
      return refuse(p, BEYOND, "a group of another kind");
    }
  }
  int body = parse_alternatives(p);
  if (!accept(p, ")")) refuse(p, MALFORMED, "a group without its )");
  p->ignore_case = ignore_case;
  p->depth--;
  if (!lookahead || p->verdict != PARSED) return body;

  if (p->nodes[body].kind != NODE_SET)
    return refuse(p, BEYOND, "a lookahead of more than one character");
  charset set = charset_copy(&p->sets[p->nodes[body].a]);
  if (negative) charset_negate(&set);
  return new_node(p, (node){.kind = NODE_NEXT, .a = new_set(p, &set), .at_end = negative});
}

static int parse_atom(parser *p) {
  charset set = {0};
  if (accept(p, "(")) return parse_group(p);
  if (accept(p, "[")) {
    set = parse_class(p);
  } else if (accept(p, ".")) {
    charset_range(&set, '\n', '\n');
    charset_negate(&set);
  } else if (accept(p, "$")) {
    charset_range(&set, '\n', '\n');
    return new_node(p, (node){.kind = NODE_NEXT, .a = new_set(p, &set), .at_end = true});
  } else if (accept(p, "^")) {
    return refuse(p, BEYOND, "the start of a line");
  } else if (accept(p, "\\")) {
    uint32_t cp = 0;
    if (!parse_escape(p, &set, &cp)) add_point(p, &set, cp);
  } else {
    uint32_t cp = next_point(p);
    if (cp == '*' || cp == '+' || cp == '?') refuse(p, MALFORMED, "nothing to repeat");
    add_point(p, &set, cp);
  }
  return new_node(p, (node){.kind = NODE_SET, .a = new_set(p, &set)});
}

static int decimal(parser *p) {
  int value = -1;
  for (; p->at < p->n && p->pattern[p->at] >= '0' && p->pattern[p->at] <= '9'; p->at++) {
    value = (value < 0 ? 0 : value) * 10 + (p->pattern[p->at] - '0');
    if (value > MAX_REPEAT) return refuse(p, BEYOND, "a long repetition");
  }
  return value;
}

// A repetition behind an atom; false if there is none.
static bool parse_repeat(parser *p, node *out) {
  bool braces = false;
  if (accept(p, "?")) {
    *out = (node){.min = 0, .max = 1};
  } else if (accept(p, "*")) {
    *out = (node){.min = 0, .max = -1};
  } else if (accept(p, "+")) {
    *out = (node){.min = 1, .max = -1};
  } else if (accept(p, "{")) {
    braces = true;
    int min = decimal(p), max = min;
    if (accept(p, ",")) max = decimal(p);
    // Oniguruma has rules of its own for what is no interval; no tokenizer needs them.
    if (!accept(p, "}") || (min < 0 && max < 0) || (max >= 0 && max < min))
      return refuse(p, UNSUPPORTED, "braces that are no repetition {n,m}"), false;
    *out = (node){.min = min < 0 ? 0 : min, .max = max};
  } else {
    return false;
  }
  out->kind = NODE_REPEAT;
  if (braces && p->at < p->n && (p->pattern[p->at] == '?' || p->pattern[p->at] == '+'))
    refuse(p, UNSUPPORTED, "{n,m} with another repetition behind it");
  if (accept(p, "?")) out->lazy = true;
  if (p->at < p->n && p->pattern[p->at] == '+') refuse(p, BEYOND, "a possessive repetition");
  return true;
}

static int parse_sequence(parser *p) {
  int sequence = -1;
  while (more(p) && p->pattern[p->at] != '|' && p->pattern[p->at] != ')') {
    int atom = parse_atom(p);
    node repeat;
    while (more(p) && parse_repeat(p, &repeat)) {
      repeat.a = atom;
      atom = new_node(p, repeat);
    }
    sequence =
        sequence < 0 ? atom : new_node(p, (node){.kind = NODE_CAT, .a = sequence, .b = atom});
  }
  return sequence < 0 ? new_node(p, (node){.kind = NODE_EMPTY}) : sequence;
}

static int parse_alternatives(parser *p) {
  int first = parse_sequence(p);
  if (!more(p) || !accept(p, "|")) return first;
  // To the right, so that a long list of alternatives does not nest to the left in emit().
  int rest =
      ++p->depth > MAX_DEPTH ? refuse(p, BEYOND, "too many alternatives") : parse_alternatives(p);
  p->depth--;
  return new_node(p, (node){.kind = NODE_ALT, .a = first, .b = rest});
}

int parse_pattern(parser *p) {
  int root = parse_alternatives(p);
  if (p->verdict == PARSED && p->at < p->n) refuse(p, MALFORMED, "a ) without its (");
  return root;
}
