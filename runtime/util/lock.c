// lock.c - a file that one process holds, or several share, for as long as they live.
//
// The lock is the kernel's (flock), which ends with its process, however that ends. On a file system
// without locks a file beside it, PATH.holder, can stand for one: it is made where there is none, and says
// who has it. From a holder of this machine that is gone, by its process id and start,
// it is taken over; whether one of another machine is gone is never guessed: whoever knows removes the file.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "util/file.h"

enum { LINE = 512 };

// Holder files of this process, by descriptor.
static struct held {
  int fd;
  char *path;
  struct held *next;
} * held;
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;

static _Thread_local char holder[LINE];  // of the lock that was busy last

const char *cft_lock_holder(void) { return holder; }

// When a process began, in ticks since its machine did; 0 where there is none, or no /proc.
static unsigned long long start_of(long pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%ld/stat", pid);
  FILE *file = fopen(path, "r");
  size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
  if (file) fclose(file);
  text[n] = '\0';
  const char *p = strrchr(text, ')');  // behind the name, which may hold anything
  for (int field = 2; p && field < 22; ++field) p = strchr(p + 1, ' ');
  return p ? strtoull(p, NULL, 10) : 0;
}

static void describe_self(char line[LINE]) {
  struct utsname host;
  if (uname(&host) != 0) snprintf(host.nodename, sizeof host.nodename, "?");
  snprintf(line, LINE, "cft-lock %s %ld %llu\n", host.nodename, (long)getpid(),
           start_of((long)getpid()));
}

// Who the file says has it: "process 12 on host", or "" where it says nothing.
static void read_holder(int fd) {
  char line[LINE] = "", host[256] = "";
  long pid = 0;
  ssize_t n = pread(fd, line, sizeof line - 1, 0);
  line[n > 0 ? n : 0] = '\0';
  holder[0] = '\0';
  if (sscanf(line, "cft-lock %255s %ld", host, &pid) == 2)
    snprintf(holder, sizeof holder, "process %ld on %s", pid, host);
}

// Say in the locked file who has it; a file that holds anything else is left alone.
static void write_holder(int fd) {
  char line[LINE], there[16] = "";
  ssize_t n = pread(fd, there, sizeof there - 1, 0);
  if (n > 0 && strncmp(there, "cft-lock ", 9) != 0) return;
  describe_self(line);
  ssize_t put = pwrite(fd, line, strlen(line), 0);  // it is for people: without it the lock holds too
  if (put > 0 && ftruncate(fd, put) != 0) errno = 0;
}

// Somebody may have removed the file while it was waited for, as those do who tidy a cache: what is
// locked then is nothing that others see.
static bool is_at(int fd, const char *path) {
  struct stat one, named;
  return fstat(fd, &one) == 0 && stat(path, &named) == 0 && one.st_ino == named.st_ino &&
         one.st_dev == named.st_dev;
}

// ---- without locks of the kernel -----------------------------------------------------------

// Is the holder that the file names surely gone? Only of this machine can that be known.
static bool is_gone(const char *line) {
  char host[256];
  long pid;
  unsigned long long start;
  struct utsname here;
  if (sscanf(line, "cft-lock %255s %ld %llu", host, &pid, &start) != 3) return false;
  if (uname(&here) != 0 || strcmp(here.nodename, host) != 0 || access("/proc/self/stat", R_OK) != 0)
    return false;
  return pid == (long)getpid() || start_of(pid) != start;  // our own is in the list of those held
}

static bool is_held_here(const char *path) {
  pthread_mutex_lock(&held_lock);
  const struct held *h = held;
  while (h && strcmp(h->path, path) != 0) h = h->next;
  pthread_mutex_unlock(&held_lock);
  return h != NULL;
}

static cft_status keep(int fd, char *path) {
  struct held *h = malloc(sizeof *h);
  if (!h) return cft_fail(CFT_E_OOM, "lock %s: out of memory", path);
  pthread_mutex_lock(&held_lock);
  *h = (struct held){fd, path, held};
  held = h;
  pthread_mutex_unlock(&held_lock);
  return CFT_OK;
}

// Take `path`, a holder file; *out is -1 where somebody has it.
static cft_status take_file(int *out, char *path) {
  char line[LINE];
  for (int again = 0; again < 3; ++again) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
      describe_self(line);
      cft_status st = cft_file_write_all(fd, path, 0, line, strlen(line));
      if (st == CFT_OK) st = cft_file_sync(fd, path);
      if (st == CFT_OK) st = keep(fd, path);
      if (st == CFT_OK) {
        *out = fd;
        return CFT_OK;
      }
      close(fd);
      unlink(path);
      return st;
    }
    if (errno != EEXIST) return cft_file_fail("open", path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) continue;  // it went meanwhile
    ssize_t n = pread(fd, line, sizeof line - 1, 0);
    line[n > 0 ? n : 0] = '\0';
    read_holder(fd);
    close(fd);
    if (is_held_here(path) || !is_gone(line)) break;
    if (unlink(path) != 0 && errno != ENOENT) return cft_file_fail("remove", path);
  }
  size_t used = strlen(holder);
  snprintf(holder + used, sizeof holder - used, "%sthis file system has no locks; if it is gone, remove %s",
           used ? "; " : "", path);
  free(path);
  return CFT_OK;
}

// ---- the lock ------------------------------------------------------------------------------

cft_status cft_lock_take(int *out, const char *path, bool shared) {
  *out = -1;
  holder[0] = '\0';
  for (;;) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666), failed;
    if (fd < 0) return cft_file_fail("open", path);
    do failed = cft_sys.flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
    while (failed && errno == EINTR);
    if (!failed && is_at(fd, path)) {
      if (!shared) write_holder(fd);
      *out = fd;
      return CFT_OK;
    }
    int reason = errno;
    if (failed) read_holder(fd);
    close(fd);
    errno = reason;
    if (!failed) continue;
    if (reason == EWOULDBLOCK) return CFT_OK;
    holder[0] = '\0';
    bool none = reason == ENOSYS || reason == EOPNOTSUPP || reason == ENOLCK;
    if (!none) return cft_file_fail("lock", path);
    return cft_fail(CFT_E_UNSUPPORTED, "lock %s: this file system has no locks: %s", path,
                    strerror(reason));
  }
}

cft_status cft_lock_take_or_make(int *out, const char *path) {
  cft_status st = cft_lock_take(out, path, false);
  if (st != CFT_E_UNSUPPORTED) return st;
  char *file = cft_format("%s.holder", path);
  if (!file) return cft_fail(CFT_E_OOM, "lock %s: out of memory", path);
  st = take_file(out, file);
  if (st != CFT_OK) free(file);
  return st;
}

void cft_lock_release(int *fd) {
  pthread_mutex_lock(&held_lock);
  for (struct held **h = &held; *fd >= 0 && *h; h = &(*h)->next) {
    if ((*h)->fd != *fd) continue;
    struct held *gone = *h;
    *h = gone->next;
    unlink(gone->path);
    free(gone->path);
    free(gone);
    break;
  }
  pthread_mutex_unlock(&held_lock);
  if (*fd >= 0) close(*fd);
  *fd = -1;
}
