// The two passes over the tiles of a score matrix, for one instruction set.
#include <cmath>

#include "../gemm.h"
#include "../kernels.h"
#include "../pack.h"
#include "../schedule.h"
#include "../sweep.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
struct Scratch {
  T *tile, *row_lanes;
  T *row_part, *row_reference, *row_b;
  T *col_part, *col_reference, *col_b;
  Lane<T>* ids;

  // One layout for the size and for the pointers.
  static int64_t lay_out(int64_t block_m, int64_t block_n, char* base, Scratch* out) {
    int64_t offset = 0;
    const auto take = [&](int64_t elements) {
      T* p = reinterpret_cast<T*>(base + offset);
      offset += ceil_div(elements * int64_t(sizeof(T)), 64) * 64;
      return p;
    };
    const int64_t m = ceil_div(block_m, kPanel<T>) * kPanel<T>, n = block_n;
    Scratch s;
    s.tile = take(block_m * n);
    s.row_lanes = take(m * kLanes<T>);
    s.row_part = take(m), s.row_reference = take(m), s.row_b = take(m);
    s.col_part = take(n), s.col_reference = take(n), s.col_b = take(n);
    s.ids = reinterpret_cast<Lane<T>*>(take(TileMask<T>::scratch_lanes(m, n)));
    if (out) *out = s;
    return offset;
  }
};

// A problem in the statistics type T, with the address arithmetic that both passes share.
template <class T>
struct Work {
  const Params& p;
  const int64_t row_tiles = ceil_div(p.m, p.block_m), col_tiles = ceil_div(p.n, p.block_n);
  const int64_t d_padded = ceil_div(p.d, kPanel<T>) * kPanel<T>;
  const int64_t n_padded = ceil_div(p.n, kPanel<T>) * kPanel<T>;

  TileRange tile(int64_t b, int64_t i, int64_t j) const {
    const int64_t row = i * p.block_m, col = j * p.block_n;
    return {b, row, p.m - row < p.block_m ? p.m - row : p.block_m, col, p.n - col < p.block_n ? p.n - col : p.block_n};
  }
  // Self-similarity counts the upper triangle only.
  int64_t tile_index(int64_t b, int64_t i, int64_t j) const {
    if (p.self_similarity) return b * (row_tiles * (row_tiles + 1) / 2) + i * row_tiles - i * (i - 1) / 2 + j - i;
    return (b * row_tiles + i) * col_tiles + j;
  }
  T* kept(int64_t index) const {
    return index < p.kept_tiles ? static_cast<T*>(p.kept) + index * p.block_m * p.block_n : nullptr;
  }
  T* queries(const TileRange& t) const {
    return static_cast<T*>(p.packed_queries) + (t.batch * p.m + t.row) * d_padded;
  }
  T* keys(const TileRange& t) const { return static_cast<T*>(p.packed_keys) + (t.batch * p.n + t.col) * d_padded; }
  T* keys_t(const TileRange& t) const { return static_cast<T*>(p.packed_keys_t) + (t.batch * n_padded + t.col) * p.d; }
  Scratch<T> scratch(int thread) const {
    Scratch<T> s;
    Scratch<T>::lay_out(p.block_m, p.block_n, static_cast<char*>(p.scratch) + thread * p.scratch_bytes, &s);
    return s;
  }

  // A line vector ([B, M] or [B, N]) at the tile's first row or column. In self-similarity the columns are rows in
  // their second role: statistics and gradients of both go to the same place.
  template <class V>
  V* row_line(V* rows, const TileRange& t) const {
    return rows ? rows + t.batch * p.m + t.row : nullptr;
  }
  template <class V>
  V* col_line(V* rows, V* cols, const TileRange& t) const {
    if (p.self_similarity) return rows ? rows + t.batch * p.m + t.col : nullptr;
    return cols ? cols + t.batch * p.n + t.col : nullptr;
  }
  // Scores of a tile, biases included.
  void score(const TileRange& t, T* out) const {
    score_product<T>(queries(t), keys_t(t), t.rows, ceil_div(t.cols, kPanel<T>), p.d, T(p.scale), out);
    const T* rows = static_cast<const T*>(p.row_bias);
    const T* cols = static_cast<const T*>(p.col_bias);
    if (rows || cols) add_biases<T>(out, t.rows, t.cols, row_line(rows, t), col_line(rows, cols, t));
  }
  // Leaves -inf wherever no candidate is.
  void mask_candidates(const TileRange& t, Coverage cover, const Scratch<T>& s) const {
    if (cover == Coverage::kSome) mask_scores<T>(s.tile, t.rows, t.cols, TileMask<T>(p.candidates, t, s.ids));
    mask_padding<T>(s.tile, t.rows, t.cols);
  }
};

