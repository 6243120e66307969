// socket.h - TCP between ranks. Sockets do not block, and are closed in programs that are started
// from here.
#ifndef CFT_COMM_SOCKET_H
#define CFT_COMM_SOCKET_H

#include <stdbool.h>

#include "base.h"

// Seconds of a clock that nobody sets.
double cft_now(void);

// In constant time: how far two secrets of so many bytes agree is nobody's business.
bool cft_same_bytes(const char *a, const char *b, size_t bytes);

// Addresses of this host, separated by spaces, those that only this host can reach last. What does
// not fit is left out.
void cft_own_addresses(char *to, size_t room);

// Listen on a free port of all addresses. *listener is the caller's, -1 or to be closed also where
// this fails. E_IO.
cft_status cft_listen(int *listener, int *port);

// The same at a port of one address, or of all where it is NULL. *listener stays -1 where this
// fails.
cft_status cft_listen_at(int *listener, const char *address, int port);

// The addresses of a host, by its name or as it stands; how many there are, at most `most`.
int cft_addresses_of(const char *host, char (*to)[64], int most);

// Does an address reach this host alone?
bool cft_is_loopback(const char *address);

// The address of this end of a connection.
void cft_local_address(int fd, char *to, size_t room);

// Connect to an IPv4 or IPv6 address within so many seconds. A socket, which is the caller's; or
// -1, and errno.
int cft_connect(const char *address, int port, double seconds);

#endif
