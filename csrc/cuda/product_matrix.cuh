// Products that stay in memory from the score pass to the gradient pass. They lie there as a plain matrix, so the two
// passes may share their tiles among threads in different ways.
#pragma once

#include "accumulator.cuh"
#include "pair.cuh"

namespace contrastive_ops::cuda {

// [rows, cols], contiguous. Value: MainLoop::Stat, const where it is only read.
template <class MainLoop, class Value>
class ProductMatrix {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  __device__ __forceinline__ ProductMatrix(Value* data, int64_t rows, int64_t cols)
      : data_(data), rows_(rows), cols_(cols) {}

  __device__ __forceinline__ void store(const Tile& tile, Acc& acc) const {
    const auto pair = [&](Value* at, int m, int n) { pair_at(at) = {acc.at(m, n), acc.at(m, n + 1)}; };
    const auto one = [&](Value* at, int m, int n) { *at = acc.at(m, n); };
    for_each(tile, pair, one);
  }

  // Zeros beyond the ends.
  __device__ __forceinline__ void load(const Tile& tile, Acc& acc) const {
    acc.clear();
    const auto pair = [&](Value* at, int m, int n) {
      const Pair<Stat> products = *reinterpret_cast<const Pair<Stat>*>(at);
      acc.at(m, n) = products.first;
      acc.at(m, n + 1) = products.second;
    };
    const auto one = [&](Value* at, int m, int n) { acc.at(m, n) = *at; };
    for_each(tile, pair, one);
  }

 private:
  // Calls pair(address, m, n) for the thread's elements (m, n) and (m, n + 1) in tiles without an end, where nothing
  // then stands between the accesses; else one(address, m, n) for each element inside.
  template <class OfPair, class OfOne>
  __device__ __forceinline__ void for_each(const Tile& tile, OfPair pair, OfOne one) const {
    const int row = thread_row<MainLoop>(tile), col = thread_col<MainLoop>(tile);
    Value* first = data_ + row * cols_ + col;
    if (tile.row_start + MainLoop::kBlockM <= rows_ && tile.col_start + MainLoop::kBlockN <= cols_ &&
        holds_pairs(data_, cols_)) {
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
        for (int n = 0; n < Acc::kCols; n += 2) pair(first + Acc::row_offset(m) * cols_ + Acc::col_offset(n), m, n);
      }
    } else {
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
        if (row + Acc::row_offset(m) >= rows_) continue;
#pragma unroll
        for (int n = 0; n < Acc::kCols; ++n) {
          if (col + Acc::col_offset(n) < cols_) one(first + Acc::row_offset(m) * cols_ + Acc::col_offset(n), m, n);
        }
      }
    }
  }

  Value* data_;
  int64_t rows_, cols_;
};

}  // namespace contrastive_ops::cuda
