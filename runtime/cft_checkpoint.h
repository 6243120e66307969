// cft_checkpoint.h - files of weights and of a run's state: safetensors (read, write), GGUF (read),
// msgpack state (read, write); byte by byte in docs/checkpoint-format.md. Nothing here knows a
// device: pointers are host memory.
//
// Readers hold their file mapped; what they hand out (names, pointers) is borrowed and lives until
// the reader's (last) release. They never change after opening, so any thread may read. A foreign
// file is E_FORMAT with path, byte or tensor; a name that is not there is E_ARG.
#ifndef CFT_CHECKPOINT_H
#define CFT_CHECKPOINT_H

#include "cft_file.h"
#include "device.h"

enum { CFT_ARRAY_DIMS = 6 };  // as many as a tensor may have

// An array in a file, or one that is to be written to a file.
typedef struct cft_array {
  const char *name;
  const void *data;  // little-endian, row-major
  size_t bytes;      // the product of dims times the size of dtype
  int64_t dims[CFT_ARRAY_DIMS];
  int ndim;
  cft_dtype dtype;
  bool aligned;  // readers: data is a multiple of dtype's size, so it may be used where it lies;
                 // else copy it out. Writers do not look at it.
} cft_array;

// ---- safetensors ---------------------------------------------------------------------------
//
// Source: github.com/huggingface/safetensors. Validation is that of its reader: header at most
// 100 MB, tensors cover the data without hole or overlap, sizes follow from dtype and shape.

typedef struct cft_safetensors cft_safetensors;  // the tensors of one file, or of all shards

// Open a .safetensors file, or a Hugging Face folder: its `model.safetensors`, else all shards that
// `model.safetensors.index.json` names, each checked against the index. E_IO, E_FORMAT, E_OOM.
CFT_API cft_status cft_safetensors_open(cft_safetensors **out, const char *path);

// The same over a buffer, borrowed until the last release; `label` stands for the path in messages.
CFT_API cft_status cft_safetensors_parse(cft_safetensors **out, const void *data, size_t bytes,
                                         const char *label);

CFT_API cft_safetensors *cft_safetensors_retain(cft_safetensors *s);
CFT_API void cft_safetensors_release(cft_safetensors *s);  // NULL is accepted

CFT_API int64_t cft_safetensors_count(const cft_safetensors *s);

// Tensor i in file order (shards by name). Its pages are private and writable (see util/file.h), so
// it may be trained in place. E_DTYPE for a type that cft has not (BOOL, I8, F8_E4M3, ...): the
// tensor's name is then set all the same, and only its use is an error. E_SHAPE for more dims than
// CFT_ARRAY_DIMS, E_ARG for i out of range.
CFT_API cft_status cft_safetensors_at(const cft_safetensors *s, int64_t i, cft_array *out);

// The tensor of that name; E_ARG where there is none, else as above.
CFT_API cft_status cft_safetensors_find(const cft_safetensors *s, const char *name, cft_array *out);

// Where a name is in file order, -1 where it is not.
CFT_API int64_t cft_safetensors_index(const cft_safetensors *s, const char *name);

// An entry of `__metadata__` (of the first shard): its value, or NULL.
CFT_API const char *cft_safetensors_metadata(const cft_safetensors *s, const char *key);

typedef struct cft_safetensors_writer cft_safetensors_writer;

// Begin to write `count` arrays to `path` (in the save's folder, where there is one), exactly as
// Hugging Face does: `__metadata__` {"format": "pt"}, wide dtypes first and then by name. With
// max_shard_bytes > 0 and more data than that, shards filled in the order of the arrays:
// NAME-00001-of-0000N.safetensors, and NAME.safetensors.index.json at the end. The arrays' data
// is not looked at here, and nothing is kept of the arrays but a copy of their shapes and names.
// E_ARG for a name that comes twice, a negative dim, bytes that do not fit the dims; E_IO, E_OOM.
CFT_API cft_status cft_safetensors_writer_new(cft_safetensors_writer **out, cft_save *save,
                                              const char *path, const cft_array *arrays,
                                              int64_t count, int64_t max_shard_bytes);

// Which of the arrays the file wants next; -1 when it has all.
CFT_API int64_t cft_safetensors_writer_next(const cft_safetensors_writer *w);

// The next bytes of that array: all, or a piece of any size (E_ARG if more than it has left). So a
// tensor can come from a GPU through a small buffer.
CFT_API cft_status cft_safetensors_writer_put(cft_safetensors_writer *w, const void *data,
                                              size_t bytes);

