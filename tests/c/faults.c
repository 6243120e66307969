// faults.c - disks that fail at the worst moment: one system call of the file layer goes wrong, and
// what stood there is still good, nothing half-written is left, and the message says where and why.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cft_data.h"
#include "files.h"
#include "net/digest.h"
#include "net/part.h"
#include "test.h"
#include "util/file.h"

// ---- calls that fail when they are told to ---------------------------------------------------

typedef struct fault {
  int times, reason;  // how often, and errno
  int after;          // calls that succeed before
} fault;

static struct {
  fault pread, pwrite, sync, sync_folder, close, rename, exchange, flock;
  size_t most;          // bytes that one pread or pwrite moves; 0: all
  bool takes_nothing;   // pwrite answers 0
  const char *watched;  // a folder, and how many names it had when it was first synced
  int64_t names;
} on;

static cft_system real;

static bool due(fault *f) {
  if (f->times == 0 || f->after-- > 0) return false;
  --f->times;
  errno = f->reason;
  return true;
}

static size_t some(size_t bytes) { return on.most && bytes > on.most ? on.most : bytes; }

static ssize_t pread_or_fail(int fd, void *data, size_t bytes, off_t at) {
  return due(&on.pread) ? -1 : real.pread(fd, data, some(bytes), at);
}

static ssize_t pwrite_or_fail(int fd, const void *data, size_t bytes, off_t at) {
  if (on.takes_nothing) return 0;
  return due(&on.pwrite) ? -1 : real.pwrite(fd, data, some(bytes), at);
}

static int fsync_or_fail(int fd) {
  struct stat info, watched;
  if (fstat(fd, &info) != 0) return -1;
  if (on.watched && stat(on.watched, &watched) == 0 && watched.st_ino == info.st_ino) {
    on.names = entries_in(on.watched);
    on.watched = NULL;
  }
  return due(S_ISDIR(info.st_mode) ? &on.sync_folder : &on.sync) ? -1 : real.fsync(fd);
}

static int close_or_fail(int fd) {
  int failed = real.close(fd);  // Linux closes it in any case
  return due(&on.close) ? -1 : failed;
}

static int rename_or_fail(const char *from, const char *to) {
  return due(&on.rename) ? -1 : real.rename(from, to);
}

static int exchange_or_fail(const char *a, const char *b) {
  return due(&on.exchange) ? -1 : real.exchange(a, b);
}

static int flock_or_fail(int fd, int operation) {
  return due(&on.flock) ? -1 : real.flock(fd, operation);
}

// Everything works again.
static void mend(void) {
  if (!real.pread) real = cft_sys;
  memset(&on, 0, sizeof on);
  cft_sys = (cft_system){pread_or_fail,  pwrite_or_fail,   fsync_or_fail, close_or_fail,
                         rename_or_fail, exchange_or_fail, flock_or_fail};
}

// ---- one file --------------------------------------------------------------------------------

enum { BYTES = 3 << 20 };
static char data[BYTES];

// A new file over the old one fails with that reason, and the folder is as before.
static void expect_old(const char *path, const char *verb, const char *reason) {
  cft_status st = cft_file_write(NULL, path, data, BYTES);
  mend();
  EXPECT_INT(st, CFT_E_IO);
  EXPECT(strstr(cft_last_error(), verb) && strstr(cft_last_error(), path));
  if (!strstr(cft_last_error(), reason)) TEST_FAIL("%s, not %s", cft_last_error(), reason);
  expect_text(path, "good");
}

static const char *old_file(const char *folder) {
  mend();
  const char *path = join(scratch(folder), "x");
  cft_status st = cft_file_write(NULL, path, "good", 4);
  if (st != CFT_OK) fprintf(stderr, "  %s\n", cft_last_error());
  return path;
}

