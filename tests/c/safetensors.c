// safetensors.c - files of Hugging Face read and written byte for byte; hostile ones refused.
#include "cft_checkpoint.h"
#include "files.h"
#include "test.h"

// tests/oracle/files.py made the golden files from these; byte k of array i is (7 k + 13 i) % 251.
static const cft_array golden[] = {
    {.name = "z.f32", .dtype = CFT_F32, .ndim = 2, .dims = {3, 5}},
    {.name = "b.bf16", .dtype = CFT_BF16, .ndim = 1, .dims = {7}},
    {.name = "a.f32", .dtype = CFT_F32, .ndim = 3, .dims = {2, 1, 4}},
    {.name = "scalar.f64", .dtype = CFT_F64, .ndim = 0},
    {.name = "ids.i64", .dtype = CFT_I64, .ndim = 1, .dims = {6}},
    {.name = "c.f16", .dtype = CFT_F16, .ndim = 2, .dims = {5, 3}},
    {.name = "mask.u8", .dtype = CFT_U8, .ndim = 1, .dims = {9}},
    {.name = "n.i32", .dtype = CFT_I32, .ndim = 2, .dims = {2, 2}},
    {.name = "empty.f32", .dtype = CFT_F32, .ndim = 2, .dims = {0, 4}},
    {.name = "quote\"d.f32", .dtype = CFT_F32, .ndim = 2, .dims = {70, 5}},
    {.name = "ünï.f32", .dtype = CFT_F32, .ndim = 2, .dims = {10, 10}},
};
enum { ARRAYS = sizeof golden / sizeof *golden, BIG = 2048 };

static uint8_t bytes[ARRAYS][BIG];

// The golden arrays with their data.
static void fill(cft_array arrays[ARRAYS]) {
  for (int i = 0; i < ARRAYS; ++i) {
    arrays[i] = golden[i];
    arrays[i].bytes = cft_dtype_bytes(golden[i].dtype);
    for (int d = 0; d < golden[i].ndim; ++d) arrays[i].bytes *= (size_t)golden[i].dims[d];
    for (size_t k = 0; k < arrays[i].bytes; ++k)
      bytes[i][k] = (uint8_t)((7 * k + 13 * (size_t)i) % 251);
    arrays[i].data = bytes[i];
  }
}

static void check_golden(const char *path) {
  cft_array want[ARRAYS], got;
  fill(want);
  cft_safetensors *s;
  EXPECT_OK(cft_safetensors_open(&s, path));
  EXPECT_INT(cft_safetensors_count(s), ARRAYS);
  for (int i = 0; i < ARRAYS; ++i) {
    EXPECT_OK(cft_safetensors_find(s, want[i].name, &got));
    EXPECT_STR(got.name, want[i].name);
    EXPECT_INT(got.dtype, want[i].dtype);
    EXPECT_INT(got.ndim, want[i].ndim);
    for (int d = 0; d < got.ndim; ++d) EXPECT_INT(got.dims[d], want[i].dims[d]);
    EXPECT_INT(got.bytes, want[i].bytes);
    EXPECT(memcmp(got.data, want[i].data, got.bytes) == 0);
    EXPECT(got.aligned == ((uintptr_t)got.data % cft_dtype_bytes(got.dtype) == 0));
  }
  EXPECT_STR(cft_safetensors_metadata(s, "format"), "pt");
  EXPECT(!cft_safetensors_metadata(s, "other"));
  EXPECT_INT(cft_safetensors_index(s, "none"), -1);
  EXPECT_FAILS(cft_safetensors_find(s, "none", &got), CFT_E_ARG, "no tensor \"none\"");
  EXPECT_FAILS(cft_safetensors_at(s, ARRAYS, &got), CFT_E_ARG, "tensor 11 of 11");
  cft_safetensors_release(s);
}

TEST(file_of_hugging_face) { check_golden(golden_path("safetensors/model.safetensors")); }
TEST(shards_of_hugging_face) { check_golden(golden_path("safetensors/shards")); }
TEST(folder_with_one_file) { check_golden(golden_path("safetensors")); }

