// ras.cpp - a greeting, a question, an answer, one connection after the other.
#include "ras.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace {

// The next line, without its end; false where the other side has gone.
bool line_of(int fd, std::string *line) {
  line->clear();
  for (char c; recv(fd, &c, 1, 0) == 1;) {
    if (c == '\n') return true;
    *line += c;
  }
  return false;
}

void say(int fd, const std::string &text) { (void)!send(fd, text.data(), text.size(), MSG_NOSIGNAL); }

void answer(int fd, const std::function<std::string()> &status) {
  std::string line;
  while (line_of(fd, &line)) {
    if (strncasecmp(line.c_str(), "client protocol ", 16) == 0) {
      say(fd, "SERVER PROTOCOL 2\n");
    } else if (strcasecmp(line.c_str(), "verbose status") == 0) {
      say(fd, status());
      return;
    } else {
      say(fd, "ERROR: Unknown command " + line + "\n");
    }
  }
}

int listener() {
  const char *set = getenv("NCCL_RAS_ADDR"), *colon = set ? strrchr(set, ':') : nullptr;
  if (!colon) return -1;
  sockaddr_in at = {};
  at.sin_family = AF_INET;
  at.sin_port = htons((uint16_t)atoi(colon + 1));
  const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (inet_pton(AF_INET, std::string(set, colon).c_str(), &at.sin_addr) == 1 &&
      bind(fd, (sockaddr *)&at, sizeof at) == 0 && listen(fd, 16) == 0)
    return fd;
  close(fd);
  return -1;
}

}  // namespace

void standin_ras_listen(std::function<std::string()> status) {
  static const int fd = listener();
  static bool begun;
  if (fd < 0 || begun) return;
  begun = true;
  std::thread([status] {
    for (int asking; (asking = accept(fd, nullptr, nullptr)) >= 0; close(asking)) answer(asking, status);
  }).detach();
}