TEST(a_write_fails_half_way) {
  static const int reasons[] = {ENOSPC, EIO, EDQUOT, ESTALE};
  const char *path = old_file("write"), *folder = join(scratch_base, "write");
  for (size_t i = 0; i < sizeof reasons / sizeof *reasons; ++i) {
    on.pwrite = (fault){.times = 1, .reason = reasons[i], .after = 2};
    expect_old(path, "write ", strerror(reasons[i]));
    EXPECT_INT(entries_in(folder), 1);
  }
  on.pwrite = (fault){.times = 1, .reason = ENOSPC, .after = 2};
  EXPECT_FAILS(cft_file_write(NULL, path, data, BYTES), CFT_E_IO, "byte 524288: No space left");
  cft_writer *w;
  EXPECT_OK(cft_writer_new(&w, NULL, path));
  on.pwrite = (fault){.times = 1, .reason = EIO};
  EXPECT_OK(cft_writer_put(w, "small", 5));  // gathered: the commit finds out
  EXPECT_FAILS(cft_writer_commit(w), CFT_E_IO, "Input/output error");
  EXPECT_FAILS(cft_writer_commit(w), CFT_E_IO, "an earlier write failed");
  cft_writer_release(w);
  expect_text(path, "good");
  EXPECT_INT(entries_in(folder), 1);
}

TEST(short_transfers_are_gone_on_with) {
  const char *path = old_file("short"), *folder = join(scratch_base, "short");
  char hex[33], want[33];
  for (size_t i = 0; i < BYTES; ++i) data[i] = (char)(i * i >> 7);
  on.most = 4099;
  EXPECT_OK(cft_file_write(NULL, path, data, BYTES));
  EXPECT_OK(cft_hash_file(hex, path));
  cft_hash(want, data, BYTES);
  EXPECT_STR(hex, want);
  EXPECT_OK(cft_file_write(NULL, path, "good", 4));
  on.takes_nothing = true;  // and gives no reason: this must end
  expect_old(path, "write ", "Input/output error");
  EXPECT_INT(entries_in(folder), 1);
}

TEST(interrupted_calls_are_made_again) {
  const char *path = old_file("again");
  const fault twice = {.times = 2, .reason = EINTR};
  int fd;
  on.pread = on.pwrite = on.sync = on.sync_folder = on.flock = twice;
  on.close = (fault){.times = 1, .reason = EINTR};
  EXPECT_OK(cft_file_write(NULL, path, "better", 6));
  expect_text(path, "better");
  char hex[33], want[33];
  EXPECT_OK(cft_hash_file(hex, path));
  cft_hash(want, "better", 6);
  EXPECT_STR(hex, want);
  EXPECT_OK(cft_lock_take(&fd, join(scratch_base, "again/lock"), false));
  EXPECT(fd >= 0);
  cft_lock_release(&fd);
  EXPECT_INT(on.pread.times + on.pwrite.times + on.sync.times + on.sync_folder.times +
                 on.close.times + on.flock.times,
             0);
  mend();
}

// What a network file system has taken may come back as an error at the very end.
TEST(errors_at_the_end) {
  const char *path = old_file("end"), *folder = join(scratch_base, "end");
  static const int reasons[] = {EIO, ENOSPC, EDQUOT, ESTALE, EBUSY, ETXTBSY};
  for (size_t i = 0; i < sizeof reasons / sizeof *reasons; ++i) {
    on.sync = (fault){.times = 1, .reason = reasons[i]};
    expect_old(path, "sync ", strerror(reasons[i]));
    on.close = (fault){.times = 1, .reason = reasons[i]};
    expect_old(path, "close ", strerror(reasons[i]));
    on.rename = (fault){.times = 1, .reason = reasons[i]};
    expect_old(path, "rename to ", strerror(reasons[i]));
  }
  EXPECT_INT(entries_in(folder), 1);
}

TEST(a_file_by_other_means_is_put_in_place) {
  const char *path = old_file("place"), *folder = join(scratch_base, "place");
  const char *from = join(folder, "x.new");
  const struct {
    fault *which;
    const char *message;
  } faults[] = {{&on.sync, "sync "}, {&on.close, "close "}, {&on.rename, "rename to "}};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; ++i) {
    copy_file(path, from);
    *faults[i].which = (fault){.times = 1, .reason = ENOSPC};
    EXPECT_FAILS(cft_file_replace(from, path), CFT_E_IO, faults[i].message);
    EXPECT(strstr(cft_last_error(), "No space left"));
    expect_text(path, "good");
    EXPECT_INT(entries_in(folder), 1);
  }
  copy_file(path, from);
  EXPECT_OK(cft_file_write(NULL, from, "new", 3));
  on.watched = folder;
  EXPECT_OK(cft_file_replace(from, path));
  EXPECT_INT(on.names, 1);  // the folder was synced, after the rename
  expect_text(path, "new");
  EXPECT_FAILS(cft_file_replace(from, path), CFT_E_IO, "x.new: No such file");
  EXPECT_FAILS(cft_file_replace(folder, path), CFT_E_IO, "is a folder, not a file");
}

