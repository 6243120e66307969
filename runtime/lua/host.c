// host.c - a Lua state with our modules in it, and what only the program can tell them.
#include "host.h"
#include "commit.h"

#include <fcntl.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cft_file.h"
#include "cft_host.h"
#include "util/utf8.h"

// ---- modules: CFT_LUA_PATH while editing, else what was built in -------------------------------

static const host_source *embedded(const char *module) {
  for (size_t i = 0; i < host_sources_count; ++i)
    if (strcmp(host_sources[i].module, module) == 0) return &host_sources[i];
  return NULL;
}

// Push the path of `module` under `folder`, if there is such a file.
static bool find_file(lua_State *L, const char *folder, const char *module) {
  static const char *const shapes[] = {"%s/%s.lua", "%s/%s/init.lua"};
  const char *name = luaL_gsub(L, module, ".", "/");
  for (int i = 0; i < 2; ++i) {
    lua_pushfstring(L, shapes[i], folder, name);
    if (access(lua_tostring(L, -1), R_OK) == 0) {
      lua_remove(L, -2);
      return true;
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return false;
}

static int given(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  return 1;
}

// A loader as package.loaders wants it: a function, or a text that says where it looked.
static int search(lua_State *L) {
  const char *module = luaL_checkstring(L, 1), *folder = getenv("CFT_LUA_PATH");
  if (folder && *folder && find_file(L, folder, module)) {
    if (luaL_loadfile(L, lua_tostring(L, -1)) != 0) return lua_error(L);
    return 1;
  }
  const host_source *source = embedded(module);
  if (!source && strncmp(module, "cft.", 4) == 0) {  // what is cft.NAME, wherever its file lies
    lua_getglobal(L, "require");
    lua_pushliteral(L, "cft");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, module + 4);
    if (lua_istable(L, -1)) {
      lua_pushcclosure(L, given, 1);
      return 1;
    }
    lua_pop(L, 2);
  }
  if (!source) {
    lua_pushfstring(L, "\n\tno module '%s' in cftrun", module);
    return 1;
  }
  if (luaL_loadbuffer(L, source->text, source->bytes, source->chunk) != 0) return lua_error(L);
  return 1;
}

// Ours is asked before the file system, so that a folder named cft in the current directory
// does not replace a part of the program.
static void add_loader(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");
  for (int i = (int)lua_objlen(L, -1); i >= 2; --i) {  // [1] looks into package.preload
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushcfunction(L, search);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}

static void preload(lua_State *L, const char *module, lua_CFunction open) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, module);
  lua_pop(L, 2);
}

// ---- cft.host: what only the program knows -----------------------------------------------------

// host.isatty(fd) -> is this file descriptor a terminal?
static int host_isatty(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

// host.width(fd) -> columns of the terminal, or nil
static int host_width(lua_State *L) {
  struct winsize size;
  if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 0;
  lua_pushinteger(L, size.ws_col);
  return 1;
}

// host.now() -> seconds on a clock that never jumps
static int host_now(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  lua_pushnumber(L, (double)t.tv_sec + 1e-9 * (double)t.tv_nsec);
  return 1;
}

// host.time() -> seconds since 1970 by the clock on the wall, which may be set: for records, not
// for durations
static int host_time(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  lua_pushnumber(L, (double)t.tv_sec + 1e-9 * (double)t.tv_nsec);
  return 1;
}

void host_push_printable(lua_State *L, const char *text, size_t bytes, const char *kept) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t at = 0; at < bytes;) {
    size_t n = cft_utf8_printable(text + at, bytes - at);
    if (n == 0 && text[at] && strchr(kept, text[at])) n = 1;
    if (n > 0) {
      luaL_addlstring(&b, text + at, n);
    } else {
      char escaped[5];
      snprintf(escaped, sizeof escaped, "\\x%02x", (unsigned char)text[at]);
      luaL_addlstring(&b, escaped, 4);
    }
    at += n > 0 ? n : 1;
  }
  luaL_pushresult(&b);
}

