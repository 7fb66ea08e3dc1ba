// Random problems against a plain double reference, without Python: every buffer is a heap block of its exact size,
// so that a sanitizer sees any access outside. Built by tests/test_native.py for one instruction set at a time.
//   fuzz <seed> <problems>   prints the worst errors; exit status 1 if one is too large
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "../../csrc/cpu/kernels.h"
#include "../../csrc/cpu/reduction/traits.h"

#define CONTRASTIVE_ISA FUZZ_ISA
#include "../../csrc/cpu/convert.h"

namespace contrastive_ops {
namespace FUZZ_ISA {
extern const Kernels kKernels;
}
}  // namespace contrastive_ops

using namespace contrastive_ops;

namespace {

std::mt19937 random_engine;

int64_t pick(std::initializer_list<int64_t> options) { return options.begin()[random_engine() % options.size()]; }
bool coin() { return random_engine() % 2; }
double normal() { return std::normal_distribution<double>()(random_engine); }

// Memory filled with NaN patterns, aligned to a cache line: what is not written is seen.
template <class T>
struct Buffer {
  explicit Buffer(int64_t count) : count(count), data(static_cast<T*>(std::aligned_alloc(64, bytes()))) {
    std::memset(static_cast<void*>(data), 0xff, bytes());
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  int64_t bytes() const { return (count * int64_t(sizeof(T)) + 63) / 64 * 64; }
  int64_t count;
  T* data;
};

struct Ids {
  std::vector<int64_t> rows, cols;
};

bool belongs(const Relation& relation, int64_t b, int64_t i, int64_t j) {
  for (int c = 0; c < relation.count; ++c) {
    const Clause& clause = relation.clauses[c];
    const bool uses_ids = clause.kind == ClauseKind::kSame || clause.kind == ClauseKind::kDifferent;
    const bool equal =
        uses_ids ? clause.row_ids[b * clause.row_batch_stride + i] == clause.col_ids[b * clause.col_batch_stride + j]
                 : j == i + clause.offset;
    if (equal != (clause.kind == ClauseKind::kSame || clause.kind == ClauseKind::kDiagonal)) return false;
  }
  return true;
}

Relation random_relation(int64_t batch, int64_t m, int64_t n, bool self, std::vector<std::unique_ptr<Ids>>& owner) {
  Relation relation = {};
  relation.count = int(random_engine() % (kMaxClauses + 1));
  for (int c = 0; c < relation.count; ++c) {
    Clause& clause = relation.clauses[c];
    clause.kind = static_cast<ClauseKind>(random_engine() % 4);
    clause.offset = self ? 0 : pick({0, 1, -3, n, -m, n / 2});
    owner.push_back(std::make_unique<Ids>());
    Ids& ids = *owner.back();
    const bool per_batch = coin();
    const int64_t distinct = pick({1, 3, 40}), base = pick({0, int64_t(1) << 40, -(int64_t(1) << 33)});
    for (int64_t x = 0; x < (per_batch ? batch : 1) * m; ++x) ids.rows.push_back(base + random_engine() % distinct);
    for (int64_t x = 0; x < (per_batch ? batch : 1) * n; ++x) ids.cols.push_back(base + random_engine() % distinct);
    clause.row_ids = ids.rows.data();
    clause.col_ids = self ? ids.rows.data() : ids.cols.data();
    clause.row_batch_stride = per_batch ? m : 0;
    clause.col_batch_stride = per_batch ? n : 0;
  }
  return relation;
}

// A random reduction with all of its memory; direction 0 is the rows, 1 the columns.
template <class T>
struct RandomReduction {
  Reduction given = {};
  std::vector<double> truth[2], lowest[2], highest[2];  // of counts the least and the most, as scores are rounded
  std::unique_ptr<Buffer<T>> results[2], values[2], upstream[2], reference;
  std::unique_ptr<Buffer<int64_t>> counts[2];
  std::unique_ptr<Buffer<char>> running[2], stripes;

