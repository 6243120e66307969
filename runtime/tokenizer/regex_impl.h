// regex_impl.h - what the files of the regular expressions share.
//
//   regex_parse.c  a pattern -> a tree, or why not
//   regex_table.c  a tree -> a table
//   regex_pcre2.c  patterns beyond a table
//   regex.c        which engine; finding matches
#ifndef CFT_TOKENIZER_REGEX_IMPL_H
#define CFT_TOKENIZER_REGEX_IMPL_H

#include <stdlib.h>
#include <string.h>

#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
  MAX_NODES = 4000,  // of a parsed pattern
  MAX_DEPTH = 60,    // of groups
  MAX_SETS = 64,     // different classes: a bit each
  MAX_REPEAT = 1000,
};

struct regex {
  regex_table table;
  pcre2_code *code;  // NULL where the table is used
};

struct regex_scratch {
  pcre2_match_data *match;
  pcre2_match_context *context;
  pcre2_jit_stack *stack;
};

typedef enum node_kind {
  NODE_EMPTY,
  NODE_SET,
  NODE_NEXT,
  NODE_CAT,
  NODE_ALT,
  NODE_REPEAT
} node_kind;

typedef struct node {
  node_kind kind;
  int a, b;      // CAT, ALT: the parts; REPEAT: a is the body; SET, NEXT: a is the set
  int min, max;  // REPEAT; max -1: no limit
  bool lazy;
  bool at_end;  // NEXT: whether the end of the text passes
} node;

typedef enum verdict {
  PARSED,
  BEYOND,       // a good pattern perhaps, but not one for a table
  UNSUPPORTED,  // one that PCRE2 would understand in another way than Oniguruma
  MALFORMED,
  NO_MEMORY,
} verdict;

typedef struct parser {
  const char *pattern;
  size_t n, at;
  node *nodes;
  int nodes_count;
  charset sets[MAX_SETS];
  int sets_count;
  int depth;
  bool ignore_case;
  verdict verdict;
  const char *reason;  // of the first verdict that is not PARSED
} parser;

// Parse the whole pattern into p->nodes; the root, if p->verdict is PARSED then.
int parse_pattern(parser *p);

// Build the table of a parsed pattern. BEYOND if it would be too large.
verdict regex_table_build(regex_table *t, const parser *p, int root);
void regex_table_free(regex_table *t);

cft_status regex_pcre2_compile(pcre2_code **out, const char *pattern, size_t bytes);
cft_status regex_pcre2_find(const pcre2_code *code, regex_scratch *scratch, const uint8_t *text,
                            size_t n, size_t from, size_t *start, size_t *end);

#endif
