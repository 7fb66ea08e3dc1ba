// The packed operands of the tiles: as a whole before the first one, or the keys of each tile when it is there.
//
// A whole copy pays where many tiles of rows use a tile of keys. Few rows pack the keys where they use them, in the
// second-level cache: they are read where they lie, and nothing is written that would have to be read again.
#pragma once

#include "pack.h"
#include "work.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

template <class T>
void pack_tile_keys(const Work<T>& w, const TileRange& t, T* out) {
  const Params& p = w.p;
  with_storage_type<T>(p.dtype, [&](auto* storage) {
    using S = decltype(storage);
    const int64_t padded = w.padded(t.cols), lines = w.key_lines(t.cols);
    for (int64_t s = 0; s < p.banks; ++s) {
      const S src =
          static_cast<S>(p.keys.data) + t.batch * p.keys.batch_stride + s * p.bank_stride + t.col * p.keys.row_stride;
      pack_rows<T>(src, p.keys.row_stride, p.keys.d_stride, t.cols, s + 1 < p.banks ? padded : t.cols, lines, p.d,
                   out + s * padded * kPanel<T>);
    }
  });
}

template <class T>
void pack(const Work<T>& w) {
  const Params& p = w.p;
  for_each(p.threads, p.batch * w.row_tiles, [&](int64_t index) {
    const TileRange t = w.tile(index / w.row_tiles, index % w.row_tiles, 0);
    with_storage_type<T>(p.dtype, [&](auto* storage) {
      using S = decltype(storage);
      const S src = static_cast<S>(p.queries.data) + t.batch * p.queries.batch_stride + t.row * p.queries.row_stride;
      pack_rows<T>(src, p.queries.row_stride, p.queries.d_stride, t.rows, t.rows, t.rows, p.d, w.queries(t));
    });
  });
  if (!p.packed_keys || !p.first_rows || p.packed_keys == p.packed_queries) return;
  for_each(p.threads, p.batch * w.col_tiles, [&](int64_t index) {
    const TileRange t = w.tile(index / w.col_tiles, 0, index % w.col_tiles);
    pack_tile_keys(w, t, w.keys(t));
  });
}

// The packed keys of a tile. Tiles of rows follow one another, so that one copy serves them all.
template <class T>
const T* tile_keys(const Work<T>& w, const TileRange& t, const Scratch<T>& s) {
  if (const T* packed = w.keys(t)) return packed;
  if (*s.packed_col != t.col) pack_tile_keys(w, t, s.keys);
  *s.packed_col = t.col;
  return s.keys;
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
