// http_server.c - see http_server.h. Blocking calls, a thread a connection: it is simple to see
// that what it does to a client is what the test asked for.
#include "http_server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/digest.h"

// What can be asked for; N of them take a count of requests and then a number.
//   drop=N:BYTES     a file's body ends after so many bytes, and the connection with it
//   stall=N:BYTES    nothing comes behind these, and the connection stays
//   corrupt=N        the first byte of a file's body is another one
//   status=N:CODE    a file is answered with this status;  api=N:CODE  so are the API's requests
//   retry=SECONDS    with Retry-After;  window=SECONDS  with RateLimit, as the Hub has it
//   error=NAME       with this X-Error-Code
//   norange          Range is ignored;  badrange  another one is sent
//   nolength         no Content-Length;  longer  a byte too many
//   linked           X-Linked-Etag is that of another file;  size  X-Linked-Size is too large
//   loop             a file is redirected to itself;  scheme  to file:///etc/passwd
//   slow=N:BYTES     N connections get so many bytes a second
//   page=1:N         N entries of the tree at a time;  pages  pages without an end
//   private          only with the token "secret"
//   junk             the API answers what is no JSON;  huge  with an array that does not end

struct http_server {
  int hub, cdn, hub_port, cdn_port;
  char root[512];
  FILE *log;
  pthread_t threads[2];
  atomic_int connections;
  atomic_bool stopping;
  pthread_mutex_t lock;
  struct {
    char key[160];
    int count;
  } befallen[256];
};

typedef struct connection {
  http_server *server;
  int fd;
  bool cdn;
} connection;

typedef struct request {
  connection *c;
  char method[8], target[2048];  // as it came
  char faults[256], path[2048], query[512];
  char range[64], token[128];
  bool keep_alive;
} request;

typedef struct repo {
  char kind[16], name[256], revision[256], commit[CFT_DIGEST_ROOM], folder[1200];
} repo;

// ---- faults ------------------------------------------------------------------------------------

// The text behind ";NAME" in the faults; NULL where it is not asked for.
static const char *asked(const request *r, const char *name) {
  size_t n = strlen(name);
  for (const char *p = r->faults; (p = strchr(p, ';')); ++p)
    if (strncmp(p + 1, name, n) == 0 && strchr(";=", p[1 + n]))
      return p[1 + n] == '=' ? p + n + 2 : p + n + 1;
  return NULL;
}

static bool counts(const request *r, const char *name, int most) {
  http_server *s = r->c->server;
  char key[160];
  snprintf(key, sizeof key, "%.120s|%s", r->faults, name);
  pthread_mutex_lock(&s->lock);
  size_t i = 0;
  while (i + 1 < sizeof s->befallen / sizeof *s->befallen && *s->befallen[i].key &&
         strcmp(s->befallen[i].key, key) != 0)
    ++i;
  snprintf(s->befallen[i].key, sizeof key, "%s", key);
  bool yes = s->befallen[i].count < most;
  s->befallen[i].count += yes;
  pthread_mutex_unlock(&s->lock);
  return yes;
}

// Does "NAME=COUNT:NUMBER" befall this request?
static bool befalls(const request *r, const char *name, int64_t *number) {
  const char *text = asked(r, name);
  if (!text) return false;
  int count = 0;
  int64_t value = 0;
  if (sscanf(text, "%d:%" SCNd64, &count, &value) < 1 || !counts(r, name, count)) return false;
  if (number) *number = value;
  return true;
}

// ---- answers -----------------------------------------------------------------------------------

static bool put(int fd, const void *data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t n = send(fd, (const char *)data + done, bytes - done, MSG_NOSIGNAL);
    if (n <= 0) return false;
    done += (size_t)n;
  }
  return true;
}

static void note(const request *r, int status) {
  http_server *s = r->c->server;
  if (!s->log) return;
  pthread_mutex_lock(&s->lock);
  fprintf(s->log, "%s %s %s range=%s token=%s %d\n", r->c->cdn ? "cdn" : "hub", r->method,
          r->target, *r->range ? r->range : "-", *r->token ? "yes" : "no", status);
  fflush(s->log);
  pthread_mutex_unlock(&s->lock);
}

