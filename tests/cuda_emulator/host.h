// What the host code asked of its runtime (csrc/cuda/runtime.h) so far.
#pragma once

#include <cstdint>

// For Python, by ctypes.
extern "C" {
struct CudaEmulatorCounts {
  int64_t launches, allowances, fills, tensor_maps;
};
__attribute__((visibility("default"))) CudaEmulatorCounts cuda_emulator_counts();
}
