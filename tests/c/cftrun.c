// cftrun on a terminal and under signals: the prompt's editing and history, Ctrl-C everywhere.
// What needs no terminal is in tests/cli/cli.lua. CFTRUN names the program.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "test.h"

enum { PATIENCE_MS = 20000 };  // a sanitized build on a busy machine

static char folder[] = "/tmp/cft-test-XXXXXX";  // state and scripts; removed at the end

static void remove_folder(void) {
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command) != 0) perror(command);
}

static const char *state_folder(void) {
  static bool made;
  if (!made) {
    if (!mkdtemp(folder)) perror(folder), exit(1);
    atexit(remove_folder);
    made = true;
  }
  return folder;
}

static const char *script(const char *text) {
  static char path[64];
  snprintf(path, sizeof path, "%s/script.lua", state_folder());
  FILE *f = fopen(path, "w");
  if (!f) perror(path), exit(1);
  fputs(text, f);
  fclose(f);
  return path;
}

typedef struct child {
  pid_t pid;
  int terminal;
  char seen[1 << 16];  // all output so far
  size_t bytes, read;  // `read`: up to where the test has looked
} child;

// What a shell does for a job in the foreground: the terminal is the job's, and one that stops is
// said to have and continued. Without a parent like this nothing can be stopped at all.
static int be_the_shell(pid_t job) {
  int status = 0;
  signal(SIGTTOU, SIG_IGN);
  setpgid(job, job);
  tcsetpgrp(STDIN_FILENO, job);
  while (waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status)) {
    printf("[stopped]");
    fflush(stdout);
    kill(-job, SIGCONT);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Start cftrun with up to three arguments; the list ends at the first NULL.
static child *start_with(const char *a, const char *b, const char *d) {
  static child c;
  memset(&c, 0, sizeof c);
  const char *program = getenv("CFTRUN");
  struct winsize size = {.ws_row = 24, .ws_col = 80};
  setenv("TERM", "xterm", 1);
  setenv("XDG_STATE_HOME", state_folder(), 1);
  setenv("HOME", state_folder(), 1);
  setenv("LC_ALL", "C.UTF-8", 1);
  c.pid = forkpty(&c.terminal, NULL, NULL, &size);
  if (c.pid < 0) perror("no pseudo-terminal: forkpty"), exit(1);
  if (c.pid > 0) return &c;
  pid_t job = fork();
  if (job != 0) _exit(be_the_shell(job));
  setpgid(0, 0);
  signal(SIGTTOU, SIG_IGN);
  tcsetpgrp(STDIN_FILENO, getpid());
  signal(SIGTTOU, SIG_DFL);
  execl(program, "cftrun", a, b, d, (char *)NULL);
  perror(program);
  _exit(127);
}

static child *start(const char *argument) { return start_with(argument, NULL, NULL); }

static void type(child *c, const char *text) {
  if (write(c->terminal, text, strlen(text)) < 0) perror("write");
}

// Read until `text` appears behind what was looked at before.
static bool shows(child *c, const char *text) {
  for (;;) {
    c->seen[c->bytes] = '\0';
    const char *found = strstr(c->seen + c->read, text);
    if (found) {
      c->read = (size_t)(found - c->seen) + strlen(text);
      return true;
    }
    struct pollfd p = {.fd = c->terminal, .events = POLLIN};
    ssize_t n = 0;
    if (c->bytes + 1 < sizeof c->seen && poll(&p, 1, PATIENCE_MS) > 0)
      n = read(c->terminal, c->seen + c->bytes, sizeof c->seen - 1 - c->bytes);
    if (n <= 0) {
      fprintf(stderr, "  waited for \"%s\"; the screen after the last match: \"%s\"\n", text,
              c->seen + c->read);
      return false;
    }
    c->bytes += (size_t)n;
  }
}

// The exit code; 128 + the signal if one ended it.
static int ends(child *c) {
  int status = 0;
  struct pollfd p = {.fd = c->terminal, .events = POLLIN};
  char rest[4096];
  while (poll(&p, 1, PATIENCE_MS) > 0 && read(c->terminal, rest, sizeof rest) > 0) continue;
  if (waitpid(c->pid, &status, WNOHANG) == 0) {
    usleep(200 * 1000);
    if (waitpid(c->pid, &status, WNOHANG) == 0) {
      kill(c->pid, SIGKILL);
      waitpid(c->pid, &status, 0);
    }
  }
  close(c->terminal);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define CTRL_C "\003"
#define CTRL_D "\004"
#define CTRL_Z "\032"
#define UP "\033[A"

// Leave the prompt with Ctrl-D. Sent before the prompt is there it would be the terminal's.
static int leaves(child *c) {
  if (!shows(c, "\n> ")) return -1;
  type(c, CTRL_D);
  return ends(c);
}

TEST(the_prompt_answers_and_leaves) {
  child *c = start(NULL);
  EXPECT(shows(c, "Ctrl-D leaves"));
  EXPECT(shows(c, "> "));
  type(c, "6 * 7\n");
  EXPECT(shows(c, "\n42"));
  type(c, "for i = 1, 2 do\n");
  EXPECT(shows(c, ">> "));
  type(c, "print('line ' .. i * 10)\nend\n");
  EXPECT(shows(c, "\nline 10"));
  EXPECT(shows(c, "\nline 20"));
  EXPECT_INT(leaves(c), 0);
}

TEST(ctrl_c_stops_a_loop_and_not_the_program) {
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, "print 'going' while true do end\n");
  EXPECT(shows(c, "\ngoing"));
  type(c, CTRL_C);
  EXPECT(shows(c, "stdin:1: interrupted"));
  type(c, "function spin() while true do end end\n");
  EXPECT(shows(c, "> "));
  type(c, "print 'again' spin()\n");  // a function that an earlier line made
  EXPECT(shows(c, "\nagain"));
  type(c, CTRL_C);
  EXPECT(shows(c, "interrupted"));
  type(c, "'still ' .. 'here'\n");
  EXPECT(shows(c, "\"still here\""));
  EXPECT_INT(leaves(c), 0);
}

TEST(ctrl_c_drops_what_was_typed) {
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, "error('not run')");
  type(c, CTRL_C);
  EXPECT(shows(c, "^C"));
  EXPECT(shows(c, "> "));
  type(c, "for i = 1, 2 do\n");
  EXPECT(shows(c, ">> "));
  type(c, CTRL_C);
  EXPECT(shows(c, "\n> "));
  type(c, "6 * 7\n");
  EXPECT(shows(c, "\n42"));
  EXPECT(!strstr(c->seen, "stdin:"));
  type(c, "exit()\n");
  EXPECT_INT(ends(c), 0);
}

