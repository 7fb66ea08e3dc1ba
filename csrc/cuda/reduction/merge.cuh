// What a line is reduced to, from its numbers over parts of it.
#pragma once

#include "count_above.cuh"
#include "largest.cuh"
#include "log_sum_exp.cuh"
#include "score_sum.cuh"
#include "slots.cuh"

namespace contrastive_ops::cuda {

template <class Stat>
__device__ __forceinline__ void merge_exp_sums(const MergedReduction& of, const MergeParams& params, int64_t line) {
  ExpSum<Stat> found = ExpSum<Stat>::none();
  for (int slot = 0; slot < params.num_slots; ++slot) {
    found = MergeExpSums{}(found, LogSumExp<Stat>::load(of.slots, slot * params.size + line));
  }
  static_cast<Stat*>(of.result)[line] = LogSumExp<Stat>::finish(found);
}

template <class Reduced, class T>
__device__ __forceinline__ void merge_numbers(const MergedReduction& of, const MergeParams& params, int64_t line) {
  const T* numbers = slot<T>(of.slots, 0) + line;
  T found = Reduced::template none<T>();
  for (int slot = 0; slot < params.num_slots; ++slot) found = Reduced::merge(found, numbers[slot * params.size]);
  static_cast<T*>(of.result)[line] = found;
}

// In the order of the slots.
template <class Stat>
__device__ __forceinline__ void merge_line(const MergedReduction& of, const MergeParams& params, int64_t line) {
  switch (of.kind) {
    case ReductionKind::kLogSumExp:
      return merge_exp_sums<Stat>(of, params, line);
    case ReductionKind::kScoreSum:
      return merge_numbers<ScoreSum, Stat>(of, params, line);
    case ReductionKind::kLargest:
      return merge_numbers<Largest, Stat>(of, params, line);
    case ReductionKind::kCountAbove:
      return merge_numbers<CountAbove, int64_t>(of, params, line);
  }
}

}  // namespace contrastive_ops::cuda
