// sum_j t_ij, whose slope is upstream_i
#pragma once

#include "../line_reduction.cuh"
#include "slots.cuh"

namespace contrastive_ops::cuda {

template <class Stat>
struct ScoreSum : OneNumber<Stat, Stat> {
  using State = Stat;
  using Merge = Add;
  using Result = Stat;

  static __device__ __forceinline__ State none() { return Stat(0); }

  template <int kCount, class Score, class Holds>
  static __device__ __forceinline__ State of(Score score, Holds holds, Stat /*compared*/) {
    Stat sum = Stat(0);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += holds(i) ? score(i) : Stat(0);
    return sum;
  }
};

}  // namespace contrastive_ops::cuda