template <class T>
using Body = void (*)(const Work<T>&, int64_t b, int64_t i, int64_t j, const Scratch<T>&);

// Runs body on every tile of every group pair, in the schedule's order.
template <class T, Body<T> kBody>
void for_each_tile(const Work<T>& work) {
  for_each_group_pair(
      work.p,
      [](void* context, int64_t b, int a, int c, int thread) {
        const auto& w = *static_cast<const Work<T>*>(context);
        const int n = w.p.groups;
        const Scratch<T> scratch = w.scratch(thread);
        const bool upper_only = w.p.self_similarity && a == c;
        for (int64_t i = a * w.row_tiles / n; i < (a + 1) * w.row_tiles / n; ++i)
          for (int64_t j = c * w.col_tiles / n; j < (c + 1) * w.col_tiles / n; ++j)
            if (!upper_only || i <= j) kBody(w, b, i, j, scratch);
      },
      const_cast<Work<T>*>(&work));
}

template <class F>
void for_each(int threads, int64_t count, F body) {
  parallel_for(threads, count, [](void* f, int64_t i, int) { (*static_cast<F*>(f))(i); }, &body);
}

template <class T>
void pack(const Work<T>& w) {
  const Params& p = w.p;
  with_storage_type<T>(p.dtype, [&](auto* storage) {
    using S = decltype(storage);
    for_each(p.threads, p.batch * w.row_tiles, [&](int64_t index) {
      const TileRange t = w.tile(index / w.row_tiles, index % w.row_tiles, 0);
      const S src = static_cast<S>(p.queries.data) + t.batch * p.queries.batch_stride + t.row * p.queries.row_stride;
      pack_rows<T>(src, p.queries.row_stride, p.queries.d_stride, t.rows, p.d, w.queries(t));
    });
    for_each(p.threads, p.batch * w.col_tiles, [&](int64_t index) {
      const TileRange t = w.tile(index / w.col_tiles, 0, index % w.col_tiles);
      const S src = static_cast<S>(p.keys.data) + t.batch * p.keys.batch_stride + t.col * p.keys.row_stride;
      pack_rows_transposed<T>(src, p.keys.row_stride, p.keys.d_stride, t.cols, p.d, w.keys_t(t));
      if (p.packed_keys && p.packed_keys != p.packed_queries)
        pack_rows<T>(src, p.keys.row_stride, p.keys.d_stride, t.cols, p.d, w.keys(t));
    });
  });
}

