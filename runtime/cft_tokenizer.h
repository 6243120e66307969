// cft_tokenizer.h - text to token ids and back: BPE as tokenizer.json describes it, over bytes or,
// as SentencePiece has it, over characters with bytes to fall back on.
//
// Ids equal those of Hugging Face tokenizers for the same file and any valid UTF-8 text. What a
// file may contain is in docs/tokenizer.md; any component that is not implemented is an error that
// names it. Special tokens never come from text unless asked for: a "<|im_end|>" inside data is
// nine characters.
//
// A tokenizer may be used by any number of threads at once; only cft_tokenizer_add_token wants it
// for itself. Counts of tokens are int64_t, ids int32_t, offsets bytes of the text that was given.
#ifndef CFT_TOKENIZER_H
#define CFT_TOKENIZER_H

#include "base.h"
#include "cft_checkpoint.h"  // cft_gguf, cft_save

#ifndef CFT_CDEF
#include <stdbool.h>
#endif

typedef struct cft_tokenizer cft_tokenizer;

// ---- making one ----------------------------------------------------------------------------

// Load a tokenizer.json, or the one in the folder `path`. The caller owns *out. E_IO where it
// cannot be read, E_FORMAT with path and place where it is malformed, E_UNSUPPORTED with the name
// of a component that is not implemented, E_OOM. `truncation` and `padding` in the file are not
// applied: length is the template's business.
CFT_API cft_status cft_tokenizer_load(cft_tokenizer **out, const char *path);

// The same from memory: `bytes` bytes of JSON, borrowed for the call. `label` stands in messages
// where a path would.
CFT_API cft_status cft_tokenizer_parse(cft_tokenizer **out, const char *json, size_t bytes,
                                       const char *label);

typedef struct cft_text {
  const char *data;  // UTF-8; no NUL at its end is needed
  size_t bytes;
} cft_text;

// What GGUF's `tokenizer.ggml.token_type` says of a token; other values than these are E_FORMAT.
enum {
  CFT_TOKEN_NORMAL = 1,
  CFT_TOKEN_UNKNOWN = 2,
  CFT_TOKEN_CONTROL = 3,  // becomes a special token
  CFT_TOKEN_USER = 4,     // becomes an added token
  CFT_TOKEN_UNUSED = 5,
  CFT_TOKEN_BYTE = 6,
};

typedef struct cft_tokenizer_parts {
  const char *label;       // stands in messages where a path would
  const cft_text *tokens;  // (tokens_count) in the order of ids, byte-level spelling ("Ġthe"), or
                           // with scores SentencePiece's ("▁the", "<0x0A>")
  int64_t tokens_count;
  const cft_text *merges;  // (merges_count) in the order of rank, "a b"
  int64_t merges_count;
  const int32_t *types;  // (tokens_count) CFT_TOKEN_*, or NULL: all normal
  const char *pre;       // `tokenizer.ggml.pre`: smollm, qwen2, llama-bpe, deepseek-llm, gpt-2, ...
  int32_t bos;           // put in front by CFT_ENCODE_ADD_SPECIAL; -1 for none
  int32_t eos;           // put behind; -1 for none
  const float *scores;  // (tokens_count) SentencePiece's, or NULL. With them merges follow from the
                        // tokens, that of the highest score first; `merges` and `pre` are not read
  bool no_space_prefix;  // with scores: no space is put in front of a text
} cft_tokenizer_parts;

// Build one from a vocabulary, merges and the name of a pre-tokenizer, as GGUF files have them.
// Everything is copied. E_UNSUPPORTED for an unknown `pre`, with the names that are known.
CFT_API cft_status cft_tokenizer_new_parts(cft_tokenizer **out, const cft_tokenizer_parts *parts);

// Build one from the metadata `tokenizer.ggml.*` of an open GGUF file. Its model must be "gpt2",
// which is what llama.cpp calls byte-level BPE, or "llama", which is SentencePiece's BPE. E_FORMAT,
// E_UNSUPPORTED.
CFT_API cft_status cft_tokenizer_from_gguf(cft_tokenizer **out, const cft_gguf *g,
                                           const char *label);

CFT_API cft_tokenizer *cft_tokenizer_retain(cft_tokenizer *tk);
CFT_API void cft_tokenizer_release(cft_tokenizer *tk);  // NULL is accepted

// Write a tokenizer.json that Hugging Face tokenizers loads and that encodes equally, whole or not
// at all, without the ids from `rows` on (cft_tokenizer_size writes all). `save` is the checkpoint
// folder on its way that the path lies in, or NULL. E_IO.
CFT_API cft_status cft_tokenizer_save(const cft_tokenizer *tk, cft_save *save, const char *path,
                                      int64_t rows);

// What an added token is, as tokenizer.json says it.
enum {
  CFT_ADDED_SPECIAL = 1,
  CFT_ADDED_SINGLE_WORD = 2,  // not matched within a word
  CFT_ADDED_LSTRIP = 4,       // takes the white space in front of it
  CFT_ADDED_RSTRIP = 8,       // and behind it
  CFT_ADDED_NORMALIZED = 16,  // matched in the text that the normalizer wrote
};

// Make `text` (valid UTF-8, not empty) an added token with these flags (CFT_ADDED_*, or-ed), in
// place of those it had. One that is in the vocabulary keeps its id, another gets the next free
// one. *id receives it. No other thread may use tk meanwhile. E_ARG, E_OOM.
CFT_API cft_status cft_tokenizer_add_token(cft_tokenizer *tk, const char *text, size_t bytes,
                                           unsigned flags, int32_t *id);

