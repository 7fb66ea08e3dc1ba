// Who has what of a tile on the portable path: the part of a main loop's interface (mainloop.h) that does not depend on
// where products come from.
#pragma once

#include "accumulator.cuh"

namespace contrastive_ops::cuda {

// The sides of a tile, and the warps that share it.
template <int kBlockM_, int kBlockN_, int kWarpsM_, int kWarpsN_, int kMinBlocks_>
struct BlockShape {
  static constexpr int kBlockM = kBlockM_, kBlockN = kBlockN_;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kMinBlocks = kMinBlocks_;
};

template <class Product>
struct WarpGrid {
  using Element = typename Product::Element;
  using Stat = typename Product::Stat;
  using Acc = typename Product::Acc;
  static constexpr int kBlockM = Product::kBlockM, kBlockN = Product::kBlockN;
  static constexpr int kWarpsM = Product::kWarpsM, kWarpsN = Product::kWarpsN;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN, kConsumerThreads = kThreads;

  static __device__ __forceinline__ int thread() { return threadIdx.x; }
  static __device__ __forceinline__ int warp_m() { return threadIdx.x / 32 / kWarpsN; }
  static __device__ __forceinline__ int warp_n() { return threadIdx.x / 32 % kWarpsN; }
  static __device__ __forceinline__ int warp_row() { return warp_m() * (kBlockM / kWarpsM); }
  static __device__ __forceinline__ int warp_col() { return warp_n() * (kBlockN / kWarpsN); }
  static __device__ __forceinline__ void sync() { sync_block(); }
};

}  // namespace contrastive_ops::cuda
