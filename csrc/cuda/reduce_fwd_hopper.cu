#include "reduce_fwd.cuh"

#include "hopper.cuh"
#include "score/dot.cuh"

namespace contrastive_ops::cuda {

TileShape score_tile_hopper() { return {HopperScores<__half>::kBlockM, HopperScores<__half>::kBlockN}; }

void reduce_fwd_hopper(const ReduceParams& params, Stream& stream) {
  with_hopper_loop<HopperScores>(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_reduce_fwd<MainLoop, DotScore<MainLoop>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
