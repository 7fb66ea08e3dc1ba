// Relations inside a tile: how much of the tile belongs, and a lane mask per vector.
#pragma once

#include "params.h"
#include "simd.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// The part of the score matrix that one tile covers.
struct TileRange {
  int64_t batch;
  int64_t row, rows;
  int64_t col, cols;
};

enum class Coverage { kNone, kSome, kAll };

struct IdRange {
  int64_t low, high;
};

CONTRASTIVE_INLINE IdRange id_range(const int64_t* ids, int64_t count) {
  IdRange range = {ids[0], ids[0]};
  for (int64_t i = 1; i < count; ++i) {
    range.low = ids[i] < range.low ? ids[i] : range.low;
    range.high = ids[i] > range.high ? ids[i] : range.high;
  }
  return range;
}

CONTRASTIVE_INLINE const int64_t* tile_row_ids(const Clause& clause, const TileRange& tile) {
  return clause.row_ids + tile.batch * clause.row_batch_stride + tile.row;
}
CONTRASTIVE_INLINE const int64_t* tile_col_ids(const Clause& clause, const TileRange& tile) {
  return clause.col_ids + tile.batch * clause.col_batch_stride + tile.col;
}

// Column of the diagonal in row 0 of the tile, relative to the tile.
CONTRASTIVE_INLINE int64_t diagonal_start(const Clause& clause, const TileRange& tile) {
  return tile.row + clause.offset - tile.col;
}

inline Coverage clause_coverage(const Clause& clause, const TileRange& tile) {
  bool can_be_equal, always_equal;
  if (clause.kind == ClauseKind::kDiagonal || clause.kind == ClauseKind::kOffDiagonal) {
    const int64_t start = diagonal_start(clause, tile);
    can_be_equal = start < tile.cols && start + tile.rows > 0;
    always_equal = start == 0 && tile.rows == 1 && tile.cols == 1;
  } else {
    const IdRange r = id_range(tile_row_ids(clause, tile), tile.rows);
    const IdRange c = id_range(tile_col_ids(clause, tile), tile.cols);
    can_be_equal = r.low <= c.high && c.low <= r.high;
    always_equal = r.low == r.high && c.low == c.high && r.low == c.low;
  }
  const bool equal_belongs = clause.kind == ClauseKind::kDiagonal || clause.kind == ClauseKind::kSame;
  if (!can_be_equal) return equal_belongs ? Coverage::kNone : Coverage::kAll;
  if (always_equal) return equal_belongs ? Coverage::kAll : Coverage::kNone;
  return Coverage::kSome;
}

inline Coverage coverage(const Relation& relation, const TileRange& tile) {
  Coverage result = Coverage::kAll;
  for (int c = 0; c < relation.count; ++c) {
    const Coverage part = clause_coverage(relation.clauses[c], tile);
    if (part == Coverage::kNone) return part;
    if (part == Coverage::kSome) result = part;
  }
  return result;
}

// A relation ready for lane masks in one tile. Ids are split into lanes of the statistics type's width (two halves
// for float), so that one comparison serves a whole vector. Sweeps take it by value: what they store cannot change it
// then, and its clauses stay in registers.
template <class T>
struct TileMask {
  struct ClauseMask {
    bool uses_ids, equal_belongs;
    Lane<T> diagonal;  // column of the diagonal in row 0
    Lane<T>*row_low, *row_high, *col_low, *col_high;
  };
  int count;
  ClauseMask clauses[kMaxClauses];

  static int64_t scratch_lanes(int64_t block_m, int64_t block_n) {
    return kMaxClauses * 2 * (block_m + block_n + kPanel<T>);
  }

  static void split(const int64_t* ids, int64_t count, Lane<T>* low, Lane<T>* high) {
    for (int64_t i = 0; i < count; ++i) {
      low[i] = Lane<T>(ids[i]);
      high[i] = Lane<T>(ids[i] >> 32);
    }
  }

  TileMask(const Relation& relation, const TileRange& tile, Lane<T>* scratch) : count(relation.count) {
    const int64_t padded_cols = (tile.cols + kPanel<T> - 1) / kPanel<T> * kPanel<T>;
    for (int c = 0; c < count; ++c) {
      const Clause& clause = relation.clauses[c];
      ClauseMask& mask = clauses[c];
      mask.uses_ids = clause.kind == ClauseKind::kSame || clause.kind == ClauseKind::kDifferent;
      mask.equal_belongs = clause.kind == ClauseKind::kDiagonal || clause.kind == ClauseKind::kSame;
      if (!mask.uses_ids) {
        // a diagonal that misses the tile may start anywhere: any column outside will do
        const int64_t start = diagonal_start(clause, tile);
        const bool misses = start >= tile.cols || start + tile.rows <= 0;
        mask.diagonal = Lane<T>(misses ? padded_cols : start);
        continue;
      }
      mask.row_low = scratch;
      mask.row_high = mask.row_low + tile.rows;
      mask.col_low = mask.row_high + tile.rows;
      mask.col_high = mask.col_low + padded_cols;
      scratch = mask.col_high + padded_cols;
      split(tile_row_ids(clause, tile), tile.rows, mask.row_low, mask.row_high);
      split(tile_col_ids(clause, tile), tile.cols, mask.col_low, mask.col_high);
      for (int64_t j = tile.cols; j < padded_cols; ++j) mask.col_low[j] = mask.col_high[j] = 0;
    }
  }

  // All bits set in the lanes whose pair (row i, column j + lane) of the tile belongs; columns of the padding
  // may look like members.
  CONTRASTIVE_INLINE IVec<T> operator()(int64_t i, int64_t j) const {
    IVec<T> belongs = ~IVec<T>{};
#pragma GCC unroll 4
    for (int c = 0; c < count; ++c) {
      const ClauseMask& mask = clauses[c];
      IVec<T> equal;
      if (mask.uses_ids) {
        equal = (load_lanes<T>(mask.col_low + j) == mask.row_low[i]) &
                (load_lanes<T>(mask.col_high + j) == mask.row_high[i]);
      } else {
        equal = iota<T>() == Lane<T>(mask.diagonal + i - j);
      }
      belongs &= mask.equal_belongs ? equal : ~equal;
    }
    return belongs;
  }
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
