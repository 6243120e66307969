// cft_file.h - files and folders: what is where, locks, and how a file or a folder gets onto a disk
// whole or not at all. Every message names the path and the reason.
#ifndef CFT_FILE_H
#define CFT_FILE_H

#include "base.h"

#ifndef CFT_CDEF
#include <stdbool.h>
#endif

// ---- paths ---------------------------------------------------------------------------------

typedef enum cft_path_kind {
  CFT_PATH_NONE = 0,  // nothing there, or not allowed to look
  CFT_PATH_FILE = 1,
  CFT_PATH_FOLDER = 2,
  CFT_PATH_OTHER = 3,  // a device, a socket, a pipe
} cft_path_kind;

// What is at a path, links followed. *bytes, where wanted, receives a file's size, else 0.
CFT_API cft_path_kind cft_path_look(const char *path, int64_t *bytes);

// Make a folder and those above it; one that exists is fine. E_IO; E_ARG for an empty path.
CFT_API cft_status cft_folder_make(const char *path);

// Remove a file, or a folder with all that is in it; links are removed, not followed. A path with
// nothing there is fine. E_IO.
CFT_API cft_status cft_path_remove(const char *path);

// Make a symbolic link at `path`, in the place of what may be there, in one step. E_IO.
CFT_API cft_status cft_link_replace(const char *target, const char *path);

// The names in a folder (not "." and ".."), sorted bytewise. E_IO, E_OOM.
typedef struct cft_names cft_names;
CFT_API cft_status cft_folder_list(cft_names **out, const char *path);
CFT_API int64_t cft_names_count(const cft_names *names);
CFT_API const char *cft_names_at(const cft_names *names, int64_t i);  // NULL out of range
CFT_API void cft_names_release(cft_names *names);

// Make an empty folder that only this user may enter, in TMPDIR or else /tmp, and write its path.
// Whoever asked for it removes it. E_IO; E_ARG where `room` bytes do not hold the path.
CFT_API cft_status cft_folder_temporary(char *path, size_t room);

// Wait until the names in this folder have reached the disk. A file system that does not sync
// folders (EINVAL, ENOTSUP) is taken at its word. E_IO.
CFT_API cft_status cft_folder_sync(const char *path);

// Bytes that the file system of this folder has room for, to this user. E_IO.
CFT_API cft_status cft_folder_room(int64_t *bytes, const char *folder);

// ---- locks ---------------------------------------------------------------------------------

// Try to lock a file, which is made if it is not there, without waiting: for this process alone, or
// shared with others that share it. *fd receives a descriptor; -1 where another process holds the
// lock. It is held until it is released or the process ends, however it ends. E_IO; E_UNSUPPORTED
// on a file system without locks (some of clusters are).
CFT_API cft_status cft_lock_take(int *fd, const char *path, bool shared);
CFT_API void cft_lock_release(int *fd);  // -1 is accepted, and left

// The same for this process alone, also where there are no locks: a file PATH.holder stands for one then. It outlives a
// process that is killed: the next one on this machine takes it over, one on another has to remove it.
CFT_API cft_status cft_lock_take_or_make(int *fd, const char *path);

// Who had the lock that this thread found busy last: "process 12 on node3", with what to do where only
// people can know; "" where nobody says.
CFT_API const char *cft_lock_holder(void);

// ---- writing: whole or not at all ----------------------------------------------------------
//
// A file is written under a temporary name in its own folder, synced, and renamed over the old one;
// a failure or a kill at any moment leaves the old file as it was. A checkpoint is a folder that
// appears the same way, with a list of checksums in it, `checksums.xxh128`, that is written last;
// `xxh128sum -c checksums.xxh128` reads it too. XXH3-128 finds damage as well as a cryptographic
// hash does, at several times the rate of a disk (6 GB/s measured; crc32 2.4); it is no defence
// against somebody who wants to deceive.
//
// A commit has succeeded when all of it would outlive a power cut: contents, names, and the names
// of the folders.

typedef struct cft_save cft_save;      // a checkpoint folder on its way
typedef struct cft_writer cft_writer;  // one file on its way

// Begin the folder that is to appear at `path`: make an empty `path.cft-tmp-XXXXXX` beside it, and
// the folders above. Folders of such a name that killed processes left there are removed (once they
// are a minute old); those of living processes hold a lock and stay. E_IO, E_OOM.
CFT_API cft_status cft_save_new(cft_save **out, const char *path);

// Where the folder is to appear.
CFT_API const char *cft_save_path(const cft_save *save);