TEST(folders_that_cannot_be_synced) {
  const char *path = old_file("folders"), *folder = join(scratch_base, "folders");
  static const int taken[] = {EINVAL, ENOTSUP};
  for (size_t i = 0; i < sizeof taken / sizeof *taken; ++i) {
    on.sync_folder = (fault){.times = 100, .reason = taken[i]};
    EXPECT_OK(cft_file_write(NULL, path, "good", 4));
    EXPECT_OK(cft_folder_sync(folder));
    EXPECT_INT(on.sync_folder.times, 98);
  }
  on.sync_folder = (fault){.times = 1, .reason = EIO};
  EXPECT_FAILS(cft_folder_sync(folder), CFT_E_IO, "folders: Input/output error");
  on.sync_folder = (fault){.times = 1, .reason = EIO};
  EXPECT_FAILS(cft_file_write(NULL, path, "new", 3), CFT_E_IO, "sync ");
  expect_text(path, "new");  // whole, and perhaps not there after a power cut
  EXPECT_INT(entries_in(folder), 1);
  mend();
}

// ---- a folder --------------------------------------------------------------------------------

static cft_status save_text(const char *path, const char *text) {
  cft_save *save;
  CFT_TRY(cft_save_new(&save, path));
  cft_status st;
  CFT_GO(cft_file_write(save, "config.json", text, strlen(text)));
  CFT_GO(cft_file_write(NULL, join(cft_save_folder(save), "ranks/1"), "more", 4));
  CFT_GO(cft_save_commit(save));
out:
  cft_save_release(save);
  return st;
}

// What is told to fail makes the save fail, whether there is an old one to be replaced or not.
static void expect_old_save(const char *folder, const char *message) {
  const char *path = join(folder, "step-1"), *fresh = join(folder, "step-2");
  const size_t bytes = sizeof on;
  char told[sizeof on];
  memcpy(told, &on, bytes);
  cft_status st = save_text(path, "new");
  EXPECT_INT(st, CFT_E_IO);
  if (!strstr(cft_last_error(), message)) TEST_FAIL("%s, not %s", cft_last_error(), message);
  memcpy(&on, told, bytes);
  st = on.exchange.times ? CFT_E_IO : save_text(fresh, "new");  // nothing to exchange it with
  mend();
  EXPECT_INT(st, CFT_E_IO);
  expect_text(join(path, "config.json"), "old");
  EXPECT_OK(cft_save_verify(path));
  EXPECT_INT(entries_in(folder), 1);
}

static const char *old_save(const char *name) {
  mend();
  const char *folder = scratch(name);
  if (save_text(join(folder, "step-1"), "old") != CFT_OK)
    fprintf(stderr, "  %s\n", cft_last_error());
  return folder;
}