// The same of bytes that stay where they are and as they are (cft_writer_put_held).
CFT_API cft_status cft_safetensors_writer_put_held(cft_safetensors_writer *w, const void *data,
                                                   size_t bytes);

// Finish the last file and the index. E_STATE while an array is missing. Release in any case;
// shards that were finished before a failure stay, so write a sharded model through a cft_save.
CFT_API cft_status cft_safetensors_writer_commit(cft_safetensors_writer *w);
CFT_API void cft_safetensors_writer_release(cft_safetensors_writer *w);  // NULL is accepted

// All of it in one call; the arrays' data is read as it is written, never copied.
CFT_API cft_status cft_safetensors_write(cft_save *save, const char *path, const cft_array *arrays,
                                         int64_t count, int64_t max_shard_bytes);

// ---- GGUF ----------------------------------------------------------------------------------
//
// Versions 2 and 3, little-endian. Source: the GGUF specification in the ggml repository.

typedef struct cft_gguf cft_gguf;

typedef struct cft_gguf_tensor {
  const char *name;
  const char *type;  // "Q4_K"; "unknown" for an id that is not in the specification
  int type_id;
  const void *data;
  size_t bytes;     // 0 where the type is unknown
  int64_t dims[4];  // outermost first, as everywhere in cft; the file has them reversed
  int ndim;
  bool readable;  // cft_gguf_read takes the type
} cft_gguf_tensor;

typedef enum cft_gguf_kind {
  CFT_GGUF_BOOL = 0,
  CFT_GGUF_INT = 1,    // any width and sign
  CFT_GGUF_FLOAT = 2,  // f32, f64; also a u64 above the i64 range, rounded
  CFT_GGUF_STRING = 3,
  CFT_GGUF_LIST = 4,
} cft_gguf_kind;

// A metadata value; the field of its kind is set.
typedef struct cft_gguf_value {
  const char *key;  // the metadata's key; NULL for a list's item
  cft_gguf_kind kind;
  int64_t integer;     // INT, and BOOL as 0 or 1
  double number;       // FLOAT
  bool single;         // FLOAT: it was an f32 in the file (0.1f, not 0.1)
  const char *string;  // STRING: no NUL at its end
  size_t bytes;        // STRING
  int64_t count;       // LIST: items; read them with cft_gguf_item
  const void *list;    // LIST: opaque
} cft_gguf_value;

CFT_API cft_status cft_gguf_open(cft_gguf **out, const char *path);
CFT_API cft_status cft_gguf_parse(cft_gguf **out, const void *data, size_t bytes,
                                  const char *label);
CFT_API void cft_gguf_release(cft_gguf *g);  // NULL is accepted

CFT_API int64_t cft_gguf_value_count(const cft_gguf *g);
CFT_API cft_status cft_gguf_value_at(const cft_gguf *g, int64_t i, cft_gguf_value *out);
CFT_API bool cft_gguf_find_value(const cft_gguf *g, const char *key, cft_gguf_value *out);

// Item i of a LIST. E_ARG out of range or no LIST.
CFT_API cft_status cft_gguf_item(const cft_gguf *g, const cft_gguf_value *list, int64_t i,
                                 cft_gguf_value *out);

CFT_API int64_t cft_gguf_count(const cft_gguf *g);  // tensors
CFT_API cft_status cft_gguf_at(const cft_gguf *g, int64_t i, cft_gguf_tensor *out);
CFT_API int64_t cft_gguf_index(const cft_gguf *g, const char *name);  // -1 where it is not

// Rows [row, row + rows) of tensor i as f32, `columns` each (the last dim; rows are the product of
// the others). Types: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K; another is
// E_DTYPE with tensor and type. heads > 0 undoes the order that llama.cpp's converter gives to the
// rows of q and k of its "llama" models (rope on neighbours instead of halves): row h*d + t*d/2 + j
// of the result is the file's row h*d + 2*j + t, for each of `heads` heads of d rows; E_SHAPE if
// the rows do not divide. heads = 0 leaves the order. out holds rows * columns floats.
// Source: the formats in ggml-quants.c and gguf-py; with its results bit for bit where the compiler
// fuses no multiply and add.
CFT_API cft_status cft_gguf_read(const cft_gguf *g, int64_t i, int64_t row, int64_t rows,
                                 int64_t heads, float *out);

