// attach.c - a prompt in a running job: a socket of this user's, polled between two optimizer steps. No thread, no
// signal; nothing here waits for a peer longer than it is told to. What is sent is Lua's: lua/cft/recipe/hand/attach.lua.
//
// Who may come: the folder of the socket is of this user and closed to all others (0700), so is the socket (0600), and
// of whoever comes all the same the kernel says which user it is (SO_PEERCRED). Both sides look.
#include <errno.h>
#include <fcntl.h>
#include <luajit.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cft_host.h"
#include "host.h"

#define TYPE "cft.socket"

enum {
  WAITING = 8,            // peers that may wait for the step to end
  HOOK_EVERY = 1000,      // instructions of Lua between two looks at whoever may stop a line
  MOST_READ = 1 << 16,    // bytes of one receive()
};

typedef struct peer {
  int fd;  // -1: closed
} peer;

static int failed(lua_State *L, const char *what) {
  int reason = errno;
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", what, strerror(reason));
  lua_pushinteger(L, reason);
  return 3;
}

static peer *push_peer(lua_State *L) {
  peer *p = lua_newuserdata(L, sizeof *p);
  p->fd = -1;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  return p;
}

static peer *open_peer(lua_State *L) {
  peer *p = luaL_checkudata(L, 1, TYPE);
  if (p->fd < 0) luaL_error(L, "the socket is closed");
  return p;
}

static bool address_of(struct sockaddr_un *address, const char *path) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  size_t n = strlen(path);
  if (n >= sizeof address->sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  memcpy(address->sun_path, path, n + 1);
  return true;
}

// Is the other end a process of this user? The kernel has noted it when the two met.
static bool is_ours(int fd) {
  struct ucred who;
  socklen_t bytes = sizeof who;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 && who.uid == geteuid();
}

// A folder of this user alone; links are not followed.
static bool is_private(const char *folder) {
  struct stat at;
  if (lstat(folder, &at) != 0) return false;
  if (S_ISDIR(at.st_mode) && at.st_uid == geteuid() && (at.st_mode & 077) == 0) return true;
  errno = EACCES;
  return false;
}

// attach.uid() -> the number of this user
static int attach_uid(lua_State *L) {
  lua_pushinteger(L, geteuid());
  return 1;
}

// attach.private(folder, make) -> true where it is a folder that is this user's and closed to all others, and made so
// if `make` and it is not there; nil and why not
static int attach_private(lua_State *L) {
  const char *folder = luaL_checkstring(L, 1);
  if (lua_toboolean(L, 2) && mkdir(folder, 0700) != 0 && errno != EEXIST) return failed(L, folder);
  if (!is_private(folder)) return failed(L, folder);
  lua_pushboolean(L, 1);
  return 1;
}

// attach.listen(path) -> a socket, or nil and why not. One that an earlier process left there is replaced: the new one
// is made under another name, so that there is none that anybody else could enter, and then takes its place.
static int attach_listen(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  const char *own = lua_pushfstring(L, "%s.%d", path, (int)getpid());
  struct sockaddr_un address;
  if (!address_of(&address, own)) return failed(L, path);
  peer *p = push_peer(L);
  p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (p->fd < 0) return failed(L, path);
  unlink(own);  // of a process that had this one's number
  mode_t before = umask(0177);
  int bound = bind(p->fd, (struct sockaddr *)&address, sizeof address);
  umask(before);
  if (bound != 0) return failed(L, own);
  if (listen(p->fd, WAITING) != 0 || rename(own, path) != 0) {
    int reason = errno;
    unlink(own);
    errno = reason;
    return failed(L, path);
  }
  return 1;
}

// attach.connect(path) -> a socket; nil, why not and the number of the reason. A process of another user is not one to talk to.
static int attach_connect(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct sockaddr_un address;
  if (!address_of(&address, path)) return failed(L, path);
  peer *p = push_peer(L);
  p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&address, sizeof address) != 0)
    return failed(L, path);
  if (!is_ours(p->fd)) {
    errno = EACCES;
    return failed(L, path);
  }
  return 1;
}