TEST(a_loop_nothing_can_stop_still_ends) {
  // Compiled, since it comes from a file: the hook is never asked.
  script("return function() print 'deep' while true do end end");
  char line[128];
  snprintf(line, sizeof line, "dofile '%s/script.lua'()\n", state_folder());
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, line);
  EXPECT(shows(c, "\ndeep"));
  usleep(300 * 1000);  // until the loop is compiled
  type(c, CTRL_C);
  usleep(50 * 1000);
  type(c, CTRL_C);
  EXPECT(shows(c, "busy outside of Lua"));
  type(c, CTRL_C);
  EXPECT_INT(ends(c), 130);
}

TEST(history_survives_the_program) {
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, "'remembered ' .. 11 * 11\n");
  EXPECT(shows(c, "remembered 121"));
  EXPECT_INT(leaves(c), 0);
  c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, UP);
  EXPECT(shows(c, "11 * 11"));
  type(c, "\n");
  EXPECT(shows(c, "remembered 121"));
  EXPECT_INT(leaves(c), 0);
}

TEST(a_block_is_one_entry_of_the_history) {
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, "for i = 7, 7 do\n");
  EXPECT(shows(c, ">> "));
  type(c, "print('turn ' .. i * i)\nend\n");
  EXPECT(shows(c, "\nturn 49"));
  EXPECT_INT(leaves(c), 0);
  c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, UP);
  EXPECT(shows(c, "for i = 7"));
  type(c, "\n");
  EXPECT(shows(c, "\nturn 49"));
  EXPECT_INT(leaves(c), 0);
}

TEST(tab_completes_and_lists) {
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, "'a ' .. type(cft.recip\t.prep\t)\n");
  EXPECT(shows(c, "\"a function\""));
  type(c, "long_name_a, long_name_b = 5, 6\n");
  type(c, "lon\t\t");  // first what they share, then both
  EXPECT(shows(c, "long_name_a  long_name_b"));
  type(c, "b * 7\n");
  EXPECT(shows(c, "\n42"));
  type(c, "no_such_thing.\t");  // rings, and does no harm
  type(c, CTRL_C);
  type(c, "6 * 7\n");
  EXPECT(shows(c, "\n42"));
  EXPECT_INT(leaves(c), 0);
}

