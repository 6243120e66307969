// atomic.c - files and folders appear whole or not at all, on full disks and after kills too.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cft_checkpoint.h"
#include "files.h"
#include "test.h"

TEST(paths) {
  const char *folder = scratch("paths");
  int64_t bytes = -1;
  EXPECT_INT(cft_path_look(folder, &bytes), CFT_PATH_FOLDER);
  EXPECT_INT(bytes, 0);
  EXPECT_INT(cft_path_look(join(folder, "none"), NULL), CFT_PATH_NONE);
  EXPECT_INT(cft_path_look("/dev/null", NULL), CFT_PATH_OTHER);
  EXPECT_OK(cft_folder_make(join(folder, "a/b//c/")));
  EXPECT_OK(cft_folder_make(join(folder, "a/b")));
  EXPECT_OK(cft_file_write(NULL, join(folder, "a/file"), "12345", 5));
  EXPECT_INT(cft_path_look(join(folder, "a/file"), &bytes), CFT_PATH_FILE);
  EXPECT_INT(bytes, 5);
  EXPECT_FAILS(cft_folder_make(join(folder, "a/file/x")), CFT_E_IO, "a/file: File exists");
  EXPECT_FAILS(cft_folder_make(""), CFT_E_ARG, "make folder: the path is empty");

  cft_names *names;
  EXPECT_OK(cft_folder_list(&names, join(folder, "a")));
  EXPECT_INT(cft_names_count(names), 2);
  EXPECT_STR(cft_names_at(names, 0), "b");
  EXPECT_STR(cft_names_at(names, 1), "file");
  EXPECT(!cft_names_at(names, 2) && !cft_names_at(names, -1));
  cft_names_release(names);
  EXPECT_FAILS(cft_folder_list(&names, join(folder, "none")), CFT_E_IO, "No such file");

  // A link is removed, what it points to is not.
  EXPECT_INT(symlink(join(folder, "a"), join(folder, "link")), 0);
  EXPECT_OK(cft_path_remove(join(folder, "link")));
  EXPECT_INT(cft_path_look(join(folder, "a/file"), NULL), CFT_PATH_FILE);
  EXPECT_OK(cft_path_remove(join(folder, "a")));
  EXPECT_OK(cft_path_remove(join(folder, "a")));
  EXPECT_INT(entries_in(folder), 0);
}

TEST(a_file_is_replaced_at_commit) {
  const char *folder = scratch("file"), *path = join(folder, "x");
  EXPECT_OK(cft_file_write(NULL, path, "old", 3));
  cft_writer *w;
  EXPECT_OK(cft_writer_new(&w, NULL, path));
  EXPECT_OK(cft_writer_put(w, "ne", 2));
  EXPECT_OK(cft_writer_put(w, NULL, 0));
  EXPECT_OK(cft_writer_put(w, "w", 1));
  expect_text(path, "old");
  EXPECT_OK(cft_writer_commit(w));
  expect_text(path, "new");
  EXPECT_FAILS(cft_writer_put(w, "x", 1), CFT_E_STATE, "done already");
  EXPECT_FAILS(cft_writer_commit(w), CFT_E_STATE, "done already");
  cft_writer_release(w);

  EXPECT_OK(cft_writer_new(&w, NULL, path));
  EXPECT_OK(cft_writer_put(w, "lost", 4));
  cft_writer_release(w);
  expect_text(path, "new");
  EXPECT_INT(entries_in(folder), 1);

  struct stat info;  // as the umask says, not as private as a temporary file
  mode_t mask = umask(022);
  EXPECT_OK(cft_file_write(NULL, path, "", 0));
  umask(mask);
  EXPECT_INT(stat(path, &info), 0);
  EXPECT_INT(info.st_mode & 0777, 0644);
  EXPECT_INT(info.st_size, 0);
}

