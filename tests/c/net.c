// net.c - cft_net.h against a Hub of our own that breaks, stalls, lies and redirects. What cftrun
// makes of it is in tests/io/fetch.lua.
#include "cft_net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "files.h"
#include "http_server.h"
#include "net/digest.h"
#include "test.h"
#include "tls_front.h"

// ---- a server for all cases --------------------------------------------------------------------

static http_server *server;
static const char *root;
static char *content;
static char sha256[CFT_DIGEST_ROOM];
enum { SIZE = 3 << 20 };  // of model.safetensors

static void stop(void) {
  http_server_stop(server);
  free(content);
}

static void digest_of(char hex[CFT_DIGEST_ROOM], cft_digest_kind kind, const void *data,
                      size_t bytes) {
  cft_digest *d;
  EXPECT_OK(cft_digest_new(&d, kind, (int64_t)bytes));
  EXPECT_OK(cft_digest_put(d, data, bytes));
  EXPECT_OK(cft_digest_end(d, hex));
  cft_digest_release(d);
}

static void start(void) {
  if (server) return;
  root = scratch("hub");
  content = malloc(SIZE);
  uint64_t state = 7;
  for (size_t i = 0; i < SIZE; i += 8) {
    uint64_t x = random_next(&state);
    memcpy(content + i, &x, 8);
  }
  digest_of(sha256, CFT_DIGEST_SHA256, content, SIZE);
  const char *at = join(root, "models/Org/Name/main");
  EXPECT_OK(cft_file_write(NULL, join(at, "model.safetensors"), content, SIZE));
  EXPECT_OK(cft_file_write(NULL, join(at, "config.json"), "{}\n", 3));
  EXPECT_OK(cft_file_write(NULL, join(at, "empty"), "", 0));
  server = http_server_start(root, join(root, "log"));
  atexit(stop);
  // The environment's proxy is not for us.
  setenv("no_proxy", "*", 1);
}

// "http://127.0.0.1:PORT/NAME;FAULTS"
static const char *endpoint(const char *faults) {
  char text[64];
  start();
  snprintf(text, sizeof text, "http://127.0.0.1:%d", http_server_port(server));
  return join(text, faults);
}

static const char *url_of(const char *faults, const char *path) {
  return join(endpoint(faults), path);
}

// How many of the server's lines have all three texts.
static int logged(const char *a, const char *b, const char *c) {
  size_t n;
  char *text = (char *)slurp(join(root, "log"), &n), *save;
  int count = 0;
  if (!text) return -1;
  text = realloc(text, n + 1);
  text[n] = '\0';
  for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
    count += strstr(line, a) && strstr(line, b) && strstr(line, c);
  free(text);
  return count;
}

// ---- a download --------------------------------------------------------------------------------

typedef struct outcome {
  cft_transfer_state state;
  int http;
  int64_t bytes, received, retry_after;
  char message[1024];
} outcome;

static cft_net *net_of(const char *faults, const char *token, int stall) {
  cft_net *net = NULL;
  if (cft_net_new(&net, endpoint(faults), token, stall) != CFT_OK)
    fprintf(stderr, "%s\n", cft_last_error());
  return net;
}

static outcome run(cft_net *net, cft_transfer *t) {
  cft_transfer_view v = {0};
  for (double end = test_now() + 30; test_now() < end;) {
    if (cft_net_wait(net, 100) != CFT_OK) break;
    cft_transfer_look(t, &v);
    if (v.state >= CFT_TRANSFER_DONE) break;
  }
  outcome o = {v.state, v.http, v.bytes, v.received, v.retry_after, ""};
  snprintf(o.message, sizeof o.message, "%s", v.message ? v.message : "");
  return o;
}

static const char *folder;  // of the case

static cft_download the_model(const char *faults) {
  return (cft_download){.url = url_of(faults, "Org/Name/resolve/main/model.safetensors"),
                        .path = join(folder, "blob"),
                        .lock = join(folder, "blob.lock"),
                        .digest = sha256,
                        .bytes = SIZE};
}