// Score pass of one tile: positives' sums, one exponential an element, row and column sums from the same tile.
template <class T>
void forward_tile(const Work<T>& w, int64_t b, int64_t i, int64_t j, const Scratch<T>& s) {
  const Params& p = w.p;
  const TileRange t = w.tile(b, i, j);
  const int64_t index = w.tile_index(b, i, j);
  T ignored, *reference = p.tile_reference ? static_cast<T*>(p.tile_reference) + index : &ignored;
  T* kept = w.kept(index);
  const bool is_diagonal = p.self_similarity && i == j;
  const bool wants_rows = p.rows, wants_cols = p.self_similarity ? !is_diagonal : p.columns;

  *reference = T(-__builtin_inf());
  const Coverage candidates = coverage(p.candidates, t);
  const Coverage positives = p.has_positives ? coverage(p.positives, t) : Coverage::kNone;
  if (candidates == Coverage::kNone && positives == Coverage::kNone) return;
  w.score(t, s.tile);
  if (positives != Coverage::kNone)
    sum_positives<T>(s.tile, t.rows, t.cols, TileMask<T>(p.positives, t, s.ids), w.row_line(p.row_positive, t),
                     wants_cols ? w.col_line(p.row_positive, p.col_positive, t) : nullptr, s.row_lanes);
  if (candidates == Coverage::kNone) return;
  w.mask_candidates(t, candidates, s);

  const T top = tile_max<T>(s.tile, t.rows, t.cols);
  const auto sum = kept ? sum_exponentials<T, true> : sum_exponentials<T, false>;
  sum(s.tile, t.rows, t.cols, top, kept, s.row_part, s.col_part, s.row_lanes);
  const bool one_reference =
      (!wants_rows || sums_are_safe(s.row_part, t.rows)) && (!wants_cols || sums_are_safe(s.col_part, t.cols));
  *reference = one_reference ? top : T(__builtin_nan(""));
  if (!one_reference) {
    sum_exponentials_by_line<T>(s.tile, t.rows, t.cols, s.row_reference, s.col_reference, s.row_part, s.col_part);
    if (kept) std::memcpy(kept, s.tile, t.rows * ceil_div(t.cols, kPanel<T>) * kPanel<T> * sizeof(T));
  }
  const auto merge = [&](T* running, int64_t lines, int64_t count, const T* part, const T* by_line) {
    merge_lines<T>(running, running + lines, count, part, [&](int64_t l) { return one_reference ? top : by_line[l]; });
  };
  T* row_running = static_cast<T*>(p.row_running);
  T* col_running = static_cast<T*>(p.col_running);
  if (wants_rows) merge(w.row_line(row_running, t), p.batch * p.m, t.rows, s.row_part, s.row_reference);
  if (wants_cols)
    merge(w.col_line(row_running, col_running, t), p.batch * (p.self_similarity ? p.m : p.n), t.cols, s.col_part,
          s.col_reference);
}

// lse = reference + log(sum) of `count` lines from their running pairs
template <class T>
void finish_lines(int threads, const void* running, const double* positive, int64_t count, void* lse, void* sum) {
  constexpr int64_t kChunk = 4096;
  const T* reference = static_cast<const T*>(running);
  for_each(threads, ceil_div(count, kChunk), [&](int64_t chunk) {
    const int64_t end = (chunk + 1) * kChunk < count ? (chunk + 1) * kChunk : count;
    for (int64_t i = chunk * kChunk; i < end; ++i) {
      if (lse) static_cast<T*>(lse)[i] = T(double(reference[i]) + std::log(double(reference[count + i])));
      if (sum) static_cast<T*>(sum)[i] = T(positive[i]);
    }
  });
}

template <class T>
void start_lines(void* running, double* positive, int64_t count) {
  T* reference = static_cast<T*>(running);
  for (int64_t i = 0; i < count; ++i) reference[i] = T(-__builtin_inf()), reference[count + i] = T(0);
  if (positive) std::memset(positive, 0, count * sizeof(double));
}

template <class T>
void forward_pass(const Params& p) {
  const Work<T> w{p};
  const int64_t rows = p.batch * p.m, cols = p.batch * p.n;
  if (p.row_running) start_lines<T>(p.row_running, p.row_positive, rows);
  if (p.col_running) start_lines<T>(p.col_running, p.col_positive, cols);
  pack(w);
  for_each_tile<T, forward_tile<T>>(w);
  if (p.row_running) finish_lines<T>(p.threads, p.row_running, p.row_positive, rows, p.row_lse, p.row_sum);
  if (p.col_running) finish_lines<T>(p.threads, p.col_running, p.col_positive, cols, p.col_lse, p.col_sum);
}

