// The walk over the tiles: by pairs of groups, or, where there are few rows, by stripes of columns.
//
// As many pairs of a row group and a column group run at a time as there are groups, and a group has a tile of rows at
// least: few rows would be few groups, and all columns would be read and written once for every tile of rows. There the
// columns are cut into stripes, in which a tile of columns meets all rows. Every stripe has numbers of the rows of its
// own (what reductions merge tiles into, gradients), and those are merged in the order of the stripes when all are
// done, so that here too no bit depends on the threads.
#pragma once

#include "reduction/kinds.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {

// Whether the tile is the first one of its rows, and of its columns: what adds up over the others starts here. Neither
// is known of self-similarity, whose tiles have two roles.
struct Firsts {
  bool of_rows, of_cols;
};

template <class T>
using Body = void (*)(const Work<T>&, int64_t b, int64_t i, int64_t j, Firsts firsts, const Scratch<T>&);

// The problem as a stripe sees it.
template <class T>
Params params_of_stripe(const Params& p, int stripe) {
  Params own = p;
  if (stripe == 0) return own;
  const int64_t lines = p.batch * p.m, before = (stripe - 1) * lines;
  const auto move = [&](auto& first, auto* others, int64_t elements) {
    if (first) first = others + before * elements;
  };
  T* dq = static_cast<T*>(p.dq_accumulator);
  move(dq, static_cast<T*>(p.dq_stripes), p.d);
  own.dq_accumulator = dq;
  move(own.drow_bias, p.drow_bias_stripes, 1);
  move(own.drow_term, p.drow_term_stripes, 1);
  for (int r = 0; r < p.num_reductions; ++r) {
    const ReductionFunctions<T>& kind = functions<T>(p.reductions[r].kind);
    char* state = static_cast<char*>(row_state<T>(own.reductions[r]));
    move(state, static_cast<char*>(p.reductions[r].row_stripes), kind.state_bytes);
    (kind.state_is_result ? own.reductions[r].rows.result : own.reductions[r].rows.running) = state;
  }
  return own;
}

// Runs body on every tile: on those of a group pair, or of a stripe, one after another, in an order of updates that no
// thread count changes.
template <class T, Body<T> kBody>
void for_each_tile(const Work<T>& work) {
  const auto in_pair = [](void* context, int64_t b, int a, int c, int thread) {
    const auto& w = *static_cast<const Work<T>*>(context);
    const int n = w.p.groups;
    const Scratch<T> scratch = w.scratch(thread);
    const bool upper_only = w.p.self_similarity && a == c;
    const bool is_first_pair = !w.p.self_similarity && a == c;  // of both groups: the first round of the schedule
    const int64_t first_i = a * w.row_tiles / n, first_j = c * w.col_tiles / n;
    for (int64_t i = first_i; i < (a + 1) * w.row_tiles / n; ++i)
      for (int64_t j = first_j; j < (c + 1) * w.col_tiles / n; ++j)
        if (!upper_only || i <= j)
          kBody(w, b, i, j, {is_first_pair && j == first_j, is_first_pair && i == first_i}, scratch);
  };
  const auto in_stripe = [](void* context, int64_t index, int thread) {
    const auto& whole = *static_cast<const Work<T>*>(context);
    const int n = whole.p.stripes, stripe = int(index % n);
    const Params own = params_of_stripe<T>(whole.p, stripe);
    const Work<T> w{own, whole.score_scratch};
    Scratch<T> scratch = w.scratch(thread);
    int64_t packed_col = -1;
    scratch.packed_col = &packed_col;
    const int64_t first_j = stripe * w.col_tiles / n;
    for (int64_t j = first_j; j < (stripe + 1) * w.col_tiles / n; ++j)
      for (int64_t i = 0; i < w.row_tiles; ++i) kBody(w, index / n, i, j, {j == first_j, i == 0}, scratch);
  };
  const Params& p = work.p;
  if (p.stripes)
    parallel_for(p.threads, p.batch * p.stripes, in_stripe, const_cast<Work<T>*>(&work));
  else
    for_each_group_pair(p, in_pair, const_cast<Work<T>*>(&work));
}

// Before the first tile: every stripe starts from the numbers that the problem starts from.
template <class T>
void start_stripes(const Work<T>& w) {
  for (int s = 1; s < w.p.stripes; ++s) {
    const Params own = params_of_stripe<T>(w.p, s);
    for (int r = 0; r < w.p.num_reductions; ++r)
      if (void* state = row_state<T>(own.reductions[r]))
        std::memcpy(state, row_state<T>(w.p.reductions[r]),
                    w.p.batch * w.p.m * functions<T>(own.reductions[r].kind).state_bytes);
  }
}

// After the last one: what the stripes have of the rows' reductions becomes the problem's.
template <class T>
void merge_stripes(const Work<T>& w) {
  for (int s = 1; s < w.p.stripes; ++s) {
    const Params own = params_of_stripe<T>(w.p, s);
    for (int r = 0; r < w.p.num_reductions; ++r)
      if (void* state = row_state<T>(own.reductions[r]))
        functions<T>(own.reductions[r].kind).merge(row_state<T>(w.p.reductions[r]), state, w.p.batch * w.p.m);
  }
}

// And of their gradients.   first [count], others [stripes - 1][count]
template <class V>
void add_stripes(const Params& p, V* first, const V* others, int64_t count) {
  if (!first || p.stripes < 2) return;
  for_each_piece(p.threads, count, [&](int64_t start, int64_t end) {
    for (int s = 0; s + 1 < p.stripes; ++s)
      for (int64_t x = start; x < end; ++x) first[x] += others[s * count + x];
  });
}

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