static outcome fetch(const char *faults, const cft_download *what) {
  outcome o = {.state = CFT_TRANSFER_FAILED};
  cft_net *net = net_of(faults, "secret", 2);
  cft_transfer *t = NULL;
  if (net && cft_net_download(&t, net, what) == CFT_OK) o = run(net, t);
  cft_net_release(net);  // before the transfer, which holds on to it
  cft_transfer_release(t);
  return o;
}

static outcome fetch_model(const char *faults) {
  cft_download what = the_model(faults);
  return fetch(faults, &what);
}

static void expect_whole(void) {
  size_t n = 0;
  char *data = (char *)slurp(join(folder, "blob"), &n);
  bool same = data && n == SIZE && memcmp(data, content, SIZE) == 0;
  free(data);
  if (!same) TEST_FAIL("the file is not the server's (%zu bytes)", n);
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 0);
}

#define EXPECT_ENDS(o, wanted, text)                                                            \
  do {                                                                                          \
    outcome o_ = (o);                                                                           \
    if (o_.state != (wanted) || !strstr(o_.message, text))                                      \
      TEST_FAIL("ended as %d: \"%s\"; expected %s: \"%s\"", (int)o_.state, o_.message, #wanted, \
                text);                                                                          \
  } while (0)

// ---- checksums ---------------------------------------------------------------------------------

