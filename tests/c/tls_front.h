// tls_front.h - TLS in front of a port of this machine, with a certificate of its own for
// "localhost".
#ifndef CFT_TEST_TLS_FRONT_H
#define CFT_TEST_TLS_FRONT_H

typedef struct tls_front tls_front;

// What comes in is handed on to 127.0.0.1:PORT. The certificate is written to a file, for those who
// are to trust it. NULL where something fails.
tls_front *tls_front_start(int port, const char *certificate);
int tls_front_port(const tls_front *f);
void tls_front_stop(tls_front *f);

#endif