// ---- state: nested values and arrays, by name ------------------------------------------------
//
// A msgpack file (any msgpack library reads it). Written as a walk: put_map(n) is followed by n
// times a put_string (the key) and a value, put_list(n) by n values; the file is one value.

typedef struct cft_state_writer cft_state_writer;

CFT_API cft_status cft_state_writer_new(cft_state_writer **out, cft_save *save, const char *path);
// The same into memory; `label` stands for the path in messages. The bytes are those of a file, whole after
// the commit, and live until the release.
CFT_API cft_status cft_state_writer_memory(cft_state_writer **out, const char *label);
CFT_API void cft_state_writer_bytes(const cft_state_writer *w, const void **data, size_t *bytes);

CFT_API cft_status cft_state_put_map(cft_state_writer *w, int64_t entries);
CFT_API cft_status cft_state_put_list(cft_state_writer *w, int64_t items);
CFT_API cft_status cft_state_put_nil(cft_state_writer *w);
CFT_API cft_status cft_state_put_bool(cft_state_writer *w, bool value);
CFT_API cft_status cft_state_put_int(cft_state_writer *w, int64_t value);
CFT_API cft_status cft_state_put_uint(cft_state_writer *w, uint64_t value);
CFT_API cft_status cft_state_put_double(cft_state_writer *w, double value);
CFT_API cft_status cft_state_put_string(cft_state_writer *w, const char *text, size_t bytes);

// An array: this, and then its data in pieces of any size (zero bytes need no piece). a->data and
// a->name are not looked at: names are the keys of maps. E_ARG if bytes do not fit the dims.
CFT_API cft_status cft_state_put_array(cft_state_writer *w, const cft_array *a);
CFT_API cft_status cft_state_put_data(cft_state_writer *w, const void *data, size_t bytes);

// The same of bytes that stay where they are and as they are (cft_writer_put_held).
CFT_API cft_status cft_state_put_held(cft_state_writer *w, const void *data, size_t bytes);

// E_STATE while a map, list or array misses something. Release in any case.
CFT_API cft_status cft_state_writer_commit(cft_state_writer *w);
CFT_API void cft_state_writer_release(cft_state_writer *w);  // NULL is accepted

typedef struct cft_state_reader cft_state_reader;

typedef enum cft_state_kind {
  CFT_STATE_END = 0,  // nothing follows
  CFT_STATE_NIL = 1,
  CFT_STATE_BOOL = 2,
  CFT_STATE_INT = 3,
  CFT_STATE_UINT = 4,  // above the range of INT
  CFT_STATE_DOUBLE = 5,
  CFT_STATE_STRING = 6,
  CFT_STATE_LIST = 7,   // `count` values follow
  CFT_STATE_MAP = 8,    // `count` times a STRING and a value follow
  CFT_STATE_ARRAY = 9,  // complete: its data is read with cft_state_data
} cft_state_kind;

typedef struct cft_state_item {
  cft_state_kind kind;
  bool boolean;
  int64_t integer;
  uint64_t natural;
  double number;
  const char *string;  // no NUL at its end
  size_t bytes;        // STRING
  int64_t count;       // LIST, MAP
  cft_array array;     // ARRAY; data is NULL, name is ""
  uint64_t at;         // the byte where the value begins
} cft_state_item;

CFT_API cft_status cft_state_open(cft_state_reader **out, const char *path);
CFT_API cft_status cft_state_parse(cft_state_reader **out, const void *data, size_t bytes,
                                   const char *label);
CFT_API void cft_state_release(cft_state_reader *r);  // NULL is accepted

// The next value of the walk; END after the last. The whole file is checked when it is opened
// (nesting at most 64, no count that the bytes left cannot hold, keys are strings, an array's
// pieces add up), so this cannot fail. Whether a key comes twice is left to the caller to see.
CFT_API void cft_state_next(cft_state_reader *r, cft_state_item *out);

// Bytes [from, from + bytes) of an ARRAY's data. E_ARG out of range or no ARRAY of this reader.
CFT_API cft_status cft_state_data(const cft_state_reader *r, const cft_state_item *array,
                                  uint64_t from, void *out, size_t bytes);

// ---- statistics ------------------------------------------------------------------------------

// Of numbers that were added so far; zeros at first. least, most and sum are over the finite ones.
typedef struct cft_statistics {
  int64_t finite, nans, infinities;
  double least, most, sum;
} cft_statistics;