TEST(checksums_are_those_of_everybody) {
  char hex[CFT_DIGEST_ROOM];
  digest_of(hex, CFT_DIGEST_SHA256, "abc", 3);  // FIPS 180-2
  EXPECT_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  digest_of(hex, CFT_DIGEST_GIT_SHA1, "", 0);  // git hash-object /dev/null
  EXPECT_STR(hex, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  digest_of(hex, CFT_DIGEST_GIT_SHA1, "test content\n", 13);  // the book Pro Git, 10.2
  EXPECT_STR(hex, "d670460b4b4aece5915caf5c68d12f560a9fe3e4");
}

// ---- answers -----------------------------------------------------------------------------------

static outcome get(const char *faults, const char *path, int64_t limit, char *body, size_t room) {
  outcome o = {.state = CFT_TRANSFER_FAILED};
  cft_net *net = net_of(faults, "secret", 2);
  cft_transfer *t = NULL;
  if (net && cft_net_get(&t, net, url_of(faults, path), limit) == CFT_OK) o = run(net, t);
  cft_transfer_view v = {.body = ""};
  if (t) cft_transfer_look(t, &v);
  snprintf(body, room, "%.*s", (int)v.bytes, v.body);
  cft_transfer_release(t);
  cft_net_release(net);
  return o;
}

TEST(an_answer_is_kept_up_to_a_limit) {
  char body[4096];
  EXPECT_ENDS(get("answer", "api/models/Org/Name/revision/main", 4096, body, sizeof body),
              CFT_TRANSFER_DONE, "");
  EXPECT(strstr(body, "\"sha\":\""));
  EXPECT_ENDS(get("answer", "api/models/Org/Name/revision/main", 20, body, sizeof body),
              CFT_TRANSFER_WRONG, "the answer is more than 20 bytes");
  EXPECT_ENDS(get("huge;huge", "api/models/Org/Name/revision/main", 1 << 20, body, sizeof body),
              CFT_TRANSFER_WRONG, "the answer is more than 1048576 bytes");
}

TEST(statuses_and_headers_come_through) {
  cft_net *net = net_of("none", NULL, 2);
  cft_transfer *t = NULL;
  EXPECT_OK(cft_net_get(&t, net, url_of("none", "api/models/Org/Nobody/revision/main"), 4096));
  outcome o = run(net, t);
  EXPECT_ENDS(o, CFT_TRANSFER_REFUSED, "status 404");
  EXPECT_INT(o.http, 404);
  EXPECT_STR(cft_transfer_header(t, "x-error-code"), "RepoNotFound");
  EXPECT(!cft_transfer_header(t, "x-error"));
  cft_transfer_release(t);
  cft_net_release(net);
  char body[64];
  o = get("busy;api=9:503;retry=7", "api/models/Org/Name/revision/main", 4096, body, sizeof body);
  EXPECT_ENDS(o, CFT_TRANSFER_REFUSED, "status 503");
  EXPECT_INT(o.retry_after, 7);
}

TEST(nobody_answers) {
  char nowhere[64];
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t bytes = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM, 0);  // has a port, and does not listen
  EXPECT_INT(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
  EXPECT_INT(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
  start();
  snprintf(nowhere, sizeof nowhere, "http://127.0.0.1:%d", ntohs(at.sin_port));
  cft_net *net;
  cft_transfer *t;
  EXPECT_OK(cft_net_new(&net, nowhere, NULL, 2));
  EXPECT_OK(cft_net_get(&t, net, join(nowhere, "api"), 4096));
  EXPECT_ENDS(run(net, t), CFT_TRANSFER_UNREACHED, nowhere);
  cft_transfer_release(t);
  EXPECT_OK(cft_net_get(&t, net, "http://no.such.host.invalid/?token=hidden", 4096));
  outcome o = run(net, t);
  EXPECT_ENDS(o, CFT_TRANSFER_UNREACHED, "http://no.such.host.invalid/: ");
  EXPECT(!strstr(o.message, "hidden"));
  cft_transfer_release(t);
  cft_net_release(net);
  close(fd);
}

// A download over https://HOST, whose server trusts nothing but itself.
static outcome fetch_over_tls(const tls_front *front, const char *host, const char *path) {
  char base[64];
  snprintf(base, sizeof base, "https://%s:%d", host, tls_front_port(front));
  outcome o = {.state = CFT_TRANSFER_FAILED};
  cft_net *net = NULL;
  cft_transfer *t = NULL;
  if (cft_net_new(&net, base, "secret", 5) == CFT_OK &&
      cft_net_get(&t, net, join(base, path), SIZE) == CFT_OK)
    o = run(net, t);
  cft_transfer_release(t);
  cft_net_release(net);
  return o;
}

TEST(certificates_are_looked_at) {
  start();
  const char *certificate = join(scratch("tls"), "certificate.pem");
  const char *config = "tls/Org/Name/resolve/main/config.json";
  tls_front *front = tls_front_start(http_server_port(server), certificate);
  EXPECT(front);
  outcome unknown = fetch_over_tls(front, "localhost", config);
  setenv("SSL_CERT_FILE", certificate, 1);
  outcome known = fetch_over_tls(front, "localhost", config);
  outcome other = fetch_over_tls(front, "127.0.0.1", config);
  outcome to_http =
      fetch_over_tls(front, "localhost", "tls/Org/Name/resolve/main/model.safetensors");
  unsetenv("SSL_CERT_FILE");
  tls_front_stop(front);
  EXPECT_ENDS(unknown, CFT_TRANSFER_WRONG, "certificate");
  EXPECT_ENDS(known, CFT_TRANSFER_DONE, "");
  EXPECT_INT(known.bytes, 3);
  EXPECT_ENDS(other, CFT_TRANSFER_WRONG, "127.0.0.1");
  EXPECT_ENDS(to_http, CFT_TRANSFER_WRONG, "is redirected from https to http://127.0.0.1:");
}

TEST(what_is_no_endpoint_or_token) {
  cft_net *net;
  EXPECT_FAILS(cft_net_new(&net, "ftp://example.com", NULL, 2), CFT_E_ARG,
               "no URL with http:// or https://");
  EXPECT_FAILS(cft_net_new(&net, "huggingface", NULL, 2), CFT_E_ARG, "\"huggingface\" is no URL");
  EXPECT_FAILS(cft_net_new(&net, "https://", NULL, 2), CFT_E_ARG, "is no URL");
  EXPECT_FAILS(cft_net_new(&net, "http://127.0.0.1", "a\r\nX-Evil: 1", 2), CFT_E_ARG,
               "characters that no token has");
  EXPECT(!strstr(cft_last_error(), "Evil"));
  EXPECT_FAILS(cft_net_new(&net, "http://127.0.0.1", "", 2), CFT_E_ARG,
               "characters that no token has");
  EXPECT_OK(cft_net_new(&net, "http://127.0.0.1", NULL, 2));
  cft_transfer *t;
  cft_download bad = {
      .url = "http://127.0.0.1/", .path = "/x", .lock = "/x", .digest = "ABC", .bytes = 1};
  EXPECT_FAILS(cft_net_download(&t, net, &bad), CFT_E_ARG, "\"ABC\" is no digest");
  bad.digest = sha256;
  bad.bytes = -1;
  EXPECT_FAILS(cft_net_download(&t, net, &bad), CFT_E_ARG, "a size of -1");
  cft_net_release(net);
  cft_net_release(NULL);
  cft_transfer_release(NULL);
}

// ---- files -------------------------------------------------------------------------------------

TEST(a_file_comes_whole_and_the_token_stays_at_home) {
  folder = scratch("whole");
  outcome o = fetch_model("whole");
  EXPECT_ENDS(o, CFT_TRANSFER_DONE, "");
  EXPECT_INT(o.received, SIZE);
  expect_whole();
  EXPECT_INT(logged("hub GET /whole/", "token=yes", "302"), 1);
  EXPECT_INT(logged("cdn GET /whole/", "token=no", "200"), 1);
  EXPECT_INT(fetch_model("whole").received, 0);  // it is there: nobody is asked
  EXPECT_INT(logged("/whole/", "", ""), 2);
}

TEST(small_files_and_empty_ones) {
  folder = scratch("small");
  cft_download what = the_model("small");
  what.url = url_of("small", "Org/Name/resolve/main/config.json");
  char sha1[CFT_DIGEST_ROOM];
  digest_of(sha1, CFT_DIGEST_GIT_SHA1, "{}\n", 3);
  what.digest = sha1;
  what.bytes = 3;
  EXPECT_ENDS(fetch("small", &what), CFT_TRANSFER_DONE, "");
  expect_text(what.path, "{}\n");
  what.path = join(folder, "empty");
  what.digest = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
  what.bytes = 0;
  what.url = url_of("small", "nowhere");  // not asked for: that of nothing is known
  EXPECT_ENDS(fetch("small", &what), CFT_TRANSFER_DONE, "");
  expect_text(what.path, "");
}

TEST(a_lost_connection_leaves_what_the_next_try_goes_on_from) {
  folder = scratch("drop");
  EXPECT_ENDS(fetch_model("drop;drop=2:1000000"), CFT_TRANSFER_LOST, "/model.safetensors: ");
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 1000000);
  EXPECT_INT(cft_path_look(join(folder, "blob"), NULL), CFT_PATH_NONE);
  EXPECT_ENDS(fetch_model("drop;drop=2:1000000"), CFT_TRANSFER_LOST, "");
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 2000000);
  outcome o = fetch_model("drop;drop=2:1000000");
  EXPECT_ENDS(o, CFT_TRANSFER_DONE, "");
  EXPECT_INT(o.received, SIZE - 2000000);
  expect_whole();
  EXPECT_INT(logged("cdn GET /drop;", "range=bytes=2000000-", "206"), 1);
}

