// Packed copies of the operands, and the way back: any strides and storage type in, statistics type inside.
#pragma once

#include "convert.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// One row's piece of a panel, zeros beyond its width.
template <class T, class S>
CONTRASTIVE_INLINE void pack_piece(const S* line, int64_t d_stride, int64_t width, T* dst) {
  constexpr int W = kPanel<T>;
  if (d_stride == 1 && width >= W) {
    for (int q = 0; q < W; ++q) dst[q] = widen<T>(line[q]);
  } else {
    for (int64_t q = 0; q < W; ++q) dst[q] = q < width ? widen<T>(line[q * d_stride]) : T(0);
  }
}

// dst[d / kPanel][lines][kPanel], of which `rows` lines and zeros up to `padded_rows` are written; the last panel is
// padded with zeros. A few rows at a time: each is read from end to end, as the hardware fetches ahead.
template <class T, class S>
void pack_rows(const S* src, int64_t row_stride, int64_t d_stride, int64_t rows, int64_t padded_rows, int64_t lines,
               int64_t d, T* dst) {
  constexpr int W = kPanel<T>;
  constexpr int64_t kRowsAtOnce = 8;
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    const int64_t end = first + kRowsAtOnce < rows ? first + kRowsAtOnce : rows;
    for (int64_t x = 0; x < d; x += W)
      for (int64_t i = first; i < end; ++i)
        pack_piece<T>(src + i * row_stride + x * d_stride, d_stride, d - x, dst + x * lines + i * W);
  }
  for (int64_t x = 0; x < d; x += W) std::memset(dst + x * lines + rows * W, 0, (padded_rows - rows) * W * sizeof(T));
}

// out[rows][d] = scale * accumulated, converted; returns sum of accumulated * operand, operand packed by pack_rows.
template <class T, class S>
double finish_gradient(const T* accumulated, const T* operand, int64_t rows, int64_t d, T scale, bool wants_dot,
                       S* out) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  double total = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const T* line = accumulated + i * d;
    if (wants_dot) {
      Vec<T> dot = {};
      T rest = 0;
      for (int64_t x = 0; x < d; x += W) {
        const T* packed = operand + x * rows + i * W;
        if (d - x >= W) {
          dot += load<T>(line + x) * load<T>(packed) + load<T>(line + x + L) * load<T>(packed + L);
        } else {
          for (int64_t q = 0; q < d - x; ++q) rest += line[x + q] * packed[q];
        }
      }
      total += double(horizontal_sum<T>(dot)) + double(rest);
    }
    if (out)
      for (int64_t x = 0; x < d; ++x) out[i * d + x] = Narrow<S, T>::from(line[x] * scale);
  }
  return total;
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