  RandomReduction(ReductionKind kind, const Kernels& kernels, const Params& p, int64_t tiles,
                  std::vector<std::unique_ptr<Ids>>& ids) {
    given.kind = kind;
    given.relation = random_relation(p.batch, p.m, p.n, p.self_similarity, ids);
    given.factor = std::initializer_list<double>{1, 1, 0.5, -2, 0}.begin()[random_engine() % 5];
    reference = std::make_unique<Buffer<T>>(tiles);
    if (changes_scores(kind)) given.tile_reference = reference->data;
    if (p.stripes > 1) {
      const int64_t bytes = p.batch * p.m * kernels.state_bytes(p.dtype, kind);
      stripes = std::make_unique<Buffer<char>>((p.stripes - 1) * bytes);
      given.row_stripes = stripes->data;
    }
    const bool rows = p.self_similarity || coin(), columns = !p.self_similarity && (!rows || coin());
    for (int c = 0; c < 2; ++c) {
      const int64_t lines = p.batch * (c ? p.n : p.m);
      truth[c].resize(lines), lowest[c].resize(lines), highest[c].resize(lines);
      results[c] = std::make_unique<Buffer<T>>(lines), counts[c] = std::make_unique<Buffer<int64_t>>(lines);
      values[c] = std::make_unique<Buffer<T>>(lines), upstream[c] = std::make_unique<Buffer<T>>(lines);
      running[c] = std::make_unique<Buffer<char>>(lines * kernels.state_bytes(p.dtype, kind));
      for (int64_t l = 0; l < lines; ++l) {
        upstream[c]->data[l] = T(normal());
        values[c]->data[l] = random_engine() % 9 ? T(3 * normal()) : T(NAN);
      }
      if (!(c ? columns : rows)) continue;
      ReducedLines& out = c ? given.columns : given.rows;
      const bool counts_pairs = kind == ReductionKind::kCountAbove;
      out.result = counts_pairs ? static_cast<void*>(counts[c]->data) : results[c]->data;
      if (!kernels.state_is_result(kind)) out.running = running[c]->data;
      if (counts_pairs) out.values = values[c]->data;
    }
  }

  const ReducedLines& lines(int c) const { return c ? given.columns : given.rows; }
  bool has_slope() const { return given.kind == ReductionKind::kLogSumExp || given.kind == ReductionKind::kScoreSum; }

