// base.c - statuses, dtypes, the thread's message, notes, the cache folder.
#include "base.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024 };
static _Thread_local char message[MESSAGE_BYTES];

const char *cft_last_error(void) { return message; }

cft_status cft_fail(cft_status st, const char *format, ...) {
  // Through a second buffer: an argument may be the old message itself.
  char text[MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  memcpy(message, text, sizeof text);
  return st;
}

cft_status cft_context(cft_status st, const char *format, ...) {
  if (st == CFT_OK) return st;
  char text[MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (n < 0) n = 0;
  if (n >= (int)sizeof text) n = (int)sizeof text - 1;
  // The cause comes last, and what does not fit of it is cut.
  snprintf(text + n, sizeof text - (size_t)n, ": %.*s", (int)sizeof text - n - 3, message);
  memcpy(message, text, sizeof text);
  return st;
}

const char *cft_status_name(cft_status st) {
  switch (st) {
#define XX(name, value) \
  case CFT_##name: return #name;
    CFT_STATUS_MAP(XX)
#undef XX
  }
  return "?";
}

#define XX(id, value, name, bytes) [value] = {name, bytes},
static const struct dtype {
  const char *name;
  size_t bytes;
} dtypes[] = {CFT_DTYPE_MAP(XX)};
#undef XX

static const struct dtype *dtype_at(cft_dtype dtype) {
  static const struct dtype none = {"?", 0};
  return (size_t)dtype < sizeof dtypes / sizeof *dtypes ? &dtypes[dtype] : &none;
}

size_t cft_dtype_bytes(cft_dtype dtype) { return dtype_at(dtype)->bytes; }
const char *cft_dtype_name(cft_dtype dtype) { return dtype_at(dtype)->name; }

size_t cft_cache_folder(char *path, size_t room) {
  const char *folder = getenv("CFT_CACHE"), *below = "";
  if (!folder) {
    folder = getenv("XDG_CACHE_HOME"), below = "/cft";
    if (!folder || !*folder) folder = getenv("HOME"), below = "/.cache/cft";
  }
  if (!folder || !*folder) return 0;
  int n = snprintf(path, room, "%s%s", folder, below);
  return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

// ---- notes: what kernels and devices have to say, kept until somebody asks --------------------------

typedef struct note {
  struct note *next;
  char text[];
} note;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static note *first, *said;  // those that wait; the one that was handed out last

void cft_note(const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  pthread_mutex_lock(&lock);
  note **at = &first;
  while (*at != NULL && strcmp((*at)->text, text) != 0) at = &(*at)->next;
  size_t bytes = strlen(text) + 1;
  if (*at == NULL && (*at = malloc(sizeof **at + bytes)) != NULL) {
    (*at)->next = NULL;
    memcpy((*at)->text, text, bytes);
  }
  pthread_mutex_unlock(&lock);
}

const char *cft_next_note(void) {
  pthread_mutex_lock(&lock);
  free(said);
  said = first;
  if (first != NULL) first = first->next;
  const char *text = said ? said->text : NULL;
  pthread_mutex_unlock(&lock);
  return text;
}
