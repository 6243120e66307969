// parquet.c - a Parquet file's rows, each put together again from the columns it was cut into.
//
// A row is written by walking the schema. Before anything optional or repeated stands a question to
// the first leaf inside it: its definition level says how much of the way to it is there, and the
// repetition level of its next value whether another element follows. All leaves inside a field
// must agree, which a damaged file does not.
// Source: Melnik et al. 2010, Dremel, section 4 (record assembly).
#include "parquet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "cft_data.h"
#include "parquet_impl.h"
#include "util/file.h"

// ---- opening -----------------------------------------------------------------------------------

bool cft_parquet_begins(const void *bytes, size_t n) {
  return n >= 4 && (memcmp(bytes, "PAR1", 4) == 0 || memcmp(bytes, "PARE", 4) == 0);
}

cft_status cft_parquet_open(cft_parquet **out, const char *path, int fd, const void *bytes,
                            size_t n) {
  cft_status st = CFT_OK;
  struct stat info = {0};
  cft_parquet *f = calloc(1, sizeof *f);
  if (!f) {
    if (fd >= 0) close(fd);
    return cft_fail(CFT_E_OOM, "no memory to open it");
  }
  *f = (cft_parquet){.fd = fd, .memory = bytes, .bytes = (int64_t)n, .path = strdup(path)};
  f->text.limit = CFT_RECORD_BYTES;
  if (!f->path)
    st = cft_fail(CFT_E_OOM, "no memory to open it");
  else if (fd >= 0 && fstat(fd, &info) != 0)
    st = cft_file_fail("stat", path);
  if (fd >= 0) f->bytes = (int64_t)info.st_size;
  if (st == CFT_OK) st = pq_footer_read(f);
  if (st != CFT_OK) {
    cft_parquet_release(f);
    return st;
  }
  *out = f;
  return CFT_OK;
}

void cft_parquet_release(cft_parquet *f) {
  if (!f) return;
  pq_cache_empty(f);
  for (int64_t g = 0; g < f->group_count; ++g) {
    for (int i = 0; f->groups[g].chunks && i < f->leaf_count; ++i)
      free(f->groups[g].chunks[i].places);
    free(f->groups[g].chunks);
  }
  free(f->groups);
  for (int i = 0; i < f->node_count; ++i) free(f->nodes[i].path);
  free(f->nodes);
  free(f->leaves);
  free(f->cursors);
  cft_text_free(&f->text);
  ZSTD_freeDCtx(f->zstd);
  if (f->fd >= 0) close(f->fd);
  free(f->path);
  free(f);
}

int64_t cft_parquet_rows(const cft_parquet *f) { return f->rows; }
int64_t cft_parquet_bytes(const cft_parquet *f) { return f->bytes; }

// ---- levels ------------------------------------------------------------------------------------

// What comes next in a leaf. Where nothing does, `rep` is 0, as before a new row.
typedef struct next {
  bool there;
  int rep, def;
} next;

// Go on to the following page if this one is at its end: rows may.
static cft_status look(cft_parquet *f, int leaf, next *out) {
  pq_cursor *c = &f->cursors[leaf];
  const pq_node *n = f->leaves[leaf];
  while (n->rep && c->level == c->page->levels) {
    pq_page *page;
    CFT_TRY(pq_page_at(f, c->chunk, c->place + 1, &page));
    if (!page) break;
    pq_page_drop(c->page);
    *c = (pq_cursor){.chunk = c->chunk, .page = page, .place = c->place + 1};
  }
  *out = (next){.there = c->level < c->page->levels, .def = n->def};
  if (!out->there) return CFT_OK;
  if (c->page->rep) out->rep = c->page->rep[c->level];
  if (c->page->def) out->def = c->page->def[c->level];
  return CFT_OK;
}

static cft_status disagree(const cft_parquet *f, int leaf) {
  return pq_fail(f->cursors[leaf].chunk, "its levels do not fit those of its neighbours");
}

// Step over the next level of a leaf, which must be as expected.
static cft_status take(cft_parquet *f, int leaf, int rep, int def) {
  next n;
  CFT_TRY(look(f, leaf, &n));
  if (!n.there || n.rep != rep || n.def != def) return disagree(f, leaf);
  pq_cursor *c = &f->cursors[leaf];
  ++c->level;
  c->value += def == f->leaves[leaf]->def;
  return CFT_OK;
}

static cft_status take_all(cft_parquet *f, const pq_node *n, int rep, int def) {
  for (int i = 0; i < n->leaves; ++i) CFT_TRY(take(f, n->first_leaf + i, rep, def));
  return CFT_OK;
}

// ---- writing -----------------------------------------------------------------------------------

static cft_status write_field(cft_parquet *f, int node, int rep);

static cft_status write_leaf(cft_parquet *f, const pq_node *n, int rep) {
  pq_cursor *c = &f->cursors[n->first_leaf];
  next first;
  CFT_TRY(look(f, n->first_leaf, &first));  // may change the page
  const pq_page *page = c->page;
  int64_t value = c->value;
  CFT_TRY(take(f, n->first_leaf, rep, n->def));
  const char *problem = pq_value_write(&f->text, n, page, value);
  if (problem && !*f->reason)
    snprintf(f->reason, sizeof f->reason, "%s %s", QUOTED(n->path), problem);
  return CFT_OK;
}

