// Where a reduction leaves its numbers of a line.
#pragma once

#include "../device.cuh"
#include "../params.h"

namespace contrastive_ops::cuda {

template <class T>
__device__ __forceinline__ T* slot(const Slots& slots, int number) {
  return static_cast<T*>(slots.of[number]);
}

}  // namespace contrastive_ops::cuda
