// files.h - what suites that read and write files share: golden files, a scratch folder that goes
// with the program, and mutants of a file for a parser that must survive them.
#ifndef CFT_TEST_FILES_H
#define CFT_TEST_FILES_H

#include <sys/stat.h>
#include <unistd.h>

#include "cft_file.h"
#include "test.h"

// "A/B", valid until the program ends.
static inline const char *join(const char *a, const char *b) {
  static struct kept {
    struct kept *before;
    char path[];
  } * last;
  size_t bytes = strlen(a) + strlen(b) + 2;
  struct kept *k = malloc(sizeof *k + bytes);
  if (!k) exit(2);
  snprintf(k->path, bytes, "%s/%s", a, b);
  k->before = last;
  last = k;
  return k->path;
}

// A file below tests/golden. CMake says where: __FILE__ is relative under some compiler launchers.
static inline const char *golden_path(const char *name) { return join(CFT_GOLDEN, name); }

static char scratch_base[256];

static inline void scratch_remove(void) { (void)cft_path_remove(scratch_base); }

// An empty folder of that name, removed when the program ends.
static inline const char *scratch(const char *name) {
  if (!*scratch_base) {
    // In memory where that can be: these suites sync a thousand files.
    const char *temporary = getenv("TMPDIR");
    if (!temporary || !*temporary) temporary = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(scratch_base, sizeof scratch_base, "%s/cft-test-XXXXXX", temporary);
    if (!mkdtemp(scratch_base)) {
      perror(scratch_base);
      exit(2);
    }
    atexit(scratch_remove);
  }
  const char *path = join(scratch_base, name);
  (void)cft_path_remove(path);
  if (cft_folder_make(path) != CFT_OK) {
    fprintf(stderr, "%s\n", cft_last_error());
    exit(2);
  }
  return path;
}

// A file's bytes, in a block of exactly their size so that a sanitizer sees one too many being
// read. NULL where there is none; freed by the caller.
static inline uint8_t *slurp(const char *path, size_t *bytes) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  fseek(f, 0, SEEK_END);
  *bytes = (size_t)ftell(f);
  rewind(f);
  uint8_t *data = malloc(*bytes ? *bytes : 1);
  if (fread(data, 1, *bytes, f) != *bytes) {
    free(data);
    data = NULL;
  }
  fclose(f);
  return data;
}

static inline void expect_same_file(const char *got, const char *want) {
  size_t m = 0, n = 0, at = 0;
  uint8_t *a = slurp(got, &m), *b = slurp(want, &n);
  while (a && b && at < m && at < n && a[at] == b[at]) ++at;
  bool same = a && b && m == n && at == n;
  free(a);
  free(b);
  if (!same)
    TEST_FAIL("%s (%zu bytes) differs from %s (%zu bytes) at byte %zu", got, m, want, n, at);
}

static inline void expect_text(const char *path, const char *want) {
  size_t n = 0;
  uint8_t *data = slurp(path, &n);
  bool same = data && n == strlen(want) && memcmp(data, want, n) == 0;
  free(data);
  if (!same) TEST_FAIL("%s is not \"%s\"", path, want);
}

static inline void copy_file(const char *from, const char *to) {
  size_t n;
  uint8_t *data = slurp(from, &n);
  if (!data) TEST_FAIL("cannot read %s", from);
  EXPECT_OK(cft_file_write(NULL, to, data, n));
  free(data);
}

static inline void cut_file(const char *path, size_t bytes) {
  EXPECT_INT(truncate(path, (off_t)bytes), 0);
}

// How many names a folder has, hidden ones too; -1 where it cannot be read.
static inline int64_t entries_in(const char *folder) {
  cft_names *names;
  if (cft_folder_list(&names, folder) != CFT_OK) return -1;
  int64_t count = cft_names_count(names);
  cft_names_release(names);
  return count;
}

// Read every byte, so that one outside of its block is noticed.
static volatile uint8_t touched;
static inline void touch(const void *data, size_t bytes) {
  uint8_t sum = 0;
  for (size_t i = 0; i < bytes; ++i) sum ^= ((const uint8_t *)data)[i];
  touched = sum;
}

// splitmix64: the same mutants on every machine.
static inline uint64_t random_next(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

// Give `parse` a file cut at each byte, with each byte flipped, and in `count` random mutations of
// one to four kinds: a byte anew, a number at the edge of its range, bytes moved, a cut.
static inline void mutate(const char *path, int count, void (*parse)(const uint8_t *, size_t)) {
  size_t n;
  uint8_t *file = slurp(path, &n);
  if (!file) TEST_FAIL("cannot read %s", path);
  for (size_t cut = 0; cut <= n; ++cut) {
    uint8_t *copy = malloc(cut ? cut : 1);
    memcpy(copy, file, cut);
    parse(copy, cut);
    free(copy);
  }
  for (size_t i = 0; i < n; ++i) {
    uint8_t was = file[i];
    file[i] = (uint8_t)~was;
    parse(file, n);
    file[i] = was;
  }
  static const uint64_t edges[] = {0,
                                   1,
                                   127,
                                   255,
                                   32768,
                                   65535,
                                   INT32_MAX,
                                   UINT32_MAX,
                                   INT64_MAX,
                                   UINT64_MAX,
                                   (uint64_t)1 << 62};
  uint64_t state = 17;
  for (int i = 0; i < count; ++i) {
    size_t length = n;
    uint8_t *copy = malloc(n);
    memcpy(copy, file, n);
    for (uint64_t changes = 1 + random_next(&state) % 4; changes > 0 && length > 8; --changes) {
      size_t at = random_next(&state) % (length - 8), from = random_next(&state) % (length - 8);
      uint64_t edge = edges[random_next(&state) % (sizeof edges / sizeof *edges)];
      switch (random_next(&state) % 4) {
        case 0: copy[at] = (uint8_t)random_next(&state); break;
        case 1: memcpy(copy + at, &edge, (size_t)1 << random_next(&state) % 4); break;
        case 2: memmove(copy + at, copy + from, random_next(&state) % 8); break;
        case 3:
          if (random_next(&state) % 4 == 0) length = at + 1;
          break;
      }
    }
    uint8_t *exact = malloc(length);
    memcpy(exact, copy, length);
    parse(exact, length);
    free(exact);
    free(copy);
  }
  free(file);
}

#endif
