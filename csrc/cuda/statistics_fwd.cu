#include "statistics_fwd.cuh"

#include "hopper.h"
#include "portable.cuh"
#include "volume.h"

namespace contrastive_ops::cuda {

TileShape score_tile(Path path, DType dtype, ScoreKind score) {
  if (score == ScoreKind::kVolume) return score_tile_volume(dtype);
  if (path == Path::kHopper) return score_tile_hopper();
  TileShape shape;
  with_portable_loop(dtype, [&](auto* loop) { shape = {loop->kBlockM, loop->kBlockN}; });
  return shape;
}

void statistics_fwd(Path path, const StatisticsParams& params, Stream& stream) {
  if (params.matrix.score.kind == ScoreKind::kVolume) return statistics_fwd_volume(params, stream);
  if (path == Path::kHopper) return statistics_fwd_hopper(params, stream);
  with_portable_loop(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_statistics_fwd<MainLoop, DotScore<MainLoop>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
