// s_ij = scale * <q_i, k_j>: one bank; the product is the score, and dS is its weight.
#pragma once

#include "../work.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T>
struct DotScore {
  static constexpr bool kWeightsNeedProducts = false;
  static ScoreScratch scratch(int) { return {0, 0}; }
  static T factor(const Params& p) { return T(p.scale); }
  static void scores(const Work<T>&, const TileRange&, const T*, T*, const Scratch<T>&) {}
  static const T* weights(const Work<T>&, const TileRange&, const T*, const Scratch<T>& s) { return s.gradient; }

  // dscale = sum_i <q_i, (dS K)_i>, summed in block order from what the blocks of the gradients left
  // adds: to that of the panels of rows before
  static void finish(const Params& p, int64_t partials, bool adds) {
    if (!p.dscale) return;
    double total = 0;
    for (int64_t x = 0; x < partials; ++x) total += p.dscale_partial[x];
    // self-similarity: the accumulator holds every pair in both roles
    T* dscale = static_cast<T*>(p.dscale);
    *dscale = T((adds ? double(*dscale) : 0) + (p.self_similarity ? total / 2 : total));
  }
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
