// The score pass: all reductions of all lines in one walk over the tiles.
#pragma once

#include "operands.h"
#include "score/score.h"
#include "walk.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// One tile: its scores, which every reduction takes.
template <class T, class Score>
void forward_tile(const Work<T>& w, int64_t b, int64_t i, int64_t j, Firsts, const Scratch<T>& s) {
  const Params& p = w.p;
  const TileRange t = w.tile(b, i, j);
  const int64_t index = w.tile_index(b, i, j);
  Coverage covers[kMaxReductions];
  bool has_pairs = false;
  for (int r = 0; r < p.num_reductions; ++r) {
    covers[r] = coverage(p.reductions[r].relation, t);
    has_pairs |= covers[r] != Coverage::kNone;
  }
  if (!has_pairs) return;

  T* const kept = w.kept(index);
  const Kept form = kept_form<T, Score>(w);
  T* const scores = kept && form == Kept::kScores ? kept : s.tile;
  T* const products = !Score::kWeightsNeedProducts ? scores : kept ? kept : s.products;
  tile_products<T, Score>(w, t, tile_keys<T>(w, t, s), products);
  tile_scores<T, Score>(w, t, products, scores, s);
  for (int r = 0; r < p.num_reductions; ++r) {
    if (covers[r] == Coverage::kNone) continue;
    // the last one may change the scores where they lie, unless they are kept
    T* const own = r + 1 == p.num_reductions && scores == s.tile ? s.tile : s.spare;
    const ScoreTile<T> tile = {t, index, covers[r], scores, own, form == Kept::kTerms ? kept : nullptr};
    functions<T>(p.reductions[r].kind).take(w, p.reductions[r], tile, s);
  }
}

template <class T, class Score>
void forward_pass(const Params& p) {
  const Work<T> w{p, Score::scratch(int(p.banks))};
  for (int r = 0; r < p.num_reductions; ++r) functions<T>(p.reductions[r].kind).start(w, p.reductions[r]);
  start_stripes(w);
  pack(w);
  for_each_tile<T, forward_tile<T, Score>>(w);
  merge_stripes(w);
  for (int r = 0; r < p.num_reductions; ++r) functions<T>(p.reductions[r].kind).finish(w, p.reductions[r]);
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
