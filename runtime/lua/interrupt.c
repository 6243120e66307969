// interrupt.c - what signals do: Ctrl-C counts, stops Lua code, ends the program; those that ask a run to
// end or to save are noted for whoever looks. See cft_host.h.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cft_host.h"
#include "host.h"

// 128 + SIGINT, 128 + SIGTERM, as shells say it; lua/cft/base/exit.lua has the list
enum { EXIT_INTERRUPTED = 130, EXIT_TERMINATED = 143 };

static atomic_int pressed;        // since the last clear
static atomic_int ended_by;       // the signal that was the first of them
static atomic_bool save_asked;    // SIGUSR1
static atomic_bool looked_after;  // somebody polls cft_interrupts()
static atomic_bool at_prompt;
static lua_State *state;
static pthread_t main_thread;

int cft_interrupts(void) {
  atomic_store(&looked_after, true);
  return atomic_load(&pressed);
}

int cft_end_signal(void) { return atomic_load(&ended_by); }

int cft_save_asked(void) { return atomic_exchange(&save_asked, false); }

void cft_interrupts_clear(void) {
  atomic_store(&pressed, 0);
  atomic_store(&looked_after, false);
}

// Is this a file of lua/cft, built in or from CFT_LUA_PATH? As in lua/cft/base/blame.lua.
static bool of_library(const char *source) {
  if (strncmp(source, "@lua/cft/", 9) == 0) return true;
  const char *edited = getenv("CFT_LUA_PATH");
  size_t n = edited ? strlen(edited) : 0;
  return n > 0 && source[0] == '@' && strncmp(source + 1, edited, n) == 0 &&
         strncmp(source + 1 + n, "/cft/", 5) == 0;
}

// Push "FILE:LINE: " of what was stopped where that is the user's, and "" where it is the library:
// whoever stops a model that loads has done nothing wrong in a file of ours.
static void push_place(lua_State *L) {
  lua_Debug f;
  for (int level = 0; lua_getstack(L, level, &f); ++level) {
    lua_getinfo(L, "Sl", &f);
    if (f.currentline <= 0) continue;  // C
    if (of_library(f.source)) break;
    luaL_where(L, level);
    return;
  }
  lua_pushliteral(L, "");
}

static void stop_lua(lua_State *L, lua_Debug *where) {
  (void)where;
  lua_sethook(L, NULL, 0, 0);
  push_place(L);
  lua_pushliteral(L, "interrupted");
  lua_concat(L, 2);
  lua_error(L);
}

bool host_interrupts_stop(lua_State *L) {
  if (lua_gethook(L) != stop_lua) return false;
  lua_sethook(L, NULL, 0, 0);
  return true;
}

static void say(const char *text, size_t bytes) {
  ssize_t written = write(STDERR_FILENO, text, bytes);  // stdio is not for signal handlers
  (void)written;
}
#define SAY(text) say(text, sizeof(text) - 1)

static void on_sigint(int sig) {
  // The kernel picks any thread; a hook may only be set by the one that runs Lua.
  if (!pthread_equal(pthread_self(), main_thread)) {
    pthread_kill(main_thread, sig);
    return;
  }
  int n = atomic_fetch_add(&pressed, 1) + 1;
  if (n == 1) atomic_store(&ended_by, sig);
  int unanswered = n - (atomic_load(&looked_after) ? 1 : 0);  // what nobody but us can answer
  bool prompt = atomic_load(&at_prompt);
  if (prompt ? unanswered >= 3 : n >= 2) {
    SAY("\ncftrun: stopped at once\n");
    _exit(EXIT_INTERRUPTED);
  }
  // Takes effect at the next interpreted instruction: neither C nor a compiled trace looks.
  if (unanswered >= 1) lua_sethook(state, stop_lua, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
  if (prompt && unanswered == 2) SAY("\n(busy outside of Lua; Ctrl-C once more ends cftrun)\n");
}

// What a batch system, `kill`, or a terminal that is gone sends. A run that looks after signals finishes
// its step and saves, however often it is told: some systems send two at once. Where nobody looks there is
// nothing to save, and the program ends: of SIGHUP as of SIGTERM.
static void on_end(int sig) {
  if (!atomic_load(&looked_after) || atomic_load(&at_prompt)) {
    if (sig == SIGHUP) _exit(EXIT_TERMINATED);
    signal(sig, SIG_DFL);
    raise(sig);  // taken when this handler returns
    return;
  }
  int none = 0;
  if (atomic_compare_exchange_strong(&pressed, &none, 1)) atomic_store(&ended_by, sig);
}

// A request to save; where nobody looks after signals there is nothing to save, and it is forgotten.
static void on_save(int sig) {
  (void)sig;
  if (atomic_load(&looked_after)) atomic_store(&save_asked, true);
}

void host_interrupts_at_prompt(bool prompt) { atomic_store(&at_prompt, prompt); }

// What the parent has ignored stays so: `sh -c 'cftrun ... &'` is not for the terminal's Ctrl-C.
static void install(int sig, void (*handler)(int)) {
  struct sigaction before, action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  if (sigaction(sig, NULL, &before) == 0 && before.sa_handler == SIG_IGN) return;
  sigemptyset(&action.sa_mask);
  sigaction(sig, &action, NULL);
}

void host_interrupts_install(lua_State *L) {
  state = L;
  main_thread = pthread_self();
  install(SIGINT, on_sigint);
  install(SIGTERM, on_end);
  install(SIGHUP, on_end);  // `nohup` has it ignored
  struct sigaction action = {.sa_handler = on_end, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGPIPE, &action, NULL);  // `| head`: what cannot be written is a reason to end
  action.sa_handler = on_save;
  sigaction(SIGUSR1, &action, NULL);
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, NULL);  // `ulimit -f`: the write fails and says why
}
