// product.h - one small product, c (+)= a b, that matmul and attention are made of, and the layouts
// that feed it. b and c lie along vectors; a is broadcast number by number.
//
// A processor with dot products of bf16 gets its operands in pairs, and one with tiles (AMX) takes
// the same pairs sixteen rows at a time; elsewhere bf16 is widened when it is packed. Each element
// of c is summed in order of k, whatever the blocks around it. What is added to c is summed from 0
// first: over a long k, in slices, the error grows with the slice and with how many there are, and
// not with k. Pairs go on from c, as tiles do: their inputs have fewer digits than the sum loses.
#ifndef CFT_PRODUCT_H
#define CFT_PRODUCT_H

#include "cpu.h"

#if defined(CFT_CPU_BF16) && defined(__AVX512BF16__)
#define PAIRS 1  // operands stay bf16
#else
#define PAIRS 0
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

// An operand is made of units as wide as a sum: one number, or a pair of bf16 that are neighbours
// along the dimension that is summed over.
#if PAIRS
typedef bf16 num;
typedef int32_t unit;
#define NUM(x) (x)  // from storage
#else
typedef acc num;
typedef acc unit;
#define NUM(x) LOAD(x)
#endif
typedef acc vec __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef unit uvec __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef unit loose __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(2)));

enum {
  LANES = VECTOR_BYTES / sizeof(acc),
  PAIR = sizeof(unit) / sizeof(num),
  MR = VECTOR_BYTES == 64 ? 8 : 4,  // rows and vectors of c that stay in registers:
  NR = VECTOR_BYTES == 16 ? 2 : 3,  // 24 of 32, 12 or 8 of 16
  TILE = 32,                        // what tiles take: 32 rows, 32 columns, 32 numbers of k
};

static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Scratch: `n` numbers of the size of a sum, on a cache line's boundary.
static inline void *take(char **at, int64_t n) {
  void *y = *at;
  *at += round_up(n * (int64_t)sizeof(acc), 64);
  return y;
}

static inline __attribute__((always_inline)) uvec load_num(const num *x) {
  return *(const loose *)(const void *)x;
}

// LANES numbers as they are stored.
static inline __attribute__((always_inline)) uvec load_real(const real *x) {
#if defined(CFT_CPU_BF16) && !PAIRS
  typedef uint16_t narrow_vec __attribute__((vector_size(VECTOR_BYTES / 2), may_alias, aligned(2)));
  typedef uint32_t wide_vec __attribute__((vector_size(VECTOR_BYTES)));
  return (uvec)(__builtin_convertvector(*(const narrow_vec *)x, wide_vec) << 16);
#else
  return load_num((const num *)x);
#endif
}

// Of a unit that is two numbers of bf16 as they are stored: the first, or the second, widened.
static inline __attribute__((always_inline)) uvec half_of(uvec pair, int second) {
  typedef uint32_t bits __attribute__((vector_size(VECTOR_BYTES)));
  return (uvec)(second ? (bits)pair & 0xffff0000u : (bits)pair << 16);
}

// ---- what comes next ---------------------------------------------------------------------------

// Rows of memory that will be read soon. Products prefetch them line by line, so that they come
// while the arithmetic leaves the memory idle; many at once would keep its own operands waiting.
typedef struct coming {
  const char *at;         // the next line
  int64_t stride, bytes;  // of a row, and how much of it is wanted
  int64_t seen, rows;     // bytes of this row that were prefetched; rows left
  int each;               // lines to prefetch at a time
} coming;

static inline void ask(coming *x) {
  for (int i = 0; i < x->each && x->rows > 0; i++) {
    __builtin_prefetch(x->at + x->seen, 0, 2);
    if ((x->seen += 64) < x->bytes) continue;
    x->seen = 0, x->rows--, x->at += x->stride;
  }
}

// ---- c (m, n) = [c +] a (m, k) b (k, n) --------------------------------------------------------

// Entry (i, p) of a is at[i * row + p * col]; p counts units, as k does below.
typedef struct operand {
  const unit *at;
  int64_t row, col;
} operand;

static inline vec multiply_add(vec sum, unit a, uvec b) {
#if PAIRS
  return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
#else
  return sum + a * b;
#endif
}

