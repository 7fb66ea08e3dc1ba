// The launches of launch.h where the score pass has kept its products; the same on both paths.
#pragma once

#include "launch.h"

namespace contrastive_ops::cuda {

void macro_gradient_bwd_kept(const MacroGradientParams& params, Stream& stream);

}  // namespace contrastive_ops::cuda
