// Values that a thread keeps from tile to tile: in shared memory, since the main loop needs its registers.
#pragma once

#include "device.cuh"

namespace contrastive_ops::cuda {

template <class MainLoop, int kCount>
class ThreadArray {
  using Stat = typename MainLoop::Stat;

 public:
  static constexpr int kSharedBytes = shared_bytes<Stat>(kCount * MainLoop::kConsumerThreads);

  __device__ __forceinline__ explicit ThreadArray(SharedMemory& shared)
      : values_(shared.take<Stat>(kCount * MainLoop::kConsumerThreads)) {}

  // Neighbouring threads use neighbouring banks.
  __device__ __forceinline__ Stat& operator[](int i) {
    return values_[i * MainLoop::kConsumerThreads + MainLoop::thread()];
  }

 private:
  Stat* values_;
};

}  // namespace contrastive_ops::cuda
