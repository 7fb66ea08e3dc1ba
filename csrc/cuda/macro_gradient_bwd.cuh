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
    // wanted or not: terms of sums that wait for a branch would take more registers than there are
    Stat scale_sums[Acc::kRows] = {};
    gradient_(tile, acc, [&](int m, int first, const auto& ds) {
#pragma unroll
      for (int n = 0; n < std::extent_v<std::remove_reference_t<decltype(ds)>>; ++n) {
        scale_sums[m] += ds[n] * acc.at(m, first + n);
        acc.at(m, first + n) = ds[n];
      }
    });
    store(tile, acc);
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
  __device__ __forceinline__ void store(const Tile& tile, Acc& acc) const {
    const int first_i = thread_row<MainLoop>(tile) - static_cast<int>(params_.first_row);
    const int first_j = thread_col<MainLoop>(tile) - static_cast<int>(params_.first_col);
    Element* block = static_cast<Element*>(params_.ds_block);
    const bool in_pairs = holds_pairs(block, params_.ds_stride);
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
      const int i = first_i + Acc::row_offset(m);
      if (i >= params_.block_rows) continue;
      Element* line = block + i * params_.ds_stride;
#pragma unroll
      for (int n = 0; n < Acc::kCols; n += 2) {
        const int j = first_j + Acc::col_offset(n);
        const Element first(acc.at(m, n)), second(acc.at(m, n + 1));
        if (in_pairs && j + 1 < params_.block_cols) {
          pair_at(line + j) = {first, second};
        } else {
          if (j < params_.block_cols) line[j] = first;
          if (j + 1 < params_.block_cols) line[j + 1] = second;
        }
      }
    }
  }

  const MacroGradientParams& params_;
  LineReduction<MainLoop> reduction_;
  ScoreGradient<MainLoop> gradient_;
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
void launch_macro_gradient_bwd(const MacroGradientParams& params, void* stream) {
  const dim3 grid(blocks_along(params.block_rows, MainLoop::kBlockM),
                  blocks_along(params.block_cols, MainLoop::kBlockN));
  const Arguments<MainLoop, MacroGradientParams> arguments = {params, score_operands<MainLoop>(params.matrix)};
  launch(macro_gradient_bwd_kernel<MainLoop>, grid, MainLoop::kThreads,
         MainLoop::kSharedBytes + MacroGradientEpilogue<MainLoop>::kSharedBytes, stream, arguments);
}

}  // namespace contrastive_ops::cuda
