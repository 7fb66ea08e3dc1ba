// A case with numbers in it, and its scores in double.
#pragma once

#include <cstdio>
#include <type_traits>
#include <vector>

#include "../../csrc/cuda/launch.h"
#include "case.h"

namespace contrastive_ops::cuda {

template <class T>
struct Problem {
  using Stat = std::conditional_t<std::is_same_v<T, double>, double, float>;

  // A reduction of the case with what it takes, and its results in the order rows, columns.
  struct Reduced {
    Relation relation;
    Stat factor;
    std::vector<Stat> compared[2], upstream[2], results[2];
    std::vector<int64_t> counts[2];
  };

  const Case& c;
  Path path;
  DType dtype;
  Stream stream{nullptr};
  Random random;
  Embeddings<T> rows, cols;
  std::vector<int64_t> row_ids, col_ids;
  std::vector<Stat> row_bias, col_bias;
  std::vector<Reduced> reductions;
  std::vector<Stat> kept;                        // [B, M, N], or empty
  std::vector<Stat> row_term, col_term, mixing;  // of a volume
  Stat scale = Stat(0.75), unit = Stat(8);
  std::vector<double> products;            // [B, M, N, K]
  std::vector<double> values, scores, ds;  // [B, M, N]: scores are values times scale and with biases
  double worst = 0, worst_rounded = 0;     // of results in the statistics type, and of dS in the embeddings' type

  Problem(const Case& test, Path p, DType type)
      : c(test),
        path(p),
        dtype(type),
        rows(c, 1, c.m, random),
        cols(c.self ? rows : Embeddings<T>(c, c.banks(), c.n, random)) {
    if (c.self) cols.side.data = cols.buffer.data() + c.shift;
    if (c.with_nan) rows.set(c, c.m / 2, kNaN);
    const int64_t id_batch = c.shared_ids ? 1 : c.batch;
    for (int64_t i = 0; i < id_batch * c.m; ++i) row_ids.push_back(random.below(5));
    for (int64_t j = 0; j < id_batch * c.n; ++j) col_ids.push_back(random.below(4));  // rows with id 4 match nothing
    if (c.self) col_ids = row_ids;
    if (c.biases) {
      row_bias = line(c.m);
      col_bias = c.self ? row_bias : line(c.n);
    }
    for (const CaseReduction& of : c.reductions) {
      Reduced& made = reductions.emplace_back();
      made.relation = relation(of.clauses);
      made.factor = static_cast<Stat>(of.factor);
      for (int side = 0; side < 2; ++side) {
        made.compared[side] = line(lines(side));
        made.upstream[side] = line(lines(side));
      }
    }
    if (c.volume_banks > 0) fill_terms();
    fill_scores();
  }

  // Of a side: 0 are the rows, 1 the columns.
  int64_t lines(int side) const { return side == 0 ? c.m : c.n; }
  bool is_wanted(const CaseReduction& of, int side) const { return side == 0 ? of.of_rows : of.of_cols; }

  std::vector<Stat> line(int64_t size) {
    std::vector<Stat> values;
    for (int64_t i = 0; i < c.batch * size; ++i) values.push_back(static_cast<Stat>(random.next()));
    return values;
  }

  Relation relation(const std::vector<ClauseKind>& kinds) const {
    Relation result = {};
    for (ClauseKind kind : kinds) {
      result.clauses[result.count++] = {
          kind, c.offset, row_ids.data(), col_ids.data(), c.shared_ids ? 0 : c.m, c.shared_ids ? 0 : c.n};
    }
    return result;
  }

  static bool holds(const Relation& relation, int64_t batch, int64_t i, int64_t j) {
    bool all = true;
    for (int k = 0; k < relation.count; ++k) {
      const Clause& clause = relation.clauses[k];
      const bool by_index = clause.kind == ClauseKind::kDiagonal || clause.kind == ClauseKind::kOffDiagonal;
      const bool equal = by_index ? j == i + clause.offset
                                  : clause.row_ids[batch * clause.row_batch_stride + i] ==
                                        clause.col_ids[batch * clause.col_batch_stride + j];
      all &= equal == (clause.kind == ClauseKind::kDiagonal || clause.kind == ClauseKind::kSame);
    }
    return all;
  }

  // t_ij of reduction r.
  double scaled(size_t r, double score) const {
    return reductions[r].factor != 0 ? score * double(reductions[r].factor) : score;
  }

  int64_t at(int64_t batch, int64_t i, int64_t j) const { return (batch * c.m + i) * c.n + j; }

  // The squared distances are positive but for every fifth row, and far from 0, where rounding would be all there is.
  void fill_terms() {
    for (int64_t i = 0; i < c.batch * c.m; ++i) {
      double square = 0;
      for (int64_t e = 0; e < c.d; ++e) square += std::pow(rows.values[i * c.d + e], 2);
      row_term.push_back(static_cast<Stat>(i % 5 == 4 ? -1 : square + double(c.d)));
    }
    for (int64_t j = 0; j < c.batch * c.n; ++j) col_term.push_back(static_cast<Stat>(1.5 + random.next()));
    for (int64_t k = 0; k < c.batch * c.banks() * (c.banks() + 1) / 2 * c.n; ++k) {
      mixing.push_back(static_cast<Stat>(0.3 * random.next()));
    }
  }

