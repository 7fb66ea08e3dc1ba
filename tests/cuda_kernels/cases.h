// Awkward shapes and relations: `fast` ones for sanitizers, and those of a full run.
#pragma once

#include <utility>
#include <vector>

#include "case.h"

namespace contrastive_ops::cuda {

// A log-sum-exp and a sum.
inline std::vector<CaseReduction> usual(std::vector<ClauseKind> of_exponentials, std::vector<ClauseKind> of_sum,
                                        bool of_rows = true, bool of_cols = true) {
  return {{ReductionKind::kLogSumExp, std::move(of_exponentials), of_rows, of_cols},
          {ReductionKind::kScoreSum, std::move(of_sum), of_rows, of_cols}};
}

// One of every kind, each with directions of its own.
inline std::vector<CaseReduction> every_kind(std::vector<ClauseKind> of_count) {
  return {{ReductionKind::kCountAbove, std::move(of_count)},
          {ReductionKind::kLogSumExp, {ClauseKind::kOffDiagonal}, false, true, 0.5},
          {ReductionKind::kScoreSum, {ClauseKind::kSame}, true, true, -2},
          {ReductionKind::kLargest, {}, true, false, 3}};
}

inline std::vector<Case> make_cases(bool full, bool aligned_only) {
  constexpr ClauseKind kDiagonal = ClauseKind::kDiagonal, kOffDiagonal = ClauseKind::kOffDiagonal,
                       kSame = ClauseKind::kSame, kDifferent = ClauseKind::kDifferent;
  std::vector<Case> cases;
  const auto add = [&](Case c) -> Case& { return cases.emplace_back(std::move(c)); };
  {
    Case& c = add({"one direction", 1, 63, 65, 32, 0, 0, 1, 1});
    c.reductions = usual({}, {kDiagonal}, true, false);
  }
  {
    Case& c = add({"batch, ids, biases", 2, 65, 129, 64, 8, 0, 1, 1});
    c.reductions = usual({kSame, kOffDiagonal}, {kSame, kDifferent});
    c.biases = true;
    c.offset = -3;
  }
  {
    Case& c = add({"self-similarity", 1, 129, 129, 16, 0, 0, 1, 1});
    c.reductions = usual({kOffDiagonal}, {kSame, kOffDiagonal});
    c.self = true;
  }
  if (!aligned_only) {  // volumes have one path
    Case& c = add({"volume", 2, 33, 65, 24, 8, 0, 1, 1});
    c.reductions = usual({kOffDiagonal}, {kDiagonal});
    c.volume_banks = 3;
    c.biases = true;
  }
  if (!aligned_only) {
    Case& c = add({"unaligned", 1, 65, 63, 33, 1, 1, 1, 1});
    c.reductions = usual({}, {kDiagonal});
    c.offset = 2;
  }
  {
    Case& c = add({"every kind", 1, 65, 63, 32, 0, 0, 1, 1});
    c.reductions = every_kind({kSame, kOffDiagonal});
    c.biases = true;
  }
  if (!aligned_only) {
    Case& c = add({"volume, every kind", 1, 33, 65, 8, 0, 0, 1, 1});
    c.reductions = every_kind({kDiagonal});
    c.volume_banks = 2;
  }
  if (!full) return cases;
  {
    Case& c = add({"every kind, stripes", 2, 130, 270, 40, 0, 0, 2, 2});
    c.reductions = every_kind({kDifferent, kOffDiagonal, kOffDiagonal, kDifferent});
    c.offset = 100;
  }
  {
    Case& c = add({"log-sum-exps", 2, 129, 140, 24, 0, 0, 1, 1});
    c.reductions = {{ReductionKind::kLogSumExp, {kOffDiagonal}},
                    {ReductionKind::kLogSumExp, {kSame}, true, false, 2},
                    {ReductionKind::kLogSumExp, {kDiagonal}, false, true},
                    {ReductionKind::kLogSumExp, {}, true, true, 0.25}};
    c.biases = true;
  }
  {
    Case& c = add({"self, a list", 1, 300, 300, 16, 0, 0, 1, 1});
    c.reductions = {{ReductionKind::kLogSumExp, {kOffDiagonal}},
                    {ReductionKind::kScoreSum, {kSame, kOffDiagonal}, true, true, 2},
                    {ReductionKind::kLogSumExp, {kDifferent}}};
    c.self = true;
  }
  {
    Case& c = add({"a list with a NaN", 1, 65, 129, 16, 0, 0, 1, 1});
    c.reductions = every_kind({kDifferent});
    c.with_nan = true;
  }
  {
    Case& c = add({"long stripes", 2, 129, 257, 200, 0, 8, 2, 3});
    c.reductions = usual({kDifferent}, {kDiagonal});
    c.offset = 100;
    c.shared_ids = true;
  }
  {
    Case& c = add({"one stripe, biases", 1, 257, 129, 8, 0, 0, 4, 4});
    c.reductions = usual({kOffDiagonal}, {kDiagonal});
    c.biases = true;
  }
  {
    Case& c = add({"self, long stripes", 2, 257, 257, 24, 0, 0, 2, 2});
    c.reductions = usual({kOffDiagonal}, {kSame, kOffDiagonal});
    c.self = c.biases = true;
  }
  {
    Case& c = add({"columns alone", 1, 129, 65, 64, 0, 0, 1, 1});
    c.reductions = usual({}, {}, false, true);
    c.reductions.pop_back();
  }
  {
    Case& c = add({"a NaN", 1, 65, 129, 16, 0, 0, 1, 1});
    c.reductions = usual({kDifferent}, {kSame});
    c.with_nan = true;
  }
  {
    Case& c = add({"outside diagonals", 1, 64, 128, 16, 0, 0, 1, 1});
    c.reductions = usual({kOffDiagonal}, {kDiagonal});
    c.offset = 128;
  }
  if (aligned_only) return cases;
  for (int banks : {1, 2, 4, 5, 6, 7}) {
    Case& c = add({"volume", 1, 65, 70, 16 + banks, banks % 2, 0, 1 + banks % 2, 1});
    c.reductions = usual({kDifferent}, {kSame}, true, banks != 5);
    if (banks == 4) c.reductions.pop_back();
    c.volume_banks = banks;
    c.absolute = banks % 2 == 0;
    c.with_nan = banks == 6;
  }
  {
    Case& c = add({"one pair", 1, 1, 1, 1, 0, 0, 1, 1});
    c.reductions = usual({}, {kDiagonal});
  }
  {
    Case& c = add({"small depth", 2, 63, 129, 7, 2, 3, 1, 2});
    c.reductions = usual({kSame}, {kDiagonal});
    c.biases = true;
    c.offset = -5;
  }
  {
    Case& c = add({"odd depth", 1, 129, 129, 65, 0, 0, 1, 1});
    c.reductions = usual({kOffDiagonal}, {kDiagonal});
  }
  return cases;
}

}  // namespace contrastive_ops::cuda
