// Macro-blocks one after another: weights, sums along lines, and the products with the weights.
#pragma once

#include <cstring>
#include <type_traits>
#include <vector>

#include "../../csrc/cuda/batch_entry.h"
#include "gradient.h"

namespace contrastive_ops::cuda {

template <class T>
class MacroBlocks {
  using Stat = typename Problem<T>::Stat;

 public:
  explicit MacroBlocks(Problem<T>& of) : of_(of), c_(of.c) {}

  // The last batch entry by macro-blocks of one tile's rows and two tiles' columns, each added to both gradients.
  void run() {
    const TileShape tile = score_tile(of_.path, of_.dtype, c_.volume_banks > 0 ? ScoreKind::kVolume : ScoreKind::kDot);
    const int64_t batch = c_.batch - 1, height = tile.block_m, width = 2 * tile.block_n, stride = width + 8;
    const Matrix of = entry_of(gradient_matrix(of_), batch);
    std::vector<Stat> d_rows(c_.m * c_.d, Stat(1)), d_cols(c_.banks() * c_.n * c_.d, Stat(1));
    std::vector<double> expected_rows(d_rows.size(), 1), expected_cols(d_cols.size(), 1);
    const double weight = 0.5;
    double d_scale_sum = 0, expected_scale = 0;
    for (int64_t first_row = 0; first_row < c_.m; first_row += height) {
      for (int64_t first_col = 0; first_col < c_.n; first_col += width) {
        const int64_t block_rows = std::min(height, c_.m - first_row), block_cols = std::min(width, c_.n - first_col);
        const int64_t across = (block_cols + tile.block_n - 1) / tile.block_n, bank_stride = height * stride;
        std::vector<T> block(c_.banks() * bank_stride, static_cast<T>(static_cast<float>(kNaN)));
        std::vector<Stat> d_scale(across, Stat(kNaN));
        Sums sums(c_.volume_banks > 0, across, block_rows, block_cols);
        MacroGradientParams params = {of,        nullptr,       block.data(),   bank_stride,
                                      stride,    sums.params(), d_scale.data(), weight,
                                      first_row, first_col,     block_rows,     block_cols};
        macro_gradient_bwd(of_.path, params, of_.stream);
        if (!of_.kept.empty()) compare_kept(params, batch, block, d_scale);
        if (c_.volume_banks == 0) compare_summed(params, batch, block, d_scale);
        for (Stat sum : d_scale) d_scale_sum += double(sum);
        sums.compare(of_, batch, first_row, first_col);

        std::vector<T> found;
        std::vector<double> expected;
        for (int64_t i = first_row; i < first_row + block_rows; ++i) {
          for (int64_t j = first_col; j < first_col + block_cols; ++j) {
            const int64_t pair = of_.at(batch, i, j);
            const std::vector<double> slopes = of_.score_gradient(batch, i, j);
            expected_scale += weight * of_.ds[pair] * of_.values[pair];
            for (int s = 0; s < c_.banks(); ++s) {
              found.push_back(block[s * bank_stride + (i - first_row) * stride + j - first_col]);
              expected.push_back(double(of_.unit) * of_.ds[pair] * slopes[s]);
              // the products are held against the values as rounded
              const double value = static_cast<double>(found.back());
              for (int64_t e = 0; e < c_.d; ++e) {
                expected_rows[i * c_.d + e] += value * of_.col_value(batch, s, j, e);
                expected_cols[(s * c_.n + j) * c_.d + e] += value * of_.row_value(batch, i, e);
              }
            }
          }
        }
        const double rounding = sizeof(T) > 2 ? 0 : std::is_same_v<T, __half> ? 0x1p-11 : 0x1p-8;
        of_.compare("weights", found, expected, rounding + 4 * of_.tolerance());
        for (int s = 0; s < c_.banks(); ++s) {
          const T* bank = static_cast<const T*>(of.cols.data) + s * of.bank_stride + first_col * of.cols.row_stride;
          const T* rows_data = static_cast<const T*>(of.rows.data) + first_row * of.rows.row_stride;
          const MacroProduct for_rows = {bank, of.cols.row_stride, d_rows.data() + first_row * c_.d};
          const MacroProduct for_cols = {rows_data, of.rows.row_stride, d_cols.data() + (s * c_.n + first_col) * c_.d};
          const auto multiply = [&](const MacroProduct& first, const MacroProduct& second) {
            const T* weights = block.data() + s * bank_stride;
            macro_product_bwd(of_.path, {of_.dtype, weights, stride, block_rows, block_cols, c_.d, first, second},
                              of_.stream);
          };
          if (first_row > 0 || first_col > 0) {
            multiply(for_rows, for_cols);
          } else {  // one gradient alone is wanted
            multiply(for_rows, {});
            multiply({}, for_cols);
          }
        }
      }
    }
    of_.compare("d_scale", std::vector<double>{d_scale_sum}, {expected_scale}, 20 * of_.tolerance());
    of_.compare("d_rows", d_rows, expected_rows, 4 * of_.tolerance());
    of_.compare("d_cols", d_cols, expected_cols, 4 * of_.tolerance());
  }