  double mixing_at(int64_t batch, int r, int s, int64_t j) const {
    return double(mixing[(batch * (c.banks() * (c.banks() + 1) / 2) + r * (r + 1) / 2 + s) * c.n + j]);
  }

  // d^r of a pair.
  std::vector<double> mixed(int64_t batch, int64_t j, int64_t pair) const {
    std::vector<double> found(c.banks(), 0);
    for (int r = 0; r < c.banks(); ++r) {
      for (int s = 0; s <= r; ++s) found[r] += mixing_at(batch, r, s, j) * products[pair * c.banks() + s];
    }
    return found;
  }

  // rho^2 as it is without rounding.
  double squared_distance(int64_t batch, int64_t i, int64_t j) const {
    double squared = double(row_term[batch * c.m + i]);
    for (double d : mixed(batch, j, at(batch, i, j))) squared -= d * d;
    return squared;
  }
  double distance(int64_t batch, int64_t i, int64_t j) const {
    const double squared = squared_distance(batch, i, j);
    return std::sqrt(c.absolute ? std::fabs(squared) : std::isnan(squared) ? squared : std::max(squared, 0.0));
  }

  // dscore_ij / d<q_i, k^s_j> of every bank, dscore_ij / drow_term_i, dscore_ij / dcol_term_j
  std::vector<double> score_gradient(int64_t batch, int64_t i, int64_t j) const {
    if (c.volume_banks == 0) return {1, 0, 0};
    const double rho = distance(batch, i, j), sign = squared_distance(batch, i, j) < 0 ? -1 : 1;
    const double slope = rho == 0 ? 0 : sign * double(col_term[batch * c.n + j]) / rho;
    const std::vector<double> d = mixed(batch, j, at(batch, i, j));
    std::vector<double> found(c.banks(), 0);
    for (int s = 0; s < c.banks(); ++s) {
      for (int r = s; r < c.banks(); ++r) found[s] -= slope * mixing_at(batch, r, s, j) * d[r];
    }
    found.push_back(slope / 2);
    found.push_back(rho);
    return found;
  }

  double row_value(int64_t batch, int64_t i, int64_t e) const { return rows.values[(batch * c.m + i) * c.d + e]; }
  double col_value(int64_t batch, int bank, int64_t j, int64_t e) const {
    return cols.values[((batch * c.banks() + bank) * c.n + j) * c.d + e];
  }

  void fill_scores() {
    for (int64_t batch = 0; batch < c.batch; ++batch) {
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
          for (int s = 0; s < c.banks(); ++s) {
            double product = 0;
            for (int64_t e = 0; e < c.d; ++e) product += row_value(batch, i, e) * col_value(batch, s, j, e);
            products.push_back(product);
          }
          values.push_back(c.volume_banks > 0 ? double(col_term[batch * c.n + j]) * distance(batch, i, j)
                                              : products.back());
          scores.push_back(values.back() * double(scale) + (c.biases ? double(row_bias[batch * c.m + i]) : 0) +
                           (c.biases ? double(col_bias[batch * c.n + j]) : 0));
        }
      }
    }
  }

  template <class V>
  void compare(const char* what, const std::vector<V>& found, const std::vector<double>& expected, double tolerance) {
    add_to_checksum(found);
    const double error = error_of(found, expected);
    double& largest = std::is_same_v<V, T> && sizeof(T) == 2 ? worst_rounded : worst;
    largest = std::max(largest, error);
    if (!(error <= tolerance)) {
      failed = true;
      std::printf("  FAILED %s of %s: error %.2e, allowed %.2e\n", what, c.name, error, tolerance);
    }
  }

  double tolerance() const { return std::is_same_v<T, double> ? 1e-13 : 3e-6; }

  Matrix matrix() const {
    Matrix of = {};
    of.dtype = dtype, of.batch = c.batch, of.d = c.d, of.rows = rows.side, of.cols = c.self ? rows.side : cols.side;
    of.scale = &scale;
    of.banks = c.banks(), of.bank_stride = c.volume_banks > 0 ? c.n * cols.side.row_stride : 0;
    if (c.volume_banks > 0) {
      of.score = {ScoreKind::kVolume, row_term.data(), col_term.data(), mixing.data(), c.absolute};
    }
    if (c.biases) of.row_bias = row_bias.data(), of.col_bias = col_bias.data();
    for (size_t r = 0; r < reductions.size(); ++r) {
      const Reduced& made = reductions[r];
      Reduction& reduction = of.reductions[of.num_reductions++];
      reduction = {c.reductions[r].kind, made.relation, made.factor != 0 ? &made.factor : nullptr, {}, {}};
      reduction.rows.compared = made.compared[0].data();
      reduction.cols.compared = made.compared[1].data();
    }
    return of;
  }
};

}  // namespace contrastive_ops::cuda
