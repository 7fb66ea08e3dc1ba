// csrc/cuda/ptx_hopper.cuh in software, the same names. Loads and products are as asynchronous as the hardware may be.
#pragma once

#include <cstdint>

#include "cuda_emulator/async_products.h"
#include "cuda_emulator/warp_operations.h"

namespace contrastive_ops::cuda {

constexpr bool kHasWgmma = true;

using Barrier = uint64_t;  // holds a mark; the state is the emulator's

void barrier_init(Barrier* barrier, int arrivals);
void fence_barrier_init();
void barrier_arrive(Barrier* barrier);
void barrier_arrive_expect(Barrier* barrier, int bytes);
void barrier_wait(Barrier* barrier, int parity);

struct TensorMap {
  const unsigned char* data;
  int element_bytes;
  int64_t width, lines, batch;
  int64_t line_stride, batch_stride;  // bytes
  int box_width, box_lines;
};

void tma_load_3d(void* shared, const TensorMap* map, Barrier* barrier, int x, int y, int z);

namespace emulator {

void check_tensor_map(const TensorMap& map);  // throws where the driver returns an error
void fence_products();
void issue_product(const Product& product, float* d);
void commit_products();
void wait_products(int pending);
void set_register_count(int registers);

inline auto widening(Type<__nv_bfloat16>) { return widen_bfloat16; }
inline auto widening(Type<__half>) { return widen_half; }

}  // namespace emulator

template <int kRows, int kCols>
void pin_registers(float (&)[kRows][kCols][4]) {}

template <int kRows, int kCols>
void wgmma_fence(float (&)[kRows][kCols][4]) {
  emulator::fence_products();
}

inline void wgmma_commit() { emulator::commit_products(); }

template <int kPending, int kRows, int kCols>
void wgmma_wait(float (&)[kRows][kCols][4]) {
  emulator::wait_products(kPending);
}

template <int kN, bool kATransposed, bool kBTransposed, class T>
void wgmma(float (&d)[kN / 8][4], uint64_t a_descriptor, uint64_t b_descriptor, Type<T> type) {
  static_assert(kN == 128);
  emulator::issue_product({kN, kATransposed, kBTransposed, a_descriptor, b_descriptor, emulator::widening(type)},
                          &d[0][0]);
}

template <int kRegisters>
void raise_registers() {
  emulator::set_register_count(kRegisters);
}

template <int kRegisters>
void lower_registers() {
  emulator::set_register_count(kRegisters);
}

}  // namespace contrastive_ops::cuda
