// log-sum-exp of nearly all pairs. A thread keeps the sums of its own columns of each of its rows along a row of tiles,
// and threads meet at its end; the sums of columns go to the slot and back, where one thread of this block alone sees
// them.
#pragma once

#include "../scores.cuh"
#include "../thread_array.cuh"
#include "log_sum_exp.cuh"
#include "stripe.cuh"

namespace contrastive_ops::cuda {

// kIndex: of the reduction among those of the pass. The last of them, as it overwrites scores.
template <class MainLoop, int kIndex>
class LogSumExpOfStripe {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  using Reduced = LogSumExp<Stat>;

 public:
  static constexpr int kSharedBytes = 2 * ThreadArray<MainLoop, Acc::kRows>::kSharedBytes;

  __device__ __forceinline__ explicit LogSumExpOfStripe(SharedMemory& shared) : tops_(shared), totals_(shared) {}

  // `acc`: the scores, -inf afterwards where a pair does not belong.
  __device__ __forceinline__ void take(const Tile& tile, Acc& acc, Stripe<MainLoop>& stripe) {
    const Matrix& matrix = stripe.params.matrix;
    const Relation& relation = matrix.reductions[kIndex].relation;
    if (needs_mask<MainLoop>(relation, matrix, tile)) {
      PairMask<MainLoop> pairs;
      pairs.select(relation, stripe.batch, tile, matrix);
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
        for (int n = 0; n < Acc::kCols; ++n) {
          if (!pairs(m, n)) acc.at(m, n) = -Stat(INFINITY);
        }
      }
    }
    if (stripe.params.cols[kIndex].of[0]) {
      if (!stripe.is_mirrored(tile)) {
        add_columns(tile, acc, stripe);
      } else if (stripe.walk.starts_col(tile)) {
        write_column(tile, MainLoop::thread(), ExpSum<Stat>::none(), stripe);
      }
    }
    if (stripe.params.rows[kIndex].of[0]) {
      add_rows(acc, stripe.walk.starts_row(tile));
      if (stripe.walk.ends_row(tile)) store_rows(tile, stripe);
    }
  }

 private:
  __device__ __forceinline__ void add_columns(const Tile& tile, Acc& acc, Stripe<MainLoop>& stripe) const {
    ExpSum<Stat> cols[Acc::kCols];
#pragma unroll
    for (int n = 0; n < Acc::kCols; ++n) {
      Stat top = acc.at(0, n), total = Stat(0);
#pragma unroll
      for (int m = 1; m < Acc::kRows; ++m) top = maximum(top, acc.at(m, n));
      const Stat shift = finite_or_zero(top);
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) total += exponential(acc.at(m, n) - shift);
      cols[n] = {top, total};
    }
    stripe.lines.columns(cols, MergeExpSums{},
                         [&](int j, const ExpSum<Stat>& found) { write_column(tile, j, found, stripe); });
  }

  // Column j of the tile: what was found is merged with what the tiles above have left.
  __device__ __forceinline__ void write_column(const Tile& tile, int j, const ExpSum<Stat>& found,
                                               const Stripe<MainLoop>& stripe) const {
    if (j >= MainLoop::kBlockN || tile.col_start + j >= stripe.params.matrix.cols.size) return;
    const Slots& slots = stripe.params.cols[kIndex];
    const int64_t at = stripe.col_slot() + tile.col_start + j;
    const ExpSum<Stat> merged = stripe.walk.starts_col(tile) ? found : MergeExpSums{}(Reduced::load(slots, at), found);
    Reduced::store(slots, at, merged);
  }

  __device__ __forceinline__ void add_rows(Acc& acc, bool starts) {
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
      const ExpSum<Stat> before = starts ? ExpSum<Stat>::none() : ExpSum<Stat>{tops_[m], totals_[m]};
      Stat top = before.top;
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) top = maximum(top, acc.at(m, n));
      const Stat shift = finite_or_zero(top);
      Stat total = before.total * exponential(before.top - shift);
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) total += exponential(acc.at(m, n) - shift);
      tops_[m] = top;
      totals_[m] = total;
    }
  }

  __device__ __forceinline__ void store_rows(const Tile& tile, Stripe<MainLoop>& stripe) {
    ExpSum<Stat> rows[Acc::kRows];
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) rows[m] = {tops_[m], totals_[m]};
    const Slots& slots = stripe.params.rows[kIndex];
    const int64_t start = stripe.row_slot() + tile.row_start;
    Stat *tops = slot<Stat>(slots, 0) + start, *totals = slot<Stat>(slots, 1) + start;
    stripe.lines.rows(rows, MergeExpSums{}, [&](int i, const ExpSum<Stat>& row) {
      if (tile.row_start + i >= stripe.params.matrix.rows.size) return;
      tops[i] = row.top;
      totals[i] = row.total;
    });
  }

  ThreadArray<MainLoop, Acc::kRows> tops_, totals_;
};

}  // namespace contrastive_ops::cuda
