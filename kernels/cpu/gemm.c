// gemm.c - matmul of one dtype by one instruction set.
//
// A task is a block of c. It packs its block of b, which stays in the second cache, and passes the
// rows of a along it, a few at a time. Each element is summed in order of k, in slices whose length
// depends on k alone, each from 0: the bits depend neither on the threads nor on where c is cut.
//
// In generation what is multiplied by rows along k, as in x w^T, goes another way where there are no tiles: dots.h.
//
// The sizes were measured on a core with 2 MiB of second cache; half of it costs little.
#include <omp.h>

#include "product.h"

enum {
  STEP = 32,                                  // rows of a at a time
  B_BYTES = PAIRS ? 1024 << 10 : 1408 << 10,  // a block of b
  N_LEAST = 192,                              // its columns
  K_MOST = PAIRS ? 4096 : 640,                // k that stays whole
  K_SLICE = PAIRS ? 1536 : 640,               // a slice of a longer one
  // Where a must be transposed, packing it is costly: slices are short so that blocks are wide.
  STEP_TURNED = 128,
  K_TURNED = 256,
  // Sums that wait for the next slice.
  N_SLICED = 768,
  C_BYTES = 2048 << 10,
};

typedef struct gemm {
  const cft_matmul_args *a;
  int tiles;
  int64_t panel;    // columns of b that lie together
  int64_t m, n, k;  // of a block, and of a slice
  int64_t step;     // rows of a at a time
  int64_t slices;
  int in_place;  // c is made of sums that a product may add to
  int past_cache;  // c is stored past the cache
} gemm;

typedef struct gemm_scratch {
  unit *a, *b, *turned;
  num *rows;
  acc *c;
} gemm_scratch;

// Units from one packed row of a to the next: not a power of two, or all rows would fall into the
// same set of a cache.
static int64_t a_row(int64_t k) { return k / PAIR + LANES; }

static int64_t gemm_layout(gemm_scratch *w, const gemm *g, char *memory) {
  char *at = memory;
  w->a = take(&at, g->step * a_row(g->k));
  w->turned = take(&at, g->tiles ? g->step * a_row(g->k) : 0);
  w->b = take(&at, g->k / PAIR * g->n);
  w->rows = take(&at, LANES * round_up(g->k / PAIR, LANES));
  w->c = take(&at, (g->slices > 1 ? g->m : g->step) * g->n);
  return at - memory;
}

static const real *a_at(const gemm *g, int64_t i, int64_t p) {
  const cft_matmul_args *a = g->a;
  return (const real *)a->a + (a->trans_a ? p * a->a_stride + i : i * a->a_stride + p);
}

// op(a), rows i0 to i0 + m, numbers p0 to p0 + k.
static operand pack_a(const gemm *g, const gemm_scratch *w, int64_t i0, int64_t m, int64_t m_padded,
                      int64_t p0, int64_t k, int64_t k_padded) {
  const cft_matmul_args *a = g->a;
  const real *from = a_at(g, i0, p0);
  int64_t row = a_row(k_padded);
  if (!a->trans_a) {
    // Rows that need no widening or padding are read where they are stored.
    if (sizeof(real) == sizeof(num) && m == m_padded && k == k_padded && a->a_stride % PAIR == 0 &&
        a->a_stride * (int64_t)sizeof(real) % 4096 != 0)
      return (operand){(const unit *)from, a->a_stride / PAIR, 1};
    pack((num *)w->a, row * PAIR, from, a->a_stride, m, m_padded, k);
    return (operand){w->a, row, 1};
  }
  pack_in_pairs(w->a, m_padded, from, a->a_stride, k, k_padded, m);
  if (!g->tiles) return (operand){w->a, 1, m_padded};
  transpose(w->turned, row, (num *)w->a, m_padded * PAIR, k_padded / PAIR, m_padded);
  return (operand){w->turned, row, 1};
}

