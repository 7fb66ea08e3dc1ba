// Where a reduction leaves its numbers of a line.
#pragma once

#include "../device.cuh"
#include "../params.h"

namespace contrastive_ops::cuda {

template <class T>
__device__ __forceinline__ T* slot(const Slots& slots, int number) {
  return static_cast<T*>(slots.of[number]);
}

// Of reductions that carry one number along a line, kept as a Stored.
template <class State, class Stored>
struct OneNumber {
  static __device__ __forceinline__ State load(const Slots& slots, int64_t i) {
    return static_cast<State>(slot<Stored>(slots, 0)[i]);
  }
  static __device__ __forceinline__ void store(const Slots& slots, int64_t i, State state) {
    slot<Stored>(slots, 0)[i] = static_cast<Stored>(state);
  }
  static __device__ __forceinline__ Stored finish(State state) { return static_cast<Stored>(state); }
};

}  // namespace contrastive_ops::cuda
