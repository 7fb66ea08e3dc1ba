// What a block of the score pass visits.
#pragma once

#include "device.cuh"
#include "mainloop.h"
#include "params.h"

namespace contrastive_ops::cuda {

// The tiles of a stripe of rows times a stripe of columns, row by row. In self-similarity the matrix is symmetric: only
// stripes from the diagonal on have tiles, and those on the diagonal only their upper triangle.
template <class MainLoop>
class StripeWalk {
 public:
  // Blocks that run side by side form a square of stripes, so that the second-level cache holds the embeddings of both.
  static constexpr int kSideBySide = 8;

  __device__ __forceinline__ StripeWalk(const ReduceParams& params, int index) {
    const int group = index / (kSideBySide * params.num_col_stripes) * kSideBySide;
    const int in_group = index % (kSideBySide * params.num_col_stripes);
    const int height = params.num_row_stripes - group < kSideBySide ? params.num_row_stripes - group : kSideBySide;
    row_slot_ = group + in_group % height;
    col_slot_ = in_group / height;
    on_diagonal_ = params.self_similarity && row_slot_ == col_slot_;
    first_row_ = static_cast<int>(row_slot_ * params.row_stripe);
    first_col_ = static_cast<int>(col_slot_ * params.col_stripe);
    last_row_ = end(first_row_, params.row_stripe, params.matrix.rows.size);
    last_col_ = end(first_col_, params.col_stripe, params.matrix.cols.size);
    if (params.self_similarity && row_slot_ > col_slot_) last_row_ = first_row_;
    next_ = {first_row_, first_col_};
  }

  __device__ __forceinline__ bool next(Tile& tile) {
    if (next_.row_start >= last_row_) return false;
    tile = next_;
    next_.col_start += MainLoop::kBlockN;
    if (next_.col_start >= last_col_) {
      next_.row_start += MainLoop::kBlockM;
      next_.col_start = on_diagonal_ ? next_.row_start : first_col_;
    }
    return true;
  }

  __device__ __forceinline__ bool starts_row(const Tile& tile) const {
    return tile.col_start == (on_diagonal_ ? tile.row_start : first_col_);
  }
  __device__ __forceinline__ bool ends_row(const Tile& tile) const {
    return tile.col_start + MainLoop::kBlockN >= last_col_;
  }
  __device__ __forceinline__ bool starts_col(const Tile& tile) const { return tile.row_start == first_row_; }

  __device__ __forceinline__ bool on_diagonal() const { return on_diagonal_; }
  __device__ __forceinline__ int row_slot() const { return row_slot_; }
  __device__ __forceinline__ int col_slot() const { return col_slot_; }

 private:
  static __device__ __forceinline__ int end(int first, int64_t stripe, int64_t size) {
    return static_cast<int>(first + stripe < size ? first + stripe : size);
  }

  int row_slot_, col_slot_;
  bool on_diagonal_;
  int first_row_, last_row_, first_col_, last_col_;
  Tile next_;
};

}  // namespace contrastive_ops::cuda