static cft_status write_struct(cft_parquet *f, int node, int rep) {
  cft_text_put(&f->text, '{');
  for (int i = node + 1; i < f->nodes[node].end; i = f->nodes[i].end) {
    if (i > node + 1) cft_text_put(&f->text, ',');
    cft_text_string(&f->text, f->nodes[i].name, strlen(f->nodes[i].name));
    cft_text_put(&f->text, ':');
    CFT_TRY(write_field(f, i, rep));
  }
  cft_text_put(&f->text, '}');
  return CFT_OK;
}

// One field that is not repeated, or one element of one that is.
static cft_status write_one(cft_parquet *f, int node, int rep) {
  const pq_node *n = &f->nodes[node];
  if (n->presence == PQ_OPTIONAL) {
    next first;
    CFT_TRY(look(f, n->first_leaf, &first));
    if (first.there && first.def < n->def) {
      cft_text_add(&f->text, "null", 4);
      return take_all(f, n, rep, n->def - 1);
    }
  }
  if (n->leaf) return write_leaf(f, n, rep);
  return n->list ? write_field(f, node + 1, rep) : write_struct(f, node, rep);
}

// In a list of three levels the repeated one only holds the elements. Those of two levels, as older
// programs wrote them, are told by the rules of the format.
// Source: https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#lists
static bool only_holds(const cft_parquet *f, int node) {
  const pq_node *n = &f->nodes[node];
  if (n->leaf || f->nodes[node + 1].end != n->end || node == 0 || !f->nodes[node - 1].list)
    return false;
  if (f->nodes[node + 1].presence == PQ_REPEATED) return false;
  const char *outer = f->nodes[node - 1].name;
  size_t length = strlen(outer);
  bool tuple = strncmp(n->name, outer, length) == 0 && strcmp(n->name + length, "_tuple") == 0;
  return strcmp(n->name, "array") != 0 && !tuple;
}

static cft_status write_list(cft_parquet *f, int node, int rep) {
  const pq_node *n = &f->nodes[node];
  bool inner = only_holds(f, node);
  next first;
  CFT_TRY(look(f, n->first_leaf, &first));
  if (first.there && first.def < n->def) {
    cft_text_add(&f->text, "[]", 2);
    return take_all(f, n, rep, n->def - 1);
  }
  cft_text_put(&f->text, '[');
  for (bool more = true; more;) {
    CFT_TRY(inner ? write_one(f, node + 1, rep) : write_one(f, node, rep));
    CFT_TRY(look(f, n->first_leaf, &first));
    more = first.there && first.rep == n->rep && !f->text.too_long;
    if (more) cft_text_put(&f->text, ',');
    rep = n->rep;
  }
  cft_text_put(&f->text, ']');
  return CFT_OK;
}

static cft_status write_field(cft_parquet *f, int node, int rep) {
  return f->nodes[node].presence == PQ_REPEATED ? write_list(f, node, rep)
                                                : write_one(f, node, rep);
}

// ---- rows --------------------------------------------------------------------------------------

static pq_group *group_of(const cft_parquet *f, int64_t row) {
  int64_t lo = 0, hi = f->group_count - 1;  // the last that begins at the row or before it
  while (lo < hi) {
    int64_t mid = lo + (hi - lo + 1) / 2;
    if (f->groups[mid].first <= row)
      lo = mid;
    else
      hi = mid - 1;
  }
  return &f->groups[lo];
}

static cft_status begin_row(cft_parquet *f, pq_group *group, int64_t row) {
  for (int i = 0; i < f->leaf_count; ++i) {
    pq_cursor *c = &f->cursors[i];
    c->chunk = &group->chunks[i];
    CFT_TRY(pq_page_of_row(f, c->chunk, row, &c->place, &c->page));
    int64_t k = row - c->chunk->places[c->place].first_row;
    c->level = c->page->row_level ? c->page->row_level[k] : k;
    c->value = c->page->row_value ? c->page->row_value[k] : k;
  }
  return CFT_OK;
}

static cft_status end_row(cft_parquet *f) {
  for (int i = 0; i < f->leaf_count; ++i) {
    next n;
    if (f->leaves[i]->rep == 0) continue;  // one level a row, and that was taken
    CFT_TRY(look(f, i, &n));
    if (n.rep != 0) return disagree(f, i);
  }
  return CFT_OK;
}

static cft_status write_row(cft_parquet *f, int64_t i) {
  pq_group *group = group_of(f, i);
  CFT_TRY(begin_row(f, group, i - group->first));
  CFT_TRY(write_struct(f, 0, 0));
  return f->text.too_long ? CFT_OK : end_row(f);
}

cft_status cft_parquet_get(cft_parquet *f, int64_t i, const char **text, size_t *bytes,
                           const char **reason) {
  f->text.bytes = 0;
  f->text.no_memory = f->text.too_long = false;
  f->text.limit = CFT_RECORD_BYTES;
  f->reason[0] = 0;
  cft_status st = write_row(f, i);
  for (int k = 0; k < f->leaf_count; ++k) {
    pq_page_drop(f->cursors[k].page);
    f->cursors[k] = (pq_cursor){0};
  }
  if (st == CFT_OK) st = cft_text_end(&f->text);
  if (st != CFT_OK) return cft_context(st, "%s: record %lld", f->path, (long long)i);
  if (f->text.too_long) snprintf(f->reason, sizeof f->reason, "longer than 256 MiB");
  bool bad = *f->reason != 0;
  *text = bad ? "" : f->text.data;
  *bytes = bad ? 0 : f->text.bytes;
  *reason = bad ? f->reason : NULL;
  return CFT_OK;
}
