// state.c - nested values and arrays in msgpack: written, read, and refused where they lie.
#include "cft_checkpoint.h"
#include "files.h"
#include "test.h"

// What a walk over a file says, as text: the shape of a value in one line.
static void describe(cft_state_reader *r, char *out, size_t room) {
  cft_state_item i;
  *out = '\0';
  for (;;) {
    cft_state_next(r, &i);
    if (i.kind == CFT_STATE_END) return;
    size_t n = strlen(out);
    char *at = out + n;
    size_t left = room - n;
    switch (i.kind) {
      case CFT_STATE_END: return;
      case CFT_STATE_NIL: snprintf(at, left, "nil "); break;
      case CFT_STATE_BOOL: snprintf(at, left, "%s ", i.boolean ? "true" : "false"); break;
      case CFT_STATE_INT: snprintf(at, left, "%" PRId64 " ", i.integer); break;
      case CFT_STATE_UINT: snprintf(at, left, "%" PRIu64 "u ", i.natural); break;
      case CFT_STATE_DOUBLE: snprintf(at, left, "%.17gd ", i.number); break;
      case CFT_STATE_STRING: snprintf(at, left, "'%.*s' ", (int)i.bytes, i.string); break;
      case CFT_STATE_LIST: snprintf(at, left, "[%" PRId64 " ", i.count); break;
      case CFT_STATE_MAP: snprintf(at, left, "{%" PRId64 " ", i.count); break;
      case CFT_STATE_ARRAY:
        snprintf(at, left, "<%s %d %" PRId64 " %" PRId64 "> ", cft_dtype_name(i.array.dtype),
                 i.array.ndim, i.array.dims[0], i.array.dims[1]);
        break;
    }
  }
}

#define PUT_KEY(w, key) EXPECT_OK(cft_state_put_string(w, key, strlen(key)))

TEST(what_is_written_is_read) {
  const char *path = join(scratch("state"), "s.msgpack");
  static const int64_t ints[] = {0,     1,          -1,        31,        -32,       -33,
                                 127,   128,        -128,      -129,      255,       256,
                                 65535, 65536,      -32768,    -32769,    INT32_MAX, INT32_MIN,
                                 -5e9,  UINT32_MAX, INT64_MAX, INT64_MIN, 5000000000};
  enum { INTS = sizeof ints / sizeof *ints };
  static const double reals[] = {0.0, -0.0, 0.1, 1e300, 5e-324, 3.0, INFINITY, -INFINITY};
  enum { REALS = sizeof reals / sizeof *reals };
  static char text[70000];
  memset(text, 'x', sizeof text);
  static const size_t lengths[] = {0, 31, 32, 255, 256, 65535, 65536};

  cft_state_writer *w;
  EXPECT_OK(cft_state_writer_new(&w, NULL, path));
  EXPECT_OK(cft_state_put_map(w, 4));
  PUT_KEY(w, "ints");
  EXPECT_OK(cft_state_put_list(w, INTS + 1));
  for (int i = 0; i < INTS; ++i) EXPECT_OK(cft_state_put_int(w, ints[i]));
  EXPECT_OK(cft_state_put_uint(w, UINT64_MAX));
  PUT_KEY(w, "reals");
  EXPECT_OK(cft_state_put_list(w, REALS));
  for (int i = 0; i < REALS; ++i) EXPECT_OK(cft_state_put_double(w, reals[i]));
  PUT_KEY(w, "texts");
  EXPECT_OK(cft_state_put_list(w, 7));
  for (int i = 0; i < 7; ++i) EXPECT_OK(cft_state_put_string(w, text, lengths[i]));
  PUT_KEY(w, "rest");
  EXPECT_OK(cft_state_put_list(w, 5));
  EXPECT_OK(cft_state_put_nil(w));
  EXPECT_OK(cft_state_put_bool(w, true));
  EXPECT_OK(cft_state_put_bool(w, false));
  EXPECT_OK(cft_state_put_map(w, 0));
  EXPECT_FAILS(cft_state_writer_commit(w), CFT_E_STATE, "not complete");
  EXPECT_OK(cft_state_put_list(w, 0));
  EXPECT_FAILS(cft_state_put_nil(w), CFT_E_STATE, "the state is complete");
  EXPECT_OK(cft_state_writer_commit(w));
  cft_state_writer_release(w);

  cft_state_reader *r;
  cft_state_item i;
  EXPECT_OK(cft_state_open(&r, path));
#define NEXT(kind_)      \
  cft_state_next(r, &i); \
  EXPECT_INT(i.kind, kind_)
#define NEXT_KEY(key)     \
  NEXT(CFT_STATE_STRING); \
  EXPECT(i.bytes == strlen(key) && memcmp(i.string, key, i.bytes) == 0)
  NEXT(CFT_STATE_MAP);
  EXPECT_INT(i.count, 4);
  NEXT_KEY("ints");
  NEXT(CFT_STATE_LIST);
  for (int k = 0; k < INTS; ++k) {
    NEXT(CFT_STATE_INT);
    EXPECT_INT(i.integer, ints[k]);
  }
  NEXT(CFT_STATE_UINT);
  EXPECT(i.natural == UINT64_MAX);
  NEXT_KEY("reals");
  NEXT(CFT_STATE_LIST);
  for (int k = 0; k < REALS; ++k) {
    NEXT(CFT_STATE_DOUBLE);
    EXPECT(memcmp(&i.number, &reals[k], 8) == 0);  // -0 too
  }
  NEXT_KEY("texts");
  NEXT(CFT_STATE_LIST);
  for (int k = 0; k < 7; ++k) {
    NEXT(CFT_STATE_STRING);
    EXPECT_INT(i.bytes, lengths[k]);
    EXPECT(memcmp(i.string, text, i.bytes) == 0);
  }
  char rest[128];
  describe(r, rest, sizeof rest);
  EXPECT_STR(rest, "'rest' [5 nil true false {0 [0 ");
  cft_state_release(r);
}

