// tokenizer_impl.h - what the files of this folder share.
//
//   load.c, components.c  tokenizer.json  -> a tokenizer (load_impl.h)
//   parts.c, gguf.c       a GGUF file     -> a tokenizer
//   save.c         a tokenizer -> tokenizer.json
//   vocab.c        token strings <-> ids
//   added.c        added tokens found in text
//   unicode.c      sets of characters, NFC
//   regex.c        a pattern -> a table, or PCRE2
//   normalize.c    what is written before words are looked for, and the way back
//   pretokenize.c  text -> words
//   bpe.c          a word -> ids, by merges; remembered words
//   tokenizer.c    the pipeline, threads
//   decode.c       ids -> text
#ifndef CFT_TOKENIZER_IMPL_H
#define CFT_TOKENIZER_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "cft_tokenizer.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

enum { NONE = -1 };

// ---- vocab.c -------------------------------------------------------------------------------

enum {
  TOKEN_USED = 1,        // the id has a token
  TOKEN_MODEL = 2,       // it stands in the model's vocabulary
  TOKEN_ADDED = 4,       // it is an added token
  TOKEN_SPECIAL = 8,     // and a special one
  TOKEN_BYTE_LEVEL = 16  // its spelling stands for bytes ("Ġ" for a space)
};

typedef struct vocab_entry {
  uint32_t at, bytes;  // its spelling, in vocab.text
  uint32_t length;     // how many bytes it stands for
  uint32_t flags;
} vocab_entry;

typedef struct vocab {
  char *text;  // all spellings, one behind the other
  size_t text_bytes, text_capacity;
  vocab_entry *tokens;  // by id; holes have no flags
  int64_t n, capacity;
  int32_t *slots;  // hash table of ids, by spelling
  size_t slots_count, used;
} vocab;

enum { VOCAB_MAX = 1 << 22 };  // ids; a file that claims more is not believed

void vocab_free(vocab *v);
int32_t vocab_find(const vocab *v, const char *text, size_t bytes);  // NONE if there is none

// Give `id` its spelling. Neither may be in use. False when memory ran out.
bool vocab_put(vocab *v, int32_t id, const char *text, size_t bytes, uint32_t flags);

static inline const vocab_entry *vocab_token(const vocab *v, int32_t id) {
  return id >= 0 && id < v->n && (v->tokens[id].flags & TOKEN_USED) ? &v->tokens[id] : NULL;
}

// The byte that a character of a byte-level spelling stands for; NONE for other characters.
int byte_of_point(uint32_t cp);
// The spelling of a byte; its length.
int byte_spelling(uint8_t out[4], uint8_t byte);
// The bytes that a byte-level spelling stands for, to out, which has room for as many bytes as the
// spelling has; their number.
size_t byte_level_decode(uint8_t *out, const char *text, size_t bytes);

uint64_t hash_bytes(const void *data, size_t bytes);

// SentencePiece's spelling of a space: U+2581.
#define SPACE_MARK "\xE2\x96\x81"
enum { SPACE_MARK_BYTES = 3 };

// The byte that a token of the form <0x0A> stands for; NONE for other spellings.
int fallback_byte(const char *text, size_t bytes);

// ---- bpe.c ---------------------------------------------------------------------------------

enum { NO_RANK = UINT32_MAX };

typedef struct merge {
  int32_t left, right, result;
} merge;

typedef struct pair {
  uint64_t key;  // left << 32 | right
  uint32_t rank;
} pair;

typedef struct bpe {
  bool byte_level;  // words are bytes; else characters, and bytes where a character has no token
  int32_t byte_id[256];   // the token of a single byte, or of an ASCII character; NONE
  int32_t fallback[256];  // the token <0x..> of a byte; NONE
  merge *merges;          // by rank
  int64_t merges_count;
  pair *pairs;  // hash table over the merges
  size_t pairs_count;
  uint64_t *filter;  // a bit for each hash of a pair: most pairs of symbols do not merge
  size_t filter_bits;
  uint32_t *byte_rank;  // (256 * 256) the rank of two bytes
  int32_t unk;          // what a byte without a token becomes; NONE: nothing
  bool fuse_unk;        // neighbouring unks become one
  bool ignore_merges;   // a word that is a token is that token, whatever the merges say
  bool byte_fallback;   // a character without a token becomes its bytes' tokens
  bool plain_fallback;  // those stand for a byte each: no merge has one of them
  bool cuts_at_mark;  // no merge crosses from another character to a space mark: what lies on both
                      // sides are two words
  bool alone[128];    // ASCII characters that no merge has: words by themselves
} bpe;

