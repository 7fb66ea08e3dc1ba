// What a score is to the two passes, and the steps of a tile that every score shares.
//
// A score S<T> is a set of static functions around the products <q_i, k_j^s> of a tile with each of its K banks of
// keys:
//   kWeightsNeedProducts     the gradient needs the products themselves, so they are what a kept tile holds; otherwise
//                            it holds what its reductions need (`Kept`), and the products lie where the scores do
//   scratch(banks)           scratch that it asks for
//   factor(p)                factor of the products, applied in their last store
//   scores(w, t, products, out, s)    products -> out = s_ij without biases
//   weights(w, t, products, s)        s.gradient = dS_ij -> weights P^s of the products, [bank] tiles; the gradients of
//   the
//                                     score's own line terms are added up here
//                                       dQ_i = scale * sum_j sum_s P^s_ij k_j^s      dK_j^s = scale * sum_i P^s_ij q_i
//   finish(p, partials, adds)         dscale and the line terms' gradients, when all tiles are done
// It knows nothing of relations, of reductions or of threads.
#pragma once

#include "../gemm.h"
#include "../sweep.h"
#include "dot.h"
#include "volume.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// What a kept tile holds for backward.
//   kTerms      what the only reduction that changes scores has made of them; a slope takes no exponential then
//   kScores     scores with their biases, where several reductions change them each in its own way
//   kProducts   the products, where the weights need them
enum class Kept { kTerms, kScores, kProducts };

template <class T, class Score>
Kept kept_form(const Work<T>& w) {
  return Score::kWeightsNeedProducts ? Kept::kProducts : w.several_change ? Kept::kScores : Kept::kTerms;
}

template <class T, class Score>
void tile_products(const Work<T>& w, const TileRange& t, const T* keys, T* products) {
  score_product<T>(w.queries(t), keys, t.rows, w.key_lines(t.cols), w.p.d, Score::factor(w.p), products);
}

// scores = those of the products, with their biases
template <class T, class Score>
void tile_scores(const Work<T>& w, const TileRange& t, const T* products, T* scores, const Scratch<T>& s) {
  Score::scores(w, t, products, scores, s);
  const T* rows = static_cast<const T*>(w.p.row_bias);
  const T* cols = static_cast<const T*>(w.p.col_bias);
  if (rows || cols) add_biases<T>(scores, t.rows, t.cols, w.row_line(rows, t), w.col_line(rows, cols, t));
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
