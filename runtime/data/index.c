// index.c - where the records of a large file start, kept in a file of its own, so that it is read
// once and not at every start.
//
// Whether the file is still the one that was indexed is told by its size, its times and its inode,
// and by a hash of samples of it. Whoever writes into a file changes its time of change, which no
// program can set; only within the clock's grain of the writing is that no proof, so an index that
// young is taken only after all of the file was hashed again.
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "data_impl.h"
#include "util/hash.h"

enum {
  SAMPLES = 64,
  SAMPLE_BYTES = 4096,
  YOUNG_NS = 2000000000,  // coarser clocks than this are not met
};

static const char magic[16] = "cft index 1\n";

typedef struct header {
  char magic[16];
  uint64_t size, inode;
  int64_t modified, changed;  // nanoseconds
  uint8_t sample[16], hash[16];
  int64_t format, count, line_count;
  int64_t young;      // it was written while the file's times proved nothing
  uint8_t check[16];  // XXH3-128 of all but itself
} header;

static int64_t ns(struct timespec t) { return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }

static bool young(const struct stat *info) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return ns(now) - ns(info->st_mtim) < YOUNG_NS || ns(now) - ns(info->st_ctim) < YOUNG_NS;
}

// Hash some pieces of the file, the first and the last among them.
static cft_status sample(uint8_t out[16], int fd, const char *path, uint64_t size) {
  static const uint64_t count = SAMPLES;
  char piece[SAMPLE_BYTES];
  XXH3_state_t *state = XXH3_createState();
  if (!state) return cft_fail(CFT_E_OOM, "%s: no memory to hash it", path);
  XXH3_128bits_reset(state);
  cft_status st = CFT_OK;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t last = size > SAMPLE_BYTES ? size - SAMPLE_BYTES : 0;
    uint64_t at = last / (count - 1) * i + last % (count - 1) * i / (count - 1);
    size_t got;
    CFT_GO(cft_file_read(fd, path, at, piece, sizeof piece, &got));
    XXH3_128bits_update(state, piece, got);
  }
  cft_hash_write(out, XXH3_128bits_digest(state));
out:
  XXH3_freeState(state);
  return st;
}

// All but the check itself, which is the header's last field.
static void check_of(uint8_t out[16], const header *h, const void *arrays, size_t bytes) {
  XXH128_hash_t first = XXH3_128bits(h, offsetof(header, check));
  cft_hash_write(out, XXH3_128bits_withSeed(arrays, bytes, first.low64 ^ first.high64));
}

cft_status cft_index_path(char **out, const char *folder, const char *path,
                          cft_records_format format) {
  char *whole = realpath(path, NULL), hex[33];
  if (!whole) return cft_file_fail("open", path);
  char *name = cft_format("%s %d", whole, (int)format);
  free(whole);
  if (!name) return cft_fail(CFT_E_OOM, "no memory for a name");
  cft_hash(hex, name, strlen(name));
  free(name);
  *out = cft_format("%s/%s.index", folder, hex);
  return *out ? CFT_OK : cft_fail(CFT_E_OOM, "no memory for a name");
}

cft_status cft_index_save(const char *path, const char *file, int fd, const struct stat *before,
                          const cft_split *s, const uint8_t hash[16]) {
  struct stat now;
  if (fstat(fd, &now) != 0) return cft_file_fail("look at", file);
  if (now.st_size != before->st_size || ns(now.st_mtim) != ns(before->st_mtim))
    return cft_fail(CFT_E_IO, "%s was written to while it was read", file);
  header h = {.size = (uint64_t)before->st_size,
              .inode = (uint64_t)before->st_ino,
              .modified = ns(before->st_mtim),
              .changed = ns(before->st_ctim),
              .format = s->format,
              .count = s->count,
              .line_count = s->line_count,
              .young = young(before)};
  memcpy(h.magic, magic, sizeof magic);
  memcpy(h.hash, hash, 16);
  CFT_TRY(sample(h.sample, fd, file, h.size));
  size_t starts = (size_t)s->count * sizeof *s->starts;
  size_t lines = (size_t)s->line_count * sizeof *s->lines;
  char *text = malloc(sizeof h + starts + lines);
  if (!text) return cft_fail(CFT_E_OOM, "%s: no memory to write it", path);
  if (starts) memcpy(text + sizeof h, s->starts, starts);
  if (lines) memcpy(text + sizeof h + starts, s->lines, lines);
  check_of(h.check, &h, text + sizeof h, starts + lines);
  memcpy(text, &h, sizeof h);
  cft_status st = cft_file_write(NULL, path, text, sizeof h + starts + lines);
  free(text);
  return st;
}

