// A tile of scores on its way through the reductions, as both passes hand it to a kind.
//
// A kind of reduction is a struct of static functions, which the table in kinds.h collects:
//   kStateBytes, kStateIsResult    of what tiles of a line are merged into: its result, or something that becomes it
//   start(w, r)                    lines and tile references before the first tile
//   take(w, r, tile, s)            a tile of the score pass, whose coverage is not kNone
//   merge(state, other, lines)     state <- what both have seen together
//   finish(w, r)                   states -> results
//   reaches(w, r, range, index)    backward: whether the tile has a slope that is not 0 everywhere
//   add_slope(w, r, tile, fresh, s)
//                                  s.gradient += factor * slope;  fresh: nothing is there yet, and it is to be written
// All of it acts on whole tiles, so a call through a pointer costs nothing.
#pragma once

#include "../sweep.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T>
struct ScoreTile {
  TileRange range;
  int64_t index;      // among all tiles of the problem
  Coverage coverage;  // by the reduction's own relation
  const T* scores;    // s_ij, with anything in the padding
  T* own;             // where a kind that changes scores may put its own: for the last of them where the scores are
  T* terms;  // kept: what the only kind that changes scores makes of them, written in forward; null: they come again
};

// All bits set in the lanes that are columns of the tile, from column j on; the others are padding.
template <class T>
CONTRASTIVE_INLINE IVec<T> are_columns(int64_t j, int64_t cols) {
  return iota<T>() < Lane<T>(cols - j);
}

// Runs body(start, end) on pieces of a line.
template <class F>
void for_each_piece(int threads, int64_t count, F body) {
  constexpr int64_t kPiece = 4096;
  for_each(threads, ceil_div(count, kPiece),
           [&](int64_t piece) { body(piece * kPiece, (piece + 1) * kPiece < count ? (piece + 1) * kPiece : count); });
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
