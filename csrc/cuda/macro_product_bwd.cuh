// Both products of a macro-block's weights in one launch, whose blocks have a tile of a gradient each: rows' gradient
// += weights other, columns' gradient += weights^T other. Alone, neither has tiles enough to fill a GPU.
#pragma once

#include <algorithm>

#include "accumulator.cuh"
#include "pair.cuh"
#include "params.h"
#include "single_tile.cuh"

namespace contrastive_ops::cuda {

// The main loops of both products, as much alike as one launch of both asks for: a main loop to the host.
template <class Rows_, class Cols_>
struct MacroProductLoops {
  using Rows = Rows_;  // of weights other
  using Cols = Cols_;  // of weights^T other
  static constexpr int kBlockM = Rows::kBlockM, kBlockN = Rows::kBlockN, kBlockK = Rows::kBlockK;
  static constexpr int kThreads = Rows::kThreads, kMinBlocks = Rows::kMinBlocks;
  static constexpr int kSharedBytes = std::max(Rows::kSharedBytes, Cols::kSharedBytes);
  static_assert(kBlockM == Cols::kBlockM && kBlockN == Cols::kBlockN && kBlockK == Cols::kBlockK);
  static_assert(kThreads == Cols::kThreads && kMinBlocks == Cols::kMinBlocks);

  struct Operands {
    typename Rows::Operands rows;
    typename Cols::Operands cols;
    // along the grid's y: so many lines of tiles of one gradient, then those of the other
    int num_first;
    bool rows_first;
  };
};

template <class MainLoop>
class MacroProductEpilogue {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  // gradient: [size, D]
  __device__ __forceinline__ MacroProductEpilogue(void* gradient, int64_t size, int64_t d)
      : gradient_(static_cast<Stat*>(gradient)), size_(size), d_(d) {}

  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc) {
    const int row = thread_row<MainLoop>(tile), col = thread_col<MainLoop>(tile);
    const bool in_pairs = holds_pairs(gradient_, d_);
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
      const int i = row + Acc::row_offset(m);
      if (i >= size_) continue;
      Stat* line = gradient_ + i * d_;
#pragma unroll
      for (int n = 0; n < Acc::kCols; n += 2) {
        const int j = col + Acc::col_offset(n);
        if (in_pairs && j + 1 < d_) {
          Pair<Stat>& pair = pair_at(line + j);
          pair = {pair.first + acc.at(m, n), pair.second + acc.at(m, n + 1)};
        } else {
          if (j < d_) line[j] += acc.at(m, n);
          if (j + 1 < d_) line[j + 1] += acc.at(m, n + 1);
        }
      }
    }
  }

 private:
  Stat* const gradient_;
  const int64_t size_, d_;
};

template <class MainLoop>
__device__ __forceinline__ void add_tile(const typename MainLoop::Operands& operands, int line_of_tiles, void* gradient,
                                         int64_t size, int64_t d) {
  const SingleTileWalk walk({line_of_tiles * MainLoop::kBlockM, int(blockIdx.x) * MainLoop::kBlockN});
  SharedMemory shared;
  MainLoop main_loop(shared, operands, 0);
  MacroProductEpilogue<MainLoop> epilogue(gradient, size, d);
  main_loop.for_each_tile(walk, epilogue);
}

template <class Loops>
__global__ void __launch_bounds__(Loops::kThreads, Loops::kMinBlocks)
    macro_product_bwd_kernel(const __grid_constant__ Arguments<Loops, MacroProductParams> arguments) {
  const MacroProductParams& params = arguments.params;
  const auto& [rows, cols, num_first, rows_first] = arguments.operands;
  const int line = blockIdx.y;
  if ((line < num_first) == rows_first) {
    add_tile<typename Loops::Rows>(rows, line - (rows_first ? 0 : num_first), params.rows.gradient, params.num_rows,
                                   params.d);
  } else {
    add_tile<typename Loops::Cols>(cols, line - (rows_first ? num_first : 0), params.cols.gradient, params.num_cols,
                                   params.d);
  }
}

template <class Loops>
void launch_macro_product_bwd(const MacroProductParams& params, Stream& stream) {
  for (int64_t size : {params.num_rows, params.num_cols, params.d}) check_size(size);
  const OperandView weights = {params.weights, 1, 0, params.num_rows, params.weights_stride, params.num_cols};
  Arguments<Loops, MacroProductParams> arguments = {params, {}};
  auto& operands = arguments.operands;
  unsigned of_rows = 0, of_cols = 0;  // lines of tiles
  if (params.rows.gradient) {
    of_rows = blocks_along(params.num_rows, Loops::kBlockM);
    const OperandView other = {params.rows.other, 1, 0, params.num_cols, params.rows.other_stride, params.d};
    operands.rows = Loops::Rows::make_operands(weights, other, stream);
  }
  if (params.cols.gradient) {
    of_cols = blocks_along(params.num_cols, Loops::kBlockM);
    const OperandView other = {params.cols.other, 1, 0, params.num_rows, params.cols.other_stride, params.d};
    operands.cols = Loops::Cols::make_operands(weights, other, stream);
  }
  // the deepest tiles first: what starts last is soon done
  operands.rows_first = params.num_cols >= params.num_rows;
  operands.num_first = static_cast<int>(operands.rows_first ? of_rows : of_cols);
  const dim3 grid(blocks_along(params.d, Loops::kBlockN), of_rows + of_cols);
  launch(macro_product_bwd_kernel<Loops>, grid, Loops::kThreads, Loops::kSharedBytes, stream, arguments);
}

}  // namespace contrastive_ops::cuda