// The temporary folder. Other ranks may put files there until commit.
CFT_API const char *cft_save_folder(const cft_save *save);

// Write the checksums, sync, and rename to `path`; a folder that was there is replaced, and removed
// once the new one is on the disk. Files that were not written through a cft_writer of this save
// are read once for their checksum. On failure `path` is as it was. Release the save in any case.
CFT_API cft_status cft_save_commit(cft_save *save);

// Without commit: remove the temporary folder. Accepts NULL.
CFT_API void cft_save_release(cft_save *save);

// Begin a file: `path` lies in the save's folder or, where save is NULL, anywhere. Folders above it
// are made. E_IO, E_OOM; E_ARG for a path that leaves the save's folder.
CFT_API cft_status cft_writer_new(cft_writer **out, cft_save *save, const char *path);

// Have the file system set `bytes` aside for the file, so that a full disk is found before hours of
// writing. Where it cannot, nothing happens. E_IO when the disk is full.
CFT_API cft_status cft_writer_reserve(cft_writer *w, size_t bytes);

// Append. After a failure every later put and the commit fail too.
CFT_API cft_status cft_writer_put(cft_writer *w, const void *data, size_t bytes);

// Sync and rename into place. Release the writer in any case. On failure the old file is as it was,
// but where only its folder could not be synced: then the new one stands there, whole.
CFT_API cft_status cft_writer_commit(cft_writer *w);

// Without commit: remove the temporary file; the old one stays. Accepts NULL.
CFT_API void cft_writer_release(cft_writer *w);

// A whole file in one call.
CFT_API cft_status cft_file_write(cft_save *save, const char *path, const void *data, size_t bytes);

// ---- writing: noted now, written later -------------------------------------------------------
//
// A save that is deferred writes nothing before it is committed: its writers note what they are given,
// and cft_save_commit, on any thread, writes it all. A commit that fails may be tried again: what was
// finished is not written anew. cft_saver (cft_checkpoint.h) does so beside a running program.

// From here on writers of this save take notes.
CFT_API void cft_save_defer(cft_save *save);
CFT_API bool cft_save_is_deferred(const cft_save *save);

// As cft_writer_put; a deferred save does not copy the bytes: they stay where they are, as they are,
// until it is committed, or until cft_saver has copied them.
CFT_API cft_status cft_writer_put_held(cft_writer *w, const void *data, size_t bytes);

// Bytes that are noted and not yet written.
CFT_API int64_t cft_save_bytes(const cft_save *save);

// Sync a file that was written by other means (`from`) and rename it to `to`, in the same folder or
// file system; as a writer's commit. On failure after it was opened `from` is removed.
CFT_API cft_status cft_file_replace(const char *from, const char *to);

// Read a checkpoint folder against its checksums, all of it. E_IO where there is no
// `checksums.xxh128` (a save that was never finished, or no checkpoint of ours) or a file is gone;
// E_FORMAT names the first file, in the list's order, that is not what was written. Files that the
// list does not have are not looked at.
CFT_API cft_status cft_save_verify(const char *folder);

// XXH3-128 of memory or of a file as 32 hex digits and a NUL: names for data, code and builds.
CFT_API void cft_hash(char hex[33], const void *data, size_t bytes);
CFT_API cft_status cft_hash_file(char hex[33], const char *path);

// The same of memory as 16 bytes: a name for a text where texts are many (equal prompts, cached
// ids). It is no defence against somebody who wants two texts to collide.
CFT_API void cft_bytes_hash(uint8_t hash[16], const void *bytes, size_t n);

// ---- files that are read in place ----------------------------------------------------------

typedef struct cft_map cft_map;

// Map a file: what is kept of a scan. Nothing is read before it is looked at. E_IO, E_OOM. The caller
// owns *out; what was mapped ends with it.
CFT_API cft_status cft_map_open(cft_map **out, const char *path);
CFT_API const void *cft_map_data(const cft_map *m);
CFT_API int64_t cft_map_bytes(const cft_map *m);
CFT_API void cft_map_release(cft_map *m);  // NULL is accepted

// Whether every file that was ever mapped here is still as long as it was when its bytes were read. A
// page that is gone is no signal and no end of the program: it reads as zeros, and from then on this is
// E_IO, with the first such file. Ask before what was made of mapped bytes is used or kept.
CFT_API cft_status cft_mapping_check(void);
CFT_API const char *cft_mapping_lost(void);  // the path, or NULL

#endif
