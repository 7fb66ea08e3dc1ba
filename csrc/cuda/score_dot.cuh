// The score <q_i, k_j>. A score stands between the main loop and the epilogue; it is a class
//
//   shared_bytes(banks)                         what its constructor takes from shared memory
//   Score(shared, matrix, batch)
//   for_each_tile(main_loop, walk, epilogue)    epilogue(tile, acc) once per tile, `acc` the scores
//   take(acc, m, n, first, second, store)       dS of the thread's elements (m, n) and (m, n + 1)
//   finish(tile, acc, params, reduction, store) after those of all elements
//
// whose last two call store(bank, m, n, first, second) with the weights of the products of every bank.
#pragma once

#include "params.h"
#include "reduction.cuh"

namespace contrastive_ops::cuda {

template <class MainLoop>
class DotScore {
  using Acc = typename MainLoop::Acc;
  using Stat = typename MainLoop::Stat;

 public:
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
  __device__ __forceinline__ void finish(const Tile&, Acc&, const MacroGradientParams&, LineReduction<MainLoop>&,
                                         Store) const {}
};

}  // namespace contrastive_ops::cuda