TEST(a_save_that_fails_leaves_the_old_one) {
  const char *folder = old_save("save");
  // Files: config.json, ranks/1 by other means and once more for its checksum, the checksums.
  for (int i = 0; i < 4; ++i) {
    on.sync = (fault){.times = 1, .reason = EIO, .after = i};
    expect_old_save(folder, "Input/output error");
  }
  for (int i = 0; i < 3; ++i) {
    on.pwrite = (fault){.times = 1, .reason = ENOSPC, .after = i};
    expect_old_save(folder, "No space left on device");
    on.close = (fault){.times = 1, .reason = EIO, .after = i};
    expect_old_save(folder, "Input/output error");
  }
  on.pread = (fault){.times = 1, .reason = ESTALE};
  expect_old_save(folder, "ranks/1, byte 0: Stale file handle");
  // Of those of the three files, and that of the folder itself.
  static const int busy[] = {EIO, EBUSY, ETXTBSY, ESTALE};
  for (int i = 0; i < 16; ++i) {
    on.rename = (fault){.times = 1, .reason = busy[i / 4], .after = i % 4};
    expect_old_save(folder, "rename to ");
  }
  // ranks (for the file that came by other means, and once more), the folder twice, the one above.
  for (int i = 0; i < 5; ++i) {
    on.sync_folder = (fault){.times = 1, .reason = EIO, .after = i};
    expect_old_save(folder, "sync ");
  }
  on.sync_folder = (fault){.times = 100, .reason = EINVAL};
  EXPECT_OK(save_text(join(folder, "step-1"), "new"));
  on.flock = (fault){.times = 100, .reason = ENOLCK};
  EXPECT_OK(save_text(join(folder, "step-1"), "newer"));
  expect_text(join(folder, "step-1/config.json"), "newer");
  mend();
}

// The names must be on the disk before the old one goes: a power cut in between would leave
// neither.
TEST(the_old_save_stays_until_the_new_one_is_synced) {
  const char *folder = old_save("order");
  on.watched = folder;
  EXPECT_OK(save_text(join(folder, "step-1"), "new"));
  EXPECT_INT(on.names, 2);
  EXPECT_INT(entries_in(folder), 1);
  expect_text(join(folder, "step-1/config.json"), "new");
  mend();
}

TEST(file_systems_without_an_exchange) {
  static const int reasons[] = {EINVAL, ENOSYS};
  const char *folder = old_save("exchange");
  on.exchange = (fault){.times = 1, .reason = EIO};
  expect_old_save(folder, "rename to ");
  for (size_t i = 0; i < sizeof reasons / sizeof *reasons; ++i) {
    // After the renames of three files: the one that finds the old folder there, the old one aside,
    // the new one in, the old one to where it is removed.
    for (int n = 1; n <= 3; ++n) {
      on.exchange = (fault){.times = 100, .reason = reasons[i]};
      on.rename = (fault){.times = 1, .reason = EIO, .after = 3 + n};
      expect_old_save(folder, "Input/output error");
    }
    on.exchange = (fault){.times = 100, .reason = reasons[i]};
    on.sync_folder = (fault){.times = 1, .reason = EIO, .after = 4};
    expect_old_save(folder, "sync ");
    on.exchange = (fault){.times = 1, .reason = reasons[i]};
    EXPECT_OK(save_text(join(folder, "step-1"), "old"));
    mend();
    on.exchange = (fault){.times = 1, .reason = reasons[i]};
    on.rename = (fault){.times = 1, .reason = EPERM, .after = 3};  // as sshfs says that a folder is there
    EXPECT_OK(save_text(join(folder, "step-1"), "old"));
    EXPECT_OK(cft_save_verify(join(folder, "step-1")));
    EXPECT_INT(entries_in(folder), 1);
  }
  // Nothing can be put back: the message says where things are.
  on.exchange = (fault){.times = 1, .reason = ENOSYS};
  on.rename = (fault){.times = 100, .reason = EIO, .after = 5};
  EXPECT_FAILS(save_text(join(folder, "step-1"), "new"), CFT_E_IO, "the old folder is now");
  mend();
  EXPECT_OK(cft_save_verify(join(folder, "step-1.replaced")));
}

// ---- reading and locks -----------------------------------------------------------------------