// Status and headers (`more`: lines that end in \r\n); length < 0: until the connection ends.
static bool head(request *r, int status, int64_t length, const char *more) {
  char text[4096];
  note(r, status);
  int n = snprintf(text, sizeof text, "HTTP/1.1 %d Status\r\n%s", status, more);
  if (length >= 0)
    n += snprintf(text + n, sizeof text - (size_t)n, "Content-Length: %" PRId64 "\r\n", length);
  if (length < 0) r->keep_alive = false;
  n += snprintf(text + n, sizeof text - (size_t)n, "Connection: %s\r\n\r\n",
                r->keep_alive ? "keep-alive" : "close");
  return put(r->c->fd, text, (size_t)n);
}

static bool is_head(const request *r) { return strcmp(r->method, "HEAD") == 0; }

static bool answer(request *r, int status, const char *more, const char *body) {
  size_t n = strlen(body);
  return head(r, status, (int64_t)n, more) && (is_head(r) || put(r->c->fd, body, n));
}

static bool refuse(request *r, int status, const char *code, const char *message) {
  char more[512];
  const char *retry = asked(r, "retry"), *window = asked(r, "window"), *error = asked(r, "error");
  int n = snprintf(more, sizeof more, "X-Error-Code: %.*s\r\nX-Error-Message: %s\r\n",
                   error ? (int)strcspn(error, ";") : 64, error ? error : code, message);
  if (retry) n += snprintf(more + n, sizeof more - (size_t)n, "Retry-After: %d\r\n", atoi(retry));
  if (window)
    snprintf(more + n, sizeof more - (size_t)n, "RateLimit: \"api\";r=0;t=%d\r\n", atoi(window));
  return answer(r, status, more, "{\"error\":\"as asked\"}");
}

// ---- files -------------------------------------------------------------------------------------

static char *slurp(const char *path, size_t *bytes) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  fseek(f, 0, SEEK_END);
  *bytes = (size_t)ftell(f);
  rewind(f);
  char *data = malloc(*bytes + 1);
  if (data) data[*bytes] = '\0';
  if (data && fread(data, 1, *bytes, f) != *bytes) {
    free(data);
    data = NULL;
  }
  fclose(f);
  return data;
}

static void digest_of(char hex[CFT_DIGEST_ROOM], cft_digest_kind kind, const void *data,
                      size_t bytes) {
  cft_digest *d = NULL;
  *hex = '\0';
  if (cft_digest_new(&d, kind, (int64_t)bytes) == CFT_OK &&
      cft_digest_put(d, data, bytes) == CFT_OK)
    (void)cft_digest_end(d, hex);
  cft_digest_release(d);
}

static void pause_ms(int ms) { poll(NULL, 0, ms); }

static bool put_slowly(int fd, const char *data, size_t bytes, int64_t rate) {
  size_t piece = (size_t)(rate / 20) + 1;
  for (size_t done = 0; done < bytes; done += piece) {
    if (!put(fd, data + done, bytes - done < piece ? bytes - done : piece)) return false;
    pause_ms(50);
  }
  return true;
}

// The client closes, or patience ends.
static void wait_for_end(int fd) {
  char rest;
  for (int i = 0; i < 200 && recv(fd, &rest, 1, MSG_PEEK | MSG_DONTWAIT) != 0; ++i) pause_ms(100);
}

static bool send_body(request *r, const char *data, size_t bytes) {
  int fd = r->c->fd;
  int64_t number;
  if (befalls(r, "drop", &number)) {
    (void)put(fd, data, (size_t)number < bytes ? (size_t)number : bytes);
    return false;
  }
  if (befalls(r, "stall", &number)) {
    (void)put(fd, data, (size_t)number < bytes ? (size_t)number : bytes);
    wait_for_end(fd);
    return false;
  }
  if (befalls(r, "slow", &number)) return put_slowly(fd, data, bytes, number);
  return put(fd, data, bytes);
}