// Columns j to j + LANES of a panel where b is stored transposed (trans_b): numbers p0 to p0 + k of `rows` of its rows
// from j0 on, and zeros where there are fewer. `whole` units of each row are in y already.
static void pack_b_rows(unit *y, const gemm *g, num *spare, int64_t j0, int64_t j, int64_t rows, int64_t p0, int64_t k,
                        int64_t units, int64_t whole) {
  const cft_matmul_args *a = g->a;
  const real *from = (const real *)a->b + (j0 + j) * a->b_stride + p0;
  if (whole == units) return;
  // What is widened or padded on the way.
  int64_t rest = round_up(units - whole, LANES);
  pack(spare, rest * PAIR, from + whole * PAIR, a->b_stride, rows, LANES, k - whole * PAIR);
  for (int64_t p = 0; p < rest; p += LANES) {
    unit turned[LANES * LANES] __attribute__((aligned(64)));
    transpose(turned, LANES, spare + p * PAIR, rest * PAIR, LANES, LANES);
    for (int64_t q = 0; q < cpu_min(LANES, units - whole - p); q++)
      memcpy(y + (whole + p + q) * g->panel + j, turned + q * LANES, sizeof(uvec));
  }
}

// op(b), numbers p0 to p0 + k, one panel of n columns from j0.
static void pack_b(unit *y, const gemm *g, const gemm_scratch *w, int64_t j0, int64_t n, int64_t p0,
                   int64_t k, int64_t k_padded) {
  const cft_matmul_args *a = g->a;
  if (!a->trans_b) {
    pack_in_pairs(y, g->panel, (const real *)a->b + p0 * a->b_stride + j0, a->b_stride, k, k_padded,
                  n);
    return;
  }
  int64_t units = k_padded / PAIR;
  for (int64_t j = 0; j < g->panel; j += LANES) {
    const real *from = (const real *)a->b + (j0 + j) * a->b_stride + p0;
    int64_t rows = cpu_max(0, cpu_min(n - j, LANES)), whole = 0;
    if (sizeof(real) == sizeof(num) && rows == LANES) {
      whole = k / PAIR / LANES * LANES;
      transpose(y + j, g->panel, (const num *)from, a->b_stride, LANES, whole);
    }
    pack_b_rows(y, g, w->rows, j0, j, rows, p0, k, units, whole);
  }
}

// A row of c. Whole lines of it go past the cache: to fetch what is overwritten would cost as much
// again, and where it matters c is larger than the cache.
static void store_row(real *y, const acc *x, int64_t n, int past_cache) {
  int64_t whole = 0;
  (void)past_cache;
#if PAIRS
  if (past_cache && (uintptr_t)y % 64 == 0) {
    for (; whole + 2 * LANES <= n; whole += 2 * LANES)
      _mm512_stream_si512((__m512i *)(void *)(y + whole), narrow(x + whole));
  } else {
    for (; whole + 2 * LANES <= n; whole += 2 * LANES)
      _mm512_storeu_si512(y + whole, narrow(x + whole));
  }
#endif
  SIMD
  for (int64_t j = whole; j < n; j++) y[j] = STORE(x[j]);
}

// Sums (m, n) to c: with the bias, and what was there.
static void unpack_c(const gemm *g, acc *sum, int64_t stride, int64_t i0, int64_t m, int64_t j0,
                     int64_t n) {
  const cft_matmul_args *a = g->a;
  const real *bias = a->bias ? (const real *)a->bias + j0 : NULL;
  for (int64_t i = 0; i < m; i++) {
    acc *s = sum + i * stride;
    if (bias) {
      SIMD
      for (int64_t j = 0; j < n; j++) s[j] += LOAD(bias[j]);
    }
    if (a->c_dtype == a->dtype) {
      real *c = (real *)a->c + (i0 + i) * a->c_stride + j0;
      if (a->beta) {
        SIMD
        for (int64_t j = 0; j < n; j++) s[j] += LOAD(c[j]);
      }
      store_row(c, s, n, g->past_cache);
    } else {
      float *c = (float *)a->c + (i0 + i) * a->c_stride + j0;
      if (a->beta) {
        SIMD
        for (int64_t j = 0; j < n; j++) c[j] += (float)s[j];
      } else {
        SIMD
        for (int64_t j = 0; j < n; j++) c[j] = (float)s[j];
      }
    }
  }
}

