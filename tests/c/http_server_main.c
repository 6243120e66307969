// http_server ROOT LOG PORT_FILE: the Hub of http_server.h as a program, for the tests in Lua. It
// writes its port to PORT_FILE and ends with its standard input, however the test that opened it
// ends.
#include <stdio.h>
#include <unistd.h>

#include "http_server.h"

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: %s ROOT LOG PORT_FILE\n", argv[0]), 2;
  http_server *s = http_server_start(argv[1], argv[2]);
  char temporary[1024];
  snprintf(temporary, sizeof temporary, "%s.new", argv[3]);
  FILE *f = fopen(temporary, "w");
  if (!f) return perror(temporary), 1;
  fprintf(f, "%d\n", http_server_port(s));
  fclose(f);
  if (rename(temporary, argv[3]) != 0) return perror(argv[3]), 1;
  char c;
  while (read(STDIN_FILENO, &c, 1) > 0) continue;
  return 0;  // connections that are open end with the process
}