TEST(paths_that_cannot_be_written) {
  const char *folder = scratch("bad");
  cft_writer *w;
  cft_save *save;
  EXPECT_FAILS(cft_writer_new(&w, NULL, folder), CFT_E_IO, "is a folder");
  EXPECT_INT(mkfifo(join(folder, "pipe"), 0600), 0);
  EXPECT_FAILS(cft_writer_new(&w, NULL, join(folder, "pipe")), CFT_E_IO, "no regular file");
  EXPECT_INT(unlink(join(folder, "pipe")), 0);
  EXPECT_FAILS(cft_writer_new(&w, NULL, ""), CFT_E_ARG, "names no file");
  EXPECT_FAILS(cft_writer_new(&w, NULL, join(folder, "")), CFT_E_ARG, "names no file");
  EXPECT_FAILS(cft_writer_new(&w, NULL, "/proc/none/x"), CFT_E_IO, "/proc/none");
  EXPECT_OK(cft_file_write(NULL, join(folder, "f"), "x", 1));
  EXPECT_FAILS(cft_writer_new(&w, NULL, join(folder, "f/x")), CFT_E_IO, "make folder");
  EXPECT_FAILS(cft_save_new(&save, join(folder, "f")), CFT_E_IO, "there is a file of that name");
  EXPECT_FAILS(cft_save_new(&save, ""), CFT_E_ARG, "the path is empty");
  EXPECT_FAILS(cft_save_new(&save, "/proc/none"), CFT_E_IO, "make folder /proc/none");
  EXPECT_OK(cft_save_new(&save, join(folder, "s/")));
  static const char *const outside[] = {"../x", "/x", "a/../../x", "a//b", ".", ""};
  for (size_t i = 0; i < sizeof outside / sizeof *outside; ++i)
    EXPECT_FAILS(cft_writer_new(&w, save, outside[i]), CFT_E_ARG, "must lie in the save's folder");
  cft_save_release(save);
  EXPECT_INT(entries_in(folder), 1);
}

// Large pieces take another way than small ones; both must give the file and its checksum.
TEST(pieces_of_all_sizes) {
  enum { BYTES = 5 << 20 };
  const char *folder = scratch("sizes");
  uint8_t *data = malloc(BYTES), *back;
  for (size_t i = 0; i < BYTES; ++i) data[i] = (uint8_t)(i * i >> 7);
  cft_save *save;
  cft_writer *w;
  EXPECT_OK(cft_save_new(&save, join(folder, "c")));
  EXPECT_OK(cft_writer_new(&w, save, "x"));
  EXPECT_OK(cft_writer_reserve(w, BYTES));
  size_t done = 0, n = 1;
  for (; done < BYTES; done += n, n = n * 3 + 1) {
    n = n < BYTES - done ? n : BYTES - done;
    EXPECT_OK(cft_writer_put(w, data + done, n));
  }
  EXPECT_OK(cft_writer_commit(w));
  cft_writer_release(w);
  EXPECT_OK(cft_save_commit(save));
  cft_save_release(save);
  back = slurp(join(folder, "c/x"), &n);
  EXPECT(back && n == BYTES && memcmp(back, data, BYTES) == 0);
  EXPECT_OK(cft_save_verify(join(folder, "c")));
  free(back);
  free(data);
}

// ---- folders ---------------------------------------------------------------------------------

static void make_checkpoint(const char *path, const char *text) {
  cft_save *save;
  EXPECT_OK(cft_save_new(&save, path));
  EXPECT_OK(cft_file_write(save, "config.json", text, strlen(text)));
  EXPECT_OK(cft_file_write(save, "ranks/0.msgpack", "state", 5));
  // Another process puts its file there by itself.
  EXPECT_OK(cft_file_write(NULL, join(cft_save_folder(save), "ranks/1.msgpack"), "more", 4));
  EXPECT_OK(cft_save_commit(save));
  EXPECT_FAILS(cft_save_commit(save), CFT_E_STATE, "is done already");
  cft_writer *w;
  EXPECT_FAILS(cft_writer_new(&w, save, "late"), CFT_E_STATE, "the save is done");
  cft_save_release(save);
}

TEST(a_checkpoint_appears_whole) {
  const char *folder = scratch("save"), *path = join(folder, "run/step-1");
  make_checkpoint(path, "{}");
  EXPECT_INT(entries_in(join(folder, "run")), 1);
  EXPECT_INT(entries_in(path), 3);
  // XXH3-128 of these bytes as xxh128sum 0.8.1 prints them.
  expect_text(join(path, "checksums.xxh128"),
              "dc7048f8f8747f561349cde127705c16  config.json\n"
              "ccb356a16ce4d54a899465fe1ae32812  ranks/0.msgpack\n"
              "648f639d4b06de94847f3c7885b257c5  ranks/1.msgpack\n"
              "# complete: 3 files, and these lines: e177ff2dacba1b2c0e686ab8c01c526c\n");
  EXPECT_OK(cft_save_verify(path));

  make_checkpoint(path, "{\"again\": true}");  // replaced, and no trace of the old one
  expect_text(join(path, "config.json"), "{\"again\": true}");
  EXPECT_INT(entries_in(join(folder, "run")), 1);
  EXPECT_OK(cft_save_verify(path));
}

