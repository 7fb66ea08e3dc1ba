// s_ij = scale * beta_j * rho_ij: the volume that query i spans with the K vectors of column j.
//
//   c^s = <q_i, k_j^s>      d^r = sum_{s <= r} W_j^{rs} c^s      rho^2 = alpha_i - sum_r (d^r)^2
//
// Rounding may leave rho^2 below 0: that is 0, or its absolute value. With dS the gradient of the scores:
//
//   q = dS beta_j / rho (its sign turned where rho^2 was below 0, and 0 where rho is 0)
//   P^s = -q sum_{r >= s} W_j^{rs} d^r         dalpha_i = scale / 2 sum_j q         dbeta_j = scale sum_i dS rho
#pragma once

#include <utility>

#include "../work.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

constexpr int triangle(int banks) { return banks * (banks + 1) / 2; }

// The numbers of a tile's columns, padded with zeros.
template <class T>
struct VolumeColumns {
  const T* factor;  // beta_j times a constant
  const T* mixing;  // [K(K+1)/2] lines, line_stride apart: W_00, W_10, W_11, W_20, ...
  int64_t line_stride;

  VolumeColumns(const Work<T>& w, const TileRange& t, T constant, T* scratch)
      : factor(scratch), mixing(scratch + w.p.block_n), line_stride(w.p.block_n) {
    const auto load_line = [&](const void* lines, int64_t line, T* out) {
      const T* source = static_cast<const T*>(lines) + line * w.p.n + t.col;
      std::memcpy(out, source, t.cols * sizeof(T));
      for (int64_t j = t.cols; j < w.padded(t.cols); ++j) out[j] = T(0);
    };
    load_line(w.p.col_term, t.batch, scratch);
    for (int64_t j = 0; j < t.cols; ++j) scratch[j] *= constant;
    const int lines = triangle(int(w.p.banks));
    for (int u = 0; u < lines; ++u) load_line(w.p.mixing, t.batch * lines + u, scratch + (1 + u) * line_stride);
  }
};

// W_j of one vector of columns.
template <class T, int K>
struct Mixing {
  Vec<T> w[triangle(K)];

  Mixing(const VolumeColumns<T>& columns, int64_t j) {
    for (int u = 0; u < triangle(K); ++u) w[u] = load<T>(columns.mixing + u * columns.line_stride + j);
  }
};

// d^r, rho and the sign of rho^2 of one vector of pairs.
template <class T, int K>
struct Distance {
  Vec<T> d[K], rho;
  IVec<T> below;  // all bits set where rho^2 was below 0

  // absolute_bits: all bits set to take the absolute value, none to take 0
  CONTRASTIVE_INLINE Distance(const T* products, int64_t bank_stride, const Mixing<T, K>& mixing, T alpha,
                              Lane<T> absolute_bits) {
    Vec<T> c[K];
#pragma GCC unroll 8
    for (int s = 0; s < K; ++s) c[s] = load<T>(products + s * bank_stride);
    Vec<T> squared = broadcast<T>(alpha);
#pragma GCC unroll 8
    for (int r = 0; r < K; ++r) {
      d[r] = mixing.w[triangle(r)] * c[0];
#pragma GCC unroll 8
      for (int s = 1; s <= r; ++s) d[r] += mixing.w[triangle(r) + s] * c[s];
      squared -= d[r] * d[r];
    }
    below = squared < T(0);  // NaN is not, and stays
    const Vec<T> turned = (Vec<T>)((IVec<T>)(-squared) & absolute_bits);
    rho = sqrt<T>(below ? turned : squared);
  }
};

// scores_ij = factor_j * rho_ij.   products [K] tiles, bank_stride apart
template <class T, int K>
void volume_scores(const T* products, int64_t bank_stride, int64_t rows, int64_t cols, const T* row_term,
                   const VolumeColumns<T>& columns, Lane<T> absolute_bits, T* scores) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  for (int64_t j = 0; j < cols; j += W) {
    const Vec<T> factor[2] = {load<T>(columns.factor + j), load<T>(columns.factor + j + L)};
    const Mixing<T, K> mixing[2] = {{columns, j}, {columns, j + L}};
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = j * rows + i * W;
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const Distance<T, K> pair(products + at + h * L, bank_stride, mixing[h], row_term[i], absolute_bits);
        store<T>(scores + at + h * L, factor[h] * pair.rho);
      }
    }
  }
}

