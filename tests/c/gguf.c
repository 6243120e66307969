// gguf.c - files of llama.cpp: values, every type against gguf-py's numbers, hostile files.
#include "cft_checkpoint.h"
#include "files.h"
#include "test.h"

static const char *const types[] = {"F32",  "F16",  "BF16", "Q8_0", "Q4_0", "Q4_1",
                                    "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};
enum { TYPES = sizeof types / sizeof *types };

static bool same_floats(const float *a, const float *b, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (memcmp(&a[i], &b[i], sizeof *a) != 0) {
      fprintf(stderr, "  element %" PRId64 ": %.9g, expected %.9g\n", i, (double)a[i],
              (double)b[i]);
      return false;
    }
  return true;
}

TEST(every_type_is_what_gguf_py_makes_of_it) {
  cft_gguf *g;
  cft_safetensors *s;
  EXPECT_OK(cft_gguf_open(&g, golden_path("gguf/types.gguf")));
  EXPECT_OK(cft_safetensors_open(&s, golden_path("gguf/types.safetensors")));
  for (int i = 0; i < TYPES; ++i) {
    cft_gguf_tensor t;
    cft_array want;
    int64_t at = cft_gguf_index(g, types[i]);
    EXPECT_OK(cft_gguf_at(g, at, &t));
    EXPECT_STR(t.type, types[i]);
    EXPECT(t.readable);
    EXPECT_OK(cft_safetensors_find(s, types[i], &want));
    EXPECT_INT(t.ndim, 2);
    EXPECT_INT(t.dims[0], want.dims[0]);
    EXPECT_INT(t.dims[1], want.dims[1]);
    int64_t n = t.dims[1];
    float *got = malloc(2 * (size_t)n * sizeof *got);
    EXPECT_OK(cft_gguf_read(g, at, 0, 2, 0, got));
    EXPECT(same_floats(got, want.data, 2 * n));
    EXPECT_OK(cft_gguf_read(g, at, 1, 1, 0, got));  // a row by itself
    EXPECT(same_floats(got, (const float *)want.data + n, n));
    EXPECT_OK(cft_gguf_read(g, at, 2, 0, 0, got));
    free(got);
  }
  cft_safetensors_release(s);
  cft_gguf_release(g);
}

TEST(types_that_are_not_read) {
  cft_gguf *g;
  cft_gguf_tensor t;
  float out[256];
  EXPECT_OK(cft_gguf_open(&g, golden_path("gguf/types.gguf")));
  int64_t i = cft_gguf_index(g, "Q2_K");
  EXPECT_OK(cft_gguf_at(g, i, &t));
  EXPECT(!t.readable);
  EXPECT_INT(t.bytes, 84);
  EXPECT_FAILS(cft_gguf_read(g, i, 0, 1, 0, out), CFT_E_DTYPE,
               "tensor \"Q2_K\" is of type Q2_K (10), which cft does not read");
  cft_gguf_release(g);
}

TEST(values) {
  cft_gguf *g;
  cft_gguf_value v, item;
  EXPECT_OK(cft_gguf_open(&g, golden_path("gguf/types.gguf")));
  EXPECT(cft_gguf_find_value(g, "general.architecture", &v));
  EXPECT_INT(v.kind, CFT_GGUF_STRING);
  EXPECT(v.bytes == 4 && memcmp(v.string, "test", 4) == 0);
  EXPECT(cft_gguf_find_value(g, "test.text", &v));
  EXPECT(v.bytes == 6 && memcmp(v.string, "na\xc3\xafve", 6) == 0);
  EXPECT(cft_gguf_find_value(g, "test.i8", &v));
  EXPECT_INT(v.kind, CFT_GGUF_INT);
  EXPECT_INT(v.integer, -8);
  EXPECT(cft_gguf_find_value(g, "test.u64", &v));  // above the range of int64_t
  EXPECT_INT(v.kind, CFT_GGUF_FLOAT);
  EXPECT(v.number == 0x1p63 + 0x1p40 && !v.single);
  EXPECT(cft_gguf_find_value(g, "test.f32", &v));
  EXPECT(v.kind == CFT_GGUF_FLOAT && v.number == (double)0.1f && v.single);
  EXPECT(cft_gguf_find_value(g, "test.f64", &v));
  EXPECT(v.kind == CFT_GGUF_FLOAT && v.number == 0.1 && !v.single);
  EXPECT(cft_gguf_find_value(g, "test.yes", &v));
  EXPECT(v.kind == CFT_GGUF_BOOL && v.integer == 1);
  EXPECT_FAILS(cft_gguf_item(g, &v, 0, &item), CFT_E_ARG, "\"test.yes\" is no list");

  EXPECT(cft_gguf_find_value(g, "test.words", &v));
  EXPECT_INT(v.kind, CFT_GGUF_LIST);
  EXPECT_INT(v.count, 3);
  EXPECT_OK(cft_gguf_item(g, &v, 2, &item));
  EXPECT(item.kind == CFT_GGUF_STRING && item.bytes == 5 && memcmp(item.string, "three", 5) == 0);
  EXPECT_OK(cft_gguf_item(g, &v, 1, &item));
  EXPECT(item.kind == CFT_GGUF_STRING && item.bytes == 0);
  EXPECT_FAILS(cft_gguf_item(g, &v, 3, &item), CFT_E_ARG, "\"test.words\": item 3 of 3");
  EXPECT_FAILS(cft_gguf_item(g, &v, -1, &item), CFT_E_ARG, "item -1 of 3");
  EXPECT(cft_gguf_find_value(g, "test.numbers", &v));
  EXPECT_OK(cft_gguf_item(g, &v, 1, &item));
  EXPECT(item.kind == CFT_GGUF_INT && item.integer == -2);
  EXPECT(cft_gguf_find_value(g, "test.flags", &v));
  EXPECT_OK(cft_gguf_item(g, &v, 1, &item));
  EXPECT(item.kind == CFT_GGUF_BOOL && item.integer == 0);

  EXPECT(!cft_gguf_find_value(g, "test.none", &v));
  EXPECT_OK(cft_gguf_value_at(g, 1, &v));
  EXPECT_STR(v.key, "test.text");
  EXPECT_FAILS(cft_gguf_value_at(g, cft_gguf_value_count(g), &v), CFT_E_ARG, "value 10 of 10");
  cft_gguf_tensor t;
  EXPECT_FAILS(cft_gguf_at(g, cft_gguf_count(g), &t), CFT_E_ARG, "tensor 12 of 12");
  EXPECT_INT(cft_gguf_index(g, "none"), -1);
  cft_gguf_release(g);
}

// q and k of a "llama" file, put back into Hugging Face's order.
TEST(rows_that_the_converter_permuted) {
  static const struct {
    const char *gguf, *hf;
    int64_t heads;
  } cases[] = {{"blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", 4},
               {"blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight", 2},
               {"blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight", 0}};
  cft_gguf *g;
  cft_safetensors *s;
  EXPECT_OK(cft_gguf_open(&g, golden_path("gguf/tiny-llama.gguf")));
  EXPECT_OK(cft_safetensors_open(&s, golden_path("gguf/tiny-llama.safetensors")));
  float got[32 * 32];
  for (int c = 0; c < 3; ++c) {
    cft_array want;
    EXPECT_OK(cft_safetensors_find(s, cases[c].hf, &want));
    int64_t i = cft_gguf_index(g, cases[c].gguf), rows = want.dims[0];
    EXPECT_OK(cft_gguf_read(g, i, 0, rows, cases[c].heads, got));
    EXPECT(same_floats(got, want.data, rows * 32));
    // Rows from the middle are those of the whole.
    EXPECT_OK(cft_gguf_read(g, i, 5, 7, cases[c].heads, got));
    EXPECT(same_floats(got, (const float *)want.data + 5 * 32, 7 * 32));
    if (cases[c].heads) {
      EXPECT_OK(cft_gguf_read(g, i, 0, rows, 0, got));
      EXPECT(memcmp(got, want.data, want.bytes) != 0);
    }
  }
  int64_t q = cft_gguf_index(g, "blk.0.attn_q.weight");
  EXPECT_FAILS(cft_gguf_read(g, q, 0, 1, 3, got), CFT_E_SHAPE, "32 rows is not 3 heads");
  EXPECT_FAILS(cft_gguf_read(g, q, 0, 1, -1, got), CFT_E_SHAPE, "-1 heads");
  EXPECT_FAILS(cft_gguf_read(g, q, 30, 3, 0, got), CFT_E_ARG, "rows 30 to 33 of 32");
  EXPECT_FAILS(cft_gguf_read(g, q, -1, 1, 0, got), CFT_E_ARG, "rows -1");
  // A vector, as a bias of q: element by element.
  int64_t norm = cft_gguf_index(g, "output_norm.weight");
  float plain[32];
  EXPECT_OK(cft_gguf_read(g, norm, 0, 1, 0, plain));
  EXPECT_OK(cft_gguf_read(g, norm, 0, 32, 4, got));
  for (int h = 0; h < 4; ++h)
    for (int j = 0; j < 4; ++j) {
      EXPECT(got[8 * h + j] == plain[8 * h + 2 * j]);
      EXPECT(got[8 * h + 4 + j] == plain[8 * h + 2 * j + 1]);
    }
  cft_safetensors_release(s);
  cft_gguf_release(g);
}

// ---- hostile files ---------------------------------------------------------------------------

// A file built of little-endian parts.
struct parts {
  uint8_t bytes[512];
  size_t n;
};

static void put(struct parts *p, uint64_t x, size_t bytes) {
  memcpy(p->bytes + p->n, &x, bytes);
  p->n += bytes;
}

static void put_text(struct parts *p, const char *text) {
  put(p, strlen(text), 8);
  memcpy(p->bytes + p->n, text, strlen(text));
  p->n += strlen(text);
}

static struct parts head(uint32_t version, uint64_t tensors, uint64_t values) {
  struct parts p = {.n = 0};
  memcpy(p.bytes, "GGUF", 4);
  p.n = 4;
  put(&p, version, 4);
  put(&p, tensors, 8);
  put(&p, values, 8);
  return p;
}

static void put_tensor(struct parts *p, const char *name, uint64_t rows, uint64_t columns,
                       uint32_t type, uint64_t offset) {
  put_text(p, name);
  put(p, 2, 4);
  put(p, columns, 8);
  put(p, rows, 8);
  put(p, type, 4);
  put(p, offset, 8);
}

static void pad(struct parts *p, size_t data) { p->n = (p->n + 31) / 32 * 32 + data; }

#define REFUSED(parts_, status, message)                                                          \
  do {                                                                                            \
    cft_gguf *g_ = NULL;                                                                          \
    uint8_t *exact_ = malloc((parts_).n);                                                         \
    memcpy(exact_, (parts_).bytes, (parts_).n);                                                   \
    cft_status got_ = cft_gguf_parse(&g_, exact_, (parts_).n, "lie");                             \
    free(exact_);                                                                                 \
    if (got_ != (status) || !strstr(cft_last_error(), message) ||                                 \
        !strstr(cft_last_error(), "lie"))                                                         \
      TEST_FAIL("%s: \"%s\", expected \"%s\"", cft_status_name(got_), cft_last_error(), message); \
  } while (0)

TEST(files_that_lie) {
  struct parts p = {.bytes = "GGML", .n = 8};
  REFUSED(p, CFT_E_FORMAT, "does not begin with \"GGUF\"");
  p = head(1, 0, 0);
  REFUSED(p, CFT_E_UNSUPPORTED, "is GGUF version 1");
  p = head(3 << 24, 0, 0);
  REFUSED(p, CFT_E_UNSUPPORTED, "big-endian");
  p = head(3, UINT64_MAX, 0);
  REFUSED(p, CFT_E_FORMAT, "is cut short");
  p = head(3, 0, UINT64_MAX);
  REFUSED(p, CFT_E_FORMAT, "is cut short");

  p = head(3, 0, 1);
  put(&p, UINT64_MAX, 8);
  put(&p, 0, 8);
  REFUSED(p, CFT_E_FORMAT, "byte 32: is cut short");
  p = head(3, 0, 1);
  put_text(&p, "key");
  put(&p, 13, 4);
  REFUSED(p, CFT_E_FORMAT, "value \"key\": lie, byte 39: a value of an unknown type");
  p = head(3, 0, 1);
  put(&p, 3, 8);
  memcpy(p.bytes + p.n, "k\0y", 3);
  p.n += 16;
  REFUSED(p, CFT_E_FORMAT, "NUL");
  p = head(3, 0, 1);
  put_text(&p, "list");
  put(&p, 9, 4);
  put(&p, 8, 4);
  put(&p, (uint64_t)1 << 60, 8);
  REFUSED(p, CFT_E_FORMAT, "a list of 1152921504606846976 items");
  p = head(3, 0, 1);
  put_text(&p, "deep");
  for (int i = 0; i < 6; ++i) {
    put(&p, 9, 4);
    if (i) put(&p, 1, 8);
  }
  pad(&p, 64);
  REFUSED(p, CFT_E_FORMAT, "lists too deep in each other");
  p = head(3, 0, 2);
  for (int i = 0; i < 2; ++i) {
    put_text(&p, "same");
    put(&p, 7, 4);
    put(&p, 1, 1);
  }
  REFUSED(p, CFT_E_FORMAT, "the name \"same\" comes twice");
  for (int bad = 0; bad < 3; ++bad) {
    p = head(3, 0, 1);
    put_text(&p, "general.alignment");
    put(&p, 4, 4);
    put(&p, (uint64_t[]){0, 24, 1 << 21}[bad], 4);
    REFUSED(p, CFT_E_FORMAT, "general.alignment is no power of two");
  }
}

TEST(tensors_that_lie) {
  struct parts p = head(3, 1, 0);
  put_tensor(&p, "t", 2, 8, 0, 0);
  pad(&p, 63);
  REFUSED(p, CFT_E_FORMAT, "tensor \"t\" is bytes 0 to 64 of the data, but there are 63");
  p = head(3, 1, 0);
  put_tensor(&p, "t", 2, 8, 0, 16);
  pad(&p, 256);
  REFUSED(p, CFT_E_FORMAT, "tensor \"t\" lies at 16, no multiple of 32");
  p = head(3, 1, 0);
  put_tensor(&p, "t", 2, 8, 0, (uint64_t)INT64_MAX + 1);
  pad(&p, 64);
  REFUSED(p, CFT_E_FORMAT, "is cut short");
  p = head(3, 1, 0);
  put_tensor(&p, "t", (uint64_t)1 << 40, (uint64_t)1 << 40, 0, 0);
  pad(&p, 64);
  REFUSED(p, CFT_E_FORMAT, "\"t\" has an impossible shape");
  p = head(3, 1, 0);
  put_tensor(&p, "t", (uint64_t)1 << 31, (uint64_t)1 << 31, 28, 0);  // overflows in bytes only
  pad(&p, 64);
  REFUSED(p, CFT_E_FORMAT, "\"t\"");
  p = head(3, 1, 0);
  put_tensor(&p, "t", 1, 48, 2, 0);
  pad(&p, 64);
  REFUSED(p, CFT_E_FORMAT, "\"t\" has rows of 48, no multiple of Q4_0's block of 32");
  p = head(3, 1, 0);
  put_text(&p, "t");
  put(&p, 5, 4);
  pad(&p, 64);
  REFUSED(p, CFT_E_FORMAT, "\"t\" has 5 dimensions, at most 4");
  p = head(3, 2, 0);
  put_tensor(&p, "t", 1, 8, 0, 0);
  put_tensor(&p, "t", 1, 8, 0, 32);
  pad(&p, 64);
  REFUSED(p, CFT_E_FORMAT, "the name \"t\" comes twice");
  p = head(3, 1, 0);
  put_tensor(&p, "t", 1, 8, 0, 0);
  REFUSED(p, CFT_E_FORMAT, "is cut short");
}

TEST(what_a_later_version_has_hurts_only_who_asks) {
  struct parts p = head(2, 2, 2);
  put_text(&p, "general.alignment");
  put(&p, 4, 4);
  put(&p, 64, 4);
  put_text(&p, "nested");
  put(&p, 9, 4);
  put(&p, 9, 4);
  put(&p, 1, 8);
  put(&p, 8, 4);
  put(&p, 1, 8);
  put_text(&p, "inner");
  put_tensor(&p, "new", 3, 5, 77, 64);
  put_tensor(&p, "old", 1, 2, 0, 0);
  p.n = (p.n + 63) / 64 * 64;
  float one[2] = {1, 2};
  memcpy(p.bytes + p.n, one, sizeof one);
  p.n += 128;

  cft_gguf *g;
  cft_gguf_tensor t;
  cft_gguf_value v, item;
  float out[2];
  EXPECT_OK(cft_gguf_parse(&g, p.bytes, p.n, "new"));
  EXPECT_OK(cft_gguf_at(g, 0, &t));
  EXPECT_STR(t.type, "unknown");
  EXPECT_INT(t.type_id, 77);
  EXPECT_INT(t.dims[0], 3);
  EXPECT_INT(t.dims[1], 5);
  EXPECT_FAILS(cft_gguf_read(g, 0, 0, 1, 0, out), CFT_E_DTYPE, "type unknown (77)");
  EXPECT_OK(cft_gguf_read(g, 1, 0, 1, 0, out));
  EXPECT(out[0] == 1 && out[1] == 2);
  EXPECT(cft_gguf_find_value(g, "nested", &v));
  EXPECT_FAILS(cft_gguf_item(g, &v, 0, &item), CFT_E_UNSUPPORTED, "\"nested\" is a list of lists");
  cft_gguf_release(g);
}

static void parse_and_look(const uint8_t *data, size_t bytes) {
  cft_gguf *g;
  if (cft_gguf_parse(&g, data, bytes, "mutant") != CFT_OK) return;
  cft_gguf_value v, item;
  for (int64_t i = 0; i < cft_gguf_value_count(g); ++i) {
    if (cft_gguf_value_at(g, i, &v) != CFT_OK) continue;
    if (v.kind == CFT_GGUF_STRING) touch(v.string, v.bytes);
    for (int64_t k = 0; v.kind == CFT_GGUF_LIST && k < v.count; ++k)
      if (cft_gguf_item(g, &v, k, &item) == CFT_OK && item.kind == CFT_GGUF_STRING)
        touch(item.string, item.bytes);
  }
  cft_gguf_tensor t;
  for (int64_t i = 0; i < cft_gguf_count(g); ++i) {
    if (cft_gguf_at(g, i, &t) != CFT_OK) continue;
    touch(t.data, t.bytes);
    int64_t columns = t.ndim ? t.dims[t.ndim - 1] : 1;
    if (columns < 0 || columns > 1 << 16 || t.bytes == 0) continue;
    float *out = malloc(((size_t)columns + 1) * sizeof *out);
    (void)cft_gguf_read(g, i, 0, 1, 0, out);
    (void)cft_gguf_read(g, i, 0, 1, t.ndim == 1 ? 2 : 1, out);
    free(out);
  }
  cft_gguf_release(g);
}

TEST(mutants_of_a_file) { mutate(golden_path("gguf/types.gguf"), 20000, parse_and_look); }

TEST(files_that_are_none) {
  cft_gguf *g;
  const char *path = join(scratch("gguf"), "x.gguf");
  EXPECT_FAILS(cft_gguf_open(&g, path), CFT_E_IO, "No such file");
  EXPECT_OK(cft_file_write(NULL, path, "", 0));
  EXPECT_FAILS(cft_gguf_open(&g, path), CFT_E_FORMAT, "is cut short");
  EXPECT_FAILS(cft_gguf_open(&g, golden_path("gguf/types.safetensors")), CFT_E_FORMAT,
               "no GGUF file");
}

TEST_MAIN()
