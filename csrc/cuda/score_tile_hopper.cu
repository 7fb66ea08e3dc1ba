#include "hopper.cuh"

namespace contrastive_ops::cuda {

TileShape score_tile_hopper() { return {HopperScores<__half>::kBlockM, HopperScores<__half>::kBlockN}; }

}  // namespace contrastive_ops::cuda