TEST(the_prompt_explains_and_times) {
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, "? cft.models.load\n");
  EXPECT(shows(c, "cft.models.load(name, opts)"));
  EXPECT(shows(c, "lua/cft/models/init.lua"));
  type(c, "%time 6 * 7\n");
  EXPECT(shows(c, " s\x1b"));
  EXPECT(shows(c, "\n42"));
  type(c, "_ + 1\n");
  EXPECT(shows(c, "\n43"));
  type(c, "!echo from the shell\n");
  EXPECT(shows(c, "\nfrom the shell"));
  EXPECT_INT(leaves(c), 0);
}

TEST(ctrl_z_suspends_the_prompt) {
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, "6 *");
  EXPECT(shows(c, "6 *"));
  type(c, CTRL_Z);
  EXPECT(shows(c, "[stopped]"));
  EXPECT(shows(c, "6 *"));  // shown again
  type(c, " 7\n");
  EXPECT(shows(c, "\n42"));
  EXPECT_INT(leaves(c), 0);
}

TEST(letters_beyond_ascii_are_one_letter) {
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  type(c, "#'x\xc3\xa9\xf0\x9f\x98\x80");  // x, e acute, a smiley: 7 bytes
  EXPECT(shows(c, "\x98\x80"));
  type(c, "\x7f");  // takes the smiley away as a whole
  type(c, "' * 100\n");
  EXPECT(shows(c, "\n300"));
  EXPECT_INT(leaves(c), 0);
}

TEST(ctrl_c_stops_a_script) {
  child *c = start(script("print 'going' while true do os.time() end"));
  EXPECT(shows(c, "going"));
  type(c, CTRL_C);
  EXPECT(shows(c, "script.lua:1: interrupted"));
  EXPECT_INT(ends(c), 130);
}

TEST(ctrl_c_inside_the_library_names_no_file_of_it) {
  child *c =
      start(script("jit.off()\n"  // a compiled loop does not look
                   "local closest = require('cft.base.check').closest\n"
                   "local a, b = ('a'):rep(2000), { ('b'):rep(2000) }\n"
                   "print 'going' while true do closest(a, b) end"));
  EXPECT(shows(c, "going"));
  usleep(100 * 1000);  // a call takes longer than that, and all of it is in the library
  type(c, CTRL_C);
  EXPECT(shows(c, " interrupted"));
  EXPECT_INT(ends(c), 130);
  EXPECT(strstr(c->seen, "cftrun:") != NULL);
  EXPECT(!strstr(c->seen, ".lua:"));
}

TEST(a_syntax_error_is_that_of_what_was_typed) {
  const char *typed[][2] = {
      {"x = = 3\n", "unexpected symbol near '='"},  // not of `return x = = 3`
      {"for i 1 do end\n", "'=' or 'in' expected near '1'"},
      {"{1, 2 3}\n", "'}' expected near '3'"},  // no statement
      {"1 + * 2\n", "unexpected symbol near '*'"},
      {"if x then y = 'a' b end\n", "'=' expected near 'end'"},
  };
  child *c = start(NULL);
  EXPECT(shows(c, "> "));
  for (size_t i = 0; i < sizeof typed / sizeof *typed; ++i) {
    type(c, typed[i][0]);
    EXPECT(shows(c, typed[i][1]));
  }
  EXPECT_INT(leaves(c), 0);
}

TEST(whoever_polls_finishes_first) {
  child *c =
      start(script("local host = require 'cft.host'\n"
                   "print('going', host.interrupts())\n"
                   "while host.interrupts() == 0 do os.time() end\n"
                   "print('finished the step')\n"
                   "require('cft.base.exit').fail(130, 'saved')"));
  EXPECT(shows(c, "going\t0"));
  type(c, CTRL_C);
  EXPECT(shows(c, "finished the step"));
  EXPECT(shows(c, "cftrun:"));
  EXPECT(shows(c, "saved"));
  EXPECT_INT(ends(c), 130);
}

// Whoever polls is told of a signal, however often it comes, and ends with its code.
static void expect_end(int signal, int code) {
  child *c =
      start(script("local host = require 'cft.host'\n"
                   "print('going', host.interrupts(), host.pid())\n"
                   "while host.interrupts() == 0 do os.time() end\n"
                   "host.sleep(0.05)\n"
                   "print('finished the step', host.end_signal())\n"
                   "host.interrupts(true)\n"
                   "require('cft.base.exit').fail(130, 'saved')"));
  EXPECT(shows(c, "going\t0\t"));
  EXPECT(shows(c, "\n"));
  pid_t pid = (pid_t)atoi(strstr(c->seen, "going\t0\t") + 8);
  EXPECT(pid > 1 && kill(pid, signal) == 0);
  for (int i = 0; i < 3; ++i) kill(pid, signal);
  EXPECT(shows(c, "finished the step\tSIG"));
  EXPECT(shows(c, "saved"));
  EXPECT_INT(ends(c), code);
}

