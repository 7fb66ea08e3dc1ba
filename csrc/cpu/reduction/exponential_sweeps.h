// Sweeps of a tile of masked scores: exponentials, their sums, and the slope that they make.
#pragma once

#include "../exp.h"
#include "../relation.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// A line whose sum is below this share of the tile's largest exponential needs a reference of its own.
constexpr double kSmallestSum = 0x1p-72;

// out_ij = t_ij = factor * s_ij inside the mask, -inf outside; what is in the padding is for mask_padding. In place
// where out is the scores.
template <class T>
void mask_scores(const T* scores, int64_t rows, int64_t cols, TileMask<T> belongs, T factor, T* out) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  const Vec<T> minus_inf = broadcast<T>(T(-__builtin_inf()));
  for (int64_t j = 0; j < cols; j += W)
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = j * rows + i * W;
      store<T>(out + at, belongs(i, j) ? factor * load<T>(scores + at) : minus_inf);
      store<T>(out + at + L, belongs(i, j + L) ? factor * load<T>(scores + at + L) : minus_inf);
    }
}
template <class T>
void mask_padding(T* tile, int64_t rows, int64_t cols) {
  constexpr int W = kPanel<T>;
  const int64_t tail = cols % W;
  if (tail == 0) return;
  T* panel = tile + (cols - tail) * rows;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t q = tail; q < W; ++q) panel[i * W + q] = T(-__builtin_inf());
}

// The largest score, NaN passed over; -inf where nothing belongs.
template <class T>
T tile_max(const T* tile, int64_t rows, int64_t cols) {
  constexpr int L = kLanes<T>;
  const int64_t count = (cols + kPanel<T> - 1) / kPanel<T> * kPanel<T> * rows;
  Vec<T> top[4];
  for (auto& v : top) v = broadcast<T>(T(-__builtin_inf()));
  int64_t x = 0;
  for (; x + 4 * L <= count; x += 4 * L)
    for (int u = 0; u < 4; ++u) top[u] = max_ignoring_nan<T>(top[u], load<T>(tile + x + u * L));
  for (; x < count; x += L) top[0] = max_ignoring_nan<T>(top[0], load<T>(tile + x));
  return horizontal_max<T>(
      max_ignoring_nan<T>(max_ignoring_nan<T>(top[0], top[1]), max_ignoring_nan<T>(top[2], top[3])));
}

// The one place where a score becomes an exponential: both passes must get the same bits.
template <class T>
CONTRASTIVE_INLINE Vec<T> exponential(const T* s, T reference) {
  return exp<T>(load<T>(s) - reference);
}

// e_ij = exp(s_ij - reference) and its sums over rows and columns, one exponential an element.
//   kept: where e is stored, or null;  row_part [rows], col_part [cols padded to kPanel]
template <class T, bool kKeep>
void sum_exponentials(const T* tile, int64_t rows, int64_t cols, T reference, T* kept, T* row_part, T* col_part,
                      T* row_lanes) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  for (int64_t i = 0; i < rows * L; ++i) row_lanes[i] = 0;
  for (int64_t j = 0; j < cols; j += W) {
    Vec<T> col0 = {}, col1 = {};
    const int64_t base = j * rows;
    for (int64_t i = 0; i < rows; ++i) {
      const T* s = tile + base + i * W;
      const Vec<T> e0 = exponential<T>(s, reference), e1 = exponential<T>(s + L, reference);
      if constexpr (kKeep) {
        store<T>(kept + base + i * W, e0);
        store<T>(kept + base + i * W + L, e1);
      }
      col0 += e0;
      col1 += e1;
      store<T>(row_lanes + i * L, load<T>(row_lanes + i * L) + (e0 + e1));
    }
    store<T>(col_part + j, col0);
    store<T>(col_part + j + L, col1);
  }
  for (int64_t i = 0; i < rows; ++i) row_part[i] = horizontal_sum<T>(load<T>(row_lanes + i * L));
}

// The same sums with a reference for every row and every column: two exponentials an element, safe at any range.
template <class T>
void sum_exponentials_by_line(const T* tile, int64_t rows, int64_t cols, T* row_reference, T* col_reference,
                              T* row_part, T* col_part) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  const T minus_inf = T(-__builtin_inf());
  for (int64_t i = 0; i < rows; ++i) {
    Vec<T> top = broadcast<T>(minus_inf);
    for (int64_t j = 0; j < cols; j += W) {
      const T* s = tile + j * rows + i * W;
      top = max_ignoring_nan<T>(max_ignoring_nan<T>(top, load<T>(s)), load<T>(s + L));
    }
    const T reference = horizontal_max<T>(top);
    row_reference[i] = reference == minus_inf ? T(0) : reference;  // -inf - -inf would be NaN
    Vec<T> sum = {};
    for (int64_t j = 0; j < cols; j += W) {
      const T* s = tile + j * rows + i * W;
      sum += exponential<T>(s, row_reference[i]) + exponential<T>(s + L, row_reference[i]);
    }
    row_part[i] = horizontal_sum<T>(sum);
  }
  for (int64_t j = 0; j < cols; j += L) {
    const T* column = tile + j / W * W * rows + j % W;
    Vec<T> top = broadcast<T>(minus_inf), sum = {};
    for (int64_t i = 0; i < rows; ++i) top = max_ignoring_nan<T>(top, load<T>(column + i * W));
    const Vec<T> reference = top == minus_inf ? Vec<T>{} : top;
    for (int64_t i = 0; i < rows; ++i) sum += exp<T>(load<T>(column + i * W) - reference);
    store<T>(col_reference + j, reference);
    store<T>(col_part + j, sum);
  }
}

