// One entry of a batch as a problem of its own.
#pragma once

#include <type_traits>
#include <utility>

#include "number_bytes.h"
#include "params.h"

namespace contrastive_ops::cuda {

// Null stays null.
template <class T>
T* advance(T* data, int64_t bytes) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return data ? reinterpret_cast<T*>(reinterpret_cast<Byte*>(data) + bytes) : nullptr;
}

inline Matrix entry_of(const Matrix& all, int64_t b) {
  Matrix of = all;
  const int64_t number = statistics_bytes(all.dtype);
  of.batch = 1;
  for (const auto& [side, bias] : {std::pair{&of.rows, &of.row_bias}, std::pair{&of.cols, &of.col_bias}}) {
    side->data = advance(side->data, b * side->batch_stride * element_bytes(all.dtype));
    side->batch_stride = 0;
    *bias = advance(*bias, b * side->size * number);
  }
  for (int r = 0; r < of.num_reductions; ++r) {
    Reduction& reduction = of.reductions[r];
    for (const auto& [lines, size] :
         {std::pair{&reduction.rows, of.rows.size}, std::pair{&reduction.cols, of.cols.size}}) {
      for (const void** line : {&lines->compared, &lines->result, &lines->upstream}) {
        *line = advance(*line, b * size * number);
      }
    }
    for (int c = 0; c < reduction.relation.count; ++c) {
      Clause& clause = reduction.relation.clauses[c];
      clause.row_ids = advance(clause.row_ids, b * clause.row_batch_stride * sizeof(int64_t));
      clause.col_ids = advance(clause.col_ids, b * clause.col_batch_stride * sizeof(int64_t));
    }
  }
  of.score.row_term = advance(of.score.row_term, b * of.rows.size * number);
  of.score.col_term = advance(of.score.col_term, b * of.cols.size * number);
  of.score.mixing = advance(of.score.mixing, b * (of.banks * (of.banks + 1) / 2) * of.cols.size * number);
  return of;
}

}  // namespace contrastive_ops::cuda
