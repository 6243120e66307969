// reduce.c - sums, maxima and norms. Long sums are cut into pieces by their shape alone; a piece is
// summed in `acc`, and the pieces in f64, in order.
#include "cpu.h"

enum {
  PIECE = 4096,   // elements of a row summed in acc
  COLUMNS = 256,  // columns that one thread takes at a time
  ROWS = 256,     // rows of them summed in acc
  PARTS = 64,     // pieces of work that are enough for any number of threads
};

// ---- one row, contiguous -------------------------------------------------------------------

static double row_sum(const real *x, int64_t n) {
  double sum = 0;
  for (int64_t from = 0; from < n; from += PIECE) {
    int64_t to = cpu_min(from + PIECE, n);
    acc piece = 0;
    SIMD_SUM(piece)
    for (int64_t i = from; i < to; i++) piece += LOAD(x[i]);
    sum += (double)piece;
  }
  return sum;
}

// In f64 throughout: the square of a large gradient leaves f32.
static double row_squares(const real *x, int64_t n) {
  double sum = 0;
  SIMD_SUM(sum)
  for (int64_t i = 0; i < n; i++) sum += (double)LOAD(x[i]) * (double)LOAD(x[i]);
  return sum;
}

// NaN if there is one, as a loss that is NaN must be seen.
static acc row_maximum(const real *x, int64_t n) {
  acc top = -(acc)INFINITY;
  int nan = 0;
  CPU_PRAGMA(omp simd reduction(max : top) reduction(| : nan))
  for (int64_t i = 0; i < n; i++) {
    acc v = LOAD(x[i]);
    top = v > top ? v : top;
    nan |= v != v;
  }
  return nan ? (acc)NAN : top;
}

// The first place of the maximum lies in the first piece that raised it.
static int32_t row_argmax(const real *x, int64_t n) {
  acc top = -(acc)INFINITY;
  int64_t where = 0;
  for (int64_t from = 0; from < n; from += PIECE) {
    int64_t to = cpu_min(from + PIECE, n);
    acc high = top;
    CPU_PRAGMA(omp simd reduction(max : high))
    for (int64_t i = from; i < to; i++) high = LOAD(x[i]) > high ? LOAD(x[i]) : high;
    if (high > top) top = high, where = from;
  }
  for (int64_t i = where; i < n; i++)
    if (LOAD(x[i]) == top) return (int32_t)i;
  return 0;
}

// ---- columns -------------------------------------------------------------------------------

static void column_sums(double *out, const real *x, int64_t rows, int64_t stride, int64_t width,
                        int squares) {
  for (int64_t j = 0; j < width; j++) out[j] = 0;
  for (int64_t from = 0; from < rows; from += ROWS) {
    int64_t to = cpu_min(from + ROWS, rows);
    acc piece[COLUMNS] = {0};
    for (int64_t i = from; i < to; i++) {
      const real *row = x + i * stride;
      if (squares) {
        SIMD for (int64_t j = 0; j < width; j++) {
          out[j] += (double)LOAD(row[j]) * (double)LOAD(row[j]);
        }
      } else {
        SIMD for (int64_t j = 0; j < width; j++) piece[j] += LOAD(row[j]);
      }
    }
    SIMD for (int64_t j = 0; j < width; j++) out[j] += (double)piece[j];
  }
}

static void column_maxima(double *out, const real *x, int64_t rows, int64_t stride, int64_t width) {
  acc top[COLUMNS];
  for (int64_t j = 0; j < width; j++) top[j] = -(acc)INFINITY;
  for (int64_t i = 0; i < rows; i++) {
    const real *row = x + i * stride;
    SIMD for (int64_t j = 0; j < width; j++) {
      acc v = LOAD(row[j]);
      top[j] = ((v > top[j]) | (v != v)) ? v : top[j];
    }
  }
  for (int64_t j = 0; j < width; j++) out[j] = (double)top[j];
}

static void column_argmaxima(int32_t *out, const real *x, int64_t rows, int64_t stride,
                             int64_t width) {
  acc top[COLUMNS];
  for (int64_t j = 0; j < width; j++) top[j] = -(acc)INFINITY, out[j] = 0;
  for (int64_t i = 0; i < rows; i++) {
    const real *row = x + i * stride;
    SIMD for (int64_t j = 0; j < width; j++) {
      acc v = LOAD(row[j]);
      out[j] = v > top[j] ? (int32_t)i : out[j];
      top[j] = v > top[j] ? v : top[j];
    }
  }
}

// ---- reduce --------------------------------------------------------------------------------

static void reduce_piece(double *out, const cft_reduce_args *a, const real *x, int64_t rows,
                         int64_t width) {
  if (a->inner == 1) {
    out[0] = a->f == CFT_SUM       ? row_sum(x, rows)
             : a->f == CFT_MAXIMUM ? (double)row_maximum(x, rows)
                                   : row_squares(x, rows);
  } else if (a->f == CFT_MAXIMUM) {
    column_maxima(out, x, rows, a->inner, width);
  } else {
    column_sums(out, x, rows, a->inner, width, a->f == CFT_SUM_SQUARES);
  }
}

