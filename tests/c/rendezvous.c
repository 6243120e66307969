// rendezvous.c - processes that meet at a port which others may have, or never come.
#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cft_rendezvous.h"
#include "comm/socket.h"
#include "test.h"

enum { MOST = 4 };

// A port from which on as many as are tried are free now, below those that the system gives away.
static int free_ports(void) {
  static int port;
  if (!port) port = 10000 + (int)getpid() % 9000;
  for (;; port += 16) {
    int free = 0;
    for (int i = 0; i < CFT_RENDEZVOUS_PORTS; ++i) {
      int fd;
      if (cft_listen_at(&fd, NULL, port + i) != CFT_OK) break;
      close(fd);
      ++free;
    }
    if (free == CFT_RENDEZVOUS_PORTS) return (port += 16) - 16;
  }
}

static void nap(double s) {
  nanosleep(&(struct timespec){(time_t)s, (long)(1e9 * (s - (double)(time_t)s))}, NULL);
}

static cft_rendezvous_how how_of(int rank, int size, int port) {
  return (cft_rendezvous_how){.host = "localhost", .port = port, .rank = rank, .size = size, .secret = "ours",
                              .seconds = 20};
}

// A rank's part: meet, tell the others its number in a text, and see theirs.
static int meet(int rank, int size, int port) {
  cft_rendezvous_how how = how_of(rank, size, port);
  cft_rendezvous *r = NULL;
  char own[5000], all[MOST * sizeof own];
  if (cft_rendezvous_open(&r, &how) != CFT_OK) {
    fprintf(stderr, "%s\n", cft_last_error());
    return 1;
  }
  for (int again = 0; again < 2; ++again) {
    memset(own, 'a' + rank + again, sizeof own);
    if (cft_rendezvous_gather(r, own, sizeof own, all) != CFT_OK) return 2;
    for (int p = 0; p < size; ++p)
      for (size_t i = 0; i < sizeof own; ++i)
        if (all[(size_t)p * sizeof own + i] != 'a' + p + again) return 3;
  }
  cft_rendezvous_close(r);
  return 0;
}

static pid_t begin(int (*part)(int, int, int), int rank, int size, int port) {
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) _exit(part(rank, size, port));
  return pid;
}

static int ended(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(four_meet_in_any_order_and_hear_each_other) {
  int port = free_ports();
  pid_t pids[4];
  for (int r = 3; r >= 0; --r) {
    pids[r] = begin(meet, r, 4, port);
    nap(0.1);
  }
  for (int r = 0; r < 4; ++r) EXPECT_INT(ended(pids[r]), 0);
}

static int another_run(int rank, int size, int port) {
  cft_rendezvous_how how = how_of(rank, size, port);
  how.secret = "theirs";
  cft_rendezvous *r = NULL;
  return cft_rendezvous_open(&r, &how) == CFT_OK ? 0 : 1;
}

TEST(a_port_that_another_program_has_and_one_of_another_run_are_passed_over) {
  int port = free_ports(), silent;
  EXPECT_OK(cft_listen_at(&silent, NULL, port));  // says nothing to anybody
  pid_t other = begin(another_run, 0, 2, port);
  nap(0.2);
  pid_t pids[2] = {begin(meet, 0, 2, port), begin(meet, 1, 2, port)};
  EXPECT_INT(ended(pids[1]), 0);
  EXPECT_INT(ended(pids[0]), 0);
  EXPECT_INT(waitpid(other, NULL, WNOHANG), 0);  // it waits for its own
  kill(other, SIGKILL);
  EXPECT_INT(ended(other), -SIGKILL);
  close(silent);
}

TEST(noise_disturbs_nobody) {
  int port = free_ports();
  pid_t first = begin(meet, 0, 2, port);
  nap(0.2);
  char noise[4096];
  for (size_t i = 0; i < sizeof noise; ++i) noise[i] = (char)(i * 31 + 7);
  int fds[40];
  for (int i = 0; i < 40; ++i) {  // more than are let wait, some of them silent, some loud
    fds[i] = cft_connect("127.0.0.1", port, 1);
    if (fds[i] < 0) fds[i] = cft_connect("::1", port, 1);
    if (i % 2) (void)!send(fds[i], noise, sizeof noise, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  EXPECT_INT(ended(begin(meet, 1, 2, port)), 0);
  EXPECT_INT(ended(first), 0);
  for (int i = 0; i < 40; ++i) close(fds[i]);
}

TEST(who_does_not_come_is_named) {
  cft_rendezvous_how how = how_of(0, 3, free_ports());
  how.seconds = 0.7;
  cft_rendezvous *r = NULL;
  EXPECT_FAILS(cft_rendezvous_open(&r, &how), CFT_E_IO, "2 of 3 ranks have not come to localhost");
  EXPECT(strstr(cft_last_error(), "within 0.7 s: 1 2"));
}

TEST(nobody_there_and_nobody_who_knows_the_secret) {
  int port = free_ports();
  cft_rendezvous_how how = how_of(1, 2, port);
  how.seconds = 0.7;
  cft_rendezvous *r = NULL;
  EXPECT_FAILS(cft_rendezvous_open(&r, &how), CFT_E_IO, "rank 1 cannot reach rank 0 at localhost, port ");
  pid_t other = begin(another_run, 0, 2, port);
  nap(0.2);
  how.seconds = 1.5;
  EXPECT_FAILS(cft_rendezvous_open(&r, &how), CFT_E_IO, "whoever is there does not know this run");
  kill(other, SIGKILL);
  EXPECT_INT(ended(other), -SIGKILL);
}

static int meets_and_dies(int rank, int size, int port) {
  cft_rendezvous_how how = how_of(rank, size, port);
  cft_rendezvous *r = NULL;
  return cft_rendezvous_open(&r, &how) == CFT_OK ? 7 : 1;
}

TEST(a_rank_that_is_gone_before_it_has_spoken_is_named) {
  int port = free_ports();
  pid_t second = begin(meets_and_dies, 1, 2, port);
  cft_rendezvous_how how = how_of(0, 2, port);
  cft_rendezvous *r = NULL;
  EXPECT_OK(cft_rendezvous_open(&r, &how));
  EXPECT_INT(ended(second), 7);
  char all[2];
  EXPECT_FAILS(cft_rendezvous_gather(r, "x", 1, all), CFT_E_IO, "rank 0 of 2 has lost rank 1");
  cft_rendezvous_close(r);
  cft_rendezvous_close(NULL);
}

TEST(what_cannot_be_is_refused) {
  cft_rendezvous *r = NULL;
  cft_rendezvous_how how = how_of(2, 2, 20000);
  EXPECT_FAILS(cft_rendezvous_open(&r, &how), CFT_E_ARG, "rank 2 of 2");
  how = how_of(0, 2, 65535);
  EXPECT_FAILS(cft_rendezvous_open(&r, &how), CFT_E_ARG, "port 65535");
  char secret[CFT_RENDEZVOUS_SECRET + 1];
  memset(secret, 'x', sizeof secret - 1);
  secret[sizeof secret - 1] = 0;
  how = how_of(0, 2, 20000);
  how.secret = secret;
  EXPECT_FAILS(cft_rendezvous_open(&r, &how), CFT_E_ARG, "a secret of 192 bytes; 191 at most");
}

TEST_MAIN()
