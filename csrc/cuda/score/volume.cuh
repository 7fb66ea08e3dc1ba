// The volume that a row spans with the vectors of a column: col_term_j rho_ij, where rho_ij is the row's distance from
// the span of those vectors,
//
//   d^r_ij   = sum_{s <= r} mixing^{rs}_j <q_i, k^s_j>
//   rho_ij^2 = row_term_i - sum_r (d^r_ij)^2               rounding may leave it below 0: 0, or its absolute value
//
// The main loop visits a tile once for every bank. A thread lays its products aside in shared memory, where no other
// thread looks at them: K tiles would not fit into registers, and K is known at run time only.
#pragma once

#include <type_traits>

#include "../params.h"
#include "../scores.cuh"
#include "block_sums.cuh"

namespace contrastive_ops::cuda {

// Every tile of a walk, once for every bank.
template <class Walk>
class BankWalk {
 public:
  __device__ __forceinline__ BankWalk(const Walk& walk, int banks) : walk_(walk), last_(banks - 1) {
    tile_.bank = last_;
  }

  __device__ __forceinline__ bool next(Tile& tile) {
    if (tile_.bank < last_) {
      ++tile_.bank;
    } else if (!walk_.next(tile_)) {
      return false;
    }
    tile = tile_;
    return true;
  }

 private:
  Walk walk_;
  Tile tile_ = {};
  int last_;
};

template <class MainLoop>
class VolumeScore {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;
  using Element = typename MainLoop::Element;
  static constexpr int kThreads = MainLoop::kConsumerThreads, kPerBank = Acc::kRows * Acc::kCols * kThreads;

 public:
  static constexpr bool kSumsLines = true;
  using Summed = VolumeScore;

  static int shared_bytes(int banks) { return contrastive_ops::cuda::shared_bytes<Stat>(banks * kPerBank); }

  __device__ __forceinline__ VolumeScore(SharedMemory& shared, const Matrix& matrix, int batch)
      : matrix_(matrix), batch_(batch), mixed_(shared.take<Stat>(matrix.banks * kPerBank)) {}

  template <class Walk, class Epilogue>
  __device__ __forceinline__ void for_each_tile(const MainLoop& main_loop, const Walk& walk, Epilogue& epilogue) const {
    const auto of_last_bank = [&](const Tile& tile, Acc& acc) {
      set(tile.bank, acc);
      if (tile.bank + 1 < matrix_.banks) return;
      mix(tile);
      score(tile, acc);
      epilogue(tile, acc);
    };
    main_loop.for_each_tile(BankWalk<Walk>(walk, matrix_.banks), of_last_bank);
  }

  // The weights of a pair's products wait for all of its tile: their terms are read in the order of the banks.
  template <class Store>
  __device__ __forceinline__ void take(Acc& acc, int m, int n, Stat first, Stat second, Store) const {
    acc.at(m, n) = first;
    acc.at(m, n + 1) = second;
  }

  // `ds` holds dS. With q_ij = dS_ij col_term_j / rho_ij, 0 where rho_ij is 0 and has no derivative:
  //   weights^s_ij = -q_ij sum_{r >= s} mixing^{rs}_j d^r_ij
  //   drow_term_i = sum_j q_ij / 2     dcol_term_j = sum_i dS_ij rho_ij
  template <class Store>
  __device__ __forceinline__ void finish(const Tile& tile, Acc& ds, const MacroGradientParams& params,
                                         NumberReduction<MainLoop>& reduction, Store store) const {
    const BlockSums<MainLoop> sums = {params, reduction, tile};
    sums.rows(params.sums.row_bias, ds);
    sums.cols(params.sums.col_bias, ds);
    Acc squares, distance_terms;
    squared_distances(tile, squares);
    for_each([&](int m, int n) { distance_terms.at(m, n) = ds.at(m, n) * distance(squares.at(m, n)); });
    sums.cols(params.sums.col_term, distance_terms);
    for_each([&](int m, int n) {
      const Stat rho = distance(squares.at(m, n));
      const Stat sign = matrix_.score.absolute && squares.at(m, n) < Stat(0) ? Stat(-1) : Stat(1);
      ds.at(m, n) *= col_term(tile, n) * sign / (rho == Stat(0) ? Stat(INFINITY) : rho);
      squares.at(m, n) = ds.at(m, n) / 2;
    });
    sums.rows(params.sums.row_term, squares);
    if (!params.weights) return;
#pragma unroll 1
    for (int s = 0; s < matrix_.banks; ++s) {
      Acc weights;
      weights.clear();
#pragma unroll 1
      for (int r = s; r < matrix_.banks; ++r) add_product(tile, r, s, r, weights);
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
        for (int n = 0; n < Acc::kCols; n += 2) {
          store(s, m, n, in_range(-ds.at(m, n) * weights.at(m, n)), in_range(-ds.at(m, n + 1) * weights.at(m, n + 1)));
        }
      }
    }
  }