TEST(a_connection_that_ends_without_a_length) {
  folder = scratch("nolength");
  EXPECT_ENDS(fetch_model("cut;nolength;drop=1:5000"), CFT_TRANSFER_LOST,
              "the connection ended at byte 5000 of 3145728");
  EXPECT_ENDS(fetch_model("cut;nolength;drop=1:5000"), CFT_TRANSFER_DONE, "");
  expect_whole();
}

TEST(a_connection_that_stalls_is_lost) {
  folder = scratch("stall");
  double began = test_now();
  EXPECT_ENDS(fetch_model("stall;stall=1:70000"), CFT_TRANSFER_LOST, "");
  EXPECT(test_now() - began < 10);
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 70000);
}

TEST(a_server_that_ignores_range_sends_it_all_again) {
  folder = scratch("norange");
  EXPECT_ENDS(fetch_model("norange;norange;drop=1:90000"), CFT_TRANSFER_LOST, "");
  outcome o = fetch_model("norange;norange;drop=1:90000");
  EXPECT_ENDS(o, CFT_TRANSFER_DONE, "");
  EXPECT_INT(o.received, SIZE);
  expect_whole();
}

TEST(a_server_that_sends_another_range) {
  folder = scratch("badrange");
  EXPECT_OK(cft_file_write(NULL, join(folder, "blob.incomplete"), content, 5000));
  EXPECT_ENDS(fetch_model("badrange;badrange"), CFT_TRANSFER_WRONG,
              "asked for bytes from 5000 of 3145728");
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 5000);
}

