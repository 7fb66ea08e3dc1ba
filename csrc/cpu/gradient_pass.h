// The gradient pass: dS of a tile, the weights that the score makes of it, and the products that are asked for.
#pragma once

#include <type_traits>

#include "pack.h"
#include "score.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// s.tile = dS_ij = cand_ij (g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j)) + pos_ij (a_i + b_j)
//   source: exponentials kept by the score pass or masked scores; null where the tile has no candidates
template <class T>
void tile_gradient(const Work<T>& w, const TileRange& t, const T* source, bool holds_exponentials, T reference,
                   Coverage positives, const Scratch<T>& s) {
  const Params& p = w.p;
  const auto rows_of = [&](const void* lines) { return w.row_line(static_cast<const T*>(lines), t); };
  const auto cols_of = [&](const void* row_lines, const void* col_lines) {
    return w.col_line(static_cast<const T*>(row_lines), static_cast<const T*>(col_lines), t);
  };
  const int64_t padded_cols = w.padded(t.cols), padded_rows = ceil_div(t.rows, kLanes<T>) * kLanes<T>;
  if (!source) {
    std::memset(s.tile, 0, t.rows * padded_cols * sizeof(T));
  } else {
    const T *g = rows_of(p.d_row_lse), *h = cols_of(p.d_row_lse, p.d_col_lse);
    const T *row_lse = rows_of(p.row_lse), *col_lse = cols_of(p.row_lse, p.col_lse);
    if (reference == reference) {
      line_factors<T>(g, row_lse, t.rows, padded_rows, reference, s.row_part);
      line_factors<T>(h, col_lse, t.cols, padded_cols, reference, s.col_part);
      const auto gradient = holds_exponentials ? gradient_from_tile<T, true> : gradient_from_tile<T, false>;
      gradient(source, t.rows, t.cols, reference, s.row_part, s.col_part, s.tile);
    } else {
      line_references<T>(g, row_lse, t.rows, padded_rows, s.row_part, s.row_reference);
      line_references<T>(h, col_lse, t.cols, padded_cols, s.col_part, s.col_reference);
      gradient_by_line<T>(source, t.rows, t.cols, s.row_part, s.row_reference, s.col_part, s.col_reference, s.tile);
    }
  }
  if (positives != Coverage::kNone)
    add_positive_gradient<T>(s.tile, t.rows, t.cols, TileMask<T>(p.positives, t, s.ids), rows_of(p.d_row_sum),
                             cols_of(p.d_row_sum, p.d_col_sum));
}

template <class T, class Score>
void backward_tile(const Work<T>& w, int64_t b, int64_t i, int64_t j, const Scratch<T>& s) {
  const Params& p = w.p;
  const TileRange t = w.tile(b, i, j);
  const int64_t index = w.tile_index(b, i, j);
  const T reference = static_cast<const T*>(p.tile_reference)[index];
  const bool wants_sums = p.d_row_sum || p.d_col_sum;
  const Coverage positives = wants_sums ? coverage(p.positives, t) : Coverage::kNone;
  const bool has_candidates = reference != T(-__builtin_inf());
  if (!has_candidates && positives == Coverage::kNone) return;

  const T* const kept = w.kept(index);
  const T* const kept_exponentials = Score::kWeightsNeedProducts ? nullptr : kept;
  const T* const kept_products = Score::kWeightsNeedProducts ? kept : nullptr;
  const T* const products = kept_products ? kept_products : s.products;
  const bool needs_scores = has_candidates && !kept_exponentials;
  if (!kept_products && (needs_scores || Score::kWeightsNeedProducts)) tile_products<T, Score>(w, t, s.products);
  if (needs_scores) {
    tile_scores<T, Score>(w, t, products, s);
    mask_candidates(w, t, coverage(p.candidates, t), s);
  }
  tile_gradient(w, t,
                !has_candidates     ? nullptr
                : kept_exponentials ? kept_exponentials
                                    : s.tile,
                kept_exponentials != nullptr, reference, positives, s);

  // In self-similarity a tile off the diagonal stands for its mirror image too: its columns are rows once more.
  const bool has_mirror = p.self_similarity && i != j;
  double* drow = w.row_line(p.drow_bias, t);
  double* dcol = p.self_similarity && !has_mirror ? nullptr : w.col_line(p.drow_bias, p.dcol_bias, t);
  if (drow || dcol) add_line_sums<T>(s.tile, t.rows, t.cols, drow, dcol);
  const T* weights = Score::weights(w, t, products, s);
  T* dq = static_cast<T*>(p.dq_accumulator);
  T* dk = p.self_similarity ? (has_mirror ? dq : nullptr) : static_cast<T*>(p.dk_accumulator);
  if (dq) query_product<T>(weights, w.keys(t), t.rows, w.key_lines(t.cols), p.d, dq + (b * p.m + t.row) * p.d);
  if (dk)
    for (int64_t k = 0; k < p.banks; ++k)
      key_product<T>(weights + k * w.padded(t.cols) * t.rows, w.queries(t), t.rows, t.cols, p.d,
                     dk + ((b * p.banks + k) * p.n + t.col) * p.d);
}