// Build the tables from merges, unk and flags. False when memory ran out.
bool bpe_prepare(bpe *b, vocab *v);
void bpe_free(bpe *b);

// Words seen before, with their ids. Short words with few ids in a table of their own: one probe,
// one cache line. Others by hash. Both forget by being overwritten.
typedef struct short_word {
  uint64_t key[2];  // the bytes, zeros, and the length in the last byte
  int32_t ids[3];
  uint32_t n;  // ids + 1; 0: empty
} short_word;

typedef struct long_word {
  uint64_t hash;
  uint32_t at;  // in the arena: ids, then bytes
  uint16_t bytes, n;
} long_word;

enum {
  SHORT_WORDS = 1 << 14,
  SHORT_BYTES = 15,
  LONG_WORDS = 1 << 13,
  LONG_BYTES = 512,  // longer words are not remembered
  WORD_ARENA = 1 << 20,
};

enum { MAX_STEPS = 16, MAX_REWRITES = 4 };

// What one thread needs to encode: memory, never meaning. Kept by the tokenizer between calls.
typedef struct encoder {
  struct encoder *next;
  regex_scratch *scratch;
  edited_text normal[MAX_STEPS];        // a piece after each step of the normalizer
  edited_text rewritten[MAX_REWRITES];  // and after each pre-tokenizer that writes

  short_word *short_words;
  long_word *long_words;
  uint8_t *arena;
  size_t arena_bytes;

  int32_t *symbols;          // a word being merged: ids,
  uint32_t *ranks;           // rank of each with its right neighbour,
  uint32_t *ends;            // where each ends in the word,
  uint32_t *before, *after;  // and, for long words, their list
  uint64_t *heap;
  size_t word_capacity;

  // the call
  const struct cft_tokenizer *tk;
  cft_encoding *out;
  const uint8_t *readable_end;  // of the text that words lie in
  bool spans;
  bool first;              // the piece at hand is where the sequence begins
  bool continues;          // or it goes on where other text ends
  const int32_t *as_text;  // added tokens that are not matched
  int64_t as_text_n;
} encoder;

// Append the ids of the word text[start, end), and their spans if wanted. E_OOM.
cft_status encode_word(encoder *e, const uint8_t *text, size_t start, size_t end);

// The same, for a text of any length that no pre-tokenizer has split further.
cft_status encode_words(encoder *e, const uint8_t *text, size_t start, size_t end);

// Make room for `more` tokens.
cft_status encoding_reserve(cft_encoding *out, size_t more, bool spans);

// ---- normalize.c ---------------------------------------------------------------------------

typedef struct normal_step {
  enum { NORMAL_NFC, NORMAL_PREPEND, NORMAL_REPLACE } kind;
  uint8_t *pattern, *content;  // content is put in front, or stands for each pattern (not empty)
  size_t pattern_bytes, content_bytes;
} normal_step;

void normal_step_free(normal_step *step);

// Replace; *out is begun. False when memory ran out.
bool edited_replace(edited_text *out, const normal_step *step, const uint8_t *text, size_t n);

// All steps: *text and *n become what they leave. texts[i] receives what step i wrote, no edits
// where it changed nothing. A text that `continues` has nothing put in front. E_OOM;
// E_UNSUPPORTED where the steps would write more than 64 times the text (and 64 KiB).
cft_status normalize(const struct cft_tokenizer *tk, edited_text texts[MAX_STEPS], bool continues,
                     const uint8_t **text, size_t *n);

// Move spans from the written text to the original.
void edited_unmap(const edited_text *edited, cft_span *spans, int64_t n);

// ---- pretokenize.c -------------------------------------------------------------------------

typedef enum behavior {
  BEHAVIOR_ISOLATED,
  BEHAVIOR_REMOVED,
  BEHAVIOR_CONTIGUOUS,
  BEHAVIOR_MERGED_WITH_PREVIOUS,
  BEHAVIOR_MERGED_WITH_NEXT,
} behavior;

