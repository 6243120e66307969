// tls_front.c - see tls_front.h. A thread a connection.
#include "tls_front.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct tls_front {
  SSL_CTX *context;
  int listener, port, behind;
  pthread_t thread;
  atomic_bool stopping;
  atomic_int connections;
};

typedef struct visit {
  tls_front *front;
  int fd;
} visit;

// A key, and a certificate for "localhost" that it signs itself.
static bool make_certificate(SSL_CTX *context, const char *path) {
  EVP_PKEY *key = EVP_EC_gen("P-256");
  X509 *x = X509_new();
  X509_NAME *name = X509_get_subject_name(x);
  X509_EXTENSION *host = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
  X509_set_version(x, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
  X509_gmtime_adj(X509_getm_notBefore(x), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x), 3600);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                             0);
  X509_set_issuer_name(x, name);
  X509_set_pubkey(x, key);
  X509_add_ext(x, host, -1);
  FILE *f = fopen(path, "w");
  bool well = X509_sign(x, key, EVP_sha256()) && f && PEM_write_X509(f, x) &&
              SSL_CTX_use_certificate(context, x) && SSL_CTX_use_PrivateKey(context, key);
  if (f) fclose(f);
  X509_EXTENSION_free(host);
  X509_free(x);
  EVP_PKEY_free(key);
  return well;
}

static struct sockaddr_in loopback(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

// Hand on what either side sends, until one ends.
static void pump(SSL *ssl, int behind) {
  char buffer[16384];
  for (;;) {
    struct pollfd p[2] = {{SSL_get_fd(ssl), POLLIN, 0}, {behind, POLLIN, 0}};
    if (!SSL_pending(ssl) && poll(p, 2, 10000) <= 0) return;
    if (SSL_pending(ssl) || p[0].revents) {
      int n = SSL_read(ssl, buffer, sizeof buffer);
      if (n <= 0 || send(behind, buffer, (size_t)n, MSG_NOSIGNAL) != n) return;
    }
    if (p[1].revents) {
      ssize_t n = recv(behind, buffer, sizeof buffer, 0);
      if (n <= 0 || SSL_write(ssl, buffer, (int)n) <= 0) return;
    }
  }
}

static void *serve(void *argument) {
  visit v = *(visit *)argument;
  free(argument);
  SSL *ssl = SSL_new(v.front->context);
  int behind = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = loopback(v.front->behind);
  SSL_set_fd(ssl, v.fd);
  if (SSL_accept(ssl) == 1 && connect(behind, (struct sockaddr *)&at, sizeof at) == 0)
    pump(ssl, behind);
  SSL_shutdown(ssl);
  SSL_free(ssl);
  close(behind);
  close(v.fd);
  atomic_fetch_sub(&v.front->connections, 1);
  return NULL;
}

static void *listen_on(void *front) {
  tls_front *f = front;
  for (;;) {
    int fd = accept(f->listener, NULL, NULL);
    if (atomic_load(&f->stopping)) return NULL;
    if (fd < 0) continue;
    visit *v = malloc(sizeof *v);
    *v = (visit){f, fd};
    pthread_t thread;
    atomic_fetch_add(&f->connections, 1);
    if (pthread_create(&thread, NULL, serve, v) == 0) {
      pthread_detach(thread);
    } else {
      close(fd);
      free(v);
      atomic_fetch_sub(&f->connections, 1);
    }
  }
}

tls_front *tls_front_start(int port, const char *certificate) {
  signal(SIGPIPE, SIG_IGN);  // of OpenSSL's writes to clients that have seen enough
  tls_front *f = calloc(1, sizeof *f);
  struct sockaddr_in at = loopback(0);
  socklen_t bytes = sizeof at;
  f->behind = port;
  f->context = SSL_CTX_new(TLS_server_method());
  f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (f->context && make_certificate(f->context, certificate) && f->listener >= 0 &&
      bind(f->listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(f->listener, 16) == 0 &&
      getsockname(f->listener, (struct sockaddr *)&at, &bytes) == 0 &&
      pthread_create(&f->thread, NULL, listen_on, f) == 0) {
    f->port = ntohs(at.sin_port);
    return f;
  }
  if (f->listener >= 0) close(f->listener);
  SSL_CTX_free(f->context);
  free(f);
  return NULL;
}

int tls_front_port(const tls_front *f) { return f->port; }

void tls_front_stop(tls_front *f) {
  atomic_store(&f->stopping, true);
  shutdown(f->listener, SHUT_RDWR);  // accept returns
  pthread_join(f->thread, NULL);
  while (atomic_load(&f->connections) > 0) poll(NULL, 0, 5);
  close(f->listener);
  SSL_CTX_free(f->context);
  free(f);
}
