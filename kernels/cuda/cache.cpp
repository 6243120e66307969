// cache.cpp - the folder of what is worth keeping from run to run: algorithms that were timed,
// plans that were compiled. Losing it costs a minute of a run, so no failure here is an error.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "host.h"

static bool make_folders(std::string path) {
  for (size_t at = 1; at <= path.size(); at++) {
    if (at < path.size() && path[at] != '/') continue;
    const char kept = path[at];
    path[at] = 0;
    const bool made = mkdir(path.c_str(), 0777) == 0 || errno == EEXIST;
    path[at] = kept;
    if (!made) return false;
  }
  return true;
}

bool cache_path(char *path, size_t bytes, const char *file) {
  const char *ours = getenv("CFT_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  std::string folder;
  if (ours && *ours)
    folder = ours;
  else if (xdg && *xdg)
    folder = std::string(xdg) + "/cft";
  else if (home && *home)
    folder = std::string(home) + "/.cache/cft";
  else
    return false;
  folder += "/cuda";
  std::string name = file;  // a GPU's name holds spaces, and may hold anything
  for (char &c : name)
    if (!(('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9') || c == '.'))
      c = '-';
  return make_folders(folder) &&
         (size_t)snprintf(path, bytes, "%s/%s", folder.c_str(), name.c_str()) < bytes;
}

bool cache_read(std::string *text, const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) return false;
  text->clear();
  char part[65536];
  for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) text->append(part, n);
  const bool whole = !ferror(f);
  fclose(f);
  return whole;
}

bool cache_write(const char *path, const std::string &text) {
  const std::string fresh = std::string(path) + "." + std::to_string(getpid());
  FILE *f = fopen(fresh.c_str(), "wb");
  if (!f) return false;
  const bool written = fwrite(text.data(), 1, text.size(), f) == text.size();
  const bool done = fclose(f) == 0 && written && rename(fresh.c_str(), path) == 0;
  if (!done) unlink(fresh.c_str());
  return done;
}

bool cache_append(const char *path, const std::string &line) {
  const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return false;
  const ssize_t n = write(fd, line.data(), line.size());
  return close(fd) == 0 && n == (ssize_t)line.size();
}