// How many ids CFT_ENCODE_ADD_SPECIAL puts in front of a text.
CFT_API int64_t cft_tokenizer_prefix(const cft_tokenizer *tk);

// The flags of an added token, CFT_ADDED_*; -1 for an id out of range.
CFT_API int cft_tokenizer_added(const cft_tokenizer *tk, int32_t id);

// ---- tokens --------------------------------------------------------------------------------

// One more than the highest id: the rows an embedding needs.
CFT_API int64_t cft_tokenizer_size(const cft_tokenizer *tk);

// The id of a token as the file spells it ("Ġthe", "<|im_end|>"); -1 if there is none.
CFT_API int32_t cft_tokenizer_id(const cft_tokenizer *tk, const char *token, size_t bytes);

// The spelling of an id; *bytes receives its length. NULL for an id that is not in use. Borrowed:
// valid until the next cft_tokenizer_add_token or the last release.
CFT_API const char *cft_tokenizer_token(const cft_tokenizer *tk, int32_t id, size_t *bytes);

// Whether the id is a special token; false for ids that are not in use.
CFT_API bool cft_tokenizer_is_special(const cft_tokenizer *tk, int32_t id);

// ---- text to ids ---------------------------------------------------------------------------

enum {
  // Match the strings of special tokens in the text, as Hugging Face tokenizers does by default.
  // Without it they are plain text (its `encode_special_tokens`). Added tokens that are not special
  // are matched in either case.
  CFT_ENCODE_PARSE_SPECIAL = 1,
  // Put the file's post-processor's tokens (a begin-of-text, say) around the ids.
  CFT_ENCODE_ADD_SPECIAL = 2,
  // Fill spans.
  CFT_ENCODE_SPANS = 4,
  // The text stands behind a special token of the same sequence: what is put in front of a sequence
  // alone (Metaspace's prepend_scheme "first") is not put here.
  CFT_ENCODE_INSIDE = 8,
  // The text goes on where other text of the same sequence ends: nothing is put in front of it.
  CFT_ENCODE_CONTINUES = 16,
  // White space at the beginning, or at the end, belongs to the added token that stands there in
  // the
  // same sequence: it gets no ids.
  CFT_ENCODE_STRIP_LEFT = 32,
  CFT_ENCODE_STRIP_RIGHT = 64,
};

typedef struct cft_span {
  int64_t start, end;  // bytes of the text that was given: [start, end)
} cft_span;

// A list of ids that calls fill again and again; its memory grows and is kept. Start with zeros
// (ffi.new does) and end with cft_encoding_free.
typedef struct cft_encoding {
  int64_t n;         // tokens
  int32_t *ids;      // (n)
  cft_span *spans;   // (n) with CFT_ENCODE_SPANS, else not filled
  int64_t capacity;  // of ids; private
  int64_t span_capacity;
} cft_encoding;

CFT_API void cft_encoding_free(cft_encoding *e);  // leaves zeros; NULL is accepted

// Encode `bytes` bytes of UTF-8.
//   out    replaced; empty (n = 0) if the call fails
//   flags  CFT_ENCODE_*, or-ed
// The span of a token is the text it stands for, spaces included; where the normalizer changed the
// text, that of the characters it was made from, so that the spans of neighbours may meet or
// overlap there. What was put in front of the text, and tokens of ADD_SPECIAL, have empty spans.
// E_FORMAT with the byte offset for invalid UTF-8, E_OOM.
CFT_API cft_status cft_tokenizer_encode(cft_encoding *out, const cft_tokenizer *tk,
                                        const char *text, size_t bytes, unsigned flags);

// The same, with `as_text_n` added tokens that are not matched, special or not: their strings are
// plain text. `as_text` is borrowed for the call.
CFT_API cft_status cft_tokenizer_encode_part(cft_encoding *out, const cft_tokenizer *tk,
                                             const char *text, size_t bytes, unsigned flags,
                                             const int32_t *as_text, int64_t as_text_n);

// Encode n texts on up to `threads` threads (0: one per processor that this process may use).
//   out  (n) each as in cft_tokenizer_encode; after a failure any of them may have been replaced
// The first failure in the order of texts is reported, with its number.
CFT_API cft_status cft_tokenizer_encode_batch(cft_encoding *out, const cft_tokenizer *tk,
                                              const cft_text *texts, int64_t n, unsigned flags,
                                              int threads);

typedef struct cft_token_match {
  int64_t start, end;  // bytes of the text
  int32_t id;
} cft_token_match;

// Where the strings of special tokens stand in a text: leftmost first, the longest of those that
// start together. Up to `capacity` are written to out, *count receives how many there are. The text
// may be any bytes.
CFT_API cft_status cft_tokenizer_find_special(const cft_tokenizer *tk, const char *text,
                                              size_t bytes, cft_token_match *out, int64_t capacity,
                                              int64_t *count);

// ---- ids to text ---------------------------------------------------------------------------

enum {
  CFT_DECODE_SKIP_SPECIAL = 1,
  CFT_DECODE_INSIDE =
      2,  // ids of the same text stand before: no space of its beginning is taken away
};

// The bytes that ids stand for. The result need not be valid UTF-8: a character may be cut between
// tokens.
//   out       up to `capacity` bytes are written; may be NULL with capacity 0
//   bytes     receives the length of the whole, whatever the capacity
// E_ARG with the position for an id that is not in use, E_OOM.
CFT_API cft_status cft_tokenizer_decode(char *out, size_t capacity, size_t *bytes,
                                        const cft_tokenizer *tk, const int32_t *ids, int64_t n,
                                        unsigned flags);

#endif
