// heartbeat.c - ranks that die, stand still, leave with an error, or are not who they say: what the
// others hear of it.
//
// A rank is a process of its own here, as in a run; what it found out is its exit code, and what it
// printed goes to a file.
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cft_heartbeat.h"
#include "test.h"

enum { MOST = 4, ENDED = 41, NOBODY = 100 };

static const double PATIENCE = 0.8, GRACE = 0.3;

// What the processes of a case share: where rank 0 is, and a text of each rank.
typedef struct shared {
  cft_heartbeat_place place;
  volatile int ready;
  char table[MOST][2000];
} shared;
static shared *all;

static void nap(double s) {
  struct timespec t = {(time_t)s, (long)(1e9 * (s - (double)(time_t)s))};
  nanosleep(&t, NULL);
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cft_heartbeat *enter(int rank, int size) {
  cft_heartbeat_how how = {rank, size, PATIENCE, GRACE, ENDED, 0, 0};
  cft_heartbeat *h = NULL;
  if (rank == 0) {
    if (cft_heartbeat_listen(&h, &all->place, &how) != CFT_OK) _exit(90);
    all->ready = 1;
  } else {
    while (!all->ready) nap(0.005);
    if (cft_heartbeat_join(&h, &all->place, &how) != CFT_OK) {
      fprintf(stderr, "%s\n", cft_last_error());
      _exit(91);
    }
  }
  return h;
}

// Wait for a loss, note the table, and say who it was.
static void wait_for_loss(cft_heartbeat *h, int rank) {
  for (double until = seconds() + 15; cft_heartbeat_lost(h) < 0 && seconds() < until;) nap(0.01);
  int lost = cft_heartbeat_lost(h);
  cft_heartbeat_take(h);
  snprintf(all->table[rank], sizeof all->table[rank], "%s", cft_heartbeat_table(h));
  nap(2 * GRACE + 0.2);  // it is not ended, since it knows
  _exit(lost < 0 ? NOBODY : lost);
}

static pid_t ranks[MOST];

static void run_ranks(int size, void (*rank)(int rank, int size)) {
  for (int r = 0; r < size; ++r) {
    fflush(NULL);
    ranks[r] = fork();
    if (ranks[r] == 0) {
      rank(r, size);
      _exit(0);
    }
  }
}

static int ended(int r) {
  int status = 0;
  waitpid(ranks[r], &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void begin_case(void) {
  if (!all)
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  *all = (shared){0};
}

// Does the text hold all of these, in this order?
static bool in_order(const char *text, const char *const *parts) {
  for (; *parts; ++parts) {
    const char *at = strstr(text, *parts);
    if (!at) return false;
    text = at + strlen(*parts);
  }
  return true;
}

#define EXPECT_IN_ORDER(text, ...)                                                  \
  do {                                                                              \
    const char *const parts_[] = {__VA_ARGS__, NULL};                               \
    if (!in_order(text, parts_)) TEST_FAIL("not in order in this text:\n%s", text); \
  } while (0)

// ---- the good end
// --------------------------------------------------------------------------------

static void goes_well(int rank, int size) {
  cft_heartbeat *h = enter(rank, size);
  for (int step = 1; step <= 5; ++step) {
    cft_heartbeat_at(h, step, step, CFT_RANK_WAITS, "all_reduce", "recipe.lua:12");
    nap(0.25);
  }
  int lost = cft_heartbeat_lost(h);
  if (rank == 2)
    nap(1.5 * PATIENCE);  // the last one is not lost for being late, nor do the others miss it
  cft_heartbeat_leave(h, NULL);
  _exit(lost == -1 ? 0 : 1);
}

TEST(nobody_is_lost_where_all_go_on_and_leave) {
  begin_case();
  run_ranks(4, goes_well);
  for (int r = 0; r < 4; ++r) EXPECT_INT(ended(r), 0);
}

TEST(a_rank_alone_hears_nobody_and_misses_nobody) {
  begin_case();
  cft_heartbeat *h = enter(0, 1);
  cft_heartbeat_at(h, 3, 7, CFT_RANK_WORKS, "backward", "x.lua:1");
  nap(1.5 * PATIENCE);
  EXPECT_INT(cft_heartbeat_lost(h), -1);
  EXPECT_IN_ORDER(cft_heartbeat_table(h), "rank 0 on ", "step 3, backward for 1.", "x.lua:1");
  cft_heartbeat_leave(h, NULL);
  cft_heartbeat_leave(NULL, "nothing");
}

// ---- losses
// --------------------------------------------------------------------------------------

static void one_dies(int rank, int size) {
  cft_heartbeat *h = enter(rank, size);
  cft_heartbeat_at(h, 8, rank == 2 ? 5 : 6, CFT_RANK_WORKS, rank == 2 ? "forward" : "all_reduce", "recipe.lua:40");
  if (rank == 2) {
    nap(PATIENCE);
    kill(getpid(), SIGKILL);
  }
  wait_for_loss(h, rank);
}

TEST(a_rank_that_is_killed_is_lost_to_all_and_the_table_says_who_waited_for_it) {
  begin_case();
  double began = seconds();
  run_ranks(4, one_dies);
  EXPECT_INT(ended(2), -SIGKILL);
  for (int r = 0; r < 4; ++r)
    if (r != 2) EXPECT_INT(ended(r), 2);
  EXPECT(seconds() - began < PATIENCE + 2 * GRACE + 2);
  for (int r = 0; r < 4; ++r)
    if (r != 2)
      EXPECT_IN_ORDER(all->table[r], "rank 2 of 4 is lost: its process is gone\n", "rank 2 on ",
                      "step 8, forward for ", "recipe.lua:40", "rank 0 on ", "all_reduce",
                      "waits for rank 2");
}

static void one_stops(int rank, int size) {
  cft_heartbeat *h = enter(rank, size);
  nap(0.5);
  if (rank == 1) kill(getpid(), SIGSTOP);
  wait_for_loss(h, rank);
}

TEST(a_rank_that_stands_still_is_lost_by_its_silence) {
  begin_case();
  run_ranks(3, one_stops);
  EXPECT_INT(ended(0), 1);
  EXPECT_INT(ended(2), 1);
  EXPECT_IN_ORDER(all->table[2], "rank 1 of 3 is lost: nothing was heard of it for 0.8 s");
  kill(ranks[1], SIGKILL);
  EXPECT_INT(ended(1), -SIGKILL);
}

static void first_stops(int rank, int size) {
  cft_heartbeat *h = enter(rank, size);
  nap(0.5);
  if (rank == 0) kill(getpid(), SIGSTOP);
  wait_for_loss(h, rank);
}

TEST(rank_0_is_missed_like_any_other) {
  begin_case();
  run_ranks(3, first_stops);
  EXPECT_INT(ended(1), 0);
  EXPECT_INT(ended(2), 0);
  kill(ranks[0], SIGKILL);
  EXPECT_INT(ended(0), -SIGKILL);
}

static void one_fails(int rank, int size) {
  cft_heartbeat *h = enter(rank, size);
  nap(0.3);
  if (rank == 1) {
    cft_heartbeat_leave(h, "recipe.lua:7: no such\nfield");
    _exit(1);
  }
  wait_for_loss(h, rank);
}

TEST(a_rank_that_leaves_with_an_error_is_lost_and_its_error_is_told) {
  begin_case();
  run_ranks(3, one_fails);
  EXPECT_INT(ended(1), 1);
  EXPECT_INT(ended(0), 1);
  EXPECT_INT(ended(2), 1);
  EXPECT_IN_ORDER(all->table[0], "rank 1 of 3 is lost: recipe.lua:7: no such?field");
}

static void hangs(int rank, int size) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/cft_heartbeat.%d", (int)getppid());
  cft_heartbeat *h = enter(rank, size);
  if (rank == 1) {
    nap(0.3);
    _exit(7);
  }
  int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  dup2(fd, 2);
  cft_heartbeat_at(h, 1, 1, CFT_RANK_WAITS, "all_reduce", "");
  for (;;) nap(10);  // as in a collective that never returns
}

TEST(a_program_that_does_not_ask_is_ended_with_the_table) {
  begin_case();
  run_ranks(2, hangs);
  EXPECT_INT(ended(1), 7);
  EXPECT_INT(ended(0), ENDED);
  char path[64], text[2000] = "";
  snprintf(path, sizeof path, "/tmp/cft_heartbeat.%d", (int)getpid());
  FILE *f = fopen(path, "r");
  EXPECT(f && fread(text, 1, sizeof text - 1, f) > 0);
  fclose(f);
  unlink(path);
  EXPECT_IN_ORDER(text, "rank 1 of 2 is lost: its process is gone", "rank 0 on ",
                  "all_reduce for ");
}

// ---- ranks that live and do not come
// --------------------------------------------------------------------

static cft_heartbeat *enter_with_stalls(int rank, int size) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/cft_heartbeat.%d", (int)getppid());
  dup2(open(path, O_CREAT | O_WRONLY | O_APPEND, 0600), 2);
  cft_heartbeat_how how = {rank, size, 5 * PATIENCE, GRACE, ENDED, 0.5, 1.5};
  cft_heartbeat *h = NULL;
  if (rank == 0) {
    if (cft_heartbeat_listen(&h, &all->place, &how) != CFT_OK) _exit(90);
    all->ready = 1;
  } else {
    while (!all->ready) nap(0.005);
    if (cft_heartbeat_join(&h, &all->place, &how) != CFT_OK) _exit(91);
  }
  return h;
}

// What they have printed.
static const char *printed(void) {
  static char text[8000];
  char path[64];
  snprintf(path, sizeof path, "/tmp/cft_heartbeat.%d", (int)getpid());
  FILE *f = fopen(path, "r");
  size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
  text[n] = 0;
  if (f) fclose(f);
  unlink(path);
  return text;
}

static void one_loops(int rank, int size) {
  cft_heartbeat *h = enter_with_stalls(rank, size);
  if (rank == 1)
    cft_heartbeat_at(h, 4, 8, CFT_RANK_WORKS, "after_step", "recipe.lua:9");
  else
    cft_heartbeat_at(h, 4, 9, CFT_RANK_WAITS, "all_gather", "recipe.lua:3");
  for (;;) nap(10);
}

TEST(a_rank_that_never_comes_is_named_and_then_lost_to_itself_too) {
  begin_case();
  run_ranks(3, one_loops);
  for (int r = 0; r < 3; ++r) EXPECT_INT(ended(r), ENDED);
  EXPECT_IN_ORDER(printed(), "the ranks have waited ", " s for rank 1; after 1.5 s all will end\n",
                  "rank 0 on ", "all_gather for ", "waits for rank 1\n", "rank 1 on ",
                  "rank 1 of 3 is lost: it is at 'after_step', and the others waited ",
                  "rank 1 on ", "step 4, after_step for ", "recipe.lua:9");
}

static void all_hang(int rank, int size) {
  cft_heartbeat *h = enter_with_stalls(rank, size);
  cft_heartbeat_at(h, 4, 9, CFT_RANK_WAITS, "all_reduce", "recipe.lua:3");
  for (;;) nap(10);
}

TEST(a_collective_that_nobody_comes_out_of_ends_too) {
  begin_case();
  run_ranks(2, all_hang);
  for (int r = 0; r < 2; ++r) EXPECT_INT(ended(r), ENDED);
  EXPECT_IN_ORDER(printed(), "no rank has come out of a collective; after 1.5 s all will end",
                  "it does not come out of all_reduce");
}

// One saves, and later computes for long, in parts; the others have waited for it all the while.
static void one_takes_long(int rank, int size) {
  cft_heartbeat *h = enter_with_stalls(rank, size);
  cft_heartbeat_at(h, 4, 9, CFT_RANK_WAITS, "all_gather", "");
  if (rank == 0) {
    cft_heartbeat_at(h, 4, 8, CFT_RANK_SAVES, "saving", "");
    nap(3);
    for (int i = 0; i < 6; ++i) {
      cft_heartbeat_at(h, 4, 8, CFT_RANK_WORKS, "forward", "");
      nap(0.5);
    }
    cft_heartbeat_at(h, 4, 9, CFT_RANK_WAITS, "all_gather", "");
  } else {
    nap(6);
  }
  cft_heartbeat_leave(h, NULL);
  _exit(0);
}

TEST(who_saves_or_goes_on_is_waited_for) {
  begin_case();
  run_ranks(2, one_takes_long);
  for (int r = 0; r < 2; ++r) EXPECT_INT(ended(r), 0);
  const char *text = printed();
  EXPECT_IN_ORDER(text, "s for rank 0\n", "saving for ", "s for rank 0\n");
  EXPECT(!strstr(text, "is lost"));
}

// ---- strangers
// ------------------------------------------------------------------------------------

static int knock(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = {.sin_family = AF_INET,
                           .sin_port = htons((uint16_t)all->place.port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  return connect(fd, (struct sockaddr *)&at, sizeof at) == 0 ? fd : -1;
}

TEST(whoever_does_not_know_the_secret_is_not_heard) {
  begin_case();
  cft_heartbeat *h = enter(0, 2), *other = NULL;
  cft_heartbeat_place wrong = all->place;
  wrong.secret[CFT_SECRET_BYTES - 1] ^= 1;
  cft_heartbeat_how how = {1, 2, PATIENCE, GRACE, ENDED, 0, 0};
  EXPECT_FAILS(cft_heartbeat_join(&other, &wrong, &how), CFT_E_IO, "does not know this run");
  char noise[4096];
  for (size_t i = 0; i < sizeof noise; ++i) noise[i] = (char)(i * 31 + 7);
  int fds[40];
  for (int i = 0; i < 40; ++i) {  // more than are let wait, some of them silent, some loud
    fds[i] = knock();
    if (fds[i] >= 0 && i % 2) (void)!send(fds[i], noise, sizeof noise, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  nap(0.3);
  EXPECT_OK(cft_heartbeat_join(&other, &all->place, &how));  // and who knows it still finds a place
  nap(0.3);
  EXPECT_INT(cft_heartbeat_lost(h), -1);
  for (int i = 0; i < 40; ++i) close(fds[i]);
  cft_heartbeat *twin = NULL;
  EXPECT_FAILS(cft_heartbeat_join(&twin, &all->place, &how), CFT_E_IO,
               "does not know this run");  // one place a rank
  cft_heartbeat_leave(other, NULL);
  cft_heartbeat_leave(h, NULL);
}

TEST(what_cannot_be_is_refused) {
  begin_case();
  cft_heartbeat *h = NULL;
  cft_heartbeat_how how = {2, 2, PATIENCE, GRACE, ENDED, 0, 0};
  EXPECT_FAILS(cft_heartbeat_listen(&h, &all->place, &how), CFT_E_ARG, "rank 2 of 2");
  how = (cft_heartbeat_how){1, 2, 0, GRACE, ENDED, 0, 0};
  EXPECT_FAILS(cft_heartbeat_join(&h, &all->place, &how), CFT_E_ARG, "patience 0");
  how.patience_s = 0.5;
  cft_heartbeat_place none = {.addresses = "127.0.0.1 ::1 nonsense", .port = 1};
  EXPECT_FAILS(cft_heartbeat_join(&h, &none, &how), CFT_E_IO,
               "rank 1 cannot reach rank 0 at 127.0.0.1 ::1 nonsense, port 1");
}

TEST_MAIN()
