// The walk of blocks that have one tile each.
#pragma once

#include "device.cuh"
#include "mainloop.h"

namespace contrastive_ops::cuda {

class SingleTileWalk {
 public:
  __device__ __forceinline__ explicit SingleTileWalk(const Tile& tile) : tile_(tile) {}

  __device__ __forceinline__ bool next(Tile& tile) {
    if (done_) return false;
    tile = tile_;
    return done_ = true;
  }

 private:
  Tile tile_;
  bool done_ = false;
};

}  // namespace contrastive_ops::cuda