static inline __attribute__((always_inline)) void registers(acc *c, int64_t c_stride, const unit *a,
                                                            int64_t row, int64_t col, const unit *b,
                                                            int64_t b_stride, int64_t k, int add,
                                                            const int vectors) {
  vec sum[MR][NR];
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++)
      sum[i][j] = PAIRS && add ? *(const vec *)(c + i * c_stride + j * LANES) : (vec){0};
  for (int64_t p = 0; p < k; p++) {
    uvec of_b[NR];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) of_b[j] = *(const uvec *)(b + p * b_stride + j * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
      unit x = a[i * row + p * col];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sum[i][j] = multiply_add(sum[i][j], x, of_b[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      vec *to = (vec *)(c + i * c_stride + j * LANES);
      if (!PAIRS && add)
        *to += sum[i][j];
      else
        *to = sum[i][j];
    }
}

static inline void product_by_vectors(acc *c, int64_t c_stride, operand a, const unit *b,
                                      int64_t b_stride, int64_t m, int64_t n, int64_t k, int add,
                                      coming *next) {
#define ALL_ROWS(vectors)                                                                         \
  for (int64_t i = 0; i < m; i += MR) {                                                           \
    if (next) ask(next);                                                                          \
    registers(c + i * c_stride + j, c_stride, a.at + i * a.row, a.row, a.col, b + j, b_stride, k, \
              add, vectors);                                                                      \
  }
  for (int64_t j = 0, left; (left = (n - j) / LANES) > 0;) {
    if (NR == 3 && left != 4 && left >= 3) {
      ALL_ROWS(NR);
      j += 3 * LANES;
    } else if (left >= 2) {
      ALL_ROWS(2);
      j += 2 * LANES;
    } else {
      ALL_ROWS(1);
      j += LANES;
    }
  }
#undef ALL_ROWS
}

#if PAIRS

// AMX: eight registers of 16 rows by 64 bytes.
#define AMX __attribute__((target("amx-tile,amx-bf16")))

// Static: the compiler is told of the first bytes only that loading it reads.
static const struct {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
} tile_shapes = {.palette = 1,
                 .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                 .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

AMX static inline void tiles_begin(int tiles) {
  if (tiles) _tile_loadconfig(&tile_shapes);
}

AMX static inline void tiles_end(int tiles) {
  if (tiles) _tile_release();
}

// a.col is 1.
AMX static inline void product_by_tiles(acc *c, int64_t c_stride, operand a, const unit *b,
                                        int64_t b_stride, int64_t m, int64_t n, int64_t k, int add,
                                        coming *next) {
  size_t cs = (size_t)c_stride * sizeof *c, as = (size_t)a.row * sizeof *b,
         bs = (size_t)b_stride * sizeof *b;
  for (int64_t j = 0; j < n; j += TILE)
    for (int64_t i = 0; i < m; i += TILE) {
      acc *c0 = c + i * c_stride + j, *c1 = c0 + 16 * c_stride;
      const unit *a0 = a.at + i * a.row, *a1 = a0 + 16 * a.row, *b0 = b + j;
      if (add) {
        _tile_loadd(0, c0, cs);
        _tile_loadd(1, c0 + 16, cs);
        _tile_loadd(2, c1, cs);
        _tile_loadd(3, c1 + 16, cs);
      } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      }
      for (int64_t p = 0; p < k; p += TILE / PAIR) {
        _tile_loadd(4, a0 + p, as);
        _tile_loadd(6, b0 + p * b_stride, bs);
        _tile_loadd(7, b0 + p * b_stride + 16, bs);
        _tile_loadd(5, a1 + p, as);
        if (next) ask(next);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(0, c0, cs);
      _tile_stored(1, c0 + 16, cs);
      _tile_stored(2, c1, cs);
      _tile_stored(3, c1 + 16, cs);
    }
}

#else
static inline void tiles_begin(int tiles) { (void)tiles; }
static inline void tiles_end(int tiles) { (void)tiles; }
#define product_by_tiles product_by_vectors
#endif

// m a multiple of MR, n of LANES; with tiles both of TILE, and k of TILE / PAIR. b and c aligned,
// as are their rows. `next` may be NULL.
static inline void product(int tiles, acc *c, int64_t c_stride, operand a, const unit *b,
                           int64_t b_stride, int64_t m, int64_t n, int64_t k, int add,
                           coming *next) {
  if (tiles)
    product_by_tiles(c, c_stride, a, b, b_stride, m, n, k, add, next);
  else
    product_by_vectors(c, c_stride, a, b, b_stride, m, n, k, add, next);
}

// Whether this process may use tiles: the instruction set "amx" says so.
static inline int have_tiles(void) { return PAIRS && strcmp(cft_cpu_isa(), "amx") == 0; }

// ---- layouts -----------------------------------------------------------------------------------

// The lower and the upper halves of two vectors, interleaved.
#define INTERLEAVE_2(x, y, h) __builtin_shufflevector(x, y, h, 2 + h)
#define INTERLEAVE_4(x, y, h) __builtin_shufflevector(x, y, 2 * h, 4 + 2 * h, 1 + 2 * h, 5 + 2 * h)
#define INTERLEAVE_8(x, y, h)                                                                  \
  __builtin_shufflevector(x, y, 4 * h, 8 + 4 * h, 1 + 4 * h, 9 + 4 * h, 2 + 4 * h, 10 + 4 * h, \
                          3 + 4 * h, 11 + 4 * h)
#if VECTOR_BYTES == 32
#define INTERLEAVE INTERLEAVE_8
#elif defined(CFT_CPU_F64)
#define INTERLEAVE INTERLEAVE_2
#else
#define INTERLEAVE INTERLEAVE_4
#endif

// A square of units: to[j] holds unit j of each of LANES rows. x_stride counts numbers.
#ifdef __AVX512F__
// By hand: rows are loaded in quarters, where a quarter belongs in the end, which leaves two rounds of interleaving
// inside of quarters. The general way below takes four rounds, each across the whole vector.
static inline __attribute__((always_inline)) void square(uvec to[LANES], const num *x, int64_t x_stride) {
#pragma GCC unroll 4
  for (int c = 0; c < 4; c++) {
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const num *at = x + i * x_stride + 4 * c * PAIR;
      v[i] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)at));
      v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x00f0, _mm_loadu_si128((const __m128i *)(const void *)(at + 4 * x_stride)));
      v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x0f00, _mm_loadu_si128((const __m128i *)(const void *)(at + 8 * x_stride)));
      v[i] = _mm512_mask_broadcast_i32x4(v[i], 0xf000, _mm_loadu_si128((const __m128i *)(const void *)(at + 12 * x_stride)));
    }
    __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpacklo_epi32(v[2], v[3]);
    __m512i d = _mm512_unpackhi_epi32(v[0], v[1]), e = _mm512_unpackhi_epi32(v[2], v[3]);
    to[4 * c] = (uvec)_mm512_unpacklo_epi64(a, b), to[4 * c + 1] = (uvec)_mm512_unpackhi_epi64(a, b);
    to[4 * c + 2] = (uvec)_mm512_unpacklo_epi64(d, e), to[4 * c + 3] = (uvec)_mm512_unpackhi_epi64(d, e);
  }
}
#else
// log2(LANES) rounds of interleaving row i with row i + LANES/2 transpose a square.
static inline __attribute__((always_inline)) void square(uvec to[LANES], const num *x, int64_t x_stride) {
  uvec from[LANES];
#pragma GCC unroll 16
  for (int l = 0; l < LANES; l++) from[l] = *(const loose *)(x + l * x_stride);
#pragma GCC unroll 4
  for (int round = 1; round < LANES; round *= 2) {
#pragma GCC unroll 16
    for (int l = 0; l < LANES / 2; l++) {
      to[2 * l] = INTERLEAVE(from[l], from[l + LANES / 2], 0);
      to[2 * l + 1] = INTERLEAVE(from[l], from[l + LANES / 2], 1);
    }
#pragma GCC unroll 16
    for (int l = 0; l < LANES; l++) from[l] = to[l];
  }
}
#endif

