// Scores of a tile from its products: scale and biases; and whether all of its pairs take part.
#pragma once

#include "relation.cuh"

namespace contrastive_ops::cuda {

// Element i of a vector [B, size]; `other` beyond the end.
template <class T>
__device__ __forceinline__ T load_line(const void* line, int batch, int64_t size, int i, T other) {
  return i < size ? static_cast<const T*>(line)[batch * size + i] : other;
}

template <class T>
__device__ __forceinline__ T load_scalar(const void* scalar) {
  return *static_cast<const T*>(scalar);
}

// s_ij = scale * score_ij + row_bias_i + col_bias_j
template <class MainLoop>
__device__ __forceinline__ void add_biases(typename MainLoop::Acc& acc, typename MainLoop::Stat scale,
                                           const Matrix& matrix, int batch, const Tile& tile) {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  const int row = thread_row<MainLoop>(tile), col = thread_col<MainLoop>(tile);
#pragma unroll
  for (int m = 0; m < Acc::kRows; ++m) {
    const Stat bias = matrix.row_bias
                          ? load_line(matrix.row_bias, batch, matrix.rows.size, row + Acc::row_offset(m), Stat(0))
                          : Stat(0);
#pragma unroll
    for (int n = 0; n < Acc::kCols; ++n) acc.at(m, n) = acc.at(m, n) * scale + bias;
  }
  if (!matrix.col_bias) return;
#pragma unroll
  for (int n = 0; n < Acc::kCols; ++n) {
    const Stat bias = load_line(matrix.col_bias, batch, matrix.cols.size, col + Acc::col_offset(n), Stat(0));
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) acc.at(m, n) += bias;
  }
}

// Whether some pair of the tile does not belong; tiles whose pairs all do pay nothing.
template <class MainLoop>
__device__ __forceinline__ bool needs_mask(const Relation& relation, const Matrix& matrix, const Tile& tile) {
  return tile.row_start + MainLoop::kBlockM > matrix.rows.size ||
         tile.col_start + MainLoop::kBlockN > matrix.cols.size || may_exclude<MainLoop>(relation, tile);
}

// Both sides as the operands of a main loop.
template <class MainLoop>
typename MainLoop::Operands score_operands(const Matrix& matrix, Stream& stream) {
  const auto view = [&](const Side& side) {
    check_size(side.size);
    return OperandView{side.data, matrix.batch, side.batch_stride, side.size, side.row_stride, matrix.d};
  };
  OperandView cols = view(matrix.cols);
  cols.bank_stride = matrix.bank_stride;
  return MainLoop::make_operands(view(matrix.rows), cols, stream);
}

}  // namespace contrastive_ops::cuda
