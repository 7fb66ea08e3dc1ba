// The sets of reductions for which there are kernels. Each set is one more kernel for every main loop and score, so
// there are two: what nearly every pass asks for, in registers, and a list whose kinds are known at run time.
#pragma once

#include "any_reductions.cuh"
#include "any_slopes.cuh"
#include "log_sum_exp_of_stripe.cuh"
#include "score_sum_of_tiles.cuh"
#include "usual.h"
#include "usual_slopes.cuh"

namespace contrastive_ops::cuda {

// They take a tile in this order: the last one may overwrite the scores.
template <class... Reductions>
class ReductionSet : Reductions... {
 public:
  static constexpr int kSharedBytes = (0 + ... + Reductions::kSharedBytes);

  __device__ __forceinline__ explicit ReductionSet(SharedMemory& shared) : Reductions(shared)... {}

  template <class MainLoop>
  __device__ __forceinline__ void take(const Tile& tile, typename MainLoop::Acc& acc, Stripe<MainLoop>& stripe) {
    (static_cast<Reductions&>(*this).take(tile, acc, stripe), ...);
  }
};

struct Usual {
  template <class MainLoop>
  using Reductions = ReductionSet<ScoreSumOfTiles<MainLoop, kUsualSum>, LogSumExpOfStripe<MainLoop, kUsualLogSumExp>>;
  template <class MainLoop>
  using Slopes = UsualSlopes<MainLoop, kUsualSum, kUsualLogSumExp>;
};

struct Any {
  template <class MainLoop>
  using Reductions = ReductionSet<AnyReductions<MainLoop>>;
  template <class MainLoop>
  using Slopes = AnySlopes<MainLoop>;
};

}  // namespace contrastive_ops::cuda
