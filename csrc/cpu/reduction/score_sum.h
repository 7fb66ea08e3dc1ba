// sum_i = sum_{j: (i, j) in relation} t_ij, and down the columns; t = factor * s.
//
//   slope_ij = a_i + b_j for upstream gradients a and b, 0 outside of the relation
#pragma once

#include "score_tile.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// Adds the scores inside the mask to the sums of their lines.
//   row_sum [rows], col_sum [cols]: null where not wanted; row_lanes [rows][kLanes] scratch
template <class T>
void add_scores(const T* tile, int64_t rows, int64_t cols, TileMask<T> belongs, double* row_sum, double* col_sum,
                T* row_lanes) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  for (int64_t i = 0; i < rows * L; ++i) row_lanes[i] = 0;
  for (int64_t j = 0; j < cols; j += W) {
    Vec<T> col0 = {}, col1 = {};
    const int64_t width = cols - j < W ? cols - j : W;
    for (int64_t i = 0; i < rows; ++i) {
      const T* s = tile + j * rows + i * W;
      const Vec<T> s0 = belongs(i, j) ? load<T>(s) : Vec<T>{};
      Vec<T> s1 = belongs(i, j + L) ? load<T>(s + L) : Vec<T>{};
      col0 += s0;
      col1 += s1;
      Vec<T> row = s0 + s1;
      if (width < W) {  // padding columns may look like members to the mask
        row = Vec<T>{};
        T lanes[W];
        store<T>(lanes, s0);
        store<T>(lanes + L, s1);
        for (int64_t q = 0; q < width; ++q) row[0] += lanes[q];
      }
      store<T>(row_lanes + i * L, load<T>(row_lanes + i * L) + row);
    }
    if (col_sum) {
      T lanes[W];
      store<T>(lanes, col0);
      store<T>(lanes + L, col1);
      for (int64_t q = 0; q < width; ++q) col_sum[j + q] += double(lanes[q]);
    }
  }
  if (row_sum)
    for (int64_t i = 0; i < rows; ++i) row_sum[i] += double(horizontal_sum<T>(load<T>(row_lanes + i * L)));
}

// dS_ij += factor * (a_i + b_j) inside the mask.   a [rows], b [cols], either may be null
template <class T>
void add_upstream(T* ds, int64_t rows, int64_t cols, TileMask<T> belongs, T factor, const T* a, const T* b) {
  constexpr int L = kLanes<T>;
  for_each_vector(ds, rows, cols, [&](int64_t i, int64_t j, T* x) CONTRASTIVE_LAMBDA_INLINE {
    Vec<T> add = broadcast<T>(a ? a[i] : T(0));
    if (b)
      for (int l = 0; l < L; ++l) add[l] += j + l < cols ? b[j + l] : T(0);
    store<T>(x, load<T>(x) + (belongs(i, j) ? factor * add : Vec<T>{}));
  });
}

template <class T>
struct ScoreSum {
  static constexpr int kStateBytes = sizeof(double);
  static constexpr bool kStateIsResult = false;

  // Running: sum_j s_ij in double.
  static void start(const Work<T>& w, const Reduction& r) {
    if (r.rows.result) std::memset(r.rows.running, 0, w.p.batch * w.p.m * sizeof(double));
    if (r.columns.result) std::memset(r.columns.running, 0, w.p.batch * w.p.n * sizeof(double));
  }

  static void take(const Work<T>& w, const Reduction& r, const ScoreTile<T>& tile, const Scratch<T>& s) {
    const TileRange& t = tile.range;
    double* rows = static_cast<double*>(r.rows.running);
    double* cols = static_cast<double*>(r.columns.running);
    add_scores<T>(tile.scores, t.rows, t.cols, TileMask<T>(r.relation, t, s.ids), w.row_line(rows, t),
                  w.reduces_columns(r, t) ? w.col_line(rows, cols, t) : nullptr, s.row_lanes);
  }

  static void merge(void* state, const void* other, int64_t lines) {
    for (int64_t i = 0; i < lines; ++i) static_cast<double*>(state)[i] += static_cast<const double*>(other)[i];
  }

  static void finish(const Work<T>& w, const Reduction& r) {
    const auto finish_lines = [&](const ReducedLines& lines, int64_t count) {
      if (!lines.result) return;
      for_each_piece(w.p.threads, count, [&](int64_t start, int64_t end) {
        for (int64_t i = start; i < end; ++i)
          static_cast<T*>(lines.result)[i] = T(r.factor * static_cast<const double*>(lines.running)[i]);
      });
    };
    finish_lines(r.rows, w.p.batch * w.p.m);
    finish_lines(r.columns, w.p.batch * w.p.n);
  }

  static bool reaches(const Work<T>&, const Reduction& r, const TileRange& t, int64_t) {
    return (r.rows.upstream || r.columns.upstream) && coverage(r.relation, t) != Coverage::kNone;
  }

  static void add_slope(const Work<T>& w, const Reduction& r, const ScoreTile<T>& tile, bool fresh,
                        const Scratch<T>& s) {
    const TileRange& t = tile.range;
    if (fresh) std::memset(s.gradient, 0, t.rows * w.padded(t.cols) * sizeof(T));
    const T* a = static_cast<const T*>(r.rows.upstream);
    const T* b = static_cast<const T*>(r.columns.upstream);
    add_upstream<T>(s.gradient, t.rows, t.cols, TileMask<T>(r.relation, t, s.ids), T(r.factor), w.row_line(a, t),
                    w.col_line(a, b, t));
  }
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