// As deep as it may be is not too deep to be read.
TEST(nesting) {
  const char *path = join(scratch("deep"), "s.msgpack");
  cft_state_writer *w;
  cft_state_reader *r;
  EXPECT_OK(cft_state_writer_new(&w, NULL, path));
  for (int deep = 0; deep < 64; ++deep) EXPECT_OK(cft_state_put_list(w, 1));
  EXPECT_OK(cft_state_put_nil(w));
  EXPECT_OK(cft_state_writer_commit(w));
  cft_state_writer_release(w);
  EXPECT_OK(cft_state_open(&r, path));
  cft_state_release(r);
}

// Larger than a piece, written in odd pieces, read back in others.
TEST(arrays) {
  enum { BYTES = (64 << 20) + 12 };
  const char *path = join(scratch("array"), "s.msgpack");
  uint8_t *data = malloc(BYTES), *back = malloc(BYTES);
  for (size_t i = 0; i < BYTES; ++i) data[i] = (uint8_t)(i * 7 >> 3);
  const cft_array large = {.dtype = CFT_F32, .bytes = BYTES, .ndim = 1, .dims = {BYTES / 4}};
  const cft_array small = {.dtype = CFT_BF16, .bytes = 12, .ndim = 2, .dims = {2, 3}};
  const cft_array empty = {.dtype = CFT_I64, .bytes = 0, .ndim = 2, .dims = {0, 3}};
  const cft_array scalar = {.dtype = CFT_F64, .bytes = 8, .ndim = 0};

  cft_state_writer *w;
  EXPECT_OK(cft_state_writer_new(&w, NULL, path));
  EXPECT_OK(cft_state_put_list(w, 4));
  EXPECT_OK(cft_state_put_array(w, &small));
  EXPECT_OK(cft_state_put_data(w, data, 5));
  EXPECT_FAILS(cft_state_put_nil(w), CFT_E_STATE, "an array lacks 7 bytes");
  EXPECT_FAILS(cft_state_put_data(w, data, 8), CFT_E_ARG, "has 7 left");
  EXPECT_OK(cft_state_put_data(w, data + 5, 7));
  EXPECT_OK(cft_state_put_array(w, &empty));
  EXPECT_OK(cft_state_put_array(w, &large));
  for (size_t done = 0, n = 1; done < BYTES; done += n, n = n * 5 + 3) {
    if (n > BYTES - done) n = BYTES - done;
    EXPECT_OK(cft_state_put_data(w, data + done, n));
  }
  EXPECT_OK(cft_state_put_array(w, &scalar));
  EXPECT_OK(cft_state_put_data(w, data + 3, 8));
  EXPECT_OK(cft_state_writer_commit(w));
  cft_state_writer_release(w);

  cft_state_reader *r;
  cft_state_item list, a, b, c, d, end;
  EXPECT_OK(cft_state_open(&r, path));
  cft_state_next(r, &list);
  cft_state_next(r, &a);
  cft_state_next(r, &b);
  cft_state_next(r, &c);
  cft_state_next(r, &d);
  cft_state_next(r, &end);
  EXPECT_INT(a.kind, CFT_STATE_ARRAY);
  EXPECT(a.array.dtype == CFT_BF16 && a.array.ndim == 2 && a.array.dims[1] == 3);
  EXPECT(b.array.ndim == 2 && b.array.dims[0] == 0 && b.array.bytes == 0);
  EXPECT_INT(c.array.bytes, BYTES);
  EXPECT_INT(d.array.ndim, 0);
  EXPECT_INT(end.kind, CFT_STATE_END);
  EXPECT_OK(cft_state_data(r, &a, 0, back, 12));
  EXPECT(memcmp(back, data, 12) == 0);
  EXPECT_OK(cft_state_data(r, &b, 0, back, 0));
  EXPECT_OK(cft_state_data(r, &c, 0, back, BYTES));
  EXPECT(memcmp(back, data, BYTES) == 0);
  memset(back, 0, 100);
  EXPECT_OK(cft_state_data(r, &c, (64 << 20) - 40, back, 50));  // over the border of two pieces
  EXPECT(memcmp(back, data + (64 << 20) - 40, 50) == 0);
  EXPECT_OK(cft_state_data(r, &d, 2, back, 6));
  EXPECT(memcmp(back, data + 5, 6) == 0);
  EXPECT_FAILS(cft_state_data(r, &c, BYTES - 1, back, 2), CFT_E_ARG, "of an array of 67108876");
  EXPECT_FAILS(cft_state_data(r, &list, 0, back, 0), CFT_E_ARG, "is no array");
  a.at = 0;
  EXPECT_FAILS(cft_state_data(r, &a, 0, back, 0), CFT_E_ARG, "no array of this file");
  cft_state_release(r);
  free(data);
  free(back);
}

