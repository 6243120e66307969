// noted.c - what a deferred save is to write: notes of files, and the writing of them, by any thread.
#include <stdlib.h>

#include "util/save_impl.h"

cft_noted *cft_noted_new(const char *name) {
  cft_noted *file = calloc(1, sizeof *file);
  if (file) file->name = cft_format("%s", name);
  if (file && !file->name) {
    free(file);
    file = NULL;
  }
  return file;
}

void cft_noted_free(cft_noted *file) {
  if (!file) return;
  free(file->name);
  free(file->text);
  free(file->pieces);
  free(file);
}

static cft_status no_memory(const char *name) {
  return cft_fail(CFT_E_OOM, "write %s: out of memory", name);
}

// Room for `bytes` more in the text.
static cft_status widen(cft_noted *file, size_t bytes) {
  if (bytes <= file->text_room - file->text_bytes) return CFT_OK;
  size_t room = 2 * (file->text_bytes + bytes);
  char *text = realloc(file->text, room);
  if (!text) return no_memory(file->name);
  file->text = text;
  file->text_room = room;
  return CFT_OK;
}

cft_status cft_noted_put(cft_noted *file, const void *data, size_t bytes, bool held) {
  if (bytes == 0) return CFT_OK;
  cft_piece *last = file->count ? &file->pieces[file->count - 1] : NULL;
  bool joins = !held && last && !last->held;
  if (!joins && file->count == file->room) {
    int64_t room = file->room ? 2 * file->room : 16;
    cft_piece *pieces = realloc(file->pieces, (size_t)room * sizeof *pieces);
    if (!pieces) return no_memory(file->name);
    file->pieces = pieces;
    file->room = room;
    last = file->count ? &pieces[file->count - 1] : NULL;
  }
  if (!held) {
    CFT_TRY(widen(file, bytes));
    memcpy(file->text + file->text_bytes, data, bytes);
  }
  if (joins)
    last->bytes += bytes;
  else
    file->pieces[file->count++] =
        (cft_piece){.held = held ? data : NULL, .at = file->text_bytes, .bytes = bytes};
  if (!held) file->text_bytes += bytes;
  file->bytes += bytes;
  return CFT_OK;
}

cft_status cft_noted_keep(cft_save *save, cft_noted *file) {
  if (save->noted_count == save->noted_room) {
    int64_t room = save->noted_room ? 2 * save->noted_room : 16;
    cft_noted **files = realloc(save->noted, (size_t)room * sizeof *files);
    if (!files) return no_memory(file->name);
    save->noted = files;
    save->noted_room = room;
  }
  save->noted[save->noted_count++] = file;
  return CFT_OK;
}

// ---- of a whole save -----------------------------------------------------------------------

void cft_save_defer(cft_save *save) { save->deferred = true; }
bool cft_save_is_deferred(const cft_save *save) { return save->deferred; }

int64_t cft_save_bytes(const cft_save *save) {
  size_t bytes = 0;
  for (int64_t i = 0; i < save->noted_count; ++i)
    if (!save->noted[i]->written) bytes += save->noted[i]->bytes;
  return (int64_t)bytes;
}

void cft_save_each_held(cft_save *save, void (*visit)(void *, const void *, size_t),
                        void *context) {
  int64_t number = 0;
  for (int64_t i = 0; i < save->noted_count; ++i)
    for (int64_t k = 0; k < save->noted[i]->count; ++k) {
      cft_piece *piece = &save->noted[i]->pieces[k];
      if (!piece->held) continue;
      piece->number = number++;
      visit(context, piece->held, piece->bytes);
    }
}

void cft_save_lend(cft_save *save, const cft_lender *lender) { save->lender = lender; }

// A held piece that somebody lends, copied to where the writer wants it; it is given back before
// anything is written, so that nobody who wants to change it waits for a disk.
static cft_status put_lent(const cft_lender *lender, cft_writer *w, const cft_piece *piece) {
  for (size_t done = 0, n; done < piece->bytes; done += n) {
    char *to;
    CFT_TRY(cft_writer_room(w, &to, &n));
    if (n > piece->bytes - done) n = piece->bytes - done;
    const void *from = lender->take(lender->context, piece->number, done, &n);
    if (!from) return CFT_E_STATE;
    memcpy(to, from, n);
    lender->give(lender->context, piece->number, done, n, cft_writer_is_direct(w));
    cft_writer_filled(w, n);
  }
  return CFT_OK;
}

static cft_status write_one(cft_save *save, const cft_noted *file) {
  cft_writer *w = NULL;
  cft_status st;
  int64_t first = INT64_MAX, end = 0;
  CFT_GO(cft_writer_new(&w, save, file->name));
  CFT_GO(cft_writer_reserve(w, file->bytes));
  for (int64_t i = 0; i < file->count; ++i) {
    const cft_piece *piece = &file->pieces[i];
    if (!piece->held || !save->lender) {
      CFT_GO(cft_writer_put(w, piece->held ? piece->held : file->text + piece->at, piece->bytes));
      continue;
    }
    if (piece->number < first) first = piece->number;
    end = piece->number + 1;
    CFT_GO(put_lent(save->lender, w, piece));
  }
  CFT_GO(cft_writer_commit(w));
  if (first < end) save->lender->written(save->lender->context, first, end);
out:
  cft_writer_release(w);
  return st;
}

cft_status cft_save_write_noted(cft_save *save) {
  bool deferred = save->deferred;
  save->deferred = false;
  cft_status st = CFT_OK;
  for (int64_t i = 0; st == CFT_OK && i < save->noted_count; ++i) {
    if (save->noted[i]->written) continue;
    st = write_one(save, save->noted[i]);
    save->noted[i]->written = st == CFT_OK;
  }
  save->deferred = deferred;
  return st;
}