static bool send_file(request *r, char *data, size_t bytes, const char *etag, const char *commit) {
  size_t from = 0;
  if (*r->range && !asked(r, "norange"))
    from = (size_t)strtoull(strchr(r->range, '=') + 1, NULL, 10);
  if (from > 0 && from >= bytes) return answer(r, 416, "", "");
  char more[320];
  int n =
      snprintf(more, sizeof more,
               "ETag: \"%s\"\r\nX-Repo-Commit: %.40s\r\nAccept-Ranges: bytes\r\n", etag, commit);
  size_t said = from + (asked(r, "badrange") ? 1 : 0);
  if (from > 0)
    snprintf(more + n, sizeof more - (size_t)n, "Content-Range: bytes %zu-%zu/%zu\r\n", said,
             bytes - 1, bytes);
  if (befalls(r, "corrupt", NULL)) data[from] ^= 1;
  bool longer = asked(r, "longer"), unsaid = longer || asked(r, "nolength");
  if (!head(r, from > 0 ? 206 : 200, unsaid ? -1 : (int64_t)(bytes - from), more)) return false;
  if (is_head(r)) return true;
  return send_body(r, data + from, bytes - from) && (!longer || put(r->c->fd, "!", 1));
}

static bool redirect(request *r, const char *path, size_t bytes, const char *digest,
                     const repo *at) {
  char more[3000], other[CFT_DIGEST_ROOM];
  digest_of(other, CFT_DIGEST_SHA256, "other", 5);
  char to[2048];
  int port = r->c->server->cdn_port;
  snprintf(to, sizeof to, "http://127.0.0.1:%d/%.250s/cdn/%s/%.200s/%.40s/%.1000s?signature=abc",
           port, r->faults, at->kind, at->name, at->commit, path);
  if (asked(r, "loop")) snprintf(to, sizeof to, "%.2000s", r->target);
  if (asked(r, "scheme")) snprintf(to, sizeof to, "file:///etc/passwd");
  snprintf(more, sizeof more,
           "Location: %s\r\nX-Repo-Commit: %s\r\nX-Linked-Size: %zu\r\nX-Linked-Etag: "
           "\"%s\"\r\nETag: \"pointer\"\r\n",
           to, at->commit, bytes + (asked(r, "size") ? 1 : 0), asked(r, "linked") ? other : digest);
  return answer(r, 302, more, "moved");
}

static bool serve_file(request *r, const repo *at, const char *path) {
  char full[3300];
  size_t bytes;
  snprintf(full, sizeof full, "%s/%s", at->folder, path);
  char *data = strstr(path, "..") ? NULL : slurp(full, &bytes);
  int64_t code;
  bool open;
  if (!data) return refuse(r, 404, "EntryNotFound", "Entry not found");
  char digest[CFT_DIGEST_ROOM];
  bool large = bytes >= SERVER_LARGE_FILE;
  digest_of(digest, large ? CFT_DIGEST_SHA256 : CFT_DIGEST_GIT_SHA1, data, bytes);
  if (!is_head(r) && befalls(r, "status", &code)) {
    open = refuse(r, (int)code, "", "as asked");
  } else if (large && !r->c->cdn) {
    open = redirect(r, path, bytes, digest, at);
  } else {
    open = send_file(r, data, bytes, digest, at->commit);
  }
  free(data);
  return open;
}

// ---- the API -----------------------------------------------------------------------------------

// Text that grows.
typedef struct text {
  char *data;
  size_t bytes;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...) {
  char *more = NULL;
  va_list args;
  va_start(args, format);
  int n = vasprintf(&more, format, args);
  va_end(args);
  t->data = realloc(t->data, t->bytes + (size_t)n + 1);
  memcpy(t->data + t->bytes, more, (size_t)n + 1);
  t->bytes += (size_t)n;
  free(more);
}

// The entries of a folder and below, those from `first` and before `end` as JSON; *i counts all.
static void list_tree(text *out, const char *folder, const char *inside, int *i, int first,
                      int end_at) {
  struct dirent **names;
  int n = scandir(folder, &names, NULL, alphasort);
  for (int k = 0; k < n; ++k) {
    const char *name = names[k]->d_name;
    char full[4000], path[2000];
    struct stat info;
    snprintf(full, sizeof full, "%s/%s", folder, name);
    snprintf(path, sizeof path, "%s%s", inside, name);
    bool hidden = strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
                  strcmp(name, ".tree.json") == 0 || strcmp(name, ".info.json") == 0;
    if (!hidden && stat(full, &info) == 0) {
      bool shown = *i >= first && *i < end_at;
      if (shown && out->bytes > 1) add(out, ",");
      ++*i;
      if (S_ISDIR(info.st_mode)) {
        if (shown)
          add(out, "{\"type\":\"directory\",\"oid\":\"0\",\"size\":0,\"path\":\"%s\"}", path);
        char below[2001];
        snprintf(below, sizeof below, "%s/", path);
        list_tree(out, full, below, i, first, end_at);
      } else if (shown) {
        size_t bytes;
        char *data = slurp(full, &bytes), git[CFT_DIGEST_ROOM], sha256[CFT_DIGEST_ROOM];
        digest_of(git, CFT_DIGEST_GIT_SHA1, data, bytes);
        digest_of(sha256, CFT_DIGEST_SHA256, data, bytes);
        add(out, "{\"type\":\"file\",\"oid\":\"%s\",\"size\":%zu,\"path\":\"%s\"", git, bytes,
            path);
        if (bytes >= SERVER_LARGE_FILE)
          add(out, ",\"lfs\":{\"oid\":\"%s\",\"size\":%zu,\"pointerSize\":134}", sha256, bytes);
        add(out, "}");
        free(data);
      }
    }
    free(names[k]);
  }
  if (n >= 0) free(names);
}

