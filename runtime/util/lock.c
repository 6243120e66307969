// lock.c - a file that one process holds, or several share, for as long as they live.
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/file.h"

// Somebody may have removed the file while it was waited for, as those do who tidy a cache: what is
// locked then is nothing that others see.
static bool is_at(int fd, const char *path) {
  struct stat held, named;
  return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
         held.st_dev == named.st_dev;
}

cft_status cft_lock_take(int *out, const char *path, bool shared) {
  *out = -1;
  for (;;) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666), failed;
    if (fd < 0) return cft_file_fail("open", path);
    do failed = cft_sys.flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
    while (failed && errno == EINTR);
    if (!failed && is_at(fd, path)) {
      *out = fd;
      return CFT_OK;
    }
    int reason = errno;
    close(fd);
    errno = reason;
    if (!failed) continue;
    if (reason == EWOULDBLOCK) return CFT_OK;
    bool none = reason == ENOSYS || reason == EOPNOTSUPP || reason == ENOLCK;
    if (!none) return cft_file_fail("lock", path);
    return cft_fail(CFT_E_UNSUPPORTED, "lock %s: this file system has no locks: %s", path,
                    strerror(reason));
  }
}

void cft_lock_release(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}
