// parquet.c - Parquet and CSV files that are cut short, damaged or made to do harm: an error that
// says so, never a crash, and nothing leaks. CFT_FUZZ_SECONDS=N lets the mutations run for so long,
// CFT_FUZZ_SEED=N draws others.
#include "cft_data.h"
#include "data/thrift.h"
#include "oom.h"
#include "test.h"

enum { MUTATIONS = 20000, MOST_RECORDS = 64 };

static const char *const files[] = {"small",           "types-int96",   "types-v2-snappy",
                                    "types-v1-snappy", "types-v2-zstd", "types-v1-gzip",
                                    "types-v1"};
enum { FILES = sizeof files / sizeof *files, SMALL = 3 };

typedef struct bytes {
  uint8_t *data;
  size_t n;
} bytes;

static bytes golden(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "tests/golden/parquet/%s.parquet", name);
  bytes b = {0};
  FILE *file = fopen(path, "rb");
  if (!file) return b;
  fseek(file, 0, SEEK_END);
  b.n = (size_t)ftell(file);
  rewind(file);
  b.data = malloc(b.n + 1);
  if (!b.data || fread(b.data, 1, b.n, file) != b.n) b.n = 0;
  fclose(file);
  return b;
}

// Open and read; *records are those that were whole.
static cft_status read_all(const void *data, size_t n, cft_records_format format,
                           int64_t *records) {
  cft_records *r = NULL;
  *records = 0;
  cft_status st = cft_records_of_bytes(&r, "the file", data, n, format);
  int64_t count = st == CFT_OK ? cft_records_count(r) : 0;
  if (count > MOST_RECORDS) count = MOST_RECORDS;
  for (int64_t i = 0; i < count && st == CFT_OK; ++i) {
    cft_record one;
    st = cft_records_get(r, (i * 7 + 3) % count, &one);  // in no order
    if (st == CFT_OK && one.text[one.bytes] != 0) st = CFT_E_INTERNAL;
    *records += st == CFT_OK && !one.reason;
  }
  cft_records_release(r);
  return st;
}

TEST(cut_short) {
  for (int k = 0; k < SMALL; ++k) {
    bytes whole = golden(files[k]);
    EXPECT(whole.n > 100);
    int64_t records;
    EXPECT_OK(read_all(whole.data, whole.n, CFT_RECORDS_AUTO, &records));
    for (size_t n = 0; n < whole.n; ++n) {
      uint8_t *part = malloc(n + 1);  // its own end, so that a sanitizer sees a byte too many
      memcpy(part, whole.data, n);
      EXPECT_FAILS(read_all(part, n, CFT_RECORDS_PARQUET, &records), CFT_E_FORMAT, "the file");
      free(part);
    }
    free(whole.data);
  }
}

static uint64_t state = 88172645463325252u;
static uint64_t draw(uint64_t n) {  // xorshift64
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % n;
}

// A few bytes changed, more often near the end, where the footer is; sometimes a stretch is copied.
static void mutate(uint8_t *data, size_t n) {
  static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x15, 0x19, 0x1c, 8};
  for (uint64_t changes = 1 + draw(6); changes; --changes) {
    size_t at = draw(2) ? (size_t)draw(n) : n - 1 - (size_t)draw(n / 4 + 1);
    switch (draw(4)) {
      case 0: data[at] ^= (uint8_t)(1u << draw(8)); break;
      case 1: data[at] = (uint8_t)draw(256); break;
      case 2: data[at] = telling[draw(sizeof telling)]; break;
      default: {
        size_t length = 1 + (size_t)draw(32), from = (size_t)draw(n);
        if (length > n - at) length = n - at;
        if (length > n - from) length = n - from;
        memmove(data + at, data + from, length);
      }
    }
  }
}

TEST(mutations) {
  bytes whole[FILES];
  for (int k = 0; k < FILES; ++k) {
    whole[k] = golden(files[k]);
    EXPECT(whole[k].n > 100);
  }
  const char *seconds = getenv("CFT_FUZZ_SECONDS"), *seed = getenv("CFT_FUZZ_SEED");
  if (seed) state ^= strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u;
  double end = test_now() + (seconds ? atof(seconds) : 0);
  int64_t by_status[16] = {0}, tried = 0;
  for (; tried < MUTATIONS || test_now() < end; ++tried) {
    // Small files more often: more of their mutations hit something that is read.
    const bytes *b = &whole[draw(3) ? draw(SMALL) : draw(FILES)];
    uint8_t *data = malloc(b->n);
    memcpy(data, b->data, b->n);
    mutate(data, b->n);
    int64_t records;
    cft_status st = read_all(data, b->n, CFT_RECORDS_PARQUET, &records);
    free(data);
    bool expected = st == CFT_OK || st == CFT_E_FORMAT || st == CFT_E_UNSUPPORTED;
    if (!expected)
      TEST_FAIL("mutation %" PRId64 ": %s, %s", tried, cft_status_name(st), cft_last_error());
    ++by_status[st];
  }
  for (int k = 0; k < FILES; ++k) free(whole[k].data);
  printf("%" PRId64 " mutations: %" PRId64 " read, %" PRId64 " refused, %" PRId64 " unsupported\n",
         tried, by_status[CFT_OK], by_status[CFT_E_FORMAT], by_status[CFT_E_UNSUPPORTED]);
  fflush(stdout);
  EXPECT(by_status[CFT_OK] > tried / 50);  // the mutations get past the footer
  EXPECT(by_status[CFT_E_FORMAT] > tried / 10);
}