TEST(a_file_of_python) {
  cft_state_reader *r;
  char got[512];
  EXPECT_OK(cft_state_open(&r, golden_path("state/python.msgpack")));
  describe(r, got, sizeof got);
  EXPECT_STR(got,
             "{8 'step' 12d 'seed' -5 'big' 9223372036854775809u 'name' 'naïve' 'on' true "
             "'none' nil 'list' [4 1.5d 'x' [0 {0 'moment' <f32 2 2 3> ");
  cft_state_release(r);
}

// The same value, written by us: msgpack has one shortest form for each.
TEST(as_python_writes) {
  const char *path = join(scratch("python"), "s.msgpack");
  float data[6] = {0, 1, 2, 3, 4, 5};
  cft_state_writer *w;
  EXPECT_OK(cft_state_writer_new(&w, NULL, path));
  EXPECT_OK(cft_state_put_map(w, 8));
  PUT_KEY(w, "step");
  EXPECT_OK(cft_state_put_double(w, 12));
  PUT_KEY(w, "seed");
  EXPECT_OK(cft_state_put_int(w, -5));
  PUT_KEY(w, "big");
  EXPECT_OK(cft_state_put_uint(w, ((uint64_t)1 << 63) + 1));
  PUT_KEY(w, "name");
  PUT_KEY(w, "na\xc3\xafve");
  PUT_KEY(w, "on");
  EXPECT_OK(cft_state_put_bool(w, true));
  PUT_KEY(w, "none");
  EXPECT_OK(cft_state_put_nil(w));
  PUT_KEY(w, "list");
  EXPECT_OK(cft_state_put_list(w, 4));
  EXPECT_OK(cft_state_put_double(w, 1.5));
  PUT_KEY(w, "x");
  EXPECT_OK(cft_state_put_list(w, 0));
  EXPECT_OK(cft_state_put_map(w, 0));
  PUT_KEY(w, "moment");
  EXPECT_OK(cft_state_put_array(
      w, &(cft_array){.dtype = CFT_F32, .bytes = 24, .ndim = 2, .dims = {2, 3}}));
  EXPECT_OK(cft_state_put_data(w, data, sizeof data));
  EXPECT_OK(cft_state_writer_commit(w));
  cft_state_writer_release(w);
  expect_same_file(path, golden_path("state/python.msgpack"));
}