TEST(a_save_that_is_dropped_leaves_nothing) {
  const char *folder = scratch("dropped"), *path = join(folder, "step-1");
  make_checkpoint(path, "{}");
  cft_save *save;
  EXPECT_OK(cft_save_new(&save, path));
  EXPECT_INT(strncmp(cft_save_folder(save), path, strlen(path)), 0);
  EXPECT_OK(cft_file_write(save, "config.json", "[]", 2));
  EXPECT_OK(cft_file_write(save, "config.json", "[1]", 3));  // the last one counts
  expect_text(join(path, "config.json"), "{}");
  cft_save_release(save);
  expect_text(join(path, "config.json"), "{}");
  EXPECT_OK(cft_save_verify(path));
  EXPECT_INT(entries_in(folder), 1);
}

TEST(a_file_written_twice_has_one_checksum) {
  const char *path = join(scratch("twice"), "c");
  cft_save *save;
  EXPECT_OK(cft_save_new(&save, path));
  EXPECT_OK(cft_file_write(save, "x", "1", 1));
  EXPECT_OK(cft_file_write(save, "x", "2", 1));
  EXPECT_OK(cft_save_commit(save));
  cft_save_release(save);
  EXPECT_OK(cft_save_verify(path));
}

TEST(damage_is_named) {
  const char *path = join(scratch("damage"), "c");
  EXPECT_FAILS(cft_save_verify(path), CFT_E_IO, "there is no checksums.xxh128");
  make_checkpoint(path, "{}");
  const char *list = join(path, "checksums.xxh128"), *file = join(path, "ranks/1.msgpack");
  size_t n = 0;
  char *text = (char *)slurp(list, &n);

  EXPECT_OK(cft_file_write(NULL, file, "mire", 4));
  EXPECT_FAILS(cft_save_verify(path), CFT_E_FORMAT, "ranks/1.msgpack: is not what was written");
  EXPECT_OK(cft_path_remove(file));
  EXPECT_FAILS(cft_save_verify(path), CFT_E_IO, "ranks/1.msgpack: No such file");
  EXPECT_OK(cft_file_write(NULL, file, "more", 4));
  EXPECT_OK(cft_file_write(NULL, join(path, "notes.txt"), "mine", 4));  // nobody's business
  EXPECT_OK(cft_save_verify(path));

  for (size_t cut = 0; cut < n; ++cut) {  // the list itself, cut anywhere
    EXPECT_OK(cft_file_write(NULL, list, text, cut));
    EXPECT_FAILS(cft_save_verify(path), CFT_E_FORMAT, "damaged or cut short");
  }
  for (size_t i = 0; i < n; ++i) {  // or changed anywhere
    text[i] ^= 1;
    EXPECT_OK(cft_file_write(NULL, list, text, n));
    EXPECT_FAILS(cft_save_verify(path), CFT_E_FORMAT, "checksums.xxh128");
    text[i] ^= 1;
  }
  free(text);
}

// A list that is whole and says where it must not look.
TEST(a_list_does_not_lead_outside) {
  const char *path = scratch("outside");
  static const char *const lines[] = {"0123456789abcdef0123456789abcdef  ../x\n",
                                      "0123456789abcdef0123456789abcdef  /etc/passwd\n",
                                      "0123456789abcdef  x\n",
                                      "0123456789ABCDEF0123456789ABCDEF  x\n",
                                      "x\n",
                                      "\n"};
  for (size_t i = 0; i < sizeof lines / sizeof *lines; ++i) {
    char own[33], text[256];
    cft_hash(own, lines[i], strlen(lines[i]));
    int n =
        snprintf(text, sizeof text, "%s# complete: 1 files, and these lines: %s\n", lines[i], own);
    EXPECT_OK(cft_file_write(NULL, join(path, "checksums.xxh128"), text, (size_t)n));
    EXPECT_FAILS(cft_save_verify(path), CFT_E_FORMAT, "line 1: is no checksum and name");
  }
}

// ---- leftovers -------------------------------------------------------------------------------

static void make_old(const char *folder) {
  struct timespec then[2] = {{.tv_sec = time(NULL) - 3600}, {.tv_sec = time(NULL) - 3600}};
  utimensat(AT_FDCWD, folder, then, 0);
}

