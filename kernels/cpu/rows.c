// rows.c - rows by index, strided copies: bytes move, whatever they mean.
#include "cpu.h"

// ---- gather, scatter -----------------------------------------------------------------------

static int64_t named_row(const cft_rows_args *a, int64_t i) { return a->index ? a->index[i] : i; }

cft_status CPU(gather_rows)(cft_device *d, cft_stream *s, const cft_rows_args *a) {
  (void)d, (void)s;
  int64_t size = (int64_t)cft_dtype_bytes(a->dtype);
  PARALLEL(a->n * a->d)
  for (int64_t i = 0; i < a->n; i++)
    memcpy((char *)a->y + i * a->y_stride * size,
           (const char *)a->x + named_row(a, i) * a->x_stride * size, (size_t)(a->d * size));
  return CFT_OK;
}

cft_status CPU(scatter_rows)(cft_device *d, cft_stream *s, const cft_rows_args *a) {
  (void)d, (void)s;
  int64_t size = (int64_t)cft_dtype_bytes(a->dtype);
  if (!a->add) {
    PARALLEL(a->n * a->d)
    for (int64_t i = 0; i < a->n; i++)
      memcpy((char *)a->y + named_row(a, i) * a->y_stride * size,
             (const char *)a->x + i * a->x_stride * size, (size_t)(a->d * size));
    return CFT_OK;
  }
#define CASE(dtype, type, load, store)                                          \
  case dtype: {                                                                 \
    PARALLEL(a->n * a->d)                                                       \
    for (int64_t i = 0; i < a->n; i++) {                                        \
      type *y = (type *)a->y + named_row(a, i) * a->y_stride;                   \
      const type *x = (const type *)a->x + i * a->x_stride;                     \
      SIMD                                                                      \
      for (int64_t j = 0; j < a->d; j++) y[j] = store(load(y[j]) + load(x[j])); \
    }                                                                           \
    return CFT_OK;                                                              \
  }
  switch (a->dtype) {
    CASE(CFT_F32, float, , )
    CASE(CFT_BF16, bf16, bf16_f32, f32_bf16)
    CASE(CFT_F64, double, , )
    default: break;
  }
#undef CASE
  return cft_fail(CFT_E_UNSUPPORTED, "scatter_rows: no cpu kernel that adds %s",
                  cft_dtype_name(a->dtype));
}

// ---- strided copy --------------------------------------------------------------------------

typedef struct dim {
  int64_t size, y, x;  // strides in elements
} dim;

// Drop dims of one element and join those that continue each other. Returns how many are left.
static int joined(dim *dims, const cft_strided_args *a) {
  int n = 0;
  for (int i = 0; i < a->ndim; i++) {
    dim next = {a->dims[i], a->y_strides[i], a->x_strides[i]};
    if (next.size == 1) continue;
    dim *last = dims + n - 1;
    if (n > 0 && last->y == next.size * next.y && last->x == next.size * next.x) {
      *last = (dim){last->size * next.size, next.y, next.x};
    } else {
      dims[n++] = next;
    }
  }
  return n;
}

// (rows, columns) of elements of one size, by tiles that are read the way x lies and written the
// way y lies: a transpose touches each cache line once, however the strides fall on the cache's
// sets.
enum { TILE = 32 };
#define COPY_PLANE(type)                                                                 \
  static void copy_plane_##type(type *y, const type *x, dim rows, dim columns) {         \
    type tile[TILE][TILE];                                                               \
    for (int64_t i0 = 0; i0 < rows.size; i0 += TILE) {                                   \
      int64_t n = cpu_min(TILE, rows.size - i0);                                         \
      for (int64_t j0 = 0; j0 < columns.size; j0 += TILE) {                              \
        int64_t m = cpu_min(TILE, columns.size - j0);                                    \
        const type *from = x + i0 * rows.x + j0 * columns.x;                             \
        type *to = y + i0 * rows.y + j0 * columns.y;                                     \
        for (int64_t j = 0; j < m; j++)                                                  \
          for (int64_t i = 0; i < n; i++) tile[j][i] = from[i * rows.x + j * columns.x]; \
        for (int64_t i = 0; i < n; i++)                                                  \
          for (int64_t j = 0; j < m; j++) to[i * rows.y + j * columns.y] = tile[j][i];   \
      }                                                                                  \
    }                                                                                    \
  }
COPY_PLANE(uint8_t)
COPY_PLANE(uint16_t)
COPY_PLANE(uint32_t)
COPY_PLANE(uint64_t)
#undef COPY_PLANE

static void copy_plane(char *y, const char *x, dim rows, dim columns, int64_t size) {
  if (columns.y == 1 && columns.x == 1) {
    for (int64_t i = 0; i < rows.size; i++)
      memcpy(y + i * rows.y * size, x + i * rows.x * size, (size_t)(columns.size * size));
    return;
  }
  switch (size) {
    case 1: copy_plane_uint8_t((uint8_t *)y, (const uint8_t *)x, rows, columns); break;
    case 2: copy_plane_uint16_t((uint16_t *)y, (const uint16_t *)x, rows, columns); break;
    case 4: copy_plane_uint32_t((uint32_t *)y, (const uint32_t *)x, rows, columns); break;
    case 8: copy_plane_uint64_t((uint64_t *)y, (const uint64_t *)x, rows, columns); break;
  }
}

cft_status CPU(strided_copy)(cft_device *d, cft_stream *s, const cft_strided_args *a) {
  (void)d, (void)s;
  int64_t size = (int64_t)cft_dtype_bytes(a->dtype);
  int64_t total = 1;
  for (int i = 0; i < a->ndim; i++) total *= a->dims[i];
  if (total == 0) return CFT_OK;

  dim dims[CFT_MAX_DIMS];
  int n = joined(dims, a);
  dim one = {1, 0, 0};
  dim columns = n > 0 ? dims[--n] : (dim){1, 1, 1};
  dim rows = n > 0 ? dims[--n] : one;

  // The plane's rows are cut so that a copy without outer dims is shared among threads too.
  int64_t step = cpu_blocks(cpu_max(1, CPU_BLOCK / columns.size), TILE) * TILE;
  int64_t pieces = cpu_blocks(rows.size, step), planes = total / (rows.size * columns.size);
  PARALLEL(total)
  for (int64_t unit = 0; unit < planes * pieces; unit++) {
    int64_t i = unit % pieces * step, rest = unit / pieces;
    int64_t y = i * rows.y, x = i * rows.x;
    for (int k = n - 1; k >= 0; k--) {
      int64_t at = rest % dims[k].size;
      rest /= dims[k].size;
      y += at * dims[k].y;
      x += at * dims[k].x;
    }
    dim part = {cpu_min(step, rows.size - i), rows.y, rows.x};
    copy_plane((char *)a->y + y * size, (const char *)a->x + x * size, part, columns, size);
  }
  return CFT_OK;
}
