// saver.c - saves beside a running program: what is held may change once it is copied, a full disk is waited
// for, and whatever fails leaves what was there and says why.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "cft_checkpoint.h"
#include "files.h"
#include "test.h"
#include "util/file.h"

// ---- a file system with faults ---------------------------------------------------------------

static cft_system real;
static atomic_int full, broken_sync, lies;  // how many calls still fail

static bool due(atomic_int *left) {
  return atomic_load(left) > 0 && atomic_fetch_sub(left, 1) > 0;
}

static ssize_t pwrite_or_fail(int fd, const void *data, size_t bytes, off_t at) {
  if (due(&full)) {
    errno = ENOSPC;
    return -1;
  }
  return real.pwrite(fd, data, bytes, at);
}

static int fsync_or_fail(int fd) {
  if (!due(&broken_sync)) return real.fsync(fd);
  errno = EIO;
  return -1;
}

static ssize_t pread_or_lie(int fd, void *data, size_t bytes, off_t at) {
  ssize_t n = real.pread(fd, data, bytes, at);
  if (n > 0 && due(&lies)) *(char *)data ^= 1;
  return n;
}

static void mend(void) {
  if (!real.pread) real = cft_sys;
  cft_sys = real;
  cft_sys.pwrite = pwrite_or_fail;
  cft_sys.fsync = fsync_or_fail;
  cft_sys.pread = pread_or_lie;
  full = broken_sync = lies = 0;
}

// ---- what is saved ---------------------------------------------------------------------------

enum { N = 1 << 20 };
static float weights[N], moments[N];

static void set_weights(float to) {
  for (int i = 0; i < N; ++i) weights[i] = to, moments[i] = -to;
}

static cft_status note(cft_save **out, const char *path) {
  cft_save *save = NULL;
  cft_safetensors_writer *w = NULL;
  cft_state_writer *state = NULL;
  const cft_array a = {.name = "w", .bytes = sizeof weights, .dims = {N}, .ndim = 1};
  cft_status st;
  CFT_GO(cft_save_new(&save, path));
  cft_save_defer(save);
  CFT_GO(cft_file_write(save, "config.json", "{}", 2));
  CFT_GO(cft_safetensors_writer_new(&w, save, "model.safetensors", &a, 1, 0));
  CFT_GO(cft_safetensors_writer_put_held(w, weights, sizeof weights));
  CFT_GO(cft_safetensors_writer_commit(w));
  CFT_GO(cft_state_writer_new(&state, save, "state.msgpack"));
  CFT_GO(cft_state_put_map(state, 1));
  CFT_GO(cft_state_put_string(state, "m", 1));
  CFT_GO(cft_state_put_array(state, &a));
  CFT_GO(cft_state_put_held(state, moments, sizeof moments));
  CFT_GO(cft_state_writer_commit(state));
  *out = save;
  save = NULL;
out:
  cft_safetensors_writer_release(w);
  cft_state_writer_release(state);
  cft_save_release(save);
  return st;
}

// Whether the checkpoint has `value` in all of its weights, and minus that in its moments.
static void expect_saved(const char *path, float value) {
  cft_safetensors *s;
  cft_array a;
  EXPECT_OK(cft_save_verify(path));
  EXPECT_OK(cft_safetensors_open(&s, path));
  EXPECT_OK(cft_safetensors_find(s, "w", &a));
  const float *w = a.data;
  for (int i = 0; i < N; ++i)
    if (w[i] != value) TEST_FAIL("%s: weight %d is %g, not %g", path, i, (double)w[i], (double)value);
  cft_safetensors_release(s);
  cft_state_reader *r;
  cft_state_item item;
  EXPECT_OK(cft_state_open(&r, join(path, "state.msgpack")));
  for (int i = 0; i < 3; ++i) cft_state_next(r, &item);  // the map, its key, the array
  static float m[N];
  EXPECT_OK(cft_state_data(r, &item, 0, m, sizeof m));
  for (int i = 0; i < N; ++i)
    if (m[i] != -value) TEST_FAIL("%s: moment %d is %g", path, i, (double)m[i]);
  cft_state_release(r);
}

static cft_saver *saver;

static cft_saver_state end_of(cft_saver *s) {
  (void)cft_saver_look(s, 60);
  return cft_saver_take(s);
}

static cft_status begin(const char *path, float value) {
  cft_save *save;
  set_weights(value);
  CFT_TRY(note(&save, path));
  cft_status st = cft_saver_start(saver, save);
  if (st != CFT_OK) cft_save_release(save);
  return st;
}

