// max_{j: (i, j) in relation} t_ij, and down the columns; t = factor * s. -inf for a line without pairs, NaN where it
// has one. No slope.
#pragma once

#include "score_tile.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// The larger one, NaN where either is.
template <class V>
CONTRASTIVE_INLINE V larger(V top, V x) {
  return x > top ? x : (x == x ? top : x);
}

// top_i = larger(top_i, t_ij) inside the mask.
//   row_top [rows], col_top [cols]: null where not wanted; row_lanes [rows][kLanes] scratch
template <class T>
void raise_largest(const T* tile, int64_t rows, int64_t cols, TileMask<T> belongs, T factor, T* row_top, T* col_top,
                   T* row_lanes) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  const Vec<T> lowest = broadcast<T>(T(-__builtin_inf()));
  for (int64_t i = 0; i < rows; ++i) store<T>(row_lanes + i * L, lowest);
  for (int64_t j = 0; j < cols; j += L) {
    const T* column = tile + j / W * W * rows + j % W;
    const IVec<T> present = are_columns<T>(j, cols);
    Vec<T> col = lowest;
    for (int64_t i = 0; i < rows; ++i) {
      const Vec<T> t = belongs(i, j) & present ? factor * load<T>(column + i * W) : lowest;
      col = larger(col, t);
      store<T>(row_lanes + i * L, larger(load<T>(row_lanes + i * L), t));
    }
    if (col_top)
      for (int l = 0; l < L && j + l < cols; ++l) col_top[j + l] = larger(col_top[j + l], T(col[l]));
  }
  if (row_top)
    for (int64_t i = 0; i < rows; ++i)
      for (int l = 0; l < L; ++l) row_top[i] = larger(row_top[i], row_lanes[i * L + l]);
}

template <class T>
struct Largest {
  static constexpr int kStateBytes = sizeof(T);
  static constexpr bool kStateIsResult = true;

  static void start(const Work<T>& w, const Reduction& r) {
    const auto start_lines = [](void* result, int64_t count) {
      for (int64_t i = 0; result && i < count; ++i) static_cast<T*>(result)[i] = T(-__builtin_inf());
    };
    start_lines(r.rows.result, w.p.batch * w.p.m);
    start_lines(r.columns.result, w.p.batch * w.p.n);
  }

  static void take(const Work<T>& w, const Reduction& r, const ScoreTile<T>& tile, const Scratch<T>& s) {
    const TileRange& t = tile.range;
    T* rows = static_cast<T*>(r.rows.result);
    T* cols = static_cast<T*>(r.columns.result);
    raise_largest<T>(tile.scores, t.rows, t.cols, TileMask<T>(r.relation, t, s.ids), T(r.factor), w.row_line(rows, t),
                     w.col_line(rows, cols, t), s.row_lanes);
  }

  static void merge(void* state, const void* other, int64_t lines) {
    T* top = static_cast<T*>(state);
    for (int64_t i = 0; i < lines; ++i) top[i] = larger(top[i], static_cast<const T*>(other)[i]);
  }

  static void finish(const Work<T>&, const Reduction&) {}
  static bool reaches(const Work<T>&, const Reduction&, const TileRange&, int64_t) { return false; }
  static void add_slope(const Work<T>&, const Reduction&, const ScoreTile<T>&, bool, const Scratch<T>&) {}
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
