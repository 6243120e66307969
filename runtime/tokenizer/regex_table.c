// regex_table.c - from a tree to a table: a list of instructions, then all the sets of instructions
// that can be active together (Thompson's construction; keeping each set in the order of preference
// makes the first alternative win, as in RE2).
#include "tokenizer/regex_impl.h"

enum {
  MAX_INSTRUCTIONS = 4000,  // repetitions are unrolled
  MAX_STATES = 1024,
  MAX_CLASSES = 127,  // rows have 128 cells beyond ASCII
};

// ---- instructions --------------------------------------------------------------------------

typedef enum op { OP_SET, OP_NEXT, OP_SPLIT, OP_JUMP, OP_MATCH } op;

typedef struct instruction {
  op op;
  int x, y;     // SPLIT: try x first, then y; JUMP: x
  int set;      // SET: consume one of it; NEXT: the next character must be of it
  bool at_end;  // NEXT
} instruction;

typedef struct program {
  instruction *code;
  int n;
  int work;  // nodes emitted: repetitions of nothing make no instructions, but take time
  bool full;
} program;

static int put_op(program *prog, instruction made) {
  if (prog->n == MAX_INSTRUCTIONS) {
    prog->full = true;
    return 0;
  }
  prog->code[prog->n] = made;
  return prog->n++;
}

// x is preferred unless the repetition is lazy.
static void set_split(program *prog, int at, int enter, int leave, bool lazy) {
  prog->code[at].x = lazy ? leave : enter;
  prog->code[at].y = lazy ? enter : leave;
}

static void emit(program *prog, const node *nodes, int which) {
  const node *m = &nodes[which];
  if (prog->full || ++prog->work > 10 * MAX_INSTRUCTIONS) {
    prog->full = true;
    return;
  }
  switch (m->kind) {
    case NODE_EMPTY: break;
    case NODE_SET: put_op(prog, (instruction){.op = OP_SET, .set = m->a}); break;
    case NODE_NEXT:
      put_op(prog, (instruction){.op = OP_NEXT, .set = m->a, .at_end = m->at_end});
      break;
    case NODE_CAT:
      emit(prog, nodes, m->a);
      emit(prog, nodes, m->b);
      break;
    case NODE_ALT: {
      int split = put_op(prog, (instruction){.op = OP_SPLIT});
      emit(prog, nodes, m->a);
      int jump = put_op(prog, (instruction){.op = OP_JUMP});
      set_split(prog, split, split + 1, prog->n, false);
      emit(prog, nodes, m->b);
      prog->code[jump].x = prog->n;
      break;
    }
    case NODE_REPEAT: {
      for (int i = 0; i < m->min; i++) emit(prog, nodes, m->a);
      if (m->max < 0) {
        int split = put_op(prog, (instruction){.op = OP_SPLIT});
        emit(prog, nodes, m->a);
        put_op(prog, (instruction){.op = OP_JUMP, .x = split});
        set_split(prog, split, split + 1, prog->n, m->lazy);
        break;
      }
      // Each of the optional copies is entered from the one before; all leave to the same place.
      int first = prog->n;
      for (int i = m->min; i < m->max && !prog->full; i++) {
        put_op(prog, (instruction){.op = OP_SPLIT, .set = -1});
        emit(prog, nodes, m->a);
      }
      for (int i = first; i < prog->n; i++)
        if (prog->code[i].op == OP_SPLIT && prog->code[i].set == -1) {
          prog->code[i].set = 0;
          set_split(prog, i, i + 1, prog->n, m->lazy);
        }
      break;
    }
  }
}

// ---- the table -----------------------------------------------------------------------------

typedef struct builder {
  const program *prog;
  const charset *sets;
  int sets_count;
  uint64_t members[MAX_CLASSES + 1];  // by class: the sets it lies in
  int classes;
  int **states;  // by state: count, then instructions in order of preference
  int states_count;
  int *list;  // the closure under construction
  int list_count;
  bool *seen;  // by instruction
  bool matched;
} builder;

