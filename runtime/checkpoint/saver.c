// saver.c - a thread that writes what a deferred save has noted, while the program computes.
//
// It writes from where the bytes lie, for as long as the program leaves them as they are. What it
// will not have written by then it copies ahead, at the rate that it finds the disk to have; what
// is left when the program wants to go on, the program copies. The program's thread starts it, asks
// before it changes what is held, and takes the result; all that the two share is below one lock,
// and what is held below another (held.c). A thread lives as long as its save.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cft_checkpoint.h"
#include "checkpoint/held.h"

enum {
  NICE = 10,
  MESSAGE = 2048,
  MEASURED = 16 << 20,  // bytes by which the disk's rate is judged at the earliest
};

static const double TRUSTED = 0.8;  // of the time that the program says it will take

struct cft_saver {
  cft_device *device;
  double retry_s;
  void *room;  // of a device whose memory is not the host's: pinned, what is held is copied there;
               // kept from save to save
  size_t room_bytes;
  cft_held *held;
  cft_lender lender;

  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
  bool running;  // a thread is to be joined
  bool queued;   // a device's copies are on their way, and the thread starts when they are there
  bool cancelled, nice, no_memory;
  cft_saver_state state;
  char message[MESSAGE], shown[MESSAGE];
  double started, seconds;  // seconds: how long the program will leave what is held as it is
  double copying;           // of that, what the thread took for copies
  int64_t written;          // bytes, by the thread
  cft_saver_times times;
  cft_save *save;
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- memory --------------------------------------------------------------------------------

static void give_back(cft_saver *s) {
  if (s->room) s->device->unpin(s->device, s->room);
  s->room = NULL;
  s->room_bytes = 0;
}

cft_status cft_saver_reserve(cft_saver *s, int64_t wanted) {
  size_t bytes = (size_t)wanted;
  if (!s->device->pin || bytes <= s->room_bytes) return CFT_OK;
  give_back(s);
  CFT_TRY(cft_context(s->device->pin(s->device, &s->room, bytes), "save"));
  s->room_bytes = bytes;
  return CFT_OK;
}

// ---- the thread ----------------------------------------------------------------------------

static void set_state(cft_saver *s, cft_saver_state state, const char *message) {
  pthread_mutex_lock(&s->lock);
  s->state = state;
  if (state >= CFT_SAVER_DONE) s->times.over = now() - s->started;
  snprintf(s->message, sizeof s->message, "%s", message);
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

// So many seconds from now, on the clock of `changed`.
static struct timespec after(double seconds) {
  double at = now() + seconds;
  return (struct timespec){.tv_sec = (time_t)at, .tv_nsec = (long)(1e9 * (at - (double)(time_t)at))};
}

// The disk is full, says the last message: wait for the next try. False where nobody wants one any
// more.
static bool wait_for_room(cft_saver *s) {
  set_state(s, CFT_SAVER_NO_ROOM, cft_last_error());
  struct timespec until = after(s->retry_s);
  pthread_mutex_lock(&s->lock);
  while (!s->cancelled && pthread_cond_timedwait(&s->changed, &s->lock, &until) != ETIMEDOUT) {
  }
  bool go_on = !s->cancelled;
  pthread_mutex_unlock(&s->lock);
  if (go_on) set_state(s, CFT_SAVER_WRITING, "");
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
    if (!wait_for_room(s)) return st;
  }
}

// What computes goes first: nobody waits for the rest but the next save.
static void stand_back(cft_saver *s) {
  if (!s->nice) (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
  s->nice = true;
}

// Copy what will not be written when the program wants to change it, by what was written so far;
// all of it where the program waits already. Without memory the program will wait until it is
// written.
static void copy_ahead(cft_saver *s) {
  if (cft_held_is_free(s->held)) return stand_back(s);
  if (s->no_memory) return;
  double from = now(), elapsed = from - s->started;
  cft_held_bytes bytes = cft_held_count(s->held);
  int64_t leave = 0;
  if (!cft_held_is_awaited(s->held)) {
    if (s->seconds <= 0 || bytes.pending == 0) return;
    if (s->written < MEASURED && elapsed < 0.1 * s->seconds) return;
    double left = TRUSTED * s->seconds - elapsed;
    if (left > 0) leave = (int64_t)(left * (double)s->written / (elapsed - s->copying));
    if (bytes.pending <= leave) return;
    // A little at a time, since time passes and the disk may become faster.
    if (leave < bytes.pending - MEASURED) leave = bytes.pending - MEASURED;
  }
  s->no_memory = !cft_held_copy(s->held, leave);
  s->copying += now() - from;
}

static const void *take(void *context, int64_t number, size_t at, size_t *bytes) {
  cft_saver *s = context;
  copy_ahead(s);
  return cft_held_take(s->held, number, at, bytes);
}

static void give(void *context, int64_t number, size_t at, size_t bytes, bool once) {
  cft_saver *s = context;
  s->written += (int64_t)bytes;
  cft_held_give(s->held, number, at, bytes, once);
}

static void written(void *context, int64_t first, int64_t end) {
  cft_held_written(((cft_saver *)context)->held, first, end);
}

// In the midst of a file: what was written of it stays, since where it came from may have changed.
static bool wait_in_file(void *context) { return wait_for_room(context); }

static void *work(void *context) {
  cft_saver *s = context;
  char *folder = cft_folder_of(cft_save_path(s->save)), *path = cft_format("%s", cft_save_path(s->save));
  cft_status st = CFT_OK;
  if (!folder || !path) CFT_GO(cft_fail(CFT_E_OOM, "save: out of memory"));
  CFT_GO(write_until_done(s, folder));
  stand_back(s);
  CFT_GO(cft_context(cft_save_verify_on_disk(path), "read back after it was saved"));
out:
  cft_save_release(s->save);
  s->save = NULL;
  s->times.copied_bytes = cft_held_count(s->held).copied;
  cft_held_end(s->held);
  set_state(s, st == CFT_OK ? CFT_SAVER_DONE : CFT_SAVER_FAILED, st == CFT_OK ? "" : cft_last_error());
  free(folder);
  free(path);
  return NULL;
}

// ---- the program's side --------------------------------------------------------------------

cft_status cft_saver_new(cft_saver **out, cft_device *device, double retry_s) {
  cft_saver *s = calloc(1, sizeof *s);
  if (!s) return cft_fail(CFT_E_OOM, "save: out of memory");
  cft_status st = cft_held_new(&s->held);
  if (st != CFT_OK) {
    free(s);
    return st;
  }
  s->lender = (cft_lender){s, take, give, written, wait_in_file};
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

struct queue {
  cft_device *device;
  char *room;
  size_t bytes;
  cft_status st;
};

static void add_bytes(void *context, const void *held, size_t bytes) {
  (void)held;
  ((struct queue *)context)->bytes += (bytes + CFT_HELD_LINE - 1) / CFT_HELD_LINE * CFT_HELD_LINE;
}

static void queue_copy(void *context, const void *held, size_t bytes) {
  struct queue *q = context;
  if (q->st == CFT_OK)
    q->st = q->device->aside_download(q->device, q->room + q->bytes, held, bytes);
  add_bytes(q, held, bytes);
}

// Queue the copies of a device beside its stream; the program's thread waits for them later.
static cft_status queue_copies(cft_saver *s, cft_save *save) {
  struct queue q = {.device = s->device};
  cft_save_each_held(save, add_bytes, &q);
  CFT_TRY(cft_saver_reserve(s, (int64_t)q.bytes));
  CFT_TRY(s->device->aside_begin(s->device));
  q.room = s->room;
  q.bytes = 0;
  cft_save_each_held(save, queue_copy, &q);
  return q.st;
}

static cft_status start_thread(cft_saver *s) {
  int failed = pthread_create(&s->thread, NULL, work, s);
  if (failed) return cft_fail(CFT_E_OOM, "save: no thread for it: %s", strerror(failed));
  s->running = true;
  return CFT_OK;
}

cft_status cft_saver_start(cft_saver *s, cft_save *save, double seconds) {
  if (s->state != CFT_SAVER_IDLE)
    return cft_fail(CFT_E_STATE, "save: the one before it is not over");
  if (!cft_save_is_deferred(save)) return cft_fail(CFT_E_ARG, "save: it is not deferred");
  bool queued = s->device->pin != NULL;
  s->started = now();
  s->seconds = seconds;
  s->copying = 0;
  s->written = 0;
  s->cancelled = s->nice = s->no_memory = false;
  s->times = (cft_saver_times){0};
  s->message[0] = '\0';
  if (queued) CFT_TRY(queue_copies(s, save));
  cft_status st = cft_held_begin(s->held, save, s->room);
  if (st == CFT_OK) {
    cft_save_lend(save, &s->lender);
    s->save = save;
    s->state = queued ? CFT_SAVER_COPYING : CFT_SAVER_WRITING;
    s->queued = queued;  // the thread starts when the copies are there
    st = queued ? CFT_OK : start_thread(s);
  }
  if (st == CFT_OK) return CFT_OK;
  cft_save_lend(save, NULL);  // the save is the caller's again
  cft_held_end(s->held);
  s->save = NULL;
  s->state = CFT_SAVER_IDLE;
  return st;
}

// A device's copies have arrived: the rest is the thread's.
static cft_status begin_to_write(cft_saver *s) {
  cft_status st = s->device->aside_wait(s->device);
  s->queued = false;
  s->times.copied = now() - s->started;
  if (st == CFT_OK) {
    s->state = CFT_SAVER_WRITING;
    st = start_thread(s);
  }
  if (st == CFT_OK) return CFT_OK;
  cft_save_release(s->save);
  s->save = NULL;
  cft_held_end(s->held);
  set_state(s, CFT_SAVER_FAILED, cft_last_error());
  return st;
}

cft_status cft_saver_copied(cft_saver *s) {
  if (s->queued) {
    (void)begin_to_write(s);  // a failure is the save's, not the step's
    return CFT_OK;
  }
  if (cft_saver_look(s, 0) == CFT_SAVER_IDLE || cft_held_is_free(s->held)) return CFT_OK;
  cft_held_wait(s->held);
  pthread_mutex_lock(&s->lock);
  s->times.copied = now() - s->started;
  pthread_mutex_unlock(&s->lock);
  return CFT_OK;
}

cft_saver_state cft_saver_look(cft_saver *s, double seconds) {
  if (s->queued && seconds > 0) (void)begin_to_write(s);
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

cft_saver_times cft_saver_took(cft_saver *s) {
  pthread_mutex_lock(&s->lock);
  cft_saver_times times = s->times;
  pthread_mutex_unlock(&s->lock);
  return times;
}

void cft_saver_release(cft_saver *s) {
  if (!s) return;
  if (s->queued) (void)begin_to_write(s);
  pthread_mutex_lock(&s->lock);
  s->cancelled = true;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
  if (s->running) pthread_join(s->thread, NULL);
  give_back(s);
  cft_held_release(s->held);
  pthread_cond_destroy(&s->changed);
  pthread_mutex_destroy(&s->lock);
  free(s);
}
