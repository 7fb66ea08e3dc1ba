// The names of csrc/cuda/ptx.cuh in software; csrc/cuda/device.cuh includes this where nvcc does not compile.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_types.h>

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "cuda_emulator/runtime.h"
#include "cuda_emulator/warp_operations.h"

// CUDA's headers define them for nvcc only, or at least mean nothing by them.
#define __launch_bounds__(...)
#undef __shared__  // static arrays could be neither poisoned nor fenced off: SharedMemory

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace contrastive_ops::cuda {

inline void sync_block() { emulator::current_block().barriers[0].sync("sync_block", static_cast<int>(blockDim.x)); }

inline void sync_warp() { emulator::current_warp().sync("sync_warp"); }

inline void sync_named(int id, int threads) { emulator::current_block().barriers.at(id).sync("sync_named", threads); }

template <class T>
T shuffle_xor(T value, int lane_mask) {
  return emulator::shuffle_xor(value, lane_mask);
}

inline void copy_async_16(void* shared, const void* global, bool valid) {
  emulator::current_thread().copies.issue(shared, global, valid);
}
inline void commit_copies() { emulator::current_thread().copies.commit(); }
template <int kPending>
void wait_copies() {
  emulator::current_thread().copies.wait(kPending);
}

inline void load_matrices(uint32_t (&r)[4], const void* shared_row) { emulator::load_matrices(r, shared_row, false); }
inline void load_matrices_transposed(uint32_t (&r)[4], const void* shared_row) {
  emulator::load_matrices(r, shared_row, true);
}

inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Type<__nv_bfloat16>) {
  emulator::multiply_add(c, a, b, emulator::widen_bfloat16);
}
inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Type<__half>) {
  emulator::multiply_add(c, a, b, emulator::widen_half);
}

// Subnormal results are flushed to zero, as by ex2.approx.ftz.
inline float exponential(float x) {
  const float result = std::exp2(x * 1.4426950408889634f);
  return result < FLT_MIN ? 0.0f : result;
}
inline double exponential(double x) { return std::exp(x); }

inline float square_root(float x) { return std::sqrt(x); }
inline double square_root(double x) { return std::sqrt(x); }

inline float logarithm(float x) { return std::log(x); }
inline double logarithm(double x) { return std::log(x); }

inline uint32_t shared_address(const void* pointer) { return emulator::shared_arena().offset(pointer); }

class SharedMemory {
 public:
  template <class T>
  T* take(int64_t count, int alignment = 128) {
    used_ = (used_ + alignment - 1) / alignment * alignment + shared_bytes<T>(count);
    return static_cast<T*>(emulator::shared_arena().take(taken_++, count * sizeof(T), alignment, used_));
  }

 private:
  int taken_ = 0;  // arrays
  int used_ = 0;   // bytes on the device
};

template <class Params>
void run_kernel(const Launch& launch) {
  reinterpret_cast<void (*)(Params)>(launch.kernel)(*static_cast<const Params*>(launch.params));
}
template <class Params>
constexpr void (*kRunKernel)(const Launch&) = run_kernel<Params>;

}  // namespace contrastive_ops::cuda

#if __has_include("cuda_emulator/hopper.h")
#include "cuda_emulator/hopper.h"
#endif
