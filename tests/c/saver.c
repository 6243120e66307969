// saver.c - saves beside a running program: what is held may change once it is copied or written,
// with or without memory for copies and on disks of any rate; a full disk is waited for, and
// whatever fails leaves what was there and says why.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "cft_checkpoint.h"
#include "files.h"
#include "test.h"
#include "util/file.h"

// ---- a file system with faults ---------------------------------------------------------------

static cft_system real;
static atomic_int full, full_sync, broken_sync, lies;  // how many calls still fail
static atomic_int gate;       // how many writes of a block still pass before one waits; -1: all
static atomic_bool undirect;  // nothing goes past the page cache
static atomic_llong direct_bytes;  // that went past it
static atomic_bool no_memory;      // for copies

static bool due(atomic_int *left) {
  return atomic_load(left) > 0 && atomic_fetch_sub(left, 1) > 0;
}

static bool is_direct(int fd) { return fcntl(fd, F_GETFL) & O_DIRECT; }

static ssize_t pwrite_or_fail(int fd, const void *data, size_t bytes, off_t at) {
  if (is_direct(fd) && undirect) {
    errno = EINVAL;
    return -1;
  }
  if (is_direct(fd)) direct_bytes += (long long)bytes;
  while (bytes >= 1 << 18 && gate == 0) usleep(200);
  if (bytes >= 1 << 18 && gate > 0) --gate;
  if (due(&full)) {
    errno = ENOSPC;
    return -1;
  }
  return real.pwrite(fd, data, bytes, at);
}

static int fsync_or_fail(int fd) {
  struct stat info;
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 1 << 20 && due(&full_sync)) {
    errno = ENOSPC;
    return -1;
  }
  if (!due(&broken_sync)) return real.fsync(fd);
  errno = EIO;
  return -1;
}

static ssize_t pread_or_lie(int fd, void *data, size_t bytes, off_t at) {
  if (is_direct(fd) && undirect) {
    errno = EINVAL;
    return -1;
  }
  ssize_t n = real.pread(fd, data, bytes, at);
  if (n > 0 && due(&lies)) *(char *)data ^= 1;
  return n;
}

static cft_status (*real_alloc)(cft_device *, void **, size_t, cft_memory_class);

static cft_status alloc_or_fail(cft_device *d, void **p, size_t bytes, cft_memory_class why) {
  if (no_memory) return cft_fail(CFT_E_OOM, "cpu: no memory");
  return real_alloc(d, p, bytes, why);
}

static void mend(void) {
  if (!real_alloc) real_alloc = cft_cpu_device()->alloc;
  cft_cpu_device()->alloc = alloc_or_fail;
  if (!real.pread) real = cft_sys;
  cft_sys = real;
  cft_sys.pwrite = pwrite_or_fail;
  cft_sys.fsync = fsync_or_fail;
  cft_sys.pread = pread_or_lie;
  full = full_sync = broken_sync = lies = 0;
  gate = -1;
  direct_bytes = 0;
  undirect = no_memory = false;
}

// ---- what is saved ---------------------------------------------------------------------------

enum { N = 3 << 20 };  // two files of 12 MiB
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

static cft_status begin_for(const char *path, float value, double seconds) {
  cft_save *save;
  set_weights(value);
  CFT_TRY(note(&save, path));
  cft_status st = cft_saver_start(saver, save, seconds);
  if (st != CFT_OK) cft_save_release(save);
  return st;
}

static cft_status begin(const char *path, float value) { return begin_for(path, value, 0); }

static void wait_for_gate(void) {
  while (gate > 0) usleep(200);
}

static atomic_bool opened;

static void *open_later(void *unused) {
  (void)unused;
  usleep(50000);
  opened = true;
  gate = -1;
  return NULL;
}

// ---- cases -----------------------------------------------------------------------------------

TEST(what_is_copied_may_change) {
  mend();
  const char *folder = scratch("change");
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
  cft_saver_times took = cft_saver_took(saver);
  EXPECT(took.copied > 0 && took.over >= took.copied);
  EXPECT_INT(entries_in(folder), 3);
  cft_saver_release(saver);
}

