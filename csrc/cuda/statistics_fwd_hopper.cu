#include "statistics_fwd.cuh"

#include "hopper.cuh"
#include "score/dot.cuh"

namespace contrastive_ops::cuda {

TileShape score_tile_hopper() { return {HopperScores<__half>::kBlockM, HopperScores<__half>::kBlockN}; }

void statistics_fwd_hopper(const StatisticsParams& params, Stream& stream) {
  with_hopper_loop<HopperScores>(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_statistics_fwd<MainLoop, DotScore<MainLoop>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
