// The description of the work that crosses from Python to the kernels: pointers, sizes, strides in elements.
// No torch types; memory belongs to the caller, who keeps it alive through the call.
#pragma once

#include <cstdint>

#include "../types.h"

namespace contrastive_ops {

struct Embeddings {
  const void* data;  // [B, rows, D] in Params::dtype
  int64_t batch_stride, row_stride, d_stride;
};

// One direction of a reduction: a number for every row, [B, M], or for every column, [B, N]. Null: there is none.
struct ReducedLines {
  void* result;          // statistics type; of a count int64
  void* running;         // what tiles are merged into until the end; its form belongs to the kind
  const void* values;    // what scores are compared with, statistics type
  const void* upstream;  // backward: gradient of the result, statistics type; null: zero
};

// A number of every row, of every column, or of both, of the scores t_ij = factor * s_ij of the pairs of a relation.
struct Reduction {
  ReductionKind kind;
  Relation relation;
  double factor;
  ReducedLines rows, columns;  // in self-similarity rows stand for both
  void* tile_reference;        // [B][tiles] statistics type: what a kind remembers of every tile; null: nothing
  void* row_stripes;           // [stripes - 1] times what tiles are merged into for the rows; null: no stripes
};

// "Statistics type" below: float, or double where dtype is kFloat64.
struct Params {
  DType dtype;
  int64_t batch, m, n, d;
  ScoreKind score;
  int64_t banks;  // K: keys of one column that a score is made of; 1 for the dot score
  int threads;

  Embeddings queries;   // [B, M, D]
  Embeddings keys;      // [B, K, N, D]: bank 0
  int64_t bank_stride;  // from bank to bank
  double scale;
  const void* row_term;                  // volume score: [B, M] alpha, statistics type
  const void* col_term;                  // volume score: [B, N] beta
  const void* mixing;                    // volume score: [B, K(K+1)/2, N]
  bool absolute;                         // volume score: |rho^2| where it is below 0
  const void* row_bias;                  // [B, M] statistics type, or null
  const void* col_bias;                  // [B, N] statistics type, or null
  Reduction reductions[kMaxReductions];  // those that change the scores (reduction/traits.h) come last
  int num_reductions;
  bool self_similarity;  // keys are the queries and only rows are reduced: upper triangle

  // Tiling (chosen by the caller). block_n is a multiple of the panel; with self_similarity block_m == block_n.
  int64_t block_m, block_n;
  int groups;   // row groups and column groups of the schedule, at most the number of tiles in each direction
  int stripes;  // few rows: stripes of columns in the place of groups (stripes.h); 0: none

  // Panels of rows of one problem, a call each: the first packs the keys and starts their gradients, the last finishes
  // them. Both are true where a call has all rows.
  bool first_rows, last_rows;

  // Packed operands, statistics type; d_padded = d rounded up to the panel.
  void* packed_queries;  // [B][row block][d_padded / panel][rows of block][panel]
  void* packed_keys;     // [B][col block][d_padded / panel][lines of block][panel]; in self-similarity the queries
                         // lines: the cols of bank 0, those of bank 1, ...; padded to the panel in all but the last
                         // null with stripes: a tile packs its own

  void* kept;          // [kept_tiles][K][block_m * block_n] statistics type: of each of the first tiles what backward
  int64_t kept_tiles;  // needs (score/score.h); tiles are numbered [B][row tiles][col tiles], or [B][upper triangle]

  void* scratch;  // [threads][scratch_bytes]
  int64_t scratch_bytes;

  // Backward: outputs (null: not wanted).
  void* dq_accumulator;    // [B, M, D] statistics type: dS K, before the factor scale
  void* dk_accumulator;    // [B, K, N, D]; has the factor scale where it is the gradient itself (gradient_pass.h)
  void* dqueries;          // [B, M, D] contiguous, in dtype, or the accumulator itself
  void* dkeys;             // [B, K, N, D]
  double* drow_bias;       // [B, M], double: long sums of terms of one sign
  double* dcol_bias;       // [B, N]
  double* drow_term;       // [B, M]
  double* dcol_term;       // [B, N]; dscale of the volume score needs it
  double* dscale_partial;  // dot score: [B * number of row tiles (of col tiles where only keys are wanted)]
  void* dscale;            // [1] statistics type

  // [stripes - 1] times the gradients of rows: those of all stripes but the first
  void* dq_stripes;
  double *drow_bias_stripes, *drow_term_stripes;
};

}  // namespace contrastive_ops
