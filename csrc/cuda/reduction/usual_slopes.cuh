// The gradient of the loss by the scores of a tile, recomputed from their products, for the usual reductions.
#pragma once

#include "../scores.cuh"
#include "log_sum_exp.cuh"

namespace contrastive_ops::cuda {

// kSum, kExp: of the sum and of the log-sum-exp among the reductions of the pass.
template <class MainLoop, int kSum, int kExp>
class UsualSlopes {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  static constexpr int kBlockM = MainLoop::kBlockM, kBlockN = MainLoop::kBlockN;

  // What a line adds to the gradients of its pairs.
  struct alignas(4 * sizeof(Stat)) Line {
    Stat bias, lse, d_lse, d_sum;
  };
  static constexpr int kLines = kBlockM + kBlockN;

 public:
  static int shared_bytes(int /*num_reductions*/) { return contrastive_ops::cuda::shared_bytes<Line>(kLines); }

  __device__ __forceinline__ UsualSlopes(SharedMemory& shared, const Matrix& matrix, int batch)
      : matrix_(matrix), batch_(batch), lines_(shared.take<Line>(kLines)) {}

  __device__ __forceinline__ Stat unit() const { return matrix_.unit ? load_scalar<Stat>(matrix_.unit) : Stat(1); }

  // unit * dS_ij with dS_ij = g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j) for the pairs of the one relation,
  //                         + a_i + b_j                                       for those of the other
  // as take(m, n, ds) for some columns n, n + 1, ... of each of the thread's rows, until all are done. `acc` holds
  // <q_i, k_j>. `take` should be done with its values: the branches below are joined by few registers.
  template <class Take>
  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc, Take take) const {
    const Reduction &sum = matrix_.reductions[kSum], &exp = matrix_.reductions[kExp];
    const bool has_sums = (sum.rows.upstream || sum.cols.upstream) && may_include<MainLoop>(sum.relation, tile);
    load_lines(tile);
    PairMask<MainLoop> in_exp, in_sum;
    if (has_sums || needs_mask<MainLoop>(exp.relation, matrix_, tile)) {
      in_exp.select(exp.relation, batch_, tile, matrix_);
      if (has_sums) in_sum.select(sum.relation, batch_, tile, matrix_);
      for_each_pair<true, true, true>(in_exp, in_sum, acc, take);
    } else if (!exp.cols.upstream) {
      for_each_pair<false, true, false>(in_exp, in_sum, acc, take);
    } else if (!exp.rows.upstream) {
      for_each_pair<false, false, true>(in_exp, in_sum, acc, take);
    } else {
      for_each_pair<false, true, true>(in_exp, in_sum, acc, take);
    }
  }

 private:
  // Not kMasked: all pairs are in the one relation, none in the other. Not kOfRows: g is 0; not kOfCols: h is 0.
  // Branches on these within the loops would leave two or four exponentials to a basic block.
  template <bool kMasked, bool kOfRows, bool kOfCols, class Take>
  __device__ __forceinline__ void for_each_pair(const PairMask<MainLoop>& in_exp, const PairMask<MainLoop>& in_sum,
                                                Acc& acc, Take take) const {
    const Line *rows = lines_ + MainLoop::warp_row(), *cols = lines_ + kBlockM + MainLoop::warp_col();
    const Stat scale = load_scalar<Stat>(matrix_.scale);
    constexpr int kGroup = 4;  // columns whose values are in registers at a time
#pragma unroll
    for (int first = 0; first < Acc::kCols; first += kGroup) {
      sync_warp();  // or the compiler keeps the values of all rows from one group to the next
      Line col[kGroup];
#pragma unroll
      for (int n = 0; n < kGroup; ++n) col[n] = cols[Acc::col(first + n)];
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
        const Line row = rows[Acc::row(m)];
        Stat ds[kGroup] = {};
#pragma unroll
        for (int n = 0; n < kGroup; ++n) {
          Stat score = acc.at(m, first + n) * scale + row.bias + col[n].bias;
          if (kMasked && !in_exp(m, first + n)) score = -Stat(INFINITY);
          if (kOfRows) ds[n] += LogSumExp<Stat>::slope(score, row.lse, row.d_lse);
          if (kOfCols) ds[n] += LogSumExp<Stat>::slope(score, col[n].lse, col[n].d_lse);
          if (kMasked && in_sum(m, first + n)) ds[n] += row.d_sum + col[n].d_sum;
        }
        take(m, first, ds);
      }
    }
  }

  // The values of the tile's rows, then those of its columns.
  __device__ __forceinline__ void load_lines(const Tile& tile) const {
    MainLoop::sync();  // all threads are done with the lines of the tile before
    for (int line = MainLoop::thread(); line < kLines; line += MainLoop::kConsumerThreads) {
      const Reduction &sum = matrix_.reductions[kSum], &exp = matrix_.reductions[kExp];
      lines_[line] =
          line < kBlockM
              ? load_line_of(matrix_.row_bias, sum.rows, exp.rows, matrix_.rows.size, tile.row_start + line)
              : load_line_of(matrix_.col_bias, sum.cols, exp.cols, matrix_.cols.size, tile.col_start + line - kBlockM);
    }
    MainLoop::sync();
  }

  // Beyond the end slopes are 0.
  __device__ __forceinline__ Line load_line_of(const void* bias, const LineValues& sum, const LineValues& exp,
                                               int64_t size, int i) const {
    const Stat lse = exp.upstream ? load_line(exp.result, batch_, size, i, Stat(INFINITY)) : Stat(INFINITY);
    return {load_or_zero(bias, size, i), LogSumExp<Stat>::for_slope(lse), load_or_zero(exp.upstream, size, i) * unit(),
            load_or_zero(sum.upstream, size, i) * unit()};
  }

  __device__ __forceinline__ Stat load_or_zero(const void* line, int64_t size, int i) const {
    return line ? load_line(line, batch_, size, i, Stat(0)) : Stat(0);
  }

  const Matrix& matrix_;
  const int batch_;
  Line* lines_;
};

}  // namespace contrastive_ops::cuda