// The rows of a after i0, `m` of them, to be prefetched while `products` go on.
static coming rows_coming(const gemm *g, int64_t i0, int64_t m, int64_t p0, int64_t k,
                          int64_t products) {
  const cft_matmul_args *a = g->a;
  coming x = {.at = (const char *)a_at(g, i0, p0), .stride = a->a_stride * (int64_t)sizeof(real)};
  x.rows = a->trans_a ? k : m;
  x.bytes = (a->trans_a ? m : k) * (int64_t)sizeof(real);
  x.each = (int)cpu_blocks(x.rows * cpu_blocks(x.bytes, 64), cpu_max(products, 1));
  if (m <= 0) x.rows = 0;
  return x;
}

static void gemm_block(const gemm *g, const gemm_scratch *w, int64_t i0, int64_t j0) {
  const cft_matmul_args *a = g->a;
  int64_t m = cpu_min(g->m, a->m - i0), n = cpu_min(g->n, a->n - j0);
  int64_t width = round_up(n, g->panel), panels = width / g->panel;
  for (int64_t slice = 0; slice < g->slices; slice++) {
    int64_t p0 = slice * g->k, k = cpu_min(g->k, a->k - p0);
    int64_t k_padded = round_up(k, g->tiles ? TILE : PAIR), units = k_padded / PAIR;
    for (int64_t j = 0; j < n; j += g->panel)
      pack_b(w->b + j * units, g, w, j0 + j, cpu_min(g->panel, n - j), p0, k, k_padded);
    for (int64_t i = 0; i < m; i += g->step) {
      int64_t rows = cpu_min(g->step, m - i), next = cpu_max(0, cpu_min(g->step, m - i - g->step));
      int64_t rows_padded = round_up(rows, g->tiles ? TILE : MR);
      acc *c = w->c + (g->slices > 1 ? i * width : 0);
      operand of_a = pack_a(g, w, i0 + i, rows, rows_padded, p0, k, k_padded);
      coming then = rows_coming(g, i0 + i + g->step, next, p0, k,
                                g->tiles ? panels * (rows_padded / TILE) * (k_padded / TILE)
                                         : panels * (rows_padded / MR));
      // Columns that need no scratch: whole panels of whole rows.
      int64_t whole = g->in_place && rows == rows_padded ? n / g->panel * g->panel : 0;
      for (int64_t j = 0; j < n; j += g->panel) {
        const unit *b = w->b + j * units;
        if (j < whole)
          product(g->tiles, (acc *)a->c + (i0 + i) * a->c_stride + j0 + j, a->c_stride, of_a, b,
                  g->panel, rows_padded, g->panel, units, slice > 0 || a->beta, &then);
        else
          product(g->tiles, c + j, width, of_a, b, g->panel, rows_padded, g->panel, units,
                  slice > 0, &then);
      }
      if (slice == g->slices - 1 && whole < n)
        unpack_c(g, c + whole, width, i0 + i, rows, j0 + whole, n - whole);
    }
  }
}

// n in equal parts of at most `most`, each a multiple.
static int64_t part(int64_t n, int64_t most, int64_t multiple) {
  return round_up(cpu_blocks(n, cpu_blocks(n, cpu_max(most, 1))), multiple);
}

#include "dots.h"

// c = [c] + [bias]: all of a product over no k.
static void no_k(const cft_matmul_args *a) {
  const real *bias = a->bias;
  size_t size = cft_dtype_bytes(a->c_dtype);
  for (int64_t i = 0; i < a->m; i++) {
    char *c = (char *)a->c + (size_t)(i * a->c_stride) * size;
    if (!a->beta) memset(c, 0, (size_t)a->n * size);
    for (int64_t j = 0; bias && j < a->n; j++) {
      if (a->c_dtype == CFT_REAL)
        ((real *)c)[j] = STORE(LOAD(((real *)c)[j]) + LOAD(bias[j]));
      else
        ((float *)c)[j] += (float)LOAD(bias[j]);
    }
  }
}

