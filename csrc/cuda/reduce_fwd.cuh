// Score pass: the reductions of rows and columns from one visit of every tile.
#pragma once

#include "product_matrix.cuh"
#include "reduction/sets.cuh"
#include "scores.cuh"

namespace contrastive_ops::cuda {

// Set: of the reductions, see reduction/sets.cuh.
template <class MainLoop, class Set>
class ReduceEpilogue {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  using Reductions = typename Set::template Reductions<MainLoop>;

 public:
  static constexpr int kSharedBytes = LineReduction<MainLoop, 2>::kSharedBytes + Reductions::kSharedBytes;

  __device__ __forceinline__ ReduceEpilogue(SharedMemory& shared, const ReduceParams& params,
                                            const StripeWalk<MainLoop>& walk, int batch)
      : stripe_{params, walk, batch, LineReduction<MainLoop, 2>(shared)},
        reductions_(shared),
        scale_(load_scalar<Stat>(params.matrix.scale)) {}

  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc) {
    if (stripe_.params.kept) keep_products(tile, acc);
    add_biases<MainLoop>(acc, scale_, stripe_.params.matrix, stripe_.batch, tile);
    reductions_.take(tile, acc, stripe_);
  }

 private:
  __device__ __forceinline__ void keep_products(const Tile& tile, Acc& acc) const {
    const Matrix& matrix = stripe_.params.matrix;
    Stat* kept = static_cast<Stat*>(stripe_.params.kept) + stripe_.batch * matrix.rows.size * matrix.cols.size;
    ProductMatrix<MainLoop, Stat>(kept, matrix.rows.size, matrix.cols.size).store(tile, acc);
  }

  Stripe<MainLoop> stripe_;
  Reductions reductions_;
  const Stat scale_;
};

template <class MainLoop, class Score, class Set>
__global__ void __launch_bounds__(MainLoop::kThreads, MainLoop::kMinBlocks)
    reduce_fwd_kernel(const __grid_constant__ Arguments<MainLoop, ReduceParams, Set> arguments) {
  const ReduceParams& params = arguments.params;
  const int batch = blockIdx.y;
  const StripeWalk<MainLoop> walk(params, blockIdx.x);
  SharedMemory shared;
  const MainLoop main_loop(shared, arguments.operands, batch);
  ReduceEpilogue<MainLoop, Set> epilogue(shared, params, walk, batch);
  Score score(shared, params.matrix, batch);
  score.for_each_tile(main_loop, walk, epilogue);
}

template <class MainLoop, class Score, class Set>
void launch_reduce_fwd_of(const ReduceParams& params, Stream& stream) {
  const dim3 grid(params.num_row_stripes * params.num_col_stripes, static_cast<unsigned>(params.matrix.batch));
  const Arguments<MainLoop, ReduceParams, Set> arguments = {params, score_operands<MainLoop>(params.matrix, stream)};
  constexpr int kWithoutScore = MainLoop::kSharedBytes + ReduceEpilogue<MainLoop, Set>::kSharedBytes;
  const SharedBytes shared_bytes = {kWithoutScore + Score::shared_bytes(params.matrix.banks),
                                    kWithoutScore + Score::shared_bytes(kMaxBanks)};
  launch((reduce_fwd_kernel<MainLoop, Score, Set>), grid, MainLoop::kThreads, shared_bytes, stream, arguments);
}

// `params`: arranged.
template <class MainLoop, class Score>
void launch_reduce_fwd(const ReduceParams& params, Stream& stream) {
  if (is_usual(params.matrix)) {
    launch_reduce_fwd_of<MainLoop, Score, Usual>(params, stream);
  } else {
    launch_reduce_fwd_of<MainLoop, Score, Any>(params, stream);
  }
}

}  // namespace contrastive_ops::cuda
