// host.h - the parts of cftrun: a Lua state with our modules in it, Ctrl-C, the prompt.
// This folder is the only one that includes lua.h.
#ifndef CFT_LUA_HOST_H
#define CFT_LUA_HOST_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

// One embedded Lua file: module "cft.check", chunk "@lua/cft/base/check.lua", and its text.
typedef struct host_source {
  const char *module, *chunk, *text;
  size_t bytes;
} host_source;

extern const host_source host_sources[];  // written by embed.cmake, sorted by path
extern const size_t host_sources_count;

// A new state with the libraries and our modules. NULL, with the reason on stderr, if it
// cannot be made.
lua_State *host_open(void);

// lua_pcall with a handler that adds a traceback when CFT_TRACEBACK=1. Errors that are not
// strings (cft.exit) pass unchanged.
int host_call(lua_State *L, int nargs, int nresults);

// Push a text that a terminal may see: what is not printable (cft_utf8_printable) and none of the
// characters `kept` is written out byte by byte, as \x1b.
void host_push_printable(lua_State *L, const char *text, size_t bytes, const char *kept);

// What kernels and devices had to say (cft_note) and nobody has asked for, to stderr: after a line of
// the prompt, and at the end of the program.
void host_notes(void);

// interrupt.c: from here on SIGINT is ours. What Ctrl-C does to running Lua code depends on
// whether a person sits at a prompt to return to; see cft_host.h.
void host_interrupts_install(lua_State *L);
void host_interrupts_at_prompt(bool prompt);
// For C that waits: whether Ctrl-C wants the Lua code stopped that called it. It then raises "interrupted" itself.
bool host_interrupts_stop(lua_State *L);

int host_run(lua_State *L);               // run.c: host.run, a Lua function
int host_repl(lua_State *L);              // repl.c: host.repl, a Lua function
int luaopen_cft_json_core(lua_State *L);  // json.c
int luaopen_cft_worker(lua_State *L);     // worker.c
int luaopen_cft_attach(lua_State *L);     // attach.c

#endif
