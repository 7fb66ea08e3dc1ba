// Elementwise sweeps over a tile, layout [col panel][rows][kPanel].
#pragma once

#include "work.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// Calls body(i, j, pointer to the vector at row i, columns j...), row by row in every panel.
template <class T, class F>
CONTRASTIVE_INLINE void for_each_vector(T* tile, int64_t rows, int64_t cols, F body) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  for (int64_t j = 0; j < cols; j += W)
    for (int64_t i = 0; i < rows; ++i) {
      T* line = tile + j * rows + i * W;
      body(i, j, line);
      body(i, j + L, line + L);
    }
}

// s_ij += row_bias_i + col_bias_j.   row_bias [rows], col_bias [cols], either may be null
template <class T>
void add_biases(T* tile, int64_t rows, int64_t cols, const T* row_bias, const T* col_bias) {
  constexpr int L = kLanes<T>;
  for_each_vector(tile, rows, cols, [&](int64_t i, int64_t j, T* s) CONTRASTIVE_LAMBDA_INLINE {
    Vec<T> bias = broadcast<T>(row_bias ? row_bias[i] : T(0));
    if (col_bias)
      for (int l = 0; l < L; ++l) bias[l] += j + l < cols ? col_bias[j + l] : T(0);
    store<T>(s, load<T>(s) + bias);
  });
}

// sum_ij += more_ij
template <class T>
void add_tile(T* sum, const T* more, int64_t rows, int64_t cols) {
  constexpr int L = kLanes<T>;
  const int64_t count = ceil_div(cols, kPanel<T>) * kPanel<T> * rows;
  for (int64_t x = 0; x < count; x += L) store<T>(sum + x, load<T>(sum + x) + load<T>(more + x));
}

// row_sum_i += sum_j dS_ij and col_sum_j += sum_i dS_ij; either may be null. Padding columns are left out.
template <class T>
void add_line_sums(const T* ds, int64_t rows, int64_t cols, double* row_sum, double* col_sum) {
  constexpr int W = kPanel<T>;
  for (int64_t j = 0; j < cols; j += W) {
    const int64_t width = cols - j < W ? cols - j : W;
    for (int64_t i = 0; i < rows; ++i) {
      const T* line = ds + j * rows + i * W;
      for (int64_t q = 0; q < width; ++q) {
        if (row_sum) row_sum[i] += double(line[q]);
        if (col_sum) col_sum[j + q] += double(line[q]);
      }
    }
  }
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
