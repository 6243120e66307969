// library.c - a library by dlopen, and its functions by their names.
#include "util/library.h"

#include <dlfcn.h>
#include <string.h>

static cft_status open_all(cft_library *l) {
  void *handle = dlopen(l->file, RTLD_NOW | RTLD_LOCAL);  // never closed: others hold its functions
  if (!handle)
    return cft_fail(CFT_E_UNSUPPORTED, "%s wants a library that is not here: %s (Debian: %s)",
                    l->purpose, dlerror(), l->package);
  char *to = l->functions;
  for (const char *const *name = l->names; *name; ++name, to += sizeof(void *)) {
    void *found = dlsym(handle, *name);
    if (!found) return cft_fail(CFT_E_UNSUPPORTED, "%s has no function %s", l->file, *name);
    memcpy(to, &found, sizeof found);
  }
  return l->start ? l->start() : CFT_OK;
}

cft_status cft_library_open(cft_library *l) {
  pthread_mutex_lock(&l->lock);
  cft_status st = l->is_open ? CFT_OK : open_all(l);
  l->is_open = st == CFT_OK;
  pthread_mutex_unlock(&l->lock);
  return st;
}
