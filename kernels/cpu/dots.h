// dots.h - the part of gemm.c where both operands are stored along k: x w^T, every product of a
// forward pass, in generation and where its bits are wanted (set_rows_alone in kernels/device.h).
//
// Sums lie along k as well: lane l takes every LANES-th unit, and the lanes are added at the end of a
// slice, always in the same order. Nothing is turned on its way, so that one row of a, which decoding
// has for each sequence, costs what reading b from memory costs, in the order in which it lies there;
// the price is a sum over lanes for each element, a tenth of a large product with k = 576, which
// training does not pay. The bits of an element depend on its row of a, its row of b and k: neither
// on its tile nor on how many rows there are.
#ifndef CFT_DOTS_H
#define CFT_DOTS_H

enum {
  STRIDE = LANES * PAIR,                   // numbers of k that a vector takes
  SLICE = 4096 / sizeof(num),              // of k; longer ones are cut
  TILE_ROWS = VECTOR_BYTES == 64 ? 6 : 3,  // of a: with 4 columns 24 of 32 registers, or 12 of 16
  TILE_COLUMNS = 4,
  WIDENED = sizeof(real) != sizeof(num),  // bf16 without units for it
  FEW = WIDENED ? 16 : 32,  // rows of a that pass along each tile of b, which is read once and widened for each six rows
  FEW_COLUMNS = 96,     // their sums, before they are rounded
  L1_BYTES = 32 << 10,  // rows of a at a time, and two tiles' of b
};

// ---- the sum of a vector ------------------------------------------------------------------------

#if defined(CFT_CPU_F64)

static inline acc sum_of(vec v) {
  acc sum = v[0];
  for (int l = 1; l < LANES; l++) sum += v[l];
  return sum;
}

static inline void sums_of(acc *y, vec a, vec b, vec c, vec d) {
  y[0] = sum_of(a), y[1] = sum_of(b), y[2] = sum_of(c), y[3] = sum_of(d);
}

#else

typedef acc quad __attribute__((vector_size(16), may_alias, aligned(4)));
#define QUAD(q, a, b, c, d) 4 * (q) + (a), 4 * (q) + (b), 4 * (q) + (c), 4 * (q) + (d)

// Of each quarter of two vectors, the entries a, b, c, d, of which those from LANES on are y's.
#if VECTOR_BYTES == 64
#define QUADS(x, y, ...)                                                                          \
  __builtin_shufflevector(x, y, QUAD(0, __VA_ARGS__), QUAD(1, __VA_ARGS__), QUAD(2, __VA_ARGS__), \
                          QUAD(3, __VA_ARGS__))
#elif VECTOR_BYTES == 32
#define QUADS(x, y, ...) __builtin_shufflevector(x, y, QUAD(0, __VA_ARGS__), QUAD(1, __VA_ARGS__))
#else
#define QUADS(x, y, ...) __builtin_shufflevector(x, y, QUAD(0, __VA_ARGS__))
#endif

// The sums of four vectors: inside of quarters first, lane l with l + 2, then quarters.
static inline __attribute__((always_inline)) void sums_of(acc *y, vec a, vec b, vec c, vec d) {
  vec ab = QUADS(a, b, 0, LANES, 1, LANES + 1) + QUADS(a, b, 2, LANES + 2, 3, LANES + 3);
  vec cd = QUADS(c, d, 0, LANES, 1, LANES + 1) + QUADS(c, d, 2, LANES + 2, 3, LANES + 3);
  vec all = QUADS(ab, cd, 0, 1, LANES, LANES + 1) + QUADS(ab, cd, 2, 3, LANES + 2, LANES + 3);
#if VECTOR_BYTES == 64
  typedef acc half __attribute__((vector_size(32)));
  half sum = (half)__builtin_shufflevector(all, all, 0, 1, 2, 3, 4, 5, 6, 7) +
             (half)__builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  vec sum = all;
#endif
#if VECTOR_BYTES == 16
  *(quad *)y = (quad)sum;
#else
  *(quad *)y = (quad)__builtin_shufflevector(sum, sum, 0, 1, 2, 3) +
               (quad)__builtin_shufflevector(sum, sum, 4, 5, 6, 7);
#endif
}

