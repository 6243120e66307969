// http_server.h - a Hub of our own for tests: a folder served under the Hub's API, on two ports
// (the Hub's and a CDN's, where large files are redirected to), with whatever can go wrong on the
// way.
//
//   ROOT/models/ORG/NAME/REVISION/...     a repository at a revision; also ROOT/datasets/...
//     .tree.json, .info.json in it        answers to be given instead of true ones
//
// What goes wrong is said by the first part of a URL's path, so that each test has a Hub of its own
// at http://127.0.0.1:PORT/NAME;FAULT;FAULT=COUNT:NUMBER...; a COUNT says how many requests it
// befalls. See `faults` in http_server.c.
#ifndef CFT_TEST_HTTP_SERVER_H
#define CFT_TEST_HTTP_SERVER_H

enum { SERVER_LARGE_FILE = 4096 };  // from here on a file is stored as git-lfs would, on the CDN

typedef struct http_server http_server;

// Serve from here on, in threads. `log`, where there is one, receives a line a request:
//   hub GET /NAME;FAULTS/api/... range=- token=yes 200
// NULL, with the reason on stderr, if it cannot.
http_server *http_server_start(const char *root, const char *log);
int http_server_port(const http_server *s);
void http_server_stop(http_server *s);  // waits for connections to be closed

#endif
