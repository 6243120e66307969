// save_impl.h - a folder on its way, for the files that make one: save.c, writer.c, noted.c.
#ifndef CFT_UTIL_SAVE_IMPL_H
#define CFT_UTIL_SAVE_IMPL_H

#include "util/file.h"
#include "util/hash.h"

// Bytes of a file that is noted, in their order: in the file's `text` from `at` on, or held.
typedef struct cft_piece {
  const void *held;  // NULL: of the text
  size_t at, bytes;
  int64_t number;  // of what is held, among all that its save holds
} cft_piece;

// A file that is to be written later.
typedef struct cft_noted {
  char *name;  // in the save's folder
  char *text;
  size_t text_bytes, text_room, bytes;
  cft_piece *pieces;
  int64_t count, room;
  bool written;
} cft_noted;

struct cft_save {
  char *path;       // where it is to appear
  char *temporary;  // where it is made
  int lock;         // an open, locked handle of `temporary`: its maker lives
  struct written {  // files that a writer of this save has finished
    char *name, hex[33];
  } * written;
  int64_t count, room;
  bool deferred;      // its writers note what they are given
  cft_noted **noted;  // what they have noted so far
  int64_t noted_count, noted_room;
  const cft_lender *lender;  // of what is held, or NULL: it lies where it was noted
};

// The end of every name under which something is made: this, and six characters.
extern const char cft_temporary_mark[];

// Six characters that no other process will choose.
void cft_random_suffix(char suffix[7]);

// A path below a folder, with no step up and no empty one.
bool cft_stays_below(const char *path);

// Where the writer takes its next bytes, at least one and at most *bytes: whoever fills them says
// so. A large file's blocks go past the page cache, where that can be.
cft_status cft_writer_room(cft_writer *w, char **at, size_t *bytes);
void cft_writer_filled(cft_writer *w, size_t bytes);
bool cft_writer_is_direct(const cft_writer *w);  // the first write that does has succeeded

// Remember a finished file's checksum; a file that is written again gets its new one.
cft_status cft_save_note(cft_save *save, const char *name, XXH128_hash_t hash);

// A file that nothing is noted of yet; NULL when memory ran out.
cft_noted *cft_noted_new(const char *name);
void cft_noted_free(cft_noted *file);  // NULL is accepted
// Behind what is noted already: a copy of the bytes, or a note of where they are held.
cft_status cft_noted_put(cft_noted *file, const void *data, size_t bytes, bool held);
// The file is whole; the save has it from now on.
cft_status cft_noted_keep(cft_save *save, cft_noted *file);

#endif