// CSV from an alphabet of all that means something in it.
TEST(csv_of_any_bytes) {
  for (int64_t tried = 0; tried < MUTATIONS; ++tried) {
    char text[64];
    size_t n = (size_t)draw(sizeof text);
    for (size_t i = 0; i < n; ++i) text[i] = "ab,,\"\"\n\n\r\xc3\xa9 "[draw(12)];
    char *own = malloc(n + 1);
    memcpy(own, text, n);
    int64_t records;
    cft_status st = read_all(own, n, CFT_RECORDS_CSV, &records);
    free(own);
    EXPECT(st == CFT_OK || st == CFT_E_FORMAT);
  }
}

// ---- thrift ------------------------------------------------------------------------------------

static cft_thrift of(const uint8_t *data, size_t n) {
  return (cft_thrift){.at = data, .end = data + n};
}

TEST(thrift_fields) {
  // 1: i32 -3; 2: true; 5: binary "ab"; 21: list of two i16; stop
  static const uint8_t text[] = {0x15, 0x05, 0x11, 0x38, 2,    'a', 'b',
                                 0x09, 42,   0x24, 0x02, 0x04, 0x00};
  cft_thrift t = of(text, sizeof text);
  cft_thrift_field f = {0};
  EXPECT(cft_thrift_next(&t, &f) && f.id == 1);
  EXPECT_INT(cft_thrift_int(&t, f.type), -3);
  EXPECT(cft_thrift_next(&t, &f) && f.id == 2 && cft_thrift_bool(&t, f.type));
  size_t n;
  EXPECT(cft_thrift_next(&t, &f) && f.id == 5);
  EXPECT(memcmp(cft_thrift_binary(&t, f.type, &n), "ab", 2) == 0 && n == 2);
  EXPECT(cft_thrift_next(&t, &f) && f.id == 21);
  int element;
  EXPECT_INT(cft_thrift_list(&t, f.type, &element), 2);
  EXPECT_INT(cft_thrift_int(&t, element), 1);
  EXPECT_INT(cft_thrift_int(&t, element), 2);
  EXPECT(!cft_thrift_next(&t, &f) && !t.problem && t.at == t.end);
}

static const char *problem_of(const uint8_t *data, size_t n) {
  cft_thrift t = of(data, n);
  cft_thrift_skip(&t, CFT_THRIFT_STRUCT);
  return t.problem;
}
#define PROBLEM(...) \
  problem_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

TEST(thrift_problems) {
  EXPECT(PROBLEM(0x15, 0x02, 0x00) == NULL);
  EXPECT_STR(PROBLEM(0x15), "it is cut short");
  EXPECT_STR(PROBLEM(0x18, 0x7f, 'a'), "it is cut short");
  EXPECT_STR(PROBLEM(0x19, 0xf5, 0xff, 0xff, 0xff, 0x7f),
             "a list is longer than what it stands in");
  EXPECT_STR(PROBLEM(0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
             "an integer has more than 64 bits");
  EXPECT_STR(PROBLEM(0x1d), "a field has a type that does not exist");
  uint8_t deep[100];
  memset(deep, 0x1c, sizeof deep);  // a struct in a struct in ...
  EXPECT_STR(problem_of(deep, sizeof deep), "it is nested too deeply");
}

// ---- memory ------------------------------------------------------------------------------------

#ifdef CFT_TEST_OOM

static bytes read_again;

static cft_status again(void) {
  int64_t records;
  return read_all(read_again.data, read_again.n, CFT_RECORDS_AUTO, &records);
}

TEST(memory_runs_out) {
  static const char *const few[] = {"small", "old", "types-v2-zstd", "types-v1-gzip"};
  for (int k = 0; k < 4; ++k) {
    read_again = golden(few[k]);
    EXPECT(read_again.n > 100);
    int64_t records;
    EXPECT_OK(read_all(read_again.data, read_again.n, CFT_RECORDS_AUTO, &records));
    exhaust(few[k], again, NULL, false);
    free(read_again.data);
    if (TEST_FAILED()) return;
  }
}

#endif

TEST_MAIN()
