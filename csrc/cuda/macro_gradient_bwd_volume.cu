#include "macro_gradient_bwd.cuh"

#include "volume.cuh"

namespace contrastive_ops::cuda {

void macro_gradient_bwd_volume(const MacroGradientParams& params, Stream& stream) {
  with_volume_loop(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_macro_gradient_bwd<MainLoop, VolumeScore<MainLoop>>(params, score_operands<MainLoop>(params.matrix, stream),
                                                               stream);
  });
}

}  // namespace contrastive_ops::cuda