// Whether the mapped bytes are an index, whole; else why not.
static const char *damage(const cft_mapping *map) {
  const header *h = map->data;
  if (map->bytes < sizeof *h || memcmp(h->magic, magic, sizeof magic) != 0) return "is no index";
  size_t arrays = map->bytes - sizeof *h;
  bool fits = h->count >= 0 && h->line_count >= 0 && h->count <= (int64_t)(arrays / 8) &&
              (size_t)(h->count + h->line_count) * 8 == arrays &&
              h->line_count == (h->count + CFT_LINES_EVERY - 1) / CFT_LINES_EVERY;
  uint8_t check[16];
  if (fits) check_of(check, h, h + 1, arrays);
  return fits && memcmp(check, h->check, 16) == 0 ? NULL
                                                  : "its bytes are not those that were written";
}

// What the file has now that it had not when it was indexed; NULL where it is the same.
static cft_status change(const char **why, const header *h, int fd, const char *file,
                         const struct stat *now) {
  uint8_t hash[16];
  *why = NULL;
  if (h->size != (uint64_t)now->st_size)
    *why = "its file has another size now";
  else if (h->inode != (uint64_t)now->st_ino)
    *why = "its file was put in the place of another";
  else if (h->modified != ns(now->st_mtim) || h->changed != ns(now->st_ctim))
    *why = "its file was written to since";
  if (*why) return CFT_OK;
  CFT_TRY(sample(hash, fd, file, h->size));
  if (memcmp(hash, h->sample, 16) != 0) *why = "its file has other bytes now";
  if (*why || !h->young) return CFT_OK;
  XXH128_hash_t all;
  CFT_TRY(cft_hash_fd(&all, fd, file));
  cft_hash_write(hash, all);
  if (memcmp(hash, h->hash, 16) != 0) *why = "its file has other bytes now";
  return CFT_OK;
}

cft_status cft_index_map(cft_index *out, const char *path, const char **why) {
  *out = (cft_index){0};
  *why = NULL;
  if (access(path, F_OK) != 0) return CFT_OK;
  cft_mapping map;
  CFT_TRY(cft_file_map(&map, path));
  *why = damage(&map);
  if (*why) {
    cft_file_unmap(&map);
    return CFT_OK;
  }
  const header *h = map.data;
  out->map = map;
  memcpy(out->hash, h->hash, 16);
  cft_split_init(&out->split, (cft_records_format)h->format);
  out->split.count = h->count;
  out->split.line_count = h->line_count;
  out->split.starts = (int64_t *)((char *)map.data + sizeof *h);
  out->split.lines = out->split.starts + h->count;
  return CFT_OK;
}

cft_status cft_index_load(cft_index *out, const char *path, const char *file, int fd,
                          const struct stat *now, const char **why) {
  CFT_TRY(cft_index_map(out, path, why));
  const header *h = out->map.data;
  if (!h) return CFT_OK;
  cft_status st = change(why, h, fd, file, now);
  if (st != CFT_OK || *why) {
    cft_file_unmap(&out->map);
  } else if (h->young) {  // the proof was costly: from now on the times are one
    cft_status kept = cft_index_save(path, file, fd, now, &out->split, out->hash);
    (void)kept;  // or it is costly again
  }
  return st;
}
