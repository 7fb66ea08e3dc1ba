// Runs every kernel of csrc/cuda on the emulator against sums in double: cuda_kernels_driver [fast|full]
// [portable|hopper]. One line per case with the largest error, and a checksum of all outputs, which no order of threads
// may change. Exits with 1 if an error is too large.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "../csrc/cuda/batch_entry.h"
#include "../csrc/cuda/launch.h"

namespace {

using namespace contrastive_ops;
using namespace contrastive_ops::cuda;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

struct Case {
  const char* name;
  int64_t batch, m, n, d;
  int64_t gap;           // elements between the end of a line and the next
  int64_t shift;         // elements from the start of the buffer, which is aligned
  int tiles_m, tiles_n;  // of a stripe
  bool self = false;
  bool biases = false;
  bool of_rows = true, of_cols = true;  // which statistics, and so which gradients
  bool positives = true;
  std::vector<ClauseKind> candidate_clauses = {}, positive_clauses = {};
  int64_t offset = 0;
  bool shared_ids = false;  // by the batch
  bool with_nan = false;
  int volume_banks = 0;  // 0: dot products
  bool absolute = false;

  int banks() const { return std::max(volume_banks, 1); }
};

uint64_t checksum = 14695981039346656037ull;
bool failed = false;

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

template <class T>
struct Problem {
  using Stat = std::conditional_t<std::is_same_v<T, double>, double, float>;

  const Case& c;
  Path path;
  DType dtype;
  Stream stream{nullptr};
  Random random;
  Embeddings<T> rows, cols;
  std::vector<int64_t> row_ids, col_ids;
  std::vector<Stat> row_bias, col_bias, g, h, a, b, row_lse, col_lse;
  std::vector<Stat> kept;                        // [B, M, N], or empty
  std::vector<Stat> row_term, col_term, mixing;  // of a volume
  Stat scale = Stat(0.75), unit = Stat(8);
  Relation candidates, positives;
  std::vector<double> products;            // [B, M, N, K]
  std::vector<double> values, scores, ds;  // [B, M, N]: scores are values times scale and with biases
  double worst = 0, worst_rounded = 0;     // of results in the statistics type, and of dS in the embeddings' type

  Problem(const Case& test, Path p, DType type)
      : c(test),
        path(p),
        dtype(type),
        rows(c, 1, c.m, random),
        cols(c.self ? rows : Embeddings<T>(c, c.banks(), c.n, random)) {
    if (c.self) cols.side.data = cols.buffer.data() + c.shift;
    if (c.with_nan) rows.set(c, c.m / 2, kNaN);
    const int64_t id_batch = c.shared_ids ? 1 : c.batch;
    for (int64_t i = 0; i < id_batch * c.m; ++i) row_ids.push_back(random.below(5));
    for (int64_t j = 0; j < id_batch * c.n; ++j) col_ids.push_back(random.below(4));  // rows with id 4 match nothing
    if (c.self) col_ids = row_ids;
    candidates = relation(c.candidate_clauses);
    positives = relation(c.positive_clauses);
    if (c.biases) {
      row_bias = line(c.m);
      col_bias = c.self ? row_bias : line(c.n);
    }
    g = line(c.m), h = line(c.n), a = line(c.m), b = line(c.n);
    if (c.volume_banks > 0) fill_terms();
    fill_scores();
  }

  std::vector<Stat> line(int64_t size) {
    std::vector<Stat> values;
    for (int64_t i = 0; i < c.batch * size; ++i) values.push_back(static_cast<Stat>(random.next()));
    return values;
  }

  Relation relation(const std::vector<ClauseKind>& kinds) const {
    Relation result = {};
    for (ClauseKind kind : kinds) {
      result.clauses[result.count++] = {
          kind, c.offset, row_ids.data(), col_ids.data(), c.shared_ids ? 0 : c.m, c.shared_ids ? 0 : c.n};
    }
    return result;
  }