// A disk that is slower than the program: what is not written when it wants to go on is copied.
TEST(a_slow_disk_is_not_waited_for) {
  const char *folder = scratch("slow");
  for (int i = 0; i < 2; ++i) {
    mend();
    undirect = i == 1;
    gate = 1;
    EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
    EXPECT_OK(begin(join(folder, "a"), 1));
    wait_for_gate();
    EXPECT_OK(cft_saver_copied(saver));  // the disk takes nothing meanwhile
    set_weights(99);
    gate = -1;
    EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
    EXPECT(cft_saver_took(saver).copied_bytes > 8 << 20);
    EXPECT_INT(direct_bytes > 0, i == 0);
    expect_saved(join(folder, "a"), 1);
    EXPECT_OK(cft_saver_copied(saver));  // nothing is held
    cft_saver_release(saver);
  }
}

TEST(a_thread_copies_ahead_what_it_will_not_have_written) {
  mend();
  const char *folder = scratch("ahead");
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
  EXPECT_OK(begin_for(join(folder, "a"), 1, 1e-4));
  EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
  EXPECT(cft_saver_took(saver).copied_bytes > 1 << 20);
  expect_saved(join(folder, "a"), 1);
  EXPECT_OK(begin_for(join(folder, "a"), 2, 1000));  // there is time enough
  EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
  EXPECT_INT(cft_saver_took(saver).copied_bytes, 0);
  expect_saved(join(folder, "a"), 2);
  cft_saver_release(saver);
}

TEST(without_memory_for_copies_it_waits_for_the_disk) {
  const char *folder = scratch("memory");
  for (int i = 0; i < 4; ++i) {
    mend();
    undirect = i % 2;
    no_memory = true;
    gate = 1;
    opened = false;
    pthread_t opener;
    EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
    EXPECT_OK(begin_for(join(folder, "a"), 1, i < 2 ? 0 : 1e-4));
    EXPECT_INT(pthread_create(&opener, NULL, open_later, NULL), 0);
    EXPECT_OK(cft_saver_copied(saver));
    EXPECT(opened);
    set_weights(99);
    EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
    EXPECT_INT(cft_saver_took(saver).copied_bytes, 0);
    expect_saved(join(folder, "a"), 1);
    cft_saver_release(saver);
    pthread_join(opener, NULL);
  }
  // A full disk as well: it stands still until there is room for it.
  mend();
  no_memory = true;
  full = 20;
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
  EXPECT_OK(begin(join(folder, "a"), 2));
  EXPECT_OK(cft_saver_copied(saver));
  set_weights(99);
  EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
  expect_saved(join(folder, "a"), 2);
  // And a save that fails holds nobody up.
  broken_sync = 1;
  EXPECT_OK(begin(join(folder, "b"), 3));
  EXPECT_OK(cft_saver_copied(saver));
  EXPECT_INT(end_of(saver), CFT_SAVER_FAILED);
  EXPECT_INT(entries_in(folder), 1);
  cft_saver_release(saver);
}

// A disk that is found full only when a file is synced. What went through the page cache is written
// anew from what it came from, or from copies; what went past it is lost by then, if it has changed.
TEST(a_disk_that_is_full_at_the_end) {
  const char *folder = scratch("late");
  for (int i = 0; i < 3; ++i) {
    mend();
    undirect = i > 0;
    full_sync = 1;
    if (i == 2) gate = 1;
    EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.1));
    EXPECT_OK(begin(join(folder, "a"), 1));
    if (i == 2) {  // long before the sync
      EXPECT_OK(cft_saver_copied(saver));
      set_weights(99);
      gate = -1;
    }
    while (full_sync) usleep(200);
    if (i == 1) {  // between it and the next try
      EXPECT_OK(cft_saver_copied(saver));
      set_weights(99);
    }
    EXPECT_INT(end_of(saver), CFT_SAVER_DONE);
    expect_saved(join(folder, "a"), 1);
    cft_saver_release(saver);
  }
  mend();
  full_sync = 1;
  gate = 2;
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
  EXPECT_OK(begin(join(folder, "b"), 1));
  wait_for_gate();  // two blocks went past the page cache
  EXPECT_OK(cft_saver_copied(saver));
  set_weights(99);
  gate = -1;
  EXPECT_INT(end_of(saver), CFT_SAVER_FAILED);
  EXPECT(strstr(cft_saver_message(saver), "what it was to hold has changed since"));
  EXPECT_INT(entries_in(folder), 1);
  cft_saver_release(saver);
}

TEST(one_save_at_a_time) {
  mend();
  const char *folder = scratch("one");
  cft_save *second;
  EXPECT_OK(cft_saver_new(&saver, cft_cpu_device(), 0.01));
  EXPECT_OK(begin(join(folder, "a"), 1));
  EXPECT_OK(note(&second, join(folder, "b")));
  EXPECT_FAILS(cft_saver_start(saver, second, 0), CFT_E_STATE, "not over");
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
