// The macro-blocks of all batch entries in one call, up to the gradients as they are handed out.
#pragma once

#include <type_traits>
#include <vector>

#include "gradient.h"

namespace contrastive_ops::cuda {

template <class T>
class WholePass {
  using Stat = typename Problem<T>::Stat;

 public:
  explicit WholePass(Problem<T>& of) : of_(of), c_(of.c) {}

  void run() {
    const bool is_volume = c_.volume_banks > 0;
    const TileShape tile = score_tile(of_.path, of_.dtype, is_volume ? ScoreKind::kVolume : ScoreKind::kDot);
    const int64_t height = tile.block_m, width = 2 * tile.block_n, stride = width + 8;
    const int64_t rows_size = c_.batch * c_.m, cols_size = c_.batch * c_.n;
    std::vector<MacroBlock> blocks;
    int64_t terms = 0;
    for (int64_t row = 0; row < c_.m; row += height) {
      for (int64_t col = 0; col < c_.n; col += width) {
        const int64_t block_cols = std::min(width, c_.n - col);
        blocks.push_back({row, col, std::min(height, c_.m - row), block_cols, terms});
        terms += (block_cols + tile.block_n - 1) / tile.block_n;
      }
    }
    const auto unset = [](int64_t size) { return std::vector<Stat>(size, Stat(kNaN)); };
    std::vector<T> weights(c_.banks() * height * stride, static_cast<T>(static_cast<float>(kNaN)));
    std::vector<Stat> d_scale = unset(c_.batch * terms), row_sum = unset(rows_size * c_.d),
                      col_sum = unset(c_.banks() * cols_size * c_.d);
    std::vector<T> d_rows(row_sum.size()), d_cols(col_sum.size());
    std::vector<Stat> row_bias = unset(rows_size), col_bias = unset(cols_size), row_terms(row_bias),
                      col_terms(col_bias);
    std::vector<Stat> row_parts[2] = {unset(2 * height), unset(2 * height)},
                      col_parts[2] = {unset(width), unset(width)};
    LineSums lines = {row_bias.data(), col_bias.data(), nullptr, nullptr},
             parts = {row_parts[0].data(), col_parts[0].data(), nullptr, nullptr};
    if (is_volume) {
      lines.row_term = row_terms.data(), lines.col_term = col_terms.data();
      parts.row_term = row_parts[1].data(), parts.col_term = col_parts[1].data();
    }
    const MacroPaths paths = {of_.path, of_.path};
    const MacroPassParams params = {gradient_matrix(of_),
                                    blocks.data(),
                                    static_cast<int64_t>(blocks.size()),
                                    false,
                                    c_.biases && !of_.kept.empty() ? of_.kept.data() : nullptr,  // one or the other
                                    weights.data(),
                                    height * stride,
                                    stride,
                                    lines,
                                    parts,
                                    d_scale.data(),
                                    terms,
                                    {row_sum.data(), d_rows.data(), of_.dtype},
                                    {col_sum.data(), d_cols.data(), of_.dtype}};
    macro_pass_bwd(paths, params, of_.stream);

    std::vector<double> row_gradients(d_rows.size()), col_gradients(d_cols.size());
    std::vector<double> lines_of[4] = {std::vector<double>(rows_size), std::vector<double>(cols_size),
                                       std::vector<double>(rows_size), std::vector<double>(cols_size)};
    double scale_gradient = 0, d_scale_sum = 0;
    for (int64_t batch = 0; batch < c_.batch; ++batch) {
      for (int64_t i = 0; i < c_.m; ++i) {
        for (int64_t j = 0; j < c_.n; ++j) {
          const int64_t pair = of_.at(batch, i, j), row = batch * c_.m + i, col = batch * c_.n + j;
          const std::vector<double> slopes = of_.score_gradient(batch, i, j);
          const double scaled = of_.ds[pair] * double(of_.scale);
          scale_gradient += of_.ds[pair] * of_.values[pair];
          lines_of[0][row] += of_.ds[pair];
          lines_of[1][col] += of_.ds[pair];
          lines_of[2][row] += scaled * slopes[c_.banks()];
          lines_of[3][col] += scaled * slopes[c_.banks() + 1];
          for (int s = 0; s < c_.banks(); ++s) {
            for (int64_t e = 0; e < c_.d; ++e) {
              row_gradients[row * c_.d + e] += scaled * slopes[s] * of_.col_value(batch, s, j, e);
              col_gradients[((batch * c_.banks() + s) * c_.n + j) * c_.d + e] +=
                  scaled * slopes[s] * of_.row_value(batch, i, e);
            }
          }
        }
      }
    }
    for (Stat sum : d_scale) d_scale_sum += double(sum);
    const double rounding = sizeof(T) > 2               ? 0
                            : std::is_same_v<T, __half> ? 0x1p-10
                                                        : 0x1p-7;  // of weights and gradient
    of_.compare("d_scale of the pass", std::vector<double>{d_scale_sum}, {scale_gradient}, 20 * of_.tolerance());
    of_.compare("d_queries", d_rows, row_gradients, rounding + 20 * of_.tolerance());
    of_.compare("d_keys", d_cols, col_gradients, rounding + 20 * of_.tolerance());
    of_.compare("row biases of the pass", row_bias, lines_of[0], 4 * of_.tolerance());
    of_.compare("column biases of the pass", col_bias, lines_of[1], 4 * of_.tolerance());
    if (!is_volume) return;
    of_.compare("row terms of the pass", row_terms, lines_of[2], 4 * of_.tolerance());
    of_.compare("column terms of the pass", col_terms, lines_of[3], 4 * of_.tolerance());
  }

 private:
  Problem<T>& of_;
  const Case& c_;
};

}  // namespace contrastive_ops::cuda
