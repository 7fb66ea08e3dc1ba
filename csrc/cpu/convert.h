// Scalar conversions between storage types and the statistics type.
#pragma once

#include <cstring>

#include "params.h"
#include "simd.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

CONTRASTIVE_INLINE float bits_to_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
CONTRASTIVE_INLINE uint32_t float_to_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

template <class T>
CONTRASTIVE_INLINE T widen(T x) {
  return x;
}
template <class T>
CONTRASTIVE_INLINE float widen(BFloat16 x) {
  return bits_to_float(uint32_t(x.bits) << 16);
}
template <class T>
CONTRASTIVE_INLINE float widen(Float16 x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, magnitude = x.bits & 0x7fff;
  if (magnitude >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);  // inf, NaN
  // the exponent bias differs by 112; the product is exact, subnormals included
  return bits_to_float(sign | float_to_bits(bits_to_float(magnitude << 13) * 0x1p112f));
}

template <class S, class T>
struct Narrow {
  static CONTRASTIVE_INLINE S from(T x) { return x; }
};
template <>
struct Narrow<BFloat16, float> {
  static CONTRASTIVE_INLINE BFloat16 from(float x) {
    const uint32_t u = float_to_bits(x);
    if (x != x) return {uint16_t(u >> 16 | 0x40)};
    return {uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16)};  // round to nearest, ties to even
  }
};
template <>
struct Narrow<Float16, float> {
  static CONTRASTIVE_INLINE Float16 from(float x) {
    const uint32_t u = float_to_bits(x), magnitude = u & 0x7fffffff;
    const uint16_t sign = uint16_t(u >> 16 & 0x8000);
    if (magnitude > 0x7f800000) return {uint16_t(sign | 0x7e00)};
    if (magnitude >= 0x477ff000) return {uint16_t(sign | 0x7c00)};  // rounds to 65536 or more: inf
    if (magnitude < 0x38800000) {  // subnormal: adding 1/2 aligns the last bit to 2^-24, rounding to even
      return {uint16_t(sign | (float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000))};
    }
    return {uint16_t(sign | (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13)};
  }
};

// Calls body with a null pointer of the storage type.
template <class T, class F>
CONTRASTIVE_INLINE void with_storage_type(DType dtype, F body) {
  if constexpr (sizeof(T) == 8) {
    body(static_cast<const double*>(nullptr));
  } else if (dtype == DType::kFloat32) {
    body(static_cast<const float*>(nullptr));
  } else if (dtype == DType::kBFloat16) {
    body(static_cast<const BFloat16*>(nullptr));
  } else {
    body(static_cast<const Float16*>(nullptr));
  }
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
