// max_j t_ij: NaN where the line has one, -inf without pairs. Without a slope.
#pragma once

#include <cmath>

#include "../device.cuh"

namespace contrastive_ops::cuda {

struct Largest {
  template <class Stat>
  static __device__ __forceinline__ Stat none() {
    return -Stat(INFINITY);
  }
  template <class Stat>
  static __device__ __forceinline__ Stat of(Stat t, Stat /*compared*/) {
    return t;
  }
  template <class Stat>
  static __device__ __forceinline__ Stat merge(Stat a, Stat b) {
    return a > b || a != a ? a : b;
  }
};

}  // namespace contrastive_ops::cuda
