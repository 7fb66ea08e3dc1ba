// Score pass: row and column statistics from one visit of every tile.
#pragma once

#include "product_matrix.cuh"
#include "reduction.cuh"
#include "score_dot.cuh"
#include "scores.cuh"
#include "thread_array.cuh"

namespace contrastive_ops::cuda {

// The tiles of a stripe of rows times a stripe of columns, row by row. In self-similarity the matrix is symmetric: only
// stripes from the diagonal on have tiles, and those on the diagonal only their upper triangle.
template <class MainLoop>
class StripeWalk {
 public:
  // Blocks that run side by side form a square of stripes, so that the second-level cache holds the embeddings of both.
  static constexpr int kSideBySide = 8;

  __device__ __forceinline__ StripeWalk(const StatisticsParams& params, int index) {
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

// A thread keeps statistics of its own columns of each of its rows, and threads meet at the end of a row of tiles. The
// partials of columns and positives go to memory and back, where one thread of this block alone sees them.
template <class MainLoop>
class StatisticsEpilogue {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  static constexpr int kSharedBytes =
      LineReduction<MainLoop>::kSharedBytes + 2 * ThreadArray<MainLoop, Acc::kRows>::kSharedBytes;

  __device__ __forceinline__ StatisticsEpilogue(SharedMemory& shared, const StatisticsParams& params,
                                                const StripeWalk<MainLoop>& walk, int batch)
      : params_(params),
        walk_(walk),
        batch_(batch),
        reduction_(shared),
        tops_(shared),
        totals_(shared),
        scale_(load_scalar<Stat>(params.matrix.scale)) {}

  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc) {
    const Matrix& matrix = params_.matrix;
    if (params_.kept) keep_products(tile, acc);
    add_biases<MainLoop>(acc, scale_, matrix, batch_, tile);
    if ((params_.rows.positive || params_.cols.positive) && may_include<MainLoop>(matrix.positives, tile)) {
      add_positives(tile, acc);
    }
    if (needs_mask<MainLoop>(matrix, tile)) {
      PairMask<MainLoop> candidates;
      candidates.select(matrix.candidates, batch_, tile, matrix);
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
        for (int n = 0; n < Acc::kCols; ++n) {
          if (!candidates(m, n)) acc.at(m, n) = -Stat(INFINITY);
        }
      }
    }
    if (params_.cols.top) {
      if (!is_mirrored(tile)) {
        add_columns(tile, acc);
      } else if (walk_.starts_col(tile)) {
        write_column(tile, MainLoop::thread(), Statistics<Stat>::none());
      }
    }
    if (params_.rows.top) {
      add_rows(tile, acc);
      if (walk_.ends_row(tile)) store_rows(tile);
    }
  }

 private:
  __device__ __forceinline__ void keep_products(const Tile& tile, Acc& acc) const {
    const int64_t num_rows = params_.matrix.rows.size, num_cols = params_.matrix.cols.size;
    Stat* kept = static_cast<Stat*>(params_.kept) + batch_ * num_rows * num_cols;
    ProductMatrix<MainLoop, Stat>(kept, num_rows, num_cols).store(tile, acc);
  }

  // Where this block's slots of the partials start.
  __device__ __forceinline__ int64_t row_slot() const {
    return (walk_.col_slot() * params_.matrix.batch + batch_) * params_.matrix.rows.size;
  }
  // The columns of a stripe on the diagonal are its rows: their second role has a slot of its own.
  __device__ __forceinline__ int64_t col_slot() const {
    const int slot = walk_.on_diagonal() ? params_.num_col_stripes : walk_.row_slot();
    return (slot * params_.matrix.batch + batch_) * params_.matrix.cols.size;
  }

  // A tile on the diagonal of a symmetric matrix: its columns are counted as rows already.
  __device__ __forceinline__ bool is_mirrored(const Tile& tile) const {
    return params_.self_similarity && tile.row_start == tile.col_start;
  }

