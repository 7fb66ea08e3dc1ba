// What kernels ask of the device, under one set of names: as inline PTX from nvcc, in software from any other compiler
// (tests/cuda_emulator, found through -Itests).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "runtime.h"

namespace contrastive_ops::cuda {

// Chooses an overload by an element type.
template <class T>
struct Type {};

// What SharedMemory::take<T>(count, alignment) costs at most of the shared memory that a launch declares.
template <class T>
__host__ __device__ constexpr int shared_bytes(int64_t count, int alignment = 128) {
  return static_cast<int>((count * static_cast<int64_t>(sizeof(T)) + 127) / 128 * 128 + alignment - 128);
}

}  // namespace contrastive_ops::cuda

#ifdef __CUDACC__
#include "ptx.cuh"
#include "ptx_hopper.cuh"
#else
#include "cuda_emulator/device.h"
#endif

#include "launch_kernel.h"