static void reduce_store(const cft_reduce_args *a, int64_t i, double value) {
  value *= a->alpha;
  if (a->y_dtype == CFT_REAL) {
    real *y = (real *)a->y + i;
    *y = STORE((acc)(a->y_beta ? value + (double)LOAD(*y) : value));
  } else {
    float *y = (float *)a->y + i;
    *y = (float)(a->y_beta ? value + (double)*y : value);
  }
}

static double combine(cft_reduction f, double u, double v) {
  if (f != CFT_MAXIMUM) return u + v;
  return u > v || u != u ? u : v;
}

cft_status CPU(reduce)(cft_device *d, cft_stream *s, const cft_reduce_args *a) {
  (void)s;
  if (a->f < CFT_SUM || a->f > CFT_SUM_SQUARES)
    return cft_fail(CFT_E_ARG, "reduce: no reduction %d", (int)a->f);
  int fits = a->f == CFT_ARGMAX
                 ? a->y_dtype == CFT_I32
                 : a->y_dtype == CFT_REAL || (CFT_REAL == CFT_BF16 && a->y_dtype == CFT_F32);
  if (!fits)
    return cft_fail(CFT_E_UNSUPPORTED, "reduce: no cpu kernel for x in %s and y in %s",
                    cft_dtype_name(a->dtype), cft_dtype_name(a->y_dtype));

  // Units of work: an outer index, a part of mid, some columns.
  int64_t chunks = cpu_blocks(a->inner, COLUMNS), units = a->outer * chunks;
  if (units == 0) return CFT_OK;
  int64_t work = a->outer * a->mid * a->inner;
  int64_t parts = cpu_min(PARTS / cpu_min(units, PARTS), cpu_blocks(work / units, 4 * PIECE));
  if (a->f == CFT_ARGMAX || parts < 1) parts = 1;
  int64_t rows = cpu_max(cpu_blocks(a->mid, parts), 1);

  if (parts == 1) {
    PARALLEL(work)
    for (int64_t unit = 0; unit < units; unit++) {
      int64_t o = unit / chunks, j = unit % chunks * COLUMNS,
              width = cpu_min(COLUMNS, a->inner - j);
      const real *x = (const real *)a->x + o * a->mid * a->inner + j;
      if (a->f == CFT_ARGMAX) {
        int32_t *y = (int32_t *)a->y + o * a->inner + j;
        if (a->inner == 1)
          *y = row_argmax(x, a->mid);
        else
          column_argmaxima(y, x, a->mid, a->inner, width);
      } else {
        double out[COLUMNS];
        reduce_piece(out, a, x, a->mid, width);
        for (int64_t k = 0; k < width; k++) reduce_store(a, o * a->inner + j + k, out[k]);
      }
    }
    return CFT_OK;
  }

  double *partial;
  size_t bytes = (size_t)(a->outer * parts * a->inner) * sizeof(double);
  CFT_TRY(d->alloc(d, (void **)&partial, bytes, CFT_MEM_WORKSPACE));
  PARALLEL(work)
  for (int64_t unit = 0; unit < units * parts; unit++) {
    int64_t o = unit / (chunks * parts), part = unit / chunks % parts;
    int64_t j = unit % chunks * COLUMNS;
    int64_t from = cpu_min(part * rows, a->mid), to = cpu_min(from + rows, a->mid);
    reduce_piece(partial + (o * parts + part) * a->inner + j, a,
                 (const real *)a->x + (o * a->mid + from) * a->inner + j, to - from,
                 cpu_min(COLUMNS, a->inner - j));
  }
  for (int64_t i = 0; i < a->outer * a->inner; i++) {
    const double *p = partial + i / a->inner * parts * a->inner + i % a->inner;
    double value = p[0];
    for (int64_t part = 1; part < parts; part++) value = combine(a->f, value, p[part * a->inner]);
    reduce_store(a, i, value);
  }
  d->free(d, partial, bytes, CFT_MEM_WORKSPACE);
  return CFT_OK;
}

// ---- the norm of a gradient ----------------------------------------------------------------

cft_status CPU(sum_squares)(cft_device *d, cft_stream *s, const cft_sum_squares_args *a) {
  (void)d, (void)s;
  enum { BLOCKS = 1024, SHORTEST = 4 * PIECE };
  double partial[BLOCKS];
  int64_t length = cpu_max(SHORTEST, cpu_blocks(a->n, BLOCKS));
  int64_t blocks = cpu_blocks(a->n, length);
  PARALLEL(a->n)
  for (int64_t i = 0; i < blocks; i++)
    partial[i] = row_squares((const real *)a->x + i * length, cpu_min(length, a->n - i * length));
  double sum = 0;
  for (int64_t i = 0; i < blocks; i++) sum += partial[i];
  a->out[0] += a->alpha * sum;
  return CFT_OK;
}
