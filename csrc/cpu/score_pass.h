// The score pass: statistics of all lines in one walk over the tiles.
#pragma once

#include <cmath>

#include "pack.h"
#include "score.h"

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

// One tile: positives' sums, one exponential an element, row and column sums from the same tile.
template <class T, class Score>
void forward_tile(const Work<T>& w, int64_t b, int64_t i, int64_t j, const Scratch<T>& s) {
  const Params& p = w.p;
  const TileRange t = w.tile(b, i, j);
  const int64_t index = w.tile_index(b, i, j);
  T ignored, *reference = p.tile_reference ? static_cast<T*>(p.tile_reference) + index : &ignored;
  T* const kept = w.kept(index);
  T* const kept_exponentials = Score::kWeightsNeedProducts ? nullptr : kept;
  T* const products = Score::kWeightsNeedProducts && kept ? kept : s.products;
  const bool is_diagonal = p.self_similarity && i == j;
  const bool wants_rows = p.rows, wants_cols = p.self_similarity ? !is_diagonal : p.columns;

  *reference = T(-__builtin_inf());
  const Coverage candidates = coverage(p.candidates, t);
  const Coverage positives = p.has_positives ? coverage(p.positives, t) : Coverage::kNone;
  if (candidates == Coverage::kNone && positives == Coverage::kNone) return;
  tile_products<T, Score>(w, t, products);
  tile_scores<T, Score>(w, t, products, s);
  if (positives != Coverage::kNone)
    sum_positives<T>(s.tile, t.rows, t.cols, TileMask<T>(p.positives, t, s.ids), w.row_line(p.row_positive, t),
                     wants_cols ? w.col_line(p.row_positive, p.col_positive, t) : nullptr, s.row_lanes);
  if (candidates == Coverage::kNone) return;
  mask_candidates(w, t, candidates, s);

  const T top = tile_max<T>(s.tile, t.rows, t.cols);
  const auto sum = kept_exponentials ? sum_exponentials<T, true> : sum_exponentials<T, false>;
  sum(s.tile, t.rows, t.cols, top, kept_exponentials, s.row_part, s.col_part, s.row_lanes);
  const bool one_reference =
      (!wants_rows || sums_are_safe(s.row_part, t.rows)) && (!wants_cols || sums_are_safe(s.col_part, t.cols));
  *reference = one_reference ? top : T(__builtin_nan(""));
  if (!one_reference) {
    sum_exponentials_by_line<T>(s.tile, t.rows, t.cols, s.row_reference, s.col_reference, s.row_part, s.col_part);
    if constexpr (!Score::kWeightsNeedProducts)
      if (kept) std::memcpy(kept, s.tile, t.rows * w.padded(t.cols) * sizeof(T));
  }
  const auto merge = [&](T* running, int64_t lines, int64_t count, const T* part, const T* by_line) {
    merge_lines<T>(running, running + lines, count, part, [&](int64_t l) { return one_reference ? top : by_line[l]; });
  };
  T* row_running = static_cast<T*>(p.row_running);
  T* col_running = static_cast<T*>(p.col_running);
  if (wants_rows) merge(w.row_line(row_running, t), p.batch * p.m, t.rows, s.row_part, s.row_reference);
  if (wants_cols)
    merge(w.col_line(row_running, col_running, t), p.batch * (p.self_similarity ? p.m : p.n), t.cols, s.col_part,
          s.col_reference);
}

// lse = reference + log(sum) of `count` lines from their running pairs
template <class T>
void finish_lines(int threads, const void* running, const double* positive, int64_t count, void* lse, void* sum) {
  constexpr int64_t kChunk = 4096;
  const T* reference = static_cast<const T*>(running);
  for_each(threads, ceil_div(count, kChunk), [&](int64_t chunk) {
    const int64_t end = (chunk + 1) * kChunk < count ? (chunk + 1) * kChunk : count;
    for (int64_t i = chunk * kChunk; i < end; ++i) {
      if (lse) static_cast<T*>(lse)[i] = T(double(reference[i]) + std::log(double(reference[count + i])));
      if (sum) static_cast<T*>(sum)[i] = T(positive[i]);
    }
  });
}

template <class T>
void start_lines(void* running, double* positive, int64_t count) {
  T* reference = static_cast<T*>(running);
  for (int64_t i = 0; i < count; ++i) reference[i] = T(-__builtin_inf()), reference[count + i] = T(0);
  if (positive) std::memset(positive, 0, count * sizeof(double));
}

template <class T, class Score>
void forward_pass(const Params& p) {
  const Work<T> w{p, Score::scratch(int(p.banks))};
  const int64_t rows = p.batch * p.m, cols = p.batch * p.n;
  if (p.row_running) start_lines<T>(p.row_running, p.row_positive, rows);
  if (p.col_running) start_lines<T>(p.col_running, p.col_positive, cols);
  pack(w);
  for_each_tile<T, forward_tile<T, Score>>(w);
  if (p.row_running) finish_lines<T>(p.threads, p.row_running, p.row_positive, rows, p.row_lse, p.row_sum);
  if (p.col_running) finish_lines<T>(p.threads, p.col_running, p.col_positive, cols, p.col_lse, p.col_sum);
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
