// A problem cut into tiles: where everything of a tile lies.
#pragma once

#include "reduction/traits.h"
#include "relation.h"
#include "schedule.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What a score needs of the scratch beyond a tile of scores.
struct ScoreScratch {
  int64_t product_tiles;  // 0: the products lie where the scores do
  int64_t column_lines;   // lines of block_n elements
};

// The scratch of one thread.
template <class T>
struct Scratch {
  T* tile;      // scores
  T* spare;     // what one of several reductions has made of them; the tile itself where none but one changes them
  T* gradient;  // dS; the tile itself likewise
  T* products;  // [bank] tiles, later their weights; the tile itself where the score does not ask for tiles
  T* keys;      // packed keys of a tile, where tiles pack their own
  T *row_lanes, *column_lines;
  T *row_part, *row_reference;
  T *col_part, *col_reference;
  Lane<T>* ids;
  int64_t* packed_col;  // of which tile the keys are; null: none pack their own

  // One layout for the size and for the pointers.   key_lines: lines of packed keys that it needs, of d_padded each
  static int64_t lay_out(int64_t block_m, int64_t block_n, ScoreScratch score, bool several_change, int64_t key_lines,
                         int64_t d_padded, char* base, Scratch* out) {
    int64_t offset = 0;
    const auto take = [&](int64_t elements) {
      T* p = reinterpret_cast<T*>(base + offset);
      offset += ceil_div(elements * int64_t(sizeof(T)), 64) * 64;
      return p;
    };
    const int64_t m = ceil_div(block_m, kPanel<T>) * kPanel<T>, n = block_n;
    Scratch s;
    s.tile = take(block_m * n);
    s.spare = several_change ? take(block_m * n) : s.tile;
    s.gradient = several_change ? take(block_m * n) : s.tile;
    s.products = score.product_tiles ? take(score.product_tiles * block_m * n) : s.tile;
    s.keys = take(key_lines * d_padded);
    s.row_lanes = take(m * kLanes<T>);
    s.column_lines = take(score.column_lines * n);
    s.row_part = take(m), s.row_reference = take(m);
    s.col_part = take(n), s.col_reference = take(n);
    s.ids = reinterpret_cast<Lane<T>*>(take(TileMask<T>::scratch_lanes(m, n)));
    s.packed_col = nullptr;
    if (out) *out = s;
    return offset;
  }
};

// A problem in the statistics type T, with the address arithmetic that both passes share.
template <class T>
struct Work {
  const Params& p;
  const ScoreScratch score_scratch;
  const bool several_change = several_change_scores(p);
  const int64_t row_tiles = ceil_div(p.m, p.block_m), col_tiles = ceil_div(p.n, p.block_n);
  const int64_t d_padded = ceil_div(p.d, kPanel<T>) * kPanel<T>;

  static int64_t padded(int64_t cols) { return ceil_div(cols, kPanel<T>) * kPanel<T>; }

  TileRange tile(int64_t b, int64_t i, int64_t j) const {
    const int64_t row = i * p.block_m, col = j * p.block_n;
    return {b, row, p.m - row < p.block_m ? p.m - row : p.block_m, col, p.n - col < p.block_n ? p.n - col : p.block_n};
  }
  // Self-similarity counts the upper triangle only.
  int64_t tiles() const {
    return p.batch * (p.self_similarity ? row_tiles * (row_tiles + 1) / 2 : row_tiles * col_tiles);
  }
  int64_t tile_index(int64_t b, int64_t i, int64_t j) const {
    if (p.self_similarity) return b * (row_tiles * (row_tiles + 1) / 2) + i * row_tiles - i * (i - 1) / 2 + j - i;
    return (b * row_tiles + i) * col_tiles + j;
  }
  T* kept(int64_t index) const {
    return index < p.kept_tiles ? static_cast<T*>(p.kept) + index * p.banks * p.block_m * p.block_n : nullptr;
  }
  T* queries(const TileRange& t) const {
    return static_cast<T*>(p.packed_queries) + (t.batch * p.m + t.row) * d_padded;
  }
  // The banks of a tile's keys lie one after another, as if they were columns; all but the last are padded to panels.
  int64_t key_lines(int64_t cols) const { return (p.banks - 1) * padded(cols) + cols; }
  // Null where a tile packs its own.
  T* keys(const TileRange& t) const {
    if (!p.packed_keys) return nullptr;
    return static_cast<T*>(p.packed_keys) + (t.batch * key_lines(p.n) + t.col * p.banks) * d_padded;
  }
  Scratch<T> scratch(int thread) const {
    Scratch<T> s;
    Scratch<T>::lay_out(p.block_m, p.block_n, score_scratch, several_change, p.banks * padded(p.block_n),
                        p.packed_keys ? 0 : d_padded, static_cast<char*>(p.scratch) + thread * p.scratch_bytes, &s);
    return s;
  }

  // A line vector ([B, M] or [B, N]) at the tile's first row or column. In self-similarity the columns are rows in
  // their second role: results and gradients of both go to the same place.
  template <class V>
  V* row_line(V* rows, const TileRange& t) const {
    return rows ? rows + t.batch * p.m + t.row : nullptr;
  }
  template <class V>
  V* col_line(V* rows, V* cols, const TileRange& t) const {
    if (p.self_similarity) return rows ? rows + t.batch * p.m + t.col : nullptr;
    return cols ? cols + t.batch * p.n + t.col : nullptr;
  }
  // Whether the score pass reduces the tile's columns; in self-similarity one on the diagonal has them as rows already.
  bool reduces_columns(const Reduction& r, const TileRange& t) const {
    return p.self_similarity ? t.row != t.col : r.columns.result != nullptr;
  }
};

template <class F>
void for_each(int threads, int64_t count, F body) {
  parallel_for(threads, count, [](void* f, int64_t i, int) { (*static_cast<F*>(f))(i); }, &body);
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