TEST(wrong_bytes_are_thrown_away) {
  folder = scratch("corrupt");
  EXPECT_ENDS(fetch_model("corrupt;corrupt=1"), CFT_TRANSFER_CORRUPT, sha256);
  EXPECT_INT(entries_in(folder), 1);  // the lock
  EXPECT_ENDS(fetch_model("corrupt;corrupt=1"), CFT_TRANSFER_DONE, "");
  expect_whole();
}

TEST(wrong_bytes_of_an_earlier_try_are_found) {
  folder = scratch("head");
  content[3] ^= 1;
  cft_status st = cft_file_write(NULL, join(folder, "blob.incomplete"), content, 200000);
  content[3] ^= 1;
  EXPECT_OK(st);
  EXPECT_ENDS(fetch_model("head"), CFT_TRANSFER_CORRUPT, sha256);
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 0);
}

TEST(an_earlier_try_that_was_only_not_renamed) {
  folder = scratch("renamed");
  EXPECT_OK(cft_file_write(NULL, join(folder, "blob.incomplete"), content, SIZE));
  outcome o = fetch_model("renamed");
  EXPECT_ENDS(o, CFT_TRANSFER_DONE, "");
  EXPECT_INT(o.received, 0);
  expect_whole();
}

TEST(an_earlier_try_that_is_too_long) {
  folder = scratch("long");
  char *more = calloc(1, SIZE + 10);
  cft_status st = cft_file_write(NULL, join(folder, "blob.incomplete"), more, SIZE + 10);
  free(more);
  EXPECT_OK(st);
  EXPECT_ENDS(fetch_model("toolong"), CFT_TRANSFER_DONE, "");
  expect_whole();
}

TEST(wrong_sizes) {
  folder = scratch("sizes");
  EXPECT_ENDS(fetch_model("longer;longer"), CFT_TRANSFER_WRONG, "more than the 3145728 bytes come");
  folder = scratch("sizes");
  EXPECT_ENDS(fetch_model("size;size"), CFT_TRANSFER_WRONG,
              "the server has \"3145729\" bytes of it, the repository lists 3145728");
  EXPECT_ENDS(fetch_model("linked;linked"), CFT_TRANSFER_WRONG, "the repository lists");
  EXPECT_INT(logged("cdn GET /size;", "", ""), 0);  // known before the redirect
  EXPECT_INT(logged("cdn GET /linked;", "", ""), 0);
  cft_download what = the_model("length");
  what.url = url_of("length", "Org/Name/resolve/main/config.json");
  EXPECT_ENDS(fetch("length", &what), CFT_TRANSFER_WRONG,
              "the server has 3 bytes of it, the repository lists 3145728");
  EXPECT_INT(cft_path_look(join(folder, "blob"), NULL), CFT_PATH_NONE);
}

