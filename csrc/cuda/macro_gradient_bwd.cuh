// unit * dS of one tile of a macro-block, rounded to the type of the products that follow.
#pragma once

#include "pair.cuh"
#include "reduction.cuh"
#include "score_gradient.cuh"
#include "single_tile.cuh"

namespace contrastive_ops::cuda {

template <class MainLoop>
class MacroGradientEpilogue {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  using Element = typename MainLoop::Element;

 public:
  static constexpr int kSharedBytes = LineReduction<MainLoop>::kSharedBytes + ScoreGradient<MainLoop>::kSharedBytes;

  __device__ __forceinline__ MacroGradientEpilogue(SharedMemory& shared, const MacroGradientParams& params)
      : params_(params), reduction_(shared), gradient_(shared, params.matrix, 0) {}

  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc) {
    const int row = thread_row<MainLoop>(tile) - static_cast<int>(params_.first_row);
    const int col = thread_col<MainLoop>(tile) - static_cast<int>(params_.first_col);
    const bool in_pairs = holds_pairs(static_cast<Element*>(params_.ds_block), params_.ds_stride);
    // wanted or not: terms of sums that wait for a branch would take more registers than there are
    Stat scale_sums[Acc::kRows] = {};
    gradient_(tile, acc, [&](int m, int first, const auto& ds) {
#pragma unroll
      for (int n = 0; n < int{std::extent_v<std::remove_reference_t<decltype(ds)>>}; n += 2) {
        scale_sums[m] += ds[n] * acc.at(m, first + n) + ds[n + 1] * acc.at(m, first + n + 1);
        store(row + Acc::row_offset(m), col + Acc::col_offset(first + n), in_pairs, Element(ds[n]), Element(ds[n + 1]));
      }
    });
    Stat scale_sum = Stat(0);
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) scale_sum += scale_sums[m];
    reduction_.block(scale_sum, [&](Stat sum) {
      if (!params_.d_scale) return;
      Stat* out = static_cast<Stat*>(params_.d_scale) + (blockIdx.x * gridDim.y + blockIdx.y);
      *out = sum * (static_cast<Stat>(params_.d_scale_weight) / gradient_.unit());
    });
  }

 private:
  // Elements (i, j) and (i, j + 1) of the macro-block.
  __device__ __forceinline__ void store(int i, int j, bool in_pairs, Element first, Element second) const {
    if (i >= params_.block_rows) return;
    Element* line = static_cast<Element*>(params_.ds_block) + i * params_.ds_stride;
    if (in_pairs && j + 1 < params_.block_cols) {
      pair_at(line + j) = {first, second};
    } else {
      if (j < params_.block_cols) line[j] = first;
      if (j + 1 < params_.block_cols) line[j + 1] = second;
    }
  }

  const MacroGradientParams& params_;
  LineReduction<MainLoop> reduction_;
  const ScoreGradient<MainLoop> gradient_;
};

template <class MainLoop>
__global__ void __launch_bounds__(MainLoop::kThreads, MainLoop::kMinBlocks)
    macro_gradient_bwd_kernel(const __grid_constant__ Arguments<MainLoop, MacroGradientParams> arguments) {
  const MacroGradientParams& params = arguments.params;
  const SingleTileWalk walk({static_cast<int>(params.first_row + blockIdx.x * MainLoop::kBlockM),
                             static_cast<int>(params.first_col + blockIdx.y * MainLoop::kBlockN)});
  SharedMemory shared;
  MainLoop main_loop(shared, arguments.operands, 0);
  MacroGradientEpilogue<MainLoop> epilogue(shared, params);
  main_loop.for_each_tile(walk, epilogue);
}

template <class MainLoop>
void launch_macro_gradient_bwd(const MacroGradientParams& params, const typename MainLoop::Operands& operands,
                               void* stream) {
  const dim3 grid(blocks_along(params.block_rows, MainLoop::kBlockM),
                  blocks_along(params.block_cols, MainLoop::kBlockN));
  const Arguments<MainLoop, MacroGradientParams> arguments = {params, operands};
  launch(macro_gradient_bwd_kernel<MainLoop>, grid, MainLoop::kThreads,
         MainLoop::kSharedBytes + MacroGradientEpilogue<MainLoop>::kSharedBytes, stream, arguments);
}

}  // namespace contrastive_ops::cuda
