// The yardstick of the kernels: nothing but float FMAs.
#pragma once

#include "simd.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// Twelve independent chains in named registers: enough to fill two pipes of latency four or five.
inline double fma_burst(int64_t iterations) {
  using V = Vec<float>;
  const V x = broadcast<float>(0.999999f), y = broadcast<float>(1e-6f);
  const auto start = [](float v) { return broadcast<float>(v); };  // all different, or the compiler merges chains
  V a0 = start(0), a1 = start(1), a2 = start(2), a3 = start(3), a4 = start(4), a5 = start(5);
  V a6 = start(6), a7 = start(7), a8 = start(8), a9 = start(9), a10 = start(10), a11 = start(11);
  for (int64_t i = 0; i < iterations; ++i) {
    a0 = a0 * x + y, a1 = a1 * x + y, a2 = a2 * x + y, a3 = a3 * x + y, a4 = a4 * x + y, a5 = a5 * x + y;
    a6 = a6 * x + y, a7 = a7 * x + y, a8 = a8 * x + y, a9 = a9 * x + y, a10 = a10 * x + y, a11 = a11 * x + y;
  }
  const V sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
  __asm__ volatile("" ::"m"(sum));
  return 2.0 * 12 * kLanes<float> * double(iterations);
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
