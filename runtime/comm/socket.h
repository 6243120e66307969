// socket.h - TCP between ranks. Sockets do not block, and are closed in programs that are started
// from here.
#ifndef CFT_COMM_SOCKET_H
#define CFT_COMM_SOCKET_H

#include "base.h"

// Addresses of this host, separated by spaces, those that only this host can reach last. What does
// not fit is left out.
void cft_own_addresses(char *to, size_t room);

// Listen on a free port of all addresses. *listener is the caller's, -1 or to be closed also where
// this fails. E_IO.
cft_status cft_listen(int *listener, int *port);

// Connect to an IPv4 or IPv6 address within so many seconds. A socket, which is the caller's; or
// -1, and errno.
int cft_connect(const char *address, int port, double seconds);

#endif