typedef enum prepending { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepending;

typedef struct split_stage {
  regex *pattern;  // NULL: spaces are written as `mark`, and one is put in front of a piece
  behavior behavior;
  bool invert;  // what the pattern does not match is the match
  uint8_t mark[4];
  int mark_bytes;
  prepending scheme;  // before which pieces that have none in front
  int rewrite;        // whose memory in the encoder
} split_stage;

enum { MAX_STAGES = 64 };

// Split text[start, end) by the stages from `which` on, and encode the words.
cft_status pretokenize(encoder *e, int which, const uint8_t *text, size_t start, size_t end);

// ---- added.c -------------------------------------------------------------------------------

typedef struct added_token {
  int32_t id;
  bool special, single_word, lstrip, rstrip, normalized;
} added_token;

typedef struct needle {
  uint8_t *text;
  size_t bytes;
  int32_t added;  // index in tk->added
} needle;

typedef struct matcher {
  needle *needles;  // sorted by bytes
  int n;
  bool all_special;
  uint8_t first[256];     // bytes that a needle starts with
  uint64_t second[1024];  // pairs of bytes that a needle starts with; all of a one-byte needle
} matcher;

// Rebuild the matchers from tk->added. E_OOM, and what normalize says; they are then as they were.
cft_status matchers_build(struct cft_tokenizer *tk);
void matcher_free(matcher *m);

typedef struct added_match {
  size_t start, end;
  int32_t added;
} added_match;

// The first needle in text[from, n): leftmost, then longest. False if there is none.
bool matcher_find(const matcher *m, const uint8_t *text, size_t n, size_t from, added_match *out);

typedef struct added_cursor {
  size_t at;                    // behind what was looked at
  size_t done;                  // where the last one ended, with the white space that it took
  size_t white_from, white_to;  // a run of white space that was seen
} added_cursor;

// The next added token from c->at on that the flags of Hugging Face's added tokens and the call's
// as_text let stand. It may begin before the end of the last one, in white space that that one
// took.
bool added_next(const encoder *e, const matcher *m, bool parse_special, const uint8_t *text,
                size_t n, added_cursor *c, added_match *out);

// Move *start and *end to the inside of the white space there, as the flags STRIP_LEFT and
// STRIP_RIGHT say.
void added_strip(const uint8_t *text, size_t *start, size_t *end, unsigned flags);

// ---- decode.c ------------------------------------------------------------------------------

// How tokens that are spelled as text, and not as bytes, are read.
typedef struct decoding {
  normal_step replace[MAX_STEPS];  // in each token
  int replace_count;
  bool byte_fallback;  // <0x0A> is a byte
  bool fused;          // what follows looks at the whole text
  bool metaspace;      // `mark` is a space; in the first token nothing, if `strip_mark`
  bool strip_mark;
  uint8_t mark[4];
  int mark_bytes;
  char strip;  // this character goes from the ends of the text, so many times
  int64_t strip_left, strip_right;
} decoding;

// ---- tokenizer.c ---------------------------------------------------------------------------

struct cft_tokenizer {
  atomic_int references;
  vocab vocab;
  bpe bpe;
  normal_step steps[MAX_STEPS];  // the normalizer
  int steps_count;
  split_stage stages[MAX_STAGES];  // the pre-tokenizer
  int stages_count, rewrites_count;
  decoding decoding;

  added_token *added;  // in the order of ids
  int added_count, added_capacity;
  matcher raw;         // of added tokens that are matched in the text as it is
  matcher normalized;  // of those that are matched in the normalised text
  matcher special;     // of all special ones

  int32_t *prefix, *suffix;  // what ADD_SPECIAL puts around the ids
  int prefix_count, suffix_count;

  char *normalizer, *pre_tokenizer, *post_processor, *decoder;  // as JSON, for save

  pthread_mutex_t lock;  // over the encoders at rest
  encoder *encoders;
};

// Add to tk->added, keeping the order. False when memory ran out.
bool added_insert(struct cft_tokenizer *tk, added_token token);

cft_tokenizer *tokenizer_new(void);  // empty; NULL when memory ran out

#endif
