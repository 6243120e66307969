// names.c - names sorted for look-ups.
#include "util/names.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) {
  const cft_name *x = a, *y = b;
  int order = strcmp(x->name, y->name);
  return order ? order : (x->at > y->at) - (x->at < y->at);
}

void cft_name_sort(cft_name *names, int64_t count) {
  if (count) qsort(names, (size_t)count, sizeof *names, by_name);
}

int64_t cft_name_find(const cft_name *names, int64_t count, const char *wanted) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    int order = strcmp(names[middle].name, wanted);
    if (order == 0) return names[middle].at;
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}
