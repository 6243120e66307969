// mapping.c - files in memory, and what happens when somebody shortens one: zeros, and a note that is asked for.
//
// A page of a mapped file that lies beyond the file's end raises SIGBUS. The handler here puts empty pages
// in the place of that page and of all behind it, and notes the file; whoever was reading goes on, with
// zeros, and whoever is about to keep what was made of them calls cft_mapping_check first. Nothing jumps:
// the interrupted code, a compiled trace of Lua among it, never learns of it. The page that the file now
// ends in raises nothing: for its sake the check asks for the size too.
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/file.h"

enum { SLOTS = 4096, PATH_ROOM = 4096 };

// What is mapped now, for the handler. `end` is 0 while a slot is free or being filled.
static struct slot {
  atomic_uintptr_t begin, end;
  char *_Atomic path;
  atomic_int fd;  // kept open, to ask for the size
  atomic_bool taken;
} slots[SLOTS];

static atomic_bool installed, is_lost;
static char lost[PATH_ROOM];  // the first file that was shortened; written once, before is_lost
static atomic_flag writing_lost = ATOMIC_FLAG_INIT;
static struct sigaction before;

static void note_lost(const char *path) {
  if (atomic_flag_test_and_set(&writing_lost)) return;
  size_t n = 0;
  for (; path[n] && n + 1 < sizeof lost; ++n) lost[n] = path[n];
  lost[n] = '\0';
  atomic_store(&is_lost, true);
}

// Only calls that a signal may interrupt anywhere: mmap is one system call.
static void on_sigbus(int sig, siginfo_t *info, void *context) {
  uintptr_t at = (uintptr_t)info->si_addr, page = (uintptr_t)getpagesize();
  for (int i = 0; i < SLOTS && info->si_code == BUS_ADRERR; ++i) {
    uintptr_t begin = atomic_load(&slots[i].begin), end = atomic_load(&slots[i].end);
    if (at < begin || at >= end) continue;
    uintptr_t from = at / page * page;
    void *empty = mmap((void *)from, (end - from + page - 1) / page * page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (empty == MAP_FAILED) break;
    note_lost(atomic_load(&slots[i].path));
    return;
  }
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(sig, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(sig);
  } else {  // no file of ours: it ends the program, as it would have
    signal(sig, SIG_DFL);
    raise(sig);
  }
}

static void install(void) {
  if (atomic_exchange(&installed, true)) return;
  struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &before);
}

// Have the handler know a mapping. Without a free slot it is as others' mappings are.
static void watch(const cft_mapping *m, char *path, int fd) {
  install();
  for (int i = 0; i < SLOTS; ++i) {
    if (atomic_exchange(&slots[i].taken, true)) continue;
    atomic_store(&slots[i].path, path);
    atomic_store(&slots[i].fd, fd);
    atomic_store(&slots[i].begin, (uintptr_t)m->data);
    atomic_store(&slots[i].end, (uintptr_t)m->data + m->bytes);
    return;
  }
  free(path);
  close(fd);
}

static void forget(const cft_mapping *m) {
  for (int i = 0; i < SLOTS; ++i) {
    if (atomic_load(&slots[i].end) == 0 || atomic_load(&slots[i].begin) != (uintptr_t)m->data) continue;
    atomic_store(&slots[i].end, 0);
    free(atomic_load(&slots[i].path));
    close(atomic_load(&slots[i].fd));
    atomic_store(&slots[i].taken, false);
    return;
  }
}

cft_status cft_file_map(cft_mapping *m, const char *path) {
  *m = (cft_mapping){0};
  int fd;
  size_t bytes;
  CFT_TRY(cft_file_open(&fd, path, &bytes));
  cft_status st = CFT_OK;
  char *name = NULL;
  if (bytes > 0) {  // mmap takes no empty range
    void *data = MAP_FAILED;
    name = cft_format("%s", path);
    if (name) data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (data == MAP_FAILED)
      st = name ? cft_file_fail("map", path) : cft_fail(CFT_E_OOM, "map %s: out of memory", path);
    else
      *m = (cft_mapping){.data = data, .bytes = bytes};
  }
  if (m->data) {
    watch(m, name, fd);
  } else {
    free(name);
    close(fd);
  }
  return st;
}

void cft_file_unmap(cft_mapping *m) {
  if (m->data) {
    forget(m);
    munmap(m->data, m->bytes);
  }
  *m = (cft_mapping){0};
}

// Another thread may unmap a file meanwhile: its slot has an end of 0 before its descriptor is closed.
static bool is_short(struct slot *s) {
  uintptr_t begin = atomic_load(&s->begin), end = atomic_load(&s->end);
  struct stat info;
  return end && fstat(atomic_load(&s->fd), &info) == 0 && (uintptr_t)info.st_size < end - begin &&
         atomic_load(&s->end) == end;
}

const char *cft_mapping_lost(void) {
  for (int i = 0; i < SLOTS && !atomic_load(&is_lost); ++i)
    if (is_short(&slots[i])) note_lost(atomic_load(&slots[i].path));
  return atomic_load(&is_lost) ? lost : NULL;
}

cft_status cft_mapping_check(void) {
  const char *path = cft_mapping_lost();
  return path ? cft_fail(CFT_E_IO, "%s: became shorter while it was in use; what was read of it since is "
                         "not what it held", path)
              : CFT_OK;
}

struct cft_map {
  cft_mapping mapping;
};

cft_status cft_map_open(cft_map **out, const char *path) {
  cft_map *m = calloc(1, sizeof *m);
  if (!m) return cft_fail(CFT_E_OOM, "%s: no memory to map it", path);
  cft_status st = cft_file_map(&m->mapping, path);
  if (st == CFT_OK)
    *out = m;
  else
    free(m);
  return st;
}

const void *cft_map_data(const cft_map *m) { return m->mapping.data; }
int64_t cft_map_bytes(const cft_map *m) { return (int64_t)m->mapping.bytes; }

void cft_map_release(cft_map *m) {
  if (!m) return;
  cft_file_unmap(&m->mapping);
  free(m);
}