// y (cols, rows) = x (rows, cols)^T in units; both multiples of LANES. x_stride counts numbers.
static inline void transpose(unit *y, int64_t y_stride, const num *x, int64_t x_stride,
                             int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; i += LANES)
    for (int64_t j = 0; j < cols; j += LANES) {
      uvec to[LANES];
      square(to, x + i * x_stride + j * PAIR, x_stride);
#pragma GCC unroll 16
      for (int l = 0; l < LANES; l++) *(uvec *)(y + (j + l) * y_stride + i) = to[l];
    }
}

// Rows of n numbers from storage into rows of `width`; the rest is zero, as are rows m to m_padded.
static inline void pack(num *y, int64_t width, const real *x, int64_t stride, int64_t m,
                        int64_t m_padded, int64_t n) {
  for (int64_t i = 0; i < m; i++) {
    SIMD
    for (int64_t j = 0; j < n; j++) y[i * width + j] = NUM(x[i * stride + j]);
    for (int64_t j = n; j < width; j++) y[i * width + j] = 0;
  }
  memset(y + m * width, 0, (size_t)((m_padded - m) * width) * sizeof *y);
}

// The same, k rows of n, with rows 2p and 2p + 1 in pairs where numbers go in pairs: `width` units
// a row. k_padded counts numbers.
static inline void pack_in_pairs(unit *y, int64_t width, const real *x, int64_t stride, int64_t k,
                                 int64_t k_padded, int64_t n) {
#if PAIRS
  for (int64_t p = 0; p < k; p += 2) {
    const real *even = x + p * stride, *odd = even + (p + 1 < k ? stride : 0);
    uint32_t keep = p + 1 < k ? 0xffff0000u : 0;
    unit *row = y + p / 2 * width;
    SIMD
    for (int64_t j = 0; j < n; j++) row[j] = (unit)(even[j] | ((uint32_t)odd[j] << 16 & keep));
    for (int64_t j = n; j < width; j++) row[j] = 0;
  }
  int64_t done = (k + 1) / 2;
  memset(y + done * width, 0, (size_t)((k_padded / 2 - done) * width) * sizeof *y);
#else
  pack(y, width, x, stride, k, k_padded, n);
#endif
}

#if PAIRS
// 32 sums, aligned, as bf16.
static inline __m512i narrow(const acc *x) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(x + LANES), _mm512_load_ps(x));
}
#endif

#endif
