// The three products of a tile. One tile layout, [panel of columns][row][kPanel], serves all of them:
// the score product writes it, dS K reads it by rows and dS^T Q reads it by columns. A tile is never transposed.
#pragma once

#include "transpose.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// Rows of a micro-kernel: 12 or 24 accumulators, two B vectors and a broadcast fill 16 or 32 registers.
constexpr int kMicroRows = CONTRASTIVE_VECTOR_BYTES == 64 ? 12 : 6;
// Depth of a score update: a panel of this depth stays in the first-level cache.
constexpr int kDepthBlock = 256;

enum class Update { kAccumulate, kOverwrite };

// c[r][0..kPanel) (+)= alpha * sum_k a(r, k) * b[k][0..kPanel)
//   kByRows:  a(r, k) = a[(k / kPanel) * a_panel_stride + r * kPanel + k % kPanel]
//   else:     a(r, k) = a[k * kPanel + r]
template <class T, int kRows, bool kByRows>
void micro_kernel(const T* __restrict a, int64_t a_panel_stride, const T* __restrict b, int64_t depth, T* __restrict c,
                  int64_t ldc, Update update, T alpha) {
  constexpr int L = kLanes<T>, W = kPanel<T>;
  if (update == Update::kAccumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      __builtin_prefetch(c + r * ldc, 1);
      if constexpr (W * sizeof(T) > 64) __builtin_prefetch(c + r * ldc + L, 1);
    }
  }
  Vec<T> acc[kRows][2] = {};
  const auto step = [&](const T* a_k, int64_t a_row_stride) CONTRASTIVE_LAMBDA_INLINE {
    const Vec<T> b0 = load<T>(b), b1 = load<T>(b + L);
    b += W;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> x = broadcast<T>(a_k[r * a_row_stride]);
      acc[r][0] += x * b0;
      acc[r][1] += x * b1;
    }
  };
  if constexpr (kByRows) {
    int64_t k = 0;
    for (; k + W <= depth; k += W, a += a_panel_stride) {
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) step(a + q, W);
    }
    for (int64_t q = 0; k < depth; ++k, ++q) step(a + q, W);
  } else {
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; ++k) step(a + k * W, 1);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    T* out = c + r * ldc;
    Vec<T> v0 = acc[r][0] * alpha, v1 = acc[r][1] * alpha;
    if (update == Update::kAccumulate) {
      v0 += load<T>(out);
      v1 += load<T>(out + L);
    }
    store<T>(out, v0);
    store<T>(out + L, v1);
  }
}

template <class T>
using MicroKernel = void (*)(const T*, int64_t, const T*, int64_t, T*, int64_t, Update, T);

template <class T, bool kByRows>
CONTRASTIVE_INLINE MicroKernel<T> micro_kernel_for(int64_t rows) {
  static constexpr MicroKernel<T> table[] = {
      nullptr,
      micro_kernel<T, 1, kByRows>,
      micro_kernel<T, 2, kByRows>,
      micro_kernel<T, 3, kByRows>,
      micro_kernel<T, 4, kByRows>,
      micro_kernel<T, 5, kByRows>,
      micro_kernel<T, 6, kByRows>,
#if CONTRASTIVE_VECTOR_BYTES == 64
      micro_kernel<T, 7, kByRows>,
      micro_kernel<T, 8, kByRows>,
      micro_kernel<T, 9, kByRows>,
      micro_kernel<T, 10, kByRows>,
      micro_kernel<T, 11, kByRows>,
      micro_kernel<T, 12, kByRows>,
#endif
  };
  static_assert(sizeof table / sizeof *table == kMicroRows + 1);
  return table[rows];
}

// Calls part(start, count) over [0, total) in pieces of nearly equal size, none above kMicroRows: 16 = 6 + 5 + 5.
template <class F>
CONTRASTIVE_INLINE void for_micro_rows(int64_t total, F part) {
  const int64_t pieces = (total + kMicroRows - 1) / kMicroRows, least = total / pieces, larger = total % pieces;
  for (int64_t p = 0, start = 0; p < pieces; ++p) {
    const int64_t count = least + (p < larger);
    part(start, count);
    start += count;
  }
}

// Brings the next panel near, a few lines of kPanel elements with every row of the present one.
struct Prefetch {
  int64_t lines, lines_a_row;

  Prefetch(int64_t lines, int64_t rows) : lines(lines), lines_a_row((lines + rows - 1) / rows) {}

  // line(l): where line l begins
  template <class T, class Line>
  CONTRASTIVE_INLINE void with_rows(int64_t start, int64_t count, Line line) const {
    const int64_t end = (start + count) * lines_a_row < lines ? (start + count) * lines_a_row : lines;
    for (int64_t l = start * lines_a_row; l < end; ++l) {
      __builtin_prefetch(line(l));
      if constexpr (kPanel<T> * sizeof(T) > 64) __builtin_prefetch(line(l) + kLanes<T>);
    }
  }
};