TEST(signals_that_end_a_run) {
  expect_end(SIGTERM, 143);
  expect_end(SIGHUP, 143);
  expect_end(SIGPIPE, 1);
}

TEST(signals_where_nobody_polls) {
  static const struct {
    int signal, code;
  } cases[] = {{SIGTERM, 128 + SIGTERM}, {SIGHUP, 143}, {SIGPIPE, 128 + SIGPIPE}, {SIGUSR1, 7}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    child *c = start(script("print('going', require('cft.host').pid())\n"
                            "local t = os.clock() + 0.5 while os.clock() < t do end os.exit(7)"));
    EXPECT(shows(c, "going\t"));
    EXPECT(shows(c, "\n"));
    EXPECT(kill((pid_t)atoi(strstr(c->seen, "going\t") + 6), cases[i].signal) == 0);
    EXPECT_INT(ends(c), cases[i].code);
  }
}

TEST(a_save_is_asked_for) {
  child *c =
      start(script("local host = require 'cft.host'\n"
                   "print('going', host.interrupts(), host.pid())\n"
                   "while not host.save_asked() do os.time() end\n"
                   "print('saved', host.save_asked(), host.interrupts())\n"));
  EXPECT(shows(c, "going\t0\t"));
  EXPECT(shows(c, "\n"));
  EXPECT(kill((pid_t)atoi(strstr(c->seen, "going\t0\t") + 8), SIGUSR1) == 0);
  EXPECT(shows(c, "saved\tfalse\t0"));
  EXPECT_INT(ends(c), 0);
}

TEST(the_second_ctrl_c_ends_at_once) {
  child *c =
      start(script("local host = require 'cft.host'\n"
                   "host.interrupts()\n"
                   "print 'going' while true do os.time() end"));
  EXPECT(shows(c, "going"));
  type(c, CTRL_C);
  usleep(100 * 1000);
  type(c, CTRL_C);
  EXPECT(shows(c, "stopped at once"));
  EXPECT_INT(ends(c), 130);
}

TEST(colours_only_on_a_terminal) {
  child *c = start(script("error('red', 0)"));
  EXPECT(shows(c, "\033[1;31mcftrun:\033[0m red"));
  EXPECT_INT(ends(c), 1);
}

// ---- a run by hand -----------------------------------------------------------------------------

// A recipe of its own small model and records, which trains into state_folder()/NAME for a long time.
static const char *recipe(const char *name) {
  static char path[96], text[1024];
  snprintf(path, sizeof path, "%s/%s.lua", state_folder(), name);
  snprintf(text, sizeof text,
           "local cft = require 'cft'\n"
           "local cfg = cft.config { template = 'chatml', steps = 1000000, batch = 4, tokens = 512,\n"
           "  device = 'cpu', lr = 1e-3, schedule = 'constant', out = '%s/%s' }\n"
           "cft.recipe.run(cfg, { name = '%s', tokenizer = cft.demo.words, model = cft.demo.tiny,\n"
           "  load = function() local list = {}\n"
           "    for i = 1, 8 do list[i] = { instruction = i .. ' + 1?', output = tostring(i + 1) } end\n"
           "    return cft.data.list(list)\n"
           "  end })\n",
           state_folder(), name, name);
  FILE *f = fopen(path, "w");
  if (!f) perror(path), exit(1);
  fputs(text, f);
  fclose(f);
  return path;
}

static const char *run_folder(const char *name) {
  static char path[96];
  snprintf(path, sizeof path, "%s/%s", state_folder(), name);
  return path;
}

// Does a file of a run's folder hold this text?
static bool holds(const char *name, const char *file, const char *text) {
  static char read[1 << 20];
  char path[128];
  snprintf(path, sizeof path, "%s/%s/%s", state_folder(), name, file);
  FILE *f = fopen(path, "r");
  if (!f) return false;
  size_t n = fread(read, 1, sizeof read - 1, f);
  fclose(f);
  read[n] = '\0';
  return strstr(read, text) != NULL;
}

static bool comes_to_hold(const char *name, const char *file, const char *text) {
  for (int i = 0; i < PATIENCE_MS / 50; ++i) {
    if (holds(name, file, text)) return true;
    usleep(50 * 1000);
  }
  fprintf(stderr, "  %s/%s never had \"%s\"\n", name, file, text);
  return false;
}

