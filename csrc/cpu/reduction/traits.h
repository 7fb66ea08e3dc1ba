// What the passes ask of a kind of reduction, whatever the instruction set.
#pragma once

#include "../params.h"

namespace contrastive_ops {

// Whether it works on scores that it has changed, and asks for scores again in backward; others take them as they are.
inline bool changes_scores(ReductionKind kind) { return kind == ReductionKind::kLogSumExp; }

// One alone may change the scores where they lie, and keep what it has made of them.
inline bool several_change_scores(const Params& p) {
  int count = 0;
  for (int r = 0; r < p.num_reductions; ++r) count += changes_scores(p.reductions[r].kind);
  return count > 1;
}

}  // namespace contrastive_ops
