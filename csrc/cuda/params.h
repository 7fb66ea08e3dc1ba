// The descriptions of work that cross from Python to the kernels: pointers, sizes, strides in elements. No torch types;
// memory belongs to the caller, who keeps it alive until the stream has passed. One struct per kernel, passed by value.
#pragma once

#include <cstdint>

#include "../types.h"

namespace contrastive_ops::cuda {

// [B, size, D] with unit stride in D.
struct Side {
  const void* data;
  int64_t size;
  int64_t batch_stride;  // 0 where there is one batch entry
  int64_t row_stride;
};

// What one reduction takes from the lines of one side, [B, size] contiguous, in the statistics type (float, or double
// for float64); null: nothing.
struct LineValues {
  const void* compared;  // score pass: what scores are held against
  const void* result;    // gradient pass: what the line was reduced to, for slopes that ask for it
  const void* upstream;  // gradient pass: the gradient of the loss by that result; null: not wanted
};

// A number of every line over the pairs of a relation, of t_ij = factor * s_ij.
struct Reduction {
  ReductionKind kind;
  Relation relation;
  const void* factor;  // [] statistics type, or null for 1
  LineValues rows, cols;
};

// What a score takes beside its products, contiguous, in the statistics type; a dot product nothing.
struct Score {
  ScoreKind kind;
  const void* row_term;  // [B, M]
  const void* col_term;  // [B, N]
  const void* mixing;    // [B, K(K+1)/2, N]: rows of a lower triangle one after another
  bool absolute;
};

// A score matrix, seen from the side that owns the rows: s_ij = scale * score_ij + row_bias_i + col_bias_j, where the
// score is <q_i, k_j> or made of the products with K banks of columns.
struct Matrix {
  DType dtype;
  int64_t batch, d;
  Side rows, cols;
  const void *row_bias, *col_bias;  // [B, size] statistics type, or null for 0
  const void* scale;                // [] statistics type
  const void* unit;                 // [] factor that keeps weights in the range of the embeddings' type, or null for 1
  Score score;
  int banks;            // K
  int64_t bank_stride;  // from one bank of the columns to the next
  int num_reductions;
  Reduction reductions[kMaxReductions];
};

// The numbers that a reduction carries along the lines of one side, at most two: one slot per stripe, [slots, B, size].
struct Slots {
  void* of[2];  // null where not wanted
};

// Score pass: a block takes one stripe of rows times one stripe of columns, and so owns its slots.
struct ReduceParams {
  Matrix matrix;
  Slots rows[kMaxReductions];      // [col stripes (+ 1 in self-similarity), B, M]
  Slots cols[kMaxReductions];      // [row stripes, B, N]; the same as `rows` in self-similarity
  void* kept;                      // [B, M, N] statistics type: receives <q_i, k_j>, or null
  int64_t row_stripe, col_stripe;  // multiples of the tile's sides
  int num_row_stripes, num_col_stripes;
  bool
      self_similarity;  // columns are the rows: upper triangle of square tiles, and their statistics are row statistics
};

// The slots of each line to one number, in the order of the slots, for every reduction of one side.
struct MergedReduction {
  ReductionKind kind;
  Slots slots;   // [num_slots, size]
  void* result;  // [size]
};
struct MergeParams {
  DType dtype;
  int num_reductions;
  MergedReduction reductions[kMaxReductions];
  int64_t size;
  int num_slots;
};

// Sums over the pairs of a macro-block along its lines, times unit: a slot for each tile that a line crosses,
// [tiles across, block_rows] and [tiles down, block_cols] statistics type; null: not wanted, and of dot products no
// terms.
struct LineSums {
  void* row_bias;  // sum_j dS_ij
  void* col_bias;  // sum_i dS_ij
  void* row_term;  // sum_j dS_ij dscore_ij / drow_term_i
  void* col_term;  // sum_i dS_ij dscore_ij / dcol_term_j
};

// Of a macro-block of one batch entry: weights^s_ij = unit * dS_ij dscore_ij / d<q_i, k^s_j>, which for a dot product
// are those of dS, rounded to the embeddings' type for the products that follow.
struct MacroGradientParams {
  Matrix matrix;     // batch == 1
  const void* kept;  // [M, N] statistics type: <q_i, k_j> from the score pass, or null
  void* weights;     // [banks, block_rows, block_cols], or null
  int64_t weights_bank_stride, weights_stride;
  LineSums sums;
  void* d_scale;          // [blocks of the grid] partial sums of dS_ij score_ij, or null
  double d_scale_weight;  // what a pair of this block counts in d_scale
  int64_t first_row, first_col;
  int64_t block_rows, block_cols;
};

// What a product of the weights reads beside them, and what it is added to.
struct MacroProduct {
  const void* other;  // [depth, D]
  int64_t other_stride;
  void* gradient;  // [size, D] statistics type, contiguous; null: not wanted
};

// Of the weights of one bank: rows.gradient += weights rows.other, cols.gradient += weights^T cols.other. The gradients
// share no line. Macro-blocks, and the banks of each, follow one another on the stream: one order of sums.
struct MacroProductParams {
  DType dtype;
  const void* weights;  // [num_rows, num_cols]
  int64_t weights_stride;
  int64_t num_rows, num_cols, d;
  MacroProduct rows, cols;
};

// sums [size] += parts [num_parts, size], which are added up first, in their order.
struct AddPartsParams {
  DType dtype;
  void* sums;         // statistics type
  const void* parts;  // statistics type
  int64_t size;
  int num_parts;
};

// A sum with the factor `unit` becomes a gradient: gradient = sum * scale / unit.
struct FinishParams {
  DType dtype;      // of the gradient; float64 where the statistics type is double
  const void* sum;  // [size] statistics type
  void* gradient;   // [size]; may be `sum`
  int64_t size;
  const void* scale;  // [] statistics type, or null for 1
  const void* unit;   // as in Matrix
};

// The pairs of a macro-block, and its first number among those of its batch entry in d_scale.
struct MacroBlock {
  int64_t first_row, first_col, rows, cols;
  int64_t first_term;
};

// The gradient of one side's embeddings, [B, size, D] or [B, banks, size, D] contiguous.
struct EmbeddingsGradient {
  void* sum;       // statistics type, or null: not wanted
  void* gradient;  // may be `sum`
  DType dtype;
};

// Gradient pass in two levels: macro-block after macro-block of each batch entry, the weights once, then
// dQ += weights^s K^s and dK^s += weights^s^T Q for every bank s.
struct MacroPassParams {
  Matrix matrix;
  const MacroBlock* blocks;
  int64_t num_blocks;
  bool self_similarity;  // blocks on and above the diagonal, dS of both roles of a pair: those below are mirror images
  const void* kept;      // [B, M, N] statistics type, or null
  void* weights;         // workspace of one block, or null where no embeddings' gradient is wanted
  int64_t weights_bank_stride, weights_stride;
  LineSums lines;  // [B, M] and [B, N]: of all blocks, and without unit
  LineSums parts;  // workspace of one block, for those wanted
  void* d_scale;   // [B, terms_per_entry], or null
  int64_t terms_per_entry;
  EmbeddingsGradient rows, cols;
};

}  // namespace contrastive_ops::cuda
