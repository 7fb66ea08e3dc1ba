// What one instruction set offers; `isa/kernels.cpp` is compiled once for each.
#pragma once

#include "params.h"

namespace contrastive_ops {

struct Kernels {
  const char* name;
  int (*panel)(DType dtype);  // unit of the packed layouts, in elements of the statistics type
  int (*running_bytes)(DType dtype, ReductionKind kind);  // that a line needs until the score pass ends
  // of one thread; several_change: whether more than one reduction changes the scores (reduction/traits.h)
  int64_t (*scratch_bytes)(DType dtype, ScoreKind score, int banks, bool several_change, int64_t block_m,
                           int64_t block_n);
  void (*forward)(const Params&);
  void (*backward)(const Params&);
  double (*fma_burst)(int64_t iterations);  // runs independent float FMAs, returns their flops
};

// The best instruction set that this processor has, or the one named; null if it is unknown or not supported.
const Kernels* find_kernels(const char* name);

}  // namespace contrastive_ops
