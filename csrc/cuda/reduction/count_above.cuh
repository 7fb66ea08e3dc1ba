// The number of pairs with not (t_ij <= compared_i): what is not a number counts. Without a slope.
#pragma once

#include "../device.cuh"

namespace contrastive_ops::cuda {

struct CountAbove {
  template <class T>
  static __device__ __forceinline__ T none() {
    return T(0);
  }
  template <class Stat>
  static __device__ __forceinline__ Stat of(Stat t, Stat compared) {
    return t <= compared ? Stat(0) : Stat(1);
  }
  template <class T>
  static __device__ __forceinline__ T merge(T a, T b) {
    return a + b;
  }
};

}  // namespace contrastive_ops::cuda