TEST(a_file_goes_stale_while_it_is_read) {
  const char *folder = old_save("stale"), *path = join(folder, "lines.jsonl");
  char hex[33];
  on.pread = (fault){.times = 1, .reason = ESTALE};
  EXPECT_FAILS(cft_save_verify(join(folder, "step-1")), CFT_E_IO, "Stale file handle");
  EXPECT(strstr(cft_last_error(), "step-1/config.json"));
  EXPECT_OK(cft_file_write(NULL, path, "{\"a\":1}\n{\"a\":2}\n", 16));
  on.pread = (fault){.times = 1, .reason = ESTALE};
  EXPECT_FAILS(cft_hash_file(hex, path), CFT_E_IO, "lines.jsonl, byte 0: Stale file handle");

  cft_records *r;
  cft_record record;
  on.pread = (fault){.times = 1, .reason = EIO};
  EXPECT_FAILS(cft_records_open(&r, path, CFT_RECORDS_AUTO), CFT_E_IO,
               "lines.jsonl, byte 0: Input/output error");
  on.most = 3;
  EXPECT_OK(cft_records_open(&r, path, CFT_RECORDS_AUTO));
  on.pread = (fault){.times = 1, .reason = ESTALE};
  EXPECT_FAILS(cft_records_get(r, 1, &record), CFT_E_IO, "lines.jsonl, byte 8: Stale file handle");
  EXPECT_OK(cft_records_get(r, 1, &record));  // it may come back
  EXPECT_STR(record.text, "{\"a\":2}");
  cut_file(path, 12);
  EXPECT_FAILS(cft_records_get(r, 1, &record), CFT_E_IO, "byte 12: the file is shorter");
  cft_records_release(r);
  mend();
}

// In a process of its own: what is lost stays lost.
static int read_a_shortened_file(const char *path) {
  cft_map *m, *other;
  if (cft_map_open(&m, path) != CFT_OK || cft_map_open(&other, join(scratch_base, "shrinks/b")) != CFT_OK) return 1;
  const volatile char *bytes = cft_map_data(m), *others = cft_map_data(other);
  if (bytes[0] != 'x' || bytes[300000] != 'x' || cft_mapping_check() != CFT_OK) return 2;
  cut_file(path, 5000);
  if (bytes[0] != 'x' || bytes[4999] != 'x') return 3;
  if (bytes[250000] != 0 || bytes[299999] != 0 || bytes[8192] != 0) return 4;
  if (cft_mapping_check() != CFT_E_IO || !strstr(cft_last_error(), "shrinks/a: became shorter")) return 5;
  if (others[250000] != 'x') return 6;
  cft_map_release(m);
  cft_map_release(other);
  if (cft_map_open(&m, path) != CFT_OK) return 7;
  bytes = cft_map_data(m);
  if (bytes[4999] != 'x' || cft_map_bytes(m) != 5000) return 8;
  cft_map_release(m);
  *(volatile char *)mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
  return 9;
}

// The page that a file ends in raises no signal: it has the rest of it as zeros.
static int look_at_a_shortened_file(const char *path) {
  cft_map *m;
  if (cft_map_open(&m, path) != CFT_OK || cft_mapping_check() != CFT_OK) return 1;
  cut_file(path, 300000);
  return cft_mapping_check() == CFT_E_IO && cft_mapping_lost() ? 0 : 2;
}

TEST(mapped_files_that_are_shortened) {
  mend();
  const char *folder = scratch("shrinks");
  memset(data, 'x', BYTES);
  EXPECT_OK(cft_file_write(NULL, join(folder, "a"), data, 300001));
  EXPECT_OK(cft_file_write(NULL, join(folder, "b"), data, 300001));
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGSEGV, SIG_DFL);
    _exit(read_a_shortened_file(join(folder, "a")));
  }
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid);
  if (WIFEXITED(status)) TEST_FAIL("ended with %d", WEXITSTATUS(status));
  EXPECT_INT(WTERMSIG(status), SIGSEGV);  // what is no file's end is as ever
  pid = fork();
  if (pid == 0) _exit(look_at_a_shortened_file(join(folder, "b")));
  EXPECT(waitpid(pid, &status, 0) == pid);
  EXPECT_INT(status, 0);
  EXPECT_OK(cft_mapping_check());
}

