// What the reductions of a block of the score pass share: the stripe, its slots, and the exchange between threads.
#pragma once

#include "../line_reduction.cuh"
#include "../params.h"
#include "../stripe_walk.cuh"

namespace contrastive_ops::cuda {

template <class MainLoop>
struct Stripe {
  const ReduceParams& params;
  const StripeWalk<MainLoop>& walk;
  const int batch;
  LineReduction<MainLoop, 2> lines;

  // Where this block's slots start.
  __device__ __forceinline__ int64_t row_slot() const {
    return (walk.col_slot() * params.matrix.batch + batch) * params.matrix.rows.size;
  }
  // The columns of a stripe on the diagonal are its rows: their second role has a slot of its own.
  __device__ __forceinline__ int64_t col_slot() const {
    const int slot = walk.on_diagonal() ? params.num_col_stripes : walk.row_slot();
    return (slot * params.matrix.batch + batch) * params.matrix.cols.size;
  }

  // A tile on the diagonal of a symmetric matrix: its columns are counted as rows already.
  __device__ __forceinline__ bool is_mirrored(const Tile& tile) const {
    return params.self_similarity && tile.row_start == tile.col_start;
  }
};

}  // namespace contrastive_ops::cuda
