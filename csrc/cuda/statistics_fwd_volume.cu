#include "statistics_fwd.cuh"

#include "volume.cuh"

namespace contrastive_ops::cuda {

TileShape score_tile_volume(DType dtype) {
  TileShape shape;
  with_volume_loop(dtype, [&](auto* loop) { shape = {loop->kBlockM, loop->kBlockN}; });
  return shape;
}

void statistics_fwd_volume(const StatisticsParams& params, Stream& stream) {
  with_volume_loop(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_statistics_fwd<MainLoop, VolumeScore<MainLoop>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