// Add what `at` leads to without consuming anything, in order of preference, up to a match. The
// next character is of class `class`, or -1 for the end. Recursion is bounded: each instruction is
// entered once.
static void close_over(builder *b, int at, int class) {
  for (;;) {
    if (b->matched || b->seen[at]) return;
    b->seen[at] = true;
    const instruction *i = &b->prog->code[at];
    switch (i->op) {
      case OP_MATCH: b->matched = true; return;
      case OP_SET: b->list[b->list_count++] = at; return;
      case OP_NEXT:
        if (class < 0 ? !i->at_end : !(b->members[class] >> i->set & 1)) return;
        at++;
        break;
      case OP_JUMP: at = i->x; break;
      case OP_SPLIT:
        close_over(b, i->x, class);
        at = i->y;
        break;
    }
  }
}

static void close_state(builder *b, int state, int class) {
  memset(b->seen, 0, (size_t)b->prog->n * sizeof *b->seen);
  b->list_count = 0;
  b->matched = false;
  const int *from = b->states[state];
  for (int k = 1; k <= from[0] && !b->matched; k++) close_over(b, from[k], class);
}

// The state that is this list; made if it is new. -1 when memory ran out, -2 when there are too
// many.
static int find_state(builder *b, const int *list, int count) {
  for (int s = 0; s < b->states_count; s++)
    if (b->states[s][0] == count && !memcmp(b->states[s] + 1, list, (size_t)count * sizeof *list))
      return s;
  if (b->states_count == MAX_STATES) return -2;
  int *made = malloc((size_t)(count + 1) * sizeof *made);
  if (!made) return -1;
  made[0] = count;
  if (count) memcpy(made + 1, list, (size_t)count * sizeof *list);
  b->states[b->states_count] = made;
  return b->states_count++;
}

static verdict build_states(builder *b, regex_table *t, const uint8_t ascii[128]) {
  int start[] = {0}, *next = malloc((size_t)b->prog->n * sizeof *next);
  if (!next) return NO_MEMORY;
  verdict v = PARSED;
  find_state(b, NULL, 0);  // row 0: dead
  t->start = find_state(b, start, 1);
  if (t->start < 0) v = NO_MEMORY;
  t->cells = malloc((size_t)MAX_STATES * 256 * sizeof *t->cells);
  t->match_at_end = calloc(MAX_STATES, 1);
  if (!t->cells || !t->match_at_end) v = NO_MEMORY;

  for (int s = 0; v == PARSED && s < b->states_count; s++) {
    uint16_t by_class[128] = {0};
    for (int c = 0; c < b->classes && s > 0; c++) {
      close_state(b, s, c);
      int count = 0;
      for (int k = 0; k < b->list_count; k++) {
        const instruction *i = &b->prog->code[b->list[k]];
        if (b->members[c] >> i->set & 1) next[count++] = b->list[k] + 1;
      }
      bool matched = b->matched;
      int to = find_state(b, next, count);
      if (to < 0) {
        v = to == -1 ? NO_MEMORY : BEYOND;
        break;
      }
      by_class[c] = (uint16_t)(to << 1 | matched);
    }
    uint16_t *row = t->cells + (size_t)s * 256;
    for (int column = 0; column < 128; column++) row[column] = by_class[ascii[column]];
    memcpy(row + 128, by_class, sizeof by_class);
    if (s > 0) {
      close_state(b, s, -1);
      t->match_at_end[s] = b->matched;
    }
  }
  free(next);
  t->states = b->states_count;
  if (v == PARSED) {  // give back the rows that are not used
    uint16_t *cells = realloc(t->cells, (size_t)t->states * 256 * sizeof *cells);
    if (cells) t->cells = cells;
  }
  return v;
}