TEST(what_killed_saves_left_is_swept) {
  const char *folder = scratch("swept");
  // A process begins a save, writes to it, and is killed.
  int ready[2];
  EXPECT_INT(pipe(ready), 0);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    cft_save *save;
    if (cft_save_new(&save, join(folder, "step-1")) != CFT_OK) _exit(1);
    if (cft_file_write(save, "x", "1", 1) != CFT_OK) _exit(1);
    make_old(cft_save_folder(save));
    if (write(ready[1], "r", 1) == 1) pause();
    _exit(1);
  }
  close(ready[1]);
  char byte = 0;
  EXPECT_INT(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  EXPECT_OK(cft_folder_make(join(folder, "young.cft-tmp-abcdef")));
  EXPECT_OK(cft_folder_make(join(folder, "mine.tmp-abcdef")));
  make_old(join(folder, "mine.tmp-abcdef"));

  cft_save *save;
  EXPECT_OK(cft_save_new(&save, join(folder, "step-2")));
  EXPECT_INT(entries_in(folder), 4);  // its maker lives: nothing is swept
  cft_save_release(save);

  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  EXPECT_OK(cft_save_new(&save, join(folder, "step-2")));
  EXPECT_INT(entries_in(folder), 3);  // the save, the young one, the user's own
  cft_save_release(save);
  EXPECT_INT(entries_in(folder), 2);
  EXPECT_INT(cft_path_look(join(folder, "step-1"), NULL), CFT_PATH_NONE);
}

// ---- disks that are full ---------------------------------------------------------------------

// In a child whose files may have `limit` bytes: does `body` end as it should?
static void with_file_limit(rlim_t limit, int (*body)(const char *folder), const char *folder) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);  // write then fails, as it does on a full disk
    struct rlimit r = {limit, limit};
    if (setrlimit(RLIMIT_FSIZE, &r) != 0) _exit(99);
    _exit(body(folder));
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT(WIFEXITED(status));
  EXPECT_INT(WEXITSTATUS(status), 0);
}

static int file_that_does_not_fit(const char *folder) {
  static char data[300000];
  cft_writer *w;
  if (cft_writer_new(&w, NULL, join(folder, "x")) != CFT_OK) return 1;
  cft_status st = CFT_OK;
  for (int i = 0; i < 10 && st == CFT_OK; ++i) st = cft_writer_put(w, data, 30000);
  if (st == CFT_OK) st = cft_writer_put(w, data, sizeof data);
  if (st != CFT_E_IO || !strstr(cft_last_error(), "byte 100000: File too large")) return 2;
  if (cft_writer_put(w, data, 1) != CFT_E_IO || !strstr(cft_last_error(), "earlier")) return 3;
  if (cft_writer_commit(w) != CFT_E_IO) return 4;
  cft_writer_release(w);

  if (cft_writer_new(&w, NULL, join(folder, "x")) != CFT_OK) return 5;
  if (cft_writer_put(w, data, 150000) != CFT_OK) return 6;  // buffered: commit finds out
  if (cft_writer_commit(w) != CFT_E_IO) return 7;
  cft_writer_release(w);
  return 0;
}

static int array_that_does_not_fit(const char *folder) {
  static float data[50000];
  cft_array a = {.name = "a", .data = data, .bytes = sizeof data, .ndim = 1, .dims = {50000}};
  cft_status st = cft_safetensors_write(NULL, join(folder, "x"), &a, 1, 0);
  return st == CFT_E_IO && strstr(cft_last_error(), "File too large") ? 0 : 1;
}

static int save_that_does_not_fit(const char *folder) {
  static char data[200000];
  cft_save *save;
  if (cft_save_new(&save, join(folder, "c")) != CFT_OK) return 1;
  if (cft_file_write(save, "config.json", "[]", 2) != CFT_OK) return 2;
  if (cft_file_write(save, "big", data, sizeof data) != CFT_E_IO) return 3;
  cft_save_release(save);
  return 0;
}

TEST(a_file_too_large_leaves_the_old_one) {
  const char *folder = scratch("limit");
  EXPECT_OK(cft_file_write(NULL, join(folder, "x"), "good", 4));
  with_file_limit(100000, file_that_does_not_fit, folder);
  expect_text(join(folder, "x"), "good");
  with_file_limit(100000, array_that_does_not_fit, folder);
  expect_text(join(folder, "x"), "good");
  EXPECT_INT(entries_in(folder), 1);

  make_checkpoint(join(folder, "c"), "{}");
  with_file_limit(100000, save_that_does_not_fit, folder);
  EXPECT_OK(cft_save_verify(join(folder, "c")));
  EXPECT_INT(entries_in(folder), 2);
}

