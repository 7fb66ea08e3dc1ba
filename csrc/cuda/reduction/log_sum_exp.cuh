// log sum_j exp(t_ij), from a sum of exponentials relative to their largest exponent:
//
//   exp(top) * total = sum of exp(t) over the pairs seen      result = top + log(total)
//   slope            = upstream_i exp(t_ij - result_i)
#pragma once

#include <cmath>

#include "../line_reduction.cuh"
#include "slots.cuh"

namespace contrastive_ops::cuda {

// A NaN among the arguments is passed over: it enters `total`, and so stays in its line.
__device__ __forceinline__ float maximum(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double maximum(double a, double b) { return fmax(a, b); }

// A shift that keeps exp(t - shift) free of inf - inf: lines without pairs, or with an infinite score.
template <class T>
__device__ __forceinline__ T finite_or_zero(T top) {
  return fabs(top) == T(INFINITY) ? T(0) : top;
}

template <class T>
struct ExpSum {
  T top, total;

  static __device__ __forceinline__ ExpSum none() { return {-T(INFINITY), T(0)}; }
};

template <class T>
__device__ __forceinline__ ExpSum<T> shuffle_xor(const ExpSum<T>& value, int lane_mask) {
  return {shuffle_xor(value.top, lane_mask), shuffle_xor(value.total, lane_mask)};
}

// Member by member: choosing between two structs would put both into memory.
template <class T>
__device__ __forceinline__ ExpSum<T> choose(bool first, const ExpSum<T>& a, const ExpSum<T>& b) {
  return {first ? a.top : b.top, first ? a.total : b.total};
}

struct MergeExpSums {
  template <class T>
  __device__ __forceinline__ ExpSum<T> operator()(const ExpSum<T>& a, const ExpSum<T>& b) const {
    const T top = maximum(a.top, b.top), shift = finite_or_zero(top);
    return {top, a.total * exponential(a.top - shift) + b.total * exponential(b.top - shift)};
  }
};

template <class Stat>
struct LogSumExp {
  using State = ExpSum<Stat>;

  // Of a thread's pairs: t = score(i) where holds(i).
  template <int kCount, class Score, class Holds>
  __device__ __forceinline__ State of(Score score, Holds holds, Stat /*compared*/) const {
    const auto t = [&](int i) { return holds(i) ? score(i) : -Stat(INFINITY); };
    Stat top = t(0), total = Stat(0);
#pragma unroll
    for (int i = 1; i < kCount; ++i) top = maximum(top, t(i));
    const Stat shift = finite_or_zero(top);
#pragma unroll
    for (int i = 0; i < kCount; ++i) total += exponential(t(i) - shift);
    return {top, total};
  }

  // Merges.
  __device__ __forceinline__ State operator()(const State& a, const State& b) const { return MergeExpSums{}(a, b); }

  __device__ __forceinline__ void merge_into(const Slots& slots, int64_t i, bool starts, const State& found) const {
    store(slots, i, starts ? found : MergeExpSums{}(load(slots, i), found));
  }

  static __device__ __forceinline__ State load(const Slots& slots, int64_t i) {
    return {slot<Stat>(slots, 0)[i], slot<Stat>(slots, 1)[i]};
  }
  static __device__ __forceinline__ void store(const Slots& slots, int64_t i, const State& state) {
    slot<Stat>(slots, 0)[i] = state.top;
    slot<Stat>(slots, 1)[i] = state.total;
  }

  static __device__ __forceinline__ Stat finish(const State& state) {
    return finite_or_zero(state.top) + logarithm(state.total);
  }

  // What `slope` takes for the result of a line without pairs: +inf, with which exp(t - result) is 0, as the gradient
  // must be.
  static __device__ __forceinline__ Stat for_slope(Stat result) {
    return result == -Stat(INFINITY) ? Stat(INFINITY) : result;
  }
  static __device__ __forceinline__ Stat slope(Stat t, Stat result, Stat upstream) {
    return upstream * exponential(t - result);
  }
};

}  // namespace contrastive_ops::cuda