TEST(order_is_that_of_the_file) {
  static const char *const order[] = {"ids.i64",      "scalar.f64", "a.f32",   "empty.f32",
                                      "quote\"d.f32", "z.f32",      "ünï.f32", "n.i32",
                                      "b.bf16",       "c.f16",      "mask.u8"};
  cft_safetensors *s;
  cft_array a;
  EXPECT_OK(cft_safetensors_open(&s, golden_path("safetensors/model.safetensors")));
  for (int i = 0; i < ARRAYS; ++i) {
    EXPECT_OK(cft_safetensors_at(s, i, &a));
    EXPECT_STR(a.name, order[i]);
    EXPECT_INT(cft_safetensors_index(s, order[i]), i);
  }
  cft_safetensors_release(s);
}

TEST(pages_are_private) {
  cft_safetensors *s = NULL;
  cft_array a, b;
  const char *path = golden_path("safetensors/model.safetensors");
  EXPECT_OK(cft_safetensors_open(&s, path));
  EXPECT_OK(cft_safetensors_find(s, "mask.u8", &a));
  *(uint8_t *)(uintptr_t)a.data ^= 255;
  cft_safetensors *again = NULL;
  EXPECT_OK(cft_safetensors_open(&again, path));
  EXPECT_OK(cft_safetensors_find(again, "mask.u8", &b));
  EXPECT_INT(*(const uint8_t *)a.data, *(const uint8_t *)b.data ^ 255);
  // A reference more: the first release leaves it open.
  EXPECT(cft_safetensors_retain(again) == again);
  cft_safetensors_release(again);
  EXPECT_INT(((const uint8_t *)b.data)[0], 78);
  cft_safetensors_release(again);
  cft_safetensors_release(s);
}

TEST(types_that_cft_has_not) {
  cft_safetensors *s;
  cft_array a;
  EXPECT_OK(cft_safetensors_open(&s, golden_path("safetensors/foreign.safetensors")));
  EXPECT_OK(cft_safetensors_find(s, "fine", &a));
  EXPECT_FAILS(cft_safetensors_find(s, "flags", &a), CFT_E_DTYPE, "\"flags\" is \"BOOL\"");
  EXPECT_STR(a.name, "flags");
  EXPECT_FAILS(cft_safetensors_find(s, "small", &a), CFT_E_DTYPE, "\"small\" is \"I8\"");
  cft_safetensors_release(s);
}

// ---- writing ---------------------------------------------------------------------------------

TEST(written_as_hugging_face_does) {
  const char *folder = scratch("safetensors");
  cft_array arrays[ARRAYS];
  fill(arrays);
  const char *path = join(folder, "model.safetensors");
  EXPECT_OK(cft_safetensors_write(NULL, path, arrays, ARRAYS, 0));
  expect_same_file(path, golden_path("safetensors/model.safetensors"));
  if (TEST_FAILED()) return;

  EXPECT_OK(
      cft_safetensors_write(NULL, join(folder, "shards/model.safetensors"), arrays, ARRAYS, 600));
  static const char *const files[] = {
      "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
      "model-00003-of-00003.safetensors", "model.safetensors.index.json"};
  for (int i = 0; i < 4; ++i)
    expect_same_file(join(join(folder, "shards"), files[i]),
                     join(golden_path("safetensors/shards"), files[i]));
  check_golden(join(folder, "shards"));
}

TEST(written_in_pieces) {
  const char *folder = scratch("pieces");
  cft_array arrays[ARRAYS];
  fill(arrays);
  const char *path = join(folder, "model.safetensors");
  cft_safetensors_writer *w;
  EXPECT_OK(cft_safetensors_writer_new(&w, NULL, path, arrays, ARRAYS, 0));
  size_t done = 0;
  for (int64_t i; (i = cft_safetensors_writer_next(w)) >= 0;) {
    EXPECT_FAILS(cft_safetensors_writer_commit(w), CFT_E_STATE, "is missing");
    size_t n = arrays[i].bytes - done < 11 ? arrays[i].bytes - done : 11;
    EXPECT_FAILS(cft_safetensors_writer_put(w, bytes, arrays[i].bytes - done + 1), CFT_E_ARG,
                 "left");
    EXPECT_OK(cft_safetensors_writer_put(w, bytes[i] + done, n));
    done = done + n == arrays[i].bytes ? 0 : done + n;
  }
  EXPECT_FAILS(cft_safetensors_writer_put(w, bytes, 1), CFT_E_ARG, "more than its arrays have");
  EXPECT_INT(cft_path_look(path, NULL), CFT_PATH_NONE);  // not before it is committed
  EXPECT_OK(cft_safetensors_writer_commit(w));
  EXPECT_FAILS(cft_safetensors_writer_commit(w), CFT_E_STATE, "done already");
  cft_safetensors_writer_release(w);
  expect_same_file(path, golden_path("safetensors/model.safetensors"));
}

