// Nearly every pass has one log-sum-exp and at most one sum, both of the scores as they are. Kernels of their own keep
// those in registers; any other list takes the kernels of a list.
#pragma once

#include "../params.h"

namespace contrastive_ops::cuda {

constexpr int kUsualLogSumExp = 0, kUsualSum = 1, kNumUsual = 2;  // their places among the reductions

// Where the usual reductions are in a list that has nothing else.
struct UsualPlaces {
  static constexpr int kNone = -1;
  int of[kNumUsual] = {kNone, kNone};
  bool found = true;

  explicit UsualPlaces(const Matrix& matrix) {
    for (int r = 0; r < matrix.num_reductions; ++r) {
      const Reduction& reduction = matrix.reductions[r];
      int& place = of[reduction.kind == ReductionKind::kScoreSum ? kUsualSum : kUsualLogSumExp];
      found &= has_slope(reduction.kind) && !reduction.factor && place == kNone;
      place = r;
    }
    found &= of[kUsualLogSumExp] != kNone;
  }

  static bool has_slope(ReductionKind kind) {
    return kind == ReductionKind::kScoreSum || kind == ReductionKind::kLogSumExp;
  }
};

// The matrix with the reductions of these places; where there is no sum, with one that takes and gives nothing.
inline Matrix with_usual(const Matrix& matrix, const UsualPlaces& places) {
  Matrix usual = matrix;
  usual.num_reductions = kNumUsual;
  for (int i = 0; i < kNumUsual; ++i) {
    const bool is_there = places.of[i] != UsualPlaces::kNone;
    usual.reductions[i] = is_there ? matrix.reductions[places.of[i]] : Reduction{};
    if (!is_there) usual.reductions[i].kind = ReductionKind::kScoreSum;
  }
  return usual;
}

// Whether the reductions are the usual ones, in their places.
inline bool is_usual(const Matrix& matrix) {
  const UsualPlaces places(matrix);
  return places.found && places.of[kUsualLogSumExp] == kUsualLogSumExp && places.of[kUsualSum] == kUsualSum;
}

// The same work with usual reductions in their places, if it has no others.
inline ReduceParams arranged(const ReduceParams& params) {
  const UsualPlaces places(params.matrix);
  if (!places.found) return params;
  ReduceParams usual = params;
  usual.matrix = with_usual(params.matrix, places);
  for (int i = 0; i < kNumUsual; ++i) {
    const bool is_there = places.of[i] != UsualPlaces::kNone;
    usual.rows[i] = is_there ? params.rows[places.of[i]] : Slots{};
    usual.cols[i] = is_there ? params.cols[places.of[i]] : Slots{};
  }
  return usual;
}

// Likewise of a gradient pass, without the reductions that have no slope.
inline Matrix arranged(const Matrix& matrix) {
  Matrix sloped = matrix;
  sloped.num_reductions = 0;
  for (int r = 0; r < matrix.num_reductions; ++r) {
    const Reduction& reduction = matrix.reductions[r];
    if (UsualPlaces::has_slope(reduction.kind)) sloped.reductions[sloped.num_reductions++] = reduction;
  }
  const UsualPlaces places(sloped);
  return places.found ? with_usual(sloped, places) : sloped;
}

}  // namespace contrastive_ops::cuda
