// What a score is to the two passes, and the steps of a tile that every score shares.
//
// A score S<T> is a set of static functions around the products <q_i, k_j^s> of a tile with each of its K banks of
// keys:
//   kWeightsNeedProducts     the gradient needs the products themselves, so they are what a kept tile holds;
//                            otherwise it holds the exponentials of the scores
//   scratch(banks)           scratch that it asks for
//   factor(p)                factor of the products, applied in their last store
//   scores(w, t, products, s)         products -> s.tile = s_ij without biases
//   weights(w, t, products, s)        s.tile = dS_ij -> weights P^s of the products, [bank] tiles; the gradients of the
//                                     score's own line terms are added up here
//                                       dQ_i = scale * sum_j sum_s P^s_ij k_j^s      dK_j^s = scale * sum_i P^s_ij q_i
//   finish(p, partials)      dscale and the line terms' gradients, when all tiles are done
// It knows nothing of relations, of log-sum-exps or of threads.
#pragma once

#include "dot_score.h"
#include "gemm.h"
#include "sweep.h"
#include "volume_score.h"
#include "work.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T, class Score>
void tile_products(const Work<T>& w, const TileRange& t, T* products) {
  score_product<T>(w.queries(t), w.keys(t), t.rows, w.key_lines(t.cols), w.p.d, Score::factor(w.p), products);
}

// s.tile = scores with their biases.
template <class T, class Score>
void tile_scores(const Work<T>& w, const TileRange& t, const T* products, const Scratch<T>& s) {
  Score::scores(w, t, products, s);
  const T* rows = static_cast<const T*>(w.p.row_bias);
  const T* cols = static_cast<const T*>(w.p.col_bias);
  if (rows || cols) add_biases<T>(s.tile, t.rows, t.cols, w.row_line(rows, t), w.col_line(rows, cols, t));
}

// Leaves -inf wherever no candidate is.
template <class T>
void mask_candidates(const Work<T>& w, const TileRange& t, Coverage cover, const Scratch<T>& s) {
  if (cover == Coverage::kSome) mask_scores<T>(s.tile, t.rows, t.cols, TileMask<T>(w.p.candidates, t, s.ids));
  mask_padding<T>(s.tile, t.rows, t.cols);
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
