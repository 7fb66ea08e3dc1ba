// max_j t_ij: NaN where the line has one, -inf without pairs. Without a slope.
#pragma once

#include <cmath>

#include "slots.cuh"

namespace contrastive_ops::cuda {

struct LargerOrNaN {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

template <class Stat>
struct Largest : OneNumber<Stat, Stat> {
  using State = Stat;
  using Merge = LargerOrNaN;
  using Result = Stat;

  static __device__ __forceinline__ State none() { return -Stat(INFINITY); }

  template <int kCount, class Score, class Holds>
  static __device__ __forceinline__ State of(Score score, Holds holds, Stat /*compared*/) {
    Stat largest = none();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (holds(i)) largest = LargerOrNaN{}(largest, score(i));
    }
    return largest;
  }
};

}  // namespace contrastive_ops::cuda
