// jsonl.c - files of records: where each starts, broken ones, compressed ones, hostile ones.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "cft_data.h"
#include "data/data_impl.h"
#include "test.h"

static cft_status of_text(cft_records **r, const char *text, cft_records_format format) {
  return cft_records_of_bytes(r, "text", text, strlen(text), format);
}

// Expect the records of a text: each as "text", or "!reason|text" where it is a bad one.
static void expect_records(const char *text, cft_records_format format, const char *const *want) {
  cft_records *r = NULL;
  EXPECT_OK(of_text(&r, text, format));
  int64_t n = 0;
  for (; want[n]; ++n) {
    cft_record record;
    char got[512];
    EXPECT_OK(cft_records_get(r, n, &record));
    EXPECT_INT(record.bytes, strlen(record.text));
    EXPECT_INT(strncmp(text + record.byte, record.text, (size_t)record.bytes), 0);
    if (record.reason)
      snprintf(got, sizeof got, "!%s|%s", record.reason, record.text);
    else
      snprintf(got, sizeof got, "%s", record.text);
    EXPECT_STR(got, want[n]);
  }
  EXPECT_INT(cft_records_count(r), n);
  cft_records_release(r);
}

#define RECORDS(text, format, ...) \
  expect_records(text, format, (const char *const[]){__VA_ARGS__, NULL})

TEST(lines) {
  RECORDS("{\"a\":1}\n{\"a\":2}\n", CFT_RECORDS_AUTO, "{\"a\":1}", "{\"a\":2}");
  RECORDS("{}\r\n\r\n  \n\t{ } \r\n{\"x\": \"[\"}", CFT_RECORDS_AUTO, "{}", "{ }",
          "{\"x\": \"[\"}");
  RECORDS("\xef\xbb\xbf{}\n", CFT_RECORDS_AUTO, "{}");
  RECORDS("[1]\n[2]\n", CFT_RECORDS_JSONL, "[1]", "[2]");
  RECORDS("{\"broken\": \nnot json\n", CFT_RECORDS_JSONL, "{\"broken\":", "not json");
}

TEST(arrays) {
  RECORDS("[{\"a\":1},{\"a\":2}]", CFT_RECORDS_AUTO, "{\"a\":1}", "{\"a\":2}");
  RECORDS("[\n  {\n    \"a\": \"x, ]}\\\"\"\n  },\n  [[], {}],\n 7 , \"s\"\n]\n", CFT_RECORDS_AUTO,
          "{\n    \"a\": \"x, ]}\\\"\"\n  }", "[[], {}]", "7", "\"s\"");
  RECORDS("[\"\\\\\", \"\\\\\\\"\"]", CFT_RECORDS_AUTO, "\"\\\\\"", "\"\\\\\\\"\"");
  RECORDS("[[1]]", CFT_RECORDS_JSON, "[1]");
}

TEST(broken_arrays_lose_what_is_broken_and_no_more) {
  // a bracket of the wrong kind: the parser's to refuse
  RECORDS("[{\"a\":1], {\"b\":2}]", CFT_RECORDS_JSON, "{\"a\":1]", "{\"b\":2}");
  RECORDS("[{\"a\":1} {\"b\":2}, 3]", CFT_RECORDS_JSON, "{\"a\":1}",
          "!no comma before it|{\"b\":2},", "3");
  RECORDS("[{},,{}]", CFT_RECORDS_JSON, "{}", "!nothing before a comma|,", "{}");
  RECORDS("[{},]", CFT_RECORDS_JSON, "{}", "!nothing between a comma and the closing ]|]");
  RECORDS("[{}] {}", CFT_RECORDS_JSON, "{}", "!text after the closing ]|{}");
  RECORDS("[{}, {\"a\":", CFT_RECORDS_JSON, "{}",
          "!the file ends inside it, or a bracket of it is not closed|{\"a\":");
  RECORDS("[{}, [1]", CFT_RECORDS_JSON, "{}", "[1]", "!no ] closes the array|");
  RECORDS("[{},", CFT_RECORDS_JSON, "{}", "!no ] closes the array|");
  RECORDS("[", CFT_RECORDS_JSON, "!no ] closes the array|");
  // a quote too few, with a field a line: the next record is found again
  RECORDS("[\n {\n \"a\": \"x,\n \"b\": 1\n },\n {\"c\": 2}\n]", CFT_RECORDS_JSON,
          "{\n \"a\": \"x,\n \"b\": 1\n }", "{\"c\": 2}");
  // a brace too many
  RECORDS("[{\"a\":1}}, {\"b\":2}]", CFT_RECORDS_JSON, "{\"a\":1}}", "{\"b\":2}");
}

