// main.c - cftrun. What it does with its arguments is Lua: lua/cft/cli/init.lua.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

// Descriptors 0 to 2 that the parent closed: the next files that are opened would be these, and what
// is printed would go into a log or a lock.
static void fill_standard_descriptors(void) {
  int fd;
  do fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

// libgomp's threads spin for a while when they wait. Beside one busy neighbour that costs six
// times the run, so they should go to sleep soon; but libgomp reads its environment before main
// does, so the program starts once more. Whoever has set either variable knows better.
static void wait_without_spinning(int argc, char **argv) {
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "--version") == 0)) return;
  setenv("GOMP_SPINCOUNT", "10000", 1);
  execv("/proc/self/exe", argv);  // comes back only where there is no /proc: it runs all the same
}

// Calls cli.main(argv...); its result is the exit code.
static int run(lua_State *L, int argc, char **argv) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "cft.cli");
  if (host_call(L, 1, 1) != 0) return -1;
  lua_getfield(L, -1, "main");
  luaL_checkstack(L, argc, "too many arguments");
  for (int i = 1; i < argc; ++i) lua_pushstring(L, argv[i]);
  if (host_call(L, argc - 1, 1) != 0) return -1;
  return (int)lua_tointeger(L, -1);
}

int main(int argc, char **argv) {
  fill_standard_descriptors();
  wait_without_spinning(argc, argv);
  setvbuf(stdout, NULL, _IOLBF, 0);  // a log in a pipe is read while it grows
  lua_State *L = host_open();
  if (!L) return 1;
  host_interrupts_install(L);
  int code = run(L, argc, argv);
  if (code < 0) {
    fprintf(stderr, "cftrun: %s\n", lua_tostring(L, -1));
    code = 1;
  }
  host_notes();
  lua_close(L);  // finalizers give back what scripts held
  // Lua's print does not look: a full disk would end in a half report and an exit code of 0.
  if (fflush(stdout) != 0 || ferror(stdout)) {
    fprintf(stderr, "cftrun: the output could not be written whole\n");
    if (code == 0) code = 1;
  }
  return code;
}
