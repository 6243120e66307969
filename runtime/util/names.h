// names.h - names sorted for look-ups: where each stands in the list that they came from.
#ifndef CFT_UTIL_NAMES_H
#define CFT_UTIL_NAMES_H

#include <stdint.h>

typedef struct cft_name {
  const char *name;  // borrowed
  int64_t at;
} cft_name;

void cft_name_sort(cft_name *names, int64_t count);  // equal ones by where they stand

// Where a name of the sorted list stands, -1 for one that is not in it.
int64_t cft_name_find(const cft_name *names, int64_t count, const char *wanted);

#endif