TEST(no_arrays_are_a_file_too) {
  const char *path = join(scratch("none"), "model.safetensors");
  cft_safetensors *s;
  EXPECT_OK(cft_safetensors_write(NULL, path, NULL, 0, 100));
  EXPECT_OK(cft_safetensors_open(&s, path));
  EXPECT_INT(cft_safetensors_count(s), 0);
  cft_safetensors_release(s);
}

TEST(arrays_that_cannot_be_written) {
  const char *folder = scratch("wrong"), *path = join(folder, "model.safetensors");
  float x[4] = {0};
  const cft_array fine = {.name = "x", .data = x, .bytes = 16, .ndim = 1, .dims = {4}};
  cft_array a = fine;
  a.bytes = 12;
  EXPECT_FAILS(cft_safetensors_write(NULL, path, &a, 1, 0), CFT_E_ARG,
               "\"x\" has 12 bytes, expected 16");
  a = fine;
  a.dims[0] = -4;
  EXPECT_FAILS(cft_safetensors_write(NULL, path, &a, 1, 0), CFT_E_ARG, "impossible dimension, -4");
  a = fine;
  a.name = "__metadata__";
  EXPECT_FAILS(cft_safetensors_write(NULL, path, &a, 1, 0), CFT_E_ARG, "can be no tensor's name");
  a = fine;
  a.name = "\xff";
  EXPECT_FAILS(cft_safetensors_write(NULL, path, &a, 1, 0), CFT_E_ARG, "no UTF-8");
  a = fine;
  a.dtype = (cft_dtype)99;
  EXPECT_FAILS(cft_safetensors_write(NULL, path, &a, 1, 0), CFT_E_DTYPE, "no type of the format");
  EXPECT_FAILS(cft_safetensors_write(NULL, path, (cft_array[]){fine, fine}, 2, 0), CFT_E_ARG,
               "the name \"x\" comes twice");
  EXPECT_INT(entries_in(folder), 0);
}

// ---- hostile files ---------------------------------------------------------------------------

// A file of this header, padded with spaces to whole eights, and `data` zero bytes. Freed by the
// caller.
static uint8_t *build(size_t *length, const char *header, size_t data) {
  size_t text = strlen(header), padded = (text + 7) / 8 * 8;
  *length = 8 + padded + data;
  uint8_t *file = calloc(1, *length);
  memset(file + 8, ' ', padded);
  memcpy(file, &padded, 8);
  memcpy(file + 8, header, text);
  return file;
}

