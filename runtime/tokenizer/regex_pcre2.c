// regex_pcre2.c - patterns that have no table: said in PCRE2's words, compiled and matched by it.
#include "tokenizer/regex_impl.h"

typedef struct writer {
  char *data;
  size_t n, capacity;
  bool failed;
} writer;

static void write_bytes(writer *w, const char *data, size_t n) {
  if (w->n + n > w->capacity) {
    size_t capacity = 2 * (w->n + n) + 64;
    char *grown = realloc(w->data, capacity);
    if (!grown) {
      w->failed = true;
      return;
    }
    w->data = grown;
    w->capacity = capacity;
  }
  memcpy(w->data + w->n, data, n);
  w->n += n;
}

static void write_text(writer *w, const char *text) { write_bytes(w, text, strlen(text)); }

#define WORD_ITEMS                                                                                \
  "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\xB2\\xB3\\xB9\\xBC-\\xBE\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{" \
  "1F149}"                                                                                        \
  "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
#define HEX_ITEMS "0-9a-fA-F"

// One escape, behind its backslash. NULL, or what is wrong.
static const char *translate_escape(writer *w, const char *s, size_t n, size_t *used,
                                    bool in_class) {
  if (n == 0) return "ends in a backslash";
  char c = s[0], lower = (char)(c | 0x20);
  bool capital = c >= 'A' && c <= 'Z', letter = lower >= 'a' && lower <= 'z';
  *used = 1;
  if (lower == 's') {
    write_text(w, capital ? "\\P{White_Space}" : "\\p{White_Space}");
  } else if (lower == 'w' || lower == 'h') {
    if (in_class && capital) return "\\W or \\H inside a class";
    if (!in_class) write_text(w, capital ? "[^" : "[");
    write_text(w, lower == 'w' ? WORD_ITEMS : HEX_ITEMS);
    if (!in_class) write_text(w, "]");
  } else if (lower == 'p' || (c == 'x' && n > 1 && s[1] == '{')) {
    const char *end = n > 1 && s[1] == '{' ? memchr(s, '}', n) : NULL;
    if (!end) return "\\p without braces";
    *used = (size_t)(end - s) + 1;
    write_text(w, "\\");
    write_bytes(w, s, *used);
  } else if (c == 'x' && (n < 3 || s[1] >= '8')) {
    return "\\x of a byte that is no character";
  } else if (c == 'u') {
    if (n < 5) return "\\u without four digits";
    *used = 5;
    write_text(w, "\\x{");
    write_bytes(w, s + 1, 4);
    write_text(w, "}");
  } else {
    if (letter && !strchr("dDnrtfvxbBAzZGRXK", c)) return "an escape";
    write_text(w, "\\");
    write_bytes(w, s, 1);
  }
  return NULL;
}

// Say in PCRE2's words what the pattern says in Oniguruma's. NULL, or what cannot be said.
static const char *translate(writer *w, const char *s, size_t n) {
  bool in_class = false;
  for (size_t i = 0; i < n;) {
    size_t used = 1, left = n - i;
    if (s[i] == '\\') {
      const char *wrong = translate_escape(w, s + i + 1, left - 1, &used, in_class);
      if (wrong) return wrong;
      i += 1 + used;
      continue;
    }
    if (in_class) {
      if (s[i] == '&' && left > 1 && s[i + 1] == '&') return "&& in a class";
      if (s[i] == ']') in_class = false;
      if (s[i] == '[') {
        const char *end = left > 1 && s[i + 1] == ':' ? memchr(s + i, ']', left) : NULL;
        if (!end) return "a class in a class";
        used = (size_t)(end - s) - i + 1;
      }
    } else if (s[i] == '[') {
      in_class = true;
      if (left > used && s[i + used] == '^') used++;
      if (left > used && s[i + used] == ']') used++;
    } else if (s[i] == '(' && left > 2 && s[i + 1] == '?') {
      size_t flag = i + 2;
      for (; flag < n && (s[flag] == '-' || (s[flag] >= 'a' && s[flag] <= 'z')); flag++)
        if (s[flag] == 'm') return "the option m, which is s elsewhere";
    } else if (s[i] == '{') {
      size_t end = i + 1;
      while (end < n && ((s[end] >= '0' && s[end] <= '9') || s[end] == ',')) end++;
      if (end == n || s[end] != '}') return "braces that are no repetition {n,m}";
      if (end + 1 < n && (s[end + 1] == '+' || s[end + 1] == '?'))
        return "{n,m} with another repetition behind it";
      if (s[i + 1] == ',') {
        write_text(w, "{0");
        i++;
        left--;
      }
    }
    write_bytes(w, s + i, used);
    i += used;
  }
  return NULL;
}

cft_status regex_pcre2_compile(pcre2_code **out, const char *pattern, size_t bytes) {
  writer w = {0};
  cft_status st = CFT_OK;
  const char *wrong = translate(&w, pattern, bytes);
  if (wrong) {
    st = cft_fail(CFT_E_UNSUPPORTED, "pattern %s: has %s", cft_quote(pattern, bytes).text, wrong);
    goto out;
  }
  pcre2_compile_context *context = pcre2_compile_context_create(NULL);
  if (w.failed || !context) {
    st = cft_fail(CFT_E_OOM, "pattern: out of memory");
  } else {
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    size_t at;
    *out = pcre2_compile((PCRE2_SPTR)w.data, w.n, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code,
                         &at, context);
    if (*out) {
      pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);  // where it cannot, matching is only slower
    } else {
      char text[256];
      pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
      st = cft_fail(code == PCRE2_ERROR_HEAP_FAILED ? CFT_E_OOM : CFT_E_FORMAT, "pattern %s: %s",
                    cft_quote(pattern, bytes).text, text);
    }
  }
  pcre2_compile_context_free(context);
out:
  free(w.data);
  return st;
}

cft_status regex_scratch_new(regex_scratch **out) {
  regex_scratch *s = calloc(1, sizeof *s);
  if (s) {
    s->match = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    s->stack = pcre2_jit_stack_create(32 << 10, 1 << 20, NULL);
  }
  if (!s || !s->match || !s->context) {  // without a stack of its own, matching uses the thread's
    regex_scratch_free(s);
    return cft_fail(CFT_E_OOM, "pattern: out of memory");
  }
  if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
  *out = s;
  return CFT_OK;
}

void regex_scratch_free(regex_scratch *s) {
  if (!s) return;
  pcre2_match_data_free(s->match);
  pcre2_match_context_free(s->context);
  pcre2_jit_stack_free(s->stack);
  free(s);
}

cft_status regex_pcre2_find(const pcre2_code *code, regex_scratch *scratch, const uint8_t *text,
                            size_t n, size_t from, size_t *start, size_t *end) {
  int found =
      pcre2_match(code, text, n, from, PCRE2_NO_UTF_CHECK, scratch->match, scratch->context);
  if (found == PCRE2_ERROR_NOMATCH) {
    *start = n + 1;
    return CFT_OK;
  }
  if (found < 0) {
    char why[256];
    pcre2_get_error_message(found, (PCRE2_UCHAR *)why, sizeof why);
    return cft_fail(found == PCRE2_ERROR_NOMEMORY ? CFT_E_OOM : CFT_E_UNSUPPORTED,
                    "pattern on %zu bytes of text, from byte %zu: %s", n, from, why);
  }
  const size_t *at = pcre2_get_ovector_pointer(scratch->match);
  *start = at[0];
  *end = at[1];
  return CFT_OK;
}
