// float32 and float64: plain multiply-adds, exact in the type, with mma's map of threads to elements.
#pragma once

#include <type_traits>

#include "pipeline.cuh"

namespace contrastive_ops::cuda {

template <class T>
using FmaShape = std::conditional_t<sizeof(T) == 4, BlockShape<128, 128, 2, 4, 1>, BlockShape<64, 64, 2, 2, 2>>;

// One operand of the thread's product: its values at the depths of one 16-byte chunk, a line at a time or two
// neighbouring lines at a time.
template <class T, class Box, bool kTransposed>
class FmaOperand {
 public:
  static constexpr int kPerChunk = Box::kPerChunk;

  // `line`: the thread's first row or column of the tile.
  __device__ __forceinline__ explicit FmaOperand(int line) : line_(line) {}

  // values[q] = line `line_ + offset` at depth `depth + q`; depth is a multiple of kPerChunk
  __device__ __forceinline__ void load(T (&values)[kPerChunk], const T* box, int offset, int depth) const {
    if constexpr (kTransposed) {
#pragma unroll
      for (int q = 0; q < kPerChunk; ++q) values[q] = box[(depth + q) * Box::kWidth + line_ + offset];
    } else {
      copy(values, box + Box::offset(line_ + offset, depth / kPerChunk));
    }
  }

  // values[e][q] = line `line_ + offset + e`; both are even
  __device__ __forceinline__ void load_pair(T (&values)[2][kPerChunk], const T* box, int offset, int depth) const {
    if constexpr (kTransposed) {
#pragma unroll
      for (int q = 0; q < kPerChunk; ++q) {
        T pair[2];
        copy(pair, box + (depth + q) * Box::kWidth + line_ + offset);
        values[0][q] = pair[0];
        values[1][q] = pair[1];
      }
    } else {
      load(values[0], box, offset, depth);
      load(values[1], box, offset + 1, depth);
    }
  }

 private:
  template <int kCount>
  struct alignas(kCount * sizeof(T)) Vector {
    T values[kCount];
  };

  // As one access.
  template <int kCount>
  static __device__ __forceinline__ void copy(T (&values)[kCount], const T* source) {
    const Vector<kCount> vector = *reinterpret_cast<const Vector<kCount>*>(source);
#pragma unroll
    for (int q = 0; q < kCount; ++q) values[q] = vector.values[q];
  }

  int line_;
};

template <class T, bool kATransposed_, bool kBTransposed_, class Shape = FmaShape<T>>
struct FmaProduct : Shape {
  using Element = T;
  using Stat = T;
  static constexpr bool kATransposed = kATransposed_, kBTransposed = kBTransposed_;
  using Shape::kBlockM, Shape::kBlockN, Shape::kWarpsM, Shape::kWarpsN;
  static constexpr int kBlockK = 16, kStages = 3;
  using Acc = Accumulator<T, kBlockM / kWarpsM / 16, kBlockN / kWarpsN / 8, 16>;
  // the threads of a warp read 8 lines of K-major boxes at once, but one line of transposed ones
  using ABox = Box<T, kATransposed ? kBlockK : kBlockM, kATransposed ? kBlockM : kBlockK, !kATransposed>;
  using BBox = Box<T, kBTransposed ? kBlockK : kBlockN, kBTransposed ? kBlockN : kBlockK, !kBTransposed>;

  static __device__ __forceinline__ void multiply(const T* a_box, const T* b_box, int warp_row, int warp_col,
                                                  Acc& acc) {
    constexpr int kPerChunk = ABox::kPerChunk;
    const FmaOperand<T, ABox, kATransposed> a(warp_row + Acc::row(0));
    const FmaOperand<T, BBox, kBTransposed> b(warp_col + Acc::col(0));
#pragma unroll
    for (int k = 0; k < kBlockK; k += kPerChunk) {
      T rows[Acc::kRows][kPerChunk];
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) a.load(rows[m], a_box, 8 * m, k);
#pragma unroll
      for (int n = 0; n < Acc::kCols; n += 2) {
        T cols[2][kPerChunk];
        b.load_pair(cols, b_box, 4 * n, k);
#pragma unroll
        for (int q = 0; q < kPerChunk; ++q) {
#pragma unroll
          for (int m = 0; m < Acc::kRows; ++m) {
            acc.at(m, n) += rows[m][q] * cols[0][q];
            acc.at(m, n + 1) += rows[m][q] * cols[1][q];
          }
        }
      }
    }
  }
};

template <class T, bool kATransposed = false, bool kBTransposed = false, class Shape = FmaShape<T>>
using FmaMainLoop = PipelinedMainLoop<FmaProduct<T, kATransposed, kBTransposed, Shape>>;

}  // namespace contrastive_ops::cuda