static inline acc sum_of(vec v) {
  acc y[4];
  sums_of(y, v, v, v, v);
  return y[0];
}

#endif

// ---- a tile -------------------------------------------------------------------------------------

static inline __attribute__((always_inline)) vec dot(vec sum, uvec a, uvec b) {
#if PAIRS
  return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
  return sum + a * b;
#endif
}

// Rows of b as they are stored, or widened.
typedef struct columns {
  const void *at;
  int64_t stride;  // in elements
} columns;

// Rows of b whose numbers of the same slice are asked for while a tile goes on.
typedef struct ahead {
  const char *at;
  int64_t stride;  // in bytes
  int rows;
} ahead;

// c (rows, cols) = [c +] a b^T over k numbers. cols is 1 or a multiple of 4.
static inline __attribute__((always_inline)) void dot_tile(acc *c, int64_t c_stride, const num *a,
                                                           int64_t a_stride, columns b, int64_t k,
                                                           int add, ahead next, const int stored,
                                                           const int rows, const int cols) {
  const int64_t size = stored ? sizeof(real) : sizeof(num);
  vec sum[TILE_ROWS][2 * TILE_COLUMNS];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < cols; j++) sum[i][j] = (vec){0};
  int64_t whole = k / STRIDE * STRIDE;
  for (int64_t p = 0; p < whole; p += STRIDE) {
    // Into the second cache where memory alone is waited for: the first has room for few lines on their way.
    for (int r = 0; r < next.rows; r++)
      __builtin_prefetch(next.at + r * next.stride + p * size, 0, rows == 1 ? 2 : 3);
    uvec of_a[TILE_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) of_a[i] = load_num(a + i * a_stride + p);
#pragma GCC unroll 8
    for (int j = 0; j < cols; j++) {
      uvec of_b = stored ? load_real((const real *)b.at + j * b.stride + p)
                         : load_num((const num *)b.at + j * b.stride + p);
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) sum[i][j] = dot(sum[i][j], of_a[i], of_b);
    }
  }
  if (whole < k) {  // zeros behind what is left
    num of_a[TILE_ROWS][STRIDE] = {{0}}, of_b[STRIDE] = {0};
    for (int i = 0; i < rows; i++)
      memcpy(of_a[i], a + i * a_stride + whole, (size_t)(k - whole) * sizeof(num));
#pragma GCC unroll 8
    for (int j = 0; j < cols; j++) {
      for (int64_t p = whole; p < k; p++)
        of_b[p - whole] = stored ? NUM(((const real *)b.at)[j * b.stride + p])
                                 : ((const num *)b.at)[j * b.stride + p];
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) sum[i][j] = dot(sum[i][j], load_num(of_a[i]), load_num(of_b));
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    acc *y = c + i * c_stride;
    if (cols == 1) {
      y[0] = add ? y[0] + sum_of(sum[i][0]) : sum_of(sum[i][0]);
      continue;
    }
#pragma GCC unroll 2
    for (int j = 0; j < cols; j += 4) {
      acc four[4];
      sums_of(four, sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
      for (int l = 0; l < 4; l++) y[j + l] = add ? y[j + l] + four[l] : four[l];
    }
  }
}

// The same for any number of rows, cut into tiles as equal as they can be. What comes behind b is
// asked for.
static inline __attribute__((always_inline)) void dot_rows(acc *c, int64_t c_stride, const num *a,
                                                           int64_t a_stride, columns b, int64_t m,
                                                           int64_t k, int add, const int stored,
                                                           const int cols) {
  int64_t tiles = cpu_blocks(m, TILE_ROWS),
          stride = b.stride * (int64_t)(stored ? sizeof(real) : sizeof(num));
  ahead next = {(const char *)b.at + cols * stride, stride, tiles < cols ? cols : 1};
#define TILE_OF(rows)                                           \
  case rows:                                                    \
    dot_tile(c, c_stride, a, a_stride, b, k, add, next, stored, \
             rows <= TILE_ROWS ? rows : TILE_ROWS, cols);       \
    break
  for (int64_t t = 0, rows; t < tiles; t++, m -= rows) {
    switch (rows = cpu_blocks(m, tiles - t)) {
      TILE_OF(1);
      TILE_OF(2);
      TILE_OF(3);
      TILE_OF(4);
      TILE_OF(5);
      TILE_OF(6);
    }
    c += rows * c_stride, a += rows * a_stride;
    next.at += next.rows * stride;
    if (t + 1 >= cols || next.rows > 1) next.rows = 0;
  }
#undef TILE_OF
}