// Gradient pass of one tile: dS in scratch, then the products that are asked for.
//   dS_ij = cand_ij (g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j)) + pos_ij (a_i + b_j)
template <class T>
void backward_tile(const Work<T>& w, int64_t b, int64_t i, int64_t j, const Scratch<T>& s) {
  const Params& p = w.p;
  const TileRange t = w.tile(b, i, j);
  const int64_t index = w.tile_index(b, i, j);
  const T reference = static_cast<const T*>(p.tile_reference)[index];
  const T* kept = w.kept(index);
  const auto rows_of = [&](const void* lines) { return w.row_line(static_cast<const T*>(lines), t); };
  const auto cols_of = [&](const void* row_lines, const void* col_lines) {
    return w.col_line(static_cast<const T*>(row_lines), static_cast<const T*>(col_lines), t);
  };
  const T *a = rows_of(p.d_row_sum), *b_col = cols_of(p.d_row_sum, p.d_col_sum);
  const Coverage positives = a || b_col ? coverage(p.positives, t) : Coverage::kNone;
  const bool has_candidates = reference != T(-__builtin_inf());
  if (!has_candidates && positives == Coverage::kNone) return;

  const int64_t padded_cols = ceil_div(t.cols, kPanel<T>) * kPanel<T>;
  if (has_candidates) {
    if (!kept) {
      w.score(t, s.tile);
      w.mask_candidates(t, coverage(p.candidates, t), s);
    }
    const T *g = rows_of(p.d_row_lse), *h = cols_of(p.d_row_lse, p.d_col_lse);
    const T *row_lse = rows_of(p.row_lse), *col_lse = cols_of(p.row_lse, p.col_lse);
    const int64_t padded_rows = ceil_div(t.rows, kLanes<T>) * kLanes<T>;
    if (reference == reference) {
      line_factors<T>(g, row_lse, t.rows, padded_rows, reference, s.row_part);
      line_factors<T>(h, col_lse, t.cols, padded_cols, reference, s.col_part);
      const auto gradient = kept ? gradient_from_tile<T, true> : gradient_from_tile<T, false>;
      gradient(kept ? kept : s.tile, t.rows, t.cols, reference, s.row_part, s.col_part, s.tile);
    } else {
      line_references<T>(g, row_lse, t.rows, padded_rows, s.row_part, s.row_reference);
      line_references<T>(h, col_lse, t.cols, padded_cols, s.col_part, s.col_reference);
      gradient_by_line<T>(kept ? kept : s.tile, t.rows, t.cols, s.row_part, s.row_reference, s.col_part,
                          s.col_reference, s.tile);
    }
  } else {
    std::memset(s.tile, 0, t.rows * padded_cols * sizeof(T));
  }
  if (positives != Coverage::kNone)
    add_positive_gradient<T>(s.tile, t.rows, t.cols, TileMask<T>(p.positives, t, s.ids), a, b_col);

  // In self-similarity a tile off the diagonal stands for its mirror image too: its columns are rows once more.
  const bool has_mirror = p.self_similarity && i != j;
  double* drow = w.row_line(p.drow_bias, t);
  double* dcol = p.self_similarity && !has_mirror ? nullptr : w.col_line(p.drow_bias, p.dcol_bias, t);
  if (drow || dcol) add_line_sums<T>(s.tile, t.rows, t.cols, drow, dcol);
  T* dq = static_cast<T*>(p.dq_accumulator);
  T* dk = p.self_similarity ? (has_mirror ? dq : nullptr) : static_cast<T*>(p.dk_accumulator);
  if (dq) query_product<T>(s.tile, w.keys(t), t.rows, t.cols, p.d, dq + (b * p.m + t.row) * p.d);
  if (dk) key_product<T>(s.tile, w.queries(t), t.rows, t.cols, p.d, dk + (b * p.n + t.col) * p.d);
}

