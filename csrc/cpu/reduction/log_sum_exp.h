// lse_i = log sum_{j: (i, j) in relation} exp(t_ij), and down the columns; t = factor * s. -inf for a line without
// pairs.
//
//   slope_ij = g_i exp(t_ij - lse_i) + h_j exp(t_ij - lse_j) for upstream gradients g and h, 0 outside of the relation
//
// With t^ the largest score of a tile, one exponential e_ij = exp(t_ij - t^) serves both sums and
//   slope_ij = e_ij (a_i + b_j),  a_i = g_i exp(t^ - lse_i),  b_j = h_j exp(t^ - lse_j)
// These e are the terms that a tile may keep for backward.
#pragma once

#include <cmath>

#include "exponential_sweeps.h"
#include "score_tile.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T>
struct LogSumExp {
  static constexpr int kStateBytes = 2 * sizeof(T);
  static constexpr bool kStateIsResult = false;

  // Running: (reference, sum) of each line, first all references, then all sums. Tile references: t^, -inf where the
  // tile has no pairs, NaN where every line has a reference of its own; then the terms that it keeps are scores.
  static void start(const Work<T>& w, const Reduction& r) {
    const auto fill = [](void* out, int64_t count, T value) {
      for (int64_t i = 0; i < count; ++i) static_cast<T*>(out)[i] = value;
    };
    const auto start_lines = [&](const ReducedLines& lines, int64_t count) {
      if (!lines.result) return;
      fill(lines.running, count, T(-__builtin_inf()));
      fill(static_cast<T*>(lines.running) + count, count, T(0));
    };
    start_lines(r.rows, w.p.batch * w.p.m);
    start_lines(r.columns, w.p.batch * w.p.n);
    fill(r.tile_reference, w.tiles(), T(-__builtin_inf()));
  }

  static void take(const Work<T>& w, const Reduction& r, const ScoreTile<T>& tile, const Scratch<T>& s) {
    const TileRange& t = tile.range;
    const bool wants_rows = r.rows.result, wants_cols = w.reduces_columns(r, t);
    own_scores(r, tile, s);
    const T top = tile_max<T>(tile.own, t.rows, t.cols);
    const auto sum = tile.terms ? sum_exponentials<T, true> : sum_exponentials<T, false>;
    sum(tile.own, t.rows, t.cols, top, tile.terms, s.row_part, s.col_part, s.row_lanes);
    const bool one_reference =
        (!wants_rows || sums_are_safe(s.row_part, t.rows)) && (!wants_cols || sums_are_safe(s.col_part, t.cols));
    static_cast<T*>(r.tile_reference)[tile.index] = one_reference ? top : T(__builtin_nan(""));
    if (!one_reference) {
      sum_exponentials_by_line<T>(tile.own, t.rows, t.cols, s.row_reference, s.col_reference, s.row_part, s.col_part);
      if (tile.terms) std::memcpy(tile.terms, tile.own, t.rows * w.padded(t.cols) * sizeof(T));
    }
    const auto merge = [&](T* running, int64_t lines, int64_t count, const T* part, const T* by_line) {
      merge_lines<T>(running, running + lines, count, part,
                     [&](int64_t l) { return one_reference ? top : by_line[l]; });
    };
    T* rows = static_cast<T*>(r.rows.running);
    T* cols = static_cast<T*>(r.columns.running);
    if (wants_rows) merge(w.row_line(rows, t), w.p.batch * w.p.m, t.rows, s.row_part, s.row_reference);
    if (wants_cols)
      merge(w.col_line(rows, cols, t), w.p.batch * (w.p.self_similarity ? w.p.m : w.p.n), t.cols, s.col_part,
            s.col_reference);
  }

  static void merge(void* state, const void* other, int64_t lines) {
    T* reference = static_cast<T*>(state);
    const T* from = static_cast<const T*>(other);
    merge_lines<T>(reference, reference + lines, lines, from + lines, [&](int64_t l) { return from[l]; });
  }

  // lse = reference + log(sum)
  static void finish(const Work<T>& w, const Reduction& r) {
    const auto finish_lines = [&](const ReducedLines& lines, int64_t count) {
      if (!lines.result) return;
      const T* reference = static_cast<const T*>(lines.running);
      for_each_piece(w.p.threads, count, [&](int64_t start, int64_t end) {
        for (int64_t i = start; i < end; ++i)
          static_cast<T*>(lines.result)[i] = T(double(reference[i]) + std::log(double(reference[count + i])));
      });
    };
    finish_lines(r.rows, w.p.batch * w.p.m);
    finish_lines(r.columns, w.p.batch * w.p.n);
  }

  static bool reaches(const Work<T>&, const Reduction& r, const TileRange&, int64_t index) {
    return (r.rows.upstream || r.columns.upstream) &&
           static_cast<const T*>(r.tile_reference)[index] != T(-__builtin_inf());
  }

  static void add_slope(const Work<T>& w, const Reduction& r, const ScoreTile<T>& tile, bool fresh,
                        const Scratch<T>& s) {
    const TileRange& t = tile.range;
    const T reference = static_cast<const T*>(r.tile_reference)[tile.index], factor = T(r.factor);
    if (!tile.terms) own_scores(r, tile, s);
    const T* source = tile.terms ? tile.terms : tile.own;
    T* slope = fresh ? s.gradient : tile.own;
    const auto rows_of = [&](const void* rows) { return w.row_line(static_cast<const T*>(rows), t); };
    const auto cols_of = [&](const void* rows, const void* cols) {
      return w.col_line(static_cast<const T*>(rows), static_cast<const T*>(cols), t);
    };
    const T *g = rows_of(r.rows.upstream), *h = cols_of(r.rows.upstream, r.columns.upstream);
    const T *row_lse = rows_of(r.rows.result), *col_lse = cols_of(r.rows.result, r.columns.result);
    const int64_t padded_cols = w.padded(t.cols), padded_rows = ceil_div(t.rows, kLanes<T>) * kLanes<T>;
    if (reference == reference) {
      line_factors<T>(g, row_lse, t.rows, padded_rows, factor, reference, s.row_part);
      line_factors<T>(h, col_lse, t.cols, padded_cols, factor, reference, s.col_part);
      const auto gradient = tile.terms ? gradient_from_tile<T, true> : gradient_from_tile<T, false>;
      gradient(source, t.rows, t.cols, reference, s.row_part, s.col_part, slope);
    } else {
      line_references<T>(g, row_lse, t.rows, padded_rows, factor, s.row_part, s.row_reference);
      line_references<T>(h, col_lse, t.cols, padded_cols, factor, s.col_part, s.col_reference);
      gradient_by_line<T>(source, t.rows, t.cols, s.row_part, s.row_reference, s.col_part, s.col_reference, slope);
    }
    if (!fresh) add_tile<T>(s.gradient, slope, t.rows, t.cols);
  }

 private:
  // tile.own = t_ij of the relation's pairs, -inf elsewhere and in the padding
  static void own_scores(const Reduction& r, const ScoreTile<T>& tile, const Scratch<T>& s) {
    const TileRange& t = tile.range;
    if (tile.coverage != Coverage::kAll || r.factor != 1 || tile.own != tile.scores)
      mask_scores<T>(tile.scores, t.rows, t.cols, TileMask<T>(r.relation, t, s.ids), T(r.factor), tile.own);
    mask_padding<T>(tile.own, t.rows, t.cols);
  }
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
