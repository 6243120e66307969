// repl.c - the prompt: read a line, run it, show its values, until Ctrl-D or exit().
//
// A line is an expression first, so that `1 + 1` shows 2, then a statement. One that ends too
// early (`for i = 1, 3 do`) asks for more. How values and errors look is Lua's:
// lua/cft/prompt/init.lua.
#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cft_host.h"
#include "host.h"
#include "line.h"

enum { HANDLERS = 1, CHUNK = 2 };  // stack slots: the table of functions, the text so far

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

typedef enum { COMPILED, INCOMPLETE, WRONG } compile_result;

// Is this syntax error only that the text stopped? "... near '<eof>'" is how Lua says so.
static bool wants_more(lua_State *L) { return ends_with(lua_tostring(L, -1), "'<eof>'"); }

// Is the text no statement from its first word on, as `{1, 2 3}` is? Lua says what it stands near.
static bool is_no_statement(const char *message, const char *text) {
  const char *near = strstr(message, "unexpected symbol near '");
  if (!near) return false;
  near += strlen("unexpected symbol near '");
  text += strspn(text, " \t\r\n\f\v");
  size_t n = strlen(near);
  return n > 1 && strncmp(text, near, n - 1) == 0;  // but for the last quote
}

// Replace the text at the top by the function it compiles to, or by the error message.
static compile_result compile(lua_State *L) {
  int text = lua_gettop(L);
  size_t bytes;
  lua_pushliteral(L, "return ");
  lua_pushvalue(L, text);
  lua_concat(L, 2);
  const char *expression = lua_tolstring(L, -1, &bytes);
  if (luaL_loadbuffer(L, expression, bytes, "=stdin") == 0) {
    lua_replace(L, text);
    lua_settop(L, text);
    return COMPILED;
  }
  bool more = wants_more(L);
  const char *statement = lua_tolstring(L, text, &bytes);
  if (luaL_loadbuffer(L, statement, bytes, "=stdin") == 0) {
    lua_replace(L, text);
    lua_settop(L, text);
    return COMPILED;
  }
  more = more || wants_more(L);
  // What is wrong is said of what was typed: of the statement, and of the expression only where
  // there is no statement at all.
  lua_pushvalue(L, is_no_statement(lua_tostring(L, -1), statement) ? -2 : -1);
  lua_replace(L, text);
  lua_settop(L, text);
  return more ? INCOMPLETE : WRONG;
}

// Call handlers.NAME with the `n` values on top.
static void tell(lua_State *L, const char *name, int n) {
  lua_getfield(L, HANDLERS, name);
  lua_insert(L, -n - 1);
  if (host_call(L, n, 0) == 0) return;
  fprintf(stderr, "cftrun: %s\n", lua_isstring(L, -1) ? lua_tostring(L, -1) : "error in error");
  lua_pop(L, 1);
}

// Replace the text at the top by what handlers.rewrite makes of it; an error in it is text as well.
static void rewrite(lua_State *L) {
  lua_getfield(L, HANDLERS, "rewrite");
  lua_insert(L, -2);
  if (host_call(L, 1, 1) != 0 || !lua_isstring(L, -1)) {
    lua_pop(L, 1);
    lua_pushliteral(L, "error('the prompt cannot read this', 0)");
  }
}

enum { TAB_INSERT = 3, TAB_SHOWN = 4 };  // stack slots that keep what Tab gave

// What handlers.complete says of the text before the cursor.
static void on_tab(void *data, const char *text, size_t bytes, const char **insert,
                   const char **shown) {
  lua_State *L = data;
  lua_settop(L, CHUNK);
  lua_getfield(L, HANDLERS, "complete");
  lua_pushlstring(L, text, bytes);
  if (host_call(L, 1, 2) != 0) {
    lua_settop(L, CHUNK);
    return;
  }
  *insert = lua_tostring(L, TAB_INSERT);
  *shown = lua_tostring(L, TAB_SHOWN);
}

