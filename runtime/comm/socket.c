// socket.c - TCP between ranks: where this host is, a port, a connection.
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/socket.h"

void cft_own_addresses(char *to, size_t room) {
  struct ifaddrs *list = NULL;
  size_t at = 0;
  to[0] = 0;
  if (getifaddrs(&list) != 0) list = NULL;
  for (int loopback = 0; loopback < 2; ++loopback)
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
      if (!i->ifa_addr || !(i->ifa_flags & IFF_UP)) continue;
      if (!!(i->ifa_flags & IFF_LOOPBACK) != loopback) continue;
      char text[INET6_ADDRSTRLEN] = "";
      if (i->ifa_addr->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((struct sockaddr_in *)i->ifa_addr)->sin_addr, text, sizeof text);
      } else if (i->ifa_addr->sa_family == AF_INET6) {
        const struct in6_addr *a = &((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(a)) continue;  // means nothing without an interface
        inet_ntop(AF_INET6, a, text, sizeof text);
      }
      if (!text[0] || at + strlen(text) + 2 > room) continue;
      at += (size_t)snprintf(to + at, room - at, "%s%s", at ? " " : "", text);
    }
  if (list) freeifaddrs(list);
}

cft_status cft_listen(int *listener, int *port) {
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
  struct sockaddr_in four = {.sin_family = AF_INET};
  int off = 0;
  *listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (*listener >= 0) setsockopt(*listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (*listener < 0 || bind(*listener, (struct sockaddr *)&six, sizeof six) != 0) {
    if (*listener >= 0) close(*listener);  // a host without IPv6
    *listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*listener < 0 || bind(*listener, (struct sockaddr *)&four, sizeof four) != 0)
      return cft_fail(CFT_E_IO, "no port to listen on: %s", strerror(errno));
  }
  struct sockaddr_storage at;
  socklen_t n = sizeof at;
  if (listen(*listener, SOMAXCONN) != 0 || getsockname(*listener, (struct sockaddr *)&at, &n) != 0)
    return cft_fail(CFT_E_IO, "cannot listen: %s", strerror(errno));
  *port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                         : ((struct sockaddr_in *)&at)->sin_port);
  return CFT_OK;
}

int cft_connect(const char *address, int port, double seconds) {
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  bool is_six = inet_pton(AF_INET6, address, &six.sin6_addr) == 1;
  if (!is_six && inet_pton(AF_INET, address, &four.sin_addr) != 1) {
    errno = EINVAL;
    return -1;
  }
  int fd = socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  int error = 0;
  socklen_t n = sizeof error;
  const struct sockaddr *to = is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four;
  if (connect(fd, to, is_six ? sizeof six : sizeof four) != 0) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (errno != EINPROGRESS)
      error = errno;
    else if (poll(&p, 1, seconds > 0 ? (int)(1000 * seconds) : 0) <= 0)
      error = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
      error = errno;
  }
  if (error == 0) return fd;
  close(fd);
  errno = error;
  return -1;
}
