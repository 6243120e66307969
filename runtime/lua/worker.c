// worker.c - copies of this process that work beside it, and send it what they made.
//
// A worker is a fork: it has all that its parent had, functions of a recipe with all they refer to
// among them, and shares its memory until one of the two writes. So one Lua state stays the
// business of one thread, and nothing has to be carried over. It sends texts through a pipe, ends
// without running finalizers or exit handlers, and dies with its parent.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

enum { PIPE_BYTES = 1 << 20, LOOK_MS = 200, DONE = 'd', FAILED = 'f', TEXT = 't' };

typedef struct worker {
  pid_t pid;  // 0 once it was waited for
  int fd;     // -1 once it is closed
} worker;

typedef struct frame {
  uint64_t bytes;
  uint64_t kind;
} frame;

// ---- in the worker ------------------------------------------------------------------------------

static void write_all(int fd, const void *data, size_t bytes) {
  for (const char *at = data; bytes > 0;) {
    ssize_t put = write(fd, at, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) _exit(1);  // nobody is there to read it
    at += put;
    bytes -= (size_t)put;
  }
}

static void send_frame(int fd, int kind, const char *text, size_t bytes) {
  frame head = {bytes, (uint64_t)kind};
  write_all(fd, &head, sizeof head);
  write_all(fd, text, bytes);
}

static int send_text(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);
  send_frame((int)lua_tointeger(L, lua_upvalueindex(1)), TEXT, text, bytes);
  return 0;
}

// The function is at the top of the stack.
static void work(lua_State *L, int fd, pid_t parent, bool low) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it died meanwhile
  signal(SIGINT, SIG_IGN);            // Ctrl-C is the parent's to answer, and so are these
  signal(SIGHUP, SIG_IGN);
  signal(SIGUSR1, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  // Only what nobody else wants of a processor: threads that meet in each of a step's loops would
  // wait out the time slice of a worker that is merely nice.
  if (low) sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0});
  lua_pushinteger(L, fd);
  lua_pushcclosure(L, send_text, 1);
  if (lua_pcall(L, 1, 0, 0) == 0) {
    send_frame(fd, DONE, "", 0);
    _exit(0);
  }
  size_t bytes = 0;
  const char *why = lua_tolstring(L, -1, &bytes);
  if (!why) {  // cft.exit raises tables
    lua_getfield(L, -1, "message");
    why = lua_tolstring(L, -1, &bytes);
  }
  send_frame(fd, FAILED, why ? why : "an error without a text", why ? bytes : 23);
  _exit(1);
}

// ---- in the parent ------------------------------------------------------------------------------

static worker *check_worker(lua_State *L) { return luaL_checkudata(L, 1, "cft.worker"); }

static void finish(worker *w, bool kill_it) {
  if (w->fd >= 0) close(w->fd);
  w->fd = -1;
  if (w->pid > 0) {
    if (kill_it) kill(w->pid, SIGKILL);
    while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR) {
    }
  }
  w->pid = 0;
}

// worker.start(work, low) -> a worker, which runs work(send); or nil and why not. `low`: what else
// runs on this machine goes first.
static int start(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  bool low = lua_toboolean(L, 2);
  lua_settop(L, 1);
  worker *w = lua_newuserdata(L, sizeof *w);
  *w = (worker){.fd = -1};
  luaL_getmetatable(L, "cft.worker");
  lua_setmetatable(L, -2);
  int ends[2];
  pid_t parent = getpid(), pid = -1;
  fflush(NULL);
  if (pipe2(ends, O_CLOEXEC) == 0) {
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);  // as much as may be: only speed depends on it
    pid = fork();
    if (pid < 0) {
      int why = errno;
      close(ends[0]);
      close(ends[1]);
      errno = why;
    }
  }
  if (pid < 0) {
    lua_pushnil(L);
    lua_pushstring(L, strerror(errno));
    return 2;
  }
  if (pid == 0) {
    close(ends[0]);
    lua_pushvalue(L, 1);
    work(L, ends[1], parent, low);
  }
  close(ends[1]);
  w->pid = pid;
  w->fd = ends[0];
  return 1;
}

// How a worker ended that said nothing of it.
static int push_end(lua_State *L, worker *w) {
  int status = 0;
  while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) {
  }
  w->pid = 0;
  finish(w, false);
  lua_pushnil(L);
  if (WIFSIGNALED(status))
    lua_pushfstring(L, "a worker was ended by signal %d (%s)", WTERMSIG(status),
                    strsignal(WTERMSIG(status)));
  else
    lua_pushfstring(L, "a worker ended early with code %d", WEXITSTATUS(status));
  return 2;
}

// Whether `bytes` bytes came; false where the pipe ended, or where Ctrl-C stops whoever waits: *stopped then. A read of
// its own would go on when a signal was handled, and a job of a worker may take long.
static bool read_all(lua_State *L, int fd, void *data, size_t bytes, bool *stopped) {
  for (char *at = data; bytes > 0;) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    while (poll(&one, 1, LOOK_MS) <= 0)
      if ((*stopped = host_interrupts_stop(L))) return false;
    ssize_t got = read(fd, at, bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    bytes -= (size_t)got;
  }
  return true;
}

// w:read() -> the next text that it sends, waiting for it; nil at its end, and why where it failed
static int read_text(lua_State *L) {
  worker *w = check_worker(L);
  if (w->fd < 0) {
    lua_pushnil(L);
    return 1;
  }
  frame head;
  bool stopped = false;
  char *text = NULL;
  bool whole = read_all(L, w->fd, &head, sizeof head, &stopped);
  if (whole) {
    text = malloc(head.bytes + 1);
    if (!text) return luaL_error(L, "no memory for %f bytes of a worker", (double)head.bytes);
    whole = read_all(L, w->fd, text, head.bytes, &stopped);
  }
  if (whole && head.kind != DONE) lua_pushlstring(L, text, head.bytes);
  free(text);
  if (stopped) {
    finish(w, true);  // in the midst of a text nobody can read on
    lua_pushliteral(L, "interrupted");
    return lua_error(L);
  }
  if (!whole) return push_end(L, w);
  if (head.kind == TEXT) return 1;
  finish(w, false);
  if (head.kind == DONE) return 0;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

// w:ready(ms) -> would read() come back at once, or within that time?
static int ready(lua_State *L) {
  worker *w = check_worker(L);
  struct pollfd one = {.fd = w->fd, .events = POLLIN};
  lua_pushboolean(L, w->fd < 0 || poll(&one, 1, (int)luaL_optinteger(L, 2, 0)) > 0);
  return 1;
}

// w:stop(): it is over, whatever it was doing
static int stop(lua_State *L) {
  finish(check_worker(L), true);
  return 0;
}

// worker.cores() -> processors that this process may use
static int cores(lua_State *L) {
  cpu_set_t allowed;
  lua_pushinteger(L, sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1);
  return 1;
}

int luaopen_cft_worker(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"read", read_text}, {"ready", ready}, {"stop", stop}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"start", start}, {"cores", cores}, {NULL, NULL}};
  luaL_newmetatable(L, "cft.worker");
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, stop);
  lua_setfield(L, -2, "__gc");
  luaL_register(L, NULL, methods);
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
