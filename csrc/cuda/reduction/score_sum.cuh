// sum_j t_ij, whose slope is upstream_i
#pragma once

#include "../device.cuh"

namespace contrastive_ops::cuda {

struct ScoreSum {
  template <class Stat>
  static __device__ __forceinline__ Stat none() {
    return Stat(0);
  }
  template <class Stat>
  static __device__ __forceinline__ Stat of(Stat t, Stat /*compared*/) {
    return t;
  }
  template <class Stat>
  static __device__ __forceinline__ Stat merge(Stat a, Stat b) {
    return a + b;
  }
};

}  // namespace contrastive_ops::cuda