TEST(nothing) {
  cft_records *r = NULL;
  for (int i = 0; i < 3; ++i) {
    EXPECT_OK(of_text(&r, ((const char *[]){"", "\n \n", "[ ]"})[i], CFT_RECORDS_AUTO));
    EXPECT_INT(cft_records_count(r), 0);
    cft_record record;
    EXPECT_FAILS(cft_records_get(r, 0, &record), CFT_E_ARG, "text: record 0 of 0");
    cft_records_release(r);
  }
  cft_records_release(NULL);
}

TEST(refused) {
  cft_records *r = NULL;
  EXPECT_FAILS(of_text(&r, "{\n \"a\": 1\n}\n", CFT_RECORDS_AUTO), CFT_E_FORMAT,
               "text: the first line is no whole JSON value");
  EXPECT_FAILS(of_text(&r, " {}", CFT_RECORDS_JSON), CFT_E_FORMAT, "text: byte 1: '[' wanted");
  EXPECT_FAILS(of_text(&r, "", CFT_RECORDS_JSON), CFT_E_FORMAT, "no array of records");
  EXPECT_FAILS(cft_records_of_bytes(&r, "t", "\xff\xfe[\0]\0", 6, CFT_RECORDS_AUTO), CFT_E_FORMAT,
               "UTF-16");
  EXPECT_FAILS(of_text(&r, "[]", (cft_records_format)99), CFT_E_ARG, "format is 99");
  EXPECT_FAILS(cft_records_open(&r, "/nowhere/x.json", CFT_RECORDS_AUTO), CFT_E_IO,
               "open /nowhere/x.json");
  EXPECT_FAILS(cft_records_open(&r, "/", CFT_RECORDS_AUTO), CFT_E_IO, "is a folder");
  char *commas = malloc(1 << 20);
  EXPECT(commas != NULL);
  memset(commas, ',', 1 << 20);
  commas[0] = '[';
  cft_status st = cft_records_of_bytes(&r, "commas", commas, 1 << 20, CFT_RECORDS_JSON);
  free(commas);
  EXPECT_INT(st, CFT_E_FORMAT);
  EXPECT(strstr(cft_last_error(), "100000 broken places"));
}

// What the scanner finds does not depend on how the file is cut into chunks.
TEST(arrays_in_files_of_lines) {
  static const char *const texts[] = {"[{\"a\":1},{}]\n", "[\n{\"a\":1},\n{}\n]\n",
                                      "[{\"a\":1},\n{}]\n", "\n [ {\"a\":1}, {} ]"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
    cft_records *r = NULL;
    cft_record record;
    EXPECT_OK(cft_records_of_bytes(&r, "x.jsonl", texts[i], strlen(texts[i]), CFT_RECORDS_AUTO));
    EXPECT_INT(cft_records_count(r), 2);
    EXPECT_OK(cft_records_get(r, 1, &record));
    EXPECT_STR(record.text, "{}");
    cft_records_release(r);
  }
}

TEST(csv_in_any_chunks) {
  static const char text[] = "a,b\r1,\"x\ry\"\r\r\n3,4\n\r5,\r\n6,7\r";
  static const int64_t starts[] = {0, 4, 14, 19, 23}, lines[] = {1, 2, 5, 7, 8};
  for (size_t n = strlen(text), step = 1; step <= n; ++step) {
    cft_split s;
    cft_split_init(&s, CFT_RECORDS_CSV);
    for (size_t i = 0; i < n; i += step)
      EXPECT_OK(cft_split_feed(&s, text + i, i + step < n ? step : n - i));
    EXPECT_OK(cft_split_end(&s));
    EXPECT_INT(s.count, 5);
    for (int64_t i = 0; i < s.count; ++i) EXPECT_INT(s.starts[i], starts[i]);
    cft_split_free(&s);
  }
  cft_records *r = NULL;
  EXPECT_OK(of_text(&r, text, CFT_RECORDS_CSV));
  for (int64_t i = 0, line; i < cft_records_count(r); ++i) {
    EXPECT_OK(cft_records_line(r, i, &line));
    EXPECT_INT(line, lines[i + 1]);
  }
  cft_records_release(r);
}