  bool holds(const Relation& relation, int64_t batch, int64_t i, int64_t j) const {
    bool all = true;
    for (int k = 0; k < relation.count; ++k) {
      const Clause& clause = relation.clauses[k];
      const bool by_index = clause.kind == ClauseKind::kDiagonal || clause.kind == ClauseKind::kOffDiagonal;
      const bool equal = by_index ? j == i + clause.offset
                                  : clause.row_ids[batch * clause.row_batch_stride + i] ==
                                        clause.col_ids[batch * clause.col_batch_stride + j];
      all &= equal == (clause.kind == ClauseKind::kDiagonal || clause.kind == ClauseKind::kSame);
    }
    return all;
  }

  int64_t at(int64_t batch, int64_t i, int64_t j) const { return (batch * c.m + i) * c.n + j; }

  // The squared distances are positive but for every fifth row, and far from 0, where rounding would be all there is.
  void fill_terms() {
    for (int64_t i = 0; i < c.batch * c.m; ++i) {
      double square = 0;
      for (int64_t e = 0; e < c.d; ++e) square += std::pow(rows.values[i * c.d + e], 2);
      row_term.push_back(static_cast<Stat>(i % 5 == 4 ? -1 : square + double(c.d)));
    }
    for (int64_t j = 0; j < c.batch * c.n; ++j) col_term.push_back(static_cast<Stat>(1.5 + random.next()));
    for (int64_t k = 0; k < c.batch * c.banks() * (c.banks() + 1) / 2 * c.n; ++k) {
      mixing.push_back(static_cast<Stat>(0.3 * random.next()));
    }
  }

  double mixing_at(int64_t batch, int r, int s, int64_t j) const {
    return double(mixing[(batch * (c.banks() * (c.banks() + 1) / 2) + r * (r + 1) / 2 + s) * c.n + j]);
  }

  // d^r of a pair.
  std::vector<double> mixed(int64_t batch, int64_t j, int64_t pair) const {
    std::vector<double> found(c.banks(), 0);
    for (int r = 0; r < c.banks(); ++r) {
      for (int s = 0; s <= r; ++s) found[r] += mixing_at(batch, r, s, j) * products[pair * c.banks() + s];
    }
    return found;
  }

  // rho^2 as it is without rounding.
  double squared_distance(int64_t batch, int64_t i, int64_t j) const {
    double squared = double(row_term[batch * c.m + i]);
    for (double d : mixed(batch, j, at(batch, i, j))) squared -= d * d;
    return squared;
  }
  double distance(int64_t batch, int64_t i, int64_t j) const {
    const double squared = squared_distance(batch, i, j);
    return std::sqrt(c.absolute ? std::fabs(squared) : std::isnan(squared) ? squared : std::max(squared, 0.0));
  }

  // dscore_ij / d<q_i, k^s_j> of every bank, dscore_ij / drow_term_i, dscore_ij / dcol_term_j
  std::vector<double> score_gradient(int64_t batch, int64_t i, int64_t j) const {
    if (c.volume_banks == 0) return {1, 0, 0};
    const double rho = distance(batch, i, j), sign = squared_distance(batch, i, j) < 0 ? -1 : 1;
    const double slope = rho == 0 ? 0 : sign * double(col_term[batch * c.n + j]) / rho;
    const std::vector<double> d = mixed(batch, j, at(batch, i, j));
    std::vector<double> found(c.banks(), 0);
    for (int s = 0; s < c.banks(); ++s) {
      for (int r = s; r < c.banks(); ++r) found[s] -= slope * mixing_at(batch, r, s, j) * d[r];
    }
    found.push_back(slope / 2);
    found.push_back(rho);
    return found;
  }

  double row_value(int64_t batch, int64_t i, int64_t e) const { return rows.values[(batch * c.m + i) * c.d + e]; }
  double col_value(int64_t batch, int bank, int64_t j, int64_t e) const {
    return cols.values[((batch * c.banks() + bank) * c.n + j) * c.d + e];
  }

