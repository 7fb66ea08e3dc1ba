#include "line_sums_bwd.cuh"

#include "hopper.cuh"

namespace contrastive_ops::cuda {

void line_sums_bwd_hopper(const LineSumsParams& params, Stream& stream) {
  with_hopper_loop<HopperScores>(params.matrix.dtype, [&](auto* loop) {
    launch_line_sums_bwd<std::remove_pointer_t<decltype(loop)>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