TEST(redirects_end) {
  folder = scratch("loop");
  EXPECT_ENDS(fetch_model("loop;loop"), CFT_TRANSFER_WRONG, "more than 10 redirects");
  EXPECT_INT(logged("hub GET /loop;", "", "302"), 11);
  EXPECT_ENDS(fetch_model("scheme;scheme"), CFT_TRANSFER_WRONG,
              "is redirected to what is no HTTP: \"file:///etc/passwd\"");
}

TEST(refused_files_keep_what_is_there) {
  folder = scratch("refused");
  EXPECT_OK(cft_file_write(NULL, join(folder, "blob.incomplete"), content, 5000));
  outcome o = fetch_model("refused;status=1:403");
  EXPECT_ENDS(o, CFT_TRANSFER_REFUSED, "status 403");
  EXPECT_INT(o.http, 403);
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 5000);
  o = fetch_model("range;status=1:416");
  EXPECT_ENDS(o, CFT_TRANSFER_LOST, "begins anew");
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 0);
}

TEST(a_lock_is_waited_for) {
  folder = scratch("lock");
  cft_download what = the_model("lock");
  int other = open(what.lock, O_RDWR | O_CREAT, 0666);
  EXPECT_INT(flock(other, LOCK_EX), 0);
  cft_net *net = net_of("lock", NULL, 2);
  cft_transfer *t;
  cft_transfer_view v;
  EXPECT_OK(cft_net_download(&t, net, &what));
  for (int i = 0; i < 5; ++i) EXPECT_OK(cft_net_wait(net, 20));
  cft_transfer_look(t, &v);
  EXPECT_INT(v.state, CFT_TRANSFER_LOCKED);
  EXPECT_INT(logged("/lock/", "", ""), 0);
  // The other one has brought it meanwhile.
  EXPECT_OK(cft_file_write(NULL, what.path, content, SIZE));
  close(other);
  outcome o = run(net, t);
  EXPECT_ENDS(o, CFT_TRANSFER_DONE, "");
  EXPECT_INT(o.received, 0);
  EXPECT_INT(logged("/lock/", "", ""), 0);
  cft_transfer_release(t);
  cft_net_release(net);
  other = open(what.lock, O_RDWR);
  EXPECT_INT(flock(other, LOCK_EX | LOCK_NB), 0);  // given back
  close(other);
}

TEST(a_lock_whose_file_was_removed_is_none) {
  folder = scratch("removed");
  cft_download what = the_model("removed");
  int other = open(what.lock, O_RDWR | O_CREAT, 0666);
  EXPECT_INT(flock(other, LOCK_EX), 0);
  cft_net *net = net_of("removed", NULL, 2);
  cft_transfer *t;
  cft_transfer_view v;
  EXPECT_OK(cft_net_download(&t, net, &what));
  EXPECT_OK(cft_net_wait(net, 1));  // it has opened the file that goes now
  EXPECT_INT(unlink(what.lock), 0);
  int third = open(what.lock, O_RDWR | O_CREAT, 0666);
  EXPECT_INT(flock(third, LOCK_EX), 0);
  close(other);
  for (int i = 0; i < 5; ++i) EXPECT_OK(cft_net_wait(net, 20));
  cft_transfer_look(t, &v);
  EXPECT_INT(v.state, CFT_TRANSFER_LOCKED);
  close(third);
  EXPECT_ENDS(run(net, t), CFT_TRANSFER_DONE, "");
  expect_whole();
  cft_transfer_release(t);
  cft_net_release(net);
}

TEST(many_at_once) {
  folder = scratch("many");
  cft_net *net = net_of("many", "secret", 2);
  enum { N = 12 };
  cft_transfer *t[N];
  for (int i = 0; i < N; ++i) {
    cft_download what = the_model("many");
    char name[16];
    snprintf(name, sizeof name, "blob%d", i);
    what.path = join(folder, name);
    what.lock = join(folder, "locks");
    char lock[24];
    snprintf(lock, sizeof lock, "%s.lock", name);
    what.lock = join(folder, lock);
    EXPECT_OK(cft_net_download(&t[i], net, &what));
  }
  cft_transfer_release(t[3]);  // before it began
  for (int i = 0; i < N; ++i)
    if (i != 3) EXPECT_ENDS(run(net, t[i]), CFT_TRANSFER_DONE, "");
  for (int i = 0; i < N; ++i)
    if (i != 3) cft_transfer_release(t[i]);
  cft_net_release(net);
  EXPECT_INT(entries_in(folder), 2 * (N - 1));
}