// Who has handlers.run is given what was typed, and runs it elsewhere: the function at the top is replaced by
// that and its argument. Returns how many arguments there are.
static int hand_over(lua_State *L) {
  lua_getfield(L, HANDLERS, "run");
  if (!lua_isfunction(L, -1)) {
    lua_pop(L, 1);
    return 0;
  }
  lua_replace(L, -2);
  lua_pushvalue(L, CHUNK);
  return 1;
}

// Call the function below its arguments at the top, and show its values or its error.
static void run(lua_State *L, int arguments) {
  // A hook cannot stop a compiled loop, and a prompt that Ctrl-C cannot bring back is worse than
  // a slow one: what is typed here is interpreted. What it calls in files is compiled as ever.
  int base = lua_gettop(L) - 1 - arguments;
  luaJIT_setmode(L, base + 1, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF);
  cft_interrupts_clear();
  host_interrupts_at_prompt(true);
  int failed = host_call(L, arguments, LUA_MULTRET);
  host_interrupts_at_prompt(false);
  lua_sethook(L, NULL, 0, 0);  // pressed too late to stop anything
  cft_interrupts_clear();
  int n = lua_gettop(L) - base;
  if (!lua_checkstack(L, n + LUA_MINSTACK)) {
    lua_settop(L, base);
    lua_pushliteral(L, "too many values to show");
    n = failed = 1;
  }
  if (failed)
    tell(L, "failed", 1);
  else if (n > 0)
    tell(L, "show", n);
  host_notes();
  lua_settop(L, base);
  tell(L, "done", 0);
}

static bool asked_to_leave(lua_State *L) {
  lua_getfield(L, HANDLERS, "leaving");
  bool leaving = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return leaving;
}

// host.repl { prompt=, more=, history=, banner=, show=function(...), failed=function(error),
// done=function(),
//   rewrite=function(text) -> text, complete=function(text) -> insert, shown,
//   run=function(text), in place of running it here }
// Runs until the end of the input, or until a line has set the table's field `leaving`.
int host_repl(lua_State *L) {
  luaL_checktype(L, HANDLERS, LUA_TTABLE);
  lua_settop(L, HANDLERS);
  const char *fields[] = {"prompt", "more", "history", "banner"}, *value[4];
  for (int i = 0; i < 4; ++i) {
    lua_getfield(L, HANDLERS, fields[i]);
    value[i] = lua_tostring(L, -1);  // the table keeps it alive
    lua_pop(L, 1);
  }
  line *l = line_open("cftrun", value[2]);
  if (!l) return luaL_error(L, "no memory for the prompt");
  if (line_is_edited(l) && value[3]) puts(value[3]);
  lua_pushnil(L);  // CHUNK
  line_on_tab(l, on_tab, L);
  for (bool more = false; !asked_to_leave(L);) {
    const char *text;
    size_t bytes;
    line_result got = line_read(l, value[more], &text, &bytes);
    if (got == LINE_ABANDONED) {
      more = false;
      continue;
    }
    if (got == LINE_TEXT) {
      if (more) {
        lua_pushvalue(L, CHUNK);
        lua_pushliteral(L, "\n");
      }
      lua_pushlstring(L, text, bytes);
      if (more) lua_concat(L, 3);
      lua_pushvalue(L, -1);
      lua_replace(L, CHUNK);
    } else {
      if (!more) break;
      lua_pushvalue(L, CHUNK);  // nothing will complete it: say what is missing
    }
    rewrite(L);
    compile_result result = compile(L);
    more = result == INCOMPLETE && got == LINE_TEXT;
    if (!more) line_remember(l, lua_tostring(L, CHUNK));
    if (result == COMPILED)
      run(L, hand_over(L));
    else if (!more)
      tell(L, "failed", 1);
    lua_settop(L, CHUNK);
    if (got == LINE_END) break;
  }
  line_close(l);
  return 0;
}