TEST(any_chunks) {
  static const char text[] =
      "\n[ {\"a\": \"\\\\\\\"]}\", \"b\": [1, {}]} ,\n\"x\\u0041\\\\\", 17,, [] {} {\"open\": "
      "\"str\n}"
      ", -1e5, \"\\\n, {\"a\":{\"b\":[\"\\\\\"]}}] tail";
  size_t n = strlen(text);
  for (int format = CFT_RECORDS_JSONL; format <= CFT_RECORDS_JSON; ++format) {
    cft_split whole;
    cft_split_init(&whole, (cft_records_format)format);
    EXPECT_OK(cft_split_feed(&whole, text, n));
    EXPECT_OK(cft_split_end(&whole));
    EXPECT(whole.count > 3);
    for (size_t step = 1; step < 9; ++step) {
      cft_split s;
      cft_split_init(&s, (cft_records_format)format);
      for (size_t i = 0; i < n; i += step)
        EXPECT_OK(cft_split_feed(&s, text + i, i + step < n ? step : n - i));
      EXPECT_OK(cft_split_end(&s));
      EXPECT_INT(s.count, whole.count);
      EXPECT_INT(memcmp(s.starts, whole.starts, (size_t)s.count * sizeof *s.starts), 0);
      EXPECT_INT(s.bad_count, whole.bad_count);
      for (int64_t i = 0; i < s.count; ++i)
        EXPECT(cft_split_reason(&s, i) == cft_split_reason(&whole, i));
      cft_split_free(&s);
    }
    cft_split_free(&whole);
  }
}

TEST(line_numbers) {
  char *text = malloc(1 << 20), *p = text;
  int64_t lines[2000];
  int64_t line = 1;
  EXPECT(text != NULL);
  p += sprintf(p, "[");
  for (int i = 0; i < 2000; ++i) {
    for (int k = 0; k < i % 3; ++k, ++line) p += sprintf(p, "\n");
    lines[i] = line;
    p += sprintf(p, "{\"i\":\n%d}%s", i, i < 1999 ? "," : "]");
    ++line;
  }
  cft_records *r = NULL;
  EXPECT_OK(of_text(&r, text, CFT_RECORDS_AUTO));
  EXPECT_INT(cft_records_count(r), 2000);
  for (int i = 0; i < 2000; ++i) {
    int64_t got = 0;
    EXPECT_OK(cft_records_line(r, i, &got));
    EXPECT_INT(got, lines[i]);
  }
  cft_records_release(r);
  free(text);
}

// ---- files -------------------------------------------------------------------------------------

static char folder[64];