// host.printable(text, kept) -> the text with what a terminal should not see written out as \x1b;
// the characters in `kept`, such as line breaks, stay
static int host_printable(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);
  host_push_printable(L, text, bytes, luaL_checkstring(L, 2));
  return 1;
}

// host.sleep(seconds)
static int host_sleep(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  struct timespec t = {.tv_sec = (time_t)seconds};
  t.tv_nsec = (long)(1e9 * (seconds - (double)t.tv_sec));
  nanosleep(&t, NULL);  // Ctrl-C may end it early
  return 0;
}

// host.pid() -> the number of this process
static int host_pid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

static int failed(lua_State *L) {
  lua_pushnil(L);
  lua_pushstring(L, cft_last_error());
  return 2;
}

// host.kind(path) -> "file", "folder", "other", or nil if there is nothing
static int host_kind(lua_State *L) {
  static const char *const kinds[] = {NULL, "file", "folder", "other"};
  lua_pushstring(L, kinds[cft_path_look(luaL_checkstring(L, 1), NULL)]);
  return 1;
}

// host.list(folder) -> sorted names without . and .., or nil and why not
static int host_list(lua_State *L) {
  cft_names *names;
  if (cft_folder_list(&names, luaL_checkstring(L, 1)) != CFT_OK) return failed(L);
  lua_newtable(L);
  for (int i = 0; i < (int)cft_names_count(names); ++i) {
    lua_pushstring(L, cft_names_at(names, i));
    lua_rawseti(L, -2, i + 1);
  }
  cft_names_release(names);
  return 1;
}

// host.make_folders(path) -> true; or nil and why not. Those above it are made too.
static int host_make_folders(lua_State *L) {
  if (cft_folder_make(luaL_checkstring(L, 1)) != CFT_OK) return failed(L);
  lua_pushboolean(L, 1);
  return 1;
}

// host.temporary_folder() -> the path of an empty folder that this call has made and nobody else
// may enter, or nil and why not. Whoever asked for it removes it.
static int host_temporary_folder(lua_State *L) {
  char path[4096];
  if (cft_folder_temporary(path, sizeof path) != CFT_OK) return failed(L);
  lua_pushstring(L, path);
  return 1;
}

// host.lock(path, shared) -> a handle, or nil and why: "busy" where another process holds it, and
// who; those who share it hold it together. It is held until handle:release(), until the handle is
// collected or the process ends, however it ends.
static int host_lock(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  lua_settop(L, 2);
  int *fd = lua_newuserdata(L, sizeof *fd);
  bool shared = lua_toboolean(L, 2);
  cft_status st = shared ? cft_lock_take(fd, path, true) : cft_lock_take_or_make(fd, path);
  if (st != CFT_OK) return failed(L);
  if (*fd < 0) {
    lua_pushnil(L);
    lua_pushliteral(L, "busy");
    lua_pushstring(L, cft_lock_holder());
    return 3;
  }
  luaL_getmetatable(L, "cft.lock");
  lua_setmetatable(L, -2);
  return 1;
}

static int host_unlock(lua_State *L) {
  int *fd = luaL_checkudata(L, 1, "cft.lock");
  cft_lock_release(fd);
  return 0;
}

// host.modules() -> the names of the embedded modules, in order of their paths
static int host_modules(lua_State *L) {
  lua_newtable(L);
  for (size_t i = 0; i < host_sources_count; ++i) {
    lua_pushstring(L, host_sources[i].module);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

// host.source(module) -> the embedded text and its chunk name, or nil
static int host_source_of(lua_State *L) {
  const host_source *source = embedded(luaL_checkstring(L, 1));
  if (!source) return 0;
  lua_pushlstring(L, source->text, source->bytes);
  lua_pushstring(L, source->chunk);
  return 2;
}

// host.program() -> the path of this program, or nil
static int host_program(lua_State *L) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0) return 0;
  lua_pushlstring(L, path, (size_t)n);
  return 1;
}

// host.mute(): what is printed from here on goes nowhere; standard error stays
static int host_mute(lua_State *L) {
  (void)L;
  int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  fflush(stdout);
  dup2(fd, STDOUT_FILENO);
  close(fd);
  return 0;
}