TEST(locks) {
  mend();
  const char *path = join(scratch("locks"), "lock");
  int a, b, c;
  EXPECT_OK(cft_lock_take(&a, path, false));
  EXPECT(a >= 0);
  EXPECT_OK(cft_lock_take(&b, path, false));
  EXPECT_INT(b, -1);
  EXPECT_OK(cft_lock_take(&b, path, true));
  EXPECT_INT(b, -1);
  EXPECT_INT(unlink(path), 0);  // what `a` holds is nothing that others see
  EXPECT_OK(cft_lock_take(&b, path, true));
  EXPECT(b >= 0);
  EXPECT_OK(cft_lock_take(&c, path, true));
  EXPECT(c >= 0);
  cft_lock_release(&a);
  cft_lock_release(&a);
  EXPECT_OK(cft_lock_take(&a, path, false));
  EXPECT_INT(a, -1);
  cft_lock_release(&b);
  cft_lock_release(&c);
  EXPECT_FAILS(cft_lock_take(&a, join(path, "x"), false), CFT_E_IO, "lock/x: Not a directory");
  EXPECT_INT(a, -1);
}

// A process that takes the lock and is killed with it.
static void die_with_lock(const char *path) {
  fflush(NULL);
  pid_t pid = fork();
  int fd, status;
  if (pid == 0) _exit(cft_lock_take_or_make(&fd, path) == CFT_OK && fd >= 0 ? 0 : 1);
  EXPECT(waitpid(pid, &status, 0) == pid);
  EXPECT_INT(status, 0);
}

TEST(file_systems_without_locks) {
  static const int none[] = {ENOLCK, ENOSYS, EOPNOTSUPP};
  mend();
  const char *path = join(scratch("nolocks"), "lock"), *held = join(scratch_base, "nolocks/lock.holder");
  int fd, other;
  for (size_t i = 0; i < sizeof none / sizeof *none; ++i) {
    on.flock = (fault){.times = 100, .reason = none[i]};
    EXPECT_FAILS(cft_lock_take(&fd, path, i & 1), CFT_E_UNSUPPORTED, "this file system has no locks");
    EXPECT(strstr(cft_last_error(), path));
    EXPECT_INT(fd, -1);
    EXPECT_OK(cft_lock_take_or_make(&fd, path));
    EXPECT(fd >= 0 && access(held, F_OK) == 0);
    EXPECT_OK(cft_lock_take_or_make(&other, path));  // whoever has it, this process too
    EXPECT_INT(other, -1);
    EXPECT(strstr(cft_lock_holder(), "process "));
    cft_lock_release(&fd);
    EXPECT(access(held, F_OK) != 0);
    die_with_lock(path);
    if (TEST_FAILED()) return;
    EXPECT(access(held, F_OK) == 0);
    EXPECT_OK(cft_lock_take_or_make(&fd, path));  // its process is gone, and was of this machine
    EXPECT(fd >= 0);
    cft_lock_release(&fd);
    EXPECT_OK(cft_file_write(NULL, held, "cft-lock node7 12 345\n", 22));
    EXPECT_OK(cft_lock_take_or_make(&fd, path));
    EXPECT_INT(fd, -1);
    EXPECT(strstr(cft_lock_holder(), "process 12 on node7; this file system has no locks; if it is gone, remove "));
    EXPECT(strstr(cft_lock_holder(), held));
    EXPECT_OK(cft_path_remove(held));
  }
  on.flock = (fault){.times = 1, .reason = EIO};
  EXPECT_FAILS(cft_lock_take_or_make(&fd, path), CFT_E_IO, "nolocks/lock: Input/output error");
  EXPECT_INT(fd, -1);
  mend();
}

TEST(a_lock_says_who_has_it) {
  mend();
  const char *path = join(scratch("who"), "lock");
  int a, b;
  EXPECT_OK(cft_lock_take(&a, path, false));
  EXPECT_OK(cft_lock_take(&b, path, false));
  EXPECT_INT(b, -1);
  char want[64];
  snprintf(want, sizeof want, "process %ld on ", (long)getpid());
  EXPECT(strstr(cft_lock_holder(), want) == cft_lock_holder());
  cft_lock_release(&a);
  EXPECT_OK(cft_file_write(NULL, path, "somebody's words", 16));
  EXPECT_OK(cft_lock_take(&a, path, false));
  expect_text(path, "somebody's words");
  cft_lock_release(&a);
}

