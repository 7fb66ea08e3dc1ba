// Sums of scores in few tiles: those in which a diagonal or ids leave pairs. A tile adds its own to the slot, which is
// zero before the first and which one thread of this block alone sees.
#pragma once

#include "../relation.cuh"
#include "slots.cuh"
#include "stripe.cuh"

namespace contrastive_ops::cuda {

// kIndex: of the reduction among those of the pass.
template <class MainLoop, int kIndex>
class ScoreSumOfTiles {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  static constexpr int kSharedBytes = 0;

  __device__ __forceinline__ explicit ScoreSumOfTiles(SharedMemory&) {}

  // `acc`: the scores.
  __device__ __forceinline__ void take(const Tile& tile, Acc& acc, Stripe<MainLoop>& stripe) const {
    const ReduceParams& params = stripe.params;
    const Matrix& matrix = params.matrix;
    const Relation& relation = matrix.reductions[kIndex].relation;
    const Slots &of_rows = params.rows[kIndex], &of_cols = params.cols[kIndex];
    if ((!of_rows.of[0] && !of_cols.of[0]) || !may_include<MainLoop>(relation, tile)) return;
    PairMask<MainLoop> pairs;
    pairs.select(relation, stripe.batch, tile, matrix);
    if (of_rows.of[0]) {
      Stat sums[Acc::kRows] = {};
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
        for (int n = 0; n < Acc::kCols; ++n) sums[m] += pairs(m, n) ? acc.at(m, n) : Stat(0);
      }
      Stat* out = slot<Stat>(of_rows, 0) + stripe.row_slot() + tile.row_start;
      stripe.lines.rows(sums, Add{}, [&](int i, Stat sum) {
        if (tile.row_start + i < matrix.rows.size) out[i] += sum;
      });
    }
    if (of_cols.of[0] && !stripe.is_mirrored(tile)) {
      Stat sums[Acc::kCols] = {};
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) {
#pragma unroll
        for (int m = 0; m < Acc::kRows; ++m) sums[n] += pairs(m, n) ? acc.at(m, n) : Stat(0);
      }
      Stat* out = slot<Stat>(of_cols, 0) + stripe.col_slot() + tile.col_start;
      stripe.lines.columns(sums, Add{}, [&](int j, Stat sum) {
        if (tile.col_start + j < matrix.cols.size) out[j] += sum;
      });
    }
  }
};

}  // namespace contrastive_ops::cuda