static bool serve_tree(request *r, const repo *at) {
  char raw[1400];
  size_t bytes;
  snprintf(raw, sizeof raw, "%s/.tree.json", at->folder);
  char *given = slurp(raw, &bytes);
  if (given) {
    char next[3000] = "";
    if (asked(r, "pages"))
      snprintf(next, sizeof next,
               "Link: <http://127.0.0.1:%d/%.250s/api/%s/%.250s/tree/%.40s?cursor=1>; rel=\"next\"\r\n",
               r->c->server->hub_port, r->faults, at->kind, at->name, at->commit);
    char headers[3100];
    snprintf(headers, sizeof headers, "Content-Type: application/json\r\n%s", next);
    bool open = answer(r, 200, headers, given);
    free(given);
    return open;
  }
  const char *page = asked(r, "page"), *cursor = strstr(r->query, "cursor=");
  int size = page ? atoi(strchr(page, ':') + 1) : 1 << 30, first = cursor ? atoi(cursor + 7) : 0,
      count = 0;
  text out = {0};
  char more[3000] = "Content-Type: application/json\r\n";
  add(&out, "[");
  list_tree(&out, at->folder, "", &count, first, page ? first + size : size);
  add(&out, "]");
  if (count > first + size || asked(r, "pages")) {
    int next = asked(r, "pages") ? 1 << 20 : first + size;
    snprintf(
        more, sizeof more,
        "Link: <http://127.0.0.1:%d/%.250s/api/%s/%.250s/tree/%.40s?recursive=true&cursor=%d>; "
        "rel=\"next\"\r\n",
        r->c->server->hub_port, r->faults, at->kind, at->name, at->commit, next);
  }
  bool open = answer(r, 200, more, out.data);
  free(out.data);
  return open;
}

static bool serve_info(request *r, const repo *at) {
  char raw[1400], body[1024];
  size_t bytes;
  snprintf(raw, sizeof raw, "%s/.info.json", at->folder);
  char *given = slurp(raw, &bytes);
  snprintf(body, sizeof body,
           "{\"id\":\"%.250s\",\"sha\":\"%.40s\",\"siblings\":[],\"lastModified\":\"2025-01-01T00:"
           "00:00.000Z\"}",
           at->name, at->commit);
  bool open = answer(r, 200, "Content-Type: application/json\r\n", given ? given : body);
  free(given);
  return open;
}

static bool send_huge(request *r) {
  static char zeros[1 << 16];
  for (size_t i = 0; i < sizeof zeros; i += 2) memcpy(zeros + i, "0,", 2);
  bool open = head(r, 200, -1, "") && put(r->c->fd, "[", 1);
  for (int i = 0; open && i < 1 << 14; ++i) open = put(r->c->fd, zeros, sizeof zeros);
  return false;
}

// ---- which repository --------------------------------------------------------------------------

static void commit_of(char hex[CFT_DIGEST_ROOM], const char *name, const char *revision) {
  char key[600];
  int n = snprintf(key, sizeof key, "%s@%s", name, revision);
  digest_of(hex, CFT_DIGEST_GIT_SHA1, key, (size_t)n);
}

