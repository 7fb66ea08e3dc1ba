// Threads: which pairs of row and column groups run, in an order of updates that no thread count changes.
#pragma once

#include "params.h"

namespace contrastive_ops {

constexpr int kMaxGroups = 32;

// Calls body(context, index, thread) for every index in [0, count), in any order, on at most `threads` threads.
void parallel_for(int threads, int64_t count, void (*body)(void*, int64_t index, int thread), void* context);

// Calls body for every batch and every pair (row group, column group); with self_similarity for every unordered
// pair, row group <= column group. Two calls never overlap if they share a row or a column group (any group, with
// self_similarity), and each group sees its calls in one fixed order, the pair with the group of its own number first:
// sums accumulate without atomics, bit by bit the same for any number of threads.
void for_each_group_pair(const Params& p, void (*body)(void*, int64_t batch, int row_group, int col_group, int thread),
                         void* context);

}  // namespace contrastive_ops
