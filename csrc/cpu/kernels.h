// What one instruction set offers; `isa/kernels.cpp` is compiled once for each.
#pragma once

#include "params.h"

namespace contrastive_ops {

struct Kernels {
  const char* name;
  int (*panel)(DType dtype);  // unit of the packed layouts, in elements of the statistics type
  int (*state_bytes)(DType dtype, ReductionKind kind);  // of a line, while tiles are merged into it
  bool (*state_is_result)(ReductionKind kind);
  // of one thread; several_change: whether more than one reduction changes the scores (reduction/traits.h);
  // keys_depth: D where tiles pack their own keys, else 0
  int64_t (*scratch_bytes)(DType dtype, ScoreKind score, int banks, bool several_change, int64_t block_m,
                           int64_t block_n, int64_t keys_depth);
  void (*forward)(const Params&);
  void (*backward)(const Params&);
  double (*fma_burst)(int64_t iterations);  // runs independent float FMAs, returns their flops
};

// The best instruction set that this processor has, or the one named; null if it is unknown or not supported.
const Kernels* find_kernels(const char* name);

}  // namespace contrastive_ops