// socket:accept() -> the next peer, or nothing where none waits. Processes of other users are turned away.
static int socket_accept(lua_State *L) {
  peer *at = open_peer(L);
  for (int i = 0; i < WAITING; ++i) {
    int fd = accept4(at->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return 0;  // nobody; or one that is gone again
    if (is_ours(fd)) {
      push_peer(L)->fd = fd;
      return 1;
    }
    close(fd);
  }
  return 0;
}

// socket:receive(ms) -> bytes, at most 64 KiB; nothing where none come within `ms`; false where the peer is gone. A
// signal ends the wait.
static int socket_receive(lua_State *L) {
  peer *p = open_peer(L);
  int ms = (int)luaL_optinteger(L, 2, 0);
  char bytes[MOST_READ];
  struct pollfd waits = {.fd = p->fd, .events = POLLIN};
  if (ms > 0 && poll(&waits, 1, ms) <= 0) return 0;
  ssize_t n = recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (n <= 0)
    lua_pushboolean(L, 0);
  else
    lua_pushlstring(L, bytes, (size_t)n);
  return 1;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// socket:send(text, ms) -> true when all of it is on its way; false where that took longer than `ms`, or the peer is gone
static int socket_send(lua_State *L) {
  peer *p = open_peer(L);
  size_t bytes, at = 0;
  const char *text = luaL_checklstring(L, 2, &bytes);
  double until = now() + 1e-3 * (double)luaL_checkinteger(L, 3);
  while (at < bytes) {
    ssize_t n = send(p->fd, text + at, bytes - at, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      at += (size_t)n;
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) break;
    int left = (int)(1e3 * (until - now()));
    if (left <= 0) break;
    struct pollfd waits = {.fd = p->fd, .events = POLLOUT};
    poll(&waits, 1, left);
  }
  lua_pushboolean(L, at == bytes);
  return 1;
}

// socket:close(); also when it is collected
static int socket_close(lua_State *L) {
  peer *p = luaL_checkudata(L, 1, TYPE);
  if (p->fd >= 0) close(p->fd);
  p->fd = -1;
  return 0;
}

// ---- a line that runs --------------------------------------------------------------------------

static int watched = -1;  // the socket of whoever has sent the line
static int pressed_before;

// A peer sends nothing while its line runs but that it is to stop. One that is gone can stop nothing any more, so its
// line ends as well; and so does a line when the program itself is asked to end.
static void look(lua_State *L, lua_Debug *where) {
  (void)where;
  char byte;
  ssize_t n = recv(watched, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  bool waits = n < 0 && (errno == EAGAIN || errno == EINTR);
  if (waits && cft_interrupts() == pressed_before) return;
  lua_sethook(L, NULL, 0, 0);
  luaL_where(L, 0);
  lua_pushliteral(L, "interrupted");
  lua_concat(L, 2);
  lua_error(L);
}

// socket:guard(fn) -> as pcall(fn), but what the peer sends meanwhile stops it at the next instruction of Lua that is
// looked at: compiled loops and C do not look, so `fn` itself is interpreted.
static int socket_guard(lua_State *L) {
  peer *p = open_peer(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  int before = watched;
  watched = p->fd;
  pressed_before = cft_interrupts();
  luaJIT_setmode(L, 2, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF);
  lua_sethook(L, look, LUA_MASKCOUNT, HOOK_EVERY);
  int wrong = host_call(L, 0, LUA_MULTRET);
  lua_sethook(L, NULL, 0, 0);
  watched = before;
  lua_pushboolean(L, wrong == 0);
  lua_replace(L, 1);
  return lua_gettop(L);
}

int luaopen_cft_attach(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"accept", socket_accept}, {"receive", socket_receive}, {"send", socket_send},
      {"guard", socket_guard},   {"close", socket_close},     {NULL, NULL},
  };
  static const luaL_Reg functions[] = {
      {"uid", attach_uid},
      {"private", attach_private},
      {"listen", attach_listen},
      {"connect", attach_connect},
      {NULL, NULL},
  };
  luaL_newmetatable(L, TYPE);
  lua_pushcfunction(L, socket_close);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
