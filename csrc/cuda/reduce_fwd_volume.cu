#include "reduce_fwd.cuh"

#include "volume.cuh"

namespace contrastive_ops::cuda {

TileShape score_tile_volume(DType dtype) {
  TileShape shape;
  with_volume_loop(dtype, [&](auto* loop) { shape = {loop->kBlockM, loop->kBlockN}; });
  return shape;
}

void reduce_fwd_volume(const ReduceParams& params, Stream& stream) {
  with_volume_loop(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_reduce_fwd<MainLoop, VolumeScore<MainLoop>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
