// thrift.h - Thrift's compact protocol, as far as Parquet's footers and page headers need it.
//
// A reader over bytes that are not to be trusted: nothing is read past the end, a list has no more
// elements than bytes are left, and nesting is bounded. The first problem stays, and all that is
// read after it is 0 or empty, so that a caller may ask once, at the end.
#ifndef CFT_DATA_THRIFT_H
#define CFT_DATA_THRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cft_thrift_type {
  CFT_THRIFT_STOP = 0,
  CFT_THRIFT_TRUE = 1,
  CFT_THRIFT_FALSE = 2,
  CFT_THRIFT_BYTE = 3,
  CFT_THRIFT_I16 = 4,
  CFT_THRIFT_I32 = 5,
  CFT_THRIFT_I64 = 6,
  CFT_THRIFT_DOUBLE = 7,
  CFT_THRIFT_BINARY = 8,
  CFT_THRIFT_LIST = 9,
  CFT_THRIFT_SET = 10,
  CFT_THRIFT_MAP = 11,
  CFT_THRIFT_STRUCT = 12,
} cft_thrift_type;

typedef struct cft_thrift {
  const uint8_t *at, *end;
  const char *problem;  // NULL, or what is wrong at `at`
  bool cut_short;       // the problem is that the bytes end
} cft_thrift;

// Where a struct is being read. Begin with {0}.
typedef struct cft_thrift_field {
  int id, type;
} cft_thrift_field;

// Go to the next field of a struct; false at its end, and at a problem. The field must then be read
// by one of the functions below, or skipped.
bool cft_thrift_next(cft_thrift *t, cft_thrift_field *f);

void cft_thrift_skip(cft_thrift *t, int type);

// The value of a field of any integer type.
int64_t cft_thrift_int(cft_thrift *t, int type);
bool cft_thrift_bool(cft_thrift *t, int type);
const uint8_t *cft_thrift_binary(cft_thrift *t, int type, size_t *n);

// Begin a list: how many elements follow, all of *element. Each is then read by its own function.
int64_t cft_thrift_list(cft_thrift *t, int type, int *element);

// Refuse: for whoever finds that a value makes no sense.
void cft_thrift_fail(cft_thrift *t, const char *problem);

#endif