static const char *path_of(const char *name) {
  static char path[128];
  if (!*folder) {
    snprintf(folder, sizeof folder, "/tmp/cft-jsonl-XXXXXX");
    if (!mkdtemp(folder)) exit(1);
  }
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static void write_file(const char *path, const void *data, size_t n) {
  FILE *f = fopen(path, "wb");
  EXPECT(f != NULL);
  EXPECT_INT(fwrite(data, 1, n, f), n);
  fclose(f);
}

__attribute__((destructor)) static void remove_folder(void) {
  if (!*folder) return;
  static const char *names[] = {"a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "big.jsonl.zst", "short"};
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) unlink(path_of(names[i]));
  rmdir(folder);
}

static char *sample_lines(size_t records, size_t *n) {
  char *text = malloc(records * 64);
  *n = 0;
  for (size_t i = 0; text && i < records; ++i)
    *n += (size_t)sprintf(text + *n, "{\"i\": %zu, \"text\": \"%zx\"}\n", i, i * 2654435761u);
  return text;
}

static size_t gzip(uint8_t *out, size_t room, const char *text, size_t n) {
  z_stream z = {0};
  deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  z.next_in = (Bytef *)(uintptr_t)text;
  z.avail_in = (uInt)n;
  z.next_out = out;
  z.avail_out = (uInt)room;
  deflate(&z, Z_FINISH);
  deflateEnd(&z);
  return room - z.avail_out;
}

static void expect_same(const char *path, const cft_records *want, cft_records *plain) {
  cft_records *r = NULL;
  EXPECT_OK(cft_records_open(&r, path, CFT_RECORDS_AUTO));
  EXPECT_INT(cft_records_count(r), cft_records_count(want));
  EXPECT_INT(cft_records_bytes(r), cft_records_bytes(want));
  uint8_t a[16], b[16];
  cft_records_hash(r, a);
  cft_records_hash(want, b);
  EXPECT_INT(memcmp(a, b, 16), 0);
  for (int64_t i = cft_records_count(r) - 1; i >= 0; i -= 1 + i / 7) {
    cft_record x, y;
    EXPECT_OK(cft_records_get(r, i, &x));
    EXPECT_OK(cft_records_get(plain, i, &y));
    EXPECT_STR(x.text, y.text);
    EXPECT_INT(x.byte, y.byte);
  }
  cft_records_release(r);
}

TEST(compressed_equals_plain) {
  size_t n;
  char *text = sample_lines(20000, &n);
  uint8_t *packed = malloc(n + 4096);
  EXPECT(text && packed);
  cft_records *plain = NULL;
  write_file(path_of("a.jsonl"), text, n);
  EXPECT_OK(cft_records_open(&plain, path_of("a.jsonl"), CFT_RECORDS_AUTO));
  EXPECT_INT(cft_records_count(plain), 20000);

  size_t half = n / 3;  // in the middle of a record: two members, two frames
  size_t m = gzip(packed, n + 4096, text, half);
  m += gzip(packed + m, n + 4096 - m, text + half, n - half);
  write_file(path_of("a.jsonl.gz"), packed, m);
  expect_same(path_of("a.jsonl.gz"), plain, plain);

  // cut short, damaged, and followed by something else
  cft_records *r = NULL;
  EXPECT_FAILS(cft_records_of_bytes(&r, "x.gz", packed, m - 9, CFT_RECORDS_AUTO), CFT_E_FORMAT,
               "x.gz: the gzip data is cut short at byte");
  packed[m / 2] ^= 0x55;
  EXPECT_FAILS(cft_records_of_bytes(&r, "x.gz", packed, m, CFT_RECORDS_AUTO), CFT_E_FORMAT,
               "x.gz: damaged gzip data before byte");
  packed[m / 2] ^= 0x55;
  memcpy(packed + m, "junk", 4);
  EXPECT_FAILS(cft_records_of_bytes(&r, "x.gz", packed, m + 4, CFT_RECORDS_AUTO), CFT_E_FORMAT,
               "x.gz: bytes after the gzip data");

  m = ZSTD_compress(packed, n + 4096, text, half, 3);
  m += ZSTD_compress(packed + m, n + 4096 - m, text + half, n - half, 3);
  write_file(path_of("a.jsonl.zst"), packed, m);
  expect_same(path_of("a.jsonl.zst"), plain, plain);
  EXPECT_FAILS(cft_records_of_bytes(&r, "x.zst", packed, m - 9, CFT_RECORDS_AUTO), CFT_E_FORMAT,
               "x.zst: the zstd data is cut short at byte");
  packed[m / 2] ^= 0x55;
  EXPECT_FAILS(cft_records_of_bytes(&r, "x.zst", packed, m, CFT_RECORDS_AUTO), CFT_E_FORMAT,
               "x.zst: damaged zstd data before byte");
  cft_records_release(plain);
  free(packed);
  free(text);
}

TEST(what_outgrows_memory_goes_to_a_file) {
  size_t n, bound;
  char *text = sample_lines(2000000, &n);
  EXPECT(text != NULL && n > CFT_RECORDS_IN_MEMORY);
  bound = ZSTD_compressBound(n);
  void *packed = malloc(bound);
  EXPECT(packed != NULL);
  size_t m = ZSTD_compress(packed, bound, text, n, 1);
  write_file(path_of("big.jsonl.zst"), packed, m);
  free(packed);
  cft_records *plain = NULL;
  EXPECT_OK(cft_records_of_bytes(&plain, "plain", text, n, CFT_RECORDS_AUTO));
  EXPECT_INT(cft_records_count(plain), 2000000);
  expect_same(path_of("big.jsonl.zst"), plain, plain);
  cft_records_release(plain);
  free(text);
}

TEST(a_file_that_shrinks_is_an_error) {
  write_file(path_of("short"), "{\"a\": 1}\n{\"a\": 2}\n", 18);
  cft_records *r = NULL;
  cft_record record;
  EXPECT_OK(cft_records_open(&r, path_of("short"), CFT_RECORDS_AUTO));
  EXPECT_INT(truncate(path_of("short"), 12), 0);
  EXPECT_FAILS(cft_records_get(r, 0, &record), CFT_E_IO, "was changed while it is in use");
  EXPECT_FAILS(cft_records_get(r, 1, &record), CFT_E_IO, "shorter than when it was opened");
  cft_records_release(r);
}

// Random damage to a valid array: never a crash, every record inside the file, order kept.
TEST(damaged_at_random) {
  static const char text[] =
      "[{\"a\": \"one\", \"b\": [1, 2, {\"c\": null}]},\n {\"a\": \"t\\\"wo\"},\n {\"a\": [[]]}]\n";
  uint64_t seed = 17;
  for (int round = 0; round < 20000; ++round) {
    char copy[sizeof text];
    memcpy(copy, text, sizeof text);
    for (int k = 0; k < 3; ++k) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      copy[(seed >> 33) % (sizeof text - 1)] = "[]{},\"\\\n x"[(seed >> 20) % 10];
    }
    cft_records *r = NULL;
    size_t n = sizeof text - 1 - (seed >> 40) % 20;
    if (cft_records_of_bytes(&r, "t", copy, n, CFT_RECORDS_JSON) != CFT_OK) continue;
    int64_t before = -1;
    for (int64_t i = 0; i < cft_records_count(r); ++i) {
      cft_record record;
      EXPECT_OK(cft_records_get(r, i, &record));
      EXPECT(record.byte > before && record.byte + record.bytes <= (int64_t)n);
      before = record.byte;
    }
    cft_records_release(r);
  }
}

TEST_MAIN()
