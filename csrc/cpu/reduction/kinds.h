// The table of the kinds of reductions.
#pragma once

#include "count_above.h"
#include "largest.h"
#include "log_sum_exp.h"
#include "score_sum.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T>
struct ReductionFunctions {
  int state_bytes;
  bool state_is_result;
  void (*start)(const Work<T>&, const Reduction&);
  void (*take)(const Work<T>&, const Reduction&, const ScoreTile<T>&, const Scratch<T>&);
  void (*merge)(void* state, const void* other, int64_t lines);
  void (*finish)(const Work<T>&, const Reduction&);
  bool (*reaches)(const Work<T>&, const Reduction&, const TileRange&, int64_t index);
  void (*add_slope)(const Work<T>&, const Reduction&, const ScoreTile<T>&, bool fresh, const Scratch<T>&);
};

template <class T, class Kind>
constexpr ReductionFunctions<T> functions_of() {
  return {Kind::kStateBytes, Kind::kStateIsResult, Kind::start,   Kind::take,
          Kind::merge,       Kind::finish,         Kind::reaches, Kind::add_slope};
}

template <class T>
const ReductionFunctions<T>& functions(ReductionKind kind) {
  static constexpr ReductionFunctions<T> table[] = {
      // in the order of ReductionKind
      functions_of<T, LogSumExp<T>>(),
      functions_of<T, ScoreSum<T>>(),
      functions_of<T, Largest<T>>(),
      functions_of<T, CountAbove<T>>(),
  };
  return table[int(kind)];
}

// What tiles are merged into, of all rows; null: rows are not wanted.
template <class T>
void* row_state(const Reduction& r) {
  return functions<T>(r.kind).state_is_result || !r.rows.result ? r.rows.result : r.rows.running;
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