// dQ = scale * accumulator in the storage type, and likewise dK; where dscale_partial is there, every block of dQ (of
// dK if there is no dQ) leaves sum_i <q_i, accumulator_i> in it.
template <class T, class Score>
void finish_gradients(const Work<T>& w) {
  const Params& p = w.p;
  const bool dot_keys = p.dscale_partial && !p.dq_accumulator;
  const auto finish = [&](int64_t banks, int64_t tiles, bool is_query, void* accumulator, void* out, bool wants_dot) {
    if (!accumulator) return;
    for_each(p.threads, p.batch * banks * tiles, [&](int64_t index) {
      const int64_t line = index / tiles, block = index % tiles, b = line / banks;  // line: [B, banks]
      const TileRange t = is_query ? w.tile(b, block, 0) : w.tile(b, 0, block);
      const int64_t rows = is_query ? t.rows : t.cols;
      const int64_t start = (is_query ? line * p.m + t.row : line * p.n + t.col) * p.d;
      // where the accumulator is the gradient, it stays in the statistics type
      with_storage_type<T>(out == accumulator ? DType::kFloat32 : p.dtype, [&](auto* storage) {
        using S = std::remove_const_t<std::remove_pointer_t<decltype(storage)>>;
        const double dot =
            finish_gradient<T, S>(static_cast<const T*>(accumulator) + start, is_query ? w.queries(t) : w.keys(t), rows,
                                  p.d, T(p.scale), wants_dot, out ? static_cast<S*>(out) + start : nullptr);
        if (wants_dot) p.dscale_partial[index] = dot;
      });
    });
  };
  finish(1, w.row_tiles, true, p.dq_accumulator, p.dqueries, p.dscale_partial && !dot_keys);
  finish(p.banks, w.col_tiles, false, p.dk_accumulator, p.dkeys, dot_keys);
  Score::finish(p, p.batch * (dot_keys ? w.col_tiles : w.row_tiles));
}

template <class T>
void clear(int threads, T* data, int64_t count) {
  constexpr int64_t kChunk = 1 << 18;
  if (!data) return;
  for_each(threads, ceil_div(count, kChunk), [&](int64_t c) {
    const int64_t start = c * kChunk, size = count - start < kChunk ? count - start : kChunk;
    std::memset(data + start, 0, size * sizeof(T));
  });
}

template <class T, class Score>
void backward_pass(const Params& p) {
  const Work<T> w{p, Score::scratch(int(p.banks))};
  clear(p.threads, static_cast<T*>(p.dq_accumulator), p.batch * p.m * p.d);
  clear(p.threads, static_cast<T*>(p.dk_accumulator), p.batch * p.banks * p.n * p.d);
  clear(p.threads, p.drow_bias, p.batch * p.m);
  clear(p.threads, p.dcol_bias, p.batch * p.n);
  clear(p.threads, p.drow_term, p.batch * p.m);
  clear(p.threads, p.dcol_term, p.batch * p.n);
  for_each_tile<T, backward_tile<T, Score>>(w);
  finish_gradients<T, Score>(w);
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