// tile[col panel][row][kPanel] = alpha * Q K^T.
//   q [d / kPanel][rows][kPanel] packed queries, k [d / kPanel][cols][kPanel] packed keys
template <class T>
void score_product(const T* q, const T* k, int64_t rows, int64_t cols, int64_t d, T alpha, T* tile) {
  constexpr int W = kPanel<T>;
  alignas(64) T k_t[kDepthBlock * W];  // of a panel of keys, turned once for all rows, and in the first-level cache
  for (int64_t depth_start = 0; depth_start < d; depth_start += kDepthBlock) {
    const int64_t depth = d - depth_start < kDepthBlock ? d - depth_start : kDepthBlock;
    const Update update = depth_start ? Update::kAccumulate : Update::kOverwrite;
    const T* a = q + depth_start * rows;  // kDepthBlock is a multiple of every panel
    for (int64_t j = 0; j < cols; j += W) {
      for (int64_t x = 0; x < depth; x += W)
        transpose_panel<T>(k + (depth_start + x) * cols + j * W, cols - j, k_t + x * W);
      T* c = tile + j * rows;
      const T* next = k + depth_start * cols + (j + W) * W;
      const Prefetch prefetch(j + W < cols ? depth : 0, rows);
      for_micro_rows(rows, [&](int64_t i, int64_t count) CONTRASTIVE_LAMBDA_INLINE {
        prefetch.with_rows<T>(i, count, [&](int64_t l) { return next + (l / W * cols + l % W) * W; });
        micro_kernel_for<T, true>(count)(a + i * W, rows * W, k_t, depth, c + i * W, W, update, alpha);
      });
    }
  }
}

// Runs a micro-kernel on a piece of a row-major matrix whose last panel may be narrower than kPanel.
template <class T>
CONTRASTIVE_INLINE void update_rows(MicroKernel<T> kernel, const T* a, int64_t a_panel_stride, const T* b,
                                    int64_t depth, T* c, int64_t ldc, int64_t count, int64_t width, Update update,
                                    T alpha) {
  constexpr int W = kPanel<T>;
  if (width == W) {
    kernel(a, a_panel_stride, b, depth, c, ldc, update, alpha);
    return;
  }
  T edge[kMicroRows * W];
  kernel(a, a_panel_stride, b, depth, edge, W, Update::kOverwrite, alpha);
  for (int64_t r = 0; r < count; ++r)
    for (int64_t x = 0; x < width; ++x)
      c[r * ldc + x] = edge[r * W + x] + (update == Update::kAccumulate ? c[r * ldc + x] : T(0));
}

// dq[row][0..d) (+)= dS K.   tile [col panel][rows][kPanel], k [d / kPanel][cols][kPanel] packed keys
template <class T>
void query_product(const T* tile, const T* k, int64_t rows, int64_t cols, int64_t d, Update update, T* dq) {
  constexpr int W = kPanel<T>;
  for (int64_t x = 0; x < d; x += W) {
    const T* b = k + x * cols;
    const int64_t width = d - x < W ? d - x : W;
    const Prefetch prefetch(x + W < d ? cols : 0, rows);
    for_micro_rows(rows, [&](int64_t i, int64_t count) CONTRASTIVE_LAMBDA_INLINE {
      prefetch.with_rows<T>(i, count, [&](int64_t l) { return b + (cols + l) * W; });
      update_rows<T>(micro_kernel_for<T, true>(count), tile + i * W, rows * W, b, cols, dq + i * d + x, d, count, width,
                     update, T(1));
    });
  }
}

// dk[col][0..d) (+)= alpha * dS^T Q.   tile [col panel][rows][kPanel], q [d / kPanel][rows][kPanel] packed queries
template <class T>
void key_product(const T* tile, const T* q, int64_t rows, int64_t cols, int64_t d, Update update, T alpha, T* dk) {
  constexpr int W = kPanel<T>;
  for (int64_t x = 0; x < d; x += W) {
    const T* b = q + x * rows;
    const int64_t width = d - x < W ? d - x : W;
    const Prefetch prefetch(x + W < d ? rows : 0, cols);
    for (int64_t j = 0; j < cols; j += W) {
      const T* panel = tile + j * rows;
      for_micro_rows(cols - j < W ? cols - j : W, [&](int64_t r, int64_t count) CONTRASTIVE_LAMBDA_INLINE {
        prefetch.with_rows<T>(j + r, count, [&](int64_t l) { return b + (rows + l) * W; });
        update_rows<T>(micro_kernel_for<T, false>(count), panel + r, 0, b, rows, dk + (j + r) * d + x, d, count, width,
                       update, alpha);
      });
    }
  }
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