// The folder of a revision, which may be given as its commit. Folders cannot have a slash: '!'.
static bool find_revision(const http_server *s, repo *at) {
  char parent[900], commit[CFT_DIGEST_ROOM];
  snprintf(parent, sizeof parent, "%s/%s/%s", s->root, at->kind, at->name);
  for (char *p = at->revision; *p; ++p)
    if (*p == '/') *p = '!';
  struct dirent **names;
  int n = scandir(parent, &names, NULL, alphasort);
  bool found = false;
  for (int i = 0; i < n; ++i) {
    const char *name = names[i]->d_name;
    commit_of(commit, at->name, name);
    if (!found && *name != '.' &&
        (strcmp(name, at->revision) == 0 || strcmp(commit, at->revision) == 0)) {
      found = true;
      memcpy(at->commit, commit, sizeof commit);
      snprintf(at->folder, sizeof at->folder, "%s/%.250s", parent, name);
    }
    free(names[i]);
  }
  if (n >= 0) free(names);
  return found;
}

static bool has_repo(const http_server *s, const repo *at) {
  char path[900];
  snprintf(path, sizeof path, "%s/%s/%s", s->root, at->kind, at->name);
  return *at->name && access(path, F_OK) == 0;
}

// Cut `path` at `mark`: the repository before it, the revision behind it, and then the rest.
static const char *take_repo(repo *at, char *path, const char *mark) {
  char *cut = strstr(path, mark);
  if (!cut) return NULL;
  snprintf(at->name, sizeof at->name, "%.*s", (int)(cut - path), path);
  char *revision = cut + strlen(mark);
  size_t n = strcspn(revision, "/");
  snprintf(at->revision, sizeof at->revision, "%.*s", (int)n, revision);
  return revision + n + (revision[n] == '/');
}

static void decode(char *s) {
  char *to = s;
  for (; *s; ++s) {
    unsigned c;
    if (*s == '%' && sscanf(s + 1, "%2x", &c) == 1) {
      *to++ = (char)c;
      s += 2;
    } else {
      *to++ = *s;
    }
  }
  *to = '\0';
}

static bool take_prefix(char **path, const char *prefix) {
  size_t n = strlen(prefix);
  if (strncmp(*path, prefix, n) != 0) return false;
  *path += n;
  return true;
}

static bool serve(request *r) {
  http_server *s = r->c->server;
  repo at = {.kind = "models"};
  char *path = r->path;
  int64_t code;
  if (asked(r, "private") && !r->c->cdn && strcmp(r->token, "secret") != 0)
    return *r->token ? refuse(r, 401, "", "Invalid credentials in Authorization header")
                     : refuse(r, 401, "RepoNotFound", "Repository not found");
  bool api = take_prefix(&path, "api/");
  if (api && befalls(r, "api", &code)) return refuse(r, (int)code, "", "as asked");
  if (api && asked(r, "junk")) return answer(r, 200, "", "<html>a login page</html>");
  if (api && asked(r, "huge")) return send_huge(r);
  if (take_prefix(&path, "cdn/") || api) {
    size_t n = strcspn(path, "/");
    snprintf(at.kind, sizeof at.kind, "%.*s", (int)n, path);
    path += n + (path[n] == '/');
  } else if (take_prefix(&path, "datasets/")) {
    strcpy(at.kind, "datasets");
  }
  const char *rest;
  bool tree = false, info = false;
  if (r->c->cdn) {  // KIND/ORG/NAME/COMMIT/PATH: the commit is the first part of 40 digits
    char *p = path;
    while (p && *p && strcspn(p, "/") != 40) p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL;
    if (!p || !*p || p == path) return refuse(r, 404, "", "no such file");
    p[-1] = '\0';
    snprintf(at.name, sizeof at.name, "%.250s", path);
    snprintf(at.revision, sizeof at.revision, "%.40s", p);
    rest = p + 41;
  } else if (api && strstr(path, "/tree/")) {
    tree = (rest = take_repo(&at, path, "/tree/"));
  } else if (api) {
    info = (rest = take_repo(&at, path, "/revision/"));
  } else {
    rest = take_repo(&at, path, "/resolve/");
  }
  decode(at.revision);
  if (!rest || !has_repo(s, &at)) return refuse(r, 404, "RepoNotFound", "Repository not found");
  if (!find_revision(s, &at)) return refuse(r, 404, "RevisionNotFound", "Invalid rev id");
  if (tree) return serve_tree(r, &at);
  if (info) return serve_info(r, &at);
  char file[2048];
  snprintf(file, sizeof file, "%s", rest);
  decode(file);
  return serve_file(r, &at, file);
}

// ---- connections -------------------------------------------------------------------------------

