// From the threads' own rows and columns of a tile to one value per line: over lanes by shuffles, over warps through
// shared memory, always in the same order.
#pragma once

#include "accumulator.cuh"

namespace contrastive_ops::cuda {

struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

// Values that consist of several numbers bring a shuffle_xor and a `choose` of their own.
template <class T>
__device__ __forceinline__ T choose(bool first, T a, T b) {
  return first ? a : b;
}

// Merges over the lanes that differ in the bits kMask .. kLastMask. Each step exchanges the half of the values that the
// partner keeps, so that lane bits select what is left: kCount / lanes values, or one value held by several lanes.
template <int kMask, int kLastMask, int kCount, class Value, class Merge>
__device__ __forceinline__ void reduce_scatter(Value* values, Merge merge) {
  constexpr int kKept = kCount > 1 ? kCount / 2 : 1;
  const bool upper = lane() & kMask;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const Value lower_half = values[i], upper_half = values[kCount - kKept + i];
    values[i] = merge(choose(upper, upper_half, lower_half), shuffle_xor(choose(upper, lower_half, upper_half), kMask));
  }
  if constexpr (kMask > kLastMask) reduce_scatter<kMask / 2, kLastMask, kKept>(values, merge);
}

// kNumbers: that a value may consist of.
template <class MainLoop, int kNumbers>
class LineReduction {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  static constexpr int kBlockM = MainLoop::kBlockM, kBlockN = MainLoop::kBlockN;
  static constexpr int kWarpsM = MainLoop::kWarpsM, kWarpsN = MainLoop::kWarpsN;
  static constexpr int kOfColumns = kWarpsM * kBlockN, kOfRows = kWarpsN * kBlockM;  // values that warps exchange
  static constexpr int kBufferSize = kOfColumns > kOfRows ? kOfColumns : kOfRows;
  static_assert(kBlockM <= MainLoop::kConsumerThreads && kBlockN <= MainLoop::kConsumerThreads,
                "one thread finishes one line");
  static_assert(Acc::kCols % 8 == 0, "every lane keeps a column of its own");

 public:
  static constexpr int kSharedBytes = shared_bytes<Stat>(kNumbers * kBufferSize);

  __device__ explicit LineReduction(SharedMemory& shared) : buffer_(shared.take<Stat>(kNumbers * kBufferSize)) {}

  // values[n]: of the thread's n-th column, overwritten. Calls finish(column of the tile, value) in one thread per
  // column, the same one every time.
  template <class Value, class Merge, class Finish>
  __device__ __forceinline__ void columns(Value (&values)[Acc::kCols], Merge merge, Finish finish) {
    reduce_scatter<16, 4, Acc::kCols>(values, merge);
    Value* buffer = free_buffer<Value>();
    Value* part = buffer + MainLoop::warp_m() * kBlockN + MainLoop::warp_col();
    constexpr int kKept = Acc::kCols / 8;
#pragma unroll
    for (int i = 0; i < kKept; ++i) part[Acc::col(lane() / 4 * kKept + i)] = values[i];
    MainLoop::sync();
    merge_warps<kWarpsM, kBlockN>(buffer, merge, finish);
  }

  // The same for the thread's rows.
  template <class Value, class Merge, class Finish>
  __device__ __forceinline__ void rows(Value (&values)[Acc::kRows], Merge merge, Finish finish) {
    reduce_scatter<2, 1, Acc::kRows>(values, merge);
    Value* buffer = free_buffer<Value>();
    Value* part = buffer + MainLoop::warp_n() * kBlockM + MainLoop::warp_row();
    constexpr int kKept = Acc::kRows < 4 ? 1 : Acc::kRows / 4;
    const int first = lane() % 4 * Acc::kRows / 4;
    if (lane() % 4 * Acc::kRows % 4 == 0) {  // the first of the lanes that hold this row
#pragma unroll
      for (int i = 0; i < kKept; ++i) part[Acc::row(first + i)] = values[i];
    }
    MainLoop::sync();
    merge_warps<kWarpsN, kBlockM>(buffer, merge, finish);
  }

  // One value per thread to one value of the block, in the thread that calls finish(value).
  template <class Finish>
  __device__ __forceinline__ void block(Stat value, Finish finish) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    Stat* buffer = free_buffer<Stat>();
    if (lane() == 0) buffer[MainLoop::thread() / 32] = value;
    MainLoop::sync();
    merge_warps<MainLoop::kConsumerThreads / 32, 1>(buffer, Add{}, [&](int, Stat sum) { finish(sum); });
  }

 private:
  template <class Value>
  __device__ __forceinline__ Value* free_buffer() {
    static_assert(sizeof(Value) <= kNumbers * sizeof(Stat), "the buffer holds a value for each line");
    MainLoop::sync();  // all threads are done with the reduction before
    return reinterpret_cast<Value*>(buffer_);
  }

  template <int kWarps, int kLines, class Value, class Merge, class Finish>
  __device__ __forceinline__ void merge_warps(const Value* buffer, Merge merge, Finish finish) {
    const int line = MainLoop::thread();
    if (line < kLines) {
      Value value = buffer[line];
#pragma unroll
      for (int warp = 1; warp < kWarps; ++warp) value = merge(value, buffer[warp * kLines + line]);
      finish(line, value);
    }
  }

  Stat* buffer_;
};

template <class MainLoop>
using NumberReduction = LineReduction<MainLoop, 1>;

}  // namespace contrastive_ops::cuda
