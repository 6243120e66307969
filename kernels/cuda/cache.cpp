// cache.cpp - the folder of what is worth keeping from run to run: algorithms that were timed,
// plans that were compiled. Losing it costs a minute of a run, so no failure here is an error.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "host.h"

bool cache_path(char *path, size_t bytes, const char *file) {
  char cache[4096];
  if (!cft_cache_folder(cache, sizeof cache)) return false;
  const std::string folder = std::string(cache) + "/cuda";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::string name = file;  // a GPU's name holds spaces, and may hold anything
  for (char &c : name)
    if (!(('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9') || c == '.'))
      c = '-';
  return !error && (size_t)snprintf(path, bytes, "%s/%s", folder.c_str(), name.c_str()) < bytes;
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