  void fill_scores() {
    for (int64_t batch = 0; batch < c.batch; ++batch) {
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
          for (int s = 0; s < c.banks(); ++s) {
            double product = 0;
            for (int64_t e = 0; e < c.d; ++e) product += row_value(batch, i, e) * col_value(batch, s, j, e);
            products.push_back(product);
          }
          values.push_back(c.volume_banks > 0 ? double(col_term[batch * c.n + j]) * distance(batch, i, j)
                                              : products.back());
          scores.push_back(values.back() * double(scale) + (c.biases ? double(row_bias[batch * c.m + i]) : 0) +
                           (c.biases ? double(col_bias[batch * c.n + j]) : 0));
        }
      }
    }
  }

  // lse and sums of positives of every row, or of every column.
  std::pair<std::vector<double>, std::vector<double>> expected_statistics(bool of_rows) const {
    std::vector<double> lses, sums;
    for (int64_t batch = 0; batch < c.batch; ++batch) {
      for (int64_t line = 0; line < (of_rows ? c.m : c.n); ++line) {
        double top = -kInf, total = 0, sum = 0;
        for (int pass = 0; pass < 2; ++pass) {
          for (int64_t other = 0; other < (of_rows ? c.n : c.m); ++other) {
            const int64_t i = of_rows ? line : other, j = of_rows ? other : line;
            const double score = scores[at(batch, i, j)];
            if (pass == 0 && holds(positives, batch, i, j)) sum += score;
            if (!holds(candidates, batch, i, j)) continue;
            if (pass == 0) top = std::fmax(top, score);
            if (pass == 1) total += std::exp(score - (std::isinf(top) ? 0 : top));
          }
        }
        lses.push_back((std::isinf(top) ? 0 : top) + std::log(total));
        sums.push_back(sum);
      }
    }
    return {lses, sums};
  }

  template <class V>
  void compare(const char* what, const std::vector<V>& found, const std::vector<double>& expected, double tolerance) {
    add_to_checksum(found);
    const double error = error_of(found, expected);
    double& largest = std::is_same_v<V, T> && sizeof(T) == 2 ? worst_rounded : worst;
    largest = std::max(largest, error);
    if (!(error <= tolerance)) {
      failed = true;
      std::printf("  FAILED %s of %s: error %.2e, allowed %.2e\n", what, c.name, error, tolerance);
    }
  }

  double tolerance() const { return std::is_same_v<T, double> ? 1e-13 : 3e-6; }

  Matrix matrix() const {
    Matrix of = {};
    of.dtype = dtype, of.batch = c.batch, of.d = c.d, of.rows = rows.side, of.cols = c.self ? rows.side : cols.side;
    of.candidates = candidates, of.positives = positives, of.scale = &scale;
    of.banks = c.banks(), of.bank_stride = c.volume_banks > 0 ? c.n * cols.side.row_stride : 0;
    if (c.volume_banks > 0) {
      of.score = {ScoreKind::kVolume, row_term.data(), col_term.data(), mixing.data(), c.absolute};
    }
    if (c.biases) of.row_lines.bias = row_bias.data(), of.col_lines.bias = col_bias.data();
    return of;
  }

  struct Slots {
    std::vector<Stat> top, total, positive;

    Slots(bool wanted, bool with_positives, int64_t size)
        : top(wanted ? size : 0, Stat(kNaN)), total(top), positive(with_positives ? size : 0, Stat(0)) {}

    Partials partials() {
      return {top.empty() ? nullptr : top.data(), total.empty() ? nullptr : total.data(),
              positive.empty() ? nullptr : positive.data()};
    }
  };

  std::vector<Stat> merge(const char* what, Slots& slots, int64_t lines, int num_slots, bool of_rows) {
    std::vector<Stat> lse(c.batch * lines, Stat(kNaN)), sums(c.positives ? c.batch * lines : 0, Stat(kNaN));
    merge_partials(
        {dtype, slots.partials(), lse.data(), sums.empty() ? nullptr : sums.data(), c.batch * lines, num_slots},
        stream);
    const auto [expected_lse, expected_sums] = expected_statistics(of_rows);
    compare((what + std::string(" lse")).c_str(), lse, expected_lse, tolerance());
    if (c.positives) compare((what + std::string(" positives")).c_str(), sums, expected_sums, tolerance());
    return lse;
  }

  void run_statistics() {
    const TileShape tile = score_tile(path, dtype, c.volume_banks > 0 ? ScoreKind::kVolume : ScoreKind::kDot);
    const int64_t row_stripe = c.tiles_m * tile.block_m, col_stripe = c.tiles_n * tile.block_n;
    const int row_stripes = static_cast<int>((c.m + row_stripe - 1) / row_stripe);
    const int col_stripes = static_cast<int>((c.n + col_stripe - 1) / col_stripe);
    const int row_slots = col_stripes + c.self;
    Slots of_rows(c.of_rows, c.of_rows && c.positives, row_slots * c.batch * c.m);
    Slots of_cols(c.of_cols && !c.self, c.of_cols && !c.self && c.positives, row_stripes * c.batch * c.n);
    const Partials row_partials = of_rows.partials();
    if (c.of_rows && !c.self && c.volume_banks == 0) kept.assign(products.size(), Stat(kNaN));
    statistics_fwd(path,
                   {matrix(), row_partials, c.self ? row_partials : of_cols.partials(),
                    kept.empty() ? nullptr : kept.data(), row_stripe, col_stripe, row_stripes, col_stripes, c.self},
                   stream);
    if (!kept.empty()) compare("products", kept, products, tolerance());
    if (c.of_rows) row_lse = merge("row", of_rows, c.m, row_slots, true);
    if (c.self) {
      col_lse = row_lse;
    } else if (c.of_cols) {
      col_lse = merge("column", of_cols, c.n, row_stripes, false);
    }
  }

  void fill_gradient() {
    const auto exp_or_zero = [](double score, double lse) { return lse == -kInf ? 0 : std::exp(score - lse); };
    const std::vector<double> rows_lse = expected_statistics(true).first, cols_lse = expected_statistics(false).first;
    for (int64_t batch = 0; batch < c.batch; ++batch) {
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
          const int64_t row = batch * c.m + i, col = batch * c.n + j;
          double sum = 0;
          // a pair that is no candidate counts 0, unless its line is NaN
          const double score = holds(candidates, batch, i, j) ? scores[at(batch, i, j)] : -kInf;
          if (c.of_rows) sum += double(g[row]) * exp_or_zero(score, rows_lse[row]);
          if (c.of_cols) sum += double(h[col]) * exp_or_zero(score, cols_lse[col]);
          if (c.positives && holds(positives, batch, i, j)) {
            if (c.of_rows) sum += double(a[row]);
            if (c.of_cols) sum += double(b[col]);
          }
          ds.push_back(sum);
        }
      }
    }
  }

  Matrix gradient_matrix() const {
    Matrix of = matrix();
    of.unit = &unit;
    if (c.of_rows) of.row_lines.lse = row_lse.data(), of.row_lines.d_lse = g.data();
    if (c.of_cols) of.col_lines.lse = col_lse.data(), of.col_lines.d_lse = h.data();
    if (c.positives && c.of_rows) of.row_lines.d_sum = a.data();
    if (c.positives && c.of_cols) of.col_lines.d_sum = b.data();
    return of;
  }

  static Matrix transposed(Matrix of) {
    std::swap(of.rows, of.cols);
    std::swap(of.row_lines, of.col_lines);
    for (Relation* relation : {&of.candidates, &of.positives}) {
      for (Clause& clause : relation->clauses) {
        clause.offset = -clause.offset;
        std::swap(clause.row_ids, clause.col_ids);
        std::swap(clause.row_batch_stride, clause.col_batch_stride);
      }
    }
    return of;
  }

  void run_line_sums(bool of_rows) {
    const int64_t size = of_rows ? c.m : c.n;
    std::vector<Stat> d_bias(c.batch * size, Stat(kNaN)), d_scale(d_bias);
    const Matrix of = gradient_matrix();
    line_sums_bwd(path, {of_rows ? of : transposed(of), d_bias.data(), d_scale.data()}, stream);
    std::vector<double> bias_sums(d_bias.size()), scale_sums(d_bias.size());
    for (int64_t batch = 0; batch < c.batch; ++batch) {
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
          const int64_t line = batch * size + (of_rows ? i : j), pair = at(batch, i, j);
          bias_sums[line] += ds[pair];
          scale_sums[line] += ds[pair] * values[pair];
        }
      }
    }
    compare(of_rows ? "d_row_bias" : "d_col_bias", d_bias, bias_sums, 4 * tolerance());
    compare(of_rows ? "d_row_scale" : "d_col_scale", d_scale, scale_sums, 4 * tolerance());
  }

  // The last batch entry by macro-blocks of one tile's rows and two tiles' columns, each added to both gradients.
  void run_macro_blocks() {
    const TileShape tile = score_tile(path, dtype, c.volume_banks > 0 ? ScoreKind::kVolume : ScoreKind::kDot);
    const int64_t batch = c.batch - 1, height = tile.block_m, width = 2 * tile.block_n, stride = width + 8;
    const Matrix of = entry_of(gradient_matrix(), batch);
    std::vector<Stat> d_rows(c.m * c.d, Stat(1)), d_cols(c.banks() * c.n * c.d, Stat(1));
    std::vector<double> expected_rows(d_rows.size(), 1), expected_cols(d_cols.size(), 1);
    const double weight = 0.5;
    double d_scale_sum = 0, expected_scale = 0;
    for (int64_t first_row = 0; first_row < c.m; first_row += height) {
      for (int64_t first_col = 0; first_col < c.n; first_col += width) {
        const int64_t block_rows = std::min(height, c.m - first_row), block_cols = std::min(width, c.n - first_col);
        const int64_t across = (block_cols + tile.block_n - 1) / tile.block_n, bank_stride = height * stride;
        std::vector<T> block(c.banks() * bank_stride, static_cast<T>(static_cast<float>(kNaN)));
        std::vector<Stat> d_scale(across, Stat(kNaN));
        Sums sums(c.volume_banks > 0, across, block_rows, block_cols);
        MacroGradientParams params = {of,        nullptr,       block.data(),   bank_stride,
                                      stride,    sums.params(), d_scale.data(), weight,
                                      first_row, first_col,     block_rows,     block_cols};
        macro_gradient_bwd(path, params, stream);
        if (!kept.empty()) compare_kept(params, batch, block, d_scale);
        for (Stat sum : d_scale) d_scale_sum += double(sum);
        sums.compare(*this, batch, first_row, first_col);

        std::vector<T> found;
        std::vector<double> expected;
        for (int64_t i = first_row; i < first_row + block_rows; ++i) {
          for (int64_t j = first_col; j < first_col + block_cols; ++j) {
            const int64_t pair = at(batch, i, j);
            const std::vector<double> slopes = score_gradient(batch, i, j);
            expected_scale += weight * ds[pair] * values[pair];
            for (int s = 0; s < c.banks(); ++s) {
              found.push_back(block[s * bank_stride + (i - first_row) * stride + j - first_col]);
              expected.push_back(double(unit) * ds[pair] * slopes[s]);
              // the products are held against the values as rounded
              const double value = static_cast<double>(found.back());
              for (int64_t e = 0; e < c.d; ++e) {
                expected_rows[i * c.d + e] += value * col_value(batch, s, j, e);
                expected_cols[(s * c.n + j) * c.d + e] += value * row_value(batch, i, e);
              }
            }
          }
        }
        const double rounding = sizeof(T) > 2 ? 0 : std::is_same_v<T, __half> ? 0x1p-11 : 0x1p-8;
        compare("weights", found, expected, rounding + 4 * tolerance());
        for (int s = 0; s < c.banks(); ++s) {
          const T* bank = static_cast<const T*>(of.cols.data) + s * of.bank_stride + first_col * of.cols.row_stride;
          const T* rows_data = static_cast<const T*>(of.rows.data) + first_row * of.rows.row_stride;
          const MacroProduct for_rows = {bank, of.cols.row_stride, d_rows.data() + first_row * c.d};
          const MacroProduct for_cols = {rows_data, of.rows.row_stride, d_cols.data() + (s * c.n + first_col) * c.d};
          const auto multiply = [&](const MacroProduct& first, const MacroProduct& second) {
            const T* weights = block.data() + s * bank_stride;
            macro_product_bwd(path, {dtype, weights, stride, block_rows, block_cols, c.d, first, second}, stream);
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
    compare("d_scale", std::vector<double>{d_scale_sum}, {expected_scale}, 20 * tolerance());
    compare("d_rows", d_rows, expected_rows, 4 * tolerance());
    compare("d_cols", d_cols, expected_cols, 4 * tolerance());
  }

  // The same of all batch entries in one call, up to the gradients as they are handed out.
  void run_macro_pass() {
    const bool is_volume = c.volume_banks > 0;
    const TileShape tile = score_tile(path, dtype, is_volume ? ScoreKind::kVolume : ScoreKind::kDot);
    const int64_t height = tile.block_m, width = 2 * tile.block_n, stride = width + 8;
    const int64_t rows_size = c.batch * c.m, cols_size = c.batch * c.n;
    std::vector<MacroBlock> blocks;
    int64_t terms = 0;
    for (int64_t row = 0; row < c.m; row += height) {
      for (int64_t col = 0; col < c.n; col += width) {
        const int64_t block_cols = std::min(width, c.n - col);
        blocks.push_back({row, col, std::min(height, c.m - row), block_cols, terms});
        terms += (block_cols + tile.block_n - 1) / tile.block_n;
      }
    }
    const auto unset = [](int64_t size) { return std::vector<Stat>(size, Stat(kNaN)); };
    std::vector<T> weights(c.banks() * height * stride, static_cast<T>(static_cast<float>(kNaN)));
    std::vector<Stat> d_scale = unset(c.batch * terms), row_sum = unset(rows_size * c.d),
                      col_sum = unset(c.banks() * cols_size * c.d);
    std::vector<T> d_rows(row_sum.size()), d_cols(col_sum.size());
    std::vector<Stat> row_bias = unset(rows_size), col_bias = unset(cols_size), row_terms(row_bias),
                      col_terms(col_bias);
    std::vector<Stat> row_parts[2] = {unset(2 * height), unset(2 * height)},
                      col_parts[2] = {unset(width), unset(width)};
    LineSums lines = {}, parts = {};
    if (is_volume) {
      lines = {row_bias.data(), col_bias.data(), row_terms.data(), col_terms.data()};
      parts = {row_parts[0].data(), col_parts[0].data(), row_parts[1].data(), col_parts[1].data()};
    }
    const MacroPaths paths = {path, path};
    const MacroPassParams params = {gradient_matrix(),
                                    blocks.data(),
                                    static_cast<int64_t>(blocks.size()),
                                    false,
                                    c.biases && !kept.empty() ? kept.data() : nullptr,  // one or the other
                                    weights.data(),
                                    height * stride,
                                    stride,
                                    lines,
                                    parts,
                                    d_scale.data(),
                                    terms,
                                    {row_sum.data(), d_rows.data(), dtype},
                                    {col_sum.data(), d_cols.data(), dtype}};
    macro_pass_bwd(paths, params, stream);

    std::vector<double> row_gradients(d_rows.size()), col_gradients(d_cols.size());
    std::vector<double> lines_of[4] = {std::vector<double>(rows_size), std::vector<double>(cols_size),
                                       std::vector<double>(rows_size), std::vector<double>(cols_size)};
    double scale_gradient = 0, d_scale_sum = 0;
    for (int64_t batch = 0; batch < c.batch; ++batch) {
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
          const int64_t pair = at(batch, i, j), row = batch * c.m + i, col = batch * c.n + j;
          const std::vector<double> slopes = score_gradient(batch, i, j);
          const double scaled = ds[pair] * double(scale);
          scale_gradient += ds[pair] * values[pair];
          lines_of[0][row] += ds[pair];
          lines_of[1][col] += ds[pair];
          lines_of[2][row] += scaled * slopes[c.banks()];
          lines_of[3][col] += scaled * slopes[c.banks() + 1];
          for (int s = 0; s < c.banks(); ++s) {
            for (int64_t e = 0; e < c.d; ++e) {
              row_gradients[row * c.d + e] += scaled * slopes[s] * col_value(batch, s, j, e);
              col_gradients[((batch * c.banks() + s) * c.n + j) * c.d + e] +=
                  scaled * slopes[s] * row_value(batch, i, e);
            }
          }
        }
      }
    }
    for (Stat sum : d_scale) d_scale_sum += double(sum);
    const double rounding = sizeof(T) > 2               ? 0
                            : std::is_same_v<T, __half> ? 0x1p-10
                                                        : 0x1p-7;  // of weights and gradient
    compare("d_scale of the pass", std::vector<double>{d_scale_sum}, {scale_gradient}, 20 * tolerance());
    compare("d_queries", d_rows, row_gradients, rounding + 20 * tolerance());
    compare("d_keys", d_cols, col_gradients, rounding + 20 * tolerance());
    if (!is_volume) return;
    compare("row biases of the pass", row_bias, lines_of[0], 4 * tolerance());
    compare("column biases of the pass", col_bias, lines_of[1], 4 * tolerance());
    compare("row terms of the pass", row_terms, lines_of[2], 4 * tolerance());
    compare("column terms of the pass", col_terms, lines_of[3], 4 * tolerance());
  }

  // What the macro-block is from products that are read back: the same.
  void compare_kept(MacroGradientParams params, int64_t batch, const std::vector<T>& block,
                    const std::vector<Stat>& d_scale) {
    std::vector<T> from_kept(block.size(), block.back());
    std::vector<Stat> d_scale_of_kept(d_scale.size(), Stat(kNaN));
    params.kept = kept.data() + batch * c.m * c.n;
    params.weights = from_kept.data(), params.d_scale = d_scale_of_kept.data();
    macro_gradient_bwd(path, params, stream);
    if (std::memcmp(block.data(), from_kept.data(), block.size() * sizeof(T)) != 0) {
      failed = true;
      std::printf("  FAILED dS from kept products of %s: other bits\n", c.name);
    }
    compare("d_scale of kept products", d_scale_of_kept, {d_scale.begin(), d_scale.end()}, tolerance());
  }

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

    void compare(Problem& of, int64_t batch, int64_t first_row, int64_t first_col) const {
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
      of.compare("d_row_term", found_terms, row_terms, 4 * of.tolerance());
      of.compare("d_col_term", col_term, col_terms, 4 * of.tolerance());
    }
  };

  void run() {
    run_statistics();
    fill_gradient();
    if (c.volume_banks == 0) {
      run_line_sums(true);
      run_line_sums(false);
    }
    run_macro_blocks();
    if (c.batch > 1) run_macro_pass();
  }
};

