#include "macro_gradient_bwd.cuh"

#include "hopper.cuh"
#include "score/dot.cuh"

namespace contrastive_ops::cuda {

void macro_gradient_bwd_hopper(const MacroGradientParams& params, Stream& stream) {
  with_hopper_loop<HopperScores>(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_macro_gradient_bwd<MainLoop, DotScore<MainLoop>>(params, score_operands<MainLoop>(params.matrix, stream),
                                                            stream);
  });
}

}  // namespace contrastive_ops::cuda