 private:
  // The sums along the lines of a macro-block one tile high.
  struct Sums {
    int64_t across, block_rows, block_cols;
    std::vector<Stat> row_bias, col_bias, row_term, col_term;

    Sums(bool wanted, int64_t tiles, int64_t num_rows, int64_t num_cols)
        : across(tiles),
          block_rows(num_rows),
          block_cols(num_cols),
          row_bias(wanted ? across * block_rows : 0, Stat(kNaN)),
          col_bias(wanted ? block_cols : 0, Stat(kNaN)),
          row_term(row_bias),
          col_term(col_bias) {}

    LineSums params() {
      if (row_bias.empty()) return {};
      return {row_bias.data(), col_bias.data(), row_term.data(), col_term.data()};
    }

    void compare(Problem<T>& of, int64_t batch, int64_t first_row, int64_t first_col) const {
      if (row_bias.empty()) return;
      std::vector<double> row_biases(block_rows), col_biases(block_cols), row_terms(row_biases), col_terms(col_biases);
      std::vector<double> found_biases(block_rows), found_terms(block_rows);
      for (int64_t i = 0; i < block_rows; ++i) {
        for (int64_t tile = 0; tile < across; ++tile) {
          found_biases[i] += double(row_bias[tile * block_rows + i]);
          found_terms[i] += double(row_term[tile * block_rows + i]);
        }
        for (int64_t j = 0; j < block_cols; ++j) {
          const std::vector<double> slopes = of.score_gradient(batch, first_row + i, first_col + j);
          const double ds = double(of.unit) * of.ds[of.at(batch, first_row + i, first_col + j)];
          row_biases[i] += ds;
          col_biases[j] += ds;
          row_terms[i] += ds * slopes[of.c.banks()];
          col_terms[j] += ds * slopes[of.c.banks() + 1];
        }
      }
      of.compare("d_row_bias", found_biases, row_biases, 4 * of.tolerance());
      of.compare("d_col_bias", col_bias, col_biases, 4 * of.tolerance());
      if (of.c.volume_banks == 0) return;
      of.compare("d_row_term", found_terms, row_terms, 4 * of.tolerance());
      of.compare("d_col_term", col_term, col_terms, 4 * of.tolerance());
    }
  };

  // What the macro-block is from products that are read back: the same.
  void compare_kept(MacroGradientParams params, int64_t batch, const std::vector<T>& block,
                    const std::vector<Stat>& d_scale) {
    params.kept = of_.kept.data() + batch * c_.m * c_.n;
    compare_with(params, block, d_scale, "from kept products");
  }

  // The same again beside sums along the lines, of products of both kinds; and without weights.
  void compare_summed(MacroGradientParams params, int64_t batch, const std::vector<T>& block,
                      const std::vector<Stat>& d_scale) {
    Sums sums(true, static_cast<int64_t>(d_scale.size()), params.block_rows, params.block_cols);
    params.sums = sums.params();
    params.sums.row_term = params.sums.col_term = nullptr;
    compare_with(params, block, d_scale, "beside sums");
    if (!of_.kept.empty()) compare_kept(params, batch, block, d_scale);
    params.weights = nullptr;
    std::vector<Stat> d_scale_alone(d_scale.size(), Stat(kNaN));
    params.d_scale = d_scale_alone.data();
    macro_gradient_bwd(of_.path, params, of_.stream);
    sums.compare(of_, batch, params.first_row, params.first_col);
    of_.compare("d_scale without weights", d_scale_alone, {d_scale.begin(), d_scale.end()}, of_.tolerance());
  }

  void compare_with(MacroGradientParams params, const std::vector<T>& block, const std::vector<Stat>& d_scale,
                    const char* how) {
    std::vector<T> again(block.size(), block.back());
    std::vector<Stat> d_scale_again(d_scale.size(), Stat(kNaN));
    params.weights = again.data(), params.d_scale = d_scale_again.data();
    macro_gradient_bwd(of_.path, params, of_.stream);
    if (std::memcmp(block.data(), again.data(), block.size() * sizeof(T)) != 0) {
      failed = true;
      std::printf("  FAILED dS %s of %s: other bits\n", how, c_.name);
    }
    of_.compare("d_scale again", d_scale_again, {d_scale.begin(), d_scale.end()}, of_.tolerance());
  }

  Problem<T>& of_;
  const Case& c_;
};

}  // namespace contrastive_ops::cuda