  // slope_ij; t = factor * s_ij
  double slope(double t, int64_t b, int64_t i, int64_t j, int64_t m, int64_t n) const {
    if (!belongs(given.relation, b, i, j)) return 0;
    double sum = 0;
    for (int c = 0; c < 2; ++c) {
      const int64_t line = c ? b * n + j : b * m + i;
      if (lines(c).upstream)
        sum += double(upstream[c]->data[line]) *
               (given.kind == ReductionKind::kScoreSum ? 1 : std::exp(t - truth[c][line]));
    }
    return sum;
  }
};

double worst_value = 0, worst_gradient = 0;

template <class T, class S>
bool run(DType dtype, double value_tolerance, double gradient_tolerance) {
  const Kernels& kernels = FUZZ_ISA::kKernels;
  const bool self = random_engine() % 3 == 0;
  const int64_t batch = pick({1, 1, 3}), m = pick({1, 5, 17, 100, 129, 260}), d = pick({1, 3, 16, 33, 70, 300});
  const int64_t n = self ? m : pick({1, 7, 40, 128, 257, 300});
  const bool volume = !self && coin();
  const int64_t banks = volume ? 1 + int64_t(random_engine() % kMaxBanks) : 1, triangle = banks * (banks + 1) / 2;
  const int64_t panel = kernels.panel(dtype);
  const int64_t block_n = pick({1, 2, 4}) * 96 / panel * panel, block_m = self ? block_n : pick({12, 96, 100});
  const int64_t row_tiles = (m + block_m - 1) / block_m, col_tiles = (n + block_n - 1) / block_n;
  const int64_t d_padded = (d + panel - 1) / panel * panel, n_padded = (n + panel - 1) / panel * panel;
  const int64_t key_lines = (banks - 1) * n_padded + n;
  const int64_t tiles = batch * (self ? row_tiles * (row_tiles + 1) / 2 : row_tiles * col_tiles);

  Params p = {};
  p.dtype = dtype;
  p.batch = batch, p.m = m, p.n = n, p.d = d;
  p.score = volume ? ScoreKind::kVolume : ScoreKind::kDot;
  p.banks = banks;
  p.absolute = coin();
  p.threads = int(pick({1, 2, 3}));
  p.scale = pick({1, 10, 100, -3, 0});
  p.self_similarity = self;
  p.block_m = block_m, p.block_n = block_n;
  p.groups = int(std::min({row_tiles, col_tiles, int64_t(8)}));
  if (!self && coin()) p.stripes = int(std::min(pick({1, 2, 5}), col_tiles));
  p.first_rows = p.last_rows = true;
  std::vector<std::unique_ptr<Ids>> ids;
  std::vector<ReductionKind> kinds(1 + random_engine() % kMaxReductions);
  for (ReductionKind& kind : kinds) kind = static_cast<ReductionKind>(random_engine() % (self ? 2 : 4));
  std::stable_sort(kinds.begin(), kinds.end(),
                   [](ReductionKind a, ReductionKind b) { return changes_scores(a) < changes_scores(b); });
  std::vector<std::unique_ptr<RandomReduction<T>>> reductions;
  for (ReductionKind kind : kinds) {
    reductions.push_back(std::make_unique<RandomReduction<T>>(kind, kernels, p, tiles, ids));
    p.reductions[p.num_reductions++] = reductions.back()->given;
  }

  // inputs, strided: one element more in every row
  Buffer<S> queries(batch * m * (d + 1)), keys(batch * banks * n * (d + 1));
  const auto fill = [&](Buffer<S>& x) {
    for (int64_t i = 0; i < x.count; ++i) x.data[i] = FUZZ_ISA::Narrow<S, T>::from(T(normal() / std::sqrt(double(d))));
  };
  fill(queries), fill(keys);
  p.queries = {queries.data, m * (d + 1), d + 1, 1};
  p.keys = self ? p.queries : Embeddings{keys.data, banks * n * (d + 1), d + 1, 1};
  p.bank_stride = n * (d + 1);
  Buffer<T> row_bias(batch * m), col_bias(batch * n);
  for (int64_t i = 0; i < row_bias.count; ++i) row_bias.data[i] = T(normal());
  for (int64_t i = 0; i < col_bias.count; ++i) col_bias.data[i] = T(normal());
  if (coin()) p.row_bias = row_bias.data, p.col_bias = self ? row_bias.data : coin() ? col_bias.data : nullptr;

  Buffer<T> packed_queries(batch * m * d_padded), packed_keys(batch * key_lines * d_padded);
  p.kept_tiles = pick({0, tiles / 2, tiles});
  Buffer<T> kept(p.kept_tiles * banks * block_m * block_n);
  p.packed_queries = packed_queries.data;
  p.packed_keys = self ? packed_queries.data : p.stripes ? nullptr : packed_keys.data;
  p.kept = kept.data;
  p.scratch_bytes =
      kernels.scratch_bytes(dtype, p.score, int(banks), several_change_scores(p), block_m, block_n, p.stripes ? d : 0);
  Buffer<char> scratch(p.threads * p.scratch_bytes);
  p.scratch = scratch.data;

  // reference, in double from the same rounded inputs
  const auto q = [&](int64_t b, int64_t i, int64_t x) {
    return double(FUZZ_ISA::widen<T>(static_cast<const S*>(p.queries.data)[(b * m + i) * (d + 1) + x]));
  };
  const auto k = [&](int64_t b, int64_t u, int64_t j, int64_t x) {
    return double(FUZZ_ISA::widen<T>(static_cast<const S*>(p.keys.data)[((b * banks + u) * n + j) * (d + 1) + x]));
  };
  const auto pair = [&](int64_t b, int64_t i, int64_t j) { return (b * m + i) * n + j; };
  std::vector<double> product(batch * m * n * banks);  // [B, M, N, K]
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t u = 0; u < banks; ++u)
          for (int64_t x = 0; x < d; ++x) product[pair(b, i, j) * banks + u] += q(b, i, x) * k(b, u, j, x);

