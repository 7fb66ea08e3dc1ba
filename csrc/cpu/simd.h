// Width-generic vectors: compiler vector extensions, so that one source serves every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

// The build compiles this source once per instruction set into a namespace of that name.
#ifndef CONTRASTIVE_ISA
#error "CONTRASTIVE_ISA must name the instruction set"
#endif
#ifndef CONTRASTIVE_VECTOR_BYTES  // tests widen it beyond the registers, and the compiler lowers it
#if defined(__AVX512F__)
#define CONTRASTIVE_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define CONTRASTIVE_VECTOR_BYTES 32
#else
#define CONTRASTIVE_VECTOR_BYTES 16
#endif
#endif

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T>
struct Simd;

template <>
struct Simd<float> {
  static constexpr int kLanes = CONTRASTIVE_VECTOR_BYTES / 4;
  using Int = int32_t;
  typedef float Vec __attribute__((vector_size(CONTRASTIVE_VECTOR_BYTES)));
  typedef int32_t IVec __attribute__((vector_size(CONTRASTIVE_VECTOR_BYTES)));
};

template <>
struct Simd<double> {
  static constexpr int kLanes = CONTRASTIVE_VECTOR_BYTES / 8;
  using Int = int64_t;
  typedef double Vec __attribute__((vector_size(CONTRASTIVE_VECTOR_BYTES)));
  typedef int64_t IVec __attribute__((vector_size(CONTRASTIVE_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Simd<T>::Vec;
template <class T>
using IVec = typename Simd<T>::IVec;
template <class T>
using Lane = typename Simd<T>::Int;

template <class T>
constexpr int kLanes = Simd<T>::kLanes;
// A panel is two vectors wide: the unit of every packed layout and of the micro-kernels.
template <class T>
constexpr int kPanel = 2 * kLanes<T>;

#define CONTRASTIVE_INLINE inline __attribute__((always_inline))
#define CONTRASTIVE_LAMBDA_INLINE __attribute__((always_inline))

template <class T>
CONTRASTIVE_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
CONTRASTIVE_INLINE IVec<T> load_lanes(const Lane<T>* p) {
  IVec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
CONTRASTIVE_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}
template <class T>
CONTRASTIVE_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // exact for every x, -0 and NaN included; compiles to one broadcast
}
template <class T>
CONTRASTIVE_INLINE Vec<T> sqrt(Vec<T> v) {
  for (int l = 0; l < kLanes<T>; ++l) v[l] = __builtin_sqrt(v[l]);
  return v;
}
template <class T>
CONTRASTIVE_INLINE IVec<T> iota() {
  IVec<T> v = {};
  for (int l = 0; l < kLanes<T>; ++l) v[l] = l;
  return v;
}
// Fixed order: pairs at half the distance, so a sum does not depend on how it was reached.
template <class T>
CONTRASTIVE_INLINE T horizontal_sum(Vec<T> v) {
  T lanes[kLanes<T>];
  store<T>(lanes, v);
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}
// NaN is passed over: a NaN belongs to its own row and column, not to the reference of the tile.
template <class T>
CONTRASTIVE_INLINE Vec<T> max_ignoring_nan(Vec<T> top, Vec<T> x) {
  return x > top ? x : top;
}
template <class T>
CONTRASTIVE_INLINE T horizontal_max(Vec<T> v) {
  T top = v[0];
  for (int l = 1; l < kLanes<T>; ++l) top = v[l] > top ? v[l] : top;
  return top;
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
