// rows.c - embedding, and rows picked from a matrix and put back.
#include "ops_impl.h"

cft_status cft_embedding_fwd(cft_tensor **y, cft_tensor *table, cft_tensor *ids) {
  CFT_TRY(cft_same_float("embedding", CFT_ALL(table)));
  if (table->ndim != 2)
    return cft_fail(CFT_E_SHAPE, "embedding: table is %s; (V, d) wanted", cft_shape(table));
  CFT_TRY(cft_want_contiguous("embedding", "table", table));
  CFT_TRY(cft_want_index("embedding", "ids", ids, -1, table));
  CFT_TRY(cft_check_index("embedding", "ids", ids, table->dims[0]));

  cft_tensor *y0;
  int64_t n = ids->dims[0], d = table->dims[1];
  CFT_TRY(cft_tensor_new(&y0, table->device, table->dtype, 2, (int64_t[]){n, d}));
  return cft_give(y, y0, CFT_KERNEL(table, embedding_fwd, (&(cft_embedding_args){
    .y = y0->data, .table = table->data, .ids = ids->data,
    .n = n, .d = d, .rows = table->dims[0], .dtype = table->dtype })));
}

cft_status cft_embedding_bwd(cft_tensor **dtable, cft_tensor *dy, cft_tensor *ids, int64_t rows) {
  CFT_TRY(cft_same_float("embedding_bwd", CFT_ALL(dy)));
  if (dy->ndim != 2 || rows < 0)
    return cft_fail(CFT_E_SHAPE, "embedding_bwd: dy is %s; (n, d) wanted", cft_shape(dy));
  CFT_TRY(cft_want_contiguous("embedding_bwd", "dy", dy));
  CFT_TRY(cft_want_index("embedding_bwd", "ids", ids, dy->dims[0], dy));
  CFT_TRY(cft_check_index("embedding_bwd", "ids", ids, rows));

  cft_tensor shape = *dy;
  shape.dims[0] = rows;
  int made, beta;
  CFT_TRY(cft_gradient(dtable, &made, &beta, "embedding_bwd", "dtable", &shape, dy->dtype, 1));
  cft_status st = made ? cft_tensor_zero(*dtable) : CFT_OK;
  if (st == CFT_OK)
    st = CFT_KERNEL(dy, embedding_bwd, (&(cft_embedding_bwd_args){
      .dtable = (*dtable)->data, .dy = dy->data, .ids = ids->data, .n = dy->dims[0],
      .d = dy->dims[1], .rows = rows, .dtype = dy->dtype, .dtable_dtype = (*dtable)->dtype }));
  if (st != CFT_OK) cft_gradient_undo(dtable, made);
  return st;
}

// x by rows as the kernels want it: (n, d) whose rows may lie apart.
static cft_status check_rows(int64_t *stride, const char *op, const char *name, cft_tensor *x) {
  if (x->ndim != 2)
    return cft_fail(CFT_E_SHAPE, "%s: %s is %s; (n, d) wanted", op, name, cft_shape(x));
  return cft_row_stride(stride, op, name, x);
}

cft_status cft_gather_rows(cft_tensor **y, cft_tensor *x, cft_tensor *index) {
  CFT_TRY(cft_same_float("gather_rows", CFT_ALL(x)));
  int64_t x_stride;
  CFT_TRY(check_rows(&x_stride, "gather_rows", "x", x));
  CFT_TRY(cft_want_index("gather_rows", "index", index, -1, x));
  CFT_TRY(cft_check_index("gather_rows", "index", index, x->dims[0]));

  cft_tensor *y0;
  int64_t n = index->dims[0], d = x->dims[1];
  CFT_TRY(cft_tensor_new(&y0, x->device, x->dtype, 2, (int64_t[]){n, d}));
  return cft_give(y, y0, CFT_KERNEL(x, gather_rows, (&(cft_rows_args){
    .y = y0->data, .x = x->data, .index = index->data, .n = n, .d = d,
    .y_stride = d, .x_stride = x_stride, .dtype = x->dtype })));
}

cft_status cft_scatter_rows(cft_tensor *y, cft_tensor *x, cft_tensor *index, int add) {
  CFT_TRY(cft_same_float("scatter_rows", CFT_ALL(y, x)));
  int64_t x_stride, y_stride;
  CFT_TRY(check_rows(&x_stride, "scatter_rows", "x", x));
  CFT_TRY(check_rows(&y_stride, "scatter_rows", "y", y));
  if (x->dims[1] != y->dims[1])
    return cft_fail(CFT_E_SHAPE, "scatter_rows: rows of x %s and of y %s differ in width",
                    cft_shape(x), cft_shape(y));
  CFT_TRY(cft_want_index("scatter_rows", "index", index, x->dims[0], x));
  CFT_TRY(cft_check_index("scatter_rows", "index", index, y->dims[0]));
  cft_tensor_touch(y);
  return CFT_KERNEL(x, scatter_rows, (&(cft_rows_args){
    .y = y->data, .x = x->data, .index = index->data, .n = x->dims[0], .d = x->dims[1],
    .y_stride = y_stride, .x_stride = x_stride, .add = add != 0, .dtype = x->dtype }));
}
