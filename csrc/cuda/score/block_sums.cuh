// The slots of a tile in the sums along the lines of its macro-block.
#pragma once

#include "../line_reduction.cuh"
#include "../params.h"

namespace contrastive_ops::cuda {

template <class MainLoop>
struct BlockSums {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

  const MacroGradientParams& params;
  NumberReduction<MainLoop>& reduction;
  const Tile& tile;

  // Null: not wanted.
  __device__ __forceinline__ void rows(void* sums, Acc& values) const {
    if (!sums) return;
    Stat parts[Acc::kRows] = {};
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) parts[m] += values.at(m, n);
    }
    const int64_t first = tile.row_start - params.first_row;
    Stat* slot = static_cast<Stat*>(sums) + blockIdx.y * params.block_rows + first;
    reduction.rows(parts, Add{}, [&](int i, Stat sum) {
      if (first + i < params.block_rows) slot[i] = sum;
    });
  }

  __device__ __forceinline__ void cols(void* sums, Acc& values) const {
    if (!sums) return;
    Stat parts[Acc::kCols] = {};
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) parts[n] += values.at(m, n);
    }
    const int64_t first = tile.col_start - params.first_col;
    Stat* slot = static_cast<Stat*>(sums) + blockIdx.x * params.block_cols + first;
    reduction.columns(parts, Add{}, [&](int j, Stat sum) {
      if (first + j < params.block_cols) slot[j] = sum;
    });
  }
};

}  // namespace contrastive_ops::cuda
