// The weights of the products of one tile of a macro-block, rounded to the type of the products that follow.
#pragma once

#include "pair.cuh"
#include "reduction/sets.cuh"
#include "single_tile.cuh"

namespace contrastive_ops::cuda {

// Set: of the reductions, see reduction/sets.cuh.
template <class MainLoop, class Score, class Set>
class MacroGradientEpilogue {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  using Element = typename MainLoop::Element;
  using Slopes = typename Set::template Slopes<MainLoop>;

 public:
  static int shared_bytes(int num_reductions) {
    return NumberReduction<MainLoop>::kSharedBytes + Slopes::shared_bytes(num_reductions);
  }

  __device__ __forceinline__ MacroGradientEpilogue(SharedMemory& shared, const MacroGradientParams& params,
                                                   Score& score)
      : params_(params), score_(score), reduction_(shared), slopes_(shared, params.matrix, 0) {}

  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc) {
    const int row = thread_row<MainLoop>(tile) - static_cast<int>(params_.first_row);
    const int col = thread_col<MainLoop>(tile) - static_cast<int>(params_.first_col);
    const bool in_pairs = holds_pairs(static_cast<Element*>(params_.weights), params_.weights_stride) &&
                          params_.weights_bank_stride % 2 == 0;
    const auto store = [&](int bank, int m, int n, Stat first, Stat second) {
      store_pair(bank, row + Acc::row_offset(m), col + Acc::col_offset(n), in_pairs, Element(first), Element(second));
    };
    // wanted or not: terms of sums that wait for a branch would take more registers than there are
    Stat scale_sums[Acc::kRows] = {};
    slopes_(tile, acc, [&](int m, int first, const auto& ds) {
#pragma unroll
      for (int n = 0; n < int{std::extent_v<std::remove_reference_t<decltype(ds)>>}; n += 2) {
        scale_sums[m] += ds[n] * acc.at(m, first + n) + ds[n + 1] * acc.at(m, first + n + 1);
        score_.take(acc, m, first + n, ds[n], ds[n + 1], store);
      }
    });
    score_.finish(tile, acc, params_, reduction_, store);
    Stat scale_sum = Stat(0);
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) scale_sum += scale_sums[m];
    reduction_.block(scale_sum, [&](Stat sum) {
      if (!params_.d_scale) return;
      Stat* out = static_cast<Stat*>(params_.d_scale) + (blockIdx.x * gridDim.y + blockIdx.y);
      *out = sum * (static_cast<Stat>(params_.d_scale_weight) / slopes_.unit());
    });
  }

 private:
  // Elements (i, j) and (i, j + 1) of the macro-block.
  __device__ __forceinline__ void store_pair(int bank, int i, int j, bool in_pairs, Element first,
                                             Element second) const {
    if (i >= params_.block_rows) return;
    Element* line =
        static_cast<Element*>(params_.weights) + bank * params_.weights_bank_stride + i * params_.weights_stride;
    if (in_pairs && j + 1 < params_.block_cols) {
      pair_at(line + j) = {first, second};
    } else {
      if (j < params_.block_cols) line[j] = first;
      if (j + 1 < params_.block_cols) line[j + 1] = second;
    }
  }

  const MacroGradientParams& params_;
  Score& score_;
  NumberReduction<MainLoop> reduction_;
  const Slopes slopes_;
};

template <class MainLoop, class Score, class Set>
__global__ void __launch_bounds__(MainLoop::kThreads, MainLoop::kMinBlocks)
    macro_gradient_bwd_kernel(const __grid_constant__ Arguments<MainLoop, MacroGradientParams, Set> arguments) {
  const MacroGradientParams& params = arguments.params;
  const SingleTileWalk walk({static_cast<int>(params.first_row + blockIdx.x * MainLoop::kBlockM),
                             static_cast<int>(params.first_col + blockIdx.y * MainLoop::kBlockN)});
  SharedMemory shared;
  MainLoop main_loop(shared, arguments.operands, 0);
  Score score(shared, params.matrix, 0);
  MacroGradientEpilogue<MainLoop, Score, Set> epilogue(shared, params, score);
  score.for_each_tile(main_loop, walk, epilogue);
}

template <class MainLoop, class Score, class Set>
void launch_macro_gradient_bwd_of(const MacroGradientParams& params, const typename MainLoop::Operands& operands,
                                  Stream& stream) {
  const dim3 grid(blocks_along(params.block_rows, MainLoop::kBlockM),
                  blocks_along(params.block_cols, MainLoop::kBlockN));
  const Arguments<MainLoop, MacroGradientParams, Set> arguments = {params, operands};
  const auto shared_bytes = [](int num_reductions, int banks) {
    return MainLoop::kSharedBytes + MacroGradientEpilogue<MainLoop, Score, Set>::shared_bytes(num_reductions) +
           Score::shared_bytes(banks);
  };
  const SharedBytes shared = {shared_bytes(params.matrix.num_reductions, params.matrix.banks),
                              shared_bytes(kMaxReductions, kMaxBanks)};
  launch((macro_gradient_bwd_kernel<MainLoop, Score, Set>), grid, MainLoop::kThreads, shared, stream, arguments);
}

// `params`: arranged.
template <class MainLoop, class Score>
void launch_macro_gradient_bwd(const MacroGradientParams& params, const typename MainLoop::Operands& operands,
                               Stream& stream) {
  const bool asks_for_weights_alone = params.weights && !params.sums.row_bias && !params.sums.col_bias;
  if (is_usual(params.matrix) && (Score::kSumsLines || asks_for_weights_alone)) {
    launch_macro_gradient_bwd_of<MainLoop, Score, Usual>(params, operands, stream);
  } else {
    launch_macro_gradient_bwd_of<MainLoop, typename Score::Summed, Any>(params, operands, stream);
  }
}

}  // namespace contrastive_ops::cuda
