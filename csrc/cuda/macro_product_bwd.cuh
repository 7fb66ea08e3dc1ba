// gradient [size, D] += dS other, or dS^T other.
#pragma once

#include "accumulator.cuh"
#include "pair.cuh"
#include "params.h"
#include "single_tile.cuh"

namespace contrastive_ops::cuda {

template <class MainLoop>
class MacroProductEpilogue {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  __device__ __forceinline__ explicit MacroProductEpilogue(const MacroProductParams& params) : params_(params) {}

  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc) {
    const int row = thread_row<MainLoop>(tile), col = thread_col<MainLoop>(tile);
    Stat* gradient = static_cast<Stat*>(params_.gradient);
    const bool in_pairs = holds_pairs(gradient, params_.d);
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
      const int i = row + Acc::row_offset(m);
      if (i >= params_.size) continue;
      Stat* line = gradient + i * params_.d;
#pragma unroll
      for (int n = 0; n < Acc::kCols; n += 2) {
        const int j = col + Acc::col_offset(n);
        if (in_pairs && j + 1 < params_.d) {
          Pair<Stat>& pair = pair_at(line + j);
          pair = {pair.first + acc.at(m, n), pair.second + acc.at(m, n + 1)};
        } else {
          if (j < params_.d) line[j] += acc.at(m, n);
          if (j + 1 < params_.d) line[j + 1] += acc.at(m, n + 1);
        }
      }
    }
  }

 private:
  const MacroProductParams& params_;
};

template <class MainLoop>
__global__ void __launch_bounds__(MainLoop::kThreads, MainLoop::kMinBlocks)
    macro_product_bwd_kernel(const __grid_constant__ Arguments<MainLoop, MacroProductParams> arguments) {
  const SingleTileWalk walk({int(blockIdx.x) * MainLoop::kBlockM, int(blockIdx.y) * MainLoop::kBlockN});
  SharedMemory shared;
  MainLoop main_loop(shared, arguments.operands, 0);
  MacroProductEpilogue<MainLoop> epilogue(arguments.params);
  main_loop.for_each_tile(walk, epilogue);
}

template <class MainLoop>
void launch_macro_product_bwd(const MacroProductParams& params, Stream& stream) {
  for (int64_t size : {params.size, params.depth, params.d}) check_size(size);
  const int64_t lines = params.transposed ? params.depth : params.size;
  const int64_t width = params.transposed ? params.size : params.depth;
  const OperandView weights = {params.weights, 1, 0, lines, params.weights_stride, width};
  const OperandView other = {params.other, 1, 0, params.depth, params.other_stride, params.d};
  const dim3 grid(blocks_along(params.size, MainLoop::kBlockM), blocks_along(params.d, MainLoop::kBlockN));
  const Arguments<MainLoop, MacroProductParams> arguments = {params, MainLoop::make_operands(weights, other, stream)};
  launch(macro_product_bwd_kernel<MainLoop>, grid, MainLoop::kThreads, MainLoop::kSharedBytes, stream, arguments);
}

}  // namespace contrastive_ops::cuda
