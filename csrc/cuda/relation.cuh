// Which pairs of a tile take part: clauses tested on indices and ids, and whether a tile needs the test at all.
#pragma once

#include "accumulator.cuh"
#include "mainloop.h"
#include "params.h"

namespace contrastive_ops::cuda {

// Whether j == i + offset for some pair of the tile.
template <class MainLoop>
__device__ __forceinline__ bool diagonal_crosses(int64_t offset, const Tile& tile) {
  const int64_t first = tile.row_start + offset;
  return tile.col_start + MainLoop::kBlockN > first && tile.col_start < first + MainLoop::kBlockM;
}

// False where every pair of the tile is known to belong.
template <class MainLoop>
__device__ __forceinline__ bool may_exclude(const Relation& relation, const Tile& tile) {
  bool found = false;
  for (int c = 0; c < relation.count; ++c) {
    const Clause& clause = relation.clauses[c];
    found |= clause.kind != ClauseKind::kOffDiagonal || diagonal_crosses<MainLoop>(clause.offset, tile);
  }
  return found;
}

// False where no pair of the tile belongs, as far as diagonals tell.
template <class MainLoop>
__device__ __forceinline__ bool may_include(const Relation& relation, const Tile& tile) {
  bool found = true;
  for (int c = 0; c < relation.count; ++c) {
    const Clause& clause = relation.clauses[c];
    found &= clause.kind != ClauseKind::kDiagonal || diagonal_crosses<MainLoop>(clause.offset, tile);
  }
  return found;
}

// One bit for each of the thread's pairs, none set until they are selected.
template <class MainLoop>
class PairMask {
  using Acc = typename MainLoop::Acc;

 public:
  // Pairs inside the matrix for which every clause of the relation holds.
  __device__ __forceinline__ void select(const Relation& relation, int batch, const Tile& tile, const Matrix& matrix) {
    const int row = thread_row<MainLoop>(tile), col = thread_col<MainLoop>(tile);
    const int rows_left = static_cast<int>(matrix.rows.size) - row,
              cols_left = static_cast<int>(matrix.cols.size) - col;
#pragma unroll
    for (uint32_t& word : words_) word = ~0u;
    restrict_to([&](int m, int n) { return Acc::row_offset(m) < rows_left && Acc::col_offset(n) < cols_left; });
#pragma unroll 1
    for (int c = 0; c < relation.count; ++c) {
      const Clause& clause = relation.clauses[c];
      if (clause.kind == ClauseKind::kDiagonal || clause.kind == ClauseKind::kOffDiagonal) {
        const bool on_diagonal = clause.kind == ClauseKind::kDiagonal;
        const int distance = row + static_cast<int>(clause.offset) - col;
        restrict_to([&](int m, int n) { return (Acc::col_offset(n) - Acc::row_offset(m) == distance) == on_diagonal; });
      } else {
        restrict_to_ids(clause, batch, row, col, rows_left, cols_left);
      }
    }
  }

  __device__ __forceinline__ bool operator()(int m, int n) const {
    return words_[(m * Acc::kCols + n) / 32] >> (m * Acc::kCols + n) % 32 & 1;
  }

  static constexpr int kWords = (Acc::kRows * Acc::kCols + 31) / 32;

  // Bit i of word w is that of pair 32 w + i, counted row by row.
  __device__ __forceinline__ uint32_t word(int w) const { return words_[w]; }

 private:
  template <class Holds>
  __device__ __forceinline__ void restrict_to(Holds holds) {
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) clear_unless(m, n, holds(m, n));
    }
  }

  __device__ __forceinline__ void restrict_to_ids(const Clause& clause, int batch, int row, int col, int rows_left,
                                                  int cols_left) {
    const bool same = clause.kind == ClauseKind::kSame;
    const int64_t* row_ids = clause.row_ids + batch * clause.row_batch_stride + row;
    const int64_t* col_ids = clause.col_ids + batch * clause.col_batch_stride + col;
    int64_t ids[Acc::kCols];
#pragma unroll
    for (int n = 0; n < Acc::kCols; ++n) ids[n] = Acc::col_offset(n) < cols_left ? col_ids[Acc::col_offset(n)] : 0;
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
      const int64_t id = Acc::row_offset(m) < rows_left ? row_ids[Acc::row_offset(m)] : 0;
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) clear_unless(m, n, (id == ids[n]) == same);
    }
  }

  __device__ __forceinline__ void clear_unless(int m, int n, bool holds) {
    if (!holds) words_[(m * Acc::kCols + n) / 32] &= ~(1u << (m * Acc::kCols + n) % 32);
  }

  uint32_t words_[kWords] = {};
};

}  // namespace contrastive_ops::cuda