// True if every line's sum is safely above the smallest normal number of the tile's reference.
template <class T>
bool sums_are_safe(const T* part, int64_t count) {
  bool safe = true;
  for (int64_t i = 0; i < count; ++i) safe &= part[i] >= T(kSmallestSum);
  return safe;
}

// Merges a tile's sums into the running pair of every line:
//   (reference, sum) <- (r, sum * exp(reference - r) + part * exp(tile reference - r)),  r the larger reference
template <class T, class F>
CONTRASTIVE_INLINE void merge_lines(T* reference, T* sum, int64_t count, const T* part, F tile_reference) {
  constexpr int L = kLanes<T>;
  for (int64_t i = 0; i < count; i += L) {
    const int64_t width = count - i < L ? count - i : L;
    T lanes[4][L] = {};
    std::memcpy(lanes[0], reference + i, width * sizeof(T));
    std::memcpy(lanes[1], sum + i, width * sizeof(T));
    std::memcpy(lanes[2], part + i, width * sizeof(T));
    for (int64_t l = 0; l < width; ++l) lanes[3][l] = tile_reference(i + l);
    const Vec<T> running = load<T>(lanes[0]), added = load<T>(lanes[2]);
    const Vec<T> minus_inf = broadcast<T>(T(-__builtin_inf()));
    // a part of 0 (no candidates in this tile) must not raise the reference; NaN is not 0 and goes through
    const Vec<T> fresh = added == T(0) ? minus_inf : load<T>(lanes[3]);
    const Vec<T> top = running > fresh ? running : fresh;
    const Vec<T> base = top == minus_inf ? Vec<T>{} : top;  // still empty: -inf - -inf would be NaN
    store<T>(lanes[1], load<T>(lanes[1]) * exp<T>(running - base) + added * exp<T>(fresh - base));
    store<T>(lanes[0], top);
    std::memcpy(reference + i, lanes[0], width * sizeof(T));
    std::memcpy(sum + i, lanes[1], width * sizeof(T));
  }
}

// line_factor_i = factor * upstream_i * exp(reference - lse_i), 0 for a line without candidates or without upstream.
template <class T>
void line_factors(const T* upstream, const T* lse, int64_t count, int64_t padded, T factor, T reference,
                  T* line_factor) {
  constexpr int L = kLanes<T>;
  for (int64_t i = 0; i < padded; i += L) {
    const int64_t width = i >= count ? 0 : (count - i < L ? count - i : L);
    T lanes[2][L] = {};
    if (upstream && width) {
      std::memcpy(lanes[0], upstream + i, width * sizeof(T));
      std::memcpy(lanes[1], lse + i, width * sizeof(T));
    }
    const Vec<T> l = load<T>(lanes[1]);
    const auto empty = (l == T(-__builtin_inf())) | (load<T>(lanes[0]) == T(0));
    const Vec<T> f = factor * load<T>(lanes[0]) * exp<T>(reference - l);
    store<T>(lanes[0], empty ? Vec<T>{} : f);
    std::memcpy(line_factor + i, lanes[0], L * sizeof(T));
  }
}

// dS_ij = e_ij * (row_factor_i + col_factor_j), from kept exponentials or from scores.
template <class T, bool kFromExponentials>
void gradient_from_tile(const T* source, int64_t rows, int64_t cols, T reference, const T* row_factor,
                        const T* col_factor, T* ds) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  for (int64_t j = 0; j < cols; j += W) {
    const Vec<T> b0 = load<T>(col_factor + j), b1 = load<T>(col_factor + j + L);
    const int64_t base = j * rows;
    for (int64_t i = 0; i < rows; ++i) {
      const T* s = source + base + i * W;
      const Vec<T> a = broadcast<T>(row_factor[i]);
      const Vec<T> e0 = kFromExponentials ? load<T>(s) : exponential<T>(s, reference);
      const Vec<T> e1 = kFromExponentials ? load<T>(s + L) : exponential<T>(s + L, reference);
      store<T>(ds + base + i * W, e0 * (a + b0));
      store<T>(ds + base + i * W + L, e1 * (a + b1));
    }
  }
}

// dS_ij = g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j), with lse = +inf for a line without candidates; 0 in the
// padding.
template <class T>
void gradient_by_line(const T* scores, int64_t rows, int64_t cols, const T* g, const T* row_lse, const T* h,
                      const T* col_lse, T* ds) {
  constexpr int W = kPanel<T>, L = kLanes<T>;
  for (int64_t j = 0; j < (cols + W - 1) / W * W; j += L) {
    const Vec<T> h_j = load<T>(h + j), lse_j = load<T>(col_lse + j);
    const int64_t base = j / W * W * rows + j % W;
    for (int64_t i = 0; i < rows; ++i) {
      const Vec<T> s = load<T>(scores + base + i * W);
      store<T>(ds + base + i * W, exp<T>(s - row_lse[i]) * g[i] + exp<T>(s - lse_j) * h_j);
    }
  }
}

// The lines of `gradient_by_line`: factor * upstream and lse, padded; an empty line or a zero upstream is silenced.
template <class T>
void line_references(const T* upstream, const T* lse, int64_t count, int64_t padded, T factor, T* g, T* safe_lse) {
  for (int64_t i = 0; i < padded; ++i) {
    const bool live = upstream && i < count && upstream[i] != T(0) && lse[i] != T(-__builtin_inf());
    g[i] = live ? factor * upstream[i] : T(0);
    safe_lse[i] = live ? lse[i] : T(__builtin_inf());
  }
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