TEST(what_cannot_be_written) {
  const char *folder = scratch("cannot");
  cft_state_writer *w;
  EXPECT_OK(cft_state_writer_new(&w, NULL, join(folder, "s")));
  EXPECT_FAILS(cft_state_put_map(w, -1), CFT_E_ARG, "-1 items");
  cft_array a = {.dtype = CFT_F32, .bytes = 20, .ndim = 2, .dims = {2, 3}};
  EXPECT_FAILS(cft_state_put_array(w, &a), CFT_E_ARG, "an array of 20 bytes");
  EXPECT_OK(cft_state_put_map(w, 1));
  EXPECT_FAILS(cft_state_put_int(w, 1), CFT_E_ARG, "keys are strings");
  EXPECT_FAILS(cft_state_put_string(w, "$array", 6), CFT_E_ARG, "key '$array' is reserved");
  PUT_KEY(w, "key");
  PUT_KEY(w, "$array");  // as a value it is a string like another
  cft_state_writer_release(w);

  EXPECT_OK(cft_state_writer_new(&w, NULL, join(folder, "s")));
  for (int deep = 0; deep < 64; ++deep) EXPECT_OK(cft_state_put_list(w, 1));
  EXPECT_FAILS(cft_state_put_list(w, 1), CFT_E_ARG, "more than 64 values in each other");
  EXPECT_FAILS(cft_state_put_nil(w), CFT_E_ARG, "an earlier write failed");
  cft_state_writer_release(w);
  EXPECT_INT(entries_in(folder), 0);
}

// ---- hostile files ---------------------------------------------------------------------------

#define HEAD          \
  "\x82\xa9"          \
  "cft_state\x01\xa5" \
  "state"

