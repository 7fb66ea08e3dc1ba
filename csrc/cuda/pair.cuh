// Neighbouring elements of a line in one access: a thread's columns come in twos.
#pragma once

#include "device.cuh"

namespace contrastive_ops::cuda {

template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T first, second;
};

// Whether pairs that start at even columns are aligned.
template <class T>
__device__ __forceinline__ bool holds_pairs(const T* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % sizeof(Pair<T>) == 0 && stride % 2 == 0;
}

template <class T>
__device__ __forceinline__ Pair<T>& pair_at(T* data) {
  return *reinterpret_cast<Pair<T>*>(data);
}

}  // namespace contrastive_ops::cuda