TEST(headers_that_lie) {
#define F(name, shape, begin, end) \
  "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"
  static const struct {
    const char *header;
    size_t data;
    const char *message;
  } cases[] = {
      {"[]", 0, "byte 8 is not '{'"},
      {"{", 0, "byte"},
      {"{} {}", 0, "end of file expected"},
      {"{\033[2J", 0, "near '?'"},  // no file of others speaks to a terminal
      {"{" F("a", "2", "0", "8") "," F("a", "2", "0", "8") "}", 8, "duplicate"},
      {"{" F("a", "2", "0", "8") "}", 7, "is cut short: tensor \"a\" ends at byte 8"},
      {"{" F("a", "2", "0", "8") "}", 9, "the data is 9 bytes, its tensors 8"},
      {"{" F("a", "2", "0", "8") "," F("b", "2", "12", "20") "}", 20, "\"b\" begins at byte 12 of"},
      {"{" F("a", "2", "0", "8") "," F("b", "2", "12", "20") "}", 20, "hole"},
      {"{" F("a", "2", "0", "8") "," F("b", "2", "4", "12") "}", 12, "overlap"},
      {"{" F("a", "2", "0", "8") "," F("b", "2", "0", "8") "}", 8, "overlap"},
      {"{" F("a", "3", "0", "8") "}", 8, "\"a\" has 8 bytes, expected 12"},
      {"{" F("a", "-2", "0", "8") "}", 8, "impossible shape"},
      {"{" F("a", "2.0", "0", "8") "}", 8, "impossible shape"},
      {"{" F("a", "4611686018427387904,4611686018427387904", "0", "8") "}", 8, "impossible shape"},
      {"{" F("a", "4611686018427387904", "0", "0") "}", 0, "impossible shape"},
      {"{" F("a", "9223372036854775808", "0", "0") "}", 0, "too big integer"},
      {"{" F("a", "2", "8", "0") "}", 8, "no valid data_offsets"},
      {"{" F("a", "2", "-8", "0") "}", 8, "no valid data_offsets"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "no valid data_offsets"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8,
       "no valid data_offsets"},
      {"{\"a\":{\"dtype\":1,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "no dtype or no shape"},
      {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "no dtype or no shape"},
      {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "impossible shape"},
      {"{\"a\":1}", 0, "no valid data_offsets"},
      {"{\"__metadata__\":[]}", 0, "__metadata__ is no object"},
      {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__ \"k\" is no string"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    size_t length;
    uint8_t *file = build(&length, cases[i].header, cases[i].data);
    cft_safetensors *s;
    EXPECT_FAILS(cft_safetensors_parse(&s, file, length, "lie"), CFT_E_FORMAT, cases[i].message);
    EXPECT(strncmp(cft_last_error(), "lie", 3) == 0);
    free(file);
  }
  uint8_t huge[16] = {255, 255, 255, 255, 255, 255, 255, 255};
  cft_safetensors *s;
  EXPECT_FAILS(cft_safetensors_parse(&s, huge, 16, "lie"), CFT_E_FORMAT, "at most 100000000");
  EXPECT_FAILS(cft_safetensors_parse(&s, huge, 7, "lie"), CFT_E_FORMAT, "is 7 bytes, too short");
  memset(huge, 0, sizeof huge);
  huge[0] = 9;
  EXPECT_FAILS(cft_safetensors_parse(&s, huge, 16, "lie"), CFT_E_FORMAT,
               "the header needs 17 bytes, the file has 16");
}

TEST(a_type_of_tomorrow_hurts_only_who_asks) {
  size_t length;
  uint8_t *file = build(&length,
                        "{\"new\":{\"dtype\":\"F2\",\"shape\":[9],\"data_offsets\":[0,3]},"
                        "\"deep\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1],"
                        "\"data_offsets\":[3,4]}," F("odd", "1", "4", "8") "}",
                        8);
  cft_safetensors *s;
  cft_array a;
  EXPECT_OK(cft_safetensors_parse(&s, file, length, "new"));
  EXPECT_FAILS(cft_safetensors_find(s, "new", &a), CFT_E_DTYPE, "tensor \"new\" is \"F2\"");
  EXPECT_FAILS(cft_safetensors_find(s, "deep", &a), CFT_E_SHAPE, "7 dimensions, at most 6");
  EXPECT_OK(cft_safetensors_find(s, "odd", &a));
  EXPECT_INT(a.dims[0], 1);
  cft_safetensors_release(s);
  free(file);
}

TEST(data_that_is_not_aligned) {
  size_t length;
  uint8_t *file = build(
      &length,
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}," F("b", "1", "3", "7") "}",
      7);
  cft_safetensors *s;
  cft_array a;
  EXPECT_OK(cft_safetensors_parse(&s, file, length, "odd"));
  EXPECT_OK(cft_safetensors_find(s, "a", &a));
  EXPECT(a.aligned);
  EXPECT_OK(cft_safetensors_find(s, "b", &a));
  EXPECT(!a.aligned);
  cft_safetensors_release(s);
  free(file);
}