TEST(files_that_lie) {
#define CASE(status_, bytes_, message_) \
  { status_, bytes_, sizeof bytes_ - 1, message_ }
  static const struct {
    cft_status status;
    const char *bytes;
    size_t n;
    const char *message;
  } cases[] = {
      CASE(CFT_E_FORMAT, "", "is empty"),
      CASE(CFT_E_FORMAT, "\x80", "no state file"),
      CASE(CFT_E_FORMAT,
           "\x82\xa3"
           "abc\x01\xa5"
           "state\x01",
           "no state file"),
      CASE(CFT_E_FORMAT, "hello", "no state file"),
      CASE(CFT_E_UNSUPPORTED,
           "\x82\xa9"
           "cft_state\x02\xa5"
           "state\xc0",
           "version"),
      CASE(CFT_E_FORMAT,
           "\x82\xa9"
           "cft_state\x01\xa5"
           "stats\xc0",
           "is not the key 'state'"),
      CASE(CFT_E_FORMAT, HEAD, "is cut short"),
      CASE(CFT_E_FORMAT, HEAD "\xc0\xc0", "byte 19: something behind the end"),
      CASE(CFT_E_FORMAT, HEAD "\xc1", "byte 18: a msgpack type that no state has"),
      CASE(CFT_E_FORMAT, HEAD "\xd4\x01\x02", "a msgpack type that no state has"),
      CASE(CFT_E_FORMAT, HEAD "\xc7\x01\x01\x02", "a msgpack type that no state has"),
      CASE(CFT_E_FORMAT, HEAD "\xdd\xff\xff\xff\xff\xc0", "byte 18: is cut short"),
      CASE(CFT_E_FORMAT, HEAD "\xdf\xff\xff\xff\xff\xc0\xc0", "byte 18: is cut short"),
      CASE(CFT_E_FORMAT,
           HEAD "\xdb\xff\xff\xff\xff"
                "x",
           "byte 18: is cut short"),
      CASE(CFT_E_FORMAT,
           HEAD "\xc6\xff\xff\xff\xff"
                "x",
           "byte 18: is cut short"),
      CASE(CFT_E_FORMAT, HEAD "\xd9", "byte 18: is cut short"),
      CASE(CFT_E_FORMAT, HEAD "\xcf\x01\x02", "byte 18: is cut short"),
      CASE(CFT_E_FORMAT, HEAD "\xc4\x01x", "binary data outside of an array"),
      CASE(CFT_E_FORMAT, HEAD "\x81\x01\x01", "byte 19: a key that is no string"),
#define ARRAY(dtype, dims, data) \
  HEAD "\x83\xa6"                \
       "$array" dtype            \
       "\xa4"                    \
       "dims" dims               \
       "\xa4"                    \
       "data" data
      CASE(CFT_E_FORMAT,
           ARRAY("\xa3"
                 "f33",
                 "\x91\x01",
                 "\x91\xc4\x04"
                 "abcd"),
           "no known dtype"),
      CASE(CFT_E_FORMAT,
           ARRAY("\xa3"
                 "f32",
                 "\x91\x02",
                 "\x91\xc4\x04"
                 "abcd"),
           "an array of 4 bytes, its shape wants 8"),
      CASE(CFT_E_FORMAT,
           ARRAY("\xa3"
                 "f32",
                 "\x91\xff",
                 "\x91\xc4\x04"
                 "abcd"),
           "impossible shape"),
      CASE(CFT_E_FORMAT,
           ARRAY("\xa3"
                 "f32",
                 "\x92\xd3\x7f\xff\xff\xff\xff\xff\xff\xff\x7f",
                 "\x91\xc4\x04"
                 "abcd"),
           "impossible shape"),
      CASE(CFT_E_FORMAT,
           ARRAY("\xa3"
                 "f32",
                 "\x97\x01\x01\x01\x01\x01\x01\x01",
                 "\x91\xc4\x04"
                 "abcd"),
           "no list, or too many"),
      CASE(CFT_E_FORMAT,
           ARRAY("\xa3"
                 "f32",
                 "\x91\x01",
                 "\x91\xa4"
                 "abcd"),
           "not binary"),
      CASE(CFT_E_FORMAT,
           ARRAY("\xa3"
                 "f32",
                 "\x91\x01",
                 "\xc4\x04"
                 "abcd"),
           "data is no list"),
      CASE(CFT_E_FORMAT,
           HEAD "\x83\xa6"
                "$array\xa3"
                "f32\xa4"
                "dimz\x90\xa1x\xc0",
           "without dims"),
      CASE(CFT_E_FORMAT,
           HEAD "\x83\xa6"
                "$array\xa3"
                "f32\xa4"
                "dims\x90\xa1x\xc0",
           "without data"),
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    cft_state_reader *r;
    uint8_t *exact = malloc(cases[i].n ? cases[i].n : 1);
    memcpy(exact, cases[i].bytes, cases[i].n);
    EXPECT_FAILS(cft_state_parse(&r, exact, cases[i].n, "lie"), cases[i].status, cases[i].message);
    EXPECT(strncmp(cft_last_error(), "lie", 3) == 0);
    free(exact);
  }
  uint8_t deep[200];  // lists in lists
  memset(deep, 0x91, sizeof deep);
  memcpy(deep, HEAD, sizeof HEAD - 1);
  cft_state_reader *r;
  EXPECT_FAILS(cft_state_parse(&r, deep, sizeof deep, "lie"), CFT_E_FORMAT, "too deep");
}

static void parse_and_walk(const uint8_t *data, size_t bytes) {
  cft_state_reader *r;
  if (cft_state_parse(&r, data, bytes, "mutant") != CFT_OK) return;
  cft_state_item i;
  uint8_t out[64];
  for (cft_state_next(r, &i); i.kind != CFT_STATE_END; cft_state_next(r, &i)) {
    if (i.kind == CFT_STATE_STRING) touch(i.string, i.bytes);
    if (i.kind == CFT_STATE_ARRAY)
      (void)cft_state_data(r, &i, 0, out, i.array.bytes < 64 ? i.array.bytes : 64);
  }
  cft_state_release(r);
}

TEST(mutants_of_a_file) { mutate(golden_path("state/python.msgpack"), 20000, parse_and_walk); }

TEST_MAIN()