// Add `bytes` bytes of numbers, aligned or not.
CFT_API void cft_statistics_add(cft_statistics *s, const void *data, size_t bytes, cft_dtype dtype);

// ---- journals: entries one behind the other --------------------------------------------------
//
// A file that only grows: msgpack values, each a list of two, the XXH3-128 of an entry's bytes and the
// bytes. An entry that a crash has torn does not pass for one: a reader stops before it, and a writer
// cuts it off.

typedef struct cft_journal cft_journal;

// Open a journal. To write: made where there is none; entries that are whole stay. E_IO, E_OOM.
CFT_API cft_status cft_journal_open(cft_journal **out, const char *path, bool write);

// The next entry, from the first on; *data is NULL behind the last whole one, else valid until the next
// call. *at, where wanted, receives the byte where it begins. E_IO, E_OOM.
CFT_API cft_status cft_journal_next(cft_journal *j, const void **data, size_t *bytes, int64_t *at);

// Cut the file off at a byte where an entry begins or the last one ends: it is on the disk so.
CFT_API cft_status cft_journal_cut(cft_journal *j, int64_t at);

// Add an entry behind all others: in the file when this returns, on the disk after cft_journal_sync.
CFT_API cft_status cft_journal_append(cft_journal *j, const void *data, size_t bytes);
CFT_API cft_status cft_journal_sync(cft_journal *j);

CFT_API void cft_journal_release(cft_journal *j);  // NULL is accepted

// ---- saving beside a running program ---------------------------------------------------------
//
// A saver writes, syncs and verifies the folder of a deferred save with a thread, from where the
// bytes lie for as long as the program leaves them as they are. What it has not written by then is
// copied: by the thread ahead of that time, as far as the disk's rate makes it foresee the need;
// the rest by the program, which waits. Memory for copies is taken as they are made and given back
// as they are written; without it the program waits until all is written. One save at a time. On a
// device whose memory is not the host's all is copied to pinned memory, and the copies are queued
// beside the default stream.

typedef struct cft_saver cft_saver;

typedef enum cft_saver_state {
  CFT_SAVER_IDLE = 0,     // nothing was started, or the last result was taken
  CFT_SAVER_COPYING = 1,  // from a device's memory
  CFT_SAVER_WRITING = 2,  // what is held must stay as it is until cft_saver_copied, here as above
  CFT_SAVER_NO_ROOM = 3,  // the disk is full, and tried again; the message says what is missing
  CFT_SAVER_DONE = 4,     // on the disk, and read back
  CFT_SAVER_FAILED = 5,   // the message says why; nothing of it is left, nothing older was touched
} cft_saver_state;

// `device` is where held bytes lie; retry_s: how long a full disk is waited for before the next try.
CFT_API cft_status cft_saver_new(cft_saver **out, cft_device *device, double retry_s);

// Have pinned memory for saves of so many held bytes, so that the first one need not wait for it;
// nothing on a device that writes from where they lie. E_OOM.
CFT_API cft_status cft_saver_reserve(cft_saver *s, int64_t bytes);

// Begin to write. `seconds`: how long the program expects to leave what is held as it is; 0 where
// it does not know, and nothing is copied ahead. On success the save is the saver's, which releases
// it. E_STATE where the one before is not over or its end was not taken (cft_saver_take), E_OOM;
// the save is then the caller's.
CFT_API cft_status cft_saver_start(cft_saver *s, cft_save *save, double seconds);

// Wait until all that is held is written or copied, and copy meanwhile: it may change when this
// returns.
CFT_API cft_status cft_saver_copied(cft_saver *s);

// What it does now. Waits at most `seconds` for a save under way to end; 0 only looks.
CFT_API cft_saver_state cft_saver_look(cft_saver *s, double seconds);

// Take the end of a save: DONE or FAILED, once, then IDLE; what cft_saver_look says before.
CFT_API cft_saver_state cft_saver_take(cft_saver *s);

// Why the last save FAILED or has NO_ROOM, and of which path. Valid until the next call.
CFT_API const char *cft_saver_message(cft_saver *s);

// Of the last save: seconds until what it held could change, and until it was over; bytes that were
// copied meanwhile.
typedef struct cft_saver_times {
  double copied, over;
  int64_t copied_bytes;
} cft_saver_times;
CFT_API cft_saver_times cft_saver_took(cft_saver *s);

// Give up what waits for room, and wait for what is being written. NULL is accepted.
CFT_API void cft_saver_release(cft_saver *s);

#endif
