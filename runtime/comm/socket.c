// socket.c - TCP between ranks: where this host is, a port, a connection.
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "comm/socket.h"

double cft_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool cft_same_bytes(const char *a, const char *b, size_t bytes) {
  unsigned char different = 0;
  for (size_t i = 0; i < bytes; ++i) different |= (unsigned char)(a[i] ^ b[i]);
  return different == 0;
}

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

// A numeric address and a port, for bind or connect; 0 where the text is no address.
static socklen_t address_of(struct sockaddr_storage *to, const char *address, int port) {
  *to = (struct sockaddr_storage){0};
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
  struct sockaddr_in *four = (struct sockaddr_in *)to;
  if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons((uint16_t)port);
    return sizeof *six;
  }
  *to = (struct sockaddr_storage){0};
  if (inet_pton(AF_INET, address, &four->sin_addr) != 1) return 0;
  four->sin_family = AF_INET;
  four->sin_port = htons((uint16_t)port);
  return sizeof *four;
}

cft_status cft_listen_at(int *listener, const char *address, int port) {
  const char *any[] = {"::", "0.0.0.0"};  // the second one for a host without IPv6
  int on = 1, off = 0;
  *listener = -1;
  for (int i = 0; i < (address ? 1 : 2) && *listener < 0; ++i) {
    struct sockaddr_storage at;
    socklen_t n = address_of(&at, address ? address : any[i], port);
    int fd = n ? socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    if (fd < 0) continue;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (struct sockaddr *)&at, n) == 0 && listen(fd, SOMAXCONN) == 0) {
      *listener = fd;
    } else {
      int reason = errno;
      close(fd);
      if (reason == EADDRINUSE) return cft_fail(CFT_E_IO, "cannot listen: %s", strerror(reason));
    }
  }
  return *listener >= 0 ? CFT_OK : cft_fail(CFT_E_IO, "cannot listen: %s", strerror(errno));
}

int cft_addresses_of(const char *host, char (*to)[64], int most) {
  struct addrinfo like = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
  int count = 0;
  if (getaddrinfo(host, NULL, &like, &list) != 0) return 0;
  for (struct addrinfo *i = list; i && count < most; i = i->ai_next)
    if (getnameinfo(i->ai_addr, i->ai_addrlen, to[count], sizeof to[count], NULL, 0,
                    NI_NUMERICHOST) == 0)
      ++count;
  freeaddrinfo(list);
  return count;
}

bool cft_is_loopback(const char *address) {
  return strcmp(address, "::1") == 0 || strncmp(address, "127.", 4) == 0;
}

void cft_local_address(int fd, char *to, size_t room) {
  struct sockaddr_storage at;
  socklen_t n = sizeof at;
  char text[64] = "";
  if (getsockname(fd, (struct sockaddr *)&at, &n) == 0)
    getnameinfo((struct sockaddr *)&at, n, text, sizeof text, NULL, 0, NI_NUMERICHOST);
  const char *four = strncmp(text, "::ffff:", 7) == 0 && strchr(text, '.') ? text + 7 : text;
  snprintf(to, room, "%s", four);  // an IPv4 address that came to a socket of IPv6
}

int cft_connect(const char *address, int port, double seconds) {
  struct sockaddr_storage to;
  socklen_t bytes = address_of(&to, address, port);
  if (bytes == 0) {
    errno = EINVAL;
    return -1;
  }
  int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  int error = 0;
  socklen_t n = sizeof error;
  if (connect(fd, (struct sockaddr *)&to, bytes) != 0) {
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
