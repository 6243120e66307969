// cft_batch.h - samples to micro-batches: in which order, which together, and as arrays.
//
// A sample is a sequence of token ids with spans that say the loss weight of each token. A
// micro-batch is several samples one behind the other; `cu_seqlens` says where each begins, and
// attention stays inside. Row i of a micro-batch predicts the token that follows it:
//   targets[i] = ids[i + 1] inside a sequence, -1 in its last row
//   weights[i] = the weight of that token, so a sequence's first token is never paid for
//
// Samples that begin with the same context may share it: critiques of one response, say. Then its
// rows are laid once, as a prefix, and of each sample only what follows.
#ifndef CFT_BATCH_H
#define CFT_BATCH_H

#include "base.h"

// ---- order ---------------------------------------------------------------------------------

// Where `index` (0 <= index < n) goes in the shuffle number `epoch` of n things under `seed`: a
// permutation of [0, n) that is a function of these numbers alone, so that the position of a run is
// three integers and any place is found at once. A Feistel network over the next power of four, of
// at least 256; results outside of [0, n) are sent through it again. -1 if index is out of range.
// Source: Black & Rogaway 2002, Ciphers with Arbitrary Finite Domains (cycle walking); the rounds
// mix as splitmix64 does (Steele, Lea & Flood 2014).
CFT_API int64_t cft_order_at(uint64_t seed, uint64_t epoch, int64_t index, int64_t n);

// A number made of ids, in which other ids differ: what finds samples that begin with the same
// ones. FNV-1a by Fowler, Noll & Vo over whole ids, finished as splitmix64 does.
CFT_API uint64_t cft_batch_hash(const int32_t *ids, int64_t n);

// ---- packing -------------------------------------------------------------------------------

// Put n samples into as few packs of at most `budget` tokens as best fit decreasing finds: the
// longest first, each into the fullest pack that has room. Equal input gives equal packs.
//   pack     (n) out: the pack of each sample, numbered from 0 in the order of their first samples
//   packs    out: how many
//   lengths  (n) tokens of each sample, 1 to budget
// E_ARG with the number of a sample that is longer; E_OOM.
CFT_API cft_status cft_pack_plan(int64_t *pack, int64_t *packs, const int64_t *lengths, int64_t n,
                                 int64_t budget);

// ---- micro-batches -------------------------------------------------------------------------

// Tokens that share a weight and a kind. The spans of a sample follow each other without a gap.
typedef struct cft_batch_span {
  int64_t count;  // tokens, > 0
  float weight;   // of each of them: 0 is context, 1 an answer's, any finite number from 0
  int32_t kind;   // what they are, 0 to 255: the batch only passes it on
} cft_batch_span;

typedef struct cft_batch_sample {
  const int32_t *ids;  // (n)
  int64_t n;           // > 0
  const cft_batch_span *spans;
  int64_t span_count;
  double scale;  // multiplies every weight of the sample; finite, from 0
  // How many of its first tokens are a prefix that it shares with those of its neighbours in the
  // list that begin with the same ones and name as many; 0 = none. What these rows predict has
  // weight 0.
  int64_t shared;
} cft_batch_sample;

// A micro-batch of n rows of B samples, m of the rows with loss weight. P prefixes come first, then
// the samples behind them, prefix by prefix, then those that share nothing; without prefixes it is
// samples alone. Fields are for reading only; the arrays lie in `memory`, so that the whole is one
// object, which in Lua the collector owns and counts.
typedef struct cft_batch {
  int64_t n, sequences;    // sequences: B, prefixes not counted
  int64_t longest;         // rows of the longest sequence, or prefix
  int64_t prefixes;        // P
  int64_t reach;           // the highest position, and one: tokens of the longest sample
  int64_t saved;           // rows that are not there because they are shared
  int64_t m;               // rows with a weight other than 0
  double weight;           // the sum of weights
  int32_t *ids;            // (n)
  int32_t *targets;        // (n)
  int32_t *positions;      // (n) from 0 in each sample, its prefix counted
  float *weights;          // (n) of the target
  uint8_t *kinds;          // (n) of the target; 0 in a sequence's last row
  int32_t *cu_prefix;      // (P + 1) first row of each prefix, then that of sample 0
  int32_t *cu_seqlens;     // (B + 1) first row of each sample, then n; follows cu_prefix[P - 1]
  int32_t *cu_shared;      // (P + 1) first sample behind each prefix, then of those without one
  int32_t *rows;           // (m) the rows with loss, ascending
  int32_t *row_positions;  // (m) positions[rows[j]]
  int32_t *cu_rows;        // (B + 1) first row with loss of each sample, then m
#ifdef CFT_CDEF
  uint8_t memory[?];  // LuaJIT's way to write it
#else
  uint8_t memory[];
#endif
} cft_batch;

// Check B samples, and say how many bytes of `memory` their batch needs. E_ARG for a sample whose
// spans do not add up to its tokens, for a weight that is negative or not finite, for more rows
// than an int32 counts; for a prefix that is a whole sample or has loss weight, or that
// stands behind a sample without one.
CFT_API cft_status cft_batch_bytes(size_t *bytes, const cft_batch_sample *samples, int64_t B);

// Lay the same samples one behind the other into b, which has that many bytes of memory. Borrows
// them.
CFT_API void cft_batch_lay(cft_batch *b, const cft_batch_sample *samples, int64_t B);

#endif