static int compare_points(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

// The class of characters that lie in the same sets as cp; made if it is new.
static int class_of(builder *b, uint32_t cp) {
  uint64_t members = 0;
  for (int i = 0; i < b->sets_count; i++)
    if (charset_has(&b->sets[i], cp)) members |= 1ull << i;
  int class = 0;
  while (class < b->classes && b->members[class] != members) class ++;
  if (class == b->classes && class < MAX_CLASSES + 1) b->members[b->classes++] = members;
  return class < MAX_CLASSES ? class : MAX_CLASSES;
}

// Number the classes of characters that no set tells apart.
static verdict build_classes(builder *b, regex_table *t, uint8_t ascii[128]) {
  size_t total = 1;
  for (int i = 0; i < b->sets_count; i++) total += (size_t)b->sets[i].n;
  uint32_t *cuts = malloc(total * sizeof *cuts);
  t->block = malloc(UNICODE_END >> 8);
  t->classes = malloc(256 * sizeof *t->classes);
  if (!cuts || !t->block || !t->classes) {
    free(cuts);
    return NO_MEMORY;
  }
  size_t n = 0;
  cuts[n++] = 0;
  for (int i = 0; i < b->sets_count; i++)
    for (int k = 0; k < b->sets[i].n; k++) cuts[n++] = b->sets[i].at[k];
  qsort(cuts, n, sizeof *cuts, compare_points);

  // Blocks of 256 characters of one class share one copy.
  int blocks = 0, uniform[MAX_CLASSES + 1];
  for (int c = 0; c <= MAX_CLASSES; c++) uniform[c] = -1;
  verdict v = PARSED;
  size_t cut = 0;
  int class = 0;
  for (uint32_t base = 0; base < UNICODE_END && v == PARSED; base += 256) {
    bool same = cut == n || cuts[cut] >= base + 256;
    uint8_t row[256];
    for (uint32_t cp = base; cp < base + 256; cp++) {
      if (cut < n && cuts[cut] == cp) {
        while (cut < n && cuts[cut] == cp) cut++;
        class = class_of(b, cp);
      }
      row[cp - base] = (uint8_t)(128 + class);
      if (cp < 128) ascii[cp] = (uint8_t) class;
    }
    int block = same ? uniform[class] : -1;
    if (block < 0 && (b->classes > MAX_CLASSES || blocks == 256)) {
      v = BEYOND;
    } else if (block < 0) {
      block = blocks++;
      memcpy(t->classes[block], row, 256);
      if (same) uniform[class] = block;
    }
    t->block[base >> 8] = (uint8_t)block;
  }
  free(cuts);
  return v;
}

void regex_table_free(regex_table *t) {
  free(t->cells);
  free(t->match_at_end);
  free(t->block);
  free(t->classes);
  *t = (regex_table){0};
}

verdict regex_table_build(regex_table *t, const parser *p, int root) {
  program prog = {.code = malloc(MAX_INSTRUCTIONS * sizeof *prog.code)};
  builder b = {.prog = &prog, .sets = p->sets, .sets_count = p->sets_count};
  b.states = malloc(MAX_STATES * sizeof *b.states);
  b.list = malloc(MAX_INSTRUCTIONS * sizeof *b.list);
  b.seen = malloc(MAX_INSTRUCTIONS * sizeof *b.seen);
  verdict v = prog.code && b.states && b.list && b.seen ? PARSED : NO_MEMORY;
  uint8_t ascii[128];
  if (v == PARSED) {
    emit(&prog, p->nodes, root);
    put_op(&prog, (instruction){.op = OP_MATCH});
    if (prog.full) v = BEYOND;
  }
  if (v == PARSED) v = build_classes(&b, t, ascii);
  if (v == PARSED) v = build_states(&b, t, ascii);
  for (int s = 0; s < b.states_count; s++) free(b.states[s]);
  free(b.states);
  free(b.list);
  free(b.seen);
  free(prog.code);
  if (v != PARSED) regex_table_free(t);
  return v;
}