TEST(one_that_is_given_up_goes_on_later) {
  folder = scratch("given-up");
  cft_net *net = net_of("slow;slow=1:400000", NULL, 2);
  cft_transfer *t;
  cft_transfer_view v = {0};
  cft_download what = the_model("slow;slow=1:400000");
  EXPECT_OK(cft_net_download(&t, net, &what));
  for (int i = 0; i < 500 && v.bytes == 0; ++i) {
    EXPECT_OK(cft_net_wait(net, 20));
    cft_transfer_look(t, &v);
  }
  cft_transfer_release(t);
  cft_net_release(net);
  int64_t begun = cft_download_begun(what.path);
  EXPECT(begun > 0 && begun < SIZE);
  outcome o = fetch_model("slow;slow=1:400000");
  EXPECT_ENDS(o, CFT_TRANSFER_DONE, "");
  EXPECT_INT(o.received, SIZE - begun);
  expect_whole();
}

TEST(a_full_disk_is_one_line) {
  folder = scratch("full");
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit before, little = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
  EXPECT_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
  little.rlim_max = before.rlim_max;
  EXPECT_INT(setrlimit(RLIMIT_FSIZE, &little), 0);  // as a disk that is full behind 1 MiB
  outcome o = fetch_model("full");
  EXPECT_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_ENDS(o, CFT_TRANSFER_FAILED, "blob.incomplete, byte 1048576: ");
  EXPECT_INT(cft_download_begun(join(folder, "blob")), 1 << 20);
  o = fetch_model("full");
  EXPECT_ENDS(o, CFT_TRANSFER_DONE, "");
  EXPECT_INT(o.received, SIZE - (1 << 20));
  expect_whole();
}

TEST(a_folder_that_is_not_there) {
  folder = "/no/such/folder";
  EXPECT_ENDS(fetch_model("nofolder"), CFT_TRANSFER_FAILED,
              "open /no/such/folder/blob.lock: No such file");
}

// ---- the cache around the files ---------------------------------------------------------------

TEST(links_are_replaced_in_one_step) {
  folder = scratch("links");
  const char *path = join(folder, "link");
  char to[64] = "";
  EXPECT_OK(cft_link_replace("one", path));
  EXPECT_OK(cft_link_replace("two", path));
  EXPECT_INT(readlink(path, to, sizeof to - 1), 3);
  EXPECT_STR(to, "two");
  EXPECT_INT(entries_in(folder), 1);
  EXPECT_FAILS(cft_link_replace("x", "/no/such/folder/link"), CFT_E_IO,
               "link /no/such/folder/link: No such");
  EXPECT_OK(cft_folder_make(join(folder, "folder/full")));
  EXPECT_FAILS(cft_link_replace("x", join(folder, "folder")), CFT_E_IO, "folder: ");
  EXPECT_INT(entries_in(folder), 2);
}

TEST(names_are_synced) {
  EXPECT_OK(cft_folder_sync(scratch("sync")));
  EXPECT_FAILS(cft_folder_sync("/no/such/folder"), CFT_E_IO, "open /no/such/folder: No such");
}

TEST(room_on_a_disk) {
  int64_t bytes = -1;
  EXPECT_OK(cft_folder_room(&bytes, "/"));
  EXPECT(bytes >= 0);
  EXPECT_FAILS(cft_folder_room(&bytes, "/no/such/folder"), CFT_E_IO, "/no/such/folder: No such");
}

TEST_MAIN()
