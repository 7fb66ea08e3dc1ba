// The reductions that carry one number along a line: sum, largest and count, told apart at run time. They take one set
// of instructions, of which those of the kind are selected: little beside a product, and a third of the code.
#pragma once

#include "count_above.cuh"
#include "largest.cuh"
#include "score_sum.cuh"
#include "slots.cuh"

namespace contrastive_ops::cuda {

// A count of a tile is exact in every statistics type. Beyond the tile it has 64 bits.
template <class Stat>
class OneNumber {
 public:
  using State = Stat;

  __device__ __forceinline__ explicit OneNumber(ReductionKind kind) : kind_(kind) {}

  __device__ __forceinline__ Stat none() const {
    return kind_ == ReductionKind::kLargest ? Largest::none<Stat>() : ScoreSum::none<Stat>();
  }

  // Of a thread's pairs: t = score(i) where holds(i); `compared` of their line.
  template <int kCount, class Score, class Holds>
  __device__ __forceinline__ Stat of(Score score, Holds holds, Stat compared) const {
    Stat found = none();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Stat t = score(i), counted = CountAbove::of(t, compared);
      const Stat merged = (*this)(found, kind_ == ReductionKind::kCountAbove ? counted : t);
      found = holds(i) ? merged : found;
    }
    return found;
  }

  // Merges.
  __device__ __forceinline__ Stat operator()(Stat a, Stat b) const {
    return kind_ == ReductionKind::kLargest ? Largest::merge(a, b) : ScoreSum::merge(a, b);
  }

  __device__ __forceinline__ void merge_into(const Slots& slots, int64_t i, bool starts, Stat found) const {
    if (kind_ == ReductionKind::kCountAbove) {
      int64_t& count = slot<int64_t>(slots, 0)[i];
      count = static_cast<int64_t>(found) + (starts ? 0 : count);
    } else {
      Stat& number = slot<Stat>(slots, 0)[i];
      number = starts ? found : (*this)(number, found);
    }
  }

 private:
  ReductionKind kind_;
};

}  // namespace contrastive_ops::cuda
