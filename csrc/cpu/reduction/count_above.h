// The number of pairs (i, j) of the relation with t_ij > value_i, and down the columns with t_ij > value_j; t = factor
// * s. What is not a number, on either side, counts as above. No slope.
//
// t_ij is computed as that of the largest score is, from the same tiles: a tie stays a tie.
#pragma once

#include "score_tile.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// count_i += pairs inside the mask that are not t_ij <= value_i.
//   row_values [rows], col_values [cols padded to kPanel], row_counts, col_counts: null where not wanted;
//   row_lanes [rows][kLanes] scratch
template <class T>
void count_above(const T* tile, int64_t rows, int64_t cols, TileMask<T> belongs, T factor, const T* row_values,
                 const T* col_values, int64_t* row_counts, int64_t* col_counts, Lane<T>* row_lanes) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  const auto store_lanes = [](Lane<T>* p, IVec<T> v) CONTRASTIVE_LAMBDA_INLINE { std::memcpy(p, &v, sizeof v); };
  for (int64_t i = 0; i < rows; ++i) store_lanes(row_lanes + i * L, IVec<T>{});
  for (int64_t j = 0; j < cols; j += L) {
    const T* column = tile + j / W * W * rows + j % W;
    const Vec<T> col_value = col_values ? load<T>(col_values + j) : Vec<T>{};
    const IVec<T> present = are_columns<T>(j, cols);
    IVec<T> col = {};
    for (int64_t i = 0; i < rows; ++i) {
      const Vec<T> t = factor * load<T>(column + i * W);
      const IVec<T> member = belongs(i, j) & present;
      col -= member & ~(t <= col_value);  // all bits set is -1
      if (row_values)
        store_lanes(row_lanes + i * L, load_lanes<T>(row_lanes + i * L) - (member & ~(t <= row_values[i])));
    }
    if (col_counts)
      for (int l = 0; l < L && j + l < cols; ++l) col_counts[j + l] += col[l];
  }
  if (row_counts)
    for (int64_t i = 0; i < rows; ++i)
      for (int l = 0; l < L; ++l) row_counts[i] += row_lanes[i * L + l];
}

template <class T>
struct CountAbove {
  static constexpr int kStateBytes = sizeof(int64_t);
  static constexpr bool kStateIsResult = true;

  static void start(const Work<T>& w, const Reduction& r) {
    if (r.rows.result) std::memset(r.rows.result, 0, w.p.batch * w.p.m * sizeof(int64_t));
    if (r.columns.result) std::memset(r.columns.result, 0, w.p.batch * w.p.n * sizeof(int64_t));
  }

  static void take(const Work<T>& w, const Reduction& r, const ScoreTile<T>& tile, const Scratch<T>& s) {
    const TileRange& t = tile.range;
    const T* row_values = w.row_line(static_cast<const T*>(r.rows.values), t);
    const T* col_values = w.col_line(static_cast<const T*>(r.rows.values), static_cast<const T*>(r.columns.values), t);
    if (col_values) {
      std::memcpy(s.col_part, col_values, t.cols * sizeof(T));
      std::memset(s.col_part + t.cols, 0, (w.padded(t.cols) - t.cols) * sizeof(T));
      col_values = s.col_part;
    }
    int64_t* rows = static_cast<int64_t*>(r.rows.result);
    int64_t* cols = static_cast<int64_t*>(r.columns.result);
    count_above<T>(tile.scores, t.rows, t.cols, TileMask<T>(r.relation, t, s.ids), T(r.factor), row_values, col_values,
                   w.row_line(rows, t), w.col_line(rows, cols, t), reinterpret_cast<Lane<T>*>(s.row_lanes));
  }

  static void merge(void* state, const void* other, int64_t lines) {
    for (int64_t i = 0; i < lines; ++i) static_cast<int64_t*>(state)[i] += static_cast<const int64_t*>(other)[i];
  }

  static void finish(const Work<T>&, const Reduction&) {}
  static bool reaches(const Work<T>&, const Reduction&, const TileRange&, int64_t) { return false; }
  static void add_slope(const Work<T>&, const Reduction&, const ScoreTile<T>&, bool, const Scratch<T>&) {}
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