static void take_header(request *r, const char *line) {
  if (strncasecmp(line, "Range: bytes=", 13) == 0)
    snprintf(r->range, sizeof r->range, "%.60s", line + 7);
  if (strncasecmp(line, "Authorization: Bearer ", 22) == 0)
    snprintf(r->token, sizeof r->token, "%.120s", line + 22);
  if (strncasecmp(line, "Connection: close", 17) == 0) r->keep_alive = false;
}

// Read a request; false at the end of the connection.
static bool read_request(request *r) {
  char buffer[8192];
  size_t n = 0;
  for (;;) {  // a byte at a time: what follows belongs to the next one
    if (n + 1 >= sizeof buffer || recv(r->c->fd, buffer + n, 1, 0) != 1) return false;
    buffer[++n] = '\0';
    if (n >= 4 && strcmp(buffer + n - 4, "\r\n\r\n") == 0) break;
  }
  if (sscanf(buffer, "%7s %2047s", r->method, r->target) != 2) return false;
  r->keep_alive = true;
  char *save;
  for (char *line = strtok_r(buffer, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save))
    take_header(r, line);
  char *path = r->target + 1, *slash = strchr(path, '/');
  snprintf(r->faults, sizeof r->faults, "%.*s", slash ? (int)(slash - path) : 0, path);
  snprintf(r->path, sizeof r->path, "%s", slash ? slash + 1 : "");
  char *query = strchr(r->path, '?');
  if (query) {
    *query = '\0';
    snprintf(r->query, sizeof r->query, "%.500s", query + 1);
  }
  return true;
}

static void *converse(void *argument) {
  connection c = *(connection *)argument;
  free(argument);
  for (bool open = true; open;) {
    request r = {.c = &c};
    if (!read_request(&r)) break;
    open = serve(&r) && r.keep_alive;
  }
  shutdown(c.fd, SHUT_RDWR);
  close(c.fd);
  atomic_fetch_sub(&c.server->connections, 1);
  return NULL;
}

static void *listen_on(http_server *s, bool cdn) {
  for (;;) {
    int fd = accept(cdn ? s->cdn : s->hub, NULL, NULL);
    if (atomic_load(&s->stopping)) return NULL;
    if (fd < 0) continue;
    int yes = 1;  // a head and a short body are two packets, and nobody waits between them
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    connection *c = malloc(sizeof *c);
    pthread_t thread;
    *c = (connection){s, fd, cdn};
    atomic_fetch_add(&s->connections, 1);
    if (pthread_create(&thread, NULL, converse, c) == 0) {
      pthread_detach(thread);
    } else {
      close(fd);
      free(c);
      atomic_fetch_sub(&s->connections, 1);
    }
  }
}

static void *listen_hub(void *s) { return listen_on(s, false); }
static void *listen_cdn(void *s) { return listen_on(s, true); }

static int open_port(int *port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t bytes = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 64) != 0 ||
      getsockname(fd, (struct sockaddr *)&at, &bytes) != 0) {
    perror("http_server");
    return -1;
  }
  *port = ntohs(at.sin_port);
  return fd;
}

http_server *http_server_start(const char *root, const char *log) {
  http_server *s = calloc(1, sizeof *s);
  snprintf(s->root, sizeof s->root, "%s", root);
  pthread_mutex_init(&s->lock, NULL);
  s->hub = open_port(&s->hub_port);
  s->cdn = open_port(&s->cdn_port);
  s->log = log ? fopen(log, "w") : NULL;
  if (s->hub < 0 || s->cdn < 0 || (log && !s->log) ||
      pthread_create(&s->threads[0], NULL, listen_hub, s) != 0 ||
      pthread_create(&s->threads[1], NULL, listen_cdn, s) != 0) {
    perror("http_server");
    exit(1);
  }
  return s;
}

int http_server_port(const http_server *s) { return s->hub_port; }

void http_server_stop(http_server *s) {
  atomic_store(&s->stopping, true);
  shutdown(s->hub, SHUT_RDWR);  // accept returns
  shutdown(s->cdn, SHUT_RDWR);
  for (int i = 0; i < 2; ++i) pthread_join(s->threads[i], NULL);
  while (atomic_load(&s->connections) > 0) pause_ms(5);
  close(s->hub);
  close(s->cdn);
  if (s->log) fclose(s->log);
  free(s);
}
