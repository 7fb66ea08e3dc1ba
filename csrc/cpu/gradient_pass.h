// The gradient pass: dS of a tile, the weights that the score makes of it, and the products that are asked for.
#pragma once

#include <type_traits>

#include "arena.h"
#include "operands.h"
#include "score/score.h"
#include "walk.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// Whether dK is finished by its products, each with the factor scale: where nobody asks for <K, dS^T Q> and it is there
// in the statistics type. Otherwise the factor comes in when all tiles are done.
inline bool scales_keys(const Params& p) {
  return p.dk_accumulator == p.dkeys && (!p.dscale_partial || p.dq_accumulator);
}

// dS_ij = sum_r factor_r * slope_r(factor_r * s_ij), over the reductions; then the products that it is a factor of.
template <class T, class Score>
void backward_tile(const Work<T>& w, int64_t b, int64_t i, int64_t j, Firsts firsts, const Scratch<T>& s) {
  const Params& p = w.p;
  const TileRange t = w.tile(b, i, j);
  const int64_t index = w.tile_index(b, i, j);
  bool reaches[kMaxReductions], has_slope = false, needs_scores = false;
  for (int r = 0; r < p.num_reductions; ++r) {
    reaches[r] = functions<T>(p.reductions[r].kind).reaches(w, p.reductions[r], t, index);
    has_slope |= reaches[r];
    needs_scores |= reaches[r] && changes_scores(p.reductions[r].kind);
  }
  // The first tile writes what the others add to.
  const Update to_dq = firsts.of_rows ? Update::kOverwrite : Update::kAccumulate;
  const Update to_dk = firsts.of_cols && p.first_rows ? Update::kOverwrite : Update::kAccumulate;
  T* dq = static_cast<T*>(p.dq_accumulator);
  T* dk = static_cast<T*>(p.dk_accumulator);
  if (dq) dq += (b * p.m + t.row) * p.d;
  if (dk) dk += (b * p.banks * p.n + t.col) * p.d;  // of the first bank
  if (!has_slope) {
    if (dq && to_dq == Update::kOverwrite) std::memset(dq, 0, t.rows * p.d * sizeof(T));
    for (int64_t k = 0; dk && to_dk == Update::kOverwrite && k < p.banks; ++k)
      std::memset(dk + k * p.n * p.d, 0, t.cols * p.d * sizeof(T));
    return;
  }

  T* const kept = w.kept(index);
  const Kept form = kept_form<T, Score>(w);
  const T* const products = kept && form == Kept::kProducts ? kept : s.products;
  const T* const scores = kept && form == Kept::kScores ? kept : s.tile;
  const bool makes_scores = needs_scores && (!kept || form == Kept::kProducts);
  const bool makes_products = products == s.products && (makes_scores || Score::kWeightsNeedProducts);
  const T* const keys = makes_products || p.dq_accumulator ? tile_keys<T>(w, t, s) : nullptr;
  if (makes_products) tile_products<T, Score>(w, t, keys, s.products);
  if (makes_scores) tile_scores<T, Score>(w, t, products, s.tile, s);

  // Those that change the scores come first: the gradient may lie where the scores are, and the others do not read
  // them.
  bool fresh = true;
  for (int r = p.num_reductions; r-- > 0;) {
    if (!reaches[r]) continue;
    const Reduction& reduction = p.reductions[r];
    T* const terms = form == Kept::kTerms ? kept : nullptr;
    const Coverage cover = terms ? Coverage::kSome : coverage(reduction.relation, t);
    const ScoreTile<T> tile = {t, index, cover, scores, fresh ? s.gradient : s.spare, terms};
    functions<T>(reduction.kind).add_slope(w, reduction, tile, fresh, s);
    fresh = false;
  }

  // In self-similarity a tile off the diagonal stands for its mirror image too: its columns are rows once more.
  const bool has_mirror = p.self_similarity && i != j;
  double* drow = w.row_line(p.drow_bias, t);
  double* dcol = p.self_similarity && !has_mirror ? nullptr : w.col_line(p.drow_bias, p.dcol_bias, t);
  if (drow || dcol) add_line_sums<T>(s.gradient, t.rows, t.cols, drow, dcol);
  const T* weights = Score::weights(w, t, products, s);
  if (dq) query_product<T>(weights, keys, t.rows, w.key_lines(t.cols), p.d, to_dq, dq);
  if (has_mirror && dq)
    key_product<T>(weights, w.queries(t), t.rows, t.cols, p.d, Update::kAccumulate, T(1), dq + (t.col - t.row) * p.d);
  if (dk)
    for (int64_t k = 0; k < p.banks; ++k)
      key_product<T>(weights + k * w.padded(t.cols) * t.rows, w.queries(t), t.rows, t.cols, p.d, to_dk,
                     T(scales_keys(p) ? p.scale : 1), dk + k * p.n * p.d);
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
  if (p.last_rows && !scales_keys(p)) finish(p.banks, w.col_tiles, false, p.dk_accumulator, p.dkeys, dot_keys);
  if (!dot_keys)
    Score::finish(p, p.batch * w.row_tiles, !p.first_rows);
  else if (p.last_rows)  // whose gradient of the keys is that of all panels
    Score::finish(p, p.batch * w.col_tiles, false);
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
  const int64_t rows = p.batch * p.m, others = p.stripes - 1;
  if (p.first_rows && p.dk_accumulator) advise_huge_pages(p.dk_accumulator, p.batch * p.banks * p.n * p.d * sizeof(T));
  if (p.dq_accumulator) advise_huge_pages(p.dq_accumulator, rows * p.d * sizeof(T));
  if (p.self_similarity) clear(p.threads, static_cast<T*>(p.dq_accumulator), rows * p.d);
  clear(p.threads, p.drow_bias, rows);
  clear(p.threads, p.drow_term, rows);
  if (others > 0) {
    clear(p.threads, p.drow_bias_stripes, others * rows);
    clear(p.threads, p.drow_term_stripes, others * rows);
  }
  if (p.first_rows) {
    clear(p.threads, p.dcol_bias, p.batch * p.n);
    clear(p.threads, p.dcol_term, p.batch * p.n);
  }
  for_each_tile<T, backward_tile<T, Score>>(w);
  add_stripes(p, static_cast<T*>(p.dq_accumulator), static_cast<const T*>(p.dq_stripes), rows * p.d);
  add_stripes(p, p.drow_bias, p.drow_bias_stripes, rows);
  add_stripes(p, p.drow_term, p.drow_term_stripes, rows);
  finish_gradients<T, Score>(w);
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