  __device__ __forceinline__ void add_positives(const Tile& tile, Acc& acc) {
    const Matrix& matrix = params_.matrix;
    PairMask<MainLoop> positives;
    positives.select(matrix.positives, batch_, tile, matrix);
    if (params_.rows.positive) {
      Stat sums[Acc::kRows] = {};
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
        for (int n = 0; n < Acc::kCols; ++n) sums[m] += positives(m, n) ? acc.at(m, n) : Stat(0);
      }
      Stat* out = static_cast<Stat*>(params_.rows.positive) + row_slot() + tile.row_start;
      reduction_.rows(sums, Add{}, [&](int i, Stat sum) {
        if (tile.row_start + i < matrix.rows.size) out[i] += sum;
      });
    }
    if (params_.cols.positive && !is_mirrored(tile)) {
      Stat sums[Acc::kCols] = {};
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) {
#pragma unroll
        for (int m = 0; m < Acc::kRows; ++m) sums[n] += positives(m, n) ? acc.at(m, n) : Stat(0);
      }
      Stat* out = static_cast<Stat*>(params_.cols.positive) + col_slot() + tile.col_start;
      reduction_.columns(sums, Add{}, [&](int j, Stat sum) {
        if (tile.col_start + j < matrix.cols.size) out[j] += sum;
      });
    }
  }

  __device__ __forceinline__ void add_columns(const Tile& tile, Acc& acc) {
    Statistics<Stat> cols[Acc::kCols];
#pragma unroll
    for (int n = 0; n < Acc::kCols; ++n) {
      Stat top = acc.at(0, n), total = Stat(0);
#pragma unroll
      for (int m = 1; m < Acc::kRows; ++m) top = maximum(top, acc.at(m, n));
      const Stat shift = finite_or_zero(top);
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) total += exponential(acc.at(m, n) - shift);
      cols[n] = {top, total};
    }
    reduction_.columns(cols, MergeOnline{},
                       [&](int j, const Statistics<Stat>& found) { write_column(tile, j, found); });
  }

  // Column j of the tile: what was found is merged with what the tiles above have left.
  __device__ __forceinline__ void write_column(const Tile& tile, int j, const Statistics<Stat>& found) {
    if (j >= MainLoop::kBlockN || tile.col_start + j >= params_.matrix.cols.size) return;
    Stat* top = static_cast<Stat*>(params_.cols.top) + col_slot() + tile.col_start + j;
    Stat* total = static_cast<Stat*>(params_.cols.total) + col_slot() + tile.col_start + j;
    const Statistics<Stat> merged =
        walk_.starts_col(tile) ? found : MergeOnline{}(Statistics<Stat>{*top, *total}, found);
    *top = merged.top;
    *total = merged.total;
  }

  __device__ __forceinline__ void add_rows(const Tile& tile, Acc& acc) {
    const bool starts = walk_.starts_row(tile);
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
      const Statistics<Stat> before = starts ? Statistics<Stat>::none() : Statistics<Stat>{tops_[m], totals_[m]};
      Stat top = before.top;
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) top = maximum(top, acc.at(m, n));
      const Stat shift = finite_or_zero(top);
      Stat total = before.total * exponential(before.top - shift);
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) total += exponential(acc.at(m, n) - shift);
      tops_[m] = top;
      totals_[m] = total;
    }
  }

  __device__ __forceinline__ void store_rows(const Tile& tile) {
    Statistics<Stat> rows[Acc::kRows];
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) rows[m] = {tops_[m], totals_[m]};
    const int64_t start = row_slot() + tile.row_start;
    Stat *tops = static_cast<Stat*>(params_.rows.top) + start, *totals = static_cast<Stat*>(params_.rows.total) + start;
    reduction_.rows(rows, MergeOnline{}, [&](int i, const Statistics<Stat>& row) {
      if (tile.row_start + i >= params_.matrix.rows.size) return;
      tops[i] = row.top;
      totals[i] = row.total;
    });
  }

  const StatisticsParams& params_;
  const StripeWalk<MainLoop>& walk_;
  const int batch_;
  LineReduction<MainLoop> reduction_;
  ThreadArray<MainLoop, Acc::kRows> tops_, totals_;
  const Stat scale_;
};

template <class MainLoop, class Score>
__global__ void __launch_bounds__(MainLoop::kThreads, MainLoop::kMinBlocks)
    statistics_fwd_kernel(const __grid_constant__ Arguments<MainLoop, StatisticsParams> arguments) {
  const StatisticsParams& params = arguments.params;
  const int batch = blockIdx.y;
  const StripeWalk<MainLoop> walk(params, blockIdx.x);
  SharedMemory shared;
  const MainLoop main_loop(shared, arguments.operands, batch);
  StatisticsEpilogue<MainLoop> epilogue(shared, params, walk, batch);
  Score score(shared, params.matrix, batch);
  score.for_each_tile(main_loop, walk, epilogue);
}

template <class MainLoop, class Score>
void launch_statistics_fwd(const StatisticsParams& params, Stream& stream) {
  const dim3 grid(params.num_row_stripes * params.num_col_stripes, static_cast<unsigned>(params.matrix.batch));
  const Arguments<MainLoop, StatisticsParams> arguments = {params, score_operands<MainLoop>(params.matrix, stream)};
  constexpr int kWithoutScore = MainLoop::kSharedBytes + StatisticsEpilogue<MainLoop>::kSharedBytes;
  const SharedBytes shared_bytes = {kWithoutScore + Score::shared_bytes(params.matrix.banks),
                                    kWithoutScore + Score::shared_bytes(kMaxBanks)};
  launch((statistics_fwd_kernel<MainLoop, Score>), grid, MainLoop::kThreads, shared_bytes, stream, arguments);
}

}  // namespace contrastive_ops::cuda
