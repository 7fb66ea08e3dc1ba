// What a run of the kernels is given, and how far its results may be from those in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../../csrc/cuda/params.h"

namespace contrastive_ops::cuda {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

struct CaseReduction {
  ReductionKind kind = ReductionKind::kLogSumExp;
  std::vector<ClauseKind> clauses = {};
  bool of_rows = true, of_cols = true;
  double factor = 0;  // 0: none

  bool has_slope() const { return kind == ReductionKind::kLogSumExp || kind == ReductionKind::kScoreSum; }
};

struct Case {
  const char* name;
  int64_t batch, m, n, d;
  int64_t gap;           // elements between the end of a line and the next
  int64_t shift;         // elements from the start of the buffer, which is aligned
  int tiles_m, tiles_n;  // of a stripe
  bool self = false;
  bool biases = false;
  std::vector<CaseReduction> reductions = {{}};
  int64_t offset = 0;       // of all diagonals
  bool shared_ids = false;  // by the batch
  bool with_nan = false;
  int volume_banks = 0;  // 0: dot products
  bool absolute = false;

  int banks() const { return std::max(volume_banks, 1); }
  bool wants_rows() const {
    return std::any_of(reductions.begin(), reductions.end(), [](const CaseReduction& r) { return r.of_rows; });
  }
};

constexpr uint64_t kNoChecksum = 14695981039346656037ull;
inline uint64_t checksum = kNoChecksum;
inline bool failed = false;

template <class T>
void add_to_checksum(const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (size_t i = 0; i < values.size() * sizeof(T); ++i) checksum = (checksum ^ bytes[i]) * 1099511628211ull;
}

// In (-1, 1), and never the same twice.
class Random {
 public:
  double next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(static_cast<int64_t>(state_)) * 0x1p-63;
  }
  int64_t below(int64_t count) { return static_cast<int64_t>((next() + 1) / 2 * static_cast<double>(count)); }

 private:
  uint64_t state_ = 2026;
};

// [B, banks, size, D] with gaps of NaN.
template <class T>
struct Embeddings {
  std::vector<T> buffer;
  std::vector<double> values;  // [B, banks, size, D]
  Side side;

  Embeddings(const Case& c, int banks, int64_t size, Random& random) {
    const int64_t stride = c.d + c.gap, lines = banks * size;
    buffer.assign(c.shift + c.batch * lines * stride, static_cast<T>(static_cast<float>(kNaN)));
    for (int64_t line = 0; line < c.batch * lines; ++line) {
      for (int64_t e = 0; e < c.d; ++e) {
        const T value = static_cast<T>(static_cast<float>(random.next()));
        buffer[c.shift + line * stride + e] = value;
        values.push_back(static_cast<double>(value));
      }
    }
    side = {buffer.data() + c.shift, size, lines * stride, stride};
  }

  void set(const Case& c, int64_t line, double value) {
    for (int64_t e = 0; e < c.d; ++e) {
      buffer[c.shift + line * (c.d + c.gap) + e] = static_cast<T>(static_cast<float>(value));
      values[line * c.d + e] = value;
    }
  }
};

// Largest error of `found` relative to the largest expected magnitude, or 1 if that is less.
template <class T>
double error_of(const std::vector<T>& found, const std::vector<double>& expected) {
  double largest = 1, error = 0;
  for (double e : expected) {
    if (std::isfinite(e)) largest = std::max(largest, std::fabs(e));
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const double f = static_cast<double>(found[i]), e = expected[i];
    const bool same = (std::isnan(f) && std::isnan(e)) || f == e;
    if (!same) error = std::max(error, std::isfinite(f) && std::isfinite(e) ? std::fabs(f - e) / largest : kInf);
  }
  return error;
}

}  // namespace contrastive_ops::cuda
