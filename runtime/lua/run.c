// run.c - another program in this one's place, for as long as it lasts: signals go on to it.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

enum { EXIT_NOT_FOUND = 127 };  // as shells have it

static volatile sig_atomic_t child, passed_on;  // its process, and the last signal that it was sent

static void pass_on(int sig) {
  passed_on = sig;
  if (child > 0) kill((pid_t)child, sig);
}

static const int passed[] = {SIGTERM, SIGHUP, SIGUSR1};
enum { PASSED = sizeof passed / sizeof *passed };

static int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// What the program gets are the signals as this one was started with; it ends when this one is
// killed.
static void become(char **words, const sigset_t *mask, pid_t parent) {
  sigprocmask(SIG_SETMASK, mask, NULL);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(EXIT_NOT_FOUND);
  execvp(words[0], words);
  _exit(EXIT_NOT_FOUND);
}

// host.run(words) -> exit code of the program words[1] (128 + N where signal N ended it, 127 where
// it is not there), and the name of the signal that this process was sent meanwhile, or nil. Ctrl-C
// reaches both by the terminal, and is the program's to answer.
int host_run(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  int n = (int)lua_objlen(L, 1);
  char **words = lua_newuserdata(L, (size_t)(n + 1) * sizeof *words);
  luaL_checkstack(L, n, "too many words");
  for (int i = 0; i < n; ++i) {
    lua_rawgeti(L, 1, i + 1);
    words[i] = (char *)luaL_checkstring(L, -1);
  }
  words[n] = NULL;
  sigset_t all, mask;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &mask);
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) become(words, &mask, parent);
  struct sigaction before[PASSED], interrupt;
  const struct sigaction ignore = {.sa_handler = SIG_IGN}, pass = {.sa_handler = pass_on};
  child = pid;
  passed_on = 0;
  for (int i = 0; i < PASSED; ++i) sigaction(passed[i], &pass, &before[i]);
  sigaction(SIGINT, &ignore, &interrupt);
  sigprocmask(SIG_SETMASK, &mask, NULL);
  int code = pid < 0 ? EXIT_NOT_FOUND : wait_for(pid);
  child = 0;
  for (int i = 0; i < PASSED; ++i) sigaction(passed[i], &before[i], NULL);
  sigaction(SIGINT, &interrupt, NULL);
  lua_pushinteger(L, code);
  if (passed_on == 0 || passed_on == SIGUSR1) return 1;
  lua_pushfstring(L, "SIG%s", sigabbrev_np(passed_on));
  return 2;
}
