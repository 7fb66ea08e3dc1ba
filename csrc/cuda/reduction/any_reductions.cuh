// Any reductions of a pass, whose kinds are known at run time. Each takes a tile in turn, from the scores in the
// registers, and merges what it finds of a line with the slot, which one thread of this block alone sees.
#pragma once

#include "../scores.cuh"
#include "log_sum_exp.cuh"
#include "one_number.cuh"
#include "stripe.cuh"

namespace contrastive_ops::cuda {

template <class MainLoop>
class AnyReductions {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  static constexpr int kSharedBytes = 0;

  __device__ __forceinline__ explicit AnyReductions(SharedMemory&) {}

  // `acc`: the scores.
  __device__ __forceinline__ void take(const Tile& tile, Acc& acc, Stripe<MainLoop>& stripe) const {
    const Matrix& matrix = stripe.params.matrix;
#pragma unroll 1
    for (int r = 0; r < matrix.num_reductions; ++r) {
      if (matrix.reductions[r].kind == ReductionKind::kLogSumExp) {
        take_one(LogSumExp<Stat>{}, r, tile, acc, stripe);
      } else {
        take_one(OneNumber<Stat>(matrix.reductions[r].kind), r, tile, acc, stripe);
      }
    }
  }

 private:
  template <class Reduced>
  __device__ __forceinline__ void take_one(const Reduced& reduced, int r, const Tile& tile, Acc& acc,
                                           Stripe<MainLoop>& stripe) const {
    using State = typename Reduced::State;
    const ReduceParams& params = stripe.params;
    const Matrix& matrix = params.matrix;
    const Reduction& of = matrix.reductions[r];
    const bool may_hold = may_include<MainLoop>(of.relation, tile);
    PairMask<MainLoop> pairs;
    if (may_hold) pairs.select(of.relation, stripe.batch, tile, matrix);
    const Stat factor = of.factor ? load_scalar<Stat>(of.factor) : Stat(1);

    // The first tile of a line writes its slot even if it holds no pair. Columns first: the other order takes a
    // register more than there are.
    const bool is_mirrored = stripe.is_mirrored(tile);
    if (params.cols[r].of[0] && ((may_hold && !is_mirrored) || stripe.walk.starts_col(tile))) {
      const int col = thread_col<MainLoop>(tile);
      State found[Acc::kCols];
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) {
        found[n] = reduced.template of<Acc::kRows>(
            [&](int m) { return acc.at(m, n) * factor; }, [&](int m) { return !is_mirrored && pairs(m, n); },
            compared(of.cols, stripe.batch, matrix.cols.size, col + Acc::col_offset(n)));
      }
      const int64_t start = stripe.col_slot() + tile.col_start;
      stripe.lines.columns(found, reduced, [&](int j, const State& state) {
        if (tile.col_start + j >= matrix.cols.size) return;
        reduced.merge_into(params.cols[r], start + j, stripe.walk.starts_col(tile), state);
      });
    }
    if (params.rows[r].of[0] && (may_hold || stripe.walk.starts_row(tile))) {
      const int row = thread_row<MainLoop>(tile);
      State found[Acc::kRows];
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
        found[m] = reduced.template of<Acc::kCols>(
            [&](int n) { return acc.at(m, n) * factor; }, [&](int n) { return pairs(m, n); },
            compared(of.rows, stripe.batch, matrix.rows.size, row + Acc::row_offset(m)));
      }
      const int64_t start = stripe.row_slot() + tile.row_start;
      stripe.lines.rows(found, reduced, [&](int i, const State& state) {
        if (tile.row_start + i >= matrix.rows.size) return;
        reduced.merge_into(params.rows[r], start + i, stripe.walk.starts_row(tile), state);
      });
    }
  }

  static __device__ __forceinline__ Stat compared(const LineValues& lines, int batch, int64_t size, int i) {
    return lines.compared ? load_line(lines.compared, batch, size, i, Stat(0)) : Stat(0);
  }
};

}  // namespace contrastive_ops::cuda