TEST(a_prompt_before_the_first_step) {
  child *c = start_with("-i", recipe("hand"), NULL);
  EXPECT(shows(c, "run hand: step 0 of 1000000"));
  EXPECT(shows(c, "\n> "));
  EXPECT(!holds("hand", "run.json", "{"));
  type(c, "run:step().step + 41\n");
  EXPECT(shows(c, "\n42"));
  EXPECT(holds("hand", "run.json", "\"running\""));
  type(c, "run.model.dtype == run.dtype and 'its weights'\n");  // bf16 or f32: the machine's
  EXPECT(shows(c, "its weights\""));
  type(c, "for i = 1, 100000 do\n");
  EXPECT(shows(c, ">> "));
  type(c, "run:step()\nend\n");
  EXPECT(shows(c, "step 3/"));
  type(c, CTRL_C);  // the step is made, and then the line ends
  EXPECT(shows(c, "interrupted; "));
  EXPECT(shows(c, " of 1000000 steps are made"));
  type(c, "error 'a line'\n");
  EXPECT(shows(c, "a line"));
  type(c, "'more ' .. run:step().step - trainer.done\n");  // and the run goes on
  EXPECT(shows(c, "more 0\""));
  type(c, "type(run:save())\n");
  EXPECT(shows(c, "\"string\""));
  EXPECT_INT(leaves(c), 0);
  EXPECT(holds("hand", "run.json", "\"stopped\""));
  EXPECT(holds("hand", "run.json", "\"changed_by_hand\": false"));
}

static pid_t start_job(const char *name) {
  const char *path = recipe(name);
  char log[128];
  snprintf(log, sizeof log, "%s/%s.log", state_folder(), name);
  setenv("XDG_RUNTIME_DIR", state_folder(), 1);
  pid_t job = fork();
  if (job != 0) return job;
  int fd = open(log, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  dup2(fd, STDOUT_FILENO);
  dup2(fd, STDERR_FILENO);
  execl(getenv("CFTRUN"), "cftrun", path, (char *)NULL);
  _exit(127);
}

TEST(attach_to_a_running_job_and_leave_it) {
  pid_t job = start_job("job");
  EXPECT(comes_to_hold("job", "log.jsonl", "{\"step\":2,"));
  child *c = start_with("attach", run_folder("job"), NULL);
  EXPECT(shows(c, "job, step "));
  EXPECT(shows(c, "\n> "));
  type(c, "'steps ' .. trainer.steps / 10\n");
  EXPECT(shows(c, "\"steps 100000\""));
  type(c, "for i = 7, 8 do\n");
  EXPECT(shows(c, ">> "));
  type(c, "print('line ' .. i * i)\nend\n");
  EXPECT(shows(c, "\nline 49"));
  EXPECT(shows(c, "\nline 64"));
  type(c, "error 'of a line'\n");
  EXPECT(shows(c, "of a line"));
  type(c, "print 'going' while true do end\n");
  EXPECT(shows(c, "\ngoing"));
  type(c, CTRL_C);
  EXPECT(shows(c, "interrupted"));
  type(c, "os.exit(3)\n");
  EXPECT(shows(c, "the run would end"));
  type(c, "'a ' .. type(trainer.eva\t)\n");
  EXPECT(shows(c, "\"a function\""));
  type(c, UP UP);
  EXPECT(shows(c, "os.exit"));
  type(c, CTRL_C);
  type(c, "'still ' .. 'here'\n");
  EXPECT(shows(c, "\"still here\""));
  EXPECT_INT(leaves(c), 0);
  EXPECT(holds("job", "attached.jsonl", "\"line\":\"for i = 7, 8 do\\nprint"));
  EXPECT(holds("job", "attached.jsonl", "\"error\":\"of a line"));
  EXPECT(comes_to_hold("job", "run.json", "\"changed_by_hand\": true"));
  EXPECT(kill(job, 0) == 0 && waitpid(job, NULL, WNOHANG) == 0);  // left alone

  c = start_with("attach", run_folder("job"), NULL);
  EXPECT(shows(c, "\n> "));
  type(c, "print(1) while true do end\n");
  EXPECT(shows(c, "\n1"));
  int status;
  EXPECT(kill(job, SIGTERM) == 0);  // a line that runs does not keep a run from ending
  EXPECT(shows(c, "interrupted"));
  EXPECT(waitpid(job, &status, 0) == job && WIFEXITED(status));
  EXPECT_INT(WEXITSTATUS(status), 143);
  EXPECT(holds("job", "run.json", "\"interrupted\""));
  EXPECT(!holds("..", "job.log", "line 49"));
  type(c, "1\n");
  EXPECT(shows(c, "the run is over"));
  EXPECT_INT(ends(c), 1);
}

TEST_MAIN()