// dQ = scale * accumulator in the storage type; dscale = sum_i <q_i, accumulator_i>, summed in block order.
template <class T>
void finish_gradients(const Work<T>& w) {
  const Params& p = w.p;
  const bool dot_keys = p.dscale && !p.dq_accumulator;
  const auto finish = [&](int64_t tiles, bool is_query, void* accumulator, void* out, bool wants_dot) {
    if (!accumulator) return;
    for_each(p.threads, p.batch * tiles, [&](int64_t index) {
      const int64_t b = index / tiles, block = index % tiles;
      const TileRange t = is_query ? w.tile(b, block, 0) : w.tile(b, 0, block);
      const int64_t rows = is_query ? t.rows : t.cols;
      const int64_t start = (is_query ? b * p.m + t.row : b * p.n + t.col) * p.d;
      // where the accumulator is the gradient, it stays in the statistics type
      with_storage_type<T>(out == accumulator ? DType::kFloat32 : p.dtype, [&](auto* storage) {
        using S = std::remove_const_t<std::remove_pointer_t<decltype(storage)>>;
        const double dot =
            finish_gradient<T, S>(static_cast<const T*>(accumulator) + start, is_query ? w.queries(t) : w.keys(t), rows,
                                  p.d, T(p.scale), wants_dot, out ? static_cast<S*>(out) + start : nullptr);
        if (wants_dot) p.dscale_partial[index] = dot;
      });
    });
  };
  finish(w.row_tiles, true, p.dq_accumulator, p.dqueries, p.dscale && !dot_keys);
  finish(w.col_tiles, false, p.dk_accumulator, p.dkeys, dot_keys);
  if (p.dscale) {
    double total = 0;
    for (int64_t x = 0; x < p.batch * (dot_keys ? w.col_tiles : w.row_tiles); ++x) total += p.dscale_partial[x];
    // self-similarity: the accumulator holds every pair in both roles
    *static_cast<T*>(p.dscale) = T(p.self_similarity ? total / 2 : total);
  }
}

template <class T>
void clear(int threads, T* data, int64_t count) {
  constexpr int64_t kChunk = 1 << 18;
  if (!data) return;
  for_each(threads, ceil_div(count, kChunk), [&](int64_t c) {
    const int64_t start = c * kChunk, size = count - start < kChunk ? count - start : kChunk;
    std::memset(data + start, 0, size * sizeof(T));
  });
}

template <class T>
void backward_pass(const Params& p) {
  const Work<T> w{p};
  clear(p.threads, static_cast<T*>(p.dq_accumulator), p.batch * p.m * p.d);
  clear(p.threads, static_cast<T*>(p.dk_accumulator), p.batch * p.n * p.d);
  clear(p.threads, p.drow_bias, p.batch * p.m);
  clear(p.threads, p.dcol_bias, p.batch * p.n);
  for_each_tile<T, backward_tile<T>>(w);
  finish_gradients(w);
}

// Twelve independent chains in named registers: enough to fill two pipes of latency four or five.
double fma_burst(int64_t iterations) {
  using V = Vec<float>;
  const V x = broadcast<float>(0.999999f), y = broadcast<float>(1e-6f);
  const auto start = [](float v) { return broadcast<float>(v); };  // all different, or the compiler merges chains
  V a0 = start(0), a1 = start(1), a2 = start(2), a3 = start(3), a4 = start(4), a5 = start(5);
  V a6 = start(6), a7 = start(7), a8 = start(8), a9 = start(9), a10 = start(10), a11 = start(11);
  for (int64_t i = 0; i < iterations; ++i) {
    a0 = a0 * x + y, a1 = a1 * x + y, a2 = a2 * x + y, a3 = a3 * x + y, a4 = a4 * x + y, a5 = a5 * x + y;
    a6 = a6 * x + y, a7 = a7 * x + y, a8 = a8 * x + y, a9 = a9 * x + y, a10 = a10 * x + y, a11 = a11 * x + y;
  }
  const V sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
  __asm__ volatile("" ::"m"(sum));
  return 2.0 * 12 * kLanes<float> * double(iterations);
}

template <class F>
auto by_type(DType dtype, F body) {
  return dtype == DType::kFloat64 ? body(double()) : body(float());
}

#define CONTRASTIVE_STRING(x) #x
#define CONTRASTIVE_NAME(x) CONTRASTIVE_STRING(x)

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {
    CONTRASTIVE_NAME(CONTRASTIVE_ISA),
    [](DType dtype) { return by_type(dtype, [](auto t) { return kPanel<decltype(t)>; }); },
    [](DType dtype, int64_t block_m, int64_t block_n) {
      return by_type(dtype, [&](auto t) { return Scratch<decltype(t)>::lay_out(block_m, block_n, nullptr, nullptr); });
    },
    [](const Params& p) { by_type(p.dtype, [&](auto t) { forward_pass<decltype(t)>(p); }); },
    [](const Params& p) { by_type(p.dtype, [&](auto t) { backward_pass<decltype(t)>(p); }); },
    fma_burst,
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
