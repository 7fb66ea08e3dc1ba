#include "hopper.h"
#include "portable.cuh"

namespace contrastive_ops::cuda {

TileShape score_tile(Path path, DType dtype) {
  if (path == Path::kHopper) return score_tile_hopper();
  TileShape shape;
  with_portable_loop(dtype, [&](auto* loop) { shape = {loop->kBlockM, loop->kBlockN}; });
  return shape;
}

}  // namespace contrastive_ops::cuda
