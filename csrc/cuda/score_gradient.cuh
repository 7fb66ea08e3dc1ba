// The gradient of the loss by the scores of a tile, recomputed from their products.
#pragma once

#include "scores.cuh"

namespace contrastive_ops::cuda {

template <class MainLoop>
class ScoreGradient {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  static constexpr int kBlockM = MainLoop::kBlockM, kBlockN = MainLoop::kBlockN;

  // What a line adds to the gradients of its pairs.
  struct alignas(4 * sizeof(Stat)) LineValues {
    Stat bias, lse, d_lse, d_sum;
  };
  static constexpr int kLines = kBlockM + kBlockN;

 public:
  static constexpr int kSharedBytes = shared_bytes<LineValues>(kLines);

  __device__ __forceinline__ ScoreGradient(SharedMemory& shared, const Matrix& matrix, int batch)
      : matrix_(matrix), batch_(batch), lines_(shared.take<LineValues>(kLines)) {}

  __device__ __forceinline__ Stat unit() const { return matrix_.unit ? load_scalar<Stat>(matrix_.unit) : Stat(1); }

  // unit * dS_ij with dS_ij = cand_ij (g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j)) + pos_ij (a_i + b_j)
  // as take(m, n, ds) for some columns n, n + 1, ... of each of the thread's rows, until all are done. `acc` holds
  // <q_i, k_j>. `take` should be done with its values: the branches below are joined by few registers.
  template <class Take>
  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc, Take take) const {
    const bool has_positives =
        (matrix_.row_lines.d_sum || matrix_.col_lines.d_sum) && may_include<MainLoop>(matrix_.positives, tile);
    load_lines(tile);
    PairMask<MainLoop> candidates, positives;
    if (has_positives || needs_mask<MainLoop>(matrix_, tile)) {
      candidates.select(matrix_.candidates, batch_, tile, matrix_);
      if (has_positives) positives.select(matrix_.positives, batch_, tile, matrix_);
      for_each_pair<true, true, true>(candidates, positives, acc, take);
    } else if (!matrix_.col_lines.d_lse) {
      for_each_pair<false, true, false>(candidates, positives, acc, take);
    } else if (!matrix_.row_lines.d_lse) {
      for_each_pair<false, false, true>(candidates, positives, acc, take);
    } else {
      for_each_pair<false, true, true>(candidates, positives, acc, take);
    }
  }

 private:
  // Not kMasked: all pairs are candidates, none is positive. Not kOfRows: g is 0; not kOfCols: h is 0. Branches on
  // these within the loops would leave two or four exponentials to a basic block.
  template <bool kMasked, bool kOfRows, bool kOfCols, class Take>
  __device__ __forceinline__ void for_each_pair(const PairMask<MainLoop>& candidates,
                                                const PairMask<MainLoop>& positives, Acc& acc, Take take) const {
    const LineValues *rows = lines_ + MainLoop::warp_row(), *cols = lines_ + kBlockM + MainLoop::warp_col();
    const Stat scale = load_scalar<Stat>(matrix_.scale);
    constexpr int kGroup = 4;  // columns whose values are in registers at a time
#pragma unroll
    for (int first = 0; first < Acc::kCols; first += kGroup) {
      sync_warp();  // or the compiler keeps the values of all rows from one group to the next
      LineValues col[kGroup];
#pragma unroll
      for (int n = 0; n < kGroup; ++n) col[n] = cols[Acc::col(first + n)];
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
        const LineValues row = rows[Acc::row(m)];
        Stat ds[kGroup] = {};
#pragma unroll
        for (int n = 0; n < kGroup; ++n) {
          Stat score = acc.at(m, first + n) * scale + row.bias + col[n].bias;
          if (kMasked && !candidates(m, first + n)) score = -Stat(INFINITY);
          if (kOfRows) ds[n] += row.d_lse * exponential(score - row.lse);
          if (kOfCols) ds[n] += col[n].d_lse * exponential(score - col[n].lse);
          if (kMasked && positives(m, first + n)) ds[n] += row.d_sum + col[n].d_sum;
        }
        take(m, first, ds);
      }
    }
  }

  // The values of the tile's rows, then those of its columns.
  __device__ __forceinline__ void load_lines(const Tile& tile) const {
    MainLoop::sync();  // all threads are done with the lines of the tile before
    for (int line = MainLoop::thread(); line < kLines; line += MainLoop::kConsumerThreads) {
      lines_[line] = line < kBlockM
                         ? load_values(matrix_.row_lines, matrix_.rows.size, tile.row_start + line)
                         : load_values(matrix_.col_lines, matrix_.cols.size, tile.col_start + line - kBlockM);
    }
    MainLoop::sync();
  }

  __device__ __forceinline__ LineValues load_values(const Lines& lines, int64_t size, int i) const {
    // -inf (no candidates) and lines beyond the end become +inf: exp(s - lse) is then 0, as the gradient must be
    const Stat lse = lines.d_lse ? load_line(lines.lse, batch_, size, i, Stat(INFINITY)) : Stat(INFINITY);
    return {load_or_zero(lines.bias, size, i), lse == -Stat(INFINITY) ? Stat(INFINITY) : lse,
            load_or_zero(lines.d_lse, size, i) * unit(), load_or_zero(lines.d_sum, size, i) * unit()};
  }

  __device__ __forceinline__ Stat load_or_zero(const void* line, int64_t size, int i) const {
    return line ? load_line(line, batch_, size, i, Stat(0)) : Stat(0);
  }

  const Matrix& matrix_;
  const int batch_;
  LineValues* lines_;
};

}  // namespace contrastive_ops::cuda