// ---- cases -----------------------------------------------------------------------------------

TEST(what_is_copied_may_change) {
  mend();
  const char *folder = scratch("change");
  double copied, over;
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
  for (int i = 1; i <= 3; ++i) {
    char name[16];
    snprintf(name, sizeof name, "step-%d", i);
    EXPECT_OK(begin(join(folder, name), (float)i));
    EXPECT_OK(cft_saver_copied(saver));
    set_weights(99);
    EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
    EXPECT_INT(cft_saver_take(saver), CFT_SAVER_IDLE);
    expect_saved(join(folder, name), (float)i);
  }
  cft_saver_times(saver, &copied, &over);
  EXPECT(copied > 0 && over >= copied);
  EXPECT(cft_saver_room(saver) >= (int64_t)(2 * sizeof weights));
  EXPECT_INT(entries_in(folder), 3);
  cft_saver_release(saver);
}

TEST(one_save_at_a_time) {
  mend();
  const char *folder = scratch("one");
  cft_save *second;
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
  EXPECT_OK(begin(join(folder, "a"), 1));
  EXPECT_OK(note(&second, join(folder, "b")));
  EXPECT_FAILS(cft_saver_start(saver, second), CFT_E_STATE, "not over");
  cft_save_release(second);
  EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
  expect_saved(join(folder, "a"), 1);
  cft_saver_release(saver);
}

TEST(a_full_disk_is_waited_for) {
  mend();
  const char *folder = scratch("full");
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
  EXPECT_OK(begin(join(folder, "a"), 1));
  EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
  full = 1 << 20;
  EXPECT_OK(begin(join(folder, "a"), 2));
  EXPECT_OK(cft_saver_copied(saver));
  set_weights(3);
  for (int i = 0; i < 500 && cft_saver_look(saver, 0.01) != CFT_SAVER_NO_ROOM; ++i) {
  }
  EXPECT_INT(cft_saver_look(saver, 0), CFT_SAVER_NO_ROOM);
  EXPECT(strstr(cft_saver_message(saver), "No space left"));
  expect_saved(join(folder, "a"), 1);  // the older one is as it was
  full = 0;
  EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
  expect_saved(join(folder, "a"), 2);
  EXPECT_INT(entries_in(folder), 1);
  cft_saver_release(saver);
}

TEST(who_waits_for_room_can_give_up) {
  mend();
  const char *folder = scratch("give-up");
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 100));
  full = 1 << 20;
  EXPECT_OK(begin(join(folder, "a"), 2));
  for (int i = 0; i < 500 && cft_saver_look(saver, 0.01) != CFT_SAVER_NO_ROOM; ++i) {
  }
  cft_saver_release(saver);  // does not wait for the next try
  EXPECT_INT(entries_in(folder), 0);
  mend();
}

TEST(a_save_that_fails_says_so) {
  mend();
  const char *folder = scratch("fails"), *path = join(folder, "a");
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
  EXPECT_OK(begin(path, 1));
  EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
  broken_sync = 1;
  EXPECT_OK(begin(path, 2));
  EXPECT_INT(end_of(saver), CFT_SAVER_FAILED);
  EXPECT(strstr(cft_saver_message(saver), "Input/output error"));
  expect_saved(path, 1);
  EXPECT_INT(entries_in(folder), 1);
  lies = 1;  // what comes back is not what was written
  EXPECT_OK(begin(join(folder, "b"), 2));
  EXPECT_INT(end_of(saver), CFT_SAVER_FAILED);
  EXPECT(strstr(cft_saver_message(saver), "read back after it was saved"));
  EXPECT_OK(begin(path, 3));  // a later one may succeed
  EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
  expect_saved(path, 3);
  cft_saver_release(saver);
}

TEST(a_deferred_save_without_a_saver) {
  mend();
  const char *path = join(scratch("alone"), "a");
  cft_save *save;
  set_weights(4);
  EXPECT_OK(note(&save, path));
  EXPECT(cft_save_bytes(save) > (int64_t)(2 * sizeof weights));
  full = 1;
  EXPECT_FAILS(cft_save_commit(save), CFT_E_IO, "No space left");
  EXPECT_OK(cft_save_commit(save));  // what was finished is not written anew
  cft_save_release(save);
  expect_saved(path, 4);
}

TEST_MAIN()
