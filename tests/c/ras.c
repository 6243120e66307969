// ras.c - NCCL's RAS thread is asked: one that answers, that says nothing, too much, half of it, or is another program.
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/ras.h"
#include "test.h"

// ---- who is asked ------------------------------------------------------------------------------

// What a listener answers: to the greeting and then to the question; NULL: nothing. `holds`: it does not close then.
typedef struct listener {
  const char *greeting, *answer;
  size_t times;  // that the answer is said
  bool holds;
  int fd, port;
  pthread_t thread;
} listener;

static bool hears(int fd, const char *line) {
  char text[64] = "";
  for (size_t at = 0; at < sizeof text - 1 && !strchr(text, '\n'); ++at)
    if (recv(fd, text + at, 1, 0) != 1) return false;
  return strcmp(text, line) == 0;
}

static void *listens(void *arg) {
  listener *l = arg;
  int fd, held[64], count = 0;
  while ((fd = accept(l->fd, NULL, NULL)) >= 0) {
    bool asked = l->greeting && hears(fd, "CLIENT PROTOCOL 2\n") &&
                 send(fd, l->greeting, strlen(l->greeting), MSG_NOSIGNAL) > 0 && l->answer && hears(fd, "VERBOSE STATUS\n");
    for (size_t i = 0; asked && i < l->times; ++i)
      if (send(fd, l->answer, strlen(l->answer), MSG_NOSIGNAL) < 0) break;
    if ((l->holds || !l->greeting) && count < 64)
      held[count++] = fd;
    else
      close(fd);
  }
  while (count > 0) close(held[--count]);
  return NULL;
}

// Begin to listen: at a free port, or at that of another one.
static void begin(listener *l, int port) {
  int on = 1;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof at;
  l->fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  EXPECT_INT(bind(l->fd, (struct sockaddr *)&at, n), 0);
  EXPECT_INT(listen(l->fd, 16), 0);
  getsockname(l->fd, (struct sockaddr *)&at, &n);
  l->port = ntohs(at.sin_port);
  EXPECT_INT(pthread_create(&l->thread, NULL, listens, l), 0);
}

static void end(listener *l) {
  shutdown(l->fd, SHUT_RDWR);
  pthread_join(l->thread, NULL);
  close(l->fd);
}

static const char *ask(int port, double seconds) {
  static char text[RAS_BYTES];
  char named[64];
  ras_place place;
  snprintf(named, sizeof named, "127.0.0.1:%d", port);
  if (ras_find(&place, named) != CFT_OK) return cft_last_error();
  ras_ask(text, &place, seconds);
  return text;
}

static const char *ask_one(listener l, double seconds) {
  begin(&l, 0);
  const char *text = ask(l.port, seconds);
  end(&l);
  return text;
}

static void expect_text(const char *text, const char *wanted) {
  const char *first = strchr(text, '\n');  // "NCCL at ...:"
  EXPECT(first && strncmp(text, "NCCL at 127.0.0.1:", 18) == 0);
  EXPECT_STR(first + 1, wanted);
}

enum { PATIENCE = 30 };  // seconds that no case takes
static const char *const GREETING = "SERVER PROTOCOL 2\n";

// ---- cases -------------------------------------------------------------------------------------

TEST(an_answer_is_printed_as_a_terminal_may_see_it) {
  const char *answer = "Job summary\r\n===\n\n\nrank\t\x1b[31m2\xff is \xc3\xa4lter\nend";
  expect_text(ask_one((listener){.greeting = GREETING, .answer = answer, .times = 1}, PATIENCE),
              "  Job summary\n  ===\n  rank??[31m2? is \xc3\xa4lter\n  end\n");
}

TEST(more_than_a_screen_is_left_out) {
  const char *answer = "a line that comes again and again, thousands of times\n";
  const char *text = ask_one((listener){.greeting = GREETING, .answer = answer, .times = 100000}, PATIENCE);
  int lines = 0;
  for (const char *c = text; *c; ++c) lines += *c == '\n';
  EXPECT_INT(lines, RAS_LINES + 2);
  EXPECT(strstr(text, "\n  ... (more is left out)\n"));
  text = ask_one((listener){.greeting = GREETING, .answer = "no end of a line, ", .times = 100000}, PATIENCE);
  EXPECT(strlen(text) < 2 * RAS_WIDTH);
}

TEST(an_answer_that_stops_is_printed_as_far_as_it_came) {
  expect_text(ask_one((listener){.greeting = GREETING, .answer = "Job summary\n", .times = 1, .holds = true}, 0.3),
              "  Job summary\n  ... (more did not come in time)\n");
}

TEST(who_says_nothing_or_is_no_nccl_or_is_not_there_is_no_matter) {
  EXPECT_STR(ask_one((listener){0}, 0.5), "");
  EXPECT_STR(ask_one((listener){.greeting = "HTTP/1.1 400 Bad Request\r\n\r\n"}, PATIENCE), "");
  EXPECT_STR(ask_one((listener){.greeting = "no line"}, PATIENCE), "");
  listener gone = {0};
  begin(&gone, 0);
  end(&gone);
  EXPECT_STR(ask(gone.port, PATIENCE), "");
}

TEST(where_one_of_two_stands_still_the_other_is_found) {
  listener still = {0}, other = {.greeting = GREETING, .answer = "here\n", .times = 1};
  begin(&still, 0);
  begin(&other, still.port);
  for (int i = 0; i < 4; ++i) expect_text(ask(still.port, PATIENCE), "  here\n");
  end(&still);
  end(&other);
}

TEST(addresses_are_those_of_NCCL_RAS_ADDR) {
  ras_place place;
  EXPECT_OK(ras_find(&place, "[::1]:28028"));
  EXPECT_STR(place.addresses[0], "::1");
  EXPECT_INT(place.port, 28028);
  EXPECT_OK(ras_find(&place, "localhost:12345"));
  EXPECT(place.count > 0 && place.port == 12345);
  const char *const wrong[] = {"", "localhost", ":28028", "localhost:", "localhost:0", "localhost:70000", "localhost:1x", "[]:1"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i)
    EXPECT_FAILS(ras_find(&place, wrong[i]), CFT_E_ARG, "is no HOST:PORT");
  EXPECT_FAILS(ras_find(&place, "no-such-host.invalid:1"), CFT_E_ARG, "has no address");
  EXPECT_INT(place.count, 0);
}

TEST_MAIN()
