// Sums of exponentials relative to their largest exponent, and how two of them become one.
#pragma once

#include <cmath>

#include "device.cuh"

namespace contrastive_ops::cuda {

// A NaN among the arguments is passed over: it enters `total`, and so stays in its line.
__device__ __forceinline__ float maximum(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double maximum(double a, double b) { return fmax(a, b); }

// A shift that keeps exp(s - shift) free of inf - inf: lines without candidates, or with an infinite score.
template <class T>
__device__ __forceinline__ T finite_or_zero(T top) {
  return fabs(top) == T(INFINITY) ? T(0) : top;
}

// sum of exp(s) over a set of scores = exp(top) * total
template <class T>
struct Statistics {
  T top, total;

  static __device__ __forceinline__ Statistics none() { return {-T(INFINITY), T(0)}; }
};

struct MergeOnline {
  template <class T>
  __device__ __forceinline__ Statistics<T> operator()(const Statistics<T>& a, const Statistics<T>& b) const {
    const T top = maximum(a.top, b.top), shift = finite_or_zero(top);
    return {top, a.total * exponential(a.top - shift) + b.total * exponential(b.top - shift)};
  }
};

struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

}  // namespace contrastive_ops::cuda
