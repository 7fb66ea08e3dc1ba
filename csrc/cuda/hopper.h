// The launches of launch.h on the Hopper path.
#pragma once

#include "launch.h"

namespace contrastive_ops::cuda {

TileShape score_tile_hopper();
ProductTile product_tile_hopper();
void reduce_fwd_hopper(const ReduceParams& params, Stream& stream);
void macro_gradient_bwd_hopper(const MacroGradientParams& params, Stream& stream);
void macro_product_bwd_hopper(const MacroProductParams& params, Stream& stream);

}  // namespace contrastive_ops::cuda
