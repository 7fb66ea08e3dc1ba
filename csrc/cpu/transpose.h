// A square of vectors, turned in registers.
#pragma once

#include <utility>

#include "simd.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// Which element of the pair (a, b) of vectors lands in lane l, for the first and the second result.
// a0 b0 a1 b1 .. and the other halves, within the 16 bytes that one instruction interleaves.
template <class T, bool kSecond>
struct Interleaved {
  static constexpr int kWithin = 16 / int(sizeof(T));
  static constexpr int source(int l) {
    return l / kWithin * kWithin + kSecond * kWithin / 2 + l % kWithin / 2 + l % 2 * kLanes<T>;
  }
};
// Of every kSize lanes, the second of a and the first of b change places.
template <class T, int kSize, bool kSecond>
struct Exchanged {
  static constexpr int source(int l) { return (l & kSize ? kLanes<T> : kSize) + l - (kSecond ? 0 : kSize); }
};

template <class T, class Pattern, int... l>
CONTRASTIVE_INLINE Vec<T> shuffle(Vec<T> a, Vec<T> b, std::integer_sequence<int, l...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Pattern::source(l)...);
#else
  return __builtin_shuffle(a, b, IVec<T>{Pattern::source(l)...});
#endif
}

template <class T, int kDistance, class First, class Second>
CONTRASTIVE_INLINE void shuffle_pairs(Vec<T>* v) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<T>>();
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i & kDistance) continue;
    const Vec<T> a = v[i], b = v[i + kDistance];
    v[i] = shuffle<T, First>(a, b, lanes);
    v[i + kDistance] = shuffle<T, Second>(a, b, lanes);
  }
}
template <class T, int kDistance>
CONTRASTIVE_INLINE void interleave_pairs(Vec<T>* v) {
  shuffle_pairs<T, kDistance, Interleaved<T, false>, Interleaved<T, true>>(v);
}
template <class T, int kSize>
CONTRASTIVE_INLINE void exchange_squares(Vec<T>* v) {
  if constexpr (kSize < kLanes<T>) {
    shuffle_pairs<T, kSize, Exchanged<T, kSize, false>, Exchanged<T, kSize, true>>(v);
    exchange_squares<T, 2 * kSize>(v);
  }
}

// v[i][j] <-> v[j][i] of kLanes vectors: squares of 16 bytes a side by interleaving, then whole squares change places.
template <class T>
CONTRASTIVE_INLINE void transpose(Vec<T>* v) {
  if constexpr (sizeof(T) == 4) interleave_pairs<T, 2>(v);
  interleave_pairs<T, 1>(v);
  exchange_squares<T, 16 / int(sizeof(T))>(v);
}

// out[x][kPanel] = in[kPanel][x], x < kPanel, of which `width` lines of `in` are there and the others are zeros.
template <class T>
void transpose_panel(const T* in, int64_t width, T* out) {
  constexpr int L = kLanes<T>, W = kPanel<T>;
  for (int from = 0; from < W; from += L)
    for (int x = 0; x < W; x += L) {
      Vec<T> v[L];
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) v[l] = from + l < width ? load<T>(in + (from + l) * W + x) : Vec<T>{};
      transpose<T>(v);
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) store<T>(out + (x + l) * W + from, v[l]);
    }
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
