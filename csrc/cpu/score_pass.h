// The score pass: all reductions of all lines in one walk over the tiles.
#pragma once

#include "pack.h"
#include "reduction/kinds.h"
#include "score/score.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T>
void pack(const Work<T>& w) {
  const Params& p = w.p;
  with_storage_type<T>(p.dtype, [&](auto* storage) {
    using S = decltype(storage);
    for_each(p.threads, p.batch * w.row_tiles, [&](int64_t index) {
      const TileRange t = w.tile(index / w.row_tiles, index % w.row_tiles, 0);
      const S src = static_cast<S>(p.queries.data) + t.batch * p.queries.batch_stride + t.row * p.queries.row_stride;
      pack_rows<T>(src, p.queries.row_stride, p.queries.d_stride, t.rows, t.rows, t.rows, p.d, w.queries(t));
    });
    if (p.packed_keys == p.packed_queries) return;
    for_each(p.threads, p.batch * w.col_tiles, [&](int64_t index) {
      const TileRange t = w.tile(index / w.col_tiles, 0, index % w.col_tiles);
      const int64_t padded = w.padded(t.cols), lines = w.key_lines(t.cols);
      for (int64_t s = 0; s < p.banks; ++s) {
        const S src =
            static_cast<S>(p.keys.data) + t.batch * p.keys.batch_stride + s * p.bank_stride + t.col * p.keys.row_stride;
        pack_rows<T>(src, p.keys.row_stride, p.keys.d_stride, t.cols, s + 1 < p.banks ? padded : t.cols, lines, p.d,
                     w.keys(t) + s * padded * kPanel<T>);
      }
    });
  });
}

// One tile: its scores, which every reduction takes.
template <class T, class Score>
void forward_tile(const Work<T>& w, int64_t b, int64_t i, int64_t j, const Scratch<T>& s) {
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
  tile_products<T, Score>(w, t, products);
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
  pack(w);
  for_each_tile<T, forward_tile<T, Score>>(w);
  for (int r = 0; r < p.num_reductions; ++r) functions<T>(p.reductions[r].kind).finish(w, p.reductions[r]);
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