// c (m, n) = [c +] a b^T over k numbers.
static void dot_product(acc *c, int64_t c_stride, const num *a, int64_t a_stride, columns b,
                        int64_t m, int64_t n, int64_t k, int add, const int stored) {
  const int64_t size = stored ? sizeof(real) : sizeof(num);
  for (int64_t j = 0; j < n;) {
    columns at = {(const char *)b.at + j * b.stride * size, b.stride};
    if (m == 1 && n - j >= 2 * TILE_COLUMNS) {  // more of b is on its way at a time
      ahead next = {(const char *)at.at + 2 * TILE_COLUMNS * b.stride * size, b.stride * size, 2 * TILE_COLUMNS};
      dot_tile(c + j, c_stride, a, a_stride, at, k, add, next, stored, 1, 2 * TILE_COLUMNS);
      j += 2 * TILE_COLUMNS;
    } else if (n - j >= TILE_COLUMNS) {
      dot_rows(c + j, c_stride, a, a_stride, at, m, k, add, stored, TILE_COLUMNS);
      j += TILE_COLUMNS;
    } else {
      dot_rows(c + j, c_stride, a, a_stride, at, m, k, add, stored, 1);
      j++;
    }
  }
}

// ---- a matmul -----------------------------------------------------------------------------------

typedef struct dots {
  gemm g;           // what unpack_c looks at
  int64_t m, n, k;  // of a block, and of a slice; n a multiple of LANES
  int64_t step;     // rows of a at a time
  int64_t slices;
  int pack_a, pack_b;  // whether rows are widened, or moved apart, before they are used
} dots;

typedef struct dots_scratch {
  num *a;  // (step, k), (n, k)
  num *b;
  acc *c;  // (m, n) of a block
} dots_scratch;

// Rows that are a multiple of 4 KiB apart fall into the same sets of a cache.
static int collide(int64_t stride) { return stride * (int64_t)sizeof(real) % 4096 == 0; }

// Numbers from one packed row to the next: no power of two.
static int64_t packed_row(int64_t k) { return round_up(k, STRIDE) + STRIDE; }

static int64_t dots_layout(dots_scratch *w, const dots *d, char *memory) {
  const int64_t numbers = sizeof(acc) / sizeof(num);
  char *at = memory;
  w->a = take(&at, d->pack_a ? cpu_blocks(d->step * packed_row(d->k), numbers) : 0);
  w->b = take(&at, d->pack_b ? cpu_blocks(d->n * packed_row(d->k), numbers) : 0);
  w->c = take(&at, (d->slices > 1 ? d->m : d->step) * d->n);
  return at - memory;
}

// Rows of a from i0 on, numbers p0 to p0 + k.
static const num *dots_a(const dots *d, const dots_scratch *w, int64_t i0, int64_t m, int64_t p0,
                         int64_t k, int64_t *stride) {
  const cft_matmul_args *a = d->g.a;
  const real *from = (const real *)a->a + i0 * a->a_stride + p0;
  *stride = d->pack_a ? packed_row(d->k) : a->a_stride;
  if (!d->pack_a) return (const num *)from;
  pack(w->a, *stride, from, a->a_stride, m, m, k);
  return w->a;
}

