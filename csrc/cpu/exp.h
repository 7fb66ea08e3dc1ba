// e^x for vectors, to about one unit in the last place.
#pragma once

#include "simd.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T>
struct ExpConstants;

// ln 2 = kLn2High + kLn2Low; the high part has so few bits that its multiples by an exponent are exact.
template <>
struct ExpConstants<float> {
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kLowest = -87.33654f, kHighest = 88.37626f;  // -126 ln 2, just below 127.5 ln 2
  static constexpr int kMantissaBits = 23, kBias = 127;
  static constexpr int kDegree = 7;
};
template <>
struct ExpConstants<double> {
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 0.693147180369123816490, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLowest = -708.3964185322641, kHighest = 709.4361393031039;
  static constexpr int kMantissaBits = 52, kBias = 1023;
  static constexpr int kDegree = 13;
};

// 1 / k!: the Taylor coefficients of e^f on |f| <= ln(2) / 2; the first dropped term is below half an ulp
constexpr double kExpCoefficients[] = {
    1.0,        1.0,         1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,        1.0 / 720,
    1.0 / 5040, 1.0 / 40320, 1.0 / 362880., 1.0 / 3628800., 1.0 / 39916800., 1.0 / 479001600., 1.0 / 6227020800.,
};
constexpr double kLog2E = 1.44269504088896340736;

// Results below the smallest normal number are 0; above the largest power of two, +inf. NaN stays NaN.
template <class T>
CONTRASTIVE_INLINE Vec<T> exp(Vec<T> x) {
  using C = ExpConstants<T>;
  const Vec<T> shifted = x * T(kLog2E) + C::kRound;
  const Vec<T> n = shifted - C::kRound;
  const Vec<T> f = x - n * C::kLn2High - n * C::kLn2Low;
  Vec<T> p = broadcast<T>(T(kExpCoefficients[C::kDegree]));
#pragma GCC unroll 16
  for (int k = C::kDegree - 1; k >= 0; --k) p = p * f + T(kExpCoefficients[k]);
  // the low bits of `shifted` hold n; 2^n is built in the exponent field
  const IVec<T> bits = (IVec<T>)shifted + Lane<T>(C::kBias);
  Vec<T> result = p * (Vec<T>)(bits << C::kMantissaBits);
  result = x < C::kLowest ? Vec<T>{} : result;
  return x > C::kHighest ? broadcast<T>(T(__builtin_inf())) : result;
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