// host.interrupts([clear]) -> Ctrl-C since the last clear
static int host_interrupts(lua_State *L) {
  int pressed = cft_interrupts();
  if (lua_toboolean(L, 1)) cft_interrupts_clear();
  lua_pushinteger(L, pressed);
  return 1;
}

// host.end_signal() -> the name of the signal that asked the program to end (the first, if it was
// told twice), or nil
static int host_end_signal(lua_State *L) {
  int sig = cft_end_signal();
  if (sig == 0) return 0;
  lua_pushfstring(L, "SIG%s", sigabbrev_np(sig));
  return 1;
}

// host.save_asked() -> whether SIGUSR1 came since this was last asked
static int host_save_asked(lua_State *L) {
  lua_pushboolean(L, cft_save_asked());
  return 1;
}

static int open_host(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"isatty", host_isatty},
      {"width", host_width},
      {"now", host_now},
      {"time", host_time},
      {"printable", host_printable},
      {"sleep", host_sleep},
      {"pid", host_pid},
      {"program", host_program},
      {"mute", host_mute},
      {"run", host_run},
      {"kind", host_kind},
      {"list", host_list},
      {"modules", host_modules},
      {"make_folders", host_make_folders},
      {"temporary_folder", host_temporary_folder},
      {"lock", host_lock},
      {"source", host_source_of},
      {"repl", host_repl},
      {"interrupts", host_interrupts},
      {"end_signal", host_end_signal},
      {"save_asked", host_save_asked},
      {NULL, NULL},
  };
  luaL_newmetatable(L, "cft.lock");
  lua_pushcfunction(L, host_unlock);
  lua_setfield(L, -2, "__gc");
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, host_unlock);
  lua_setfield(L, -2, "release");
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  lua_pushliteral(L, CFT_VERSION);
  lua_setfield(L, -2, "version");
  lua_pushliteral(L, CFT_COMMIT);
  lua_setfield(L, -2, "commit");
  return 1;
}

// ---- the state ---------------------------------------------------------------------------------

void host_notes(void) {
  for (const char *note; (note = cft_next_note());) fprintf(stderr, "cftrun: %s\n", note);
}

static int with_traceback(lua_State *L) {
  const char *wanted = getenv("CFT_TRACEBACK");
  if (wanted && strcmp(wanted, "1") == 0 && lua_isstring(L, 1))
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

int host_call(lua_State *L, int nargs, int nresults) {
  int handler = lua_gettop(L) - nargs;
  lua_pushcfunction(L, with_traceback);
  lua_insert(L, handler);
  int failed = lua_pcall(L, nargs, nresults, handler);
  lua_remove(L, handler);
  return failed;
}

// Without 47-bit addresses the collector gives up at 2 GB, in the middle of somebody's run. The
// JIT's limits are for scripts of a page: a trainer has many more loops worth compiling.
static const char prepare[] =
    "if not require 'ffi'.abi 'gc64' then\n"
    "  error('this LuaJIT was built without GC64, which cftrun needs', 0)\n"
    "end\n"
    "require 'jit.opt'.start('maxtrace=8000', 'maxrecord=16000', 'maxmcode=32768')\n";

static int open_state(lua_State *L) {
  luaL_openlibs(L);
  add_loader(L);
  preload(L, "cft.host", open_host);
  preload(L, "cft.json.core", luaopen_cft_json_core);
  preload(L, "cft.worker", luaopen_cft_worker);
  preload(L, "cft.attach", luaopen_cft_attach);
  if (luaL_loadbuffer(L, prepare, sizeof prepare - 1, "=prepare") != 0) return lua_error(L);
  lua_call(L, 0, 0);
  return 0;
}

lua_State *host_open(void) {
  lua_State *L = luaL_newstate();
  if (!L) {
    fprintf(stderr, "cftrun: no memory for a Lua state\n");
    return NULL;
  }
  if (lua_cpcall(L, open_state, NULL) != 0) {
    fprintf(stderr, "cftrun: %s\n", lua_tostring(L, -1));
    lua_close(L);
    return NULL;
  }
  return L;
}
