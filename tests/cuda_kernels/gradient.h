// The gradient by the scores in double, and what the kernels take to make it.
#pragma once

#include <cmath>
#include <vector>

#include "problem.h"
#include "score_pass.h"

namespace contrastive_ops::cuda {

// dS_ij = sum_r factor_r slope_r(factor_r s_ij), from the results in double.
template <class T>
void fill_gradient(Problem<T>& of) {
  const Case& c = of.c;
  of.ds.assign(of.scores.size(), 0);
  for (size_t r = 0; r < c.reductions.size(); ++r) {
    const CaseReduction& reduction = c.reductions[r];
    const auto& made = of.reductions[r];
    if (!reduction.has_slope()) continue;
    const double factor = reduction.factor != 0 ? double(made.factor) : 1;
    for (int side = 0; side < 2; ++side) {
      if (!of.is_wanted(reduction, side)) continue;
      const std::vector<double> results = ScorePass<T>::expected(of, r, side);
      for (int64_t batch = 0; batch < c.batch; ++batch) {
        for (int64_t i = 0; i < c.m; ++i) {
          for (int64_t j = 0; j < c.n; ++j) {
            const int64_t line = batch * of.lines(side) + (side == 0 ? i : j), pair = of.at(batch, i, j);
            const bool holds = of.holds(made.relation, batch, i, j);
            const double upstream = factor * double(made.upstream[side][line]);
            if (reduction.kind == ReductionKind::kScoreSum) {
              if (holds) of.ds[pair] += upstream;
            } else if (results[line] != -kInf) {
              // a pair that does not belong counts 0, unless its line is NaN
              of.ds[pair] += upstream * std::exp((holds ? of.scaled(r, of.scores[pair]) : -kInf) - results[line]);
            }
          }
        }
      }
    }
  }
}

template <class T>
Matrix gradient_matrix(const Problem<T>& of) {
  Matrix matrix = of.matrix();
  matrix.unit = &of.unit;
  for (size_t r = 0; r < of.reductions.size(); ++r) {
    const auto& made = of.reductions[r];
    if (!of.c.reductions[r].has_slope()) continue;
    for (int side = 0; side < 2; ++side) {
      LineValues& values = side == 0 ? matrix.reductions[r].rows : matrix.reductions[r].cols;
      if (!of.is_wanted(of.c.reductions[r], side)) continue;
      values.result = made.results[side].data();
      values.upstream = made.upstream[side].data();
    }
  }
  return matrix;
}

}  // namespace contrastive_ops::cuda
