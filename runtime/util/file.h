// file.h - files as bytes, for the rest of the runtime; cft_file.h has what is public. Every
// message has the path, and the byte where a transfer stopped.
#ifndef CFT_UTIL_FILE_H
#define CFT_UTIL_FILE_H

#include <string.h>
#include <sys/types.h>

#include "cft_file.h"
#include "util/utf8.h"

// A foreign file's name for something, as an argument of a message.
#define QUOTED(name) cft_quote(name, strlen(name)).text

// The system calls that decide whether what is on the disk is whole. Only tests write to this
// table, to let one of the calls fail.
typedef struct cft_system {
  ssize_t (*pread)(int fd, void *data, size_t bytes, off_t at);
  ssize_t (*pwrite)(int fd, const void *data, size_t bytes, off_t at);
  int (*fsync)(int fd);
  int (*close)(int fd);
  int (*rename)(const char *from, const char *to);
  int (*exchange)(const char *a, const char *b);  // renameat2 with RENAME_EXCHANGE
  int (*flock)(int fd, int operation);
} cft_system;

extern cft_system cft_sys;

typedef struct cft_mapping {
  void *data;  // NULL for an empty file
  size_t bytes;
} cft_mapping;

// Open a regular file for reading; a pipe does not make the call wait. E_IO, also for what is no
// regular file. *bytes, where wanted, receives its size.
cft_status cft_file_open(int *fd, const char *path, size_t *bytes);

// Map a regular file, whole. The pages are private and writable: what is written to them stays in
// this process, so a tensor may live in a file's mapping and be trained in place. Nothing is read
// before it is touched, and no memory is reserved for pages that are never written. Where
// someone else shortens the file while it is mapped, what is gone reads as zeros from then on, and
// cft_mapping_check fails: files of ours are replaced by rename, never shortened. E_IO if the path is no readable regular file; *m is then empty.
cft_status cft_file_map(cft_mapping *m, const char *path);

// Accepts an empty mapping, and leaves one.
void cft_file_unmap(cft_mapping *m);

// Write exactly `bytes` bytes, from byte `at` of the file on. fd's own position stays.
cft_status cft_file_write_all(int fd, const char *path, uint64_t at, const void *data,
                              size_t bytes);

// Read `bytes` bytes from byte `at` of the file on, fewer only at its end: *got says how many.
// Where got is NULL, fewer are E_IO: the file was cut since its size was asked for. fd's own
// position stays.
cft_status cft_file_read(int fd, const char *path, uint64_t at, void *data, size_t bytes,
                         size_t *got);

// fsync, of a file or a folder. What was written before a failure may be lost although it can still
// be read: write it anew, do not sync again.
cft_status cft_file_sync(int fd, const char *path);

// Wait until the names in the folder of `path` have reached the disk.
cft_status cft_folder_sync_of(const char *path);

// Make the folders above a path.
cft_status cft_folder_make_above(const char *path);

// The folder that a path lies in, as a new string; NULL when memory ran out.
char *cft_folder_of(const char *path);

// Sort names as cft_folder_list has them, and add a copy of one. E_OOM.
struct cft_names {
  char **items;
  int64_t count, room;
};
cft_status cft_names_add(cft_names *names, const char *name);
void cft_names_sort(cft_names *names);

// Write what a deferred save has noted and not yet written; what one call finishes, the next one
// does not write anew. Neither checksums nor a rename: cft_save_commit has both.
cft_status cft_save_write_noted(cft_save *save);

// Each piece that a deferred save holds, numbered from 0 in the order in which it is written.
void cft_save_each_held(cft_save *save, void (*visit)(void *, const void *, size_t), void *context);

// Who lends what a deferred save holds to the thread that writes it.
typedef struct cft_lender {
  void *context;
  // Where bytes of a held piece are now, from `at` on; *bytes comes with how many are wanted, and
  // leaves with how many there are, at least one. They stay there until they are given back. NULL:
  // they are lost, and the message says so.
  const void *(*take)(void *context, int64_t number, size_t at, size_t *bytes);
  // `once`: they are not wanted again, whatever happens to their file.
  void (*give)(void *context, int64_t number, size_t at, size_t bytes, bool once);
  // The file that has the pieces from `first` to before `end` is on the disk.
  void (*written)(void *context, int64_t first, int64_t end);
  // The disk is full: wait, and true to try once more.
  bool (*wait_for_room)(void *context);
} cft_lender;

// From here on held pieces are asked for there. Borrows it; NULL ends that.
void cft_save_lend(cft_save *save, const cft_lender *lender);

// As cft_save_verify, of what the disk has rather than the page cache, where the file system can
// say.
cft_status cft_save_verify_on_disk(const char *folder);

// Whether this thread's last failure of the file layer was for want of room on the disk, or of quota.
bool cft_file_is_full(void);
void cft_file_failed(int reason);  // notes errno of a failure; 0: none so far
int cft_file_reason(void);         // and what was noted

// Have reads and writes of a file go past the page cache, or no longer; false where the file system
// cannot. Position, length and address must then be multiples of CFT_DIRECT_ALIGNMENT, or the call
// fails with EINVAL.
enum { CFT_DIRECT_ALIGNMENT = 4096 };
bool cft_file_direct(int fd, bool direct);

// "VERB PATH: what errno says": E_OOM for ENOMEM, else E_IO. errno stays.
cft_status cft_file_fail(const char *verb, const char *path);

// printf into a new string, freed by the caller; NULL when memory ran out.
char *cft_format(const char *format, ...) CFT_PRINTF(1, 2);

#endif