TEST(a_full_disk_leaves_the_old_one) {
  const char *folder = scratch("disk");
  if (mount("none", folder, "tmpfs", 0, "size=1m") != 0) {
    // Needs root, and a container that allows it: without, the limits above are the test.
    EXPECT(errno == EPERM || errno == EACCES);
    return;
  }
  static char data[3 << 20];
  cft_status big = CFT_OK, reserved = CFT_OK, saved = CFT_OK;
  char said[256] = "";
  int64_t left = -1;
  cft_status old = cft_file_write(NULL, join(folder, "x"), "good", 4);
  cft_writer *w = NULL;
  if (cft_writer_new(&w, NULL, join(folder, "x")) == CFT_OK) {
    big = cft_writer_put(w, data, sizeof data);
    snprintf(said, sizeof said, "%s", cft_last_error());
  }
  cft_writer_release(w);
  if (cft_writer_new(&w, NULL, join(folder, "x")) == CFT_OK)
    reserved = cft_writer_reserve(w, sizeof data);
  cft_writer_release(w);
  make_checkpoint(join(folder, "c"), "{}");
  cft_save *save;
  if (cft_save_new(&save, join(folder, "c")) == CFT_OK) {
    saved = cft_file_write(save, "big", data, sizeof data);
    cft_save_release(save);
  }
  cft_status valid = cft_save_verify(join(folder, "c"));
  left = entries_in(folder);
  size_t n = 0;
  char *text = (char *)slurp(join(folder, "x"), &n);
  bool kept = n == 4 && text && memcmp(text, "good", 4) == 0;
  free(text);
  umount(folder);
  EXPECT_OK(old);
  EXPECT_INT(big, CFT_E_IO);
  EXPECT(strstr(said, "No space left on device"));
  EXPECT_INT(reserved, CFT_E_IO);
  EXPECT_INT(saved, CFT_E_IO);
  EXPECT_OK(valid);
  EXPECT(kept);
  EXPECT_INT(left, 2);
}

TEST(cache_folder) {
  static const struct {
    const char *ours, *xdg, *home, *want;
  } cases[] = {{"/a", "/b", "/c", "/a"},
               {NULL, "/b", "/c", "/b/cft"},
               {NULL, "", "/c", "/c/.cache/cft"},
               {NULL, NULL, "/c", "/c/.cache/cft"},
               {"", "/b", "/c", ""},
               {NULL, NULL, "", ""},
               {NULL, NULL, NULL, ""}};
  static const char *const names[] = {"CFT_CACHE", "XDG_CACHE_HOME", "HOME"};
  char *before[3], path[16];
  for (int i = 0; i < 3; ++i) before[i] = getenv(names[i]) ? strdup(getenv(names[i])) : NULL;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    const char *values[] = {cases[i].ours, cases[i].xdg, cases[i].home};
    for (int k = 0; k < 3; ++k) values[k] ? setenv(names[k], values[k], 1) : unsetenv(names[k]);
    path[0] = 0;
    EXPECT_INT(cft_cache_folder(path, sizeof path), strlen(cases[i].want));
    EXPECT_STR(path, cases[i].want);
  }
  setenv("CFT_CACHE", "/sixteen-bytes-x", 1);
  EXPECT_INT(cft_cache_folder(path, sizeof path), 0);
  for (int i = 0; i < 3; ++i) {
    before[i] ? setenv(names[i], before[i], 1) : unsetenv(names[i]);
    free(before[i]);
  }
}

TEST(temporary_folders) {
  char a[256], b[256];
  struct stat info;
  const char *before = getenv("TMPDIR"), *folder = scratch("temporary");
  setenv("TMPDIR", folder, 1);
  EXPECT_OK(cft_folder_temporary(a, sizeof a));
  EXPECT_OK(cft_folder_temporary(b, sizeof b));
  EXPECT_INT(entries_in(folder), 2);
  EXPECT_INT(stat(a, &info), 0);
  EXPECT_INT(info.st_mode & 0777, 0700);
  EXPECT_FAILS(cft_folder_temporary(a, 8), CFT_E_ARG, "TMPDIR is too long");
  setenv("TMPDIR", join(folder, "none"), 1);
  EXPECT_FAILS(cft_folder_temporary(a, sizeof a), CFT_E_IO, "temporary/none: No such file");
  before ? setenv("TMPDIR", before, 1) : unsetenv("TMPDIR");
}

TEST(hashes) {
  char hex[33];
  cft_hash(hex, "", 0);
  EXPECT_STR(hex, "99aa06d3014798d86001c324468d497f");  // xxh128sum of an empty file
  const char *path = join(scratch("hash"), "x");
  EXPECT_OK(cft_file_write(NULL, path, "hello", 5));
  EXPECT_OK(cft_hash_file(hex, path));
  EXPECT_STR(hex, "b5e9c1ad071b3e7fc779cfaa5e523818");
  EXPECT_FAILS(cft_hash_file(hex, scratch("hash")), CFT_E_IO, "is a folder, not a file");
  EXPECT_FAILS(cft_hash_file(hex, path), CFT_E_IO, "No such file");
}

TEST_MAIN()
