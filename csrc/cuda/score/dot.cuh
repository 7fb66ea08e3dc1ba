// The score <q_i, k_j>. A score stands between the main loop and the epilogue; it is a class
//
//   kSumsLines                                  whether `finish` leaves sums along lines, and can do without weights
//   Summed                                      the score for which it does
//   shared_bytes(banks)                         what its constructor takes from shared memory
//   Score(shared, matrix, batch)
//   for_each_tile(main_loop, walk, epilogue)    epilogue(tile, acc) once per tile, `acc` the scores
//   take(acc, m, n, first, second, store)       dS of the thread's elements (m, n) and (m, n + 1)
//   finish(tile, acc, params, reduction, store) after those of all elements
//
// whose last two call store(bank, m, n, first, second) with the weights of the products of every bank.
#pragma once

#include "../line_reduction.cuh"
#include "../params.h"
#include "block_sums.cuh"

namespace contrastive_ops::cuda {

template <class MainLoop>
class SummedDotScore;

template <class MainLoop>
class DotScore {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  static constexpr bool kSumsLines = false;
  using Summed = SummedDotScore<MainLoop>;

  static int shared_bytes(int /*banks*/) { return 0; }

  __device__ __forceinline__ DotScore(SharedMemory&, const Matrix&, int /*batch*/) {}

  template <class Walk, class Epilogue>
  __device__ __forceinline__ void for_each_tile(const MainLoop& main_loop, const Walk& walk, Epilogue& epilogue) const {
    main_loop.for_each_tile(walk, epilogue);
  }

  template <class Store>
  __device__ __forceinline__ void take(Acc&, int m, int n, Stat first, Stat second, Store store) const {
    store(0, m, n, first, second);
  }

  template <class Store>
  __device__ __forceinline__ void finish(const Tile&, Acc&, const MacroGradientParams&, NumberReduction<MainLoop>&,
                                         Store) const {}
};

// The same, which leaves sums along lines too, and needs no weights: as dS takes the place of the products, an element
// is stored after all are there.
template <class MainLoop>
class SummedDotScore : public DotScore<MainLoop> {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
  static constexpr bool kSumsLines = true;
  using DotScore<MainLoop>::DotScore;

  template <class Store>
  __device__ __forceinline__ void take(Acc& acc, int m, int n, Stat first, Stat second, Store) const {
    acc.at(m, n) = first;
    acc.at(m, n + 1) = second;
  }

  template <class Store>
  __device__ __forceinline__ void finish(const Tile& tile, Acc& ds, const MacroGradientParams& params,
                                         NumberReduction<MainLoop>& reduction, Store store) const {
    const BlockSums<MainLoop> sums = {params, reduction, tile};
    sums.rows(params.sums.row_bias, ds);
    sums.cols(params.sums.col_bias, ds);
    if (!params.weights) return;
#pragma unroll
    for (int m = 0; m < Acc::kRows; ++m) {
#pragma unroll
      for (int n = 0; n < Acc::kCols; n += 2) store(0, m, n, ds.at(m, n), ds.at(m, n + 1));
    }
  }
};

}  // namespace contrastive_ops::cuda
