// The launches of launch.h for the volume score; the same on both paths.
#pragma once

#include "launch.h"

namespace contrastive_ops::cuda {

TileShape score_tile_volume(DType dtype);
void reduce_fwd_volume(const ReduceParams& params, Stream& stream);
void macro_gradient_bwd_volume(const MacroGradientParams& params, Stream& stream);

}  // namespace contrastive_ops::cuda