// weights^s_ij = P^s;   drow_i += sum_j q, dcol_j += sum_i dS rho, either may be null; row_lanes [rows][kLanes]
// scratch. The weights may take the place of the products.
template <class T, int K>
void volume_weights(const T* products, int64_t bank_stride, const T* ds, int64_t rows, int64_t cols, const T* row_term,
                    const VolumeColumns<T>& columns, Lane<T> absolute_bits, T* weights, double* drow, double* dcol,
                    T* row_lanes) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  for (int64_t i = 0; i < rows * L; ++i) row_lanes[i] = 0;
  for (int64_t j = 0; j < cols; j += W) {
    const Vec<T> factor[2] = {load<T>(columns.factor + j), load<T>(columns.factor + j + L)};
    const Mixing<T, K> mixing[2] = {{columns, j}, {columns, j + L}};
    Vec<T> col[2] = {};
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = j * rows + i * W;
      Vec<T> row = load<T>(row_lanes + i * L);
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const Distance<T, K> pair(products + at + h * L, bank_stride, mixing[h], row_term[i], absolute_bits);
        const Vec<T> g = load<T>(ds + at + h * L);
        col[h] += g * pair.rho;
        const Vec<T> size = g * factor[h] / pair.rho;
        const Vec<T> q = pair.rho == T(0) ? Vec<T>{} : (pair.below ? -size : size);
        row += q;
#pragma GCC unroll 8
        for (int s = 0; s < K; ++s) {
          Vec<T> sum = mixing[h].w[triangle(s) + s] * pair.d[s];
#pragma GCC unroll 8
          for (int r = s + 1; r < K; ++r) sum += mixing[h].w[triangle(r) + s] * pair.d[r];
          store<T>(weights + s * bank_stride + at + h * L, -q * sum);
        }
      }
      store<T>(row_lanes + i * L, row);
    }
    if (dcol) {
      T lanes[W];
      store<T>(lanes, col[0]);
      store<T>(lanes + L, col[1]);
      for (int64_t x = 0; x < W && j + x < cols; ++x) dcol[j + x] += double(lanes[x]);
    }
  }
  if (drow)
    for (int64_t i = 0; i < rows; ++i) drow[i] += double(horizontal_sum<T>(load<T>(row_lanes + i * L)));
}

template <class T>
struct VolumeScore {
  static constexpr bool kWeightsNeedProducts = true;
  static ScoreScratch scratch(int banks) { return {banks, 1 + triangle(banks)}; }
  static T factor(const Params&) { return T(1); }

  static void scores(const Work<T>& w, const TileRange& t, const T* products, T* scores, const Scratch<T>& s) {
    const VolumeColumns<T> columns(w, t, T(w.p.scale), s.column_lines);
    with_banks(w.p, [&](auto banks) {
      volume_scores<T, banks>(products, bank_stride(w, t), t.rows, t.cols, row_term(w, t), columns, absolute_bits(w.p),
                              scores);
    });
  }

  static const T* weights(const Work<T>& w, const TileRange& t, const T* products, const Scratch<T>& s) {
    const VolumeColumns<T> columns(w, t, T(1), s.column_lines);
    with_banks(w.p, [&](auto banks) {
      volume_weights<T, banks>(products, bank_stride(w, t), s.gradient, t.rows, t.cols, row_term(w, t), columns,
                               absolute_bits(w.p), s.products, w.row_line(w.p.drow_term, t),
                               w.col_line(w.p.drow_term, w.p.dcol_term, t), s.row_lanes);
    });
    return s.products;
  }

  // The score is linear in beta: dscale = sum_j beta_j sum_i dS rho, of which dcol_term holds the inner sums.
  static void finish(const Params& p, int64_t, bool) {
    if (p.dscale) {
      double total = 0;
      for (int64_t x = 0; x < p.batch * p.n; ++x)
        total += double(static_cast<const T*>(p.col_term)[x]) * p.dcol_term[x];
      *static_cast<T*>(p.dscale) = T(total);
    }
    if (p.drow_term)
      for (int64_t x = 0; x < p.batch * p.m; ++x) p.drow_term[x] *= p.scale / 2;
    if (p.dcol_term)
      for (int64_t x = 0; x < p.batch * p.n; ++x) p.dcol_term[x] *= p.scale;
  }

 private:
  static int64_t bank_stride(const Work<T>& w, const TileRange& t) { return w.padded(t.cols) * t.rows; }
  static const T* row_term(const Work<T>& w, const TileRange& t) {
    return w.row_line(static_cast<const T*>(w.p.row_term), t);
  }
  static Lane<T> absolute_bits(const Params& p) { return p.absolute ? ~Lane<T>(0) : Lane<T>(0); }

  // Calls body with K as a compile-time constant: d, c and the mixing live in registers.
  template <class F>
  static void with_banks(const Params& p, F body) {
    with_banks(p, body, std::make_integer_sequence<int, kMaxBanks>());
  }
  template <class F, int... k>
  static void with_banks(const Params& p, F body, std::integer_sequence<int, k...>) {
    (void)((p.banks == k + 1 && (body(std::integral_constant<int, k + 1>()), true)) || ...);
  }
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