static void parse_and_look(const uint8_t *data, size_t length) {
  cft_safetensors *s;
  if (cft_safetensors_parse(&s, data, length, "mutant") != CFT_OK) return;
  cft_array a;
  for (int64_t i = 0; i < cft_safetensors_count(s); ++i)
    if (cft_safetensors_at(s, i, &a) == CFT_OK) touch(a.data, a.bytes);
  (void)cft_safetensors_metadata(s, "format");
  cft_safetensors_release(s);
}

TEST(mutants_of_a_file) {
  mutate(golden_path("safetensors/model.safetensors"), 20000, parse_and_look);
}

// ---- hostile folders -------------------------------------------------------------------------

static void copy_shards(const char *folder) {
  static const char *const files[] = {
      "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
      "model-00003-of-00003.safetensors", "model.safetensors.index.json"};
  for (int i = 0; i < 4; ++i)
    copy_file(join(golden_path("safetensors/shards"), files[i]), join(folder, files[i]));
}

TEST(folders_that_lack_something) {
  const char *folder = scratch("folders");
  cft_safetensors *s;
  EXPECT_FAILS(cft_safetensors_open(&s, join(folder, "none")), CFT_E_IO, "No such file");
  EXPECT_FAILS(cft_safetensors_open(&s, folder), CFT_E_IO, "has no model.safetensors");
  EXPECT_OK(cft_file_write(NULL, join(folder, "pytorch_model.bin"), "x", 1));
  EXPECT_FAILS(cft_safetensors_open(&s, folder), CFT_E_IO, "pytorch_model.bin is not read");
  copy_shards(folder);
  EXPECT_OK(cft_safetensors_open(&s, folder));
  cft_safetensors_release(s);

  EXPECT_OK(cft_path_remove(join(folder, "model-00002-of-00003.safetensors")));
  EXPECT_FAILS(cft_safetensors_open(&s, folder), CFT_E_IO,
               "shard \"model-00002-of-00003.safetensors\" is missing");
  copy_file(golden_path("safetensors/foreign.safetensors"),
            join(folder, "model-00002-of-00003.safetensors"));
  EXPECT_FAILS(
      cft_safetensors_open(&s, folder), CFT_E_FORMAT,
      "shard model-00002-of-00003.safetensors has tensor \"fine\", but the index has it in "
      "none");
  copy_shards(folder);

  static const struct {
    const char *index, *message;
  } cases[] = {
      {"{", "line 1"},
      {"{}", "has no weight_map"},
      {"{\"weight_map\":{\"x\":\"../x\"}}", "\"../x\" is no file name"},
      {"{\"weight_map\":{\"x\":\"\"}}", "is no file name"},
      {"{\"weight_map\":{\"x\":3}}", "is no file name"},
      {"{\"weight_map\":{\"quote\\\"d.f32\":\"model-00001-of-00003.safetensors\","
       "\"gone\":\"model-00001-of-00003.safetensors\"}}",
       "tensor \"gone\" is missing from shard \"model-00001-of-00003.safetensors\""},
      {"", "line"},
  };
  const char *index = join(folder, "model.safetensors.index.json");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    EXPECT_OK(cft_file_write(NULL, index, cases[i].index, strlen(cases[i].index)));
    EXPECT_FAILS(cft_safetensors_open(&s, folder), CFT_E_FORMAT, cases[i].message);
  }
}

TEST(a_file_cut_short_is_named) {
  const char *path = join(scratch("cut"), "model.safetensors");
  copy_file(golden_path("safetensors/model.safetensors"), path);
  cut_file(path, 2000);
  cft_safetensors *s;
  EXPECT_FAILS(cft_safetensors_open(&s, path), CFT_E_FORMAT, "is cut short");
  EXPECT(strncmp(cft_last_error(), path, strlen(path)) == 0);
  cut_file(path, 0);
  EXPECT_FAILS(cft_safetensors_open(&s, path), CFT_E_FORMAT, "is 0 bytes, too short");
  EXPECT_FAILS(cft_safetensors_open(&s, "/dev/null"), CFT_E_IO, "no regular file");
}

TEST_MAIN()
