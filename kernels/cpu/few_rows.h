// few_rows.h - the part of gemm.c for a few rows of a: what decoding multiplies, a row a sequence.
//
// Such a product is as fast as b comes from memory. A thread takes panels of b that lie behind each other, transposes a
// chunk of one into the first cache while it asks for the next chunk, and passes all rows of a along it: b is
// read once. Each element is summed in order of k, in slices as elsewhere in gemm.c: the bits are the same.
#ifndef CFT_FEW_ROWS_H
#define CFT_FEW_ROWS_H

enum {
  FEW = 32,          // most rows of a
  FEW_UNITS = 96,    // of a chunk of b: with NR vectors 18 KiB
};

// Tiles sum pairs in another order and are as fast with few rows as with many.
static int is_few(const gemm *g) {
  return g->a->m <= FEW && g->a->trans_b && !g->a->trans_a && !g->a->beta && !g->tiles;
}

typedef struct few_scratch {
  unit *b;    // (FEW_UNITS, panel)
  num *rows;  // for pack_b_rows
  acc *c;     // (m, panel)
  acc *part;  // the same of a slice of k
} few_scratch;

static int64_t few_layout(few_scratch *w, const gemm *g, char *memory) {
  char *at = memory;
  w->b = take(&at, FEW_UNITS * g->panel);
  w->rows = take(&at, LANES * FEW_UNITS);
  w->c = take(&at, round_up(g->a->m, MR) * g->panel);
  w->part = take(&at, round_up(g->a->m, MR) * g->panel);
  return at - memory;
}

// c (rows, vectors) = [c +] a b, all of c in registers.
static inline __attribute__((always_inline)) void few_in_registers(acc *c, int64_t c_stride, operand a, const unit *b,
                                                                   int64_t b_stride, int64_t k, int add,
                                                                   const int rows, const int vectors) {
  vec sum[MR][NR];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) sum[i][j] = add ? *(const vec *)(c + i * c_stride + j * LANES) : (vec){0};
  for (int64_t p = 0; p < k; p++) {
    uvec of_b[NR];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) of_b[j] = *(const uvec *)(b + p * b_stride + j * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      unit x = a.at[i * a.row + p];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sum[i][j] = multiply_add(sum[i][j], x, of_b[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) *(vec *)(c + i * c_stride + j * LANES) = sum[i][j];
}

// The same for any number of rows, a panel wide.
static void few_product(acc *c, operand a, const unit *b, int64_t panel, int64_t m, int64_t k, int add) {
#define ROWS_OF(n)                                                                                  \
  for (; m - i >= n; i += n) {                                                                      \
    operand from = {a.at + i * a.row, a.row, 1};                                                    \
    if (panel == LANES)                                                                             \
      few_in_registers(c + i * panel, panel, from, b, panel, k, add, n, 1);                         \
    else                                                                                            \
      few_in_registers(c + i * panel, panel, from, b, panel, k, add, n, NR);                        \
  }
  int64_t i = 0;
  ROWS_OF(MR)
  if (MR > 4) ROWS_OF(4)
  ROWS_OF(2)
  ROWS_OF(1)
#undef ROWS_OF
}

// Numbers p0 to p0 + k of the panel from column j0, transposed; meanwhile the chunk whose first row begins at `next`
// is asked for.
static void few_pack_b(const gemm *g, const few_scratch *w, int64_t j0, int64_t p0, int64_t k, const char *next) {
  const cft_matmul_args *a = g->a;
  int64_t units = cpu_blocks(k, PAIR), stride = a->b_stride * (int64_t)sizeof(real);
  for (int64_t j = 0; j < g->panel; j += LANES) {
    int64_t rows = cpu_max(0, cpu_min(a->n - j0 - j, LANES)), whole = 0;
    const char *ahead = next + j * stride;
    if (sizeof(real) == sizeof(num) && rows == LANES) {
      const num *from = (const num *)((const real *)a->b + (j0 + j) * a->b_stride + p0);
      whole = k / PAIR / LANES * LANES;
      for (int64_t q = 0; q < whole; q += LANES) {
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) __builtin_prefetch(ahead + l * stride + q * (int64_t)sizeof(unit), 0, 3);
        transpose(w->b + q * g->panel + j, g->panel, from + q * PAIR, a->b_stride, LANES, LANES);
      }
    }
    pack_b_rows(w->b, g, w->rows, j0, j, rows, p0, k, units, whole);
  }
}

// c (rows, panel) = [c +] sum, which begins again at 0.
static inline __attribute__((always_inline)) void add_slice(acc *c, vec *sum, int64_t width, int64_t panel,
                                                            const int rows, int add) {
#pragma GCC unroll 2
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NR; j++) {
      vec *to = (vec *)(c + i * panel + j * LANES);
      if (add)
        *to += sum[i * width + j];
      else
        *to = sum[i * width + j];
      sum[i * width + j] = (vec){0};
    }
}

