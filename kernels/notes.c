// notes.c - what kernels and devices have to say, kept until somebody asks: a library does not print.
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

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