// The clock of this machine says nothing of the age of what others left: that of the file system does.
TEST(clocks_that_jump) {
  mend();
  const char *folder = scratch("clock"), *litter = join(folder, "step-1.cft-tmp-aaaaaa");
  struct timespec times[2] = {{0}, {0}};
  cft_save *save;
  static const struct {
    int age;
    int64_t left;
  } cases[] = {{3600, 1}, {5, 2}, {-86400, 2}};  // seconds ago; what stays beside the new folder
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    EXPECT_OK(cft_folder_make(litter));
    times[0].tv_sec = times[1].tv_sec = time(NULL) - cases[i].age;
    EXPECT_INT(utimensat(AT_FDCWD, litter, times, 0), 0);
    EXPECT_OK(cft_save_new(&save, join(folder, "step-1")));
    EXPECT_INT(entries_in(folder), cases[i].left);
    cft_save_release(save);
  }
}

// ---- a file that is fetched ------------------------------------------------------------------

static cft_status fetch(const char *path) {
  char hex[CFT_DIGEST_ROOM];
  cft_digest *d = NULL;
  cft_part *p = NULL;
  bool locked, whole, more = true, right = false;
  const char *found;
  cft_status st;
  CFT_GO(cft_digest_new(&d, CFT_DIGEST_SHA256, BYTES));
  CFT_GO(cft_digest_put(d, data, BYTES));
  CFT_GO(cft_digest_end(d, hex));
  cft_download what = {
      .path = path, .lock = join(scratch_base, "lock"), .digest = hex, .bytes = BYTES};
  CFT_GO(cft_part_new(&p, &what));
  CFT_GO(cft_part_lock(p, &locked, &whole));
  if (!locked || whole) CFT_GO(cft_fail(CFT_E_STATE, "the lock, or the file, is there"));
  while (more) CFT_GO(cft_part_read(p, &more));
  int64_t at = cft_part_bytes(p);
  CFT_GO(cft_part_put(p, data + at, (size_t)(BYTES - at)));
  CFT_GO(cft_part_finish(p, &right, &found));
  if (!right) st = cft_fail(CFT_E_FORMAT, "%s is not its checksum", found);
out:
  cft_part_release(p);
  cft_digest_release(d);
  return st;
}

TEST(a_fetched_file_that_cannot_be_kept) {
  mend();
  const char *folder = scratch("fetched"), *path = join(folder, "blob");
  on.sync = (fault){.times = 1, .reason = EIO};
  EXPECT_FAILS(fetch(path), CFT_E_IO, "blob.incomplete: Input/output error");
  EXPECT_INT(entries_in(folder), 0);  // a next try must not take what the disk may have lost
  on.pwrite = (fault){.times = 1, .reason = ENOSPC};
  EXPECT_FAILS(fetch(path), CFT_E_IO, "blob.incomplete, byte 0: No space left");
  EXPECT_INT(cft_download_begun(path), 0);
  on.rename = (fault){.times = 1, .reason = EIO};
  EXPECT_FAILS(fetch(path), CFT_E_IO, "rename to ");
  EXPECT_INT(cft_path_look(path, NULL), CFT_PATH_NONE);
  EXPECT_INT(cft_download_begun(path), BYTES);
  cut_file(join(folder, "blob.incomplete"), BYTES / 2);
  on.pread = (fault){.times = 1, .reason = ESTALE};
  EXPECT_FAILS(fetch(path), CFT_E_IO, "blob.incomplete, byte 0: Stale file handle");
  on.flock = (fault){.times = 1, .reason = ENOLCK};  // goes on without
  on.most = 100001;
  EXPECT_OK(fetch(path));
  EXPECT_INT(entries_in(folder), 1);
  EXPECT_FAILS(fetch(path), CFT_E_STATE, "is there");
  mend();
}

TEST(a_link_that_cannot_be_renamed) {
  mend();
  const char *folder = scratch("link"), *path = join(folder, "to");
  char target[16] = "";
  EXPECT_OK(cft_link_replace("old", path));
  on.rename = (fault){.times = 1, .reason = EIO};
  EXPECT_FAILS(cft_link_replace("new", path), CFT_E_IO, "to: Input/output error");
  EXPECT(readlink(path, target, sizeof target) == 3 && memcmp(target, "old", 3) == 0);
  EXPECT_INT(entries_in(folder), 1);
}

TEST_MAIN()
