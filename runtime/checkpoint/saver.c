// saver.c - a thread that copies and writes what a deferred save has noted, while the program computes.
//
// The program's thread starts it, asks before it changes what is held, and takes the result; all that
// the two share is below one lock. A thread lives as long as its save.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cft_checkpoint.h"
#include "util/file.h"

enum { LINE = 64, NICE = 10, MESSAGE = 2048, PIECE = 4 << 20 };

struct cft_saver {
  cft_device *device;
  double retry_s;
  void *room;  // where held bytes are copied to; kept from save to save
  size_t bytes;

  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
  bool running;  // a thread is to be joined
  bool copied, cancelled;
  cft_saver_state state;
  char message[MESSAGE], shown[MESSAGE];
  double started, copied_s, over_s;
  cft_save *save;
  struct span {  // what is copied
    const void *from;
    void *to;
    size_t bytes;
    int64_t piece;  // the first of its pieces, which all have PIECE bytes but the last
  } * spans;
  int64_t count, space;
  int64_t pieces;
  atomic_llong next, copied_pieces;  // which is taken next; how many are copied
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- memory --------------------------------------------------------------------------------

static cft_device *keeper(const cft_saver *s) { return s->device->pin ? s->device : cft_cpu_device(); }

static void give_back(cft_saver *s) {
  if (s->room && s->device->pin) s->device->unpin(s->device, s->room);
  if (s->room && !s->device->pin) keeper(s)->free(keeper(s), s->room, s->bytes, CFT_MEM_WORKSPACE);
  s->room = NULL;
  s->bytes = 0;
}

cft_status cft_saver_reserve(cft_saver *s, int64_t wanted) {
  size_t bytes = (size_t)wanted;
  if (bytes <= s->bytes) return CFT_OK;
  give_back(s);
  cft_device *d = keeper(s);
  CFT_TRY(cft_context(d->pin ? d->pin(d, &s->room, bytes)
                             : d->alloc(d, &s->room, bytes, CFT_MEM_WORKSPACE), "save"));
  s->bytes = bytes;
  return CFT_OK;
}

int64_t cft_saver_room(const cft_saver *s) { return (int64_t)s->bytes; }

// ---- the thread ----------------------------------------------------------------------------

static void set_state(cft_saver *s, cft_saver_state state, const char *message) {
  pthread_mutex_lock(&s->lock);
  s->state = state;
  if (state >= CFT_SAVER_DONE) s->over_s = now() - s->started;
  snprintf(s->message, sizeof s->message, "%s", message);
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

// So many seconds from now, on the clock of `changed`.
static struct timespec after(double seconds) {
  double at = now() + seconds;
  return (struct timespec){.tv_sec = (time_t)at, .tv_nsec = (long)(1e9 * (at - (double)(time_t)at))};
}

// Wait for the next try; false where nobody wants one any more.
static bool wait_for_room(cft_saver *s) {
  struct timespec until = after(s->retry_s);
  pthread_mutex_lock(&s->lock);
  while (!s->cancelled && pthread_cond_timedwait(&s->changed, &s->lock, &until) != ETIMEDOUT) {
  }
  bool go_on = !s->cancelled;
  pthread_mutex_unlock(&s->lock);
  return go_on;
}

// Everything into the file system, once. E_IO with cft_file_is_full() where that had no room.
static cft_status write_once(cft_saver *s, const char *folder) {
  int64_t wanted = cft_save_bytes(s->save), room = 0;
  cft_file_failed(0);
  if (cft_folder_room(&room, folder) == CFT_OK && room < wanted) {
    cft_file_failed(ENOSPC);
    return cft_fail(CFT_E_IO, "save %s: no room: %.1f MB wanted, %.1f MB free",
                    folder, 1e-6 * (double)wanted, 1e-6 * (double)room);
  }
  cft_file_failed(0);
  return cft_save_commit(s->save);
}

static cft_status write_until_done(cft_saver *s, const char *folder) {
  for (;;) {
    cft_status st = write_once(s, folder);
    if (st == CFT_OK || !cft_file_is_full()) return st;
    set_state(s, CFT_SAVER_NO_ROOM, cft_last_error());
    if (!wait_for_room(s)) return st;
  }
}

// Copy pieces as long as there are any that nobody has taken: the thread does, and the program helps
// where it would wait. Whoever copies the last one says so.
static void copy_pieces(cft_saver *s) {
  int64_t i = 0;
  for (int64_t piece; (piece = atomic_fetch_add(&s->next, 1)) < s->pieces;) {
    while (i + 1 < s->count && s->spans[i + 1].piece <= piece) ++i;  // pieces only grow
    const struct span *span = &s->spans[i];
    size_t at = (size_t)(piece - span->piece) * PIECE;
    size_t bytes = span->bytes - at < PIECE ? span->bytes - at : PIECE;
    memcpy((char *)span->to + at, (const char *)span->from + at, bytes);
    if (atomic_fetch_add(&s->copied_pieces, 1) + 1 < s->pieces) continue;
    pthread_mutex_lock(&s->lock);
    s->copied = true;
    s->copied_s = now() - s->started;
    s->state = CFT_SAVER_WRITING;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
  }
}

static void *work(void *context) {
  cft_saver *s = context;
  copy_pieces(s);
  pthread_mutex_lock(&s->lock);
  while (!s->copied) pthread_cond_wait(&s->changed, &s->lock);
  s->state = CFT_SAVER_WRITING;
  pthread_mutex_unlock(&s->lock);
  // What computes goes first from here on; nobody waits for this but the next save.
  (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
  char *folder = cft_folder_of(cft_save_path(s->save)), *path = cft_format("%s", cft_save_path(s->save));
  cft_status st = CFT_OK;
  if (!folder || !path) CFT_GO(cft_fail(CFT_E_OOM, "save: out of memory"));
  CFT_GO(write_until_done(s, folder));
  CFT_GO(cft_context(cft_save_verify(path), "read back after it was saved"));
out:
  cft_save_release(s->save);
  s->save = NULL;
  set_state(s, st == CFT_OK ? CFT_SAVER_DONE : CFT_SAVER_FAILED, st == CFT_OK ? "" : cft_last_error());
  free(folder);
  free(path);
  return NULL;
}

// ---- the program's side --------------------------------------------------------------------

cft_status cft_saver_new(cft_saver **out, cft_device *device, double retry_s) {
  cft_saver *s = calloc(1, sizeof *s);
  if (!s) return cft_fail(CFT_E_OOM, "save: out of memory");
  s->device = device;
  s->retry_s = retry_s;
  pthread_condattr_t how;
  pthread_condattr_init(&how);
  pthread_condattr_setclock(&how, CLOCK_MONOTONIC);  // a clock that is set back makes nobody wait
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->changed, &how);
  pthread_condattr_destroy(&how);
  *out = s;
  return CFT_OK;
}

struct gathering {
  cft_saver *s;
  size_t bytes;
  cft_status st;
};

static void gather(void *context, const void **held, size_t bytes) {
  struct gathering *g = context;
  cft_saver *s = g->s;
  if (g->st != CFT_OK) return;
  if (s->count == s->space) {
    int64_t space = s->space ? 2 * s->space : 256;
    struct span *spans = realloc(s->spans, (size_t)space * sizeof *spans);
    if (!spans) {
      g->st = cft_fail(CFT_E_OOM, "save: out of memory");
      return;
    }
    s->spans = spans;
    s->space = space;
  }
  s->spans[s->count++] = (struct span){.from = *held, .bytes = bytes};
  g->bytes += (bytes + LINE - 1) / LINE * LINE;
}

// Held pieces have their new address.
static void point_to_copy(void *context, const void **held, size_t bytes) {
  struct span **next = context;
  (void)bytes;
  *held = (*next)++->to;
}

// Queue the copies of a device beside its stream; the program's thread waits for them later.
static cft_status queue_copies(cft_saver *s) {
  cft_device *d = s->device;
  CFT_TRY(d->aside_begin(d));
  for (int64_t i = 0; i < s->count; ++i)
    CFT_TRY(d->aside_download(d, s->spans[i].to, s->spans[i].from, s->spans[i].bytes));
  return CFT_OK;
}

static cft_status start_thread(cft_saver *s) {
  int failed = pthread_create(&s->thread, NULL, work, s);
  if (failed) return cft_fail(CFT_E_OOM, "save: no thread for it: %s", strerror(failed));
  s->running = true;
  return CFT_OK;
}

cft_status cft_saver_start(cft_saver *s, cft_save *save) {
  if (s->state != CFT_SAVER_IDLE)
    return cft_fail(CFT_E_STATE, "save: the one before it is not over");
  if (!cft_save_is_deferred(save)) return cft_fail(CFT_E_ARG, "save: it is not deferred");
  struct gathering g = {.s = s};
  s->count = 0;
  cft_save_each_held(save, gather, &g);
  CFT_TRY(g.st);
  CFT_TRY(cft_saver_reserve(s, (int64_t)g.bytes));
  size_t at = 0;
  s->pieces = 0;
  for (int64_t i = 0; i < s->count; ++i) {
    s->spans[i].to = (char *)s->room + at;
    s->spans[i].piece = s->pieces;
    at += (s->spans[i].bytes + LINE - 1) / LINE * LINE;
    s->pieces += (int64_t)((s->spans[i].bytes + PIECE - 1) / PIECE);
  }
  atomic_store(&s->next, s->device->pin ? s->pieces : 0);
  atomic_store(&s->copied_pieces, 0);
  s->started = now();
  s->cancelled = false;
  s->copied = s->pieces == 0;
  s->copied_s = s->over_s = 0;
  s->message[0] = '\0';
  if (s->device->pin) CFT_TRY(queue_copies(s));
  struct span *next = s->spans;
  cft_save_each_held(save, point_to_copy, &next);
  s->save = save;
  s->state = CFT_SAVER_COPYING;
  if (s->device->pin) return CFT_OK;  // the thread starts when the copies are there
  cft_status st = start_thread(s);
  if (st != CFT_OK) {  // the save is the caller's again, with what it held
    struct span *span = s->spans;
    for (int64_t i = 0; i < s->count; ++i) s->spans[i].to = (void *)s->spans[i].from;
    cft_save_each_held(save, point_to_copy, &span);
    s->save = NULL;
    s->state = CFT_SAVER_IDLE;
  }
  return st;
}

// A device's copies have arrived: the rest is the thread's.
static cft_status begin_to_write(cft_saver *s) {
  cft_status st = s->device->aside_wait(s->device);
  s->copied = true;
  s->copied_s = now() - s->started;
  if (st == CFT_OK) {
    s->state = CFT_SAVER_WRITING;
    st = start_thread(s);
  }
  if (st == CFT_OK) return CFT_OK;
  cft_save_release(s->save);
  s->save = NULL;
  set_state(s, CFT_SAVER_FAILED, cft_last_error());
  return st;
}

cft_status cft_saver_copied(cft_saver *s) {
  cft_saver_state state = cft_saver_look(s, 0);
  if (state == CFT_SAVER_IDLE) return CFT_OK;
  if (!s->running && state == CFT_SAVER_COPYING) {
    (void)begin_to_write(s);  // a failure is the save's, not the step's
    return CFT_OK;
  }
  copy_pieces(s);
  pthread_mutex_lock(&s->lock);
  while (!s->copied) pthread_cond_wait(&s->changed, &s->lock);
  pthread_mutex_unlock(&s->lock);
  return CFT_OK;
}

cft_saver_state cft_saver_look(cft_saver *s, double seconds) {
  if (!s->running && seconds > 0 && s->state == CFT_SAVER_COPYING) (void)begin_to_write(s);
  pthread_mutex_lock(&s->lock);
  struct timespec until = after(seconds);
  while (seconds > 0 && s->running && s->state < CFT_SAVER_DONE)
    if (pthread_cond_timedwait(&s->changed, &s->lock, &until) == ETIMEDOUT) break;
  cft_saver_state state = s->state;
  pthread_mutex_unlock(&s->lock);
  return state;
}

cft_saver_state cft_saver_take(cft_saver *s) {
  cft_saver_state state = cft_saver_look(s, 0);
  if (state < CFT_SAVER_DONE) return state;
  if (s->running) pthread_join(s->thread, NULL);
  s->running = false;
  s->state = CFT_SAVER_IDLE;
  return state;
}

const char *cft_saver_message(cft_saver *s) {
  pthread_mutex_lock(&s->lock);
  memcpy(s->shown, s->message, sizeof s->shown);
  pthread_mutex_unlock(&s->lock);
  return s->shown;
}

void cft_saver_times(cft_saver *s, double *copied, double *over) {
  pthread_mutex_lock(&s->lock);
  *copied = s->copied_s;
  *over = s->over_s;
  pthread_mutex_unlock(&s->lock);
}

void cft_saver_release(cft_saver *s) {
  if (!s) return;
  if (!s->running && s->state == CFT_SAVER_COPYING) (void)begin_to_write(s);
  pthread_mutex_lock(&s->lock);
  s->cancelled = true;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
  if (s->running) pthread_join(s->thread, NULL);
  give_back(s);
  free(s->spans);
  pthread_cond_destroy(&s->changed);
  pthread_mutex_destroy(&s->lock);
  free(s);
}