  // terms of the volume: in some rows every rho^2 is far above 0, in the others far below
  Buffer<T> row_term(batch * m), col_term(batch * n), mixing(batch * triangle * n);
  for (int64_t i = 0; i < col_term.count; ++i) col_term.data[i] = T(pick({0, 1, 2}) * std::abs(normal()));
  for (int64_t i = 0; i < mixing.count; ++i) mixing.data[i] = T(0.5 * normal());
  std::vector<double> mixed(product.size()), rho(batch * m * n), sign(rho.size());
  const auto w = [&](int64_t b, int64_t j, int64_t r, int64_t u) {
    return double(mixing.data[(b * triangle + r * (r + 1) / 2 + u) * n + j]);
  };
  const auto lengths = [&](int64_t b, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t r = 0; r < banks; ++r) sum += std::pow(mixed[pair(b, i, j) * banks + r], 2);
    return sum;
  };
  for (int64_t b = 0; b < batch && volume; ++b)
    for (int64_t i = 0; i < m; ++i) {
      double longest = 0;
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t r = 0; r < banks; ++r)
          for (int64_t u = 0; u <= r; ++u)
            mixed[pair(b, i, j) * banks + r] += w(b, j, r, u) * product[pair(b, i, j) * banks + u];
        longest = std::max(longest, lengths(b, i, j));
      }
      row_term.data[b * m + i] = T(random_engine() % 4 ? longest + 1 : -1);
      for (int64_t j = 0; j < n; ++j) {
        const double squared = double(row_term.data[b * m + i]) - lengths(b, i, j);
        rho[pair(b, i, j)] = std::sqrt(squared > 0 ? squared : p.absolute ? -squared : 0);
        sign[pair(b, i, j)] = squared < 0 ? -1 : 1;
      }
    }
  if (volume) p.row_term = row_term.data, p.col_term = col_term.data, p.mixing = mixing.data;
  kernels.forward(p);

  std::vector<double> s(batch * m * n), dot(s.size());  // dot: what `scale` multiplies
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const double z = volume ? double(col_term.data[b * n + j]) * rho[pair(b, i, j)] : product[pair(b, i, j)];
        dot[(b * m + i) * n + j] = z;
        s[(b * m + i) * n + j] = p.scale * z + (p.row_bias ? double(row_bias.data[b * m + i]) : 0) +
                                 (p.col_bias ? double(static_cast<const T*>(p.col_bias)[b * n + j]) : 0);
      }
  const auto lines = [&](bool is_col, auto body) {
    const int64_t outer = is_col ? n : m, inner = is_col ? m : n;
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t u = 0; u < outer; ++u)
        for (int64_t v = 0; v < inner; ++v) is_col ? body(b, b * n + u, v, u) : body(b, b * m + u, u, v);
  };
  bool good = true;
  double largest = 1;
  for (double z : dot) largest = std::max(largest, volume ? z : 1);
  const double magnitude = 1 + 2 * std::abs(p.scale) * largest;  // 2: the largest factor
  // one line: what we got, what is right, what the rounding of the scores allows besides `allowed`
  const auto compare = [&](ReductionKind kind, double ours, double lowest, double highest, double allowed) {
    if (ours >= lowest && ours <= highest) return;
    const double error = std::max(lowest - ours, ours - highest) / allowed;
    worst_value = std::max(worst_value, error);
    if (error <= 1) return;
    std::printf("reduction %d: got %g, expected %g to %g\n", int(kind), ours, lowest, highest);
    good = false;
  };
  for (const auto& reduction : reductions)
    for (int c = 0; c < 2; ++c) {
      RandomReduction<T>& r = *reduction;
      const ReductionKind kind = r.given.kind;
      std::vector<double> top(r.truth[c].size(), -INFINITY), total(top.size(), 0), sum(top.size(), 0);
      const auto score = [&](int64_t b, int64_t i, int64_t j) { return r.given.factor * s[(b * m + i) * n + j]; };
      lines(c, [&](int64_t b, int64_t line, int64_t i, int64_t j) {
        if (!belongs(r.given.relation, b, i, j)) return;
        const double t = score(b, i, j), value = double(r.values[c]->data[line]), off = value_tolerance * magnitude;
        top[line] = std::max(top[line], t), sum[line] += t;
        r.lowest[c][line] += !(t <= value + off), r.highest[c][line] += !(t <= value - off);
      });
      lines(c, [&](int64_t b, int64_t line, int64_t i, int64_t j) {
        if (belongs(r.given.relation, b, i, j)) total[line] += std::exp(score(b, i, j) - top[line]);
      });
      for (std::size_t l = 0; l < top.size(); ++l) {
        r.truth[c][l] = kind == ReductionKind::kLogSumExp ? top[l] + std::log(total[l])
                        : kind == ReductionKind::kLargest ? top[l]
                                                          : sum[l];
        if (!r.lines(c).result) continue;
        if (kind == ReductionKind::kCountAbove)
          compare(kind, double(r.counts[c]->data[l]), r.lowest[c][l], r.highest[c][l], 0.5);
        else
          compare(kind, double(r.results[c]->data[l]), r.truth[c][l], r.truth[c][l],
                  value_tolerance * magnitude * (kind == ReductionKind::kScoreSum ? double(c ? m : n) : 1));
      }
    }

  // backward with random upstream gradients
  p.num_reductions = 0;
  for (const auto& reduction : reductions) {
    if (!reduction->has_slope()) continue;
    Reduction& given = reduction->given;
    if (given.rows.result && random_engine() % 4) given.rows.upstream = reduction->upstream[0]->data;
    if (given.columns.result && random_engine() % 4) given.columns.upstream = reduction->upstream[1]->data;
    p.reductions[p.num_reductions++] = given;
  }
  if (!p.num_reductions) return good;
  const bool wants_keys = !self && coin(), wants_queries = !wants_keys || coin();
  const int64_t others = std::max(p.stripes - 1, 0);
  Buffer<T> dq_stripes(others * batch * m * d);
  Buffer<double> drow_stripes(others * batch * m), drow_term_stripes(others * batch * m);
  p.dq_stripes = dq_stripes.data, p.drow_bias_stripes = drow_stripes.data, p.drow_term_stripes = drow_term_stripes.data;
  Buffer<T> dq(batch * m * d), dk(batch * banks * n * d);
  Buffer<S> dqueries(dq.count), dkeys(dk.count);
  Buffer<double> drow(batch * m), dcol(batch * n), partial(batch * (row_tiles + col_tiles));
  Buffer<double> drow_term(batch * m), dcol_term(batch * n);
  Buffer<T> dscale(1);
  // tiles that pack their own keys leave dscale to the queries
  if (wants_queries || p.stripes) p.dq_accumulator = dq.data;
  if (wants_queries) p.dqueries = dqueries.data;
  if (wants_keys) p.dk_accumulator = dk.data, p.dkeys = dkeys.data;
  if (std::is_same_v<T, S> && wants_keys && coin()) p.dkeys = dk.data;
  p.drow_bias = drow.data;
  if (!self) p.dcol_bias = dcol.data;
  p.dscale = dscale.data;
  if (volume)
    p.drow_term = drow_term.data, p.dcol_term = dcol_term.data;
  else
    p.dscale_partial = partial.data;
  kernels.backward(p);

  const auto gradient_of = [&](int64_t b, int64_t i, int64_t j) {
    double sum = 0;
    for (const auto& r : reductions)
      sum += r->given.factor * r->slope(r->given.factor * s[(b * m + i) * n + j], b, i, j, m, n);
    return sum;
  };
  double true_dscale = 0, size_dscale = 0;
  std::vector<double> true_dq(dq.count), true_dk(dk.count), true_drow(drow.count), true_dcol(dcol.count);
  std::vector<double> true_drow_term(batch * m), true_dcol_term(batch * n), weights(banks);
  double norm_ds = 0;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const double once = gradient_of(b, i, j), both = once + (self ? gradient_of(b, j, i) : 0);
        true_dscale += once * dot[(b * m + i) * n + j];
        size_dscale += std::abs(once * dot[(b * m + i) * n + j]);
        norm_ds += both * both;
        true_drow[b * m + i] += both;
        true_dcol[b * n + j] += once;
        const double distance = rho[pair(b, i, j)];
        const double per_distance =
            distance > 0 ? once * double(col_term.data[b * n + j]) * sign[pair(b, i, j)] / distance : 0;
        for (int64_t u = 0; u < banks; ++u) {
          weights[u] = volume ? 0 : once;
          for (int64_t r = u; r < banks && volume; ++r)
            weights[u] -= per_distance * w(b, j, r, u) * mixed[pair(b, i, j) * banks + r];
        }
        true_drow_term[b * m + i] += p.scale * per_distance / 2;
        true_dcol_term[b * n + j] += p.scale * once * distance;
        for (int64_t u = 0; u < banks; ++u) {
          norm_ds += volume ? weights[u] * weights[u] : 0;
          for (int64_t x = 0; x < d; ++x) {
            true_dq[(b * m + i) * d + x] += p.scale * (volume ? weights[u] : both) * k(b, u, j, x);
            true_dk[((b * banks + u) * n + j) * d + x] += p.scale * weights[u] * q(b, i, x);
          }
        }
      }
  const auto compare_gradient = [&](const char* what, auto ours, const std::vector<double>& truth, double size) {
    if (!ours) return;
    double error = 0, norm = 0;
    for (std::size_t x = 0; x < truth.size(); ++x) {
      double value;
      if constexpr (std::is_same_v<decltype(ours), double*>)
        value = ours[x];
      else
        value = double(FUZZ_ISA::widen<T>(ours[x]));
      error += (value - truth[x]) * (value - truth[x]);
      norm += truth[x] * truth[x];
    }
    const double allowed = gradient_tolerance * magnitude * (std::sqrt(norm) + size);
    const double share = error == 0 ? 0 : std::sqrt(error) / allowed;
    worst_gradient = std::max(worst_gradient, share);
    if (!(share <= 1)) {
      std::printf("%s: error %g of %g (m %ld n %ld d %ld banks %ld volume %d self %d scale %g)\n", what,
                  std::sqrt(error), std::sqrt(norm), long(m), long(n), long(d), long(banks), int(volume), int(self),
                  p.scale);
      good = false;
    }
  };
  const double size = std::sqrt(norm_ds) * (1 + std::abs(p.scale)) * 0.1;
  compare_gradient("dqueries", static_cast<S*>(p.dqueries), true_dq, size);
  compare_gradient("dkeys", static_cast<S*>(p.dkeys), true_dk, size);
  compare_gradient("drow_bias", p.drow_bias, true_drow, size);
  compare_gradient("dcol_bias", p.dcol_bias, true_dcol, size);
  compare_gradient("drow_term", p.drow_term, true_drow_term, size);
  compare_gradient("dcol_term", p.dcol_term, true_dcol_term, size);
  compare_gradient("dscale", dscale.data, {true_dscale}, size_dscale);
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  random_engine.seed(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 0);
  const int problems = argc > 2 ? std::atoi(argv[2]) : 100;
  bool good = true;
  for (int i = 0; i < problems; ++i) {
    using namespace FUZZ_ISA;
    switch (i % 4) {
      case 0:
        good &= run<float, float>(DType::kFloat32, 2e-6, 1e-6);
        break;
      case 1:
        good &= run<double, double>(DType::kFloat64, 4e-15, 2e-15);
        break;
      case 2:
        good &= run<float, BFloat16>(DType::kBFloat16, 2e-6, 4e-3);
        break;
      default:
        good &= run<float, Float16>(DType::kFloat16, 2e-6, 5e-4);
        break;
    }
    if (!good) {
      std::printf("problem %d failed\n", i);
      return 1;
    }
  }
  std::printf("%s: %d problems, worst share of the tolerance: values %.3f, gradients %.3f\n", FUZZ_ISA::kKernels.name,
              problems, worst_value, worst_gradient);
  return 0;
}
