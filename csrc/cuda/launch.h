// The kernels as the host sees them: each call but the last puts one launch on the stream, and throws
// std::runtime_error with CUDA's own words if that fails.
#pragma once

#include "params.h"
#include "stream.h"

namespace contrastive_ops::cuda {

enum class Path : int {
  kPortable = 0,  // sm_80 and later: cp.async, ldmatrix, mma.sync; multiply-adds for float32 and float64
  kHopper = 1,    // sm_90a: TMA and wgmma, bfloat16 and float16 whose rows are multiples of 16 bytes apart
};

struct TileShape {
  int block_m, block_n;
};

// Sides of the tiles of the score matrix: `row_stripe` and `col_stripe` are multiples of them.
TileShape score_tile(Path path, DType dtype, ScoreKind score);

// Sides of the tiles of the gradients [size, D] in `macro_product_bwd`, and the depth of a step.
struct ProductTile {
  int block_m, block_n, block_k;
};
ProductTile product_tile(Path path, DType dtype);

void reduce_fwd(Path path, const ReduceParams& params, Stream& stream);
void merge_slots(const MergeParams& params, Stream& stream);
void macro_gradient_bwd(Path path, const MacroGradientParams& params, Stream& stream);
void macro_product_bwd(Path path, const MacroProductParams& params, Stream& stream);
void add_parts(const AddPartsParams& params, Stream& stream);
void finish_gradient(const FinishParams& params, Stream& stream);

// Many launches.
struct MacroPaths {
  Path scores, products;
};
void macro_pass_bwd(const MacroPaths& paths, const MacroPassParams& params, Stream& stream);

}  // namespace contrastive_ops::cuda
