// The score pass and its merges, against reductions of the scores in double.
#pragma once

#include <cmath>
#include <vector>

#include "problem.h"

namespace contrastive_ops::cuda {

template <class T>
class ScorePass {
  using Stat = typename Problem<T>::Stat;
  using Reduced = typename Problem<T>::Reduced;

 public:
  explicit ScorePass(Problem<T>& of) : of_(of), c_(of.c) {}

  // Leaves the results, and the products of dot products, in the problem.
  void run() {
    const TileShape tile = score_tile(of_.path, of_.dtype, c_.volume_banks > 0 ? ScoreKind::kVolume : ScoreKind::kDot);
    ReduceParams params = {of_.matrix(), {}, {}, nullptr, c_.tiles_m * tile.block_m, c_.tiles_n * tile.block_n, 0, 0,
                           c_.self};
    params.num_row_stripes = static_cast<int>((c_.m + params.row_stripe - 1) / params.row_stripe);
    params.num_col_stripes = static_cast<int>((c_.n + params.col_stripe - 1) / params.col_stripe);
    const int num_slots[2] = {params.num_col_stripes + c_.self, params.num_row_stripes};
    std::vector<Numbers> numbers[2];
    for (int side = 0; side < 2; ++side) {
      for (size_t r = 0; r < c_.reductions.size(); ++r) {
        const bool wanted = of_.is_wanted(c_.reductions[r], side) && !(c_.self && side == 1);
        numbers[side].emplace_back(c_.reductions[r].kind, wanted ? num_slots[side] * c_.batch * of_.lines(side) : 0);
        (side == 0 ? params.rows : params.cols)[r] = numbers[side][r].slots();
        if (c_.self) params.cols[r] = params.rows[r];
      }
    }
    if (c_.wants_rows() && !c_.self && c_.volume_banks == 0) {
      of_.kept.assign(of_.products.size(), Stat(kNaN));
      params.kept = of_.kept.data();
    }
    reduce_fwd(of_.path, params, of_.stream);
    if (!of_.kept.empty()) of_.compare("products", of_.kept, of_.products, of_.tolerance());
    for (int side = 0; side < 2; ++side) merge(side, num_slots[side], numbers[side]);
    for (Reduced& reduced : of_.reductions) {
      if (c_.self) reduced.results[1] = reduced.results[0];
    }
  }

  // Of every row, or of every column.
  static std::vector<double> expected(const Problem<T>& of, size_t r, int side) {
    const CaseReduction& reduction = of.c.reductions[r];
    const Reduced& made = of.reductions[r];
    std::vector<double> found;
    for (int64_t batch = 0; batch < of.c.batch; ++batch) {
      for (int64_t line = 0; line < of.lines(side); ++line) {
        std::vector<double> pairs;
        for (int64_t other = 0; other < of.lines(1 - side); ++other) {
          const int64_t i = side == 0 ? line : other, j = side == 0 ? other : line;
          if (of.holds(made.relation, batch, i, j)) pairs.push_back(of.scaled(r, of.scores[of.at(batch, i, j)]));
        }
        found.push_back(reduce(reduction.kind, pairs, double(made.compared[side][batch * of.lines(side) + line])));
      }
    }
    return found;
  }

 private:
  // What a reduction carries along the lines of one side. Unset, as memory may be.
  struct Numbers {
    ReductionKind kind;
    std::vector<Stat> of[2];
    std::vector<int64_t> counts;

    Numbers(ReductionKind k, int64_t size) : kind(k) {
      if (kind == ReductionKind::kCountAbove) {
        counts.assign(size, -1);
      } else {
        of[0].assign(size, Stat(kNaN));
        if (kind == ReductionKind::kLogSumExp) of[1] = of[0];
      }
    }

    bool wanted() const { return !of[0].empty() || !counts.empty(); }

    Slots slots() {
      if (!counts.empty()) return {counts.data(), nullptr};
      return {of[0].empty() ? nullptr : of[0].data(), of[1].empty() ? nullptr : of[1].data()};
    }
  };

  static double reduce(ReductionKind kind, const std::vector<double>& pairs, double compared) {
    double top = -kInf, total = 0, sum = 0, largest = -kInf, count = 0;
    for (double t : pairs) {
      top = std::fmax(top, t);
      sum += t;
      largest = std::isnan(t) || std::isnan(largest) ? kNaN : std::max(largest, t);
      count += !(t <= compared);
    }
    for (double t : pairs) total += std::exp(t - (std::isinf(top) ? 0 : top));
    switch (kind) {
      case ReductionKind::kLogSumExp:
        return (std::isinf(top) ? 0 : top) + std::log(total);
      case ReductionKind::kScoreSum:
        return sum;
      case ReductionKind::kLargest:
        return largest;
      case ReductionKind::kCountAbove:
        return count;
    }
    return kNaN;
  }

  void merge(int side, int num_slots, std::vector<Numbers>& numbers) {
    const int64_t size = c_.batch * of_.lines(side);
    MergeParams params = {of_.dtype, 0, {}, size, num_slots};
    for (size_t r = 0; r < numbers.size(); ++r) {
      if (!numbers[r].wanted()) continue;
      Reduced& reduced = of_.reductions[r];
      const bool counts = numbers[r].kind == ReductionKind::kCountAbove;
      if (counts) {
        reduced.counts[side].assign(size, -1);
      } else {
        reduced.results[side].assign(size, Stat(kNaN));
      }
      void* result = counts ? static_cast<void*>(reduced.counts[side].data()) : reduced.results[side].data();
      params.reductions[params.num_reductions++] = {numbers[r].kind, numbers[r].slots(), result};
    }
    if (params.num_reductions == 0) return;
    merge_slots(params, of_.stream);
    for (size_t r = 0; r < numbers.size(); ++r) {
      if (!numbers[r].wanted()) continue;
      Reduced& reduced = of_.reductions[r];
      const std::vector<double> right = expected(of_, r, side);
      if (numbers[r].kind == ReductionKind::kCountAbove) {
        of_.compare("a count", reduced.counts[side], right, 0);
      } else {
        of_.compare(side == 0 ? "a row's result" : "a column's result", reduced.results[side], right,
                    of_.tolerance() * std::max(1.0, std::fabs(c_.reductions[r].factor)));
      }
    }
  }

  Problem<T>& of_;
  const Case& c_;
};

}  // namespace contrastive_ops::cuda