template <class T>
void run(const char* type_name, DType dtype, Path path, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    Problem<T> problem(c, path, dtype);
    problem.run();
    std::printf("%-8s %-24s B %lld M %lld N %lld D %lld  error %.2e  dS %.2e\n", type_name, c.name,
                static_cast<long long>(c.batch), static_cast<long long>(c.m), static_cast<long long>(c.n),
                static_cast<long long>(c.d), problem.worst, problem.worst_rounded);
  }
}

std::vector<Case> make_cases(bool full, bool aligned_only) {
  constexpr ClauseKind kDiagonal = ClauseKind::kDiagonal, kOffDiagonal = ClauseKind::kOffDiagonal,
                       kSame = ClauseKind::kSame, kDifferent = ClauseKind::kDifferent;
  std::vector<Case> cases;
  const auto add = [&](Case c) -> Case& { return cases.emplace_back(std::move(c)); };
  {
    Case& c = add({"one direction", 1, 63, 65, 32, 0, 0, 1, 1});
    c.of_cols = false;
    c.positive_clauses = {kDiagonal};
  }
  {
    Case& c = add({"batch, ids, biases", 2, 65, 129, 64, 8, 0, 1, 1});
    c.biases = true;
    c.candidate_clauses = {kSame, kOffDiagonal};
    c.positive_clauses = {kSame, kDifferent};
    c.offset = -3;
  }
  {
    Case& c = add({"self-similarity", 1, 129, 129, 16, 0, 0, 1, 1});
    c.self = true;
    c.candidate_clauses = {kOffDiagonal};
    c.positive_clauses = {kSame, kOffDiagonal};
  }
  if (!aligned_only) {  // volumes have one path
    Case& c = add({"volume", 2, 33, 65, 24, 8, 0, 1, 1});
    c.volume_banks = 3;
    c.biases = true;
    c.candidate_clauses = {kOffDiagonal};
    c.positive_clauses = {kDiagonal};
  }
  if (!aligned_only) {
    Case& c = add({"unaligned", 1, 65, 63, 33, 1, 1, 1, 1});
    c.positive_clauses = {kDiagonal};
    c.offset = 2;
  }
  if (!full) return cases;
  {
    Case& c = add({"long stripes", 2, 129, 257, 200, 0, 8, 2, 3});
    c.candidate_clauses = {kDifferent};
    c.positive_clauses = {kDiagonal};
    c.offset = 100;
    c.shared_ids = true;
  }
  {
    Case& c = add({"one stripe, biases", 1, 257, 129, 8, 0, 0, 4, 4});
    c.biases = true;
    c.candidate_clauses = {kOffDiagonal};
    c.positive_clauses = {kDiagonal};
  }
  {
    Case& c = add({"self, long stripes", 2, 257, 257, 24, 0, 0, 2, 2});
    c.self = c.biases = true;
    c.candidate_clauses = {kOffDiagonal};
    c.positive_clauses = {kSame, kOffDiagonal};
  }
  {
    Case& c = add({"columns alone", 1, 129, 65, 64, 0, 0, 1, 1});
    c.of_rows = c.positives = false;
  }
  {
    Case& c = add({"a NaN", 1, 65, 129, 16, 0, 0, 1, 1});
    c.with_nan = true;
    c.candidate_clauses = {kDifferent};
    c.positive_clauses = {kSame};
  }
  {
    Case& c = add({"outside diagonals", 1, 64, 128, 16, 0, 0, 1, 1});
    c.candidate_clauses = {kOffDiagonal};
    c.positive_clauses = {kDiagonal};
    c.offset = 128;
  }
  if (aligned_only) return cases;
  for (int banks : {1, 2, 4, 5, 6, 7}) {
    Case& c = add({"volume", 1, 65, 70, 16 + banks, banks % 2, 0, 1 + banks % 2, 1});
    c.volume_banks = banks;
    c.absolute = banks % 2 == 0;
    c.of_cols = banks != 5;
    c.with_nan = banks == 6;
    c.positives = banks != 4;
    c.candidate_clauses = {kDifferent};
    c.positive_clauses = {kSame};
  }
  {
    Case& c = add({"one pair", 1, 1, 1, 1, 0, 0, 1, 1});
    c.positive_clauses = {kDiagonal};
  }
  {
    Case& c = add({"small depth", 2, 63, 129, 7, 2, 3, 1, 2});
    c.biases = true;
    c.candidate_clauses = {kSame};
    c.positive_clauses = {kDiagonal};
    c.offset = -5;
  }
  {
    Case& c = add({"odd depth", 1, 129, 129, 65, 0, 0, 1, 1});
    c.candidate_clauses = {kOffDiagonal};
    c.positive_clauses = {kDiagonal};
  }
  return cases;
}

}  // namespace

int main(int count, char** arguments) {
  const bool full = count > 1 && std::strcmp(arguments[1], "full") == 0;
  const bool hopper = count > 2 && std::strcmp(arguments[2], "hopper") == 0;
  const Path path = hopper ? Path::kHopper : Path::kPortable;
  const std::vector<Case> cases = make_cases(full, hopper);
  run<__nv_bfloat16>("bfloat16", DType::kBFloat16, path, cases);
  run<__half>("float16", DType::kFloat16, path, cases);
  if (!hopper) {
    run<float>("float32", DType::kFloat32, path, cases);
    run<double>("float64", DType::kFloat64, path, cases);
  }
  std::printf("checksum %016llx\n%s\n", static_cast<unsigned long long>(checksum), failed ? "FAILED" : "passed");
  return failed;
}
