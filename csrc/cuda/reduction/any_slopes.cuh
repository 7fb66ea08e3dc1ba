// The gradient of the loss by the scores of a tile, recomputed from their products, for any list of reductions with a
// slope. Of the usual reductions (usual.h) it adds up the same terms in the same order as UsualSlopes.
#pragma once

#include "../scores.cuh"
#include "log_sum_exp.cuh"

namespace contrastive_ops::cuda {

// What differs between the reductions is the same for all threads of a launch. Values of lines and the pairs of each
// relation wait in shared memory: a thread reads four pairs' bits at a time, and only bits that it has written.
template <class MainLoop>
class AnySlopes {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  static constexpr int kBlockM = MainLoop::kBlockM, kBlockN = MainLoop::kBlockN, kThreads = MainLoop::kConsumerThreads;

  struct alignas(2 * sizeof(Stat)) Line {
    Stat result, upstream;
  };
  static constexpr int kLines = kBlockM + kBlockN, kWords = PairMask<MainLoop>::kWords;
  static constexpr int kGroup = 4;  // columns whose pairs are taken at a time
  static_assert(Acc::kCols % kGroup == 0, "their bits lie in one word");

 public:
  static int shared_bytes(int num_reductions) {
    return contrastive_ops::cuda::shared_bytes<Stat>(kLines) +
           contrastive_ops::cuda::shared_bytes<Line>(num_reductions * kLines) +
           contrastive_ops::cuda::shared_bytes<uint32_t>(num_reductions * kWords * kThreads);
  }

  __device__ __forceinline__ AnySlopes(SharedMemory& shared, const Matrix& matrix, int batch)
      : matrix_(matrix),
        batch_(batch),
        biases_(shared.take<Stat>(kLines)),
        lines_(shared.take<Line>(matrix.num_reductions * kLines)),
        pairs_(shared.take<uint32_t>(matrix.num_reductions * kWords * kThreads)) {}

  __device__ __forceinline__ Stat unit() const { return matrix_.unit ? load_scalar<Stat>(matrix_.unit) : Stat(1); }

  // unit * dS_ij with dS_ij = sum_r factor_r slope_r(factor_r s_ij), to which reduction r adds
  //   factor_r (g_i exp(t_ij - result_i) + h_j exp(t_ij - result_j))   or, of a sum,   factor_r (a_i + b_j)
  // as take(m, n, ds) for the columns n .. n + 3 of each of the thread's rows, until all are done. `acc` holds the
  // products.
  template <class Take>
  __device__ __forceinline__ void operator()(const Tile& tile, Acc& acc, Take take) const {
    load_lines(tile);
    select_pairs(tile);
    const int row = MainLoop::warp_row(), col = kBlockM + MainLoop::warp_col();
    const Stat scale = load_scalar<Stat>(matrix_.scale);
#pragma unroll
    for (int first = 0; first < Acc::kCols; first += kGroup) {
      sync_warp();  // or the compiler keeps the values of all rows from one group to the next
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
        const Stat row_bias = biases_[row + Acc::row(m)];
        Stat scores[kGroup], ds[kGroup] = {};
#pragma unroll
        for (int n = 0; n < kGroup; ++n) {
          scores[n] = acc.at(m, first + n) * scale + row_bias + biases_[col + Acc::col(first + n)];
        }
        constexpr int kBits = 32;
        const int pair = m * Acc::kCols + first;
#pragma unroll 1
        for (int r = 0; r < matrix_.num_reductions; ++r) {
          const uint32_t pairs = pairs_[(r * kWords + pair / kBits) * kThreads + MainLoop::thread()] >> pair % kBits;
          const Line* const lines = lines_ + r * kLines;
          add_slopes(matrix_.reductions[r], pairs, scores, lines[row + Acc::row(m)], lines + col, first, ds);
        }
        take(m, first, ds);
      }
    }
  }

 private:
  __device__ __forceinline__ void add_slopes(const Reduction& of, uint32_t pairs, const Stat (&scores)[kGroup],
                                             const Line& row, const Line* cols, int first, Stat (&ds)[kGroup]) const {
    if (of.kind == ReductionKind::kScoreSum) {
#pragma unroll
      for (int n = 0; n < kGroup; ++n) {
        if (pairs >> n & 1) ds[n] += row.upstream + cols[Acc::col(first + n)].upstream;
      }
      return;
    }
    const Stat factor = factor_of(of);
    Stat t[kGroup];
#pragma unroll
    for (int n = 0; n < kGroup; ++n) t[n] = pairs >> n & 1 ? scores[n] * factor : -Stat(INFINITY);
    if (of.rows.upstream) {
#pragma unroll
      for (int n = 0; n < kGroup; ++n) ds[n] += LogSumExp<Stat>::slope(t[n], row.result, row.upstream);
    }
    if (of.cols.upstream) {
#pragma unroll
      for (int n = 0; n < kGroup; ++n) {
        const Line col = cols[Acc::col(first + n)];
        ds[n] += LogSumExp<Stat>::slope(t[n], col.result, col.upstream);
      }
    }
  }

  static __device__ __forceinline__ Stat factor_of(const Reduction& of) {
    return of.factor ? load_scalar<Stat>(of.factor) : Stat(1);
  }

  __device__ __forceinline__ void select_pairs(const Tile& tile) const {
#pragma unroll 1
    for (int r = 0; r < matrix_.num_reductions; ++r) {
      PairMask<MainLoop> pairs;
      const Relation& relation = matrix_.reductions[r].relation;
      if (may_include<MainLoop>(relation, tile)) pairs.select(relation, batch_, tile, matrix_);
#pragma unroll
      for (int word = 0; word < kWords; ++word) {
        pairs_[(r * kWords + word) * kThreads + MainLoop::thread()] = pairs.word(word);
      }
    }
  }

  // The values of the tile's rows, then those of its columns.
  __device__ __forceinline__ void load_lines(const Tile& tile) const {
    MainLoop::sync();  // all threads are done with the lines of the tile before
#pragma unroll 1
    for (int line = MainLoop::thread(); line < kLines; line += kThreads) {
      const bool is_row = line < kBlockM;
      const int64_t size = is_row ? matrix_.rows.size : matrix_.cols.size;
      const int i = is_row ? tile.row_start + line : tile.col_start + line - kBlockM;
      biases_[line] = load_or_zero(is_row ? matrix_.row_bias : matrix_.col_bias, size, i);
#pragma unroll 1
      for (int r = 0; r < matrix_.num_reductions; ++r) {
        const Reduction& of = matrix_.reductions[r];
        const LineValues& values = is_row ? of.rows : of.cols;
        const Stat result = values.result ? load_line(values.result, batch_, size, i, Stat(INFINITY)) : Stat(INFINITY);
        lines_[r * kLines + line] = {LogSumExp<Stat>::for_slope(result),
                                     load_or_zero(values.upstream, size, i) * unit() * factor_of(of)};
      }
    }
    MainLoop::sync();
  }

  __device__ __forceinline__ Stat load_or_zero(const void* line, int64_t size, int i) const {
    return line ? load_line(line, batch_, size, i, Stat(0)) : Stat(0);
  }

  const Matrix& matrix_;
  const int batch_;
  Stat* biases_;     // [kLines]
  Line* lines_;      // [reductions][kLines]
  uint32_t* pairs_;  // [reductions][kWords][threads]
};

}  // namespace contrastive_ops::cuda