static void dots_block(const dots *d, const dots_scratch *w, int64_t i0, int64_t j0) {
  const cft_matmul_args *a = d->g.a;
  int64_t m = cpu_min(d->m, a->m - i0), n = cpu_min(d->n, a->n - j0);
  for (int64_t slice = 0; slice < d->slices; slice++) {
    int64_t p0 = slice * d->k, k = cpu_min(d->k, a->k - p0), a_stride;
    const real *stored = (const real *)a->b + j0 * a->b_stride + p0;
    columns packed = {w->b, packed_row(d->k)};
    if (d->pack_b) pack(w->b, packed.stride, stored, a->b_stride, n, n, k);
    for (int64_t i = 0; i < m; i += d->step) {
      int64_t rows = cpu_min(d->step, m - i);
      acc *c = w->c + (d->slices > 1 ? i * d->n : 0);
      const num *of_a = dots_a(d, w, i0 + i, rows, p0, k, &a_stride);
      if (d->pack_b)
        dot_product(c, d->n, of_a, a_stride, packed, rows, n, k, slice > 0, 0);
      else
        dot_product(c, d->n, of_a, a_stride, (columns){stored, a->b_stride}, rows, n, k, slice > 0,
                    1);
      if (slice == d->slices - 1) unpack_c(&d->g, c, d->n, i0 + i, rows, j0, n);
    }
  }
}

static int are_dots(const gemm *g) {
  return cft_cpu_rows_alone && g->a->trans_b && !g->a->trans_a && !g->tiles;
}

static cft_status matmul_dots(cft_device *device, const gemm *g) {
  const cft_matmul_args *a = g->a;
  dots d = {.g = *g, .k = part(a->k, SLICE, STRIDE)};
  d.slices = cpu_blocks(a->k, d.k);
  int few = a->m <= FEW, team = cft_cpu_team(cpu_max(a->m, 4) * a->n * a->k / 8);
  d.pack_a = WIDENED || (!few && collide(a->a_stride)),
  d.pack_b = !few && (WIDENED || collide(a->b_stride));
  d.g.past_cache = !few;
  int64_t row = d.k * (int64_t)sizeof(num);
  if (few) {
    d.step = d.m = a->m;
    d.n = cpu_min(FEW_COLUMNS, round_up(cpu_blocks(a->n, team), LANES));
  } else {
    d.step = cpu_max((L1_BYTES / row - 2 * TILE_COLUMNS) / TILE_ROWS, 1) * TILE_ROWS;
    // Equal shares for the threads. b is read anew for each block of rows, so there are few of
    // them.
    int64_t fits = cpu_max(N_LEAST, B_BYTES / row);
    if (d.slices > 1) fits = cpu_min(fits, N_SLICED);
    int64_t cols = round_up(cpu_blocks(a->n, fits), team);
    d.n = part(a->n, cpu_blocks(a->n, cols), LANES);
    cols = cpu_blocks(a->n, d.n);
    d.m = cpu_max(cpu_blocks(a->m, team == 1 ? 1 : cpu_blocks(2 * team, cols)), d.step);
    if (d.slices > 1) d.m = cpu_min(d.m, C_BYTES / (d.n * (int64_t)sizeof(acc)));
    d.m = part(a->m, d.m, d.step);
  }
  int64_t rows = cpu_blocks(a->m, d.m), cols = cpu_blocks(a->n, d.n);
  dots_scratch none;
  size_t each = (size_t)dots_layout(&none, &d, NULL), bytes = each * (size_t)team;
  char *memory;
  CFT_TRY(device->alloc(device, (void **)&memory, bytes, CFT_MEM_WORKSPACE));
#pragma omp parallel num_threads(team)
  {
    int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
    dots_scratch w;
    dots_layout(&w, &d, memory + each * (size_t)me);
    if (few) {
      // Each thread reads its part of b from one end to the other.
      for (int64_t t = cols * me / all; t < cols * (me + 1) / all; t++)
        dots_block(&d, &w, 0, t * d.n);
    } else {
#pragma omp for schedule(dynamic)
      for (int64_t t = 0; t < rows * cols; t++) dots_block(&d, &w, t % rows * d.m, t / rows * d.n);
    }
  }
  device->free(device, memory, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}

#endif
