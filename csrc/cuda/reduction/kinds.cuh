// The reductions of a kind that is known at run time. One of them is a class
//
//   State, Merge, Result            what it carries along a line, how two of them become one, what a line ends as
//   none()                          of no pairs
//   of<kCount>(score, holds, compared)   of a thread's pairs: t = score(i) where holds(i); `compared` of the line
//   load(slots, i), store(slots, i, state)
//   finish(state)                   the result
#pragma once

#include "count_above.cuh"
#include "largest.cuh"
#include "log_sum_exp.cuh"
#include "score_sum.cuh"

namespace contrastive_ops::cuda {

// Calls use(reduction) with an object of its class, which is the same for all threads of a launch.
template <class Stat, class Use>
__device__ __forceinline__ void with_kind(ReductionKind kind, Use use) {
  switch (kind) {
    case ReductionKind::kLogSumExp:
      return use(LogSumExp<Stat>{});
    case ReductionKind::kScoreSum:
      return use(ScoreSum<Stat>{});
    case ReductionKind::kLargest:
      return use(Largest<Stat>{});
    case ReductionKind::kCountAbove:
      return use(CountAbove<Stat>{});
  }
}

}  // namespace contrastive_ops::cuda
