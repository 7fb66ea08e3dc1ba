// Sums of dS along the rows, recomputed tile by tile: what the gradients of biases and scale need.
#pragma once

#include "reduction.cuh"
#include "score_gradient.cuh"
#include "thread_array.cuh"

namespace contrastive_ops::cuda {

// One row of tiles.
template <class MainLoop>
class RowWalk {
 public:
  __device__ __forceinline__ RowWalk(int index, int64_t num_cols)
      : next_{index * MainLoop::kBlockM, 0}, num_cols_(static_cast<int>(num_cols)) {}

  __device__ __forceinline__ bool next(Tile& tile) {
    if (next_.col_start >= num_cols_) return false;
    tile = next_;
    next_.col_start += MainLoop::kBlockN;
    return true;
  }

  __device__ __forceinline__ bool ends_row(const Tile& tile) const {
    return tile.col_start + MainLoop::kBlockN >= num_cols_;
  }

 private:
  Tile next_;
  int num_cols_;
};

template <class MainLoop>
class LineSumsEpilogue {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  static constexpr int kSharedBytes = LineReduction<MainLoop>::kSharedBytes + ScoreGradient<MainLoop>::kSharedBytes +
                                      2 * ThreadArray<MainLoop, Acc::kRows>::kSharedBytes;

  __device__ __forceinline__ LineSumsEpilogue(SharedMemory& shared, const LineSumsParams& params,
                                              const RowWalk<MainLoop>& walk, int batch)
      : params_(params),
        walk_(walk),
        batch_(batch),
        reduction_(shared),
        gradient_(shared, params.matrix, batch),
        bias_sums_(shared),
        scale_sums_(shared) {}

  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc) {
    if (tile.col_start == 0) {
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) bias_sums_[m] = scale_sums_[m] = Stat(0);
    }
    gradient_(tile, acc, [&](int m, int first, const auto& ds) {
      Stat bias_sum = Stat(0), scale_sum = Stat(0);
#pragma unroll
      for (int n = 0; n < int{std::extent_v<std::remove_reference_t<decltype(ds)>>}; ++n) {
        bias_sum += ds[n];
        scale_sum += ds[n] * acc.at(m, first + n);
      }
      bias_sums_[m] += bias_sum;
      scale_sums_[m] += scale_sum;
    });
    if (walk_.ends_row(tile)) {
      store(params_.d_bias, tile, bias_sums_);
      store(params_.d_scale, tile, scale_sums_);
    }
  }

 private:
  __device__ __forceinline__ void store(void* gradient, const Tile& tile,
                                        ThreadArray<MainLoop, Acc::kRows>& thread_sums) {
    if (!gradient) return;
    Stat sums[Acc::kRows];
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) sums[m] = thread_sums[m];
    const int64_t size = params_.matrix.rows.size;
    reduction_.rows(sums, Add{}, [&](int i, Stat sum) {
      const int row = tile.row_start + i;
      if (row < size) static_cast<Stat*>(gradient)[batch_ * size + row] = sum / gradient_.unit();
    });
  }

  const LineSumsParams& params_;
  const RowWalk<MainLoop>& walk_;
  const int batch_;
  LineReduction<MainLoop> reduction_;
  const ScoreGradient<MainLoop> gradient_;
  ThreadArray<MainLoop, Acc::kRows> bias_sums_, scale_sums_;
};

template <class MainLoop>
__global__ void __launch_bounds__(MainLoop::kThreads, MainLoop::kMinBlocks)
    line_sums_bwd_kernel(const __grid_constant__ Arguments<MainLoop, LineSumsParams> arguments) {
  const LineSumsParams& params = arguments.params;
  const int batch = blockIdx.y;
  const RowWalk<MainLoop> walk(blockIdx.x, params.matrix.cols.size);
  SharedMemory shared;
  MainLoop main_loop(shared, arguments.operands, batch);
  LineSumsEpilogue<MainLoop> epilogue(shared, params, walk, batch);
  main_loop.for_each_tile(walk, epilogue);
}

template <class MainLoop>
void launch_line_sums_bwd(const LineSumsParams& params, Stream& stream) {
  const dim3 grid(blocks_along(params.matrix.rows.size, MainLoop::kBlockM), static_cast<unsigned>(params.matrix.batch));
  const Arguments<MainLoop, LineSumsParams> arguments = {params, score_operands<MainLoop>(params.matrix, stream)};
  launch(line_sums_bwd_kernel<MainLoop>, grid, MainLoop::kThreads,
         MainLoop::kSharedBytes + LineSumsEpilogue<MainLoop>::kSharedBytes, stream, arguments);
}

}  // namespace contrastive_ops::cuda