cft_status CPU(matmul)(cft_device *d, cft_stream *s, const cft_matmul_args *a) {
  if (a->c_dtype != CFT_REAL && (CFT_REAL != CFT_BF16 || a->c_dtype != CFT_F32))
    return cft_fail(CFT_E_UNSUPPORTED, "no cpu kernel for matmul of %s into %s",
                    cft_dtype_name(a->dtype), cft_dtype_name(a->c_dtype));
  if (a->a_sum && (!a->trans_a || a->a_stride != a->m || a->bias))
    return cft_fail(CFT_E_ARG, "matmul: a_sum wants trans_a, rows of a without gaps, no bias");
  // clang-format off
  const cft_reduce_args sum = {
    .y = a->a_sum, .x = a->a, .outer = 1, .mid = a->k, .inner = a->m, .alpha = 1, .f = CFT_SUM,
    .y_beta = a->a_sum_beta, .dtype = a->dtype, .y_dtype = a->c_dtype};
  // clang-format on
  if (a->a_sum) CFT_TRY(CPU(reduce)(d, s, &sum));
  if (a->m == 0 || a->n == 0) return CFT_OK;
  if (a->k == 0) return no_k(a), CFT_OK;
  gemm g = {.a = a, .tiles = have_tiles(), .step = a->trans_a ? STEP_TURNED : STEP, .past_cache = 1};
  if (are_dots(&g)) return matmul_dots(d, &g);
  int team = cft_cpu_team(a->m * a->n * a->k / 8);
  g.panel = g.tiles ? TILE : NR * LANES;
  int64_t slice = a->k <= K_MOST ? K_MOST : K_SLICE;
  g.k = part(a->k, a->trans_a ? K_TURNED : slice, TILE);
  g.slices = cpu_blocks(a->k, g.k);
  g.in_place = g.slices == 1 && a->c_dtype == CFT_ACC && !a->bias && a->c_stride % LANES == 0 &&
               (uintptr_t)a->c % VECTOR_BYTES == 0;
  int64_t fits = cpu_max(N_LEAST, B_BYTES / (g.k * (int64_t)sizeof(num)));
  if (g.slices > 1) fits = cpu_min(fits, N_SLICED);
  // Equal shares for the threads. Each block of rows packs b anew, so there are few of them.
  int64_t cols = round_up(cpu_blocks(a->n, fits), team);
  g.n = part(a->n, cpu_blocks(a->n, cols), g.panel);
  cols = cpu_blocks(a->n, g.n);
  g.m = cpu_max(cpu_blocks(a->m, team == 1 ? 1 : cpu_blocks(2 * team, cols)), g.step);
  if (g.slices > 1) g.m = cpu_min(g.m, C_BYTES / (g.n * (int64_t)sizeof(acc)));
  g.m = part(a->m, g.m, g.step);
  int64_t rows = cpu_blocks(a->m, g.m);
  gemm_scratch none;
  size_t each = (size_t)gemm_layout(&none, &g, NULL), bytes = each * (size_t)team;
  char *memory;
  CFT_TRY(d->alloc(d, (void **)&memory, bytes, CFT_MEM_WORKSPACE));
#pragma omp parallel num_threads(team)
  {
    gemm_scratch w;
    gemm_layout(&w, &g, memory + each * (size_t)omp_get_thread_num());
    tiles_begin(g.tiles);
#pragma omp for schedule(dynamic)
    for (int64_t t = 0; t < rows * cols; t++) gemm_block(&g, &w, t % rows * g.m, t / rows * g.n);
    tiles_end(g.tiles);
  }
  d->free(d, memory, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}
