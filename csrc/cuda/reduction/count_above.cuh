// The number of pairs with not (t_ij <= compared_i): what is not a number counts. Without a slope. A line has at most
// 2^30 pairs, so 32 bits hold a count on its way; results have 64.
#pragma once

#include "../line_reduction.cuh"
#include "slots.cuh"

namespace contrastive_ops::cuda {

template <class Stat>
struct CountAbove : OneNumber<int32_t, int64_t> {
  using State = int32_t;
  using Merge = Add;
  using Result = int64_t;

  static __device__ __forceinline__ State none() { return 0; }

  template <int kCount, class Score, class Holds>
  static __device__ __forceinline__ State of(Score score, Holds holds, Stat compared) {
    State count = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) count += holds(i) && !(score(i) <= compared);
    return count;
  }
};

}  // namespace contrastive_ops::cuda