 private:
  // d^r takes the place of c^r, which only later ones need: from the last on.
  __device__ __forceinline__ void mix(const Tile& tile) const {
#pragma unroll 1
    for (int r = matrix_.banks - 1; r >= 0; --r) {
      Acc sums;
      sums.clear();
#pragma unroll 1
      for (int s = 0; s <= r; ++s) add_product(tile, r, s, s, sums);
      set(r, sums);
    }
  }

  __device__ __forceinline__ void score(const Tile& tile, Acc& acc) const {
    squared_distances(tile, acc);
    for_each([&](int m, int n) { acc.at(m, n) = col_term(tile, n) * distance(acc.at(m, n)); });
  }

  // rho^2, as it was rounded.
  __device__ __forceinline__ void squared_distances(const Tile& tile, Acc& squares) const {
    const int row = thread_row<MainLoop>(tile);
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
      const Stat term = load_line(matrix_.score.row_term, batch_, matrix_.rows.size, row + Acc::row_offset(m), Stat(0));
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) squares.at(m, n) = term;
    }
#pragma unroll 1
    for (int r = 0; r < matrix_.banks; ++r) {
      for_each([&](int m, int n) { squares.at(m, n) -= at(r, m, n) * at(r, m, n); });
    }
  }

  // A NaN stays one.
  __device__ __forceinline__ Stat distance(Stat squared) const {
    if (matrix_.score.absolute) squared = squared < Stat(0) ? -squared : squared;
    return square_root(squared < Stat(0) ? Stat(0) : squared);
  }

  // sums += mixing^{rs} times what is laid aside of `bank`
  __device__ __forceinline__ void add_product(const Tile& tile, int r, int s, int bank, Acc& sums) const {
    const int col = thread_col<MainLoop>(tile), triangle = matrix_.banks * (matrix_.banks + 1) / 2;
    const int64_t size = matrix_.cols.size;
    const Stat* mixing =
        static_cast<const Stat*>(matrix_.score.mixing) + (batch_ * triangle + r * (r + 1) / 2 + s) * size;
#pragma unroll
    for (int n = 0; n < Acc::kCols; ++n) {
      const int j = col + Acc::col_offset(n);
      const Stat factor = j < size ? mixing[j] : Stat(0);
#pragma unroll
      for (int m = 0; m < Acc::kRows; ++m) sums.at(m, n) += factor * at(bank, m, n);
    }
  }

  __device__ __forceinline__ Stat col_term(const Tile& tile, int n) const {
    const int j = thread_col<MainLoop>(tile) + Acc::col_offset(n);
    return load_line(matrix_.score.col_term, batch_, matrix_.cols.size, j, Stat(0));
  }

  __device__ __forceinline__ void set(int bank, Acc& values) const {
    for_each([&](int m, int n) { at(bank, m, n) = values.at(m, n); });
  }

  // Neighbouring threads use neighbouring banks of shared memory.
  __device__ __forceinline__ Stat& at(int bank, int m, int n) const {
    return mixed_[bank * kPerBank + (m * Acc::kCols + n) * kThreads + MainLoop::thread()];
  }

  template <class Use>
  static __device__ __forceinline__ void for_each(Use use) {
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
      for (int n = 0; n < Acc::kCols; ++n) use(m, n);
    }
  }

  // float16 ends at 65504, where an error in the last bit of a tiny rho would leave it. A NaN stays one.
  static __device__ __forceinline__ Stat in_range(Stat weight) {
    if constexpr (std::is_same_v<Element, __half>) {
      constexpr Stat kLargest = 65504;
      return weight > kLargest ? kLargest : weight < -kLargest ? -kLargest : weight;
    } else {
      return weight;
    }
  }

  const Matrix& matrix_;
  const int batch_;
  Stat* mixed_;  // [banks][elements of a thread][threads]: c^s until all banks are there, then d^r
};

}  // namespace contrastive_ops::cuda