// One or two rows times the panel from column j0. Each square of b is used where it was transposed, in registers: there
// are too few products to hide a second pass over a chunk behind. `then`: the column where the next panel begins.
static inline __attribute__((always_inline)) void few_at_once(const gemm *g, const few_scratch *w, operand of_a,
                                                              int64_t j0, int64_t then, const int rows) {
  const cft_matmul_args *a = g->a;
  int64_t units = cpu_blocks(a->k, PAIR), whole = a->k / PAIR / LANES * LANES;
  const num *b = (const num *)a->b;
  vec sum[2][NR];
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < NR; j++) sum[i][j] = (vec){0};
  for (int64_t q = 0; q < whole; q += LANES) {
    if (!PAIRS && q > 0 && q * PAIR % g->k == 0) add_slice(w->c, &sum[0][0], NR, g->panel, rows, q * PAIR > g->k);
    int64_t column = q + FEW_UNITS < whole ? j0 : then, ahead = q + FEW_UNITS < whole ? q + FEW_UNITS : q + FEW_UNITS - whole;
#pragma GCC unroll 4
    for (int j = 0; j < NR; j++) {
      uvec to[LANES];
      const num *next = b + (column + j * LANES) * a->b_stride + ahead * PAIR;
#pragma GCC unroll 16
      for (int l = 0; l < LANES; l++) __builtin_prefetch(next + l * a->b_stride, 0, 3);
      square(to, b + (j0 + j * LANES) * a->b_stride + q * PAIR, a->b_stride);
#pragma GCC unroll 16
      for (int p = 0; p < LANES; p++)
#pragma GCC unroll 2
        for (int i = 0; i < rows; i++) sum[i][j] = multiply_add(sum[i][j], of_a.at[i * of_a.row + q + p], to[p]);
    }
  }
  int64_t sliced = PAIRS || whole == 0 ? 0 : (whole * PAIR - 1) / g->k;  // slices that are in c already
  if (whole < units) {
    // What is left of the last slice, or a last slice that is smaller than a square.
    int alone = !PAIRS && whole > 0 && whole * PAIR % g->k == 0;
    if (alone) add_slice(w->c, &sum[0][0], NR, g->panel, rows, sliced++ > 0);
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < NR; j++) *(vec *)(w->part + i * g->panel + j * LANES) = sum[i][j];
    for (int64_t j = 0; j < g->panel; j += LANES)
      pack_b_rows(w->b, g, w->rows, j0, j, LANES, whole * PAIR, a->k - whole * PAIR, units - whole, 0);
    few_product(w->part, (operand){of_a.at + whole, of_a.row, 1}, w->b, g->panel, rows, units - whole, 1);
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < NR; j++) sum[i][j] = *(const vec *)(w->part + i * g->panel + j * LANES);
  }
  add_slice(w->c, &sum[0][0], NR, g->panel, rows, sliced > 0);
}

// Panels from `first` to `last`.
static void few_panels(const gemm *g, const few_scratch *w, operand of_a, int64_t first, int64_t last) {
  const cft_matmul_args *a = g->a;
  const int64_t chunk = FEW_UNITS * PAIR;
  for (int64_t t = first; t < last; t++) {
    int64_t j0 = t * g->panel, n = cpu_min(g->panel, a->n - j0);
    if (sizeof(real) == sizeof(num) && n == NR * LANES && a->m <= 2) {
      if (a->m == 1)
        few_at_once(g, w, of_a, j0, j0 + n, 1);
      else
        few_at_once(g, w, of_a, j0, j0 + n, 2);
      unpack_c(g, w->c, g->panel, 0, a->m, j0, n);
      continue;
    }
    for (int64_t p0 = 0, k; p0 < a->k; p0 += k) {
      // A chunk ends where its slice does.
      int64_t in_slice = PAIRS ? p0 : p0 % g->k, end = PAIRS ? a->k : cpu_min(a->k, p0 - in_slice + g->k);
      k = cpu_min(chunk, end - p0);
      int64_t then = p0 + k;
      const real *next = (const real *)a->b + (then < a->k ? j0 * a->b_stride + then : (j0 + g->panel) * a->b_stride);
      few_pack_b(g, w, j0, p0, k, (const char *)next);
      operand at = {of_a.at + p0 / PAIR, of_a.row, 1};
      acc *c = end > (PAIRS ? a->k : g->k) ? w->part : w->c;  // of all slices but the first
      few_product(c, at, w->b, g->panel, a->m, cpu_blocks(k, PAIR), in_slice > 0);
      if (c == w->c || then < end) continue;
      SIMD
      for (int64_t i = 0; i < a->m * g->panel; i++) w->c[i] += w->part[i];
    }
    unpack_c(g, w->c, g->panel, 0, a->m, j0, n);
  }
}

static cft_status few_rows(cft_device *d, gemm *g) {
  const cft_matmul_args *a = g->a;
  int team = cft_cpu_team(cpu_max(a->m, 4) * a->n * a->k / 8);
  g->past_cache = 0;
  g->k = part(a->k, a->k <= K_MOST ? K_MOST : K_SLICE, TILE);
  g->panel = NR * LANES;
  if (cpu_blocks(a->n, g->panel) < 4 * team) g->panel = LANES;
  // Rows of a that need no widening or padding are read where they are stored.
  int stored = sizeof(real) == sizeof(num) && a->k % PAIR == 0 && a->a_stride % PAIR == 0;
  int64_t row = round_up(a->k, PAIR) / PAIR, panels = cpu_blocks(a->n, g->panel);
  size_t of_a = stored ? 0 : (size_t)round_up(a->m * row * (int64_t)sizeof(unit), 64);
  few_scratch none;
  size_t each = (size_t)few_layout(&none, g, NULL), bytes = of_a + each * (size_t)team;
  char *memory;
  CFT_TRY(d->alloc(d, (void **)&memory, bytes, CFT_MEM_WORKSPACE));
  operand rows = {(const unit *)a->a, a->a_stride / PAIR, 1};
  if (!stored) {
    pack((num *)memory, row * PAIR, a->a, a->a_stride, a->m, a->m, a->k);
    rows = (operand){(const unit *)memory, row, 1};
  }
#pragma omp parallel num_threads(team)
  {
    int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    few_scratch w;
    few_layout(&w, g, memory + of_a + each * (size_t)me);
    few_panels(g, &w, rows, panels * me / all, panels * (me + 1) / all);
  }
  d->free(d, memory, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}

#endif
